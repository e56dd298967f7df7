/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/tlb.c - the soft TLB: linear page -> host page, with rights
 */
#include "engine/interp/interp.h"

#include <stdatomic.h>

#define PAGE_MASK (~UINT64_C(0xfff))

static unsigned int tlb_index(uint64_t lin)
{
	return (lin >> 12) & (TLB_SIZE - 1);
}

static void tlb_wipe(struct ivcpu *v)
{
	memset(v->tlb_sets, 0xff, sizeof(v->tlb_sets));
	v->tlb_gen = 1;
}

void tlb_flush_all(struct ivcpu *v)
{
	/* Write entries may have hidden writes to a page that became code meanwhile. */
	if (v->requests & IREQ_FLUSH_WRITES)
		serve_requests(v);
	v->tlb_n_large = 0;
	if (v->tlb_gen == 0 || v->tlb_gen == TLB_GEN_MAX)
		tlb_wipe(v);
	else
		v->tlb_gen++;
}

/* An entry is about to go, and with it the trace of writes through it. */
static void entry_drop(struct tlb_entry *e)
{
	e->tag[ACC_READ] = e->tag[ACC_WRITE] = e->tag[ACC_EXEC] = TLB_NO_TAG;
}

void tlb_flush_page(struct ivcpu *v, uint64_t lin)
{
	if (v->requests & IREQ_FLUSH_WRITES)
		serve_requests(v);
	for (unsigned int i = 0; i < v->tlb_n_large; i++) {
		if ((lin & v->tlb_large[i].mask) == v->tlb_large[i].base) {
			tlb_flush_all(v);
			return;
		}
	}
	for (unsigned int set = 0; set < TLB_SETS; set++)
		entry_drop(&v->tlb_sets[set][tlb_index(lin)]);
}

/* Remembers that [lin, lin+size) is one mapping.  When the list is full, the neighbour that grows
 * least takes it in: flushing too much is slow, never wrong. */
static void note_large(struct ivcpu *v, uint64_t lin, uint64_t size)
{
	uint64_t mask = ~(size - 1), best_mask = 0;
	unsigned int best = 0;

	for (unsigned int i = 0; i < v->tlb_n_large; i++) {
		if ((lin & v->tlb_large[i].mask) == v->tlb_large[i].base)
			return;
	}
	if (v->tlb_n_large < TLB_LARGE) {
		v->tlb_large[v->tlb_n_large].base = lin & mask;
		v->tlb_large[v->tlb_n_large++].mask = mask;
		return;
	}
	for (unsigned int i = 0; i < TLB_LARGE; i++) {
		uint64_t m = mask & v->tlb_large[i].mask;

		while ((lin ^ v->tlb_large[i].base) & m)
			m <<= 1;
		if (m >= best_mask) {
			best_mask = m;
			best = i;
		}
	}
	v->tlb_large[best].mask = best_mask;
	v->tlb_large[best].base &= best_mask;
}

void tlb_drop_writes(struct ivcpu *v, uint64_t pa)
{
	for (unsigned int set = 0; set < TLB_SETS; set++) {
		for (unsigned int i = 0; i < TLB_SIZE; i++) {
			if (v->tlb_pa[set][i] == (pa & PAGE_MASK))
				v->tlb_sets[set][i].tag[ACC_WRITE] = TLB_NO_TAG;
		}
	}
}

/*
 * Another vCPU marked pages as code while we may have been writing to them through entries made
 * before: what we can't know we assume, so the pages' code counts as changed.  Entries of past
 * generations count too.
 */
void tlb_sync_writes(struct ivcpu *v)
{
	struct gmem *m = v->vcpu.en->mem;

	for (unsigned int set = 0; set < TLB_SETS; set++) {
		for (unsigned int i = 0; i < TLB_SIZE; i++) {
			struct tlb_entry *e = &v->tlb_sets[set][i];

			if (e->tag[ACC_WRITE] == TLB_NO_TAG || !gmem_code_gen(m, v->tlb_pa[set][i]))
				continue;
			e->tag[ACC_WRITE] = TLB_NO_TAG;
			gmem_bump_code(m, v->tlb_pa[set][i]);
		}
	}
}

static void tlb_enter(struct ivcpu *v, enum tlb_set set, uint64_t lin, enum access acc,
		      const struct mmu_result *r, const struct gmem_slot *s, uint8_t *host_page)
{
	uint64_t pa = r->pa & PAGE_MASK, tag = (lin & PAGE_MASK) | v->tlb_gen;
	struct tlb_entry *e = &v->tlb_sets[set][tlb_index(lin)];
	uintptr_t addend = (uintptr_t)host_page - (lin & PAGE_MASK);
	uint64_t *entry_pa = &v->tlb_pa[set][tlb_index(lin)];

	if (acc != ACC_EXEC && v->slow_data)
		return;
	if (e->addend != addend || *entry_pa != pa ||
	    (e->tag[ACC_READ] != tag && e->tag[ACC_EXEC] != tag))
		entry_drop(e);
	e->addend = addend;
	*entry_pa = pa;
	if (r->page > GMEM_PAGE_SIZE)
		note_large(v, lin, r->page);
	if (acc == ACC_EXEC || r->exec)
		e->tag[ACC_EXEC] = tag;
	/* Code need not be readable: SMAP. */
	if (acc == ACC_EXEC || v->slow_data)
		return;
	e->tag[ACC_READ] = tag;
	/* While dirty pages are logged every write takes the slow path. */
	if ((acc == ACC_WRITE || r->write) && !(s->flags & GMEM_ROM) && !s->dirty &&
	    !gmem_code_gen(v->vcpu.en->mem, pa))
		e->tag[ACC_WRITE] = tag;
}

void *tlb_fill_set(struct ivcpu *v, enum tlb_set set, uint64_t lin, enum access acc, uint64_t *pa)
{
	const struct gmem_slot *s;
	struct mmu_result r;
	uint32_t error;
	uint8_t *page;

	if (v->requests & IREQ_FLUSH_WRITES)
		serve_requests(v);
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
	return page + (lin & 0xfff);
}

void *tlb_fill(struct ivcpu *v, uint64_t lin, enum access acc, uint64_t *pa)
{
	return tlb_fill_set(v, v->tlb_set, lin, acc, pa);
}
