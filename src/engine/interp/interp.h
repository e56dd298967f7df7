/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/interp.h - the interpreter's inside: one vCPU, memory access, faults, dispatch
 *
 * Theory of operation.  Code is decoded once into blocks of micro-ops (uop), straight runs that end
 * at a branch, a page end, or an instruction that changes mode.  Blocks are cached by physical
 * address and decoding mode, and checked against the page's code generation (guest/gmem.h) before
 * they run, so self-modifying and cross-modifying code is seen at the next block.
 *
 * Hot integer instructions have uop handlers of their own (ops_*.c); all others share one uop that
 * calls a `slow` handler with the decoded instruction (sys_*.c, vec_*.c).
 *
 * Arithmetic flags are computed by executing the host's own instruction and reading the host's
 * flags, so that also the undefined ones are the host's.
 *
 * Faults leave by longjmp: no guest-visible state may change before the last access of an
 * instruction that can fault.  MMIO and port accesses inside an instruction leave as exits; the
 * instruction is then started again and finds the answers in the replay log:
 *
 *	run 1: read A -> not in log -> exit          run 2: read A -> log[0]; write B -> exit ...
 *	run 3: read A -> log[0], write B -> log[1] (done), instruction completes, log emptied
 */
#pragma once

#include "engine/engine_priv.h"
#include "engine/jit/jit_state.h"
#include "engine/x86/insn.h"

#include <pthread.h>
#include <setjmp.h>

/* What decoding and checks depend on. */
enum interp_mode {
	MODE_REAL, /* PE = 0 */
	MODE_V86,
	MODE_PROT,   /* protected, 16- or 32-bit by CS.D */
	MODE_COMPAT, /* EFER.LMA, CS.L = 0 */
	MODE_LONG,   /* EFER.LMA, CS.L = 1 */
};

enum access {
	ACC_READ = 0,
	ACC_WRITE = 1,
	ACC_EXEC = 2,
};

/* --- soft TLB --- */

#define TLB_BITS  13
#define TLB_SIZE  (1u << TLB_BITS)
#define TLB_USED  1024
#define TLB_LARGE 8

/*
 * Direct-mapped by linear page.  A tag is minus the page's linear address, so that for an access
 * that hits, address + size - 1 + tag is below 4096: one test for page and page crossing.  Pages
 * that need the slow path (MMIO, marked code for writes, data breakpoints) are not entered.
 *
 * An empty entry's is minus no page, and only addresses that are not canonical come near it.
 */
#define TLB_NONE (BIT(63) | 0x800)

/* Addends are multiples of the page size; with this they are also what SHRX shifts a page offset
 * out by, when translated code compares. */
#define TLB_BIAS 12

struct tlb {
	uint64_t tag[3][TLB_SIZE]; /* by enum access */
	uint64_t addend[TLB_SIZE]; /* host = linear + addend - TLB_BIAS */
	uint64_t pa[TLB_SIZE];     /* physical page address */
	uint16_t used[TLB_USED];   /* indices filled since it was empty; too many: all */
	unsigned int n_used;
	struct {
		uint64_t base, mask;
	} large[TLB_LARGE]; /* large mappings entered in pieces since it was empty */
	unsigned int n_large;
};

enum tlb_set { TLB_SUPER, TLB_USER, TLB_SUPER_AC /* SMAP off by EFLAGS.AC */, TLB_SETS };

/*
 * Address spaces, as PCIDs tag them: each slot has its own entries for what depends on CR3.  The
 * supervisor's set is one for all, since kernels' mappings are global; what is not goes with every
 * change of the slot.
 */
#define AS_SLOTS 8

