/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bus/bus.c - port and MMIO dispatch
 *
 * Each space keeps its regions in rank order and, made from them, a flat view: sorted ranges that
 * do not overlap, each with the region that wins there.  A lookup is a binary search in the view
 * under a read lock, which is let go before the device is called; the region's `busy` count is what
 * bus_remove waits for.  Changes rebuild the view: rare, and a machine has some dozens of regions.
 */
#include "bus/bus.h"

#include "base/strbuf.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <time.h>

#define PIO_LAST UINT64_C(0xffff)

struct range {
	uint64_t first, last;
	struct bus_region *r;
};

struct space {
	struct bus_region **regions; /* best rank first */
	size_t n_regions;
	struct range *view;
	size_t n_view;
	uint64_t last; /* highest address */
};

struct bus {
	pthread_rwlock_t lock;
	struct space space[2];
	uint64_t seq;
};

/* Callbacks the current thread is in, innermost first. */
struct call {
	const struct bus_region *r;
	struct call *outer;
};

static _Thread_local struct call *calls;

int bus_new(struct bus **ret)
{
	struct bus *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	pthread_rwlock_init(&b->lock, NULL);
	b->space[BUS_MMIO].last = UINT64_MAX;
	b->space[BUS_PIO].last = PIO_LAST;
	*ret = b;
	return 0;
}

void bus_free(struct bus *b)
{
	if (!b)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(b->space); i++) {
		free(b->space[i].regions);
		free(b->space[i].view);
	}
	pthread_rwlock_destroy(&b->lock);
	free(b);
}

/* --- the flat view --- */

/* Last address of @r in its space; only for regions with a place in it. */
static uint64_t region_last(const struct space *s, const struct bus_region *r)
{
	return r->size - 1 > s->last - r->base ? s->last : r->base + r->size - 1;
}

