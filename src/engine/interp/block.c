/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/block.c - decoding code into blocks, and the cache of blocks
 *
 * A block belongs to a physical address and a decoding mode, not to a linear address: addresses in
 * uops are relative to the page, so that all processes share a library's blocks.  It is good while
 * the page's generation word is what it was before the bytes were read; if it is not, but the bytes
 * still are, the block is taken over into the new generation.
 *
 * Blocks lie one behind the other in an arena; when it is full, all are dropped.
 */
#include "engine/interp/hot.h"

#include "base/hugemem.h"
#include "engine/jit/jit.h"
#include "engine/jit/lockstep.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

#define PAGE_MASK  (~UINT64_C(0xfff))
#define ARENA_SIZE (256u << 20)
#define BLOCK_MAX  64 /* instructions */
#define HASH_BITS  17

struct block_cache {
	uint8_t *arena;
	size_t used;
	uint32_t flushes;
	struct block *hash[1u << HASH_BITS];
};

/* Enough for the biggest block: uops, slow instructions, bytes. */
#define BLOCK_ROOM                                                                                 \
	(sizeof(struct block) + (BLOCK_MAX + 1) * (sizeof(struct uop) + sizeof(struct x86_insn)) + \
	 BLOCK_MAX * INSN_MAX_LEN + 64)

int blocks_new(struct block_cache **ret, struct err *e)
{
	struct block_cache *bc = calloc(1, sizeof(*bc));
	void *p;

	if (!bc)
		return err_set(e, -ENOMEM, "block cache");
	p = huge_table_late(ARENA_SIZE);
	if (!p) {
		free(bc);
		return err_set(e, -errno, "block cache");
	}
	bc->arena = p;
	*ret = bc;
	return 0;
}

uint8_t *blocks_base(const struct block_cache *bc)
{
	return bc->arena;
}

void blocks_free(struct block_cache *bc)
{
	if (!bc)
		return;
	munmap(bc->arena, ARENA_SIZE);
	free(bc);
}

void blocks_flush(struct ivcpu *v)
{
	struct block_cache *bc = v->blocks;

	memset(bc->hash, 0, sizeof(bc->hash));
	memset(v->jumps, 0, sizeof(v->jumps));
	bc->used = 0;
	v->flushes++;
	jit_flush(v);
}

static struct block **hash_slot(struct block_cache *bc, uint64_t pa, uint32_t key)
{
	uint64_t h = (pa ^ (uint64_t)key << 40) * UINT64_C(0x9e3779b97f4a7c15);

	return &bc->hash[h >> (64 - HASH_BITS)];
}

/* The running block's own page changed: what follows the current instruction must not run. */
void block_went_stale(struct ivcpu *v, uint64_t pa)
{
	struct uop *u = (struct uop *)v->uop;
	struct block *b;

	if (!u || !v->running)
		return;
	b = container_of(u - u->idx, struct block, u[0]);
	if ((b->pa & PAGE_MASK) != (pa & PAGE_MASK) && (!b->crosses || b->pa2 != (pa & PAGE_MASK)))
		return;
	b->dead = true;
	/* A branch is followed by a look-up anyway; everything else by op_fall or another uop. */
	if (u->idx + 1 == b->n && !b->u[b->n].fn)
		return;
	u[1].fn = op_leave;
	u[1].off = (uint16_t)(u->off + u->len);
	u[1].idx = u->idx + 1;
}

/* --- marks --- */

static void ask_others(struct interp *in, const struct ivcpu *me, uint64_t pa)
{
	pthread_mutex_lock(&in->cpus_lock);
	for (unsigned int i = 0; i < in->en.n_cpus; i++) {
		struct ivcpu *o = in->cpus[i];

		if (!o || o == me)
			continue;
		if (o->n_sync < ARRAY_SIZE(o->sync_pa))
			o->sync_pa[o->n_sync] = pa & PAGE_MASK;
		if (o->n_sync <= ARRAY_SIZE(o->sync_pa))
			o->n_sync++;
		ivcpu_request(o, IREQ_FLUSH_WRITES);
	}
	pthread_mutex_unlock(&in->cpus_lock);
}

/*
 * Marks the lines of [pa, pa+size) (cut at the page's end) as code and returns the page's
 * generation.  When the page had no mark before, nobody may go on writing to it unseen.
 */
