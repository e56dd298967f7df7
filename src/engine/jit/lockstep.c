/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/lockstep.c - each stay in translated code, rehearsed beside the interpreter
 *
 *	code         from the start, on copies of pages made at its first access to each   -> stops
 *	code         once more, now that the TLB knows the pages                           -> stops
 *	interpreter  from the start, on other copies, until its state is that of code
 *	interpreter  as many instructions and one more, on the guest's memory
 *
 * The pages are copied as they were before, so that devices and other vCPUs cannot come between:
 * all see the same bytes.  What can still differ by chance is the guest's page tables and its code,
 * which are never copies; if they changed meanwhile, a difference counts for nothing.
 */
#include "engine/jit/lockstep_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE_MASK (~UINT64_C(0xfff))

static uint64_t next_random(struct lockstep *l)
{
	l->random ^= l->random << 13;
	l->random ^= l->random >> 7;
	l->random ^= l->random << 17;
	return l->random >> 8;
}

static bool one_in(struct lockstep *l, unsigned int n)
{
	return next_random(l) % n == 0;
}

/* --- copies of pages --- */

static struct tlb *set_of(struct ivcpu *v, enum tlb_set set)
{
	return set == TLB_SUPER ? &v->super : set == TLB_USER ? &v->as_slot->user : &v->as_slot->ac;
}

static void forget_data_of(struct ivcpu *v, struct tlb *t)
{
	unsigned int n = 0;

	if (t->n_used > TLB_USED)
		tlb_flush_all(v);
	for (unsigned int k = 0; k < t->n_used; k++) {
		unsigned int i = t->used[k];

		t->tag[ACC_READ][i] = t->tag[ACC_WRITE][i] = TLB_NONE;
		if (t->tag[ACC_EXEC][i] != TLB_NONE)
			t->used[n++] = (uint16_t)i;
	}
	t->n_used = n;
}

/* Entries for data go, so that each page's next access comes to lockstep_page. */
static void forget_data(struct ivcpu *v)
{
	forget_data_of(v, &v->super);
	forget_data_of(v, &v->as_slot->user);
	forget_data_of(v, &v->as_slot->ac);
}

static struct lockstep_page *find_page(struct lockstep *l, uint64_t pa)
{
	for (unsigned int k = 0; k < l->n_pages; k++) {
		if (l->page[k].pa == pa)
			return &l->page[k];
	}
	return NULL;
}

/* The last one is not for code: the interpreter, when it has gone astray, may have it. */
static struct lockstep_page *new_page(struct lockstep *l, enum tlb_set set, uint64_t lin,
				      const uint8_t *host, uint64_t pa)
{
	struct lockstep_page *p = &l->page[l->n_pages];

	if (l->n_pages < LOCKSTEP_PAGES)
		l->n_pages++;
	p->pa = pa;
	p->lin = lin;
	p->set = set;
	memcpy(p->before, host, GMEM_PAGE_SIZE);
	memcpy(p->code, p->before, GMEM_PAGE_SIZE);
	memcpy(p->interp, p->before, GMEM_PAGE_SIZE);
	return p;
}

uint8_t *lockstep_page(struct ivcpu *v, enum tlb_set set, uint64_t lin, enum access acc,
		       uint8_t *host, uint64_t pa)
{
	struct lockstep *l = v->lockstep;
	struct tlb *t = set_of(v, set);
	unsigned int i = tlb_index(lin);
	struct lockstep_page *p;
	uint8_t *copy;

	if (l->side == SIDE_NONE || acc == ACC_EXEC)
		return host;
	lin &= PAGE_MASK;
	pa &= PAGE_MASK;
	p = find_page(l, pa);
	if (!p && l->side == SIDE_CODE && l->n_pages == LOCKSTEP_PAGES) {
		t->tag[ACC_READ][i] = t->tag[ACC_WRITE][i] = TLB_NONE;
		return host;
	}
	if (!p && l->side == SIDE_INTERP && !l->stray) {
		l->stray = true;
		l->stray_lin = lin;
	}
	if (!p)
		p = new_page(l, set, lin, host, pa);
	copy = l->side == SIDE_CODE ? p->code : p->interp;
	if (t->tag[ACC_READ][i] == -lin || t->tag[ACC_WRITE][i] == -lin) {
		t->addend[i] = (uintptr_t)copy - lin + TLB_BIAS;
		t->tag[ACC_EXEC][i] = TLB_NONE; /* code is not a copy */
	}
	return copy;
}

