/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest/gmem.c - guest physical memory
 */
#include "guest/gmem.h"

#include "base/hugemem.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define FOUR_GIB BIT(32)
#define ONE_MIB  BIT(20)
#define LOW_RAM  UINT64_C(0xa0000)

static uint64_t slot_pages(const struct gmem_slot *s)
{
	return s->size >> GMEM_PAGE_SHIFT;
}

/* Of @gpa in @s, read once: a view may move under a device's thread, and whoever checks the offset
 * against the size is safe then. */
static uint64_t slot_off(const struct gmem_slot *s, uint64_t gpa)
{
	return gpa - __atomic_load_n(&s->gpa, __ATOMIC_RELAXED);
}

const struct gmem_slot *gmem_slot(const struct gmem *m, uint64_t gpa)
{
	for (unsigned int i = 0; i < m->n_slots; i++) {
		const struct gmem_slot *s = &m->slots[i];

		if (slot_off(s, gpa) < s->size && !(s->flags & GMEM_HIDDEN))
			return s;
	}
	return NULL;
}

bool gmem_overlaps(const struct gmem *m, uint64_t gpa, uint64_t size)
{
	for (unsigned int i = 0; i < m->n_slots; i++) {
		const struct gmem_slot *s = &m->slots[i];

		if (!(s->flags & GMEM_HIDDEN) && gpa < s->gpa + s->size && s->gpa < gpa + size)
			return true;
	}
	return false;
}

static void slot_fini(struct gmem_slot *s)
{
	if (s->hva && !(s->flags & GMEM_VIEW))
		munmap(s->hva, s->size);
	free((void *)s->code_gen);
	free((void *)s->dirty);
}

/*
 * RAM is sparse: the host gives pages as the guest touches them, huge ones where it can.  Private
 * anonymous memory, since few hosts allow huge pages for shared one, and without them a guest with
 * a big working set waits for the host's TLB.  Aligned, so that all of it can be huge.
 */
static int slot_back(struct gmem_slot *s, struct err *e)
{
	s->hva = huge_table(s->size);
	if (!s->hva)
		return err_set(e, -errno, "guest memory of %llu MiB",
			       (unsigned long long)(s->size >> 20));
	return 0;
}

static int slot_marks(struct gmem_slot *s, struct err *e)
{
	s->code_gen = calloc(slot_pages(s), sizeof(*s->code_gen));
	return s->code_gen ? 0 : err_set(e, -ENOMEM, "guest memory: code marks");
}

int gmem_add(struct gmem *m, uint64_t gpa, uint64_t size, unsigned int flags, struct err *e)
{
	struct gmem_slot *s;
	int r;

	if (!size || ((gpa | size) & (GMEM_PAGE_SIZE - 1)) || gpa + size < gpa)
		return err_msg(e, -EINVAL, "guest memory: 0x%llx+0x%llx is not page-aligned",
			       (unsigned long long)gpa, (unsigned long long)size);
	if (m->n_slots == GMEM_MAX_SLOTS)
		return err_msg(e, -ENOSPC, "guest memory: more than %d slots", GMEM_MAX_SLOTS);
	if (gmem_overlaps(m, gpa, size))
		return err_msg(e, -EEXIST, "guest memory: 0x%llx is mapped already",
			       (unsigned long long)gpa);
	s = &m->slots[m->n_slots];
	*s = (struct gmem_slot){.gpa = gpa, .size = size, .flags = flags};
	r = slot_back(s, e);
	if (r == 0)
		r = slot_marks(s, e);
	if (r < 0) {
		slot_fini(s);
		return r;
	}
	m->n_slots++;
	m->epoch++;
	if (!(flags & GMEM_ROM))
		m->ram_size += size;
	return 0;
}

int gmem_new(uint64_t size, uint64_t low_top, struct gmem **ret, struct err *e)
{
	struct gmem *m = xnew(struct gmem);
	int r = gmem_add(m, 0, MIN(size, low_top), 0, e);

	if (r == 0 && size > low_top)
		r = gmem_add(m, FOUR_GIB, size - low_top, 0, e);
	if (r < 0) {
		gmem_free(m);
		return r;
	}
	*ret = m;
	return 0;
}

int gmem_new_pc(uint64_t size, uint64_t low_top, struct gmem **ret, struct err *e)
{
	struct gmem *m = xnew(struct gmem);
	/* Most of the RAM first: slots are looked up in order. */
	int r = gmem_add(m, ONE_MIB, MIN(size, low_top) - ONE_MIB, 0, e);

	if (r == 0 && size > low_top)
		r = gmem_add(m, FOUR_GIB, size - low_top, 0, e);
	if (r == 0)
		r = gmem_add(m, 0, LOW_RAM, 0, e);
	if (r < 0) {
		gmem_free(m);
		return r;
	}
	*ret = m;
	return 0;
}

