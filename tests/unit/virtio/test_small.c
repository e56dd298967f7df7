/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/virtio/test_small.c - entropy and balloon
 */
#include "test.h"
#include "virtio/balloon.h"
#include "virtio/driver.h"
#include "virtio/rng.h"

#include <sys/mman.h>

#define RAM (8u << 20)

static struct gmem *m;
static struct drv v;

static void start(struct virtio_dev *d, uint64_t features)
{
	drv_init(&v, m, d, features, 64);
}

static uint32_t exchange(unsigned int queue, uint64_t gpa, uint32_t len, bool write)
{
	struct drv_buf b = {gpa, len};
	uint16_t head;
	uint32_t used;

	CHECK(drv_post(&v, queue, &b, !write, write, 0) >= 0);
	drv_kick(&v, queue);
	CHECK(drv_used(&v, queue, &head, &used));
	return used;
}

static void rng(void)
{
	struct virtio_dev *d = virtio_rng_new(m);
	const uint8_t *p = gmem_ptr(m, 0x100000, 1 << 20);
	struct drv_buf none = {0x100000, 16};
	unsigned int zeroes = 0;

	start(d, 0);
	CHECK_EQ(exchange(0, 0x100000, 256, true), 256);
	for (unsigned int i = 0; i < 256; i++)
		zeroes += p[i] == 0;
	CHECK(zeroes < 32);
	CHECK_EQ(p[256], 0);
	/* A huge buffer takes no longer than a page. */
	CHECK_EQ(exchange(0, 0x100000, 1 << 20, true), 4096);
	CHECK_EQ(p[4096], 0);
	CHECK(drv_post(&v, 0, &none, 1, 0, 0) >= 0);
	drv_kick(&v, 0);
	CHECK(!virtio_ready(d));
	d->ops->free(d);
}

static bool resident(uint64_t gpa)
{
	unsigned char vec;

	CHECK_EQ(mincore(gmem_ptr(m, gpa, 4096), 4096, &vec), 0);
	return vec & 1;
}

static void fill_page(uint64_t gpa, int byte)
{
	memset(gmem_ptr(m, gpa, 4096), byte, 4096);
}

static void balloon_pages(struct virtio_dev *d)
{
	uint32_t pfns[] = {0x300, 0x301, 0x302, 0x305, RAM / 4096, UINT32_MAX};
	uint32_t down[] = {0x402, 0x401, 0x400};

	for (uint64_t p = 0x2ff; p <= 0x306; p++)
		fill_page(p << 12, 1);
	CHECK_EQ(gmem_write(m, 0x10000, pfns, sizeof(pfns)), 0);
	CHECK_EQ(exchange(0, 0x10000, sizeof(pfns), false), 0);
	CHECK(virtio_ready(d));
	CHECK(resident(0x2ff000) && !resident(0x300000) && !resident(0x302000));
	CHECK(resident(0x303000) && !resident(0x305000) && resident(0x306000));
	CHECK_EQ(*(uint8_t *)gmem_ptr(m, 0x301000, 1), 0);
	CHECK_EQ(exchange(1, 0x10000, sizeof(pfns), false), 0);
	for (uint64_t p = 0x400; p <= 0x402; p++)
		fill_page(p << 12, 1);
	CHECK_EQ(gmem_write(m, 0x10000, down, sizeof(down)), 0);
	CHECK_EQ(exchange(0, 0x10000, sizeof(down), false), 0);
	CHECK(!resident(0x400000) && !resident(0x401000) && !resident(0x402000));
}

static void balloon(void)
{
	struct virtio_dev *d = virtio_balloon_new(m);
	uint8_t stats[20] = {4, 0, 0x00, 0x10, 0, 0, 0, 0, 0, 0, 99, 0, 1, 1, 1, 1, 1, 1, 1, 1};
	struct balloon_stats got;
	struct drv_buf b = {0x20000, sizeof(stats)};
	uint32_t config[2], actual = 3;
	uint16_t head;
	uint32_t len;

	start(d, BIT(1) | BIT(5));
	balloon_set_target(d, 0x5000);
	CHECK_EQ(v.config_irqs, 1);
	virtio_config_read(d, 0, config, 8);
	CHECK_EQ(config[0], 5);
	virtio_config_write(d, 4, &actual, 4);
	virtio_config_write(d, 0, &actual, 4); /* not the driver's */
	CHECK_EQ(balloon_actual(d), 0x3000);
	CHECK_EQ(balloon_target(d), 0x5000);
	balloon_set_target(d, UINT64_MAX);
	CHECK_EQ(balloon_target(d), RAM);
	balloon_pages(d);
	/* statistics: the buffer is held until they are asked for */
	CHECK_EQ(gmem_write(m, 0x20000, stats, sizeof(stats)), 0);
	CHECK(drv_post(&v, 2, &b, 1, 0, 0) >= 0);
	drv_kick(&v, 2);
	CHECK(!drv_used(&v, 2, &head, &len));
	balloon_stats(d, &got);
	CHECK_EQ(got.free, 0x1000);
	CHECK_EQ(got.total, UINT64_MAX);
	CHECK(drv_used(&v, 2, &head, &len));
	balloon_stats(d, &got); /* no buffer now: the same answer */
	CHECK_EQ(got.free, 0x1000);
	/* reporting, after the statistics' queue */
	fill_page(0x500000, 1);
	fill_page(0x501000, 1);
	CHECK_EQ(exchange(3, 0x500000, 0x1800, true), 0);
	CHECK(!resident(0x500000));
	CHECK(resident(0x501000)); /* half a page is not given */
	d->ops->free(d);
	/* without statistics it moves up */
	d = virtio_balloon_new(m);
	start(d, BIT(5));
	fill_page(0x500000, 1);
	CHECK_EQ(exchange(2, 0x500000, 0x1000, true), 0);
	CHECK(!resident(0x500000));
	d->ops->free(d);
}

/* The buffer held goes back to the ring for a snapshot, and is taken again afterwards. */
static void balloon_save(void)
{
	struct virtio_dev *d = virtio_balloon_new(m), *d2 = virtio_balloon_new(m);
	struct drv_buf b = {0x20000, 10};
	autostrbuf struct strbuf out = {0};
	struct balloon_stats got;
	struct err e = {0};
	uint16_t head;
	uint32_t len;
	size_t used;

	start(d, BIT(1));
	CHECK(drv_post(&v, 2, &b, 1, 0, 0) >= 0);
	drv_kick(&v, 2);
	balloon_set_target(d, 0x7000);
	virtio_save(d, &out);
	CHECK_EQ(virtio_load(d2, out.data, out.len, &used, &e), 0);
	CHECK_EQ(balloon_target(d2), 0x7000);
	virtio_kick(d2, 2);
	balloon_stats(d2, &got);
	CHECK(drv_used(&v, 2, &head, &len));
	d->ops->free(d);
	d2->ops->free(d2);
}

int main(void)
{
	struct err e = {0};

	CHECK_EQ(gmem_new(RAM, RAM, &m, &e), 0);
	rng();
	balloon();
	balloon_save();
	gmem_free(m);
	return 0;
}