static uint32_t code_mark(struct ivcpu *v, uint64_t pa, unsigned int size)
{
	struct interp *in = vcpu_interp(v);
	struct gmem *m = in->en.mem;
	const struct gmem_slot *s = gmem_slot(m, pa);
	uint64_t page = (pa - s->gpa) >> GMEM_PAGE_SHIFT;
	_Atomic uint64_t *lines = &in->code_lines[s - m->slots][page];
	uint64_t mask = line_mask((unsigned int)(pa & 0xfff), size);
	uint32_t gen;

	pthread_mutex_lock(&in->lock);
	if (!(s->code_gen[page] & GMEM_CODE_MARK)) {
		*lines = 0;
		gen = gmem_set_code(m, pa);
		tlb_drop_writes(v, pa);
		ask_others(in, v, pa);
	} else {
		gen = gmem_set_code(m, pa);
	}
	atomic_fetch_or(lines, mask);
	atomic_thread_fence(memory_order_seq_cst);
	pthread_mutex_unlock(&in->lock);
	return gen;
}

/* More lines of a block's page, before their bytes are read.  If the mark is gone meanwhile, the
 * block is stale already. */
static void code_mark_more(struct ivcpu *v, uint64_t pa, unsigned int size)
{
	struct interp *in = vcpu_interp(v);
	const struct gmem_slot *s = gmem_slot(in->en.mem, pa);
	_Atomic uint64_t *lines =
	    &in->code_lines[s - in->en.mem->slots][(pa - s->gpa) >> GMEM_PAGE_SHIFT];
	uint64_t mask = line_mask((unsigned int)(pa & 0xfff), size);

	if ((*lines & mask) == mask)
		return;
	atomic_fetch_or(lines, mask);
	atomic_thread_fence(memory_order_seq_cst);
}

/* --- validity --- */

/* First byte of the second page of a crossing instruction; true and its page if it is code we know.
 */
static bool second_page(struct ivcpu *v, uint64_t lin, uint64_t *pa)
{
	uint64_t next = (lin | 0xfff) + 1;

	if (v->mode != MODE_LONG)
		next = (uint32_t)next;
	*pa = 0;
	return tlb_fill(v, next, ACC_EXEC, pa) != NULL;
}

/* False when the block must be decoded again.  May raise #PF for a crossing instruction. */
static bool block_valid(struct ivcpu *v, struct block *b, uint64_t lin, const uint8_t *host)
{
	if (b->dead)
		return false;
	if (b->crosses) {
		uint64_t pa2;

		return second_page(v, lin, &pa2) && (pa2 & PAGE_MASK) == b->pa2 &&
		       *b->word == b->gen && *b->word2 == b->gen2;
	}
	if (*b->word == b->gen)
		return true;
	if (memcmp(host, b->raw, b->bytes) != 0)
		return false;
	/* Mark first, then compare what is there: as for decoding. */
	b->gen = code_mark(v, b->pa, b->bytes);
	if (memcmp(host, b->raw, b->bytes) == 0) {
		jit_unlink(v, b);
		return true;
	}
	b->gen = 0; /* whoever still points here must not take it for good */
	return false;
}

/* --- decoding --- */

struct decoding {
	struct block *b;
	uint8_t *host; /* of the block's first byte */
	uint64_t lin;
	uint64_t limit_left; /* bytes from the first one to the segment limit */
	unsigned int off;    /* bytes decoded */
	struct x86_insn *insns;
	unsigned int n_insns;
	uint8_t raw[BLOCK_MAX * INSN_MAX_LEN];
};

/* An instruction that was not complete at the page's end: its first bytes are in @buf. */
static int decode_crossing(struct ivcpu *v, struct decoding *d, uint8_t *buf, unsigned int have,
			   unsigned int max, struct x86_insn *i)
{
	struct block *b = d->b;
	uint64_t pa2, next = ((d->lin | 0xfff) + 1);
	const uint8_t *host2;
	unsigned int more = max - have;

	if (v->mode != MODE_LONG)
		next = (uint32_t)next;
	pa2 = 0;
	host2 = tlb_fill(v, next, ACC_EXEC, &pa2);
	if (!host2)
		return -EINVAL;
	b->crosses = true;
	b->pa2 = pa2 & PAGE_MASK;
	b->word2 = gmem_code_word(v->vcpu.en->mem, pa2);
	b->gen2 = code_mark(v, pa2, more);
	memcpy(buf + have, host2, more);
	return insn_decode(buf, max, v->bits, i);
}

