/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/x86/cpu.c - reset states and the saved form of a processor (SDM vol. 3, 10.1)
 */
#include "engine/x86/cpu.h"

#include "engine/x86/cpuid.h"

/* clang-format off */
#define SEGMENT(m)                                                                                 \
	STATE_FIELD(struct cpu, m.base, 1), STATE_FIELD(struct cpu, m.limit, 1),                   \
	STATE_FIELD(struct cpu, m.attr, 1), STATE_FIELD(struct cpu, m.sel, 1)
#define TABLE(m) STATE_FIELD(struct cpu, m.base, 1), STATE_FIELD(struct cpu, m.limit, 1)
#define ONE(m)   STATE_FIELD(struct cpu, m, 1)
#define MANY(m)  STATE_ARRAY(struct cpu, m, 1)

static const struct state_field cpu_fields[] = {
	MANY(gpr), ONE(rip), ONE(rflags),
	SEGMENT(seg[SEG_ES]), SEGMENT(seg[SEG_CS]), SEGMENT(seg[SEG_SS]),
	SEGMENT(seg[SEG_DS]), SEGMENT(seg[SEG_FS]), SEGMENT(seg[SEG_GS]),
	SEGMENT(ldtr), SEGMENT(tr), TABLE(gdtr), TABLE(idtr),
	ONE(cr0), ONE(cr2), ONE(cr3), ONE(cr4), ONE(cr8),
	MANY(dr), ONE(dr6), ONE(dr7), ONE(xcr0), ONE(xs),
	ONE(efer), ONE(star), ONE(lstar), ONE(cstar), ONE(sfmask), ONE(kernel_gs_base),
	ONE(sysenter_cs), ONE(sysenter_esp), ONE(sysenter_eip),
	ONE(tsc_aux), ONE(pat), ONE(misc_enable), ONE(apic_base), ONE(spec_ctrl), ONE(debugctl),
	ONE(tsc_offset), ONE(tsc_adjust), ONE(tsc_deadline),
	ONE(mtrr_def_type), MANY(mtrr_fixed), MANY(mtrr_base), MANY(mtrr_mask), ONE(mcg_status),
	ONE(pv_wall_clock), ONE(pv_system_time), ONE(pv_async_pf), ONE(pv_steal_time),
	ONE(pv_eoi), ONE(pv_poll_control),
	ONE(mp_state), ONE(int_shadow), ONE(nmi_masked), ONE(nmi_pending),
	ONE(event_pending), ONE(event_vector), ONE(event_type), ONE(event_has_error),
	ONE(event_error), ONE(event_len), ONE(pending_dbg), MANY(pdpte),
};
/* clang-format on */

const struct state_table cpu_state_table = {
    .name = "cpu",
    .version = CPU_STATE_VERSION,
    .fields = cpu_fields,
    .n_fields = ARRAY_SIZE(cpu_fields),
};

static const struct cpu_segment reset_data = {.limit = 0xffff, .attr = 0x93};

/* The part of the reset state that INIT establishes too. */
static void reset_common(struct cpu *c)
{
	memset(c->gpr, 0, sizeof(c->gpr));
	c->gpr[RDX] = cpuid_signature();
	c->rip = 0xfff0;
	c->rflags = FL_ONE;
	for (unsigned int i = 0; i < SEG_COUNT; i++)
		c->seg[i] = reset_data;
	c->seg[SEG_CS] =
	    (struct cpu_segment){.sel = 0xf000, .base = 0xffff0000, .limit = 0xffff, .attr = 0x9b};
	c->ldtr = (struct cpu_segment){.limit = 0xffff, .attr = 0x82};
	c->tr = (struct cpu_segment){.limit = 0xffff, .attr = 0x8b};
	c->gdtr = (struct cpu_table){.limit = 0xffff};
	c->idtr = (struct cpu_table){.limit = 0xffff};
	c->cr2 = c->cr3 = c->cr4 = c->cr8 = 0;
	memset(c->dr, 0, sizeof(c->dr));
	c->dr6 = 0xffff0ff0;
	c->dr7 = 0x400;
	c->efer = 0;
	c->debugctl = 0;
	c->int_shadow = c->nmi_masked = c->nmi_pending = 0;
	c->event_pending = 0;
	c->pending_dbg = 0;
	memset(c->pdpte, 0, sizeof(c->pdpte));
}

