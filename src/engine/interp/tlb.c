/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/tlb.c - the soft TLB: linear page -> host page, with rights
 *
 * What hangs on CR3 is in a slot for each of the last PCIDs (SDM vol. 3, 4.10.1): the user set, the
 * supervisor set for EFLAGS.AC = 1 (which is for access to user pages), and the jump cache of user
 * code.  The supervisor set proper is one for all.  Flushing more than was asked for is slow, never
 * wrong; flushing less is wrong.
 *
 * Flushing a set costs what was in it: the indices in use are listed.
 */
#include "engine/interp/hot.h"

#include "engine/jit/jit.h"
#include "engine/jit/lockstep.h"

#include <stdatomic.h>

#define PAGE_MASK (~UINT64_C(0xfff))

/* --- one set --- */

static void entry_drop(struct tlb *t, unsigned int i)
{
	t->tag[ACC_READ][i] = t->tag[ACC_WRITE][i] = t->tag[ACC_EXEC][i] = TLB_NONE;
}

static void set_fill(struct tlb *t)
{
	for (unsigned int i = 0; i < TLB_SIZE; i++)
		entry_drop(t, i);
}

static void set_wipe(struct tlb *t)
{
	if (t->n_used <= TLB_USED) {
		for (unsigned int k = 0; k < t->n_used; k++)
			entry_drop(t, t->used[k]);
	} else {
		set_fill(t);
	}
	t->n_used = 0;
	t->n_large = 0;
}

/* Minus the tag of whatever access an entry is for; TLB_NONE if it is empty. */
static uint64_t entry_page(const struct tlb *t, unsigned int i)
{
	for (unsigned int acc = 0; acc < 3; acc++) {
		if (t->tag[acc][i] != TLB_NONE)
			return -t->tag[acc][i];
	}
	return TLB_NONE;
}

static void note_used(struct tlb *t, unsigned int i)
{
	if (t->n_used < TLB_USED)
		t->used[t->n_used] = (uint16_t)i;
	if (t->n_used <= TLB_USED)
		t->n_used++;
}

/* Remembers that [lin, lin+size) is one mapping.  When the list is full, the neighbour that grows
 * least takes it in. */
static void note_large(struct tlb *t, uint64_t lin, uint64_t size)
{
	uint64_t mask = ~(size - 1), best_mask = 0;
	unsigned int best = 0;

	for (unsigned int i = 0; i < t->n_large; i++) {
		if ((lin & t->large[i].mask) == t->large[i].base)
			return;
	}
	if (t->n_large < TLB_LARGE) {
		t->large[t->n_large].base = lin & mask;
		t->large[t->n_large++].mask = mask;
		return;
	}
	for (unsigned int i = 0; i < TLB_LARGE; i++) {
		uint64_t m = mask & t->large[i].mask;

		while ((lin ^ t->large[i].base) & m)
			m <<= 1;
		if (m >= best_mask) {
			best_mask = m;
			best = i;
		}
	}
	t->large[best].mask = best_mask;
	t->large[best].base &= best_mask;
}

static void drop_range(struct tlb *t, uint64_t base, uint64_t mask)
{
	uint64_t pages = -mask >> GMEM_PAGE_SHIFT;
	bool few = pages <= 512, all = t->n_used > TLB_USED;
	unsigned int n = few ? (unsigned int)pages : all ? TLB_SIZE : t->n_used;

	for (unsigned int k = 0; k < n; k++) {
		unsigned int i = few ? tlb_index(base) + k : all ? k : t->used[k];

		i &= TLB_SIZE - 1;
		if ((entry_page(t, i) & mask) == base)
			entry_drop(t, i);
	}
}

/* True when the page is part of a large mapping, all of which goes. */
static bool set_drop_page(struct tlb *t, uint64_t lin)
{
	bool large = false;

	for (unsigned int k = 0; k < t->n_large; k++) {
		if ((lin & t->large[k].mask) != t->large[k].base)
			continue;
		large = true;
		drop_range(t, t->large[k].base, t->large[k].mask);
	}
	entry_drop(t, tlb_index(lin));
	return large;
}

/* --- all sets --- */

