/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/mmu.c - walks the guest's page tables (SDM vol. 3, chapter 4)
 *
 * Three formats: 32-bit (two levels, 4-byte entries, PSE and PSE-36), PAE (the four PDPTEs are
 * registers, then two levels) and 4-level.  Accessed bits are set on the way down, those of the
 * leaf (with dirty) only when the access is allowed; a lost race against another processor starts
 * the walk again.
 */
#include "engine/interp/sys.h"

#define PTE_P  BIT(0)
#define PTE_RW BIT(1)
#define PTE_US BIT(2)
#define PTE_A  BIT(5)
#define PTE_D  BIT(6)
#define PTE_PS BIT(7)
#define PTE_G  BIT(8)
#define PTE_NX BIT(63)

#define PHYS_MASK (BIT(CPU_PHYS_BITS) - 1)
#define ADDR_MASK (PHYS_MASK & ~UINT64_C(0xfff))

/* Bits of the #PF error code. */
#define PF_P    0x01u
#define PF_W    0x02u
#define PF_U    0x04u
#define PF_RSVD 0x08u
#define PF_I    0x10u

struct entry {
	uint64_t value;
	void *host; /* NULL: not memory, or ROM */
	uint64_t pa;
	unsigned int size;
};

struct walk {
	struct gmem *mem;
	const struct cpu *c;
	uint64_t lin;
	enum access acc;
	enum tlb_set set;
	uint64_t rights; /* PTE_RW and PTE_US: and of all levels; PTE_NX: or */
	uint32_t error;
};

enum walk_result { WALK_OK, WALK_FAULT, WALK_RETRY };

static struct entry entry_load(struct walk *w, uint64_t pa, unsigned int size)
{
	const struct gmem_slot *s = gmem_slot(w->mem, pa);
	struct entry e = {.value = ~UINT64_C(0), .pa = pa, .size = size};

	if (s && range_ok(pa - s->gpa, size, s->size)) {
		void *p = s->hva + (pa - s->gpa);

		if (size == 8)
			e.value = __atomic_load_n((uint64_t *)p, __ATOMIC_ACQUIRE);
		else
			e.value = __atomic_load_n((uint32_t *)p, __ATOMIC_ACQUIRE);
		e.host = s->flags & GMEM_ROM ? NULL : p;
	} else if (size == 4) {
		e.value = UINT32_MAX;
	}
	return e;
}

