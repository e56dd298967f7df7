/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/jit.c - between the interpreter and translated code
 *
 * A watched block's first micro-op counts; when the count is up it translates, and from then on it
 * enters the code.  Code tells by which micro-op the interpreter goes on.
 */
#include "engine/jit/jit_priv.h"

#include "base/hugemem.h"
#include "engine/jit/lockstep.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#define META_SIZE (128u << 20) /* address space */

/* jit_call's answer besides JIT_LEAVE */
#define GO_ON 0u

_Static_assert(sizeof(struct uop) % 8 == 0, "uop codes count eights");

static const struct uop *uop_at(const struct jit *j, uint32_t code)
{
	return (const struct uop *)(j->base + 8ul * (code & JIT_UOP_MASK));
}

struct block *jit_block_of(const struct uop *u)
{
	struct uop *first = (struct uop *)u - u->idx;

	return container_of(first, struct block, u[0]);
}

/* The micro-op itself, not what enters the code that left it to us. */
static const struct uop *run_uop(struct ivcpu *v, const struct uop *u)
{
	if (u->idx == 0 && jit_block_of(u)->code)
		return jit_block_of(u)->first(v, u);
	GO(v, u);
}

void jit_mode_changed(struct ivcpu *v)
{
	const struct cpu *c = &v->c;
	bool off = c->cr0 & (CR0_EM | CR0_TS);

	v->jx.sse_block = off || !(c->cr4 & CR4_OSFXSR);
	v->jx.avx_block =
	    v->jx.sse_block || !(c->cr4 & CR4_OSXSAVE) || (~c->xcr0 & (XSTATE_SSE | XSTATE_AVX));
	v->jx.x87_block = off || !(c->cr0 & CR0_NE);
	v->jx.tsc_block = (c->cr4 & CR4_TSD) && v->cpl > 0;
	v->jx.smap_off = !(c->cr4 & CR4_SMAP);
}

/* --- from C to code and back --- */

/* Puts back what a request for leaving took.  False = there is one. */
static bool may_enter(struct ivcpu *v)
{
	if (unlikely(v->jumps_mask != JUMPS_MASK || v->pages_mask != PAGES_MASK)) {
		v->jumps_mask = JUMPS_MASK;
		v->pages_mask = PAGES_MASK;
		if (v->kicked)
			v->jumps_mask = v->pages_mask = 0;
	}
	return !v->leave;
}

const struct uop *jit_left(struct ivcpu *v, uint32_t told)
{
	struct jit *j = jit_of(v);
	const struct uop *u;
	struct jit_code *c;
	struct jit_link *l;

	if (told == JIT_LEAVE)
		return NULL;
	u = uop_at(j, told);
	if (!(told >> JIT_LINK_SHIFT))
		return u;
	c = jit_block_of(u)->code;
	j->pending.from = c;
	j->pending.link = (told >> JIT_LINK_SHIFT) - 1;
	l = &c->link[j->pending.link];
	if (l->kind == LINK_RETURN) { /* has returned already */
		j->pending.rip = v->c.rip;
		return NULL;
	}
	j->pending.rip = (v->page_rip + (uint64_t)l->to) & v->rip_mask;
	return u;
}

static const struct uop *op_enter(struct ivcpu *v, const struct uop *u)
{
	struct jit *j = jit_of(v);
	struct block *b = jit_block_of(u);
	uint32_t told;

	if (unlikely(!may_enter(v)))
		return b->first(v, u);
	jit_note_entry(v, b);
	j->stats.entries++;
	if (unlikely(v->lockstep))
		return lockstep_enter(v, b);
	told = j->enter(j->rx + b->code->body, v->as_state[v->as].alias);
	jit_sync(v);
	u = jit_left(v, told);
	return u ? run_uop(v, u) : NULL;
}

/* Called by code for an instruction with a slow handler. */
uint32_t jit_call(struct ivcpu *v, uint32_t code)
{
	const struct uop *u = uop_at(jit_of(v), code);
	struct block *b = jit_block_of(u);

	if (unlikely(v->lockstep)) {
		lockstep_called(v, u);
		return code;
	}
	jit_sync(v);
	call_slow(v, u);
	/* A change of code shows behind the next branch, which might look nowhere. */
	if (unlikely(v->leave || b->dead))
		return JIT_LEAVE;
	return GO_ON;
}

static void set_gs_base(const void *base)
{
	__asm__ volatile("wrgsbase %0" ::"r"(base));
}