static void serve_first(struct ivcpu *v)
{
	/* Write entries may have hidden writes to a page that became code meanwhile. */
	if (v->requests & IREQ_FLUSH_WRITES)
		serve_requests(v);
}

/* A slot that was never used costs no memory. */
static void slot_begin(struct ivcpu *v, unsigned int k)
{
	struct as_slot *s = v->as_state[k].slot;

	if (!v->as_state[k].begun) {
		set_fill(&s->user);
		set_fill(&s->ac);
	}
	v->as_state[k].begun = true;
}

static void slot_wipe(struct ivcpu *v, unsigned int k)
{
	struct as_slot *s = v->as_state[k].slot;

	if (!v->as_state[k].begun)
		return;
	set_wipe(&s->user);
	set_wipe(&s->ac);
	jumps_wipe(&s->jumps);
}

static void kernel_jumps_wipe(struct ivcpu *v)
{
	jumps_wipe(&v->kernel_jumps);
	jumps_wipe(&v->ac_jumps);
}

static void super_wipe(struct ivcpu *v)
{
	set_wipe(&v->super);
	kernel_jumps_wipe(v);
	v->n_local = 0;
	v->local_code = false;
}

/* Entries that are not global. */
static void super_wipe_local(struct ivcpu *v)
{
	if (v->n_local > ARRAY_SIZE(v->local)) {
		super_wipe(v);
		return;
	}
	for (unsigned int k = 0; k < v->n_local; k++)
		entry_drop(&v->super, v->local[k]);
	if (v->local_code)
		kernel_jumps_wipe(v);
	v->n_local = 0;
	v->local_code = false;
}

static void note_local(struct ivcpu *v, unsigned int i, bool code)
{
	v->local_code |= code;
	if (v->n_local && v->n_local <= ARRAY_SIZE(v->local) && v->local[v->n_local - 1] == i)
		return;
	if (v->n_local < ARRAY_SIZE(v->local))
		v->local[v->n_local] = (uint16_t)i;
	if (v->n_local <= ARRAY_SIZE(v->local))
		v->n_local++;
}

static void local_wipe(struct ivcpu *v, unsigned int k)
{
	slot_wipe(v, k);
	super_wipe_local(v);
}

void tlb_select(struct ivcpu *v)
{
	struct as_slot *s = v->as_slot;

	v->tlb = v->tlb_set == TLB_USER ? &s->user : v->tlb_set == TLB_SUPER ? &v->super : &s->ac;
}

void tlb_flush_all(struct ivcpu *v)
{
	serve_first(v);
	for (unsigned int k = 0; k < AS_SLOTS; k++)
		slot_wipe(v, k);
	super_wipe(v);
	v->low_global = false;
}

void tlb_flush_local(struct ivcpu *v)
{
	serve_first(v);
	for (unsigned int k = 0; k < AS_SLOTS; k++)
		slot_wipe(v, k);
	super_wipe_local(v);
}

static void drop_page(struct ivcpu *v, unsigned int k, uint64_t lin)
{
	struct as_slot *s = v->as_state[k].slot;

	if (!v->as_state[k].begun)
		return;
	(void)set_drop_page(&s->ac, lin);
	if (set_drop_page(&s->user, lin))
		jumps_wipe(&s->jumps);
	else
		jumps_drop_page(&s->jumps, lin);
}

static void super_drop_page(struct ivcpu *v, uint64_t lin)
{
	if (set_drop_page(&v->super, lin)) {
		kernel_jumps_wipe(v);
		return;
	}
	jumps_drop_page(&v->kernel_jumps, lin);
	jumps_drop_page(&v->ac_jumps, lin);
}

void tlb_flush_page(struct ivcpu *v, uint64_t lin)
{
	serve_first(v);
	super_drop_page(v, lin);
	if (!(lin >> 63) && !v->low_global) {
		drop_page(v, v->as, lin);
		return;
	}
	for (unsigned int k = 0; k < AS_SLOTS; k++)
		drop_page(v, k, lin);
}

static unsigned int slot_of(const struct ivcpu *v, uint16_t pcid)
{
	for (unsigned int k = 0; k < AS_SLOTS; k++) {
		if (v->as_state[k].valid && v->as_state[k].pcid == pcid)
			return k;
	}
	return AS_SLOTS;
}

