/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/gmem.h"
#include "test.h"

/* A PC's map: nothing from 640 KiB to 1 MiB but what views show. */
static void test_views(void)
{
	static uint8_t ram[0x4000] __attribute__((aligned(4096)));
	static uint8_t rom[0x4000] __attribute__((aligned(4096)));
	uint8_t buf[0x3000] = {1}, got[0x3000];
	unsigned int low, high;
	struct gmem *m = NULL;
	uint32_t epoch, gen;
	struct err e = {0};

	CHECK_EQ(gmem_new_pc(0x200000, 0x180000, &m, &e), 0);
	CHECK_EQ(m->ram_size, 0x200000 - 0x60000);
	CHECK(gmem_ptr(m, 0x9ffff, 1) && !gmem_ptr(m, 0xa0000, 1));
	CHECK(!gmem_ptr(m, 0xfffff, 1) && gmem_ptr(m, 0x100000, 0x80000));
	CHECK(gmem_ptr(m, BIT(32), 0x80000) && !gmem_ptr(m, BIT(32), 0x80001));

	CHECK_EQ(gmem_add_view(m, 0x2000, ram, &low, &e), 0);
	CHECK_EQ(gmem_add_view(m, 0x2000, rom, &high, &e), 0);
	CHECK(!gmem_ptr(m, 0, 0x100000) && !gmem_ptr(m, 0xc0000, 1));
	epoch = m->epoch;
	gmem_show(m, low, 0xc0000, ram, 0);
	gmem_show(m, high, 0xc2000, rom, GMEM_ROM);
	CHECK(m->epoch != epoch);
	CHECK(gmem_overlaps(m, 0xc3fff, 1) && !gmem_overlaps(m, 0xc4000, 0x1000));

	/* Across the two: readable, but not writable while one is ROM, and then not at all. */
	CHECK(gmem_write(m, 0xc1000, buf, sizeof(buf)) < 0);
	CHECK_EQ(ram[0x1000], 0);
	CHECK_EQ(gmem_load(m, 0xc1000, buf, sizeof(buf)), 0);
	CHECK_EQ(gmem_read(m, 0xc1000, got, sizeof(got)), 0);
	CHECK(memcmp(buf, got, sizeof(buf)) == 0 && ram[0x1000] == 1);
	CHECK(gmem_read(m, 0xc1001, got, sizeof(got)) < 0);

	/* Another memory in the same place: what was cached of the first is stale. */
	gen = gmem_set_code(m, 0xc0000);
	gmem_show(m, low, 0xc0000, rom + 0x2000, 0);
	CHECK(gmem_code_gen(m, 0xc0000) != gen);
	CHECK_EQ(gmem_write(m, 0xc1fff, buf, 1), 0);
	CHECK_EQ(rom[0x3fff], 1);
	gmem_show(m, high, 0xd0000, rom, 0);
	CHECK(!gmem_ptr(m, 0xc2000, 1) && gmem_ptr(m, 0xd0000, 0x2000));
	epoch = m->epoch;
	gmem_show(m, high, 0xd0000, rom, 0);
	CHECK_EQ(m->epoch, epoch);
	gmem_hide(m, high);
	CHECK(!gmem_ptr(m, 0xd0000, 1) && !gmem_overlaps(m, 0xd0000, 0x2000));
	gmem_discard(m, 0xc0000, 0x2000); /* not ours to give back */
	CHECK_EQ(rom[0x3fff], 1);
	gmem_free(m);
}

int main(void)
{
	struct gmem *m = NULL;
	struct err e = {0};
	uint64_t map[1];
	uint32_t x = 0x12345678, y = 0, gen;

	/* 64 KiB below a 32 KiB hole top: the rest moves above 4 GiB. */
	CHECK_EQ(gmem_new(0x10000, 0x8000, &m, &e), 0);
	CHECK_EQ(m->n_slots, 2);
	CHECK_EQ(m->ram_size, 0x10000);

	CHECK_EQ(gmem_write(m, 0x7ffc, &x, 4), 0);
	CHECK_EQ(gmem_read(m, 0x7ffc, &y, 4), 0);
	CHECK_EQ(y, x);
	CHECK(gmem_write(m, 0x7ffd, &x, 4) < 0); /* last byte outside */
	CHECK(gmem_read(m, 0x8000, &y, 1) < 0);
	CHECK(gmem_ptr(m, BIT(32), 0x8000) != NULL);
	CHECK(gmem_ptr(m, BIT(32), 0x8001) == NULL);
	CHECK(gmem_ptr(m, UINT64_MAX, 2) == NULL);
	CHECK(gmem_read(m, BIT(32), &y, SIZE_MAX) < 0);

	CHECK(gmem_add(m, 0x7000, 0x1000, 0, &e) < 0); /* overlap */
	CHECK(gmem_add(m, 0xfffff800, 0x1000, 0, &e) < 0);
	CHECK_EQ(gmem_add(m, 0xffff0000, 0x10000, GMEM_ROM, &e), 0);
	CHECK(gmem_write(m, 0xfffffff0, &x, 4) < 0);
	CHECK_EQ(gmem_load(m, 0xfffffff0, &x, 4), 0);
	CHECK_EQ(m->ram_size, 0x10000);

	CHECK_EQ(gmem_code_gen(m, 0x2000), 0);
	gen = gmem_set_code(m, 0x2000);
	CHECK(gen != 0);
	CHECK_EQ(gmem_set_code(m, 0x2fff), gen);
	CHECK_EQ(gmem_write(m, 0x1ffe, &x, 4), 0); /* its second half is in the page */
	CHECK(gmem_code_gen(m, 0x2000) != gen);
	CHECK_EQ(gmem_code_gen(m, 0x1000), 0);

	CHECK_EQ(gmem_log_start(m, &e), 0);
	CHECK_EQ(gmem_write(m, 0x3000, &x, 4), 0);
	gmem_log_harvest(m, 0, map);
	CHECK_EQ(map[0], BIT(3));
	gmem_log_harvest(m, 0, map);
	CHECK_EQ(map[0], 0);
	gmem_log_stop(m);
	gmem_free(m);
	test_views();
	return 0;
}
