/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/block/qcow2_test.c - what the tests of qcow2 images share
 */
#include "qcow2_test.h"

#include <errno.h>

/* --- a file in memory --- */

struct fake {
	struct blk blk;
	uint8_t *data;
	size_t len, room;
	struct fake_log *log;
	unsigned int fail; /* this many writes and flushes from now on, one fails */
	pthread_mutex_t lock;
};

static struct fake *fake_of(struct blk *b)
{
	return container_of(b, struct fake, blk);
}

static void note(struct fake *f, struct fake_event ev, const void *data)
{
	struct fake_log *g = f->log;

	if (!g)
		return;
	if (g->n == g->room) {
		g->room = g->room ? g->room * 2 : 256;
		g->events = realloc(g->events, g->room * sizeof(*g->events));
		CHECK(g->events);
	}
	if (data) {
		ev.data = malloc(ev.len + 1);
		memcpy(ev.data, data, ev.len);
	}
	g->events[g->n++] = ev;
}

/* lock held. */
static int grow(struct fake *f, uint64_t len)
{
	if (len > UINT64_C(1) << 31)
		return -EFBIG;
	if (len > f->room) {
		f->room = MAX(len, f->room * 2);
		f->data = realloc(f->data, f->room);
		CHECK(f->data);
	}
	if (len > f->len) {
		memset(f->data + f->len, 0, len - f->len);
		f->len = len;
	}
	return 0;
}

static int fake_read(struct blk *b, void *buf, size_t len, uint64_t off)
{
	struct fake *f = fake_of(b);
	size_t n;

	pthread_mutex_lock(&f->lock);
	n = off < f->len ? MIN(len, f->len - off) : 0;
	if (n)
		memcpy(buf, f->data + off, n);
	memset((char *)buf + n, 0, len - n);
	pthread_mutex_unlock(&f->lock);
	return 0;
}

/* lock held. */
static bool fails(struct fake *f)
{
	return f->fail && --f->fail == 0;
}

void fake_fail(struct blk *b, unsigned int n)
{
	fake_of(b)->fail = n;
}

bool fake_failed(struct blk *b)
{
	return !fake_of(b)->fail;
}

static int fake_write(struct blk *b, const void *buf, size_t len, uint64_t off)
{
	struct fake *f = fake_of(b);
	int r;

	pthread_mutex_lock(&f->lock);
	r = fails(f) ? -EIO : grow(f, off + len);
	if (r == 0) {
		memcpy(f->data + off, buf, len);
		note(f, (struct fake_event){FAKE_WRITE, off, len, NULL}, buf);
	}
	pthread_mutex_unlock(&f->lock);
	return r;
}

static int fake_flush(struct blk *b)
{
	struct fake *f = fake_of(b);

	int r;

	pthread_mutex_lock(&f->lock);
	r = fails(f) ? -EIO : 0;
	if (r == 0)
		note(f, (struct fake_event){.kind = FAKE_FLUSH}, NULL);
	pthread_mutex_unlock(&f->lock);
	return r;
}

static int fake_size(struct blk *b, uint64_t *ret)
{
	*ret = fake_of(b)->len;
	return 0;
}

static int fake_truncate(struct blk *b, uint64_t size)
{
	struct fake *f = fake_of(b);
	int r = 0;

	pthread_mutex_lock(&f->lock);
	if (size > f->len)
		r = grow(f, size);
	else
		f->len = size;
	note(f, (struct fake_event){.kind = FAKE_TRUNCATE, .len = size}, NULL);
	pthread_mutex_unlock(&f->lock);
	return r;
}

/* A hole may be there or not: here it is not, so that stale bytes show. */
static void fake_punch(struct blk *b, uint64_t off, uint64_t len)
{
}

static const struct blk_sync_ops fake_sync_ops = {
    .read = fake_read,
    .write = fake_write,
    .flush = fake_flush,
    .size = fake_size,
    .truncate = fake_truncate,
    .extend = fake_truncate,
    .punch = fake_punch,
};

