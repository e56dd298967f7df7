/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/virtio/test_blk.c - the disk: every request type, many in flight, errors, resets
 */
#include "test.h"
#include "virtio/blk.h"
#include "virtio/driver.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>

#define RAM       (16u << 20)
#define DISK_SIZE (1u << 20)

#define T_IN           0
#define T_OUT          1
#define T_FLUSH        4
#define T_GET_ID       8
#define T_DISCARD      11
#define T_WRITE_ZEROES 13

#define F_RO    BIT(5)
#define F_FLUSH BIT(9)
#define ALL     (BIT(29) | BIT(28) | F_FLUSH | BIT(13) | BIT(14))

static char path[] = "/var/tmp/insula-vblk-XXXXXX";
static struct gmem *m;
static struct loop *l;
static struct virtio_dev *d;
static struct drv v;

static void open_disk(bool read_only, bool overlay, uint64_t features)
{
	struct blk_spec spec = {.path = path, .read_only = read_only, .overlay = overlay};
	struct err e = {0};
	struct blk *b;

	CHECK_EQ(gmem_new(RAM, RAM, &m, &e), 0);
	CHECK_EQ(blk_open(&spec, l, &b, &e), 0);
	CHECK_EQ(virtio_blk_new(m, b, "serial-number-of-24-byte", &d, &e), 0);
	drv_init(&v, m, d, features, 128);
}

static void close_disk(void)
{
	d->ops->free(d);
	gmem_free(m);
}

static void finish_all(unsigned int n)
{
	uint16_t head;
	uint32_t len;

	while (n) {
		if (drv_used(&v, 0, &head, &len))
			n--;
		else
			loop_once(l, 1000);
	}
}

struct head {
	uint32_t type, reserved;
	uint64_t sector;
};

/* One request; returns the status byte.  @data is the guest address of @len bytes. */
static int request(uint32_t type, uint64_t sector, uint64_t data, uint32_t len)
{
	struct head h = {.type = type, .sector = sector};
	uint64_t at = drv_alloc(&v, 32, 16);
	bool out = type == T_OUT || type == T_DISCARD || type == T_WRITE_ZEROES;
	struct drv_buf b[3] = {{at, 16}};
	unsigned int n = 1;
	uint8_t status = 0xee;

	if (len)
		b[n++] = (struct drv_buf){data, len};
	b[n++] = (struct drv_buf){at + 16, 1};
	CHECK_EQ(gmem_write(m, at, &h, 16), 0);
	CHECK_EQ(gmem_write(m, at + 16, &status, 1), 0);
	CHECK(drv_post(&v, 0, b, out && len ? 2 : 1, out || !len ? 1 : 2, 0) >= 0);
	drv_kick(&v, 0);
	finish_all(1);
	CHECK_EQ(gmem_read(m, at + 16, &status, 1), 0);
	v.heap = at;
	return status;
}

