/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block/qcow2_cache.c - blocks of L2 tables and refcount blocks in memory, and their way to the
 *file
 *
 * A block is 4 KiB of a table (or a cluster, if that is smaller).  Blocks change in memory only;
 * q_commit takes a picture of all that changed and writes it in this order:
 *
 *	1  refcount blocks           counts of what is referred to below are never too low
 *	2  flush                     ... and the data is there, too
 *	3  L2 blocks; flush
 *	4  L1 sectors; flush         only when an L2 table is new
 *	5  freed clusters become free: nothing in the file refers to them any more
 *
 * So at every moment the file's refcounts are at least what its tables refer to: a power cut leaks
 * clusters at worst.  The picture is taken in one piece under `lock`, since a later allocation may
 * not slip into 3 without having been in 1.
 */
#include "block/qcow2_priv.h"

#include <errno.h>

#define MAX_PENDING_FREES 65536

/* --- a set of numbers --- */

static size_t slot_of(const struct q_set *s, uint64_t key)
{
	size_t i = (size_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (s->room - 1);

	while (s->slots[i] && s->slots[i] != key)
		i = (i + 1) & (s->room - 1);
	return i;
}

static int set_grow(struct q_set *s)
{
	struct q_set bigger = {.room = s->room ? s->room * 2 : 64, .n = s->n};

	bigger.slots = calloc(bigger.room, sizeof(*bigger.slots));
	if (!bigger.slots)
		return -ENOMEM;
	for (size_t i = 0; i < s->room; i++) {
		if (s->slots[i])
			bigger.slots[slot_of(&bigger, s->slots[i])] = s->slots[i];
	}
	free(s->slots);
	*s = bigger;
	return 0;
}

int q_set_add(struct q_set *s, uint64_t v)
{
	size_t i;

	if (s->n * 2 >= s->room) {
		int r = set_grow(s);

		if (r < 0)
			return r;
	}
	i = slot_of(s, v + 1);
	s->n += !s->slots[i];
	s->slots[i] = v + 1;
	return 0;
}

bool q_set_has(const struct q_set *s, uint64_t v)
{
	return s->n && s->slots[slot_of(s, v + 1)];
}

/* Closes the gap, so that what was pushed behind it is still found. */
void q_set_remove(struct q_set *s, uint64_t v)
{
	size_t i;

	if (!q_set_has(s, v))
		return;
	i = slot_of(s, v + 1);
	s->slots[i] = 0;
	s->n--;
	for (i = (i + 1) & (s->room - 1); s->slots[i]; i = (i + 1) & (s->room - 1)) {
		uint64_t key = s->slots[i];

		s->slots[i] = 0;
		s->slots[slot_of(s, key)] = key;
	}
}

void q_set_fini(struct q_set *s)
{
	free(s->slots);
	*s = (struct q_set){0};
}

/* --- blocks --- */

int q_cache_init(struct q_cache *c, size_t block_size, size_t bytes)
{
	*c = (struct q_cache){.block_size = block_size};
	c->max = (unsigned int)(bytes / block_size);
	c->n_buckets = 1;
	while (c->n_buckets < c->max)
		c->n_buckets *= 2;
	list_init(&c->lru);
	c->buckets = calloc(c->n_buckets, sizeof(struct q_block *));
	return c->buckets ? 0 : -ENOMEM;
}

static struct q_block **bucket_of(struct q_cache *c, uint64_t offset)
{
	uint64_t h = offset / c->block_size * UINT64_C(0x9e3779b97f4a7c15);

	return &c->buckets[(h >> 32) & (c->n_buckets - 1)];
}

static void block_free(struct q_cache *c, struct q_block *b)
{
	struct q_block **p = bucket_of(c, b->offset);

	while (*p != b)
		p = &(*p)->next;
	*p = b->next;
	list_remove(&b->lru);
	c->n--;
	c->n_dirty -= b->dirty;
	free(b->data);
	free(b);
}

void q_cache_fini(struct q_cache *c)
{
	while (c->buckets && !list_empty(&c->lru))
		block_free(c, container_of(c->lru.next, struct q_block, lru));
	free(c->buckets);
	c->buckets = NULL;
}

static struct q_block *find(struct q_cache *c, uint64_t offset)
{
	struct q_block *b = *bucket_of(c, offset);

	while (b && b->offset != offset)
		b = b->next;
	return b;
}

struct q_block *q_cache_get(struct qcow2 *q, enum q_type type, uint64_t offset)
{
	struct q_block *b = find(&q->cache, offset);

	/* A table that is an L2 table and a refcount block at once is nobody's work but a
	 * mutilator's; q_tables_load and q_resolve refuse it. */
	if (!b || b->type != type)
		return NULL;
	list_remove(&b->lru);
	list_append(&q->cache.lru, &b->lru);
	return b;
}

void q_cache_dirty(struct qcow2 *q, struct q_block *b)
{
	if (!b->dirty)
		q->cache.n_dirty++;
	b->dirty = true;
}

void q_cache_drop(struct qcow2 *q, uint64_t offset, uint64_t len)
{
	for (uint64_t at = 0; at < len; at += q->cache.block_size) {
		struct q_block *b = find(&q->cache, offset + at);

		if (b)
			block_free(&q->cache, b);
	}
}

/* lock held; false: all that is left is changed or in use. */
static bool evict(struct q_cache *c)
{
	struct list *p;

	list_for_each(p, &c->lru)
	{
		struct q_block *b = container_of(p, struct q_block, lru);

		if (!b->dirty && !b->pins) {
			block_free(c, b);
			return true;
		}
	}
	return false;
}

/* Makes room for one more; half of the cache may be changed before a commit is due. */
static int make_room(struct qcow2 *q)
{
	struct q_cache *c = &q->cache;
	bool full, room = true;
	int r;

	pthread_mutex_lock(&q->lock);
	full = c->n_dirty > c->max / 2;
	pthread_mutex_unlock(&q->lock);
	r = full ? q_commit(q) : 0;
	if (r < 0)
		return r;
	pthread_mutex_lock(&q->lock);
	if (c->n >= c->max)
		room = evict(c);
	pthread_mutex_unlock(&q->lock);
	/* Over the limit for a moment, if every block is pinned: requests in flight bound that. */
	(void)room;
	return 0;
}

int q_cache_load(struct qcow2 *q, enum q_type type, uint64_t offset)
{
	struct q_cache *c = &q->cache;
	struct q_block *b;
	int r = make_room(q);

	if (r < 0)
		return r;
	b = calloc(1, sizeof(*b));
	if (b)
		b->data = malloc(c->block_size);
	if (!b || !b->data) {
		free(b);
		return -ENOMEM;
	}
	b->offset = offset;
	b->type = type;
	r = q_pread(q, b->data, c->block_size, offset);
	pthread_mutex_lock(&q->lock);
	if (r == 0 && find(c, offset))
		r = find(c, offset)->type == type ? -EEXIST : -EIO;
	if (r == 0) {
		struct q_block **p = bucket_of(c, offset);

		b->next = *p;
		*p = b;
		list_append(&c->lru, &b->lru);
		c->n++;
	}
	pthread_mutex_unlock(&q->lock);
	if (r < 0) {
		free(b->data);
		free(b);
	}
	return r == -EEXIST ? 0 : r;
}

/* --- freed clusters --- */

void q_free_later(struct qcow2 *q, uint64_t first, uint64_t n)
{
	struct q_frees *f = &q->frees;
	struct q_free *last = f->n ? &f->ranges[f->n - 1] : NULL;

	if (last && last->first + last->n == first) {
		last->n += n;
		return;
	}
	if (f->n == f->room) {
		size_t room = f->room ? f->room * 2 : 256;
		struct q_free *bigger = realloc(f->ranges, room * sizeof(*bigger));

		if (!bigger)
			return; /* leaked, until the next repair */
		f->ranges = bigger;
		f->room = room;
	}
	f->ranges[f->n++] = (struct q_free){first, n};
}

bool q_is_dirty(const struct qcow2 *q)
{
	return q->cache.n_dirty || q->any_l1_dirty || q->frees.n;
}

/* --- commit --- */

struct picture {
	struct q_block **blocks;
	uint8_t *data;
	size_t n, n_ref; /* refcount blocks first */
	struct q_frees frees;
};

static int by_offset(const void *a, const void *b)
{
	const struct q_block *x = *(struct q_block *const *)a, *y = *(struct q_block *const *)b;

	if (x->type != y->type)
		return x->type == Q_REF ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* The blocks stay: only whoever holds `slow` evicts. */
static int take_picture(struct qcow2 *q, struct picture *p)
{
	struct q_cache *c = &q->cache;
	struct list *l;

	pthread_mutex_lock(&q->lock);
	p->blocks = calloc(c->n_dirty + 1, sizeof(struct q_block *));
	p->data = malloc(c->n_dirty * c->block_size + 1);
	if (!p->blocks || !p->data) {
		pthread_mutex_unlock(&q->lock);
		return -ENOMEM;
	}
	list_for_each(l, &c->lru)
	{
		struct q_block *b = container_of(l, struct q_block, lru);

		if (b->dirty) {
			p->blocks[p->n++] = b;
			p->n_ref += b->type == Q_REF;
		}
	}
	qsort(p->blocks, p->n, sizeof(struct q_block *), by_offset);
	for (size_t i = 0; i < p->n; i++) {
		memcpy(p->data + i * c->block_size, p->blocks[i]->data, c->block_size);
		p->blocks[i]->dirty = false;
	}
	c->n_dirty = 0;
	p->frees = q->frees;
	q->frees = (struct q_frees){0};
	pthread_mutex_unlock(&q->lock);
	return 0;
}

/* Not written: as if it had not been taken. */
static void give_back(struct qcow2 *q, struct picture *p)
{
	pthread_mutex_lock(&q->lock);
	for (size_t i = 0; i < p->n; i++)
		q_cache_dirty(q, p->blocks[i]);
	for (size_t i = 0; i < p->frees.n; i++)
		q_free_later(q, p->frees.ranges[i].first, p->frees.ranges[i].n);
	pthread_mutex_unlock(&q->lock);
}

/* Neighbours go in one write. */
static int write_blocks(struct qcow2 *q, const struct picture *p, size_t from, size_t to)
{
	size_t size = q->cache.block_size;

	while (from < to) {
		size_t n = 1;
		int r;

		while (from + n < to &&
		       p->blocks[from + n]->offset == p->blocks[from]->offset + n * size)
			n++;
		r = q_pwrite(q, p->data + from * size, n * size, p->blocks[from]->offset);
		if (r < 0)
			return r;
		from += n;
	}
	return 0;
}

static int write_l1(struct qcow2 *q)
{
	for (uint64_t s = 0; s * 64 < q->h.l1_size; s++) {
		uint64_t n = MIN((uint64_t)64, q->h.l1_size - s * 64), buf[64] = {0};
		int r;

		if (!q->l1_dirty[s])
			continue;
		for (uint64_t i = 0; i < n; i++)
			store_be64(&buf[i], q->l1[s * 64 + i]);
		r = q_pwrite(q, buf, n * 8, q->h.l1_offset + s * 512);
		if (r < 0)
			return r;
	}
	return q_sync(q);
}

static int write_picture(struct qcow2 *q, const struct picture *p)
{
	int r = write_blocks(q, p, 0, p->n_ref);

	if (r == 0)
		r = q_sync(q);
	if (r == 0 && p->n > p->n_ref) {
		r = write_blocks(q, p, p->n_ref, p->n);
		if (r == 0)
			r = q_sync(q);
	}
	if (r == 0 && q->any_l1_dirty)
		r = write_l1(q);
	if (r < 0)
		return r;
	pthread_mutex_lock(&q->lock);
	if (q->any_l1_dirty)
		memset(q->l1_dirty, 0, (q->h.l1_size + 63) / 64 * sizeof(bool));
	q->any_l1_dirty = false;
	pthread_mutex_unlock(&q->lock);
	return 0;
}

int q_commit(struct qcow2 *q)
{
	struct picture p = {0};
	int r = take_picture(q, &p);

	if (r == 0) {
		r = write_picture(q, &p);
		if (r < 0)
			give_back(q, &p);
	}
	/* A count that cannot be lowered now is a leak, not a failure of what was asked for. */
	for (size_t i = 0; r == 0 && i < p.frees.n; i++)
		(void)!q_refs_add(q, p.frees.ranges[i].first, p.frees.ranges[i].n, -1);
	free(p.blocks);
	free(p.data);
	free(p.frees.ranges);
	return r;
}