static bool region_visible(const struct space *s, const struct bus_region *r)
{
	return r->size != 0 && r->base <= s->last;
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static struct bus_region *winner_at(const struct space *s, uint64_t addr)
{
	for (size_t i = 0; i < s->n_regions; i++) {
		struct bus_region *r = s->regions[i];

		if (region_visible(s, r) && addr >= r->base && addr <= region_last(s, r))
			return r;
	}
	return NULL;
}

/* Between two neighbouring points where some region starts or ends, the winner is the same. */
static void space_rebuild(struct space *s)
{
	uint64_t *points = xcalloc(2 * s->n_regions + 1, sizeof(*points));
	size_t n = 0;

	free(s->view);
	s->view = xcalloc(2 * s->n_regions + 1, sizeof(*s->view));
	s->n_view = 0;
	for (size_t i = 0; i < s->n_regions; i++) {
		const struct bus_region *r = s->regions[i];

		if (!region_visible(s, r))
			continue;
		points[n++] = r->base;
		if (region_last(s, r) < s->last)
			points[n++] = region_last(s, r) + 1;
	}
	qsort(points, n, sizeof(*points), compare_u64);
	for (size_t i = 0; i < n; i++) {
		uint64_t last = i + 1 < n ? points[i + 1] - 1 : s->last;
		struct bus_region *r;

		if (i + 1 < n && points[i] == points[i + 1])
			continue;
		r = winner_at(s, points[i]);
		if (!r)
			continue;
		if (s->n_view && s->view[s->n_view - 1].r == r &&
		    s->view[s->n_view - 1].last + 1 == points[i])
			s->view[s->n_view - 1].last = last;
		else
			s->view[s->n_view++] = (struct range){points[i], last, r};
	}
	free(points);
}

static bool ranks_before(const struct bus_region *a, const struct bus_region *b)
{
	return a->priority != b->priority ? a->priority > b->priority : a->seq > b->seq;
}

void bus_add(struct bus *b, struct bus_region *r)
{
	struct space *s = &b->space[r->space];
	struct bus_region **grown = xcalloc(s->n_regions + 1, sizeof(struct bus_region *));
	size_t at = 0;

	pthread_rwlock_wrlock(&b->lock);
	assert(!r->mapped);
	r->seq = ++b->seq;
	r->mapped = true;
	r->busy = 0;
	while (at < s->n_regions && ranks_before(s->regions[at], r))
		at++;
	if (s->n_regions) {
		memcpy(grown, s->regions, at * sizeof(*grown));
		memcpy(grown + at + 1, s->regions + at, (s->n_regions - at) * sizeof(*grown));
	}
	grown[at] = r;
	free(s->regions);
	s->regions = grown;
	s->n_regions++;
	space_rebuild(s);
	pthread_rwlock_unlock(&b->lock);
}

void bus_move(struct bus *b, struct bus_region *r, uint64_t base, uint64_t size)
{
	pthread_rwlock_wrlock(&b->lock);
	assert(r->mapped);
	if (r->base != base || r->size != size) {
		r->base = base;
		r->size = size;
		space_rebuild(&b->space[r->space]);
	}
	pthread_rwlock_unlock(&b->lock);
}

void bus_remove(struct bus *b, struct bus_region *r)
{
	struct space *s = &b->space[r->space];
	unsigned int own = 0;
	size_t at = 0;

	pthread_rwlock_wrlock(&b->lock);
	while (at < s->n_regions && s->regions[at] != r)
		at++;
	if (at < s->n_regions) {
		s->n_regions--;
		memmove(s->regions + at, s->regions + at + 1,
			(s->n_regions - at) * sizeof(*s->regions));
		r->mapped = false;
		space_rebuild(s);
	}
	pthread_rwlock_unlock(&b->lock);

	for (const struct call *c = calls; c; c = c->outer)
		own += c->r == r;
	while (r->busy > own)
		nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

bool bus_is_alone(struct bus *b, const struct bus_region *r)
{
	const struct space *s = &b->space[r->space];
	bool alone = false;

	pthread_rwlock_rdlock(&b->lock);
	for (size_t i = 0; i < s->n_view && !alone; i++)
		alone = s->view[i].r == r && s->view[i].first == r->base &&
			s->view[i].last == region_last(s, r);
	pthread_rwlock_unlock(&b->lock);
	return alone;
}

/* --- accesses ----------------------------------------------------------------------------------
 */

/* The region that answers at @addr, marked busy, and how far it (or the gap, for NULL) reaches. */
static struct bus_region *region_get(struct bus *b, enum bus_space space, uint64_t addr,
				     uint64_t *off, uint64_t *room)
{
	struct space *s = &b->space[space];
	struct bus_region *r = NULL;
	size_t lo = 0, hi;

	pthread_rwlock_rdlock(&b->lock);
	hi = s->n_view;
	while (lo < hi) { /* the first range that ends at or after @addr */
		size_t mid = lo + (hi - lo) / 2;

		if (s->view[mid].last < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < s->n_view && s->view[lo].first <= addr) {
		r = s->view[lo].r;
		r->busy++;
		*off = addr - r->base;
		*room = region_last(s, r) - addr;
	} else {
		*room = (lo < s->n_view ? s->view[lo].first - 1 : s->last) - addr;
	}
	pthread_rwlock_unlock(&b->lock);
	if (*room != UINT64_MAX)
		++*room;
	return r;
}

static uint64_t size_mask(unsigned int size)
{
	return size >= 8 ? UINT64_MAX : (UINT64_C(1) << (8 * size)) - 1;
}

static unsigned int max_size(const struct bus_region *r)
{
	if (r->ops->max)
		return r->ops->max;
	return r->space == BUS_PIO ? 4 : 8;
}

/* The largest naturally aligned power of two that fits. */
static unsigned int chunk_size(const struct bus_region *r, uint64_t off, uint64_t left)
{
	unsigned int n = max_size(r);

	while (n > left || (off & (n - 1)))
		n /= 2;
	return n;
}

static uint64_t region_read(struct bus_region *r, uint64_t off, unsigned int size)
{
	unsigned int min = r->ops->min ? r->ops->min : 1;
	uint64_t v;

	if (!r->ops->read)
		return UINT64_MAX;
	if (size < min) {
		uint64_t start = ALIGN_DOWN(off, (uint64_t)min);

		v = r->ops->read(r->opaque, start, min);
		return v >> (8 * (off - start));
	}
	v = r->ops->read(r->opaque, off, size);
	return v;
}

static void region_write(struct bus_region *r, uint64_t off, unsigned int size, uint64_t v)
{
	if (r->ops->write && size >= r->ops->min)
		r->ops->write(r->opaque, off, size, v);
}

/* One part of an access, inside one region; *@v is read or written. */
static void region_access(struct bus_region *r, uint64_t off, unsigned int size, bool write,
			  uint64_t *v)
{
	struct call call = {r, calls};

	calls = &call;
	if (r->lock)
		pthread_mutex_lock(r->lock);
	if (write)
		region_write(r, off, size, *v & size_mask(size));
	else
		*v = region_read(r, off, size) & size_mask(size);
	if (r->lock)
		pthread_mutex_unlock(r->lock);
	calls = call.outer;
}

static uint64_t access_bus(struct bus *b, enum bus_space space, uint64_t addr, unsigned int size,
			   bool write, uint64_t value)
{
	uint64_t ret = 0;
	unsigned int done = 0;

	assert(size >= 1 && size <= 8);
	while (done < size) {
		uint64_t at = addr + done, off = 0, room, v;
		unsigned int n = size - done;
		struct bus_region *r = NULL;

		if (space == BUS_PIO)
			at &= PIO_LAST;
		r = region_get(b, space, at, &off, &room);
		n = (unsigned int)MIN((uint64_t)n, room);
		if (r) {
			n = chunk_size(r, off, n);
			v = value >> (8 * done);
			region_access(r, off, n, write, &v);
			r->busy--;
		} else {
			v = size_mask(n);
		}
		ret |= v << (8 * done);
		done += n;
	}
	return ret & size_mask(size);
}

uint64_t bus_read(struct bus *b, enum bus_space space, uint64_t addr, unsigned int size)
{
	return access_bus(b, space, addr, size, false, 0);
}

void bus_write(struct bus *b, enum bus_space space, uint64_t addr, unsigned int size,
	       uint64_t value)
{
	access_bus(b, space, addr, size, true, value);
}

void bus_dump(struct bus *b, struct strbuf *out)
{
	pthread_rwlock_rdlock(&b->lock);
	for (size_t i = 0; i < ARRAY_SIZE(b->space); i++) {
		const struct space *s = &b->space[i];

		for (size_t j = 0; j < s->n_view; j++)
			strbuf_printf(out, "%s %0*" PRIx64 "-%0*" PRIx64 " %s\n",
				      i == BUS_PIO ? "pio " : "mmio", i == BUS_PIO ? 4 : 16,
				      s->view[j].first, i == BUS_PIO ? 4 : 16, s->view[j].last,
				      s->view[j].r->name);
	}
	pthread_rwlock_unlock(&b->lock);
}