bool lockstep_may_access(struct ivcpu *v, uint64_t lin, enum access acc)
{
	struct mmu_result r;
	uint32_t error;

	return mmu_walk(v, lin, acc, v->tlb_set, &r, &error);
}

/* Code may have stored the return address of the CALL that it leaves to the interpreter. */
static bool page_equal(const struct lockstep *l, const struct lockstep_page *p)
{
	uint64_t off = l->call_slot - p->lin, value;

	if (memcmp(p->code, p->interp, GMEM_PAGE_SIZE) == 0)
		return true;
	if (!l->call_size || off > GMEM_PAGE_SIZE - l->call_size)
		return false;
	value = l->call_rip;
	return memcmp(p->code + off, &value, l->call_size) == 0 &&
	       memcmp(p->code, p->interp, off) == 0 &&
	       memcmp(p->code + off + l->call_size, p->interp + off + l->call_size,
		      GMEM_PAGE_SIZE - off - l->call_size) == 0;
}

static bool pages_equal(const struct lockstep *l)
{
	for (unsigned int k = 0; k < l->n_pages; k++) {
		if (!page_equal(l, &l->page[k]))
			return false;
	}
	return true;
}

/* --- both sides --- */

/* All but the shadow of STI, which code keeps in another way (jit/system.c). */
static bool states_equal(const struct cpu *a, const struct cpu *b)
{
	const size_t shadow = offsetof(struct cpu, int_shadow), behind = shadow + 1;

	if (a->rip != b->rip || memcmp(a->gpr, b->gpr, sizeof(a->gpr)) != 0)
		return false;
	return memcmp(a, b, shadow) == 0 &&
	       memcmp((const char *)a + behind, (const char *)b + behind, sizeof(*a) - behind) == 0;
}

/* Was OF last written by a rotate by an immediate?  It is undefined then, and on some hosts other
 * than by CL, which is what the interpreter has for both. */
static bool of_is_undefined(struct ivcpu *v)
{
	const struct lockstep *l = v->lockstep;

	for (unsigned int k = 1; k <= MIN(l->n_steps, (unsigned int)LOCKSTEP_PATH); k++) {
		const struct lockstep_insn *i = &l->path[(l->n_steps - k) % LOCKSTEP_PATH];
		ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
		ZydisDecodedInstruction z;
		ZydisDecoder d;

		ZydisDecoderInit(&d,
				 v->bits == INSN_64 ? ZYDIS_MACHINE_MODE_LONG_64
						    : ZYDIS_MACHINE_MODE_LEGACY_32,
				 v->bits == INSN_64 ? ZYDIS_STACK_WIDTH_64 : ZYDIS_STACK_WIDTH_32);
		if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, i->raw, i->len, &z, ops)))
			return false;
		if (z.mnemonic == ZYDIS_MNEMONIC_ROL || z.mnemonic == ZYDIS_MNEMONIC_ROR ||
		    z.mnemonic == ZYDIS_MNEMONIC_RCL || z.mnemonic == ZYDIS_MNEMONIC_RCR)
			return (z.opcode & 0xfe) == 0xc0;
		if (z.cpu_flags && ((z.cpu_flags->modified | z.cpu_flags->set_0 |
				     z.cpu_flags->set_1 | z.cpu_flags->undefined) &
				    ZYDIS_CPUFLAG_OF))
			return false;
	}
	return false;
}

