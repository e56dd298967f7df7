/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/virtio/test_queue.c - valid drivers of every shape, and drivers that break each rule
 */
#include "test.h"
#include "virtio/driver.h"

#include <stdatomic.h>
#include <time.h>

#define RAM (8u << 20)

/* Answers every chain with its own readable bytes, inverted. */
static void echo_chain(struct vq *q, struct vq_chain *c)
{
	static uint8_t buf[65536];
	size_t n = iov_to_buf(c->out, c->n_out, 0, buf, sizeof(buf));

	for (size_t i = 0; i < n; i++)
		buf[i] = (uint8_t)~buf[i];
	n = iov_from_buf(c->in, c->n_in, 0, buf, n);
	vq_push(q, c, (uint32_t)n);
}

static void echo_kick(struct virtio_dev *d, struct vq *q)
{
	struct vq_chain c;

	(void)d;
	while (vq_pop(q, &c))
		echo_chain(q, &c);
	vq_notify(q);
}

static const struct virtio_ops echo_ops = {.name = "echo", .id = 63, .kick = echo_kick};

struct world {
	struct gmem *m;
	struct virtio_dev d;
	struct drv v;
};

static void world_new(struct world *w, const struct virtio_ops *ops, uint64_t features,
		      uint16_t size)
{
	struct err e = {0};

	CHECK_EQ(gmem_new(RAM, RAM, &w->m, &e), 0);
	virtio_init(&w->d, ops, w->m, 1, 256, 0, 0);
	drv_init(&w->v, w->m, &w->d, features, size);
}

static void world_free(struct world *w)
{
	virtio_fini(&w->d);
	gmem_free(w->m);
}

/* --- valid drivers --- */

struct flight {
	bool used;
	uint32_t out_len, in_len;
	struct drv_buf b[16];
	unsigned int n_out, n_in;
};

#define SLOT_BYTES 8192

static void make_request(struct world *w, struct flight *f, uint64_t base, uint64_t *seed)
{
	uint64_t at = base + 512; /* the first bytes are for an indirect table */

	f->n_out = (unsigned int)(rnd(seed) % 6);
	f->n_in = (unsigned int)(rnd(seed) % 6) + (f->n_out ? 0 : 1);
	f->out_len = f->in_len = 0;
	for (unsigned int i = 0; i < f->n_out + f->n_in; i++) {
		uint32_t len = (uint32_t)(rnd(seed) % 600) + 1;

		f->b[i] = (struct drv_buf){at, len};
		at += len;
		if (i < f->n_out)
			f->out_len += len;
		else
			f->in_len += len;
	}
	for (uint64_t p = base + 512; p < at; p++)
		*(uint8_t *)gmem_ptr(w->m, p, 1) = (uint8_t)rnd(seed);
}

static void check_answer(struct world *w, const struct flight *f, uint32_t len)
{
	uint8_t out[16384], in[16384];
	size_t n_out = 0, n_in = 0;

	CHECK_EQ(len, MIN(f->out_len, f->in_len));
	for (unsigned int i = 0; i < f->n_out + f->n_in; i++) {
		const void *p = gmem_ptr(w->m, f->b[i].gpa, f->b[i].len);

		if (i < f->n_out) {
			memcpy(out + n_out, p, f->b[i].len);
			n_out += f->b[i].len;
		} else {
			memcpy(in + n_in, p, f->b[i].len);
			n_in += f->b[i].len;
		}
	}
	for (size_t i = 0; i < len; i++)
		CHECK_EQ(in[i], (uint8_t)~out[i]);
}

static void reap(struct world *w, struct flight *flights, unsigned int *in_flight)
{
	uint16_t head;
	uint32_t len;

	while (drv_used(&w->v, 0, &head, &len)) {
		CHECK(flights[head].used);
		check_answer(w, &flights[head], len);
		flights[head].used = false;
		(*in_flight)--;
	}
}

