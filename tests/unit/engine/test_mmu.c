/* SPDX-License-Identifier: Apache-2.0 */
/* Page walks over tables written by hand: rights, error codes, A/D bits, page sizes. */
#include "engine/interp/sys.h"
#include "test.h"

#define P  1u
#define W  2u
#define U  4u
#define A  0x20u
#define D  0x40u
#define PS 0x80u
#define G  0x100u
#define NX BIT(63)

static struct engine en;
static struct ivcpu *v;

static void put64(uint64_t pa, uint64_t x)
{
	CHECK_EQ(gmem_write(en.mem, pa, &x, 8), 0);
}

static void put32(uint64_t pa, uint32_t x)
{
	CHECK_EQ(gmem_write(en.mem, pa, &x, 4), 0);
}

static uint64_t get64(uint64_t pa)
{
	uint64_t x;

	CHECK_EQ(gmem_read(en.mem, pa, &x, 8), 0);
	return x;
}

#define OK 0x1000u /* in place of an error code */

static struct mmu_result res;

static uint32_t walk(uint64_t lin, enum access acc, enum tlb_set set)
{
	uint32_t error = 0;

	return mmu_walk(v, lin, acc, set, &res, &error) ? OK : error;
}

/* 4-level: 0x1000 PML4, 0x2000 PDPT, 0x3000 PD, 0x4000 PT; maps linear 0x5000 with @pte. */
static void map_long(uint64_t upper, uint64_t pte)
{
	v->c.cr0 = CR0_PE | CR0_PG | CR0_WP;
	v->c.cr4 = CR4_PAE | CR4_PGE;
	v->c.efer = EFER_LME | EFER_LMA | EFER_NXE;
	v->c.cr3 = 0x1000;
	put64(0x1000, 0x2000 | upper);
	put64(0x2000, 0x3000 | upper);
	put64(0x3000, 0x4000 | upper);
	put64(0x4000 + 5 * 8, pte);
}

static void test_long(void)
{
	map_long(P | W | U, 0x7000 | P | W | U | G);
	CHECK_EQ(walk(0x5123, ACC_READ, TLB_USER), OK);
	CHECK_EQ(res.pa, 0x7123);
	CHECK_EQ(res.page, 4096);
	CHECK(!res.write && res.exec && res.global); /* not dirty yet */
	CHECK_EQ(get64(0x4028), 0x7000 | P | W | U | G | A);
	CHECK(get64(0x1000) & A && get64(0x2000) & A && get64(0x3000) & A);
	CHECK_EQ(walk(0x5123, ACC_WRITE, TLB_USER), OK);
	CHECK(res.write);
	CHECK(get64(0x4028) & D);

	CHECK_EQ(walk(0x6000, ACC_READ, TLB_SUPER), 0);
	CHECK_EQ(walk(0x6000, ACC_WRITE, TLB_USER), 6);
	CHECK_EQ(walk(0x6000, ACC_EXEC, TLB_USER), 0x14);

	map_long(P | W, 0x7000 | P | W | U); /* supervisor above */
	CHECK_EQ(walk(0x5000, ACC_READ, TLB_USER), 5);
	CHECK_EQ(get64(0x4028) & (A | D), 0); /* refused: leaf untouched */
	map_long(P | W | U, 0x7000 | P | U);
	CHECK_EQ(walk(0x5000, ACC_WRITE, TLB_USER), 7);
	CHECK_EQ(walk(0x5000, ACC_WRITE, TLB_SUPER), 3);
	v->c.cr0 &= ~CR0_WP;
	CHECK_EQ(walk(0x5000, ACC_WRITE, TLB_SUPER), OK);
	map_long(P | W | U, 0x7000 | P | W | U | NX);
	CHECK_EQ(walk(0x5000, ACC_EXEC, TLB_SUPER), 0x11);
	CHECK_EQ(walk(0x5000, ACC_READ, TLB_SUPER), OK);
	CHECK(!res.exec);
	v->c.efer &= ~EFER_NXE; /* now a reserved bit */
	CHECK_EQ(walk(0x5000, ACC_READ, TLB_SUPER), 9);
	map_long(P | W | U, 0x7000 | P | W | U | BIT(CPU_PHYS_BITS));
	CHECK_EQ(walk(0x5000, ACC_WRITE, TLB_USER), 0xf);
	map_long(P | W | U, 0x7000 | P | BIT(52) | BIT(62)); /* ignored bits */
	CHECK_EQ(walk(0x5000, ACC_READ, TLB_SUPER), OK);
	CHECK_EQ(res.pa, 0x7000);
}

static void test_smep_smap(void)
{
	map_long(P | W | U, 0x7000 | P | W | U);
	v->c.cr4 |= CR4_SMEP | CR4_SMAP;
	CHECK_EQ(walk(0x5000, ACC_READ, TLB_SUPER), 1);
	CHECK_EQ(walk(0x5000, ACC_WRITE, TLB_SUPER), 3);
	CHECK_EQ(walk(0x5000, ACC_WRITE, TLB_SUPER_AC), OK);
	CHECK(!res.exec);
	CHECK_EQ(walk(0x5000, ACC_EXEC, TLB_SUPER), 0x11);
	CHECK_EQ(walk(0x5000, ACC_EXEC, TLB_USER), OK);
	v->c.efer &= ~EFER_NXE; /* SMEP alone shows I/D */
	CHECK_EQ(walk(0x6000, ACC_EXEC, TLB_USER), 0x14);
	v->c.cr4 &= ~CR4_SMEP;
	CHECK_EQ(walk(0x6000, ACC_EXEC, TLB_USER), 4);
}