static void requests(bool overlay)
{
	uint64_t data = 0x800000, fresh = 0x900000;
	struct {
		uint64_t sector;
		uint32_t n, flags;
	} range = {8, 8, 0};
	uint8_t *p, *f, config[60];

	open_disk(false, overlay, ALL);
	p = gmem_ptr(m, data, 65536);
	f = gmem_ptr(m, fresh, 65536);
	virtio_config_read(d, 0, config, 60);
	CHECK_EQ(load_le64(config), DISK_SIZE / 512);
	CHECK_EQ(load_le32(config + 20), 512);
	for (unsigned int i = 0; i < 65536; i++)
		p[i] = (uint8_t)(i * 7 + i / 256);
	CHECK_EQ(request(T_OUT, 0, data, 65536), 0);
	CHECK_EQ(request(T_FLUSH, 0, 0, 0), 0);
	CHECK_EQ(request(T_IN, 0, fresh, 65536), 0);
	CHECK(memcmp(p, f, 65536) == 0);
	CHECK_EQ(request(T_IN, DISK_SIZE / 512 - 1, fresh, 512), 0);
	CHECK_EQ(request(T_IN, DISK_SIZE / 512 - 1, fresh, 1024), 1);
	CHECK_EQ(request(T_IN, DISK_SIZE / 512, fresh, 512), 1);
	CHECK_EQ(request(T_IN, UINT64_MAX, fresh, 512), 1);
	CHECK_EQ(request(T_IN, UINT64_MAX / 512, fresh, 512), 1);
	CHECK_EQ(request(T_IN, 0, fresh, 513), 1);
	CHECK_EQ(request(77, 0, fresh, 512), 2);
	memset(f, 0xff, 64);
	CHECK_EQ(request(T_GET_ID, 0, fresh, 20), 0);
	CHECK(memcmp(f, "serial-number-of-24-\xff", 21) == 0);
	CHECK_EQ(gmem_write(m, data, &range, 16), 0);
	CHECK_EQ(request(T_DISCARD, 0, data, 16), 0);
	CHECK_EQ(request(T_WRITE_ZEROES, 0, data, 16), 0);
	CHECK_EQ(request(T_IN, 0, fresh, 65536), 0);
	CHECK_EQ(f[8 * 512 - 1], (uint8_t)((8 * 512 - 1) * 7 + 15));
	CHECK_EQ(f[8 * 512], 0);
	CHECK_EQ(f[16 * 512 - 1], 0);
	CHECK_EQ(f[16 * 512], (uint8_t)(16 * 512 * 7 + 32));
	range.flags = 1;
	CHECK_EQ(gmem_write(m, data, &range, 16), 0);
	CHECK_EQ(request(T_DISCARD, 0, data, 16), 2); /* unmap is for zeroes */
	CHECK_EQ(request(T_WRITE_ZEROES, 0, data, 16), 0);
	range.flags = 2;
	CHECK_EQ(gmem_write(m, data, &range, 16), 0);
	CHECK_EQ(request(T_WRITE_ZEROES, 0, data, 16), 2);
	CHECK_EQ(request(T_WRITE_ZEROES, 0, data, 15), 1);
	CHECK_EQ(request(T_WRITE_ZEROES, 0, data, 32), 1);
	close_disk();
}

static void read_only(void)
{
	open_disk(true, false, ALL);
	CHECK(d->features_offered & F_RO);
	CHECK(!(d->features_offered & BIT(13)));
	CHECK_EQ(request(T_IN, 0, 0x800000, 4096), 0);
	CHECK_EQ(request(T_OUT, 0, 0x800000, 4096), 1);
	CHECK_EQ(request(T_FLUSH, 0, 0, 0), 0);
	close_disk();
}

/* Without FLUSH negotiated each write is safe by itself; what shows here is that it works. */
static void no_flush(void)
{
	open_disk(false, false, 0);
	CHECK_EQ(request(T_OUT, 0, 0x800000, 4096), 0);
	close_disk();
}

static void broken(unsigned int n_out, unsigned int n_in, uint32_t out_len)
{
	struct drv_buf b[2] = {{0x800000, n_out ? out_len : 16}, {0x801000, 16}};

	open_disk(false, false, ALL);
	CHECK(drv_post(&v, 0, b, n_out, n_in, 0) >= 0);
	drv_kick(&v, 0);
	CHECK(!virtio_ready(d));
	drv_start(&v, ALL, 128);
	CHECK_EQ(request(T_FLUSH, 0, 0, 0), 0);
	close_disk();
}

static int post_rw(bool write, uint64_t at, uint64_t sector)
{
	struct head h = {.type = write ? T_OUT : T_IN, .sector = sector};
	struct drv_buf b[3] = {{at, 16}, {at + 4096, 4096}, {at + 32, 1}};

	CHECK_EQ(gmem_write(m, at, &h, 16), 0);
	return drv_post(&v, 0, b, write ? 2 : 1, write ? 1 : 2, at + 64);
}