/* Has the interpreter come to where code came? */
static bool is_there(struct ivcpu *v)
{
	const struct lockstep *l = v->lockstep;
	struct cpu c;

	if (v->c.rip != l->code.rip || !pages_equal(l))
		return false;
	if (states_equal(&v->c, &l->code))
		return true;
	c = v->c;
	if (l->host_fault) /* of an instruction that is to raise #XM, and has set its flags */
		c.xs.mxcsr |= l->code.xs.mxcsr & 0x3f;
	if ((c.rflags ^ l->code.rflags) == FL_OF && of_is_undefined(v))
		c.rflags ^= FL_OF;
	return states_equal(&c, &l->code);
}

static void put_back(struct ivcpu *v)
{
	struct lockstep *l = v->lockstep;

	v->c = l->start;
	v->af = flags_to_af(v->c.rflags);
	v->page_rip = l->page_rip;
	interp_mode_changed(v); /* STAC, CLAC, SYSCALL, SYSRET */
	v->hot = v->running = v->stop = false;
}

/* Flags and, but where code says that it is right, RIP to where the architecture has them. */
static void settle(struct ivcpu *v, const struct uop *u)
{
	if (u)
		v->c.rip = (v->page_rip + u->off) & v->rip_mask;
	v->c.rflags = (v->c.rflags & ~(uint64_t)FL_ARITH) | flags_from_af(v->af);
}

/* From the start at @at in the code memory: what code left is in l->code; what it told. */
static uint32_t run_code(struct ivcpu *v, uint32_t at)
{
	struct lockstep *l = v->lockstep;
	struct jit *j = v->jit;
	uint32_t told;

	put_back(v);
	for (unsigned int k = 0; k < l->n_pages; k++)
		memcpy(l->page[k].code, l->page[k].before, GMEM_PAGE_SIZE);
	l->called = NULL;
	l->host_fault = false;
	v->jx.budget = l->budget;
	v->jumps_mask = JUMPS_MASK;
	v->pages_mask = PAGES_MASK;
	v->hot = v->running = true;
	l->side = SIDE_CODE;
	told = j->enter(j->rx + at, v->as_state[v->as].alias);
	jit_sync(v);
	l->side = SIDE_NONE;
	return told;
}

/* Where code goes on once the interpreter has done what it was left. */
static void note_resume(struct ivcpu *v, const struct uop *u)
{
	struct lockstep *l = v->lockstep;
	const struct block *b = jit_block_of(u);

	l->resume.b = NULL;
	if (l->called != u || b->crosses)
		return;
	l->resume.b = b;
	l->resume.k = u->idx + 1u;
	l->resume.rip = (v->page_rip + u->off + u->len) & v->rip_mask;
	l->resume.page_rip = v->page_rip;
	l->resume.jit_flushes = v->jit->stats.flushes;
}

/* See page_equal. */
static void note_call(struct ivcpu *v, const struct uop *u)
{
	struct lockstep *l = v->lockstep;
	const struct block *b = jit_block_of(u);
	struct x86_insn i;

	l->call_size = 0;
	if (insn_decode(b->raw + (u->off - b->u[0].off), u->len, v->bits, &i) < 0 ||
	    i.mnemonic != ZYDIS_MNEMONIC_CALL)
		return;
	l->call_size = v->mode == MODE_LONG ? 8 : 4;
	l->call_rip = (v->page_rip + u->off + u->len) & v->rip_mask;
	l->call_slot = v->c.gpr[RSP] - l->call_size;
	if (v->mode != MODE_LONG)
		l->call_slot = (uint32_t)(v->c.seg[SEG_SS].base + l->call_slot);
}

/* At first without, then with the pages in the TLB, which makes a difference to groups. */
static void rehearse_code(struct ivcpu *v, uint32_t at, bool twice)
{
	struct lockstep *l = v->lockstep;
	const struct uop *u;
	uint32_t told;

	told = run_code(v, at);
	if (twice)
		told = run_code(v, at);
	u = jit_left(v, told);
	settle(v, u);
	l->code = v->c;
	l->resume.b = NULL;
	l->call_size = 0;
	if (u) {
		note_resume(v, u);
		note_call(v, u);
	}
	put_back(v);
	forget_data(v);
}