static void random_valid(uint64_t features, uint16_t size, uint64_t seed)
{
	static struct flight flights[256], tmp;
	struct world w;
	unsigned int in_flight = 0;
	uint64_t slots;

	memset(flights, 0, sizeof(flights));
	world_new(&w, &echo_ops, features, size);
	slots = drv_alloc(&w.v, 256 * SLOT_BYTES, 4096);
	for (unsigned int i = 0; i < 20000; i++) {
		/* The buffer of the chain that will get this head. */
		uint64_t base = slots + w.v.q[0].free_head * (uint64_t)SLOT_BYTES;
		bool indirect = virtio_has(&w.d, VIRTIO_F_INDIRECT_DESC) && rnd(&seed) % 2;
		int head = -1;

		if (w.v.q[0].n_free) {
			make_request(&w, &tmp, base, &seed);
			head = drv_post(&w.v, 0, tmp.b, tmp.n_out, tmp.n_in, indirect ? base : 0);
		}
		if (head >= 0) {
			flights[head] = tmp;
			flights[head].used = true;
			in_flight++;
		}
		if (head < 0 || rnd(&seed) % 3 == 0)
			drv_kick(&w.v, 0);
		if (head < 0 || rnd(&seed) % 5 == 0)
			reap(&w, flights, &in_flight);
	}
	drv_kick(&w.v, 0);
	reap(&w, flights, &in_flight);
	CHECK_EQ(in_flight, 0);
	CHECK(virtio_ready(&w.d));
	world_free(&w);
}

/* --- two threads: nobody may sleep for ever --- */

struct sleepy {
	struct world w;
	atomic_bool stop;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned int kicks; /* lock */
};

static void *device_thread(void *opaque)
{
	struct sleepy *s = opaque;
	unsigned int seen = 0;

	for (;;) {
		pthread_mutex_lock(&s->lock);
		while (s->kicks == seen && !s->stop)
			pthread_cond_wait(&s->cond, &s->lock);
		seen = s->kicks;
		pthread_mutex_unlock(&s->lock);
		if (s->stop)
			return NULL;
		virtio_lock(&s->w.d);
		virtio_kick(&s->w.d, 0);
		virtio_unlock(&s->w.d);
	}
}

static void sleepy_kick(struct sleepy *s)
{
	if (!drv_needs_kick(&s->w.v, 0))
		return;
	pthread_mutex_lock(&s->lock);
	s->kicks++;
	pthread_cond_broadcast(&s->cond);
	pthread_mutex_unlock(&s->lock);
}

/* Waits for an interrupt without looking at the ring, as a sleeping driver does. */
static void sleep_for_irq(struct sleepy *s, unsigned int before)
{
	struct timespec tick = {.tv_nsec = 20000};

	for (unsigned int i = 0; s->w.v.irqs == before; i++) {
		CHECK(i < 500000); /* ten seconds: a lost wake-up */
		nanosleep(&tick, NULL);
	}
}

static void two_threads(uint64_t features)
{
	static struct sleepy s;
	pthread_t t;
	uint64_t buf, seed = 99;
	unsigned int posted = 0, got = 0;

	memset(&s, 0, sizeof(s));
	pthread_mutex_init(&s.lock, NULL);
	pthread_cond_init(&s.cond, NULL);
	world_new(&s.w, &echo_ops, features, 16);
	buf = drv_alloc(&s.w.v, 4096, 4096);
	CHECK_EQ(pthread_create(&t, NULL, device_thread, &s), 0);
	while (got < 30000) {
		struct drv_buf b[2] = {{buf, 8}, {buf + 64, 8}};
		unsigned int burst = (unsigned int)(rnd(&seed) % 8) + 1, before;
		uint16_t head;
		uint32_t len;

		while (burst-- && drv_post(&s.w.v, 0, b, 1, 1, 0) >= 0)
			posted++;
		sleepy_kick(&s);
		drv_no_irq(&s.w.v, 0);
		while (drv_used(&s.w.v, 0, &head, &len))
			got++;
		before = s.w.v.irqs;
		if (got < posted && drv_want_irq(&s.w.v, 0))
			sleep_for_irq(&s, before);
	}
	pthread_mutex_lock(&s.lock);
	s.stop = true;
	pthread_cond_broadcast(&s.cond);
	pthread_mutex_unlock(&s.lock);
	pthread_join(t, NULL);
	world_free(&s.w);
}

/* --- rules broken one by one --- */

struct raw_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