void cpu_reset(struct cpu *c, uint32_t apic_id)
{
	memset(c, 0, sizeof(*c));
	reset_common(c);
	c->cr0 = CR0_CD | CR0_NW | CR0_ET;
	c->xcr0 = XSTATE_X87;
	c->xs.fcw = 0x40;
	c->xs.ftw = 0xff; /* tag word 5555h: zero, hence valid */
	c->xs.mxcsr = 0x1f80;
	c->xs.mxcsr_mask = 0xffff;
	c->xs.xstate_bv = XSTATE_ALL;
	c->pat = UINT64_C(0x0007040600070406);
	c->misc_enable = BIT(0) | BIT(11) | BIT(12); /* fast strings; no BTS, no PEBS */
	c->apic_base = UINT64_C(0xfee00000) | BIT(11) | (apic_id == 0 ? BIT(8) : 0);
	/* The TSC starts at the host's value, not 0: so those of all processors agree. */
	c->mp_state = apic_id == 0 ? CPU_RUNNABLE : CPU_UNINITIALIZED;
}

void cpu_init(struct cpu *c)
{
	uint64_t cache = c->cr0 & (CR0_CD | CR0_NW);

	reset_common(c);
	c->cr0 = cache | CR0_ET;
	c->mp_state = c->apic_base & BIT(8) ? CPU_RUNNABLE : CPU_INIT_RECEIVED;
}

void cpu_sipi(struct cpu *c, uint8_t vector)
{
	c->seg[SEG_CS].sel = (uint16_t)(vector << 8);
	c->seg[SEG_CS].base = (uint64_t)vector << 12;
	c->rip = 0;
	c->mp_state = CPU_RUNNABLE;
}

static void dump_segment(struct strbuf *out, const char *name, const struct cpu_segment *s)
{
	strbuf_printf(out, "%s %04x base %016llx limit %08x attr %05x\n", name, s->sel,
		      (unsigned long long)s->base, s->limit, s->attr);
}

void cpu_dump(const struct cpu *c, struct strbuf *out)
{
	static const char *const gprs[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					   "r8 ", "r9 ", "r10", "r11", "r12", "r13", "r14", "r15"};
	static const char *const segs[] = {"es", "cs", "ss", "ds", "fs", "gs"};

	for (unsigned int i = 0; i < 16; i++)
		strbuf_printf(out, "%s %016llx%c", gprs[i], (unsigned long long)c->gpr[i],
			      i % 4 == 3 ? '\n' : ' ');
	strbuf_printf(out, "rip %016llx rflags %08llx\n", (unsigned long long)c->rip,
		      (unsigned long long)c->rflags);
	for (unsigned int i = 0; i < SEG_COUNT; i++)
		dump_segment(out, segs[i], &c->seg[i]);
	dump_segment(out, "ld", &c->ldtr);
	dump_segment(out, "tr", &c->tr);
	strbuf_printf(out, "gdtr %016llx/%04x idtr %016llx/%04x\n",
		      (unsigned long long)c->gdtr.base, c->gdtr.limit,
		      (unsigned long long)c->idtr.base, c->idtr.limit);
	strbuf_printf(out, "cr0 %08llx cr2 %016llx cr3 %016llx cr4 %08llx cr8 %llx efer %04llx\n",
		      (unsigned long long)c->cr0, (unsigned long long)c->cr2,
		      (unsigned long long)c->cr3, (unsigned long long)c->cr4,
		      (unsigned long long)c->cr8, (unsigned long long)c->efer);
	strbuf_printf(out, "dr0 %llx dr1 %llx dr2 %llx dr3 %llx dr6 %08llx dr7 %08llx\n",
		      (unsigned long long)c->dr[0], (unsigned long long)c->dr[1],
		      (unsigned long long)c->dr[2], (unsigned long long)c->dr[3],
		      (unsigned long long)c->dr6, (unsigned long long)c->dr7);
	strbuf_printf(out, "fcw %04x fsw %04x ftw %02x mxcsr %08x xcr0 %llx\n", c->xs.fcw,
		      c->xs.fsw, c->xs.ftw, c->xs.mxcsr, (unsigned long long)c->xcr0);
	strbuf_printf(out, "mp_state %u shadow %u nmi masked %u pending %u event %u vector %u\n",
		      c->mp_state, c->int_shadow, c->nmi_masked, c->nmi_pending, c->event_pending,
		      c->event_vector);
}