/* Where translated code looks when it leaves its page (engine/jit/jumps.c). */
#define JUMPS_BITS  16
#define JUMPS_SIZE  (1u << JUMPS_BITS)
#define JUMPS_USED  4096
#define JUMPS_PAGES 4096
#define JUMPS_RETS  512
struct jumps {
	uint64_t rip[JUMPS_SIZE];   /* minus the address; the first is never used */
	uint64_t code[JUMPS_SIZE];  /* host address */
	uint32_t frame[JUMPS_SIZE]; /* number of the physical page with the guest's code */
	uint64_t pages[2048];       /* Bloom filter of the linear pages in it */
	uint64_t frames[256];       /* and of the physical ones */
	uint16_t used[JUMPS_USED];  /* places filled since it was empty; too many: all */
	uint32_t n_used;
	uint32_t second[64]; /* frames in which instructions that cross a page end; too many: any */
	uint32_t n_second;
	uint32_t key; /* of the blocks in it */
	bool live;    /* something was entered since it was empty */
	/* By linear page: number of its code (struct jit_page) minus page; the first is empty. */
	uint64_t page[JUMPS_PAGES];
	uint32_t page_frame[JUMPS_PAGES];
	/* By place on the stack: what a call noted about its return. */
	uint64_t ret_not[JUMPS_RETS]; /* complement of the guest address */
	uint64_t ret_code[JUMPS_RETS];
	uint64_t leave; /* code that leaves at the address in R11 */
};

struct as_slot {
	struct tlb user, ac;
	struct jumps jumps; /* at CPL 3 */
};

/* --- replay log --- */

#define REPLAY_MAX 576 /* a 4 KiB operand in 8-byte pieces, and some */

struct replay_entry {
	uint8_t reason, size;
	bool write, fault;
	uint64_t addr; /* port, gpa or MSR */
	uint64_t data;
};

struct replay {
	unsigned int n;  /* accesses answered */
	unsigned int at; /* next one of this run of the instruction */
	bool open;       /* log[n] left as an exit, its answer is awaited */
	struct replay_entry log[REPLAY_MAX];
};

struct ivcpu;
struct uop;
struct block_cache;
struct jit;
struct lockstep;

/* Jump cache: where indirect and cross-page branches look first. */
#define JUMP_BITS 14
struct jump_entry {
	uint64_t rip;
	struct block *block; /* NULL = empty */
};

