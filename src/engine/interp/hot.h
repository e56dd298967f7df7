/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/hot.h - micro-ops: form, dispatch, and the inline memory fast path
 *
 * A handler does one guest instruction and goes on to the next by NEXT.  In optimised builds that
 * is a tail call, so the host's branch predictor sees one indirect jump a handler; under sanitizers
 * or without optimisation handlers return the next uop to a loop.
 */
#pragma once

#include "engine/interp/interp.h"

#include <stdatomic.h>

#if defined(__has_feature) /* clang's way to say __SANITIZE_* */
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define INTERP_LOOP
#endif
#endif

#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) &&    \
    !defined(INTERP_LOOP)
#define INTERP_THREADED 1
#else
#define INTERP_THREADED 0
#endif

/* NULL = leave to the run loop, c.rip and insns are right. */
typedef const struct uop *uop_fn(struct ivcpu *v, const struct uop *u);

struct uop {
	uop_fn *fn;
	uint16_t a, b;        /* register operands: byte offsets into struct ivcpu */
	uint16_t base, index; /* as well */
	uint16_t seg_base;    /* likewise, when flat */
	uint16_t off;         /* of the instruction in its page */
	uint8_t scale;        /* shift count */
	uint8_t seg : 4;
	uint8_t flat : 1;      /* operand: its segment takes any offset, base and mask are all */
	uint8_t same_page : 1; /* branches: the target is in this page */
	uint8_t len : 4;
	uint8_t asz : 4; /* address size in bytes */
	uint8_t idx;     /* position in the block */
	int64_t disp;    /* branches: target relative to the page */
	union {
		int64_t imm;
		slow_fn *slow;
	};
	union {
		struct block *link;          /* branches: where it went last time */
		const struct x86_insn *insn; /* slow */
	};
};

struct block {
	struct block *hash_next;
	uint64_t pa;
	uint32_t key;
	uint32_t gen, gen2; /* of the page, and of the second when an insn crosses */
	const _Atomic uint32_t *word, *word2;
	uint64_t pa2;
	uint16_t n;         /* instructions */
	uint16_t bytes;     /* of code covered */
	bool crosses;       /* one instruction over a page end: never linked to */
	bool dead;          /* changed by its own stores: never valid again */
	const uint8_t *raw; /* copy of the code bytes */
	uop_fn *first;      /* with a translator: what u[0] does, once it has been entered */
	uint32_t heat;      /* runs until it is translated */
	struct jit_code *code;
	struct uop u[];
};

#define KEY_STEP     0x80000000u             /* blocks of one instruction */
#define KEY_SET(set) ((uint32_t)(set) << 16) /* enum tlb_set; with a translator only */
#define KEY_CPL_1_2  0x40000u                /* likewise */
#define KEY_CS_BASE  0x80000u                /* likewise: CS.base is not 0 */
#define KEY_CS_FLAT  0x100u                  /* no limit on rip below 4 GiB */
#define KEY_FLAT     0x200u /* nor on offsets in DS, ES and SS, which are writable; not long mode */

#if INTERP_THREADED
#define GO(v, to)                                                                                  \
	do {                                                                                       \
		const struct uop *go_ = (to);                                                      \
		return go_->fn(v, go_);                                                            \
	} while (0)
#else
#define GO(v, to) return (to)
#endif
#define NEXT(v, u) GO(v, (u) + 1)

/* Single host accesses of any alignment. */
typedef uint16_t __attribute__((aligned(1), may_alias)) u16_ua;
typedef uint32_t __attribute__((aligned(1), may_alias)) u32_ua;
typedef uint64_t __attribute__((aligned(1), may_alias)) u64_ua;
typedef uint8_t u8_ua;

#define REG8(v, off)  (*(uint8_t *)((char *)(v) + (off)))
#define REG16(v, off) (*(uint16_t *)((char *)(v) + (off)))
#define REG32(v, off) (*(uint32_t *)((char *)(v) + (off)))
#define REG64(v, off) (*(uint64_t *)((char *)(v) + (off)))
/* Writes clear the upper half as 32-bit results do. */
#define SET8(v, off, x)  (REG8(v, off) = (uint8_t)(x))
#define SET16(v, off, x) (REG16(v, off) = (uint16_t)(x))
#define SET32(v, off, x) (REG64(v, off) = (uint32_t)(x))
#define SET64(v, off, x) (REG64(v, off) = (uint64_t)(x))

static inline uint64_t uop_ea(const struct ivcpu *v, const struct uop *u)
{
	return REG64(v, u->base) + (REG64(v, u->index) << u->scale) + (uint64_t)u->disp;
}

/* mem.c */
uint64_t hot_ld(struct ivcpu *v, const struct uop *u, uint64_t lin, unsigned int size);
uint64_t hot_ld_rmw(struct ivcpu *v, const struct uop *u, uint64_t lin, unsigned int size);
void hot_st(struct ivcpu *v, const struct uop *u, uint64_t lin, unsigned int size, uint64_t x);
/* Linear address of the operand in any mode and segment. */
uint64_t hot_lin(struct ivcpu *v, const struct uop *u, unsigned int size, enum access acc);
static inline uint64_t general_lin(struct ivcpu *v, const struct uop *u, unsigned int size,
				   enum access acc)
{
	if (likely(u->flat))
		return (uop_ea(v, u) + REG64(v, u->seg_base)) & v->rip_mask;
	return hot_lin(v, u, size, acc);
}
void page_was_written(struct ivcpu *v, uint64_t pa, unsigned int size);

