/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/balloon.c - memory balloon with statistics and free page reporting (virtio 1.2, 5.5)
 *
 * A page in the balloon is a hole in guest memory: it costs nothing and reads as zero when the
 * guest takes it back, so deflating needs no work.  What the driver claims is checked only for
 * being memory: a guest that gives away pages it still uses harms itself alone.
 */
#include "virtio/balloon.h"

#include "base/log.h"

#define QUEUE_SIZE 128
#define N_QUEUES   4

#define F_STATS_VQ       BIT(1)
#define F_DEFLATE_ON_OOM BIT(2)
#define F_REPORTING      BIT(5)

#define Q_INFLATE 0
#define Q_DEFLATE 1
#define Q_STATS   2 /* if negotiated; then reporting comes after it */

/* 5.5.4, without the fields of features not offered */
struct balloon_config {
	uint32_t num_pages, actual;
};

#define STAT_LEN  10 /* le16 tag, le64 value, packed (5.5.6.3) */
#define STATS_MAX 10

struct balloon {
	struct virtio_dev dev;
	struct balloon_config config;
	uint64_t stats[STATS_MAX]; /* by tag */
	/* The statistics buffer stays with us until we want new ones. */
	bool holding;
	struct vq_chain held;
};

static struct balloon *from_dev(struct virtio_dev *d)
{
	return container_of(d, struct balloon, dev);
}

#define PFNS 512

/* Page frame numbers in the driver's order; neighbours are given back together. */
static void inflate_some(struct balloon *b, const uint32_t *pfn, size_t n)
{
	for (size_t i = 0; i < n;) {
		size_t run = 1;

		while (i + run < n && pfn[i + run] == pfn[i] + run)
			run++;
		gmem_discard(b->dev.mem, (uint64_t)pfn[i] << GMEM_PAGE_SHIFT,
			     (uint64_t)run << GMEM_PAGE_SHIFT);
		i += run;
	}
}

/* The driver frees pages in descending order as often as not. */
static void reverse(uint32_t *pfn, size_t n)
{
	for (size_t i = 0; i < n / 2; i++) {
		uint32_t t = pfn[i];

		pfn[i] = pfn[n - 1 - i];
		pfn[n - 1 - i] = t;
	}
}

static void serve_inflate(struct balloon *b, struct vq *q)
{
	uint32_t pfn[PFNS];
	struct vq_chain c;

	while (vq_pop(q, &c)) {
		/* The driver sends 256 at most; bound the work for one that does not. */
		size_t n = iov_to_buf(c.out, c.n_out, 0, pfn, sizeof(pfn)) / sizeof(pfn[0]);

		if (n > 1 && pfn[0] > pfn[n - 1])
			reverse(pfn, n);
		inflate_some(b, pfn, n);
		vq_push(q, &c, 0);
	}
	vq_notify(q);
}

static void serve_deflate(struct vq *q)
{
	struct vq_chain c;

	while (vq_pop(q, &c))
		vq_push(q, &c, 0);
	vq_notify(q);
}

static void serve_reporting(struct balloon *b, struct vq *q)
{
	struct vq_chain c;

	while (vq_pop(q, &c)) {
		for (unsigned int i = 0; i < c.n_in; i++)
			gmem_discard(b->dev.mem, c.gpa[c.n_out + i], c.in[i].iov_len);
		vq_push(q, &c, 0);
	}
	vq_notify(q);
}

static void serve_stats(struct balloon *b, struct vq *q)
{
	struct vq_chain c;

	while (vq_pop(q, &c)) {
		uint8_t raw[STAT_LEN * STATS_MAX];
		size_t n = iov_to_buf(c.out, c.n_out, 0, raw, sizeof(raw)) / STAT_LEN;

		for (size_t i = 0; i < n; i++) {
			uint16_t tag = load_le16(raw + i * STAT_LEN);

			if (tag < STATS_MAX)
				b->stats[tag] = load_le64(raw + i * STAT_LEN + 2);
		}
		/* A second buffer is more than the protocol has: give the older one back. */
		if (b->holding)
			vq_push(q, &b->held, 0);
		vq_chain_copy(&b->held, &c);
		b->holding = true;
	}
}