/* As deep as the ring goes: all are answered, with fewer interrupts than requests. */
static void deep(bool overlay)
{
	uint64_t base = 0x400000;

	open_disk(false, overlay, ALL);
	for (unsigned int round = 0; round < 20; round++) {
		for (unsigned int i = 0; i < 128; i++) {
			uint64_t at = base + i * 8192;

			memset(gmem_ptr(m, at + 4096, 4096), (int)(i + round), 4096);
			CHECK(post_rw(true, at, i * 8) >= 0);
		}
		drv_kick(&v, 0);
		finish_all(128);
		for (unsigned int i = 0; i < 128; i++) {
			memset(gmem_ptr(m, base + i * 8192 + 4096, 4096), 0, 4096);
			CHECK(post_rw(false, base + i * 8192, i * 8) >= 0);
		}
		drv_kick(&v, 0);
		finish_all(128);
		for (unsigned int i = 0; i < 128; i++)
			CHECK_EQ(*(uint8_t *)gmem_ptr(m, base + i * 8192 + 8191, 1),
				 (uint8_t)(i + round));
	}
	CHECK(virtio_ready(d));
	close_disk();
}

static atomic_bool running;

static void *loop_thread(void *opaque)
{
	while (running)
		loop_once(l, 1);
	return opaque;
}

/* Reads in flight while the driver resets: their buffers stay as they are afterwards. */
static void resets(bool overlay, bool threaded)
{
	uint64_t base = 0x400000;
	pthread_t t;

	open_disk(false, overlay, ALL);
	running = threaded;
	if (threaded)
		CHECK_EQ(pthread_create(&t, NULL, loop_thread, NULL), 0);
	for (unsigned int round = 0; round < 200; round++) {
		for (unsigned int i = 0; i < 64; i++)
			CHECK(post_rw(false, base + i * 8192, i * 8) >= 0);
		drv_kick(&v, 0);
		drv_start(&v, ALL, 128);
		memset(gmem_ptr(m, base, 64 * 8192), 0xa5, 64 * 8192);
		if (!threaded)
			loop_once(l, 0);
		for (unsigned int i = 0; i < 64; i++)
			CHECK_EQ(*(uint8_t *)gmem_ptr(m, base + i * 8192 + 4096, 1), 0xa5);
		CHECK_EQ(*(uint16_t *)gmem_ptr(m, v.q[0].used + 2, 2), 0);
	}
	if (threaded) {
		running = false;
		pthread_join(t, NULL);
	}
	CHECK_EQ(request(T_IN, 0, base, 4096), 0);
	close_disk();
}

/* A saved machine has no request under way: each is answered or still in the ring. */
static void quiesce(void)
{
	autostrbuf struct strbuf out = {0};
	uint64_t base = 0x400000;
	uint16_t head;
	uint32_t len;

	open_disk(false, false, ALL);
	for (unsigned int i = 0; i < 64; i++)
		CHECK(post_rw(false, base + i * 8192, i * 8) >= 0);
	drv_kick(&v, 0);
	virtio_save(d, &out);
	for (unsigned int i = 0; i < 64; i++)
		CHECK(drv_used(&v, 0, &head, &len));
	close_disk();
}

int main(void)
{
	struct err e = {0};
	int fd = mkstemp(path);

	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, DISK_SIZE), 0);
	close(fd);
	CHECK_EQ(loop_new(&l, &e), 0);
	requests(true);
	requests(false);
	read_only();
	no_flush();
	broken(0, 1, 0);  /* no header */
	broken(1, 1, 15); /* a short one */
	broken(1, 0, 16); /* nowhere for the status */
	deep(false);
	deep(true);
	resets(false, false);
	resets(true, false);
	resets(false, true);
	resets(true, true);
	quiesce();
	loop_free(l);
	unlink(path);
	return 0;
}