static void fake_submit(struct blk *b, struct blk_req *r)
{
	uint64_t off = r->offset;
	int result = 0;

	if (r->op == BLK_FLUSH)
		result = fake_flush(b);
	for (unsigned int i = 0; i < r->n_iov && result == 0; i++) {
		if (r->op == BLK_READ)
			result = fake_read(b, r->iov[i].iov_base, r->iov[i].iov_len, off);
		else if (r->op == BLK_WRITE)
			result = fake_write(b, r->iov[i].iov_base, r->iov[i].iov_len, off);
		off += r->iov[i].iov_len;
	}
	blk_complete_later(b, r, result);
}

static void fake_poll(struct blk *b, int timeout_ms)
{
}

static void fake_close(struct blk *b)
{
	struct fake *f = fake_of(b);

	pthread_mutex_destroy(&f->lock);
	blk_fini(b);
	free(f->data);
	free(f);
}

static const struct blk_ops fake_ops = {
    .name = "fake",
    .submit = fake_submit,
    .poll = fake_poll,
    .close = fake_close,
    .sync = &fake_sync_ops,
};

struct blk *fake_new(struct loop *l, const void *data, size_t len, struct fake_log *log)
{
	struct fake *f = calloc(1, sizeof(*f));

	blk_init(&f->blk, &fake_ops, l);
	pthread_mutex_init(&f->lock, NULL);
	f->blk.info.size = INT64_MAX;
	f->blk.info.block_size = 1;
	CHECK_EQ(grow(f, len), 0);
	if (len)
		memcpy(f->data, data, len);
	f->log = log;
	return &f->blk;
}

const uint8_t *fake_data(struct blk *b, size_t *len)
{
	*len = fake_of(b)->len;
	return fake_of(b)->data;
}

void fake_mark(struct fake_log *g, uint64_t what)
{
	struct fake f = {.log = g};

	note(&f, (struct fake_event){.kind = FAKE_MARK, .off = what}, NULL);
}

void fake_log_fini(struct fake_log *g)
{
	for (size_t i = 0; i < g->n; i++)
		free(g->events[i].data);
	free(g->events);
	*g = (struct fake_log){0};
}

/* --- requests --- */

uint64_t test_random(void)
{
	static uint64_t seed = 42;

	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return seed * UINT64_C(0x2545f4914f6cdd1d);
}

struct once {
	struct blk_req req;
	bool over;
	int result;
};

static void once_done(struct blk_req *r, int result)
{
	struct once *o = container_of(r, struct once, req);

	CHECK(!o->over);
	o->over = true;
	o->result = result;
}

int test_io(struct blk *b, enum blk_op op, unsigned int flags, uint64_t off, void *buf,
	    uint64_t len)
{
	struct iovec iov = {buf, len};
	struct once o = {.req = {.op = op,
				 .flags = flags,
				 .offset = off,
				 .len = len,
				 .iov = &iov,
				 .n_iov = op == BLK_READ || op == BLK_WRITE,
				 .done = once_done}};

	blk_submit(b, &o.req);
	blk_drain(b);
	CHECK(o.over);
	return o.result;
}

struct blk *test_open(struct blk *file, unsigned int flags, struct loop *l)
{
	struct err e = {0};
	struct blk *b = NULL;
	int r = qcow2_new(file, "test", flags, l, &b, &e);

	if (r < 0)
		fprintf(stderr, "open: %s\n", e.msg);
	CHECK_EQ(r, 0);
	return b;
}

void test_check(struct blk *b, bool leaks_ok)
{
	struct qcow2_check c;
	struct err e = {0};
	int r = qcow2_check(b, false, &c, &e);

	if (r < 0 || c.corruptions || (c.leaks && !leaks_ok))
		fprintf(stderr, "check: %s; %llu corruptions, %llu leaks: %s\n", e.msg,
			(unsigned long long)c.corruptions, (unsigned long long)c.leaks, c.first);
	CHECK(r == 0 && !c.corruptions && (leaks_ok || !c.leaks));
}