/* One instruction at d->off; 0, 1 = the block must end before it, or -EINVAL, -E2BIG. */
static int decode_one(struct ivcpu *v, struct decoding *d, struct x86_insn *i)
{
	uint64_t pa = d->b->pa + d->off;
	unsigned int in_page = 0x1000 - (unsigned int)(pa & 0xfff);
	unsigned int max = (unsigned int)MIN(d->limit_left - d->off, (uint64_t)INSN_MAX_LEN);
	unsigned int have = MIN(max, in_page);
	uint8_t buf[INSN_MAX_LEN];
	int r;

	if (d->off)
		code_mark_more(v, pa, have);
	memcpy(buf, d->host + d->off, have);
	r = insn_decode(buf, have, v->bits, i);
	if (r == -ENODATA || (r == -E2BIG && have < INSN_MAX_LEN)) {
		if (d->off)
			return 1;
		r = have < max ? decode_crossing(v, d, buf, have, max, i) : -E2BIG;
		/* Bytes end at the limit: #GP, as for an instruction that is too long. */
		if (r == -ENODATA)
			r = -E2BIG;
		if (r < 0)
			return r;
	} else if (r < 0) {
		return d->off ? 1 : r;
	}
	memcpy(d->raw + d->off, i->raw, i->len);
	return 0;
}

static uint16_t reg_off(unsigned int r)
{
	return (uint16_t)(offsetof(struct ivcpu, c.gpr) + 8 * r);
}

/* May the operand's linear address be computed without looking at its segment? */
static bool is_flat(const struct ivcpu *v, const struct x86_insn *i)
{
	if (v->mode == MODE_LONG)
		return i->addrsize == 8;
	return (v->block_key & KEY_FLAT) && i->addrsize == 4 &&
	       (i->seg == SEG_DS || i->seg == SEG_SS || i->seg == SEG_ES);
}

static uint16_t seg_base_off(const struct ivcpu *v, unsigned int seg)
{
	if (v->mode == MODE_LONG && seg < SEG_FS)
		return offsetof(struct ivcpu, zero);
	return (uint16_t)(offsetof(struct ivcpu, c.seg) + seg * sizeof(struct cpu_segment) +
			  offsetof(struct cpu_segment, base));
}

static void fill_mem(const struct ivcpu *v, const struct x86_insn *i, struct uop *u)
{
	u->base = u->index = offsetof(struct ivcpu, zero);
	u->seg = i->seg & 15;
	u->asz = i->addrsize & 15;
	if (!i->has_mem)
		return;
	u->flat = is_flat(v, i);
	u->seg_base = seg_base_off(v, i->seg);
	u->disp = i->disp;
	if (i->base == REG_RIP) {
		u->base = offsetof(struct ivcpu, page_rip);
		u->disp += u->off + u->len;
	} else if (i->base != REG_NONE) {
		u->base = reg_off(i->base);
	}
	if (i->index != REG_NONE) {
		u->index = reg_off(i->index & 15);
		u->scale = (uint8_t)__builtin_ctz(i->scale);
	}
}

/* The uop for @i; true when nothing may follow it in the block. */
static bool translate(struct ivcpu *v, struct decoding *d, const struct x86_insn *i, struct uop *u)
{
	struct slow_handler h = {0};
	bool ends = false;

	u->len = i->len & 15;
	fill_mem(v, i, u);
	hot_translate(v, i, u, &ends);
	if (u->fn)
		return ends;
	branch_translate(v, i, u, &ends);
	if (u->fn)
		return ends;
	h = int_lookup(v, i);
	if (!h.fn)
		h = string_lookup(v, i);
	if (!h.fn)
		h = sys_lookup(v, i);
	if (!h.fn)
		h = vec_lookup(v, i);
	if (!h.fn) {
		u->fn = op_ud;
		return true;
	}
	d->insns[d->n_insns] = *i;
	u->insn = &d->insns[d->n_insns++];
	u->slow = h.fn;
	u->fn = h.flags & SLOW_ENDS_BLOCK ? op_slow_end : op_slow;
	return h.flags & SLOW_ENDS_BLOCK;
}