/* @d[0..n) as the first descriptors, head 0 posted: the device must end broken, and say so. */
static void expect_broken(uint64_t features, const struct raw_desc *d, unsigned int n)
{
	struct world w;
	struct drv_buf b;

	world_new(&w, &echo_ops, features, 16);
	b = (struct drv_buf){drv_alloc(&w.v, 64, 16), 64};
	CHECK_EQ(drv_post(&w.v, 0, &b, 1, 0, 0), 0);
	CHECK_EQ(gmem_write(w.m, w.v.q[0].desc, d, n * sizeof(*d)), 0);
	drv_kick(&w.v, 0);
	CHECK(!virtio_ready(&w.d));
	CHECK(w.d.status & VIRTIO_STATUS_NEEDS_RESET);
	CHECK_EQ(w.v.config_irqs, 1);
	CHECK_EQ(w.v.irqs, 0);
	/* It stands still until reset, and works after it. */
	virtio_kick(&w.d, 0);
	CHECK_EQ(w.v.config_irqs, 1);
	drv_start(&w.v, features, 16);
	CHECK(drv_post(&w.v, 0, &b, 1, 0, 0) >= 0);
	drv_kick(&w.v, 0);
	CHECK_EQ(w.v.irqs, 1);
	world_free(&w);
}

static void broken_chains(void)
{
	const uint64_t buf = 0x100000;
	const uint64_t ind = VIRTIO_F_INDIRECT_DESC;

	/* loop */
	expect_broken(0, (struct raw_desc[]){{buf, 1, 1, 0}}, 1);
	expect_broken(0, (struct raw_desc[]){{buf, 1, 1, 1}, {buf, 1, 1, 0}}, 2);
	/* next out of range, at n and far */
	expect_broken(0, (struct raw_desc[]){{buf, 1, 1, 16}}, 1);
	expect_broken(0, (struct raw_desc[]){{buf, 1, 1, 0xffff}}, 1);
	/* empty; outside memory by a byte, by all, wrapping */
	expect_broken(0, (struct raw_desc[]){{buf, 0, 0, 0}}, 1);
	expect_broken(0, (struct raw_desc[]){{RAM - 1, 2, 0, 0}}, 1);
	expect_broken(0, (struct raw_desc[]){{RAM, 1, 0, 0}}, 1);
	expect_broken(0, (struct raw_desc[]){{UINT64_MAX, 2, 0, 0}}, 1);
	expect_broken(0, (struct raw_desc[]){{buf, UINT32_MAX, 2, 0}}, 1);
	/* readable after writable */
	expect_broken(0, (struct raw_desc[]){{buf, 1, 1 | 2, 1}, {buf, 1, 0, 0}}, 2);
	/* indirect: not negotiated, chained, odd size, empty, outside */
	expect_broken(0, (struct raw_desc[]){{buf, 16, 4, 0}}, 1);
	expect_broken(ind, (struct raw_desc[]){{buf, 16, 4 | 1, 1}, {buf, 1, 0, 0}}, 2);
	expect_broken(ind, (struct raw_desc[]){{buf, 17, 4, 0}}, 1);
	expect_broken(ind, (struct raw_desc[]){{buf, 0, 4, 0}}, 1);
	expect_broken(ind, (struct raw_desc[]){{RAM - 8, 16, 4, 0}}, 1);
	/* indirect table of zeroes: an empty descriptor */
	expect_broken(ind, (struct raw_desc[]){{buf, 16, 4, 0}}, 1);
}

static void broken_indirect(void)
{
	const uint64_t features = VIRTIO_F_INDIRECT_DESC;
	struct raw_desc table[VQ_CHAIN_MAX + 1];
	struct world w;

	for (unsigned int max = 0; max < 3; max++) {
		unsigned int n = VQ_CHAIN_MAX + (max == 1);
		struct raw_desc d = {0x100000, n * 16, 4, 0};
		struct drv_buf b = {0x200000, 1};

		world_new(&w, &echo_ops, features, 16);
		for (unsigned int i = 0; i < n; i++)
			table[i] =
			    (struct raw_desc){0x200000, 1, i + 1 < n ? 1 : 0, (uint16_t)(i + 1)};
		if (max == 2)
			table[1].flags = 4; /* nested */
		CHECK_EQ(gmem_write(w.m, 0x100000, table, n * 16), 0);
		CHECK_EQ(drv_post(&w.v, 0, &b, 1, 0, 0), 0);
		CHECK_EQ(gmem_write(w.m, w.v.q[0].desc, &d, 16), 0);
		drv_kick(&w.v, 0);
		CHECK_EQ(virtio_ready(&w.d), max == 0); /* VQ_CHAIN_MAX parts are fine */
		world_free(&w);
	}
}

