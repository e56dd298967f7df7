/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/block/test_qcow2_cut.c - power cuts at every write and flush of a trace
 *
 * A trace of random operations on an image in memory notes every write and flush that reaches the
 * file.  Then, for each point of it, files are made as a power cut may leave them: all that was
 * flushed, and of each later write some sectors, in whatever order.  Every such file must open,
 * have no corruption, and each sector of the disk must hold what was flushed last or something
 * written since.
 */
#include "qcow2_test.h"

#include <errno.h>

#define SECTOR    512u
#define MAX_OPS   4000
#define MAX_DISK  2048 /* sectors */
#define N_SAVED   4
#define MAX_IMAGE (16u << 20) /* bytes */

static struct loop *l;

/* An operation's effect: sectors [first, end) get `id`, or their values in `values`. */
struct op {
	uint64_t first, end, id;
	uint64_t *values;
	bool maybe; /* a discard: what is no whole cluster stays */
};

/* What was on the disk when a flush was done, and how many operations were submitted by then. */
struct state {
	size_t n_ops;
	uint64_t values[MAX_DISK];
};

struct trace {
	struct fake_log log;
	struct op ops[MAX_OPS];
	size_t n, n_states;
	struct state *states;
	uint64_t sectors; /* of the disk */
	uint64_t now[MAX_DISK];
	uint8_t *start; /* the file before */
	size_t start_len;
	uint8_t *base;
	size_t base_len;
};

/* Marks in the log: MARK_OP n = operations [0, n) were submitted, MARK_SAFE n = state n is safe. */
#define MARK_OP   0
#define MARK_SAFE (UINT64_C(1) << 32)

static void submitted(struct trace *t, struct op op)
{
	CHECK(t->n < MAX_OPS);
	t->ops[t->n++] = op;
	for (uint64_t s = op.first; s < op.end && !op.maybe; s++)
		t->now[s] = op.values ? op.values[s] : op.id;
	fake_mark(&t->log, MARK_OP | t->n);
}

static void fill(uint8_t *buf, uint64_t sectors, uint64_t id)
{
	for (uint64_t i = 0; i < sectors * SECTOR; i += 8)
		store_le64(buf + i, id);
}

/* --- making the trace --- */

struct io {
	struct blk_req req;
	struct iovec iov;
	uint8_t *buf;
	bool over;
};

static void io_done(struct blk_req *r, int result)
{
	CHECK_EQ(result, 0);
	container_of(r, struct io, req)->over = true;
}

static void start_io(struct trace *t, struct blk *b, struct io *io, unsigned int lane,
		     unsigned int lanes)
{
	uint64_t width = blk_info(b)->size / SECTOR / lanes;
	uint64_t first = lane * width + test_random() % width;
	uint64_t n = 1 + test_random() % MIN(width - (first - lane * width), UINT64_C(60));
	unsigned int kind = (unsigned int)(test_random() % 8);
	struct op op = {.first = first, .end = first + n};

	io->over = false;
	io->req = (struct blk_req){
	    .op = BLK_WRITE, .offset = first * SECTOR, .len = n * SECTOR, .done = io_done};
	if (kind == 0) {
		io->req.op = BLK_DISCARD;
		op.maybe = true;
	} else if (kind == 1) {
		io->req.op = BLK_WRITE_ZEROES;
		io->req.flags = test_random() % 2 ? BLK_UNMAP : 0;
	} else {
		op.id = t->n + 1;
		fill(io->buf, n, op.id);
		io->iov = (struct iovec){io->buf, n * SECTOR};
		io->req.iov = &io->iov;
		io->req.n_iov = 1;
	}
	submitted(t, op);
	blk_submit(b, &io->req);
}

/* A discard's effect is known only when it is read. */
static void learn(struct trace *t, struct blk *b)
{
	uint8_t *buf = malloc(t->sectors * SECTOR);

	CHECK_EQ(test_io(b, BLK_READ, 0, 0, buf, t->sectors * SECTOR), 0);
	for (uint64_t s = 0; s < t->sectors; s++) {
		uint64_t v = load_le64(buf + s * SECTOR);

		CHECK(v == t->now[s] || v == 0);
		t->now[s] = v;
	}
	free(buf);
}

static void note_all(struct trace *t, const uint64_t *values)
{
	struct op op = {.end = t->sectors, .values = malloc(sizeof(t->now))};

	memcpy(op.values, values, sizeof(t->now));
	submitted(t, op);
}