static void decode_block(struct ivcpu *v, struct decoding *d, unsigned int max_insns)
{
	struct block *b = d->b;
	unsigned int page_off = (unsigned int)(b->pa & 0xfff);
	bool ends = false;

	while (!ends && b->n < max_insns) {
		struct uop *u = &b->u[b->n];
		struct x86_insn i;
		int r;

		if (d->off >= d->limit_left || page_off + d->off >= 0x1000)
			break;
		r = decode_one(v, d, &i);
		if (r > 0)
			break;
		memset(u, 0, sizeof(*u));
		u->off = (uint16_t)(page_off + d->off);
		u->idx = (uint8_t)b->n;
		if (r == -E2BIG)
			raise_gp(v, 0);
		if (r < 0)
			raise_ud(v);
		ends = translate(v, d, &i, u);
		b->n++;
		d->off += i.len;
	}
	b->bytes = (uint16_t)d->off;
	memset(&b->u[b->n], 0, sizeof(b->u[0]));
	if (!ends) {
		struct uop *u = &b->u[b->n];

		u->fn = max_insns == 1 || b->crosses ? op_leave : op_fall;
		u->off = (uint16_t)(page_off + d->off);
		u->idx = (uint8_t)b->n;
		u->same_page = u->off < 0x1000;
		u->disp = u->off;
	}
}

/* Puts the slow instructions and the bytes behind the uops, where they stay. */
static size_t settle(struct decoding *d)
{
	struct block *b = d->b;
	struct x86_insn *to = (struct x86_insn *)&b->u[b->n + 1];
	uint8_t *raw;

	for (unsigned int k = 0; k < b->n; k++) {
		if (b->u[k].insn && (b->u[k].fn == op_slow || b->u[k].fn == op_slow_end))
			b->u[k].insn = to + (b->u[k].insn - d->insns);
	}
	memcpy(to, d->insns, d->n_insns * sizeof(*to));
	raw = (uint8_t *)(to + d->n_insns);
	memcpy(raw, d->raw, b->bytes);
	b->raw = raw;
	return ALIGN_UP((size_t)(raw + b->bytes - (uint8_t *)b), 64);
}

static unsigned int block_max(struct ivcpu *v)
{
	return unlikely(v->lockstep) ? lockstep_block_max(v, BLOCK_MAX) : BLOCK_MAX;
}

static struct block *block_make(struct ivcpu *v, uint64_t lin, uint8_t *host, uint64_t pa,
				uint64_t limit_left)
{
	struct block_cache *bc = v->blocks;
	struct x86_insn insns[BLOCK_MAX];
	struct decoding d;
	struct block *b, **slot;

	if (bc->used + BLOCK_ROOM > ARENA_SIZE)
		blocks_flush(v);
	b = (struct block *)(bc->arena + bc->used);
	memset(b, 0, sizeof(*b));
	b->pa = pa;
	b->key = v->run_key;
	b->word = gmem_code_word(v->vcpu.en->mem, pa);
	b->gen = code_mark(v, pa, INSN_MAX_LEN);
	d.b = b;
	d.host = host;
	d.lin = lin;
	d.limit_left = limit_left;
	d.off = 0;
	d.insns = insns;
	d.n_insns = 0;
	decode_block(v, &d, v->run_key & KEY_STEP ? 1 : block_max(v));
	bc->used += settle(&d);
	slot = hash_slot(bc, pa, b->key);
	b->hash_next = *slot;
	*slot = b;
	jit_watch(v, b);
	return b;
}

struct block *block_find(struct ivcpu *v)
{
	const struct cpu_segment *cs = &v->c.seg[SEG_CS];
	uint64_t lin = v->c.rip, pa = 0, left = UINT64_MAX;
	struct block **link, *b;
	uint8_t *host;

	if (v->mode != MODE_LONG) {
		if (v->c.rip > cs->limit)
			raise_gp(v, 0);
		left = cs->limit - v->c.rip + UINT64_C(1);
		lin = (uint32_t)(cs->base + v->c.rip);
	} else if ((uint64_t)((int64_t)(lin << 16) >> 16) != lin && !(v->c.cr4 & CR4_LA57)) {
		raise_gp(v, 0);
	}
	v->page_rip = v->c.rip - (lin & 0xfff);
	if (tlb_hit(v->tlb, lin, 1, ACC_EXEC)) {
		host = tlb_host(v->tlb, lin);
		pa = v->tlb->pa[tlb_index(lin)] | (lin & 0xfff);
	} else {
		host = tlb_fill(v, lin, ACC_EXEC, &pa);
	}
	/* Nothing answers instruction fetches there: all ones, which is no instruction. */
	if (!host)
		raise_ud(v);
	link = hash_slot(v->blocks, pa, v->run_key);
	while ((b = *link)) {
		if (b->pa == pa && b->key == v->run_key) {
			if (b->bytes <= left && block_valid(v, b, lin, host))
				return b;
			*link = b->hash_next;
			continue;
		}
		link = &b->hash_next;
	}
	return block_make(v, lin, host, pa, left);
}