struct ivcpu {
	struct vcpu vcpu; /* first */
	struct cpu c;     /* rip and arithmetic flags are exact only outside handlers of hot uops */
	/* --- pseudo-registers of hot uops: operands are byte offsets into this struct */
	uint64_t zero;         /* always 0: absent base or index */
	uint64_t page_rip;     /* rip of the first byte of the running block's linear page */
	uint16_t af;           /* arithmetic flags as LAHF and SETO left them in AH and AL */
	bool hot;              /* running hot uops: af is right, not c.rflags; rip is that of uop */
	bool running;          /* in a block, slow handlers included */
	uint64_t rip_mask;     /* of the mode: 64 or 32 bits */
	uint64_t lin_mask;     /* of linear addresses: likewise, but for implicit accesses */
	const struct uop *uop; /* the instruction at work, set when it leaves the fast path */
	/* --- derived from c by interp_mode_changed() */
	enum interp_mode mode;
	enum insn_bits bits; /* how CS makes code decode */
	uint8_t cpl;
	uint8_t tlb_set;
	bool slow_data; /* no TLB entries for data: alignment checks or data breakpoints are on */
	uint8_t stack_bits; /* 16, 32, 64: SS.B or long mode */
	uint32_t block_key; /* everything decoding depends on */
	/* --- running */
	uint64_t next_rip; /* in slow handlers: rip after this instruction; assign to branch */
	union {
		struct {
			bool stop;           /* leave the block loop after this instruction */
			_Atomic bool kicked; /* engine_kick, requests: leave at the next branch */
		};
		_Atomic uint16_t leave; /* both, for one test */
	};
	_Atomic bool kick;         /* engine_kick was called */
	_Atomic uint32_t requests; /* enum ireq */
	bool want_irq;
	bool no_step; /* this instruction cleared TF in a way that takes no step trap */
	bool single_step;
	bool data_bp; /* DR7 has enabled data breakpoints: TLB entries on their pages are off */
	struct vm_exit *exit;  /* where the run in progress reports */
	sigjmp_buf *fault_jmp; /* back to the run loop, exception recorded in fault_* */
	struct {
		uint8_t vector;
		bool has_error;
		uint32_t error;
		bool is_exit; /* not a fault: v->exit is filled */
	} fault;
	uint64_t insns;
	unsigned int pauses;   /* PAUSE instructions, for giving the host CPU away */
	bool stepping;         /* in a block of one instruction; */
	uint8_t shadow;        /* c.int_shadow */
	uint64_t resume;       /* and RF as they were before it */
	bool answer_rax;       /* the last exit was a hypercall */
	uint64_t rmw_pa;       /* lin_rmw gave a pointer into a page with marks to look at */
	unsigned int rmw_size; /* 0 = it did not */
	struct replay replay;
	struct tlb *tlb; /* current set */
	struct tlb super;
	struct jumps kernel_jumps; /* as as_slot.jumps, below CPL 3 */
	struct jumps ac_jumps;     /* the same code with EFLAGS.AC, translated for that TLB set */
	uint16_t local[64];        /* its entries that are not global; too many: all may be */
	unsigned int n_local;
	bool local_code;         /* there is code among them */
	bool low_global;         /* some slot has a global page in the lower half */
	uint64_t written[1024];  /* Bloom filter of physical pages with write entries */
	uint64_t sync_pa[32];    /* IREQ_FLUSH_WRITES: which pages; guarded by interp.lock */
	unsigned int n_sync;     /* more than there is room for: all */
	uint64_t changed_pa[16]; /* IREQ_CODE, likewise; guarded by interp.cpus_lock */
	unsigned int n_changed;
	unsigned int as;         /* current slot */
	struct as_slot *as_slot; /* likewise */
	struct as_state {
		struct as_slot *slot;
		void *alias; /* this struct again, with the slot behind it */
		uint16_t pcid;
		bool valid;
		bool begun;     /* the slot's memory is not fresh any more */
		uint64_t stamp; /* of last use */
	} as_state[AS_SLOTS];
	uint64_t as_clock;
	struct jump_entry jumps[1 << JUMP_BITS];
	uint32_t run_key; /* block_key with KEY_STEP */
	uint32_t flushes; /* of the block cache: pointers into it are gone */
	struct uop
	    *link_from; /* same-page branch that wants to know its target block, at link_rip */
	uint64_t link_rip;
	struct block_cache *blocks;
	struct lockstep *lockstep; /* translated code is checked; NULL = it is not */
	struct jit *jit;           /* translated code (engine/jit); NULL = interpret everything */
	/* Bits of an address that are its place in struct jumps; 0 while somebody wants us to
	 * leave: nothing is found then. */
	_Atomic uint64_t jumps_mask;
	_Atomic uint64_t pages_mask; /* likewise, in jumps.page */
	struct jit_state jx;
	void *vec; /* vec_*.c's own: gadget cache */
	uint32_t gmem_epoch;
};

struct interp {
	struct engine en;     /* first */
	struct ivcpu **cpus;  /* n_cpus slots; guarded by cpus_lock */
	pthread_mutex_t lock; /* code marks and lines */
	pthread_mutex_t cpus_lock;
	bool jit, lockstep;
	_Atomic uint64_t code_changes;
	uint32_t heat;         /* runs of a block before it is translated */
	pthread_mutex_t split; /* held for atomics that the host can't do in one instruction */
	/* By slot and page: which 64-byte lines hold decoded code, when the page is marked. */
	_Atomic uint64_t *code_lines[GMEM_MAX_SLOTS];
	uint32_t epoch; /* of gmem, when code_lines were made */
};

static inline struct interp *vcpu_interp(const struct ivcpu *v)
{
	return container_of(v->vcpu.en, struct interp, en);
}

enum ireq {
	IREQ_FLUSH_WRITES = 1 << 0, /* a page became code elsewhere: drop write entries */
	IREQ_CODE = 1 << 1,         /* code changed: forget where jumps lead */
};

/* From any thread: @v leaves at its next branch and serves @bits (enum ireq, 0 = none). */
void ivcpu_request(struct ivcpu *v, uint32_t bits);

/* --- slow handlers --- */

/*
 * v->c.rip is this instruction's address, v->next_rip the following one's; the dispatcher stores
 * next_rip to c.rip afterwards.  May raise.
 */
typedef void slow_fn(struct ivcpu *v, const struct x86_insn *i);

enum slow_flags {
	SLOW_ENDS_BLOCK =
	    1 << 0, /* may change rip, mode, translation or flags that decoding depends on */
};

struct slow_handler {
	slow_fn *fn;
	unsigned int flags;
};

