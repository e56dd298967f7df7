/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/sys.h - shared by the system half of the interpreter (sys_*.c, mmu.c)
 *
 * Segments are loaded in two steps: check and fetch (may raise), then commit by assigning the
 * struct cpu_segment; so a transfer of control raises before it changes anything.
 */
#pragma once

#include "engine/interp/interp.h"

/* Event types, as in VMX. */
enum event_type {
	EVENT_EXTERNAL = 0,
	EVENT_NMI = 2,
	EVENT_FAULT = 3, /* hardware exception */
	EVENT_SOFT_INT = 4,
	EVENT_INT1 = 5,
	EVENT_SOFT_EXC = 6, /* INT3, INTO */
};

#define SEL_RPL(sel)  ((sel)&3u)
#define SEL_LDT       4u
#define SEL_NULL(sel) (((sel) & ~3u) == 0)
#define SEL_ERR(sel)  ((uint32_t)(sel)&0xfffcu)

/* System descriptor types. */
enum desc_type {
	DESC_TSS16 = 1,
	DESC_LDT = 2,
	DESC_TSS16_BUSY = 3,
	DESC_CALL16 = 4,
	DESC_TASK = 5,
	DESC_INT16 = 6,
	DESC_TRAP16 = 7,
	DESC_TSS32 = 9, /* or the 64-bit one */
	DESC_TSS32_BUSY = 11,
	DESC_CALL32 = 12,
	DESC_INT32 = 14,
	DESC_TRAP32 = 15,
};
#define DESC_BUSY 2u

#define FLAT_CODE64(dpl) (SEG_G | SEG_L | SEG_P | SEG_S | 0xbu | (dpl) << SEG_DPL_SHIFT)
#define FLAT_CODE32(dpl) (SEG_G | SEG_DB | SEG_P | SEG_S | 0xbu | (dpl) << SEG_DPL_SHIFT)
#define FLAT_DATA(dpl)   (SEG_G | SEG_DB | SEG_P | SEG_S | 0x3u | (dpl) << SEG_DPL_SHIFT)
/* What SYSRET takes from R11. */
#define SYSRET_FLAGS                                                                               \
	(FL_ARITH | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_AC | FL_VIF | FL_VIP | FL_ID)
#define NULL_SS(cpl) (SEG_UNUSABLE | (uint32_t)(cpl) << SEG_DPL_SHIFT)

struct desc {
	uint64_t raw;
	uint64_t high; /* of 16-byte system descriptors */
	uint64_t lin;  /* where it is */
};

static inline bool canonical(uint64_t x)
{
	return (uint64_t)((int64_t)(x << 16) >> 16) == x;
}

static inline bool is_long(const struct ivcpu *v) /* 64-bit or compatibility mode */
{
	return v->c.efer & EFER_LMA;
}

static inline bool is_protected(const struct ivcpu *v) /* neither real nor V86 */
{
	return v->mode >= MODE_PROT;
}

static inline unsigned int iopl(const struct ivcpu *v)
{
	return (v->c.rflags & FL_IOPL) >> 12;
}

static inline void require_cpl0(struct ivcpu *v)
{
	if (v->cpl != 0)
		raise_gp(v, 0);
}

static inline uint32_t desc_attr(const struct desc *d)
{
	return (d->raw >> 40) & 0xf0ff;
}

static inline unsigned int desc_type(const struct desc *d)
{
	return (d->raw >> 40) & 0xf;
}

static inline bool desc_is_system(const struct desc *d)
{
	return !(desc_attr(d) & SEG_S);
}

static inline bool desc_is_code(const struct desc *d)
{
	return (desc_attr(d) & (SEG_S | SEG_CODE)) == (SEG_S | SEG_CODE);
}

static inline bool desc_is_writable_data(const struct desc *d)
{
	return (desc_attr(d) & (SEG_S | SEG_CODE | SEG_WRITE)) == (SEG_S | SEG_WRITE);
}

/* --- sys_seg.c --- */

/* False: @sel is outside its table.  The null selector must have been dealt with. */
bool desc_read(struct ivcpu *v, uint16_t sel, struct desc *ret);
/* The upper half of a 16-byte descriptor read by desc_read; #GP(sel) outside the table. */
void desc_read_high(struct ivcpu *v, uint16_t sel, struct desc *d);
void desc_set_accessed(struct ivcpu *v, struct desc *d);
struct cpu_segment desc_segment(const struct desc *d, uint16_t sel);
/* As desc_segment for a TSS or LDT, whose base has 64 bits in long mode. */
struct cpu_segment desc_system_segment(struct ivcpu *v, const struct desc *d, uint16_t sel);

/* Loads a data or stack segment register as MOV does, in any mode. */
void seg_load(struct ivcpu *v, unsigned int seg, uint16_t sel);
/* Checks a selector for the new stack at privilege @cpl; faults with @vector (#TS or #GP), #SS when
 * not present. */