static void safe(struct trace *t)
{
	t->states = realloc(t->states, (t->n_states + 1) * sizeof(*t->states));
	t->states[t->n_states].n_ops = t->n;
	memcpy(t->states[t->n_states].values, t->now, sizeof(t->now));
	fake_mark(&t->log, MARK_SAFE | t->n_states++);
}

static void snapshots(struct trace *t, struct blk *b, uint64_t saved[N_SAVED][MAX_DISK], bool *have)
{
	unsigned int i = (unsigned int)(test_random() % N_SAVED);
	char name[] = {(char)('a' + i), '\0'};
	struct err e = {0};

	if (!have[i]) {
		CHECK_EQ(qcow2_snapshot_create(b, name, &e), 0);
		memcpy(saved[i], t->now, sizeof(t->now));
		have[i] = true;
	} else if (test_random() % 2) {
		note_all(t, saved[i]);
		CHECK_EQ(qcow2_snapshot_apply(b, name, &e), 0);
	} else {
		CHECK_EQ(qcow2_snapshot_delete(b, name, &e), 0);
		have[i] = false;
	}
	safe(t);
}

static struct blk *open_base(const struct trace *t)
{
	struct blk *f = fake_new(l, t->base, t->base_len, NULL);

	f->info.size = t->base_len;
	return f;
}

static void make_trace(struct trace *t, const struct qcow2_options *o, unsigned int batches,
		       bool with_snapshots)
{
	static uint64_t saved[N_SAVED][MAX_DISK];
	bool have[N_SAVED] = {false};
	struct blk *file = fake_new(l, NULL, 0, NULL), *b;
	struct io ios[4];
	struct err e = {0};

	CHECK_EQ(qcow2_create(file, o, &e), 0);
	t->sectors = o->size / SECTOR;
	t->start = malloc(MAX_IMAGE);
	{
		const uint8_t *data = fake_data(file, &t->start_len);

		memcpy(t->start, data, t->start_len);
	}
	blk_close(file);
	file = fake_new(l, t->start, t->start_len, &t->log);
	if (o->backing) {
		t->base_len = o->size / 2;
		t->base = malloc(t->base_len);
		for (uint64_t s = 0; s < t->base_len / SECTOR; s++) {
			t->now[s] = 1000000 + s;
			fill(t->base + s * SECTOR, 1, t->now[s]);
		}
	}
	note_all(t, t->now);
	safe(t);
	b = test_open(file, 0, l);
	if (o->backing)
		qcow2_set_backing(b, open_base(t));
	for (unsigned int i = 0; i < 4; i++)
		ios[i].buf = malloc(60 * SECTOR);
	for (unsigned int round = 0; round < batches; round++) {
		unsigned int lanes = 1 + (unsigned int)(test_random() % 4);

		for (unsigned int i = 0; i < lanes; i++)
			start_io(t, b, &ios[i], i, lanes);
		blk_drain(b);
		learn(t, b);
		if (test_random() % 3 == 0) {
			CHECK_EQ(test_io(b, BLK_FLUSH, 0, 0, NULL, 0), 0);
			safe(t);
		}
		if (with_snapshots && test_random() % 6 == 0)
			snapshots(t, b, saved, have);
	}
	for (unsigned int i = 0; i < 4; i++)
		free(ios[i].buf);
	test_check(b, false);
	blk_close(b);
}

/* --- cuts --- */

static bool may_hold(const struct trace *t, uint64_t s, uint64_t v, const uint64_t *safe_values,
		     size_t from, size_t to)
{
	if (v == safe_values[s])
		return true;
	for (size_t i = from; i < to; i++) {
		const struct op *op = &t->ops[i];

		if (s >= op->first && s < op->end && v == (op->values ? op->values[s] : op->id))
			return true;
	}
	return false;
}

static void verify(const struct trace *t, const uint8_t *image, size_t len,
		   const uint64_t *safe_values, size_t from, size_t to, size_t event)
{
	struct blk *b =
	    test_open(fake_new(l, image, len, NULL), event % 2 ? QCOW2_READ_ONLY : 0, l);
	static uint8_t buf[MAX_DISK * SECTOR];

	if (t->base)
		qcow2_set_backing(b, open_base(t));
	test_check(b, true);
	CHECK_EQ(test_io(b, BLK_READ, 0, 0, buf, t->sectors * SECTOR), 0);
	for (uint64_t s = 0; s < t->sectors; s++) {
		const uint8_t *p = buf + s * SECTOR;
		uint64_t v = load_le64(p);

		if (memcmp(p, p + 8, SECTOR - 8) != 0 ||
		    !may_hold(t, s, v, safe_values, from, to)) {
			fprintf(stderr,
				"cut after event %zu: sector %" PRIu64 " has %" PRIu64
				", safe was %" PRIu64 " (operations %zu to %zu since)\n",
				event, s, v, safe_values[s], from, to);
			exit(1);
		}
	}
	blk_close(b);
}