/*
 * Each family answers for its own mnemonics (and encodings); fn NULL = not mine.  An instruction
 * nobody knows, or that the CPU model does not show, raises #UD.
 */
struct slow_handler sys_lookup(const struct ivcpu *v, const struct x86_insn *i); /* sys_*.c */
struct slow_handler vec_lookup(const struct ivcpu *v, const struct x86_insn *i); /* vec_*.c */

/* --- raising --- */

/* The current instruction faults: rip stays at it.  Never return. */
_Noreturn void raise_fault(struct ivcpu *v, unsigned int vector);
_Noreturn void raise_fault_error(struct ivcpu *v, unsigned int vector, uint32_t error);
/* Leave with v->exit filled in; the instruction is started again unless it advanced rip before. */
_Noreturn void raise_exit(struct ivcpu *v);
static inline _Noreturn void raise_ud(struct ivcpu *v)
{
	raise_fault(v, VEC_UD);
}
static inline _Noreturn void raise_gp(struct ivcpu *v, uint32_t error)
{
	raise_fault_error(v, VEC_GP, error);
}

/* --- memory (mem.c) --- */

/*
 * Offset in a segment -> linear address, with all checks for [off, off+size): null and limit, type,
 * canonical form.  #GP or #SS, and #AC before them if only the operand's end is not canonical.
 * @off is already truncated to the address size.
 */
uint64_t seg_linear(struct ivcpu *v, unsigned int seg, uint64_t off, unsigned int size,
		    enum access acc);
/* Likewise, never #AC. */
uint64_t seg_linear_any(struct ivcpu *v, unsigned int seg, uint64_t off, unsigned int size,
			enum access acc);

/* By linear address with the current CPL's rights; any alignment, page crossing and MMIO included.
 */
uint8_t lin_ld8(struct ivcpu *v, uint64_t lin);
uint16_t lin_ld16(struct ivcpu *v, uint64_t lin);
uint32_t lin_ld32(struct ivcpu *v, uint64_t lin);
uint64_t lin_ld64(struct ivcpu *v, uint64_t lin);
void lin_st8(struct ivcpu *v, uint64_t lin, uint8_t x);
void lin_st16(struct ivcpu *v, uint64_t lin, uint16_t x);
void lin_st32(struct ivcpu *v, uint64_t lin, uint32_t x);
void lin_st64(struct ivcpu *v, uint64_t lin, uint64_t x);
uint64_t lin_ld(struct ivcpu *v, uint64_t lin, unsigned int size);
void lin_st(struct ivcpu *v, uint64_t lin, unsigned int size, uint64_t x);
/* Larger operands (vectors, FXSAVE): all or nothing on faults; size <= 4096. */
void lin_read(struct ivcpu *v, uint64_t lin, void *buf, unsigned int size);
void lin_write(struct ivcpu *v, uint64_t lin, const void *buf, unsigned int size);
/* Likewise, never #AC. */
void lin_read_any(struct ivcpu *v, uint64_t lin, void *buf, unsigned int size);
void lin_write_any(struct ivcpu *v, uint64_t lin, const void *buf, unsigned int size);
/* Raise what an access would raise, without doing it. */
void lin_probe(struct ivcpu *v, uint64_t lin, unsigned int size, enum access acc);
/* #AC, where alignment checks are on, for an access that comes later. */
void lin_check_align(struct ivcpu *v, uint64_t lin, unsigned int size);
/* With supervisor rights whatever the CPL: descriptor tables, TSS, IDT (implicit accesses). */
uint64_t sys_ld(struct ivcpu *v, uint64_t lin, unsigned int size);
void sys_st(struct ivcpu *v, uint64_t lin, unsigned int size, uint64_t x);
/* Host pointer for atomics on [lin, lin+size), writable, inside one cache line of RAM; NULL when it
 * is MMIO or crosses a line (the caller then takes the split-lock path).  Marks code and dirty
 * pages. */
void *lin_rmw(struct ivcpu *v, uint64_t lin, unsigned int size);

/* Effective address (offset in i->seg, truncated to the address size) of i's memory operand. */
uint64_t insn_ea(const struct ivcpu *v, const struct x86_insn *i);
/* Checked linear address of i's memory operand. */
static inline uint64_t insn_lin(struct ivcpu *v, const struct x86_insn *i, unsigned int size,
				enum access acc)
{
	return seg_linear(v, i->seg, insn_ea(v, i), size, acc);
}