/* Instructions that end a block, but not the stay in code (system.c). */
static bool goes_on(const struct uop *u)
{
	if (u->fn != op_slow_end)
		return true;
	switch (u->insn->mnemonic) {
	case ZYDIS_MNEMONIC_STAC:
	case ZYDIS_MNEMONIC_CLAC:
	case ZYDIS_MNEMONIC_SYSCALL:
	case ZYDIS_MNEMONIC_SYSRET:
		return true;
	default:
		return false;
	}
}

static bool step(struct ivcpu *v)
{
	struct lockstep *l = v->lockstep;
	struct lockstep_insn *i = &l->path[l->n_steps % LOCKSTEP_PATH];
	struct block *b;

	v->run_key = v->block_key | KEY_STEP;
	v->stepping = v->stop = true;
	v->no_step = false;
	v->c.int_shadow = 0;
	v->c.rflags &= ~(uint64_t)FL_RF;
	b = interp_step_block(v);
	i->rip = v->c.rip;
	i->len = b->u[0].len;
	memcpy(i->raw, b->raw, MIN(b->bytes, (uint16_t)INSN_MAX_LEN));
	if (!goes_on(&b->u[0])) {
		l->ended = "comes to an instruction that code has to leave";
		return false;
	}
	interp_run_block(v, b);
	v->stepping = false;
	replay_commit(v);
	return true;
}

/* Until the state is that of code. */
static bool follow(struct ivcpu *v)
{
	struct lockstep *l = v->lockstep;

	for (l->n_steps = 0; !l->stray; l->n_steps++) {
		if (is_there(v))
			return true;
		if (v->c.rip == l->code.rip || !l->n_steps)
			l->interp = v->c; /* for the report: the last one that was there */
		if (l->n_steps == LOCKSTEP_STEPS) {
			l->ended = "does not come to the state of code";
			return false;
		}
		if (!step(v))
			return false;
	}
	l->ended = "touches another page";
	return false;
}

/* The interpreter from the start; true when it comes to where code came. */
static bool rehearse_interp(struct ivcpu *v)
{
	struct lockstep *l = v->lockstep;
	sigjmp_buf here, *fault_jmp = v->fault_jmp;
	struct vm_exit exit, *real = v->exit;
	volatile bool same = false; /* after siglongjmp */

	for (unsigned int k = 0; k < l->n_pages; k++)
		memcpy(l->page[k].interp, l->page[k].before, GMEM_PAGE_SIZE);
	l->stray = false;
	l->side = SIDE_INTERP;
	v->fault_jmp = &here;
	v->exit = &exit;
	if (sigsetjmp(here, 0) == 0) {
		same = follow(v);
	} else {
		l->ended = v->fault.is_exit ? "leaves by an exit" : "raises an exception";
		v->rmw_size = 0;
		v->replay.open = false;
	}
	l->side = SIDE_NONE;
	v->fault_jmp = fault_jmp;
	v->exit = real;
	v->stepping = false;
	replay_commit(v);
	put_back(v);
	forget_data(v);
	return same;
}

/* --- one check --- */

/* Did what is not copied change since code began?  Whoever changes code says so afterwards. */
static bool by_chance(struct ivcpu *v, uint64_t code_changes)
{
	const struct timespec while_others_speak = {.tv_nsec = 20 * 1000 * 1000};
	struct lockstep *l = v->lockstep;
	struct mmu_result r;
	uint32_t error;

	(void)nanosleep(&while_others_speak, NULL);
	if (vcpu_interp(v)->code_changes != code_changes)
		return true;
	for (unsigned int k = 0; k < l->n_pages; k++) {
		if (!mmu_walk(v, l->page[k].lin, ACC_READ, l->page[k].set, &r, &error) ||
		    (r.pa & PAGE_MASK) != l->page[k].pa)
			return true;
	}
	return false;
}