struct cpu_segment seg_check_ss(struct ivcpu *v, uint16_t sel, unsigned int cpl,
				unsigned int vector);
/* The segment that a selector names in real and V86 mode. */
struct cpu_segment seg_real(const struct ivcpu *v, unsigned int seg, uint16_t sel);
/* After a return to a less privileged level: clear DS..GS that it may not use. */
void seg_drop_privileged(struct ivcpu *v, unsigned int cpl);
void ldtr_load(struct ivcpu *v, uint16_t sel, unsigned int vector);

/* A stack that is not necessarily the current one. */
struct stack {
	struct cpu_segment seg;
	uint64_t rsp;
	unsigned int bits; /* 16, 32, 64 */
	bool super;        /* use supervisor rights whatever the CPL */
	uint32_t error;    /* of #SS */
};

struct stack stack_current(struct ivcpu *v);
unsigned int stack_bits(const struct ivcpu *v, const struct cpu_segment *ss, bool code64);
void stack_push(struct ivcpu *v, struct stack *s, unsigned int size, uint64_t x);
uint64_t stack_pop(struct ivcpu *v, struct stack *s, unsigned int size);
void stack_skip(struct stack *s, unsigned int bytes);
/* @rsp as a stack of @bits leaves it in the register. */
uint64_t stack_rsp(const struct ivcpu *v, const struct stack *s);

/* --- sys_event.c --- */

/* Deliver from inside an instruction: rip is its own, @ret_rip what the handler returns to. */
void event_deliver_from(struct ivcpu *v, unsigned int vector, unsigned int type, uint64_t ret_rip);

/* Stack pointer and segment for @cpl from the current TSS (not long mode). */
void tss_stack(struct ivcpu *v, unsigned int cpl, uint16_t *ss, uint32_t *esp);
/* RSP<@cpl>, or IST<n> when @ist != 0, from the 64-bit TSS. */
uint64_t tss64_stack(struct ivcpu *v, unsigned int cpl, unsigned int ist);

/* --- sys_far.c, sys_iret.c --- */

/* Store to the flags in @mask; notices what depends on them. */
void flags_store(struct ivcpu *v, uint64_t value, uint64_t mask);
void cs_commit(struct ivcpu *v, const struct cpu_segment *cs, unsigned int cpl, uint64_t rip);
/* #GP(0) unless @rip is good in @cs. */
void rip_check(struct ivcpu *v, const struct cpu_segment *cs, uint64_t rip);

/* --- sys_task.c --- */

enum task_cause { TASK_JMP, TASK_CALL, TASK_IRET, TASK_EVENT };

/* Switches to the task of TSS selector @sel; the old one goes on at @ret_rip.  rip is the new
 * task's afterwards, and v->next_rip too. */
void task_switch(struct ivcpu *v, uint16_t sel, enum task_cause cause, uint64_t ret_rip,
		 uint64_t ret_flags);

/* --- mmu.c --- */

/* Reads the four PDPTEs of @cr3; false if one has reserved bits. */
bool mmu_load_pdptes(struct ivcpu *v, uint64_t cr3, uint64_t pdpte[4]);

/* --- sys_cr.c, sys_msr.c --- */

uint64_t guest_tsc(const struct ivcpu *v);

/* --- handlers, listed in sys_lookup.c ------------------------------------------------------------
 */

slow_fn sys_jmp_far, sys_call_far, sys_ret_far, sys_iret;
slow_fn sys_int, sys_int1, sys_int3, sys_into;
slow_fn sys_mov_from_seg, sys_mov_to_seg, sys_push_seg, sys_pop_seg, sys_load_far_pointer;
slow_fn sys_pushf, sys_popf, sys_cli, sys_sti, sys_clac, sys_stac;
slow_fn sys_syscall, sys_sysret, sys_sysenter, sys_sysexit;
slow_fn sys_sgdt, sys_sidt, sys_lgdt, sys_lidt, sys_sldt, sys_str, sys_lldt, sys_ltr;
slow_fn sys_smsw, sys_lmsw, sys_lar, sys_lsl, sys_verr, sys_verw, sys_arpl;
slow_fn sys_mov_from_cr, sys_mov_to_cr, sys_mov_from_dr, sys_mov_to_dr, sys_clts;
slow_fn sys_invlpg, sys_invpcid, sys_wbinvd, sys_xgetbv, sys_xsetbv;
slow_fn sys_rdmsr, sys_wrmsr, sys_rdtsc, sys_rdtscp, sys_rdpid, sys_rdpmc;
slow_fn sys_cpuid, sys_hlt, sys_swapgs, sys_fsgsbase, sys_hypercall, sys_cache_line, sys_serialize;