/* GPR access by hardware number and size in bytes; 8-bit numbers 4-7 mean AH..BH unless @rex. */
uint64_t gpr_get(const struct ivcpu *v, unsigned int reg, unsigned int size, bool rex);
void gpr_set(struct ivcpu *v, unsigned int reg, unsigned int size, bool rex, uint64_t x);
/* ModRM r/m as integer operand, register or memory. */
uint64_t rm_get(struct ivcpu *v, const struct x86_insn *i, unsigned int size);
void rm_set(struct ivcpu *v, const struct x86_insn *i, unsigned int size, uint64_t x);

/* Linear address of a stack access at offset @sp (truncated to the stack size here). */
uint64_t stack_linear(struct ivcpu *v, uint64_t sp, unsigned int size, enum access acc);
/* Stack of the current SS; push and pop commit RSP only when the access went through. */
void push(struct ivcpu *v, unsigned int size, uint64_t x);
uint64_t pop(struct ivcpu *v, unsigned int size);

/* --- TLB (tlb.c) --- */

/* A vCPU's structure, zeroed, with its address-space slots (vcpu_mem.c); -errno. */
must_check int ivcpu_alloc(struct ivcpu **ret, struct err *e);
void ivcpu_release(struct ivcpu *v);
/* From an alias's start to its slot. */
size_t ivcpu_slot_offset(void);

void tlb_flush_all(struct ivcpu *v);
/* INVLPG: @lin in the current address space, and global mappings of it. */
void tlb_flush_page(struct ivcpu *v, uint64_t lin);
/* All that is not global, in all address spaces. */
void tlb_flush_local(struct ivcpu *v);
/* CR3 was loaded: @pcid's entries are current now, and stay only if @keep. */
void tlb_switch(struct ivcpu *v, uint16_t pcid, bool keep);
/* INVPCID of one address space: of all, or of one page. */
void tlb_flush_pcid(struct ivcpu *v, uint16_t pcid);
void tlb_flush_pcid_page(struct ivcpu *v, uint16_t pcid, uint64_t lin);
void tlb_init(struct ivcpu *v);
/* The state came from elsewhere: empty, and the current slot is that of its PCID. */
void tlb_restart(struct ivcpu *v);
/* Points v->tlb to the set that v->tlb_set names. */
void tlb_select(struct ivcpu *v);
/* Host address for an access whose tag did not match: walks, enters, or returns NULL with @pa for
 * MMIO.  @pa is filled in always.  For writes the slow store path (mem.c) must be used. Raises #PF.
 */
void *tlb_fill(struct ivcpu *v, uint64_t lin, enum access acc, uint64_t *pa);
/* As tlb_fill with the rights of @set, whatever the current one. */
void *tlb_fill_set(struct ivcpu *v, enum tlb_set set, uint64_t lin, enum access acc, uint64_t *pa);
/* Drop write entries: of the physical page @pa; or of all pages that got marked as code. */
void tlb_drop_writes(struct ivcpu *v, uint64_t pa);
void tlb_sync_writes(struct ivcpu *v);

/* --- paging (mmu.c) --- */

struct mmu_result {
	uint64_t pa;      /* physical address of the byte */
	uint64_t page;    /* size of the mapping: 4096, 2 MiB, 4 MiB, 1 GiB */
	bool write, exec; /* rights of this mapping for the set asked, with dirty bit considered:
			   * write is true only if D is set already or paging is off */
	bool global;
};

/*
 * Walks the guest's tables for @acc with the rights of @set (TLB_USER: user access; TLB_SUPER:
 * supervisor access subject to SMAP; TLB_SUPER_AC: without SMAP), sets A and D, and returns true;
 * or returns false with the #PF error code in @error (CR2 is the caller's to set).
 */
bool mmu_walk(struct ivcpu *v, uint64_t lin, enum access acc, enum tlb_set set,
	      struct mmu_result *ret, uint32_t *error);

/* --- control (sys_*.c) --- */