static void broken_rings(void)
{
	uint16_t idx = 17, head = 16;
	struct world w;

	/* avail.idx may be ahead by the queue's size, not by more */
	world_new(&w, &echo_ops, 0, 16);
	CHECK_EQ(gmem_write(w.m, w.v.q[0].avail + 2, &idx, 2), 0);
	virtio_kick(&w.d, 0);
	CHECK(!virtio_ready(&w.d));
	world_free(&w);

	world_new(&w, &echo_ops, 0, 16);
	idx = 1;
	CHECK_EQ(gmem_write(w.m, w.v.q[0].avail + 4, &head, 2), 0);
	CHECK_EQ(gmem_write(w.m, w.v.q[0].avail + 2, &idx, 2), 0);
	virtio_kick(&w.d, 0);
	CHECK(!virtio_ready(&w.d));
	world_free(&w);
}

static void bad_queue(uint16_t size, uint64_t desc, uint64_t avail, uint64_t used, bool ok)
{
	struct world w;

	world_new(&w, &echo_ops, 0, 16);
	virtio_set_status(&w.d, 0);
	w.d.q[0].size = size;
	w.d.q[0].desc = desc;
	w.d.q[0].avail = avail;
	w.d.q[0].used = used;
	virtio_enable_queue(&w.d, 0);
	CHECK_EQ(w.d.q[0].enabled, ok);
	CHECK_EQ((w.d.status & VIRTIO_STATUS_NEEDS_RESET) == 0, ok);
	world_free(&w);
}

static void bad_queues(void)
{
	bad_queue(256, 0x1000, 0x3000, 0x4000, true);
	bad_queue(512, 0x1000, 0x3000, 0x4000, false); /* larger than offered */
	bad_queue(0, 0x1000, 0x3000, 0x4000, false);
	bad_queue(24, 0x1000, 0x3000, 0x4000, false);
	bad_queue(16, 0x1008, 0x3000, 0x4000, false);
	bad_queue(16, 0x1000, 0x3001, 0x4000, false);
	bad_queue(16, 0x1000, 0x3000, 0x4002, false);
	bad_queue(16, RAM - 256, 0x3000, 0x4000, true);
	bad_queue(16, RAM - 240, 0x3000, 0x4000, false);
	bad_queue(16, 0x1000, RAM - 38, 0x4000, true);
	bad_queue(16, 0x1000, RAM - 36, 0x4000, false);
	bad_queue(16, 0x1000, 0x3000, RAM - 136, true);
	bad_queue(16, 0x1000, 0x3000, RAM - 132, false);
	bad_queue(16, UINT64_MAX - 15, 0x3000, 0x4000, false);
}

/* Features that were not offered are refused; DRIVER_OK alone starts nothing. */
static void negotiation(void)
{
	struct world w;

	world_new(&w, &echo_ops, 0, 16);
	virtio_set_status(&w.d, 0);
	w.d.features = VIRTIO_F_VERSION_1 | BIT(7);
	virtio_set_status(&w.d, 1 | 2 | VIRTIO_STATUS_FEATURES_OK);
	CHECK_EQ(w.d.status, 3);
	w.d.features = 0;
	virtio_set_status(&w.d, 1 | 2 | VIRTIO_STATUS_FEATURES_OK);
	CHECK_EQ(w.d.status, 3);
	virtio_set_status(&w.d, 1 | 2 | VIRTIO_STATUS_DRIVER_OK);
	CHECK(!virtio_ready(&w.d));
	w.d.features = VIRTIO_F_VERSION_1;
	virtio_set_status(&w.d, 1 | 2 | VIRTIO_STATUS_FEATURES_OK);
	virtio_set_status(&w.d, w.d.status | VIRTIO_STATUS_DRIVER_OK);
	CHECK(virtio_ready(&w.d));
	world_free(&w);
}