/*
 * Called by code for an instruction after which another block comes.  A shadow (of STI, say) ends
 * with the next instruction: nothing looks for interrupts before that has been executed.
 */
uint64_t jit_call_end(struct ivcpu *v, uint32_t code)
{
	struct jit *j = jit_of(v);
	const struct uop *u = uop_at(j, code);
	unsigned int as = v->as;
	struct block *b;

	v->jx.saved = code;
	if (unlikely(v->lockstep))
		return 0;
	jit_sync(v);
	call_slow(v, u);
	v->jx.saved = JIT_LEAVE;
	if (unlikely(!interp_is_quiet(v)))
		return 0;
	v->run_key = v->block_key;
	b = jump_cache_find(v, v->c.rip);
	if (!b) { /* which may fault: between two instructions */
		v->hot = v->running = false;
		b = block_find(v);
		if (!b->crosses && (b->key & KEY_CS_FLAT))
			jump_cache_enter(v, v->c.rip, b);
		v->hot = v->running = true;
	}
	v->c.int_shadow = 0;
	v->c.rflags &= ~(uint64_t)FL_RF;
	v->stop = false;
	if (as != v->as)
		set_gs_base(v->as_state[v->as].alias);
	if (!b->code) {
		v->jx.saved = jit_uop_code(j, b->u);
		return 0;
	}
	jit_note_entry(v, b);
	return (uintptr_t)j->rx + b->code->body;
}

/* All of an operand at @lin, whatever its size. */
static bool is_canonical(uint64_t lin)
{
	uint64_t last = lin + 31;

	return (uint64_t)((int64_t)(lin << 16) >> 16) == lin &&
	       (uint64_t)((int64_t)(last << 16) >> 16) == last;
}

/* Called by code for an access that is not in the TLB. */
uint64_t jit_miss(struct ivcpu *v, uint32_t code)
{
	struct jit *j = jit_of(v);
	const struct uop *u = uop_at(j, code);
	struct block *b = jit_block_of(u);
	enum access acc = code & JIT_MISS_WRITE ? ACC_WRITE : ACC_READ;
	uint64_t lin = v->jx.address, pa;
	uint8_t in = v->jx.sse_out, avx = v->jx.avx_out;

	v->jx.saved = code & JIT_UOP_MASK;
	v->jx.sse_out = v->jx.avx_out = 1;
	/* Slow handlers may look at other things before paging: alignment, say. */
	if (v->slow_data || (u->idx ? u->fn : b->first) == op_slow ||
	    tlb_hit(v->tlb, lin, 1, acc) || (v->mode == MODE_LONG && !is_canonical(lin)))
		return 0;
	if (unlikely(v->lockstep) && !lockstep_may_access(v, lin, acc))
		return 0;
	v->uop = u;
	if (!tlb_fill(v, lin, acc, &pa) || !tlb_hit(v->tlb, lin, 1, acc))
		return 0;
	v->jx.sse_out = in;
	v->jx.avx_out = avx;
	return (uintptr_t)j->rx + b->code->at[u->idx];
}

/* --- blocks --- */

/* Puts the interpreter's own first micro-ops back and forgets all code. */
static void forget_all(struct ivcpu *v, bool blocks_are_gone)
{
	struct jit *j = jit_of(v);

	for (unsigned int i = 0; i < j->n_codes && !blocks_are_gone; i++) {
		struct block *b = j->codes[i]->b;

		b->code = NULL;
		jit_watch(v, b);
	}
	j->n_codes = 0;
	j->used = j->stubs;
	j->cold_used = JIT_COLD_START;
	j->meta_used = 0;
	j->pending.from = NULL;
	if (j->next_number >= JIT_NUMBERS) {
		memset(j->pages, 0, JIT_PAGES * sizeof(j->pages[0]));
		j->next_number = 1;
	}
	j->stats.flushes++;
	jumps_wipe_all(v);
}

/* Code is looked for all over its memory. */
static void back_code(struct jit *j, size_t *backed, size_t up_to)
{
	for (; *backed < up_to; *backed += HUGE_PAGE) {
		huge_now(j->rw + *backed, HUGE_PAGE);
		huge_now(j->rx + *backed, HUGE_PAGE);
	}
}