/* Recompute everything derived from c (mode, bits, cpl, tlb_set, stack_bits, block_key, data_bp);
 * call after any change of CR0, CR4, EFER, CS, SS, EFLAGS.VM/AC, DR7.  In interp.c (core). */
void interp_mode_changed(struct ivcpu *v);

/*
 * Deliver an event through the IDT: gates, privilege change, IST, stack switch, error code.  @type
 * as cpu.event_type.  For software interrupts and traps rip must already be what is pushed; for
 * faults the instruction's own.  A fault on the way becomes #DF or shutdown (raise_exit).
 * Returns normally when the handler's first instruction is next.
 */
void event_deliver(struct ivcpu *v, unsigned int vector, unsigned int type, bool has_error,
		   uint32_t error);

/* Called by the run loop when c.pending_dbg or TF asks for a #DB after an instruction, and before
 * an instruction for code breakpoints (returns true when it delivered one). */
void debug_after_insn(struct ivcpu *v, bool tf_was_set);
bool debug_before_insn(struct ivcpu *v, uint64_t lin);
/* A data access happened on a page with breakpoints: records pending_dbg. */
void debug_data_access(struct ivcpu *v, uint64_t lin, unsigned int size, enum access acc);
/* Is the I/O port access of @size allowed here (CPL, IOPL, TSS bitmap)?  Raises #GP if not. */
void io_check(struct ivcpu *v, uint16_t port, unsigned int size);
/* RFLAGS as POPF/IRET/SYSRET store them happen in sys; the arithmetic part is always in c.rflags.
 */

/* Integer instructions without a hot uop of their own (ops_*.c); fn NULL = not mine. */
struct slow_handler int_lookup(const struct ivcpu *v, const struct x86_insn *i);
struct slow_handler string_lookup(const struct ivcpu *v, const struct x86_insn *i);

/* --- flags --- */

/* LAHF/SETO form <-> RFLAGS. */
static inline uint64_t flags_from_af(uint16_t af)
{
	return ((af >> 8) & (FL_ARITH & 0xff)) | ((uint64_t)(af & 1) << 11);
}
static inline uint16_t flags_to_af(uint64_t fl)
{
	return (uint16_t)(((fl & 0xff) << 8) | ((fl >> 11) & 1));
}

/* --- exits (interp.c) --- */

/* Port, MMIO, MSR and CR8 accesses through the replay log; may raise_exit. */
uint64_t exit_io_read(struct ivcpu *v, uint16_t port, unsigned int size);
void exit_io_write(struct ivcpu *v, uint16_t port, unsigned int size, uint64_t x);
uint64_t exit_mmio_read(struct ivcpu *v, uint64_t pa, unsigned int size);
void exit_mmio_write(struct ivcpu *v, uint64_t pa, unsigned int size, uint64_t x);
uint64_t exit_msr_read(struct ivcpu *v, uint32_t msr); /* raises #GP when the answer is fault */
void exit_msr_write(struct ivcpu *v, uint32_t msr, uint64_t x);
uint64_t exit_cr8_read(struct ivcpu *v);
void exit_cr8_write(struct ivcpu *v, uint64_t x);
/* The answer to the exit before arrives with the next run. */
void replay_answer(struct ivcpu *v, const struct vm_exit *x);
/* The accesses logged so far are committed (an iteration of a string instruction is complete). */
void replay_commit(struct ivcpu *v);
/* Nothing asks for a look between two instructions but an interrupt shadow and RF, which does not
 * matter without breakpoints. */
bool interp_is_quiet(const struct ivcpu *v);
/* Look at IREQ_* now. */
void serve_requests(struct ivcpu *v);

/* --- vector unit's life (vec.c) --- */

/* The handler of all instructions that the host executes as they are. */
slow_fn vec_exec;
must_check int vec_init(struct ivcpu *v, struct err *e);
void vec_fini(struct ivcpu *v);
/* Puts x87 state and MXCSR of c->xs through the host: so that it is what a processor would hold. */
void x87_normalize(struct cpu *c);
/* Is the host address @pc in code made for guest instructions? */
bool vec_owns_code(const struct ivcpu *v, uintptr_t pc);

/* --- host faults (hostfault.c) --- */

/* Once a process; and whom this thread runs, NULL = nobody. */
void hostfault_init(void);
void hostfault_watch(struct ivcpu *v);