/* False when someone else changed the entry meanwhile. */
static bool entry_set(struct walk *w, struct entry *e, uint64_t bits)
{
	uint64_t old = e->value;

	if ((old & bits) == bits)
		return true;
	if (e->host && e->size == 8) {
		if (!__atomic_compare_exchange_n((uint64_t *)e->host, &old, old | bits, false,
						 __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			return false;
	} else if (e->host) {
		uint32_t old32 = (uint32_t)old;

		if (!__atomic_compare_exchange_n((uint32_t *)e->host, &old32,
						 old32 | (uint32_t)bits, false, __ATOMIC_SEQ_CST,
						 __ATOMIC_SEQ_CST))
			return false;
	}
	e->value |= bits;
	if (e->host)
		gmem_dirty(w->mem, e->pa, e->size);
	return true;
}

static enum walk_result fault(struct walk *w, uint32_t bits)
{
	w->error |= bits;
	return WALK_FAULT;
}

static bool may_read(const struct walk *w)
{
	bool user_page = w->rights & PTE_US;

	if (w->set == TLB_USER)
		return user_page;
	return !user_page || w->set == TLB_SUPER_AC || !(w->c->cr4 & CR4_SMAP);
}

static bool may_write(const struct walk *w)
{
	if (!may_read(w))
		return false;
	return (w->rights & PTE_RW) || (w->set != TLB_USER && !(w->c->cr0 & CR0_WP));
}

static bool may_exec(const struct walk *w)
{
	bool user_page = w->rights & PTE_US;

	if (w->rights & PTE_NX)
		return false;
	if (w->set == TLB_USER)
		return user_page;
	return !user_page || !(w->c->cr4 & CR4_SMEP);
}

/* The mapping is found: @e is its leaf entry, @base where the page of @size bytes is. */
static enum walk_result leaf(struct walk *w, struct entry *e, uint64_t base, uint64_t size,
			     struct mmu_result *ret)
{
	bool ok = w->acc == ACC_READ    ? may_read(w)
		  : w->acc == ACC_WRITE ? may_write(w)
					: may_exec(w);

	if (!ok)
		return fault(w, PF_P);
	if (!entry_set(w, e, w->acc == ACC_WRITE ? PTE_A | PTE_D : PTE_A))
		return WALK_RETRY;
	ret->pa = base | (w->lin & (size - 1));
	ret->page = size;
	ret->write = may_write(w) && (e->value & PTE_D);
	ret->exec = may_exec(w);
	ret->global = (e->value & PTE_G) && (w->c->cr4 & CR4_PGE);
	return WALK_OK;
}

/* Reserved bits of an 8-byte entry at @level (1 = page table). */
static uint64_t reserved(const struct walk *w, unsigned int level, uint64_t value)
{
	bool lma = w->c->efer & EFER_LMA;
	/* Bits 62:52 are free in 4-level tables, reserved in PAE ones. */
	uint64_t mask = ~PHYS_MASK & (lma ? BIT(52) - 1 : BIT(63) - 1);

	if (!(w->c->efer & EFER_NXE))
		mask |= PTE_NX;
	if (level == 4)
		mask |= PTE_PS;
	else if (level > 1 && (value & PTE_PS))
		mask |= (BIT(12 + 9 * (level - 1)) - 1) & ~UINT64_C(0x1fff);
	return mask;
}

static enum walk_result walk_long(struct walk *w, uint64_t table, unsigned int level,
				  struct mmu_result *ret)
{
	for (;; level--) {
		unsigned int shift = 12 + 9 * (level - 1);
		struct entry e = entry_load(w, table + ((w->lin >> shift) & 511) * 8, 8);

		if (!(e.value & PTE_P))
			return fault(w, 0);
		if (e.value & reserved(w, level, e.value))
			return fault(w, PF_P | PF_RSVD);
		w->rights &= e.value | PTE_NX;
		w->rights |= e.value & PTE_NX;
		if (level == 1 || (level < 4 && (e.value & PTE_PS)))
			return leaf(w, &e, e.value & ADDR_MASK & ~(BIT(shift) - 1), BIT(shift),
				    ret);
		if (!entry_set(w, &e, PTE_A))
			return WALK_RETRY;
		table = e.value & ADDR_MASK;
	}
}

static enum walk_result walk_32(struct walk *w, struct mmu_result *ret)
{
	uint64_t dir = w->c->cr3 & 0xfffff000;
	struct entry e = entry_load(w, dir + ((w->lin >> 22) & 1023) * 4, 4);

	if (!(e.value & PTE_P))
		return fault(w, 0);
	if ((e.value & PTE_PS) && (w->c->cr4 & CR4_PSE)) {
		if (e.value & BIT(21))
			return fault(w, PF_P | PF_RSVD);
		w->rights &= e.value;
		/* PSE-36: bits 20:13 are address bits 39:32. */
		return leaf(w, &e, (e.value & 0xffc00000) | ((e.value >> 13) & 0xff) << 32, BIT(22),
			    ret);
	}
	w->rights &= e.value;
	if (!entry_set(w, &e, PTE_A))
		return WALK_RETRY;
	e = entry_load(w, (e.value & 0xfffff000) + ((w->lin >> 12) & 1023) * 4, 4);
	if (!(e.value & PTE_P))
		return fault(w, 0);
	w->rights &= e.value;
	return leaf(w, &e, e.value & 0xfffff000, BIT(12), ret);
}

static enum walk_result walk_pae(struct walk *w, struct mmu_result *ret)
{
	uint64_t pdpte = w->c->pdpte[(w->lin >> 30) & 3];

	if (!(pdpte & PTE_P))
		return fault(w, 0);
	return walk_long(w, pdpte & ADDR_MASK, 2, ret);
}

bool mmu_walk(struct ivcpu *v, uint64_t lin, enum access acc, enum tlb_set set,
	      struct mmu_result *ret, uint32_t *error)
{
	const struct cpu *c = &v->c;
	struct walk w = {
	    .mem = v->vcpu.en->mem,
	    .c = c,
	    .lin = lin,
	    .acc = acc,
	    .set = set,
	};
	enum walk_result r;

	if (!(c->cr0 & CR0_PG)) {
		*ret = (struct mmu_result){
		    .pa = (uint32_t)lin, .page = GMEM_PAGE_SIZE, .write = true, .exec = true};
		return true;
	}
	do {
		w.rights = PTE_RW | PTE_US;
		w.error = (acc == ACC_WRITE ? PF_W : 0) | (set == TLB_USER ? PF_U : 0);
		if (acc == ACC_EXEC &&
		    ((c->cr4 & CR4_SMEP) || ((c->cr4 & CR4_PAE) && (c->efer & EFER_NXE))))
			w.error |= PF_I;
		if (c->efer & EFER_LMA)
			r = walk_long(&w, c->cr3 & ADDR_MASK, 4, ret);
		else if (c->cr4 & CR4_PAE)
			r = walk_pae(&w, ret);
		else
			r = walk_32(&w, ret);
	} while (r == WALK_RETRY);
	*error = w.error;
	return r == WALK_OK;
}

bool mmu_load_pdptes(struct ivcpu *v, uint64_t cr3, uint64_t pdpte[4])
{
	struct walk w = {.mem = v->vcpu.en->mem, .c = &v->c};
	/* Reserved: 2:1, 8:5, and all above the address. */
	uint64_t bad = ~PHYS_MASK | 0x1e6;

	for (unsigned int i = 0; i < 4; i++) {
		struct entry e = entry_load(&w, (cr3 & 0xffffffe0) + i * 8, 8);

		if ((e.value & PTE_P) && (e.value & bad))
			return false;
		pdpte[i] = e.value;
	}
	return true;
}
