/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/jit_priv.h - inside of the translator
 *
 * Host registers while translated code runs:
 *
 *	RAX RDX RBX RSP RBP RSI RDI R8 R9 R12-R15   the guest's registers of the same name
 *	R10                                         the guest's RCX
 *	RCX R11                                     scratch
 *	flags                                       the guest's arithmetic flags, see flags.c
 *	XMM/YMM, x87                                the guest's, once loaded (vec_out, x87_out)
 *	GS base                                     struct ivcpu, in the current slot's alias
 *
 * The guest's R10 and R11 are in struct ivcpu.  There is no host stack: RSP is the guest's.
 */
#pragma once

#include "engine/jit/emit.h"
#include "engine/jit/jit.h"
#include "engine/x86/insn_zydis.h"

enum jit_link_kind {
	LINK_NEAR,   /* jump inside the page, aimed at the exit @cold until the target is known */
	LINK_FAR,    /* jump to another page, if the code there has the number at @number_at */
	LINK_RETURN, /* where the code behind a call is; @cold as for a near one */
};

/* A rel32 at @at. */
struct jit_link {
	uint32_t at, cold;
	uint32_t number_at;
	int32_t to; /* target, from the page's start */
	uint8_t kind;
	bool used;
};

/*
 * What code a physical page holds: a number that is given once for each page and generation of its
 * contents.  Numbers are odd and small, so that numbers of two pages differ by less than two linear
 * pages do that have one place in jumps.page.
 */
struct jit_page {
	uint32_t frame, gen, number;
};
#define JIT_PAGES     (1u << 17)
#define JIT_NUMBERS   (1u << 22)
#define JIT_NO_NUMBER 0x40000001 /* what no page's number can make 0 */
_Static_assert(JIT_NUMBERS <= JUMPS_PAGES << GMEM_PAGE_SHIFT, "numbers could be taken for pages");

#define JIT_LINKS 32

/*
 * Host code of one block.  Offsets are from the start of the code memory.  When there are two
 * copies (group.c), the first is the one to enter, and the second is cold.
 */
struct jit_code {
	struct block *b;
	uint32_t start; /* entry from other pages: R11 = guest address */
	uint32_t body;  /* entry inside the page: page_rip is right */
	uint32_t end;
	uint32_t cold, cold_end; /* the rest */
	unsigned int n_links;
	struct jit_link *link;
	uint32_t *first; /* of each instruction, in the first copy; NULL = there is one copy only */
	uint32_t at[];   /* and in the last one, in which every access is checked */
};

/* What code tells when it leaves: an eighth of the uop's offset in the block arena, and a link's
 * number + 1. */
#define JIT_LEAVE      UINT32_MAX /* c.rip is right, nothing to go on with */
#define JIT_LINK_SHIFT 26
#define JIT_UOP_MASK   ((1u << JIT_LINK_SHIFT) - 1)

/* Arguments of the C functions that code calls. */
#define JIT_MISS_WRITE (1u << JIT_LINK_SHIFT)

typedef uint32_t jit_enter_fn(const void *code, void *gs_base);

struct jit {
	uint8_t *rw, *rx;           /* the same memory: writable, executable */
	size_t used;                /* bytes */
	size_t cold_used;           /* likewise, JIT_COLD_START included */
	size_t backed, cold_backed; /* up to there by the host's memory */
	size_t stubs;               /* of those, not for blocks */
	uint8_t *meta;              /* struct jit_code, one behind the other */
	size_t meta_used;
	struct jit_code **codes; /* in order of address */
	unsigned int n_codes, max_codes;
	uint8_t *base; /* of the block arena */
	jit_enter_fn *enter;
	/* Stubs. */
	uint32_t exit, call, call_end, miss, leave, returned, load_sse, load_avx, load_x87;
	uint32_t syscall, sysret;
	struct jit_page *pages; /* by frame, JIT_PAGES */
	uint32_t next_number;
	struct tr_insn *insns; /* of the block that is being translated */
	struct {
		struct jit_code *from;
		unsigned int link;
		uint64_t rip;
	} pending; /* a jump that wants to be linked */
	void *signal_stack;
	struct {
		uint64_t translated, code_bytes, cold_bytes, flushes, entries;
	} stats;
};

#define JIT_CODE_SIZE  (256u << 20)
#define JIT_COLD_START (112u << 20) /* offset of what seldom runs */

static inline uint32_t jit_uop_code(const struct jit *j, const struct uop *u)
{
	return (uint32_t)(((const uint8_t *)u - j->base) / 8);
}

static inline struct jit *jit_of(const struct ivcpu *v)
{
	return v->jit;
}

struct block *jit_block_of(const struct uop *u);
/* The instruction to which the host address belongs, NULL = none. */
const struct uop *jit_uop_at(const struct jit *j, uintptr_t pc);

/* --- thread.c --- */

#define JIT_SIGNAL_STACK (64u << 10)

