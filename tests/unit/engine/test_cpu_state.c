/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/x86/cpu.h"
#include "engine/x86/pvclock.h"
#include "test.h"

static void test_reset(void)
{
	struct cpu c;

	cpu_reset(&c, 0);
	CHECK_EQ(c.seg[SEG_CS].base + c.rip, 0xfffffff0);
	CHECK_EQ(c.cr0, 0x60000010);
	CHECK_EQ(c.rflags, 2);
	CHECK_EQ(c.xs.fcw, 0x40);
	CHECK_EQ(c.apic_base, 0xfee00900);
	CHECK_EQ(c.mp_state, CPU_RUNNABLE);

	cpu_reset(&c, 1);
	CHECK_EQ(c.apic_base, 0xfee00800);
	CHECK_EQ(c.mp_state, CPU_UNINITIALIZED);
	c.mtrr_def_type = 0xc06;
	c.cr0 = CR0_PE | CR0_CD;
	c.gpr[RAX] = 5;
	c.xs.fcw = 0x37f;
	cpu_init(&c);
	CHECK_EQ(c.mtrr_def_type, 0xc06); /* kept */
	CHECK_EQ(c.xs.fcw, 0x37f);
	CHECK_EQ(c.cr0, CR0_CD | CR0_ET);
	CHECK_EQ(c.gpr[RAX], 0);
	CHECK_EQ(c.mp_state, CPU_INIT_RECEIVED);
	cpu_sipi(&c, 0x9a);
	CHECK_EQ(c.seg[SEG_CS].sel, 0x9a00);
	CHECK_EQ(c.seg[SEG_CS].base, 0x9a000);
	CHECK_EQ(c.rip, 0);
	CHECK_EQ(c.mp_state, CPU_RUNNABLE);
}

/* Every byte but padding goes through the saved form. */
static void test_state(void)
{
	struct cpu a, b;
	autostrbuf struct strbuf s1 = {0}, s2 = {0}, text = {0};
	struct err e = {0};
	size_t used;

	for (size_t i = 0; i < sizeof(a); i++)
		((uint8_t *)&a)[i] = (uint8_t)(i * 7 + 1);
	memset(&b, 0, sizeof(b));
	state_save(&cpu_state_table, &a, &s1);
	CHECK_EQ(state_load(&cpu_state_table, &b, s1.data, s1.len, &used, &e), 0);
	CHECK_EQ(used, s1.len);
	for (unsigned int i = 0; i < SEG_COUNT; i++)
		memcpy(b.seg[i].pad, a.seg[i].pad, sizeof(a.seg[i].pad));
	memcpy(b.ldtr.pad, a.ldtr.pad, sizeof(a.ldtr.pad));
	memcpy(b.tr.pad, a.tr.pad, sizeof(a.tr.pad));
	memcpy(b.gdtr.pad, a.gdtr.pad, sizeof(a.gdtr.pad));
	memcpy(b.idtr.pad, a.idtr.pad, sizeof(a.idtr.pad));
	/* Compiler padding before aligned members. */
	for (size_t i = offsetof(struct cpu, xcr0) + 8; i < offsetof(struct cpu, xs); i++)
		((uint8_t *)&b)[i] = ((uint8_t *)&a)[i];
	CHECK(memcmp(&a, &b, offsetof(struct cpu, pdpte) + sizeof(a.pdpte)) == 0);
	state_save(&cpu_state_table, &b, &s2);
	CHECK_EQ(s1.len, s2.len);
	CHECK(memcmp(s1.data, s2.data, s1.len) == 0);
	cpu_dump(&a, &text);
	CHECK(strstr(text.data, "rip ") != NULL);
}

static void test_pvclock(void)
{
	static const uint32_t khz[] = {1, 999999, 1000000, 1000001, 2100000, 4200000, 100000};
	struct gmem *m = NULL;
	struct err e = {0};
	uint32_t version;
	uint8_t t[32];

	for (unsigned int i = 0; i < sizeof(khz) / sizeof(khz[0]); i++) {
		struct pvclock_scale s = pvclock_scale(khz[i]);
		/* One hour of cycles is one hour of nanoseconds, to 1 in 10^8. */
		uint64_t ns = pvclock_ns(&s, (uint64_t)khz[i] * 1000 * 3600);

		CHECK(ns <= 3600000000000);
		CHECK(ns > 3600000000000 - 36000);
	}
	CHECK_EQ(gmem_new(0x10000, 0x10000, &m, &e), 0);
	CHECK(pvclock_write_system(m, 0x1000, 2100000)); /* disabled: nothing written */
	CHECK_EQ(gmem_read(m, 0x1000, &version, 4), 0);
	CHECK_EQ(version, 0);
	CHECK(pvclock_write_system(m, 0x1001, 2100000));
	CHECK_EQ(gmem_read(m, 0x1000, t, sizeof(t)), 0);
	CHECK((t[0] & 1) == 0 && t[0] != 0);
	CHECK_EQ(t[29], 1);
	CHECK(!pvclock_write_system(m, 0xfff1, 2100000)); /* runs over the end */
	CHECK(pvclock_write_wall(m, 0x2000, 2100000, 0));
	CHECK(!pvclock_write_wall(m, 0xfff8, 2100000, 0));
	gmem_free(m);
}

int main(void)
{
	test_reset();
	test_state();
	test_pvclock();
	return 0;
}