/* --- views --- */

int gmem_add_view(struct gmem *m, uint64_t size, uint8_t *hva, unsigned int *slot, struct err *e)
{
	struct gmem_slot *s = &m->slots[m->n_slots];
	int r;

	if (m->n_slots == GMEM_MAX_SLOTS)
		return err_msg(e, -ENOSPC, "guest memory: more than %d slots", GMEM_MAX_SLOTS);
	*s = (struct gmem_slot){.size = size, .hva = hva, .flags = GMEM_VIEW | GMEM_HIDDEN};
	r = slot_marks(s, e);
	if (r < 0)
		return r;
	*slot = m->n_slots++;
	return 0;
}

void gmem_show(struct gmem *m, unsigned int slot, uint64_t gpa, uint8_t *hva, unsigned int flags)
{
	struct gmem_slot *s = &m->slots[slot];

	flags |= GMEM_VIEW;
	if (s->gpa == gpa && s->hva == hva && s->flags == flags)
		return;
	__atomic_store_n(&s->gpa, gpa, __ATOMIC_RELAXED);
	__atomic_store_n(&s->hva, hva, __ATOMIC_RELAXED);
	s->flags = flags;
	m->epoch++;
	gmem_dirty(m, gpa, s->size); /* what was cached of it is another memory's */
}

void gmem_hide(struct gmem *m, unsigned int slot)
{
	struct gmem_slot *s = &m->slots[slot];

	if (s->flags & GMEM_HIDDEN)
		return;
	gmem_dirty(m, s->gpa, s->size);
	s->flags = GMEM_VIEW | GMEM_HIDDEN;
	m->epoch++;
}

void gmem_free(struct gmem *m)
{
	if (!m)
		return;
	for (unsigned int i = 0; i < m->n_slots; i++)
		slot_fini(&m->slots[i]);
	free(m);
}

void *gmem_ptr(const struct gmem *m, uint64_t gpa, uint64_t len)
{
	const struct gmem_slot *s = gmem_slot(m, gpa);
	uint64_t off = s ? slot_off(s, gpa) : 0;

	if (!s || !range_ok(off, len, s->size))
		return NULL;
	return __atomic_load_n(&s->hva, __ATOMIC_RELAXED) + off;
}

/* The part of [gpa, gpa+len) that lies in the slot of @gpa; NULL when there is none. */
static uint8_t *piece(const struct gmem *m, uint64_t gpa, size_t len, size_t *n)
{
	const struct gmem_slot *s = gmem_slot(m, gpa);
	uint64_t off = s ? slot_off(s, gpa) : 0;

	if (!s || off >= s->size)
		return NULL;
	*n = (size_t)MIN((uint64_t)len, s->size - off);
	return __atomic_load_n(&s->hva, __ATOMIC_RELAXED) + off;
}

/* All of it is memory (@write: that may be written), in one slot or in neighbours. */
static bool covered(const struct gmem *m, uint64_t gpa, size_t len, bool write)
{
	do {
		const struct gmem_slot *s = gmem_slot(m, gpa);
		size_t n = 0;

		if (!s || (write && (s->flags & GMEM_ROM)) || !piece(m, gpa, len, &n))
			return false;
		gpa += n;
		len -= n;
	} while (len);
	return true;
}

int gmem_read(const struct gmem *m, uint64_t gpa, void *buf, size_t len)
{
	if (!covered(m, gpa, len, false))
		return -EFAULT;
	for (size_t done = 0, n; done < len; done += n) {
		const uint8_t *p = piece(m, gpa + done, len - done, &n);

		if (!p)
			return -EFAULT; /* hidden since */
		memcpy((uint8_t *)buf + done, p, n);
	}
	return 0;
}

int gmem_load(struct gmem *m, uint64_t gpa, const void *buf, size_t len)
{
	if (!covered(m, gpa, len, false))
		return -EFAULT;
	for (size_t done = 0, n; done < len; done += n) {
		uint8_t *p = piece(m, gpa + done, len - done, &n);

		if (!p)
			return -EFAULT;
		memcpy(p, (const uint8_t *)buf + done, n);
		gmem_dirty(m, gpa + done, n);
	}
	return 0;
}

int gmem_write(struct gmem *m, uint64_t gpa, const void *buf, size_t len)
{
	return covered(m, gpa, len, true) ? gmem_load(m, gpa, buf, len) : -EFAULT;
}