/* The stack is about to be unmapped. */
void jit_thread_end(const struct jit *j);

/* --- stubs.c --- */

/* Writes the stubs at the start of the code memory. */
void jit_make_stubs(struct ivcpu *v, struct jit *j);

/* --- jit.c: what code calls --- */

/* The instruction of this uop by its slow handler: 0 = go on behind it, or JIT_LEAVE. */
uint32_t jit_call(struct ivcpu *v, uint32_t code);
/* Likewise, for the last of a block: where to go on, or 0 and what to tell in jx.saved. */
uint64_t jit_call_end(struct ivcpu *v, uint32_t code);
/* An access of this uop to jx.address missed: where to go on, or 0 and the same. */
uint64_t jit_miss(struct ivcpu *v, uint32_t code);

/* Code told where it left: the micro-op to go on with, NULL = c.rip is right. */
const struct uop *jit_left(struct ivcpu *v, uint32_t told);

/* --- link.c --- */

/* @b's code is about to be entered, from C: the jump caches learn it, and so does a jump that
 * wanted to know. */
void jit_note_entry(struct ivcpu *v, struct block *b);

/* --- translate.c --- */

/* Host code for @b; NULL when nothing of it can be translated or there is no room. */
struct jit_code *jit_translate(struct ivcpu *v, struct block *b);

/* GS offset of the jump cache for the current mode, 0 = none. */
int32_t jit_jumps_offset(const struct ivcpu *v);

/* An access's group, -1 = none, and what its base register has moved by since the block began. */
struct member {
	int8_t group;
	int32_t moved;
};

struct group {
	int64_t lo, hi; /* stretch, from what the register was when the block began */
	unsigned int members;
	bool write;
	bool held; /* code for the look-up is there */
};

struct tr_insn {
	ZydisDecodedInstruction z;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	struct x86_insn i;
};

#define JIT_MAX_INSNS 64

/* How to make the flags again: host registers, size in bytes. */
struct flags {
	enum { FLAGS_UNKNOWN, FLAGS_CMP, FLAGS_TEST, FLAGS_ADD, FLAGS_SUB } of;
	uint8_t a, b, size;
	bool has_imm; /* instead of @b */
	int32_t imm;
	int32_t moved; /* what PUSH and POP have added to RSP since */
};

/* One block at work. */
struct tr {
	struct ivcpu *v;
	struct jit *j;
	struct block *b;
	struct jit_code *c;
	struct emit e;
	unsigned int k; /* instruction */
	unsigned int n_decoded;
	unsigned int n_links;
	struct jit_link link[JIT_LINKS];
	bool grouped; /* this is the copy that uses groups */
	struct group group[JIT_GROUPS];
	unsigned int n_groups;
	struct flags flags;
	bool flags_spent; /* the host's are not the guest's */
	int8_t t1;        /* group whose addend is in HOST_T1, -1 = none; */
	bool t1_kept;     /* and still is behind the instruction */
	struct {
		struct member operand, stack;
	} of[JIT_MAX_INSNS];
	uint32_t at[2][JIT_MAX_INSNS + 1];
	/* The instruction at work, decoded in two ways, and its bytes. */
	const struct uop *u;
	const ZydisDecodedInstruction *z;
	const ZydisDecodedOperand *ops;
	const struct x86_insn *i;
	const uint8_t *raw;
	bool wide; /* 64-bit mode */
	bool sse_ready, avx_ready, x87_ready;
	/* The instruction makes two accesses, which may need the same place in the TLB and drive
	 * each other out for ever: a miss is the interpreter's. */
	bool two_accesses;
	int32_t jumps; /* GS offset of the jump cache; 0 = none for this block */
	/* Code to come behind the block: rel32 at @at wants to lead to it. */
	struct cold {
		uint32_t at;
		uint32_t to; /* stub */
		uint32_t code;
		int16_t undo;       /* to add to RSP first */
		int16_t link;       /* number, -1 = none */
		int8_t other;       /* goes on with this instruction in the other copy, -1 = no */
		struct flags flags; /* to be made again first */
		struct rm ea;       /* R11 = this address first; not mem = no */
		bool look_up;       /* by the jump cache first; then RSP moves by @pop */
		int32_t pop;
		/* An access to @ea that is not in its base's page: the addend to R11, then back. */
		uint8_t home_size; /* 0 = no */
		bool home_write;
		unsigned int home_k; /* instruction */
		uint32_t back;       /* likewise, for a handler that is called */
	} cold[384];
	unsigned int n_cold;
	bool full; /* no room for more cold code: give up */
};

/* Offsets from the GS base. */
#define GS(field) ((int32_t)offsetof(struct ivcpu, field))
#define GS_GPR(n) ((int32_t)(offsetof(struct ivcpu, c.gpr) + 8u * (n)))

#define HOST_T0  RCX /* scratch */
#define HOST_T1  R11
#define HOST_MEM 0xffu /* no host register */