void tlb_switch(struct ivcpu *v, uint16_t pcid, bool keep)
{
	unsigned int k = slot_of(v, pcid);

	serve_first(v);
	if (k == AS_SLOTS) {
		k = 0;
		for (unsigned int i = 1; i < AS_SLOTS; i++) {
			if (v->as_state[i].stamp < v->as_state[k].stamp)
				k = i;
		}
		slot_begin(v, k);
		v->as_state[k].valid = true;
		v->as_state[k].pcid = pcid;
		keep = false;
	}
	if (!keep)
		slot_wipe(v, k);
	if (!keep || k != v->as)
		super_wipe_local(v);
	v->as_state[k].stamp = ++v->as_clock;
	v->as = k;
	v->as_slot = v->as_state[k].slot;
	tlb_select(v);
}

void tlb_flush_pcid(struct ivcpu *v, uint16_t pcid)
{
	unsigned int k = slot_of(v, pcid);

	serve_first(v);
	if (k < AS_SLOTS)
		local_wipe(v, k);
}

void tlb_flush_pcid_page(struct ivcpu *v, uint16_t pcid, uint64_t lin)
{
	unsigned int k = slot_of(v, pcid);

	serve_first(v);
	if (k == AS_SLOTS)
		return;
	drop_page(v, k, lin);
	if (k == v->as)
		super_drop_page(v, lin);
}

/* --- write entries and code --- */

static uint64_t written_bit(struct ivcpu *v, uint64_t pa, uint64_t **word)
{
	uint64_t h = (pa >> 12) * UINT64_C(0x9e3779b97f4a7c15) >> 48;

	*word = &v->written[h / 64];
	return BIT(h % 64);
}

static void note_written(struct ivcpu *v, uint64_t pa)
{
	uint64_t *word, bit = written_bit(v, pa, &word);

	*word |= bit;
}

static bool maybe_written(struct ivcpu *v, uint64_t pa)
{
	uint64_t *word, bit = written_bit(v, pa, &word);

	return *word & bit;
}

/* Calls @drop for each write entry, and takes those away for which it says so. */
static void each_write(struct ivcpu *v, bool (*drop)(struct ivcpu *v, uint64_t pa, uint64_t arg),
		       uint64_t arg)
{
	struct tlb *sets[2 * AS_SLOTS + 1] = {&v->super};
	unsigned int n = 1;

	for (unsigned int k = 0; k < AS_SLOTS; k++) {
		sets[n++] = &v->as_state[k].slot->user;
		sets[n++] = &v->as_state[k].slot->ac;
	}
	memset(v->written, 0, sizeof(v->written));
	while (n--) {
		struct tlb *t = sets[n];
		bool all = t->n_used > TLB_USED;

		for (unsigned int k = 0; k < (all ? TLB_SIZE : t->n_used); k++) {
			unsigned int i = all ? k : t->used[k];

			if (t->tag[ACC_WRITE][i] == TLB_NONE)
				continue;
			if (drop(v, t->pa[i], arg))
				t->tag[ACC_WRITE][i] = TLB_NONE;
			else
				note_written(v, t->pa[i]);
		}
	}
}

static bool is_page(struct ivcpu *v, uint64_t pa, uint64_t page)
{
	return pa == page;
}

void tlb_drop_writes(struct ivcpu *v, uint64_t pa)
{
	pa &= PAGE_MASK;
	if (maybe_written(v, pa))
		each_write(v, is_page, pa);
}

static bool became_code(struct ivcpu *v, uint64_t pa, uint64_t arg)
{
	struct gmem *m = v->vcpu.en->mem;

	if (!gmem_code_gen(m, pa))
		return false;
	gmem_bump_code(m, pa);
	return true;
}

/*
 * Another vCPU marked pages as code while we may have been writing to them through entries made
 * before: what we can't know we assume, so the pages' code counts as changed.
 */