void gmem_on_code_change(struct gmem *m, void (*changed)(void *arg, uint64_t gpa), void *arg)
{
	m->code_changed = changed;
	m->code_changed_arg = arg;
}

static void page_written(struct gmem *m, struct gmem_slot *s, uint64_t page)
{
	uint32_t gen = s->code_gen[page];

	if (s->dirty)
		s->dirty[page / 64] |= BIT(page % 64);
	while (gen & GMEM_CODE_MARK) {
		if (atomic_compare_exchange_weak(&s->code_gen[page], &gen,
						 (gen + 1) & ~GMEM_CODE_MARK)) {
			if (m->code_changed)
				m->code_changed(m->code_changed_arg,
						s->gpa + (page << GMEM_PAGE_SHIFT));
			break;
		}
	}
}

void gmem_dirty(struct gmem *m, uint64_t gpa, uint64_t len)
{
	struct gmem_slot *s = (struct gmem_slot *)gmem_slot(m, gpa);
	uint64_t off = s ? slot_off(s, gpa) : 0, first, last;

	if (!s || !len || !range_ok(off, len, s->size))
		return;
	first = off >> GMEM_PAGE_SHIFT;
	last = (off + len - 1) >> GMEM_PAGE_SHIFT;
	for (uint64_t page = first; page <= last; page++)
		page_written(m, s, page);
}

void gmem_discard(struct gmem *m, uint64_t gpa, uint64_t len)
{
	const struct gmem_slot *s = gmem_slot(m, gpa);
	uint64_t first, end;

	if (!s || (s->flags & (GMEM_ROM | GMEM_VIEW)) || !range_ok(gpa - s->gpa, len, s->size))
		return;
	first = ALIGN_UP(gpa - s->gpa, GMEM_PAGE_SIZE);
	end = ALIGN_DOWN(gpa - s->gpa + len, GMEM_PAGE_SIZE);
	if (first >= end)
		return;
	/* A host that refuses keeps the memory, which is no harm. */
	if (madvise(s->hva + first, end - first, MADV_DONTNEED) == 0)
		gmem_dirty(m, s->gpa + first, end - first);
}

static _Atomic uint32_t *code_word(const struct gmem *m, uint64_t gpa)
{
	const struct gmem_slot *s = gmem_slot(m, gpa);

	uint64_t off = s ? slot_off(s, gpa) : 0;

	return s && off < s->size ? &s->code_gen[off >> GMEM_PAGE_SHIFT] : NULL;
}

uint32_t gmem_set_code(struct gmem *m, uint64_t gpa)
{
	_Atomic uint32_t *word = code_word(m, gpa);

	return word ? atomic_fetch_or(word, GMEM_CODE_MARK) | GMEM_CODE_MARK : GMEM_CODE_MARK;
}

const _Atomic uint32_t *gmem_code_word(const struct gmem *m, uint64_t gpa)
{
	return code_word(m, gpa);
}

uint32_t gmem_code_gen(const struct gmem *m, uint64_t gpa)
{
	const _Atomic uint32_t *word = code_word(m, gpa);
	uint32_t gen = word ? *word : 0;

	return gen & GMEM_CODE_MARK ? gen : 0;
}

void gmem_bump_code(struct gmem *m, uint64_t gpa)
{
	gmem_dirty(m, gpa, 1);
}

int gmem_log_start(struct gmem *m, struct err *e)
{
	for (unsigned int i = 0; i < m->n_slots; i++) {
		struct gmem_slot *s = &m->slots[i];

		if (s->dirty)
			continue;
		s->dirty = calloc((slot_pages(s) + 63) / 64, sizeof(*s->dirty));
		if (!s->dirty) {
			gmem_log_stop(m);
			return err_set(e, -ENOMEM, "dirty log");
		}
	}
	m->epoch++;
	return 0;
}

void gmem_log_stop(struct gmem *m)
{
	for (unsigned int i = 0; i < m->n_slots; i++) {
		free((void *)m->slots[i].dirty);
		m->slots[i].dirty = NULL;
	}
	m->epoch++;
}

void gmem_log_harvest(struct gmem *m, unsigned int slot, uint64_t *bitmap)
{
	struct gmem_slot *s = &m->slots[slot];
	uint64_t words = (slot_pages(s) + 63) / 64;

	for (uint64_t i = 0; i < words; i++)
		bitmap[i] = __atomic_exchange_n((uint64_t *)&s->dirty[i], 0, __ATOMIC_SEQ_CST);
}
