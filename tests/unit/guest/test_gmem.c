/* SPDX-License-Identifier: Apache-2.0 */
#include "guest/gmem.h"
#include "test.h"

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
	return 0;
}