static bool is_same(struct ivcpu *v, uint32_t at, bool twice)
{
	rehearse_code(v, at, twice);
	return rehearse_interp(v);
}

/* Makes the difference as early as it can be had, and tells. */
static bool report(struct ivcpu *v, const struct block *b, uint32_t at, bool twice)
{
	struct lockstep *l = v->lockstep;
	unsigned int budget = l->budget;

	for (l->budget = 1; l->budget < budget; l->budget++) {
		if (!is_same(v, at, twice))
			break;
	}
	if (l->budget == budget && is_same(v, at, twice)) {
		l->stats.chance++; /* it does not happen again */
		return false;
	}
	lockstep_report(v, b, at, v->exit);
	return true;
}

/* Where to enter: at the block's begin, or behind a call of C in the middle of another one. */
static uint32_t entry(struct ivcpu *v, const struct block *b)
{
	struct lockstep *l = v->lockstep;
	const struct block *r = l->resume.b;
	const struct jit_code *c;
	uint32_t at;

	if (!r || l->resume.jit_flushes != v->jit->stats.flushes || l->resume.rip != v->c.rip ||
	    l->resume.page_rip != l->page_rip || r->dead || r->key != b->key || !r->code ||
	    *r->word != r->gen || ((r->pa ^ b->pa) & PAGE_MASK))
		return b->code->body;
	c = r->code;
	at = c->first ? c->first[l->resume.k] : c->at[l->resume.k];
	if (at == UINT32_MAX)
		return b->code->body;
	l->stats.resumed++;
	return at;
}

/* What a check must not depend on. */
static void disturb(struct ivcpu *v)
{
	struct lockstep *l = v->lockstep;

	if (one_in(l, 4096))
		tlb_flush_all(v);
	if (one_in(l, 1024))
		jumps_wipe_all(v);
	l->budget = 1u << (next_random(l) % 8);
}

bool lockstep_check(struct ivcpu *v)
{
	struct lockstep *l = v->lockstep;
	const struct block *b = l->entered;
	uint64_t changes = vcpu_interp(v)->code_changes;
	bool twice;
	uint32_t at;

	if (!b)
		return false;
	l->entered = NULL;
	if (v->kicked) { /* perhaps since the block's code changed, after it was found */
		l->steps = 1;
		return false;
	}
	l->start = v->c;
	l->page_rip = v->page_rip;
	l->n_pages = 0;
	disturb(v);
	twice = !one_in(l, 4);
	at = entry(v, b);
	forget_data(v);
	l->stats.checks++;
	if (!is_same(v, at, twice)) {
		if (by_chance(v, changes))
			l->stats.chance++;
		else if (report(v, b, at, twice))
			return true;
		l->steps = 1;
		return false;
	}
	l->steps = l->n_steps + 1;
	l->stats.insns += l->n_steps;
	l->stats.pages += l->n_pages;
	return false;
}

/* --- the run loop and the translator --- */

bool lockstep_takes_step(struct ivcpu *v)
{
	struct lockstep *l = v->lockstep;

	if (!l->steps)
		return false;
	l->steps--;
	return true;
}

const struct uop *lockstep_enter(struct ivcpu *v, struct block *b)
{
	v->lockstep->entered = b;
	v->c.rip = (v->page_rip + b->u[0].off) & v->rip_mask;
	return NULL;
}

static void touch(struct ivcpu *v, uint64_t lin, enum access acc)
{
	uint64_t pa;

	if ((uint64_t)((int64_t)(lin << 16) >> 16) == lin && lockstep_may_access(v, lin, acc))
		(void)tlb_fill(v, lin, acc, &pa);
}

/* REP MOVS and STOS call when their pages are not in the TLB, which does not get them by that: so
 * that code has a chance at its second run. */