static void test_large(void)
{
	map_long(P | W | U, 0);
	put64(0x3000, 0x200000 | P | W | PS);
	CHECK_EQ(walk(0x12345, ACC_WRITE, TLB_SUPER), OK);
	CHECK_EQ(res.pa, 0x212345);
	CHECK_EQ(res.page, 0x200000);
	CHECK_EQ(get64(0x3000), 0x200000 | P | W | PS | A | D);
	put64(0x3000, 0x200000 | P | W | PS | BIT(12)); /* PAT: not reserved */
	CHECK_EQ(walk(0x12345, ACC_READ, TLB_SUPER), OK);
	CHECK_EQ(res.pa, 0x212345);
	put64(0x3000, 0x202000 | P | W | PS);
	CHECK_EQ(walk(0x12345, ACC_READ, TLB_SUPER), 9);
	put64(0x2000, UINT64_C(0x80000000) | P | W | PS);
	CHECK_EQ(walk(0x12345678, ACC_READ, TLB_SUPER), OK);
	CHECK_EQ(res.pa, 0x92345678);
	CHECK_EQ(res.page, BIT(30));
	put64(0x1000, 0x2000 | P | W | PS);
	CHECK_EQ(walk(0x12345678, ACC_READ, TLB_SUPER), 9);
	put64(0x1000, BIT(40) | P | W); /* table outside memory: reads as ones */
	CHECK_EQ(walk(0x12345678, ACC_READ, TLB_SUPER), 9);
}

static void test_32(void)
{
	v->c.cr0 = CR0_PE | CR0_PG;
	v->c.cr4 = v->c.efer = 0;
	v->c.cr3 = 0x1000;
	put32(0x1000, 0x4000 | P | W | U);
	put32(0x4000 + 5 * 4, 0x7000 | P | U);
	CHECK_EQ(walk(0x5123, ACC_READ, TLB_USER), OK);
	CHECK_EQ(res.pa, 0x7123);
	CHECK(res.exec && !res.write);
	CHECK_EQ(walk(0x5123, ACC_WRITE, TLB_USER), 7);
	CHECK_EQ(walk(0x5123, ACC_WRITE, TLB_SUPER), OK); /* WP off */
	CHECK_EQ(walk(0x5123, ACC_EXEC, TLB_USER), OK);
	CHECK_EQ(walk(0x6123, ACC_EXEC, TLB_USER), 4); /* no I/D without NX */
	/* PS means nothing without PSE, then is PSE-36. */
	put32(0x1004, 0x00406000 | P | W | PS);
	put32(0x406000, 0);
	CHECK_EQ(walk(0x400000, ACC_READ, TLB_SUPER), 0);
	v->c.cr4 = CR4_PSE;
	CHECK_EQ(walk(0x412345, ACC_READ, TLB_SUPER), OK);
	CHECK_EQ(res.pa, UINT64_C(0x300412345));
	CHECK_EQ(res.page, BIT(22));
	put32(0x1004, 0x00600000 | P | W | PS);
	CHECK_EQ(walk(0x412345, ACC_READ, TLB_SUPER), 9);
}

static void test_pae(void)
{
	v->c.cr0 = CR0_PE | CR0_PG;
	v->c.cr4 = CR4_PAE;
	v->c.efer = 0;
	put64(0x1020, 0x3000 | P);
	put64(0x1028, 0);
	put64(0x1030, 0x3000 | P);
	put64(0x1038, 0x3000 | P);
	CHECK(mmu_load_pdptes(v, 0x1020, v->c.pdpte));
	put64(0x3000, 0x4000 | P | W | U);
	put64(0x4000 + 5 * 8, 0x7000 | P | U | W);
	put64(0x1020, 0); /* the register counts */
	CHECK_EQ(walk(0x5123, ACC_WRITE, TLB_USER), OK);
	CHECK_EQ(res.pa, 0x7123);
	CHECK_EQ(walk(0x40005123, ACC_READ, TLB_USER), 4);
	CHECK_EQ(walk(0xc0005123, ACC_READ, TLB_USER), OK);
	put64(0x4028, 0x7000 | P | BIT(60)); /* reserved here, unlike 4-level */
	CHECK_EQ(walk(0x5123, ACC_READ, TLB_SUPER), 9);
	put64(0x1020, 0x3000 | P | W);
	CHECK(!mmu_load_pdptes(v, 0x1020, v->c.pdpte));
	put64(0x1020, 0x3000 | W); /* not present: anything goes */
	CHECK(mmu_load_pdptes(v, 0x1020, v->c.pdpte));
}

int main(void)
{
	struct err e = {0};

	v = calloc(1, sizeof(*v));
	CHECK(v != NULL);
	v->vcpu.en = &en;
	CHECK_EQ(gmem_new(16 << 20, 16 << 20, &en.mem, &e), 0);
	CHECK_EQ(walk(0x123456789, ACC_WRITE, TLB_SUPER), OK); /* paging off: 32 bits */
	CHECK_EQ(res.pa, 0x23456789);
	test_long();
	test_smep_smap();
	test_large();
	test_32();
	test_pae();
	gmem_free(en.mem);
	free(v);
	return 0;
}