static void balloon_kick(struct virtio_dev *d, struct vq *q)
{
	struct balloon *b = from_dev(d);
	bool stats = virtio_has(d, F_STATS_VQ);

	if (q->index == Q_INFLATE)
		serve_inflate(b, q);
	else if (q->index == Q_DEFLATE)
		serve_deflate(q);
	else if (stats && q->index == Q_STATS)
		serve_stats(b, q);
	else if (virtio_has(d, F_REPORTING) && q->index == Q_STATS + stats)
		serve_reporting(b, q);
}

static void balloon_config_read(struct virtio_dev *d, uint32_t off, void *buf, uint32_t len)
{
	memcpy(buf, (const char *)&from_dev(d)->config + off, len);
}

static void balloon_config_write(struct virtio_dev *d, uint32_t off, const void *buf, uint32_t len)
{
	struct balloon *b = from_dev(d);

	/* `actual` is the driver's, the target is not. */
	if (off >= offsetof(struct balloon_config, actual))
		memcpy((char *)&b->config + off, buf, len);
}

static void balloon_reset(struct virtio_dev *d)
{
	struct balloon *b = from_dev(d);

	b->holding = false;
	b->config.actual = 0;
	memset(b->stats, 0xff, sizeof(b->stats));
}

/* The buffer held goes back to the ring, where the restored machine finds it again. */
static void balloon_quiesce(struct virtio_dev *d)
{
	struct balloon *b = from_dev(d);

	if (b->holding)
		vq_unpop(&d->q[Q_STATS]);
	b->holding = false;
}

static void balloon_free(struct virtio_dev *d)
{
	virtio_fini(d);
	free(from_dev(d));
}

static const struct state_field balloon_fields[] = {
    STATE_FIELD(struct balloon, config.num_pages, 1),
    STATE_FIELD(struct balloon, config.actual, 1),
    STATE_ARRAY(struct balloon, stats, 1),
};

static const struct state_table balloon_table = {
    .name = "virtio-balloon",
    .version = 1,
    .fields = balloon_fields,
    .n_fields = ARRAY_SIZE(balloon_fields),
};

static const struct virtio_ops balloon_ops = {
    .name = "virtio-balloon",
    .id = 5,
    .kick = balloon_kick,
    .config_read = balloon_config_read,
    .config_write = balloon_config_write,
    .reset = balloon_reset,
    .quiesce = balloon_quiesce,
    .free = balloon_free,
    .state = &balloon_table,
};

struct virtio_dev *virtio_balloon_new(struct gmem *mem)
{
	struct balloon *b = xnew(struct balloon);

	virtio_init(&b->dev, &balloon_ops, mem, N_QUEUES, QUEUE_SIZE,
		    F_STATS_VQ | F_DEFLATE_ON_OOM | F_REPORTING, sizeof(b->config));
	memset(b->stats, 0xff, sizeof(b->stats));
	return &b->dev;
}

void balloon_set_target(struct virtio_dev *d, uint64_t bytes)
{
	uint64_t pages = MIN(bytes, d->mem->ram_size) >> GMEM_PAGE_SHIFT;

	virtio_lock(d);
	from_dev(d)->config.num_pages = (uint32_t)pages;
	virtio_config_changed(d);
	virtio_unlock(d);
}

uint64_t balloon_target(struct virtio_dev *d)
{
	uint64_t pages;

	virtio_lock(d);
	pages = from_dev(d)->config.num_pages;
	virtio_unlock(d);
	return pages << GMEM_PAGE_SHIFT;
}

uint64_t balloon_actual(struct virtio_dev *d)
{
	uint64_t pages;

	virtio_lock(d);
	pages = from_dev(d)->config.actual;
	virtio_unlock(d);
	return pages << GMEM_PAGE_SHIFT;
}

void balloon_stats(struct virtio_dev *d, struct balloon_stats *ret)
{
	struct balloon *b = from_dev(d);

	virtio_lock(d);
	*ret = (struct balloon_stats){
	    .swap_in = b->stats[0],
	    .swap_out = b->stats[1],
	    .major_faults = b->stats[2],
	    .minor_faults = b->stats[3],
	    .free = b->stats[4],
	    .total = b->stats[5],
	    .available = b->stats[6],
	    .caches = b->stats[7],
	    .hugetlb_allocations = b->stats[8],
	    .hugetlb_failures = b->stats[9],
	};
	if (b->holding) {
		b->holding = false;
		vq_push(&d->q[Q_STATS], &b->held, 0);
		vq_notify(&d->q[Q_STATS]);
	}
	virtio_unlock(d);
}