/* Host register of guest register @g, or HOST_MEM. */
static inline unsigned int jit_host(unsigned int g)
{
	return g == RCX ? R10 : g == R10 || g == R11 ? HOST_MEM : g;
}

/* rel32 at the current place (already emitted as the last 4 bytes) to the exit at uop @u. */
void tr_cold_exit(struct tr *t, const struct uop *u);
struct cold *tr_cold(struct tr *t, uint32_t stub, uint32_t code, int undo, int link);

/* The instruction t->k to t->z, t->ops, t->i; false if it is none. */
bool tr_decode(struct tr *t);
/* Does its code call C, which may change the TLB? */
bool tr_calls_c(const struct tr *t);

/* --- flags.c --- */

/* Code that makes the flags; uses RCX. */
void tr_make_flags(struct emit *e, const struct flags *f);
/* If they are spent. */
void tr_flags_again(struct tr *t);
/* Before and behind the translation of an instruction. */
void tr_flags_before(struct tr *t);
void tr_flags_behind(struct tr *t);

/* --- lockstep.c: none of it matters without lock-step --- */

/* Code that counts a jump, and lets it and all that follow leave when there were enough. */
void lockstep_spend(const struct ivcpu *v, struct emit *e);
/* An instruction that gives other results each time, so that code has to leave it: RDRAND. */
bool lockstep_is_chance(const struct tr *t);

/* --- group.c --- */

/* Puts accesses into groups; false if no group has two. */
bool tr_find_groups(struct tr *t);

/* --- access.c: guest memory --- */

/* Is the operand's address a register of the host's that stays as it is and a constant? */
bool tr_is_based(const struct tr *t);

/* R11 = linear address of the memory operand (for @agen: its offset in the segment). */
void tr_address(struct tr *t, bool agen);
/* Host register @to = the operand's offset, of 64-bit or (not @w) 32 bits; 64-bit addresses only.
 */
void tr_lea(struct tr *t, bool w, unsigned int to);
/* R11 = linear address -> RCX = addend; leaves by the miss stub.  @lock: also if not aligned. */
void tr_check(struct tr *t, unsigned int size, bool write, bool lock);

/* The whole look-up for an access that check_home() had no luck with. */
void tr_away(struct tr *t, const struct cold *c);

/* TLB entry at place RCX: its tag for reading or writing, its addend. */
struct rm tr_tag(const struct tr *t, bool write);
struct rm tr_addend(const struct tr *t);

/* Does the access take its addend from a group? */
bool tr_in_group(const struct tr *t, const struct member *m);
/* The operand at [@base + @disp], a host register and a constant, checked; uses R11 and RCX. */
struct rm tr_check_based(struct tr *t, const struct member *m, unsigned int base, int32_t disp,
			 unsigned int size, bool write);
/* The instruction's memory operand, likewise. */
struct rm tr_operand(struct tr *t, unsigned int size, bool write, bool lock);

/* --- insn.c --- */

/* An instruction that the host executes as it is, but for its registers and memory operand.
 * False = not that kind, nothing was emitted. */
bool tr_plain(struct tr *t);
/* Would it be? */
bool tr_is_plain(const struct tr *t);
bool tr_is_gpr(ZydisRegister r);
/* Number of the 64-bit register that @r is part of. */
unsigned int tr_gpr_of(ZydisRegister r);

/* --- system.c --- */

/* Frequent system instructions of 64-bit code.  @ends: nothing of the block follows. */
bool tr_system(struct tr *t, bool *ends);
bool tr_is_system(const struct tr *t);

/* --- string.c --- */

/* REP MOVS and REP STOS. */
bool tr_string(struct tr *t);

/* --- syscall.c --- */

/* The stubs for SYSCALL and SYSRET, for blocks with that key. */
void jit_make_syscall(struct emit *e, struct ivcpu *v, const struct jit *j);
void jit_make_sysret(struct emit *e, struct ivcpu *v, const struct jit *j);
bool jit_has_long_key(const struct block *b);

/* --- flow.c --- */

/* A new stack element, checked for writing; uses R11 and RCX. */
struct rm tr_stack_room(struct tr *t);

/* Branches, calls, returns, push, pop, leave.  @ends: nothing of the block follows. */
bool tr_flow(struct tr *t, bool *ends);
/* To the address in R11 if the jump cache at @jumps knows it, while RSP (@wide or ESP) moves by
 * @pop; else goes on. */
void jit_jump_cached(const struct ivcpu *v, struct emit *e, int32_t jumps, bool wide, int32_t pop);
/* R11 = guest address @off bytes from the page's start. */
void tr_page_address(struct tr *t, int64_t off);
/* Code for a link that has to go by the jump cache; its offset. */
uint32_t jit_detour(struct ivcpu *v, const struct jit_code *from, const struct jit_link *l);
/* The code goes on at @to, relative to the page; what can't be done is left to @u. */
void tr_goto(struct tr *t, int64_t to, const struct uop *u, bool backward);