static bool room_for(struct ivcpu *v, const struct block *b)
{
	struct jit *j = jit_of(v);
	size_t room = b->n * 1024u + 65536;

	if (j->next_number >= JIT_NUMBERS || j->used + room > JIT_COLD_START ||
	    j->cold_used + room > JIT_CODE_SIZE ||
	    j->meta_used + sizeof(struct jit_code) + 2 * (b->n + 2u) * sizeof(uint32_t) +
		    JIT_LINKS * sizeof(struct jit_link) >
		META_SIZE)
		forget_all(v, false);
	back_code(j, &j->backed, j->used + room);
	back_code(j, &j->cold_backed, j->cold_used + room);
	if (j->n_codes == j->max_codes) {
		unsigned int n = j->max_codes ? 2 * j->max_codes : 4096;
		struct jit_code **p = realloc(j->codes, n * sizeof(struct jit_code *));

		if (!p)
			return false;
		j->codes = p;
		j->max_codes = n;
	}
	return true;
}

static const struct uop *op_watch(struct ivcpu *v, const struct uop *u)
{
	struct block *b = jit_block_of(u);
	struct jit *j = jit_of(v);

	if (likely(--b->heat))
		return b->first(v, u);
	((struct uop *)u)->fn = b->first;
	if (!room_for(v, b))
		return b->first(v, u);
	b->code = jit_translate(v, b);
	if (!b->code)
		return b->first(v, u);
	j->codes[j->n_codes++] = b->code;
	j->stats.translated++;
	j->stats.code_bytes += b->code->end - b->code->start;
	j->stats.cold_bytes += b->code->cold_end - b->code->cold;
	((struct uop *)u)->fn = op_enter;
	return op_enter(v, u);
}

void jit_watch(struct ivcpu *v, struct block *b)
{
	if (!v->jit || (b->key & KEY_STEP))
		return;
	if (!b->first)
		b->first = b->u[0].fn;
	b->heat = vcpu_interp(v)->heat;
	b->u[0].fn = op_watch;
}

void jit_flush(struct ivcpu *v)
{
	if (v->jit)
		forget_all(v, true);
}

/* --- host signals --- */