void tlb_sync_writes(struct ivcpu *v)
{
	struct interp *in = vcpu_interp(v);
	uint64_t pages[ARRAY_SIZE(v->sync_pa)];
	unsigned int n;
	bool any;

	pthread_mutex_lock(&in->lock);
	n = v->n_sync;
	memcpy(pages, v->sync_pa, sizeof(pages));
	v->n_sync = 0;
	pthread_mutex_unlock(&in->lock);
	any = n > ARRAY_SIZE(pages);
	for (unsigned int k = 0; k < n && !any; k++)
		any = maybe_written(v, pages[k]);
	if (any)
		each_write(v, became_code, 0);
}

/* --- filling --- */

static void tlb_enter(struct ivcpu *v, enum tlb_set set, uint64_t lin, enum access acc,
		      const struct mmu_result *r, const struct gmem_slot *s, uint8_t *host_page)
{
	struct as_slot *as = v->as_slot;
	struct tlb *t = set == TLB_SUPER ? &v->super : set == TLB_USER ? &as->user : &as->ac;
	uint64_t pa = r->pa & PAGE_MASK, tag = -(lin & PAGE_MASK);
	unsigned int i = tlb_index(lin);
	uint64_t addend = (uintptr_t)host_page - (lin & PAGE_MASK) + TLB_BIAS;

	if (acc != ACC_EXEC && v->slow_data)
		return;
	if (entry_page(t, i) == TLB_NONE)
		note_used(t, i);
	else if (t->addend[i] != addend || t->pa[i] != pa || entry_page(t, i) != -tag)
		entry_drop(t, i);
	t->addend[i] = addend;
	t->pa[i] = pa;
	if (set == TLB_SUPER && !r->global)
		note_local(v, i, acc == ACC_EXEC || r->exec);
	else if (set != TLB_SUPER && r->global && !(lin >> 63))
		v->low_global = true;
	if (r->page > GMEM_PAGE_SIZE)
		note_large(t, lin, r->page);
	if (acc == ACC_EXEC || r->exec)
		t->tag[ACC_EXEC][i] = tag;
	/* Code need not be readable: SMAP. */
	if (acc == ACC_EXEC || v->slow_data)
		return;
	t->tag[ACC_READ][i] = tag;
	/* While dirty pages are logged every write takes the slow path. */
	if ((acc == ACC_WRITE || r->write) && !(s->flags & GMEM_ROM) && !s->dirty &&
	    !gmem_code_gen(v->vcpu.en->mem, pa)) {
		t->tag[ACC_WRITE][i] = tag;
		note_written(v, pa);
	}
}

void *tlb_fill_set(struct ivcpu *v, enum tlb_set set, uint64_t lin, enum access acc, uint64_t *pa)
{
	const struct gmem_slot *s;
	struct mmu_result r;
	uint32_t error;
	uint8_t *page;

	serve_first(v);
	if (!mmu_walk(v, lin, acc, set, &r, &error)) {
		v->c.cr2 = lin;
		raise_fault_error(v, VEC_PF, error);
	}
	*pa = r.pa;
	s = gmem_slot(v->vcpu.en->mem, r.pa);
	if (!s)
		return NULL;
	page = s->hva + ((r.pa & PAGE_MASK) - s->gpa);
	tlb_enter(v, set, lin, acc, &r, s, page);
	if (unlikely(v->lockstep))
		page = lockstep_page(v, set, lin, acc, page, r.pa);
	return page + (lin & 0xfff);
}

void *tlb_fill(struct ivcpu *v, uint64_t lin, enum access acc, uint64_t *pa)
{
	return tlb_fill_set(v, v->tlb_set, lin, acc, pa);
}

void tlb_init(struct ivcpu *v)
{
	set_fill(&v->super);
	slot_begin(v, 0);
	v->as_slot = v->as_state[0].slot;
	v->as_state[0].valid = true;
	tlb_select(v);
}

void tlb_restart(struct ivcpu *v)
{
	const struct cpu *c = &v->c;
	bool tagged = (c->efer & EFER_LMA) && (c->cr4 & CR4_PCIDE);

	tlb_flush_all(v);
	for (unsigned int k = 0; k < AS_SLOTS; k++)
		v->as_state[k].valid = k == v->as;
	v->as_state[v->as].pcid = tagged ? c->cr3 & 0xfff : 0;
}