void lockstep_called(struct ivcpu *v, const struct uop *u)
{
	v->lockstep->called = u;
	if (v->mode != MODE_LONG)
		return;
	switch (u->insn->mnemonic) {
	case ZYDIS_MNEMONIC_MOVSB:
	case ZYDIS_MNEMONIC_MOVSW:
	case ZYDIS_MNEMONIC_MOVSD:
	case ZYDIS_MNEMONIC_MOVSQ:
		touch(v, v->c.gpr[RSI], ACC_READ);
		/* fall through */
	case ZYDIS_MNEMONIC_STOSB:
	case ZYDIS_MNEMONIC_STOSW:
	case ZYDIS_MNEMONIC_STOSD:
	case ZYDIS_MNEMONIC_STOSQ:
		touch(v, v->c.gpr[RDI], ACC_WRITE);
		break;
	default:
		break;
	}
}

void lockstep_host_fault(struct ivcpu *v)
{
	v->lockstep->host_fault = true;
}

unsigned int lockstep_block_max(struct ivcpu *v, unsigned int max)
{
	struct lockstep *l = v->lockstep;

	return one_in(l, 2) ? max : 2 + (unsigned int)(next_random(l) % (max - 1));
}

void lockstep_spend(const struct ivcpu *v, struct emit *e)
{
	uint8_t *spent, *over;

	if (!v->lockstep)
		return;
	emit_load(e, HOST_T0, rm_gs(GS(jx.budget)));
	emit_lea(e, HOST_T0, rm_base(HOST_T0, -1));
	emit_store(e, HOST_T0, rm_gs(GS(jx.budget)));
	spent = emit_jrcxz(e);
	emit8(e, 0xeb);
	emit8(e, 0);
	over = e->p - 1;
	emit_here(e, spent);
	emit_store(e, HOST_T0, rm_gs(GS(jumps_mask)));
	emit_store(e, HOST_T0, rm_gs(GS(pages_mask)));
	emit_here(e, over);
}

bool lockstep_is_chance(const struct tr *t)
{
	if (!t->v->lockstep)
		return false;
	switch (t->z->mnemonic) {
	case ZYDIS_MNEMONIC_RDRAND:
	case ZYDIS_MNEMONIC_RDSEED:
	case ZYDIS_MNEMONIC_RDTSC:
	case ZYDIS_MNEMONIC_RDTSCP:
		return true;
	default:
		return false;
	}
}

/* --- life --- */

int lockstep_new(struct ivcpu *v, struct err *e)
{
	struct lockstep *l = xnew(struct lockstep);
	size_t size = 3 * ARRAY_SIZE(l->page) * GMEM_PAGE_SIZE;
	uint8_t *p;

	l->random = UINT64_C(0x9e3779b97f4a7c15) + v->vcpu.index;
	v->lockstep = l;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return err_set(e, -errno, "lock-step");
	l->copies = p;
	for (unsigned int k = 0; k < ARRAY_SIZE(l->page); k++) {
		l->page[k].before = p + (3 * k) * GMEM_PAGE_SIZE;
		l->page[k].code = p + (3 * k + 1) * GMEM_PAGE_SIZE;
		l->page[k].interp = p + (3 * k + 2) * GMEM_PAGE_SIZE;
	}
	return 0;
}

void lockstep_free(struct ivcpu *v)
{
	struct lockstep *l = v->lockstep;

	if (!l)
		return;
	if (l->copies)
		munmap(l->copies, 3 * ARRAY_SIZE(l->page) * GMEM_PAGE_SIZE);
	free(l);
	v->lockstep = NULL;
}

void lockstep_stats(const struct ivcpu *v, char *buf, size_t len)
{
	const struct lockstep *l = v->lockstep;

	snprintf(buf, len,
		 "; lock-step: %" PRIu64 " stays checked, %" PRIu64
		 " of them begun behind a call, %" PRIu64 " instructions, %" PRIu64
		 " pages, %" PRIu64 " differences by chance",
		 l->stats.checks, l->stats.resumed, l->stats.insns, l->stats.pages,
		 l->stats.chance);
}