/* Host page at @lin for a run of accesses, NULL for MMIO and ROM; may raise #PF.  For writes @pa
 * says what must be told to page_was_written afterwards, BULK_PLAIN = nothing. */
#define BULK_PLAIN UINT64_MAX
uint8_t *bulk_host(struct ivcpu *v, uint64_t lin, enum access acc, uint64_t *pa);

/* interp.c: until something is to be looked at */
void interp_run_block(struct ivcpu *v, struct block *b);
/* The block of one instruction at c.rip; run_key says that it is one.  May raise. */
struct block *interp_step_block(struct ivcpu *v);

/* block.c */
struct block *block_find(struct ivcpu *v); /* at c.rip, decoding it if need be; may raise */
void block_went_stale(struct ivcpu *v, uint64_t pa);
must_check int blocks_new(struct block_cache **ret, struct err *e);
/* Start of the 256 MiB that all blocks are in. */
uint8_t *blocks_base(const struct block_cache *bc);
void blocks_free(struct block_cache *bc);
void blocks_flush(struct ivcpu *v);

/* ops_branch.c */
void jump_cache_enter(struct ivcpu *v, uint64_t rip, struct block *b);
/* The block at @rip, if it is known and good: page_rip is its page's then. */
struct block *jump_cache_find(struct ivcpu *v, uint64_t rip);
bool flags_cond(uint16_t af, unsigned int cc); /* cc as in Jcc's opcode */

/* ops_flow.c, ops_decimal.c */
struct slow_handler flow_lookup(const struct ivcpu *v, const struct x86_insn *i);
slow_fn h_decimal;
bool div_faults(uint64_t rax, uint64_t rdx, uint64_t x, unsigned int size, bool is_signed);
/* mem.c: is all of [lin, lin+size), just probed for writing, RAM (or ROM)? */
bool lin_is_ram(struct ivcpu *v, uint64_t lin, unsigned int size);

/* ops_*.c: fills in @u for @i, or leaves fn NULL.  @ends: no uop follows in this block. */
void hot_translate(const struct ivcpu *v, const struct x86_insn *i, struct uop *u, bool *ends);
void alu_translate(const struct ivcpu *v, const struct x86_insn *i, struct uop *u);
void branch_translate(const struct ivcpu *v, const struct x86_insn *i, struct uop *u, bool *ends);
uop_fn op_leave, op_fall, op_slow, op_slow_end, op_ud;

/* 64-byte lines of a page that [off, off+size) touches, cut at the page's end. */
static inline uint64_t line_mask(unsigned int off, unsigned int size)
{
	unsigned int first = off / 64, last = MIN(off + size - 1, 4095u) / 64;

	return (~UINT64_C(0) >> (63 - (last - first))) << first;
}

static inline unsigned int tlb_index(uint64_t lin)
{
	return (lin >> 12) & (TLB_SIZE - 1);
}

static inline bool tlb_hit(const struct tlb *t, uint64_t lin, unsigned int size, enum access acc)
{
	return likely(t->tag[acc][tlb_index(lin)] == -((lin + size - 1) & ~UINT64_C(0xfff)));
}

static inline void *tlb_host(const struct tlb *t, uint64_t lin)
{
	return (void *)(lin + t->addend[tlb_index(lin)] - TLB_BIAS);
}

#define DEFINE_HOT(bits)                                                                           \
	static inline uint##bits##_t ld##bits(struct ivcpu *v, const struct uop *u, uint64_t lin)  \
	{                                                                                          \
		const struct tlb *t = v->tlb;                                                      \
                                                                                                   \
		if (tlb_hit(t, lin, bits / 8, ACC_READ))                                           \
			return *(const volatile u##bits##_ua *)tlb_host(t, lin);                   \
		return (uint##bits##_t)hot_ld(v, u, lin, bits / 8);                                \
	}                                                                                          \
	static inline void st##bits(struct ivcpu *v, const struct uop *u, uint64_t lin,            \
				    uint##bits##_t x)                                              \
	{                                                                                          \
		const struct tlb *t = v->tlb;                                                      \
                                                                                                   \
		if (tlb_hit(t, lin, bits / 8, ACC_WRITE))                                          \
			*(volatile u##bits##_ua *)tlb_host(t, lin) = x;                            \
		else                                                                               \
			hot_st(v, u, lin, bits / 8, x);                                            \
	}
DEFINE_HOT(8)
DEFINE_HOT(16)
DEFINE_HOT(32)
DEFINE_HOT(64)

/* A slow handler, from a fast path and back. */
static inline void call_slow(struct ivcpu *v, const struct uop *u)
{
	v->uop = u;
	v->c.rip = (v->page_rip + u->off) & v->rip_mask;
	v->next_rip = (v->c.rip + u->len) & v->rip_mask;
	v->c.rflags = (v->c.rflags & ~(uint64_t)FL_ARITH) | flags_from_af(v->af);
	v->hot = false;
	u->slow(v, u->insn);
	v->c.rip = v->next_rip;
	v->af = flags_to_af(v->c.rflags);
	v->hot = true;
	if (unlikely(v->rmw_size)) {
		page_was_written(v, v->rmw_pa, v->rmw_size);
		v->rmw_size = 0;
	}
}