static void apply(uint8_t *image, size_t *len, const struct fake_event *ev, uint64_t at, uint64_t n)
{
	CHECK(ev->off + at + n <= MAX_IMAGE);
	if (ev->off + at + n > *len) {
		memset(image + *len, 0, ev->off + at + n - *len);
		*len = ev->off + at + n;
	}
	memcpy(image + ev->off + at, ev->data + at, n);
}

/* Some sectors of the writes since the last flush: each on its own, or whole writes. */
static void cut(const struct trace *t, const uint8_t *stable, size_t stable_len, size_t from,
		size_t to, unsigned int how, uint8_t *image, size_t *len)
{
	memcpy(image, stable, stable_len);
	*len = stable_len;
	for (size_t i = from; i < to; i++) {
		const struct fake_event *ev = &t->log.events[i];
		uint64_t n;

		if (ev->kind != FAKE_WRITE || (how == 1 && test_random() % 2))
			continue;
		for (uint64_t at = 0; at < ev->len; at += n) {
			n = MIN(SECTOR - (ev->off + at) % SECTOR, ev->len - at);
			if (how != 2 || test_random() % 2)
				apply(image, len, ev, at, n);
		}
	}
}

static size_t try_cuts(const struct trace *t)
{
	uint8_t *stable = calloc(1, MAX_IMAGE), *image = calloc(1, MAX_IMAGE);
	const struct state *safe = NULL;
	size_t stable_len = t->start_len, flushed = 0, to = 0, cuts = 0;

	memcpy(stable, t->start, t->start_len);
	for (size_t k = 0; k < t->log.n; k++) {
		const struct fake_event *ev = &t->log.events[k];

		if (ev->kind == FAKE_MARK && (ev->off & MARK_SAFE)) {
			safe = &t->states[ev->off & UINT32_MAX];
			continue;
		}
		if (ev->kind == FAKE_MARK) {
			to = ev->off & UINT32_MAX;
			continue;
		}
		for (unsigned int how = 0; how < 4; how++) {
			size_t len;

			cut(t, stable, stable_len, flushed, k + 1, how ? (how + 1) / 2 : 0, image,
			    &len);
			verify(t, image, len, safe->values, safe->n_ops, to, k);
			cuts++;
		}
		if (ev->kind == FAKE_FLUSH) {
			for (; flushed <= k; flushed++) {
				const struct fake_event *w = &t->log.events[flushed];

				if (w->kind == FAKE_WRITE)
					apply(stable, &stable_len, w, 0, w->len);
			}
		}
	}
	free(stable);
	free(image);
	return cuts;
}

static void one(struct qcow2_options o, unsigned int batches, bool with_snapshots)
{
	struct trace *t = calloc(1, sizeof(*t));
	size_t cuts;

	o.size = MAX_DISK * SECTOR / (o.cluster_bits < 12 ? 4 : 1);
	make_trace(t, &o, batches, with_snapshots);
	cuts = try_cuts(t);
	printf("version %u, clusters of %u, %s%s: %zu operations, %zu cuts\n", o.version,
	       1u << o.cluster_bits, o.backing ? "backing file" : "no backing file",
	       with_snapshots ? ", snapshots" : "", t->n, cuts);
	for (size_t i = 0; i < t->n; i++)
		free(t->ops[i].values);
	fake_log_fini(&t->log);
	free(t->states);
	free(t->start);
	free(t->base);
	free(t);
}

int main(int argc, char **argv)
{
	unsigned int batches = argc > 1 ? (unsigned int)strtoul(argv[1], NULL, 10) : 60;
	struct err e = {0};

	CHECK_EQ(loop_new(&l, &e), 0);
	for (unsigned int version = 2; version <= 3; version++) {
		for (unsigned int bits = 9; bits <= 16; bits += bits == 9 ? 3 : 4) {
			struct qcow2_options o = {
			    .version = version, .cluster_bits = bits, .refcount_order = 4};

			one(o, batches, false);
			one(o, batches, true);
			o.backing = "base";
			one(o, batches, true);
		}
	}
	loop_free(l);
	return 0;
}
