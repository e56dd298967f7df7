/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/sys_debug.c - debug registers, breakpoints, single-step (SDM vol. 3, chapter 18)
 */
#include "engine/interp/sys.h"

#define DR6_FIXED UINT64_C(0xffff0ff0)
#define DR6_BREAK UINT64_C(0x0f)
#define DR6_BD    BIT(13)
#define DR6_BS    BIT(14)
#define DR6_BT    BIT(15)
#define DR7_FIXED UINT64_C(0x400)
#define DR7_MASK  UINT64_C(0xffff23ff)
#define DR7_GD    BIT(13)

enum dr7_kind { BP_EXEC, BP_WRITE, BP_IO, BP_READ_WRITE };

static bool bp_enabled(const struct cpu *c, unsigned int n, enum dr7_kind *kind)
{
	*kind = (c->dr7 >> (16 + 4 * n)) & 3;
	return (c->dr7 >> (2 * n)) & 3;
}

static unsigned int bp_len(const struct cpu *c, unsigned int n)
{
	static const uint8_t len[] = {1, 2, 8, 4};

	return len[(c->dr7 >> (18 + 4 * n)) & 3];
}

static bool bp_hits(const struct cpu *c, unsigned int n, uint64_t addr, unsigned int size)
{
	uint64_t len = bp_len(c, n), first = c->dr[n] & ~(len - 1);

	return addr < first + len && first < addr + size;
}

static void deliver_db(struct ivcpu *v, uint64_t bits)
{
	v->c.dr6 = (v->c.dr6 & ~DR6_BREAK) | DR6_FIXED | bits;
	v->c.pending_dbg = 0;
	event_deliver(v, VEC_DB, EVENT_FAULT, false, 0);
}

void debug_after_insn(struct ivcpu *v, bool tf_was_set)
{
	uint64_t bits = v->c.pending_dbg;

	/* MOV SS holds back data breakpoints until the next instruction, and loses the step trap.
	 */
	if (v->c.int_shadow == 2)
		return;
	if (tf_was_set && !v->no_step)
		bits |= DR6_BS;
	if (bits)
		deliver_db(v, bits);
}

bool debug_before_insn(struct ivcpu *v, uint64_t lin)
{
	uint64_t bits = 0;

	if ((v->c.rflags & FL_RF) || v->c.int_shadow == 2)
		return false;
	for (unsigned int n = 0; n < 4; n++) {
		enum dr7_kind kind;

		if (bp_enabled(&v->c, n, &kind) && kind == BP_EXEC && v->c.dr[n] == lin)
			bits |= BIT(n);
	}
	if (!bits)
		return false;
	deliver_db(v, bits);
	return true;
}

void debug_data_access(struct ivcpu *v, uint64_t lin, unsigned int size, enum access acc)
{
	for (unsigned int n = 0; n < 4; n++) {
		enum dr7_kind kind;

		if (!bp_enabled(&v->c, n, &kind) || !bp_hits(&v->c, n, lin, size))
			continue;
		if (kind == BP_READ_WRITE || (kind == BP_WRITE && acc == ACC_WRITE))
			v->c.pending_dbg |= BIT(n);
	}
}

static void io_breakpoints(struct ivcpu *v, uint16_t port, unsigned int size)
{
	for (unsigned int n = 0; n < 4; n++) {
		enum dr7_kind kind;

		if (bp_enabled(&v->c, n, &kind) && kind == BP_IO && bp_hits(&v->c, n, port, size))
			v->c.pending_dbg |= BIT(n);
	}
}

void io_check(struct ivcpu *v, uint16_t port, unsigned int size)
{
	const struct cpu *c = &v->c;

	if ((c->cr0 & CR0_PE) && ((c->rflags & FL_VM) || v->cpl > iopl(v))) {
		uint32_t off, bits;

		if ((c->tr.attr & SEG_TYPE_MASK & ~DESC_BUSY) != DESC_TSS32 || c->tr.limit < 103)
			raise_gp(v, 0);
		off = (uint32_t)sys_ld(v, c->tr.base + 102, 2) + port / 8;
		/* Two bytes are always read. */
		if (off + 1 > c->tr.limit)
			raise_gp(v, 0);
		bits = (uint32_t)sys_ld(v, c->tr.base + off, 2) >> (port % 8);
		if (bits & ((1u << size) - 1))
			raise_gp(v, 0);
	}
	if ((c->dr7 & 0xff) && (c->cr4 & CR4_DE))
		io_breakpoints(v, port, size);
}

/* --- MOV DR --------------------------------------------------------------------------------------
 */

/* The register meant: DR4 and DR5 are DR6 and DR7 unless CR4.DE makes them undefined. */
static unsigned int dr_check(struct ivcpu *v, const struct x86_insn *i)
{
	unsigned int n = i->reg;

	if (n > 7 || ((n == 4 || n == 5) && (v->c.cr4 & CR4_DE)))
		raise_ud(v);
	require_cpl0(v);
	if (v->c.dr7 & DR7_GD) {
		v->c.dr6 = (v->c.dr6 & ~DR6_BREAK) | DR6_FIXED | DR6_BD;
		raise_fault(v, VEC_DB);
	}
	return n == 4 || n == 5 ? n + 2 : n;
}

void sys_mov_from_dr(struct ivcpu *v, const struct x86_insn *i)
{
	unsigned int n = dr_check(v, i);
	uint64_t x = n == 6 ? v->c.dr6 : n == 7 ? v->c.dr7 : v->c.dr[n];

	gpr_set(v, i->rm, v->mode == MODE_LONG ? 8 : 4, true, x);
}

void sys_mov_to_dr(struct ivcpu *v, const struct x86_insn *i)
{
	unsigned int n = dr_check(v, i);
	uint64_t x = gpr_get(v, i->rm, v->mode == MODE_LONG ? 8 : 4, true);

	if (n >= 6 && x >> 32)
		raise_gp(v, 0);
	if (n == 6) {
		v->c.dr6 = (x & (DR6_BREAK | DR6_BD | DR6_BS | DR6_BT)) | DR6_FIXED;
	} else if (n == 7) {
		v->c.dr7 = (x & DR7_MASK) | DR7_FIXED;
	} else {
		v->c.dr[n] = x;
	}
	interp_mode_changed(v);
	v->stop = true;
}