/* The last one that begins at @off or before, in the hot or the cold part; NULL = none. */
static const struct jit_code *code_before(const struct jit *j, uint32_t off, bool cold)
{
	unsigned int lo = 0, hi = j->n_codes;

	while (lo < hi) {
		unsigned int mid = (lo + hi) / 2;

		if ((cold ? j->codes[mid]->cold : j->codes[mid]->start) <= off)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo ? j->codes[lo - 1] : NULL;
}

const struct uop *jit_uop_at(const struct jit *j, uintptr_t pc)
{
	uint32_t off = (uint32_t)(pc - (uintptr_t)j->rx);
	bool cold = off >= JIT_COLD_START;
	const struct jit_code *c;
	const uint32_t *at;
	unsigned int k;

	if (pc - (uintptr_t)j->rx >= JIT_CODE_SIZE)
		return NULL;
	c = code_before(j, off, cold);
	if (!c || off >= (cold ? c->cold_end : c->end))
		return NULL;
	at = !cold && c->first ? c->first : c->at;
	for (k = c->b->n; k > 0 && at[k] > off;)
		k--;
	return k < c->b->n ? &c->b->u[k] : NULL;
}

bool jit_host_fault(struct ivcpu *v, uintptr_t pc, uintptr_t *go_on, uint64_t *rcx)
{
	struct jit *j = v->jit;
	const struct uop *u = j ? jit_uop_at(j, pc) : NULL;

	if (!u)
		return false;
	if (v->lockstep)
		lockstep_host_fault(v);
	*rcx = jit_uop_code(j, u);
	*go_on = (uintptr_t)j->rx + j->exit;
	return true;
}

/* --- life --- */

const char *jit_host_lacks(void)
{
	__builtin_cpu_init();
	if (!__builtin_cpu_supports("bmi2"))
		return "BMI2";
	if (!(getauxval(AT_HWCAP2) & 2))
		return "FSGSBASE that the kernel lets programs use";
	return NULL;
}

static int map_code(uint8_t **ret, int prot, int fd)
{
	void *p = huge_reserve(JIT_CODE_SIZE);

	if (!p)
		return -errno;
	*ret = p;
	p = mmap(p, JIT_CODE_SIZE, prot, MAP_SHARED | MAP_FIXED, fd, 0);
	return p == MAP_FAILED ? -errno : 0;
}

static int code_memory(struct jit *j, struct err *e)
{
	int fd = memfd_create("translated", MFD_CLOEXEC), r = 0;

	if (fd < 0)
		return err_set(e, -errno, "translator");
	if (ftruncate(fd, JIT_CODE_SIZE) < 0)
		r = -errno;
	if (r == 0)
		r = map_code(&j->rw, PROT_READ | PROT_WRITE, fd);
	if (r == 0)
		r = map_code(&j->rx, PROT_READ | PROT_EXEC, fd);
	close(fd);
	return r < 0 ? err_set(e, r, "translator: code memory") : 0;
}

static void constants(struct ivcpu *v)
{
	struct jit_state *x = &v->jx;

	x->sse_out = x->avx_out = x->x87_out = 1;
	x->host_mxcsr = 0x1f80;
	x->tlb_mask = (uint64_t)(TLB_SIZE - 1) << 12;
	x->page_mask = ~UINT64_C(0xfff);
	for (unsigned int i = 0; i < ARRAY_SIZE(x->align_mask); i++)
		x->align_mask[i] = BIT(i) - 1;
	for (unsigned int i = 0; i < ARRAY_SIZE(x->home_mask); i++)
		x->home_mask[i] = x->page_mask | x->align_mask[i];
	v->jumps_mask = JUMPS_MASK;
	v->pages_mask = PAGES_MASK;
	x->rets_mask = RETS_MASK;
	x->df_mask = FL_DF;
	x->sce_mask = EFER_SCE;
	x->ac_tf_mask = FL_AC | FL_TF;
	x->bits64_mask = ~UINT64_C(63);
	x->bits32_mask = UINT32_MAX & ~31u;
	x->upper_mask = ~(BIT(47) - 1); /* of addresses */
}

static void leave_places(struct ivcpu *v, const struct jit *j)
{
	uint64_t leave = (uintptr_t)j->rx + j->leave;

	jumps_init(&v->kernel_jumps, leave);
	jumps_init(&v->ac_jumps, leave);
	for (unsigned int k = 0; k < AS_SLOTS; k++)
		jumps_init(&v->as_state[k].slot->jumps, leave);
}

int jit_new(struct ivcpu *v, struct err *e)
{
	struct jit *j = xnew(struct jit);
	int r;

	j->rw = j->rx = j->signal_stack = MAP_FAILED;
	v->jit = j;
	r = code_memory(j, e);
	if (r < 0)
		return r;
	j->meta = huge_table_late(META_SIZE);
	j->signal_stack = mmap(NULL, JIT_SIGNAL_STACK, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!j->meta || j->signal_stack == MAP_FAILED)
		return err_set(e, -ENOMEM, "translator");
	j->insns = xcalloc(JIT_MAX_INSNS, sizeof(struct tr_insn));
	j->pages = xcalloc(JIT_PAGES, sizeof(j->pages[0]));
	j->next_number = 1;
	j->base = blocks_base(v->blocks);
	constants(v);
	jit_make_stubs(v, j);
	j->cold_used = JIT_COLD_START;
	/* Short guests, and forks of long ones, get along with small pages. */
	j->backed = HUGE_PAGE;
	j->cold_backed = JIT_COLD_START + HUGE_PAGE;
	leave_places(v, j);
	return 0;
}

/* Of a child's copy, without a thread of its own. */
void jit_forget(const struct ivcpu *v)
{
	struct jit *j = v->jit;

	if (!j)
		return;
	munmap(j->rw, JIT_CODE_SIZE);
	munmap(j->rx, JIT_CODE_SIZE);
	munmap(j->meta, META_SIZE);
	munmap(j->signal_stack, JIT_SIGNAL_STACK);
	free(j->insns);
	free(j->codes);
	free(j->pages);
	free(j);
}

void jit_free(struct ivcpu *v)
{
	struct jit *j = v->jit;

	if (!j)
		return;
	jit_thread_end(j);
	if (j->rw != MAP_FAILED)
		munmap(j->rw, JIT_CODE_SIZE);
	if (j->rx != MAP_FAILED)
		munmap(j->rx, JIT_CODE_SIZE);
	if (j->meta)
		munmap(j->meta, META_SIZE);
	if (j->signal_stack != MAP_FAILED)
		munmap(j->signal_stack, JIT_SIGNAL_STACK);
	free(j->insns);
	free(j->codes);
	free(j->pages);
	free(j);
	v->jit = NULL;
}

void jit_stats(const struct ivcpu *v, char *buf, size_t len)
{
	const struct jit *j = v->jit;

	snprintf(buf, len,
		 "%" PRIu64 " blocks translated to %" PRIu64 " KiB and %" PRIu64
		 " KiB of seldom used code, entered %" PRIu64 " times, cache flushed %" PRIu64
		 " times",
		 j->stats.translated, j->stats.code_bytes >> 10, j->stats.cold_bytes >> 10,
		 j->stats.entries, j->stats.flushes);
}