/* A push marks what it wrote, and the used ring, for the dirty log and for cached code. */
static void dirty_pages(void)
{
	uint64_t map[RAM / 4096 / 64];
	struct err e = {0};
	struct world w;
	struct drv_buf b[2] = {{0x100000, 100}, {0x200ff0, 0x2000}};
	uint32_t gen;

	world_new(&w, &echo_ops, 0, 16);
	gen = gmem_set_code(w.m, 0x201000);
	CHECK_EQ(gmem_log_start(w.m, &e), 0);
	CHECK_EQ(drv_post(&w.v, 0, b, 1, 1, 0), 0);
	drv_kick(&w.v, 0);
	gmem_log_harvest(w.m, 0, map);
	CHECK(map[0x200 / 64] & BIT(0));
	CHECK(map[0x201 / 64] & BIT(1)); /* bytes 16.. of the answer */
	CHECK(!(map[0x202 / 64] & BIT(2)));
	CHECK(map[w.v.q[0].used >> 12 >> 6] & BIT((w.v.q[0].used >> 12) % 64));
	CHECK(gmem_code_gen(w.m, 0x201000) != gen);
	world_free(&w);
}

/* Saved in the middle, loaded into another device over the same memory, it goes on. */
static void save_load(void)
{
	struct drv_buf b[2] = {{0x100000, 8}, {0x101000, 8}};
	autostrbuf struct strbuf out = {0};
	struct err e = {0};
	struct virtio_dev d2;
	struct world w;
	uint16_t head;
	uint32_t len;
	size_t used;

	world_new(&w, &echo_ops, VIRTIO_F_EVENT_IDX, 16);
	for (int i = 0; i < 5; i++)
		CHECK(drv_post(&w.v, 0, b, 1, 1, 0) >= 0);
	drv_kick(&w.v, 0);
	CHECK(drv_post(&w.v, 0, b, 1, 1, 0) >= 0);
	virtio_save(&w.d, &out);
	virtio_init(&d2, &echo_ops, w.m, 1, 256, 0, 0);
	CHECK_EQ(virtio_load(&d2, out.data, out.len, &used, &e), 0);
	CHECK_EQ(used, out.len);
	CHECK(virtio_load(&d2, out.data, out.len - 1, &used, &e) < 0);
	d2.transport = w.d.transport;
	virtio_kick(&d2, 0);
	for (int i = 0; i < 6; i++)
		CHECK(drv_used(&w.v, 0, &head, &len));
	CHECK(!drv_used(&w.v, 0, &head, &len));
	virtio_fini(&d2);
	world_free(&w);
}

static void iovecs(void)
{
	char a[8] = "abcdefg", buf[16];
	struct iovec iov[3] = {{a, 3}, {a + 3, 0}, {a + 3, 4}}, s[3];

	CHECK_EQ(iov_len(iov, 3), 7);
	CHECK_EQ(iov_to_buf(iov, 3, 2, buf, 16), 5);
	CHECK(memcmp(buf, "cdefg", 5) == 0);
	CHECK_EQ(iov_to_buf(iov, 3, 7, buf, 16), 0);
	CHECK_EQ(iov_from_buf(iov, 3, 6, "XY", 2), 1);
	CHECK_STR(a, "abcdefX");
	CHECK_EQ(iov_slice(s, 3, iov, 3, 1, 4), 2);
	CHECK(s[0].iov_base == a + 1 && s[0].iov_len == 2 && s[1].iov_len == 2);
	CHECK_EQ(iov_slice(s, 1, iov, 3, 1, 4), 1);
	CHECK_EQ(iov_slice(s, 3, iov, 3, 7, 4), 0);
}

int main(void)
{
	const uint64_t ind = VIRTIO_F_INDIRECT_DESC, ev = VIRTIO_F_EVENT_IDX;

	random_valid(0, 16, 1);
	random_valid(ind, 8, 2);
	random_valid(ev, 64, 3);
	random_valid(ind | ev, 256, 4);
	random_valid(ind | ev, 1, 5);
	two_threads(0);
	two_threads(ev);
	broken_chains();
	broken_indirect();
	broken_rings();
	bad_queues();
	negotiation();
	dirty_pages();
	save_load();
	iovecs();
	return 0;
}
