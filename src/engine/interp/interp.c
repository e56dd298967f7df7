/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/interp.c - the run loop, faults and exits, the engine's operations
 *
 * Between two blocks, in the order of SDM vol. 3, 6.9: requests and kicks; traps of the instruction
 * before; NMI; the interrupt window; code breakpoints; then the next block.
 *
 * While anything needs a look after every instruction (TF, shadows, breakpoints, single-step, an
 * instruction being started again) blocks of one instruction run and the loop sees each.
 */
#include "engine/interp/hot.h"

#include "base/log.h"
#include "engine/jit/jit.h"
#include "engine/jit/lockstep.h"

#include <errno.h>
#include <stdio.h>
#include <x86intrin.h>

/* --- derived state --- */

static enum interp_mode mode_of(const struct cpu *c)
{
	if (!(c->cr0 & CR0_PE))
		return MODE_REAL;
	if (c->efer & EFER_LMA)
		return c->seg[SEG_CS].attr & SEG_L ? MODE_LONG : MODE_COMPAT;
	return c->rflags & FL_VM ? MODE_V86 : MODE_PROT;
}

static bool has_data_bp(const struct cpu *c)
{
	for (unsigned int n = 0; n < 4; n++) {
		if ((c->dr7 >> (2 * n) & 3) && (c->dr7 >> (16 + 4 * n) & 1))
			return true;
	}
	return false;
}

/* A data segment that never faults. */
static bool takes_all(const struct cpu_segment *s)
{
	return s->limit == UINT32_MAX &&
	       (s->attr & (SEG_UNUSABLE | SEG_P | SEG_S | SEG_CODE | SEG_CONFORM | SEG_WRITE)) ==
		   (SEG_P | SEG_S | SEG_WRITE);
}

static uint32_t make_key(const struct ivcpu *v)
{
	const struct cpu_segment *seg = v->c.seg;
	uint32_t key = (uint32_t)v->bits | (uint32_t)v->mode << 2 | (uint32_t)v->stack_bits << 9;

	if (v->mode == MODE_LONG || seg[SEG_CS].limit == UINT32_MAX)
		key |= KEY_CS_FLAT;
	if (v->mode != MODE_LONG && takes_all(&seg[SEG_DS]) && takes_all(&seg[SEG_ES]) &&
	    takes_all(&seg[SEG_SS]))
		key |= KEY_FLAT;
	return key;
}

void interp_mode_changed(struct ivcpu *v)
{
	const struct cpu *c = &v->c;
	uint32_t key;
	bool slow_data, big = c->seg[SEG_CS].attr & SEG_DB;

	v->mode = mode_of(c);
	v->bits = v->mode == MODE_LONG ? INSN_64 : big ? INSN_32 : INSN_16;
	v->cpl = v->mode == MODE_REAL ? 0 : v->mode == MODE_V86 ? 3 : (uint8_t)cpu_cpl(c);
	if (v->mode == MODE_LONG)
		v->stack_bits = 64;
	else
		v->stack_bits = c->seg[SEG_SS].attr & SEG_DB ? 32 : 16;
	v->rip_mask = v->lin_mask = v->mode == MODE_LONG ? UINT64_MAX : UINT32_MAX;
	if (v->cpl == 3)
		v->tlb_set = TLB_USER;
	else
		v->tlb_set = (c->cr4 & CR4_SMAP) && (c->rflags & FL_AC) ? TLB_SUPER_AC : TLB_SUPER;
	tlb_select(v);
	key = make_key(v);
	if (v->jit) { /* translated code knows its TLB set, and CPL 0 */
		key |= KEY_SET(v->tlb_set) | (v->cpl == 1 || v->cpl == 2 ? KEY_CPL_1_2 : 0);
		if (v->mode != MODE_LONG && c->seg[SEG_CS].base)
			key |= KEY_CS_BASE;
	}
	if (key != v->block_key) {
		v->block_key = key;
		v->stop = true; /* the running block was made for the old one */
	}
	if (v->jit)
		jit_mode_changed(v);
	v->data_bp = has_data_bp(c);
	slow_data = v->data_bp || (v->cpl == 3 && (c->cr0 & CR0_AM) && (c->rflags & FL_AC));
	if (slow_data != v->slow_data) {
		v->slow_data = slow_data;
		tlb_flush_all(v);
	}
}

/* --- requests --- */

static void forget_changed(struct ivcpu *v)
{
	struct interp *in = vcpu_interp(v);
	uint64_t pages[ARRAY_SIZE(v->changed_pa)];
	unsigned int n;

	pthread_mutex_lock(&in->cpus_lock);
	n = v->n_changed;
	memcpy(pages, v->changed_pa, sizeof(pages));
	v->n_changed = 0;
	pthread_mutex_unlock(&in->cpus_lock);
	if (n > ARRAY_SIZE(pages)) {
		jumps_wipe_all(v);
		return;
	}
	while (n--)
		jumps_drop_code(v, pages[n]);
}

void serve_requests(struct ivcpu *v)
{
	uint32_t req = atomic_exchange(&v->requests, 0);

	if (req & IREQ_FLUSH_WRITES)
		tlb_sync_writes(v);
	if (req & IREQ_CODE)
		forget_changed(v);
}

/* In this order: whoever puts the mask back looks at kicked afterwards. */
void ivcpu_request(struct ivcpu *v, uint32_t bits)
{
	atomic_fetch_or(&v->requests, bits);
	v->kicked = true;
	v->jumps_mask = 0;
	v->pages_mask = 0;
}

/* --- the run loop --- */

/* An instruction left by an exit in its middle and will be started again. */
static bool in_flight(const struct ivcpu *v)
{
	return v->replay.n || v->replay.open;
}

static bool irq_ready(const struct ivcpu *v)
{
	const struct cpu *c = &v->c;

	return (c->rflags & FL_IF) && !c->int_shadow && !c->event_pending && !c->pending_dbg &&
	       !in_flight(v) && (c->mp_state == CPU_RUNNABLE || c->mp_state == CPU_HALTED);
}

static bool nmi_ready(const struct ivcpu *v)
{
	const struct cpu *c = &v->c;

	return c->nmi_pending && !c->nmi_masked && !c->int_shadow && !c->event_pending;
}

static bool leave_with(struct ivcpu *v, enum exit_reason reason)
{
	*v->exit = (struct vm_exit){.reason = reason};
	return true;
}

/* Before the next instruction; true when an exit is due. */
static bool between(struct ivcpu *v)
{
	struct cpu *c = &v->c;

	if (v->kicked) {
		v->kicked = false;
		serve_requests(v);
	}
	if (in_flight(v) && !c->event_pending) /* an event's delivery can be in flight, too */
		return false;
	if (v->kick) {
		v->kick = false;
		return leave_with(v, EXIT_KICK);
	}
	if (c->mp_state == CPU_HALTED && (c->event_pending || nmi_ready(v)))
		c->mp_state = CPU_RUNNABLE;
	if (v->want_irq && irq_ready(v))
		return leave_with(v, EXIT_IRQ_WINDOW);
	if (c->mp_state != CPU_RUNNABLE)
		return leave_with(v, EXIT_HLT);
	if (c->event_pending) {
		c->event_pending = 0;
		event_deliver(v, c->event_vector, c->event_type, c->event_has_error,
			      c->event_error);
		replay_commit(v);
	} else if (c->pending_dbg && !c->int_shadow) {
		debug_after_insn(v, false);
	} else if (nmi_ready(v)) {
		c->nmi_pending--;
		event_deliver(v, VEC_NMI, 2, false, 0);
		replay_commit(v);
	} else {
		return false;
	}
	return between(v);
}

static bool code_bp(const struct cpu *c)
{
	return c->dr7 & 0xff;
}

bool interp_is_quiet(const struct ivcpu *v)
{
	const struct cpu *c = &v->c;

	return !v->kicked && !v->kick && !v->want_irq && c->mp_state == CPU_RUNNABLE &&
	       !c->event_pending && !c->pending_dbg && !c->nmi_pending && !v->single_step &&
	       !(c->rflags & FL_TF) && !in_flight(v) && !code_bp(c) && !v->data_bp;
}

/* Must every instruction be seen? */
static bool needs_step(struct ivcpu *v)
{
	const struct cpu *c = &v->c;

	return (c->rflags & (FL_TF | FL_RF)) || c->int_shadow || v->single_step || in_flight(v) ||
	       code_bp(c) || v->data_bp || (unlikely(v->lockstep) && lockstep_takes_step(v));
}

void interp_run_block(struct ivcpu *v, struct block *b)
{
	const struct uop *u = b->u;

	v->af = flags_to_af(v->c.rflags);
	v->link_from = NULL;
	v->uop = u;
	v->running = true;
	v->hot = true;
#if INTERP_THREADED
	(void)u->fn(v, u);
#else
	while (u)
		u = u->fn(v, u);
#endif
	v->hot = false;
	v->running = false;
	v->c.rflags = (v->c.rflags & ~(uint64_t)FL_ARITH) | flags_from_af(v->af);
}

/* Gives the branch that led here, and the jump cache, what was found. */
static void remember(struct ivcpu *v, struct uop *from, uint32_t flushes, struct block *b)
{
	const struct block *fb;

	if (b->crosses || !(b->key & KEY_CS_FLAT))
		return;
	jump_cache_enter(v, v->c.rip, b);
	if (!from || flushes != v->flushes || v->link_rip != v->c.rip)
		return;
	fb = container_of(from - from->idx, struct block, u[0]);
	if (fb->key == b->key && (fb->pa ^ b->pa) >> 12 == 0)
		from->link = b;
}

struct block *interp_step_block(struct ivcpu *v)
{
	struct block *b = jump_cache_find(v, v->c.rip);

	if (b)
		return b;
	b = block_find(v);
	if (!b->crosses && (b->key & KEY_CS_FLAT))
		jump_cache_enter(v, v->c.rip, b);
	return b;
}

/* One instruction, with all that is to be looked at around it. */
static bool run_step(struct ivcpu *v)
{
	struct cpu *c = &v->c;
	bool tf = c->rflags & FL_TF;
	uint64_t cs_base = v->mode == MODE_LONG ? 0 : c->seg[SEG_CS].base;

	if (code_bp(c) && !in_flight(v) && debug_before_insn(v, cs_base + c->rip)) {
		replay_commit(v);
		return false;
	}
	v->shadow = c->int_shadow;
	v->resume = c->rflags & FL_RF;
	v->run_key = v->block_key | KEY_STEP;
	v->stepping = true;
	v->stop = true;
	v->no_step = false;
	c->int_shadow = 0;
	c->rflags &= ~(uint64_t)FL_RF;
	interp_run_block(v, interp_step_block(v));
	v->stepping = false;
	replay_commit(v);
	if (tf || c->pending_dbg)
		debug_after_insn(v, tf);
	return v->single_step && leave_with(v, EXIT_DEBUG);
}

/* Returns when an exit is due; faults come back by longjmp to interp_run. */
static void run_loop(struct ivcpu *v)
{
	while (!between(v)) {
		struct uop *from = v->link_from;
		uint32_t flushes = v->flushes;
		struct block *b;

		if (needs_step(v)) {
			v->link_from = NULL;
			if (run_step(v))
				return;
			continue;
		}
		v->stop = false;
		v->run_key = v->block_key;
		b = block_find(v);
		remember(v, from, flushes, b);
		interp_run_block(v, b);
		if (unlikely(v->lockstep) && lockstep_check(v))
			return;
	}
}

/* What a raise leaves: exact rip and flags; true when the run is over. */
static bool land(struct ivcpu *v)
{
	struct cpu *c = &v->c;

	jit_sync(v);
	if (v->hot) {
		c->rip = (v->page_rip + v->uop->off) & v->rip_mask;
		c->rflags = (c->rflags & ~(uint64_t)FL_ARITH) | flags_from_af(v->af);
	}
	if (v->running)
		v->insns += v->uop->idx;
	v->hot = v->running = false;
	v->link_from = NULL;
	v->rmw_size = 0;
	interp_mode_changed(v); /* sys_ld may have been left in its middle */
	if (v->stepping && v->replay.open) {
		/* The same instruction comes again, under the same conditions. */
		c->int_shadow = v->shadow;
		c->rflags |= v->resume;
	}
	v->stepping = false;
	if (v->fault.is_exit) {
		v->answer_rax = v->exit->reason == EXIT_HYPERCALL;
		if (!v->replay.open)
			replay_commit(v);
		return true;
	}
	replay_commit(v);
	event_deliver(v, v->fault.vector, 3, v->fault.has_error, v->fault.error);
	replay_commit(v);
	if (v->single_step)
		return leave_with(v, EXIT_DEBUG);
	return false;
}

static void lines_free(struct interp *in)
{
	for (unsigned int i = 0; i < GMEM_MAX_SLOTS; i++) {
		free((void *)in->code_lines[i]);
		in->code_lines[i] = NULL;
	}
}

/* For slots that have none yet.  Sparse: the host gives pages as code is decoded. */
static int lines_make(struct interp *in, struct err *e)
{
	struct gmem *m = in->en.mem;
	int r = 0;

	pthread_mutex_lock(&in->lock);
	for (unsigned int i = 0; i < m->n_slots && r == 0; i++) {
		if (in->code_lines[i])
			continue;
		in->code_lines[i] =
		    calloc(m->slots[i].size >> GMEM_PAGE_SHIFT, sizeof(*in->code_lines[i]));
		if (!in->code_lines[i])
			r = err_set(e, -ENOMEM, "code marks");
		else /* marks of an engine before us have no lines: take them off */
			gmem_dirty(m, m->slots[i].gpa, m->slots[i].size);
	}
	pthread_mutex_unlock(&in->lock);
	return r;
}

static void interp_run(struct vcpu *vcpu, struct vm_exit *x)
{
	struct ivcpu *v = container_of(vcpu, struct ivcpu, vcpu);
	sigjmp_buf here;

	if (v->answer_rax)
		v->c.gpr[RAX] = x->data;
	v->answer_rax = false;
	replay_answer(v, x);
	v->exit = x;
	if (v->gmem_epoch != v->vcpu.en->mem->epoch) {
		struct err e = {0};

		tlb_flush_all(v);
		blocks_flush(v);
		if (lines_make(vcpu_interp(v), &e) < 0) {
			*x = (struct vm_exit){.reason = EXIT_ERROR};
			snprintf(x->err, sizeof(x->err), "%.190s", e.msg);
			return;
		}
		v->gmem_epoch = v->vcpu.en->mem->epoch;
	}
	v->link_from = NULL;
	v->fault_jmp = &here;
	hostfault_watch(v);
	jit_thread_begin(v);
	if (sigsetjmp(here, 0) == 0 || !land(v))
		run_loop(v);
	hostfault_watch(NULL);
	v->exit = NULL;
	v->fault_jmp = NULL;
}

/* --- a vCPU --- */

static void vcpu_release(struct ivcpu *v)
{
	lockstep_free(v);
	jit_free(v);
	vec_fini(v);
	blocks_free(v->blocks);
	ivcpu_release(v);
}

static int interp_vcpu_new(struct engine *en, unsigned int index, struct vcpu **ret, struct err *e)
{
	struct interp *in = container_of(en, struct interp, en);
	struct ivcpu *v = NULL;
	int r;

	if (index >= en->n_cpus)
		return err_msg(e, -EINVAL, "vCPU %u: the machine has %u", index, en->n_cpus);
	r = ivcpu_alloc(&v, e);
	if (r < 0)
		return r;
	v->vcpu.en = en;
	v->vcpu.index = index;
	v->gmem_epoch = en->mem->epoch;
	tlb_init(v);
	r = blocks_new(&v->blocks, e);
	if (r == 0)
		r = vec_init(v, e);
	if (r == 0 && in->jit)
		r = jit_new(v, e);
	if (r == 0 && in->lockstep)
		r = lockstep_new(v, e);
	if (r < 0) {
		vcpu_release(v);
		return r;
	}
	cpu_reset(&v->c, index);
	interp_mode_changed(v);
	pthread_mutex_lock(&in->cpus_lock);
	in->cpus[index] = v;
	pthread_mutex_unlock(&in->cpus_lock);
	*ret = &v->vcpu;
	return 0;
}

static struct ivcpu *to_ivcpu(struct vcpu *vcpu)
{
	return container_of(vcpu, struct ivcpu, vcpu);
}

static void interp_vcpu_free(struct vcpu *vcpu)
{
	struct ivcpu *v = to_ivcpu(vcpu);
	struct interp *in = vcpu_interp(v);

	pthread_mutex_lock(&in->cpus_lock);
	in->cpus[vcpu->index] = NULL;
	pthread_mutex_unlock(&in->cpus_lock);
	vcpu_release(v);
}

static void interp_kick(struct vcpu *vcpu)
{
	struct ivcpu *v = to_ivcpu(vcpu);

	v->kick = true;
	ivcpu_request(v, 0);
}

static void interp_get_state(struct vcpu *vcpu, struct cpu *ret)
{
	*ret = to_ivcpu(vcpu)->c;
}

/* State from outside is taken only in the form that the rest relies on. */
static int interp_set_state(struct vcpu *vcpu, const struct cpu *c, struct err *e)
{
	struct ivcpu *v = to_ivcpu(vcpu);

	if (c->mp_state > CPU_HALTED)
		return err_msg(e, -EINVAL, "CPU state: unknown processor state %u", c->mp_state);
	if ((c->cr0 & CR0_PG) && !(c->cr0 & CR0_PE))
		return err_msg(e, -EINVAL, "CPU state: paging without protected mode");
	v->c = *c;
	v->c.rflags = (v->c.rflags & 0x3f7fd5) | FL_ONE;
	x87_normalize(&v->c);
	v->replay.n = v->replay.at = 0;
	v->replay.open = false;
	v->answer_rax = false;
	tlb_restart(v);
	interp_mode_changed(v);
	return 0;
}

static bool interp_irq_ready(struct vcpu *vcpu)
{
	return irq_ready(to_ivcpu(vcpu));
}

static void interp_interrupt(struct vcpu *vcpu, uint8_t vector)
{
	struct cpu *c = &to_ivcpu(vcpu)->c;

	c->event_pending = 1;
	c->event_vector = vector;
	c->event_type = 0;
	c->event_has_error = 0;
	c->event_len = 0;
	if (c->mp_state == CPU_HALTED)
		c->mp_state = CPU_RUNNABLE;
}

static void interp_want_irq(struct vcpu *vcpu, bool want)
{
	to_ivcpu(vcpu)->want_irq = want;
}

static void interp_nmi(struct vcpu *vcpu)
{
	struct cpu *c = &to_ivcpu(vcpu)->c;

	/* One can wait; a second only as long as the first would have been taken by now. */
	if (c->nmi_pending < (c->nmi_masked ? 1 : 2))
		c->nmi_pending++;
	/* It ends a halt, unless it has to wait for the end of another one. */
	if (c->mp_state == CPU_HALTED && !c->nmi_masked)
		c->mp_state = CPU_RUNNABLE;
}

static uint64_t interp_tsc(struct vcpu *vcpu)
{
	return __rdtsc() + to_ivcpu(vcpu)->c.tsc_offset;
}

static int interp_single_step(struct vcpu *vcpu, bool on, struct err *e)
{
	to_ivcpu(vcpu)->single_step = on;
	return 0;
}

static void interp_set_heat(struct engine *en, unsigned int runs)
{
	container_of(en, struct interp, en)->heat = runs ? runs : 1;
}

static uint64_t interp_insn_count(struct vcpu *vcpu)
{
	return to_ivcpu(vcpu)->insns;
}

static void translator_stats(struct vcpu *vcpu, char *buf, size_t len)
{
	struct ivcpu *v = to_ivcpu(vcpu);
	size_t n;

	jit_stats(v, buf, len);
	n = strlen(buf);
	if (v->lockstep)
		lockstep_stats(v, buf + n, len - n);
}

/* --- the engine --- */

static void interp_free(struct engine *en)
{
	struct interp *in = container_of(en, struct interp, en);

	gmem_on_code_change(en->mem, NULL, NULL);
	lines_free(in);
	pthread_mutex_destroy(&in->cpus_lock);
	pthread_mutex_destroy(&in->lock);
	pthread_mutex_destroy(&in->split);
	free(in->cpus);
	free(in);
}

/* Some marked page was written to, by a vCPU or from outside. */
static void code_changed(void *arg, uint64_t gpa)
{
	struct interp *in = arg;

	pthread_mutex_lock(&in->cpus_lock);
	for (unsigned int i = 0; i < in->en.n_cpus; i++) {
		struct ivcpu *v = in->cpus[i];

		if (!v)
			continue;
		if (v->n_changed < ARRAY_SIZE(v->changed_pa))
			v->changed_pa[v->n_changed] = gpa;
		if (v->n_changed <= ARRAY_SIZE(v->changed_pa))
			v->n_changed++;
		ivcpu_request(v, IREQ_CODE);
	}
	in->code_changes++; /* behind the requests: lock-step looks the other way round */
	pthread_mutex_unlock(&in->cpus_lock);
}

static int create(const struct engine_ops *ops, bool jit, struct gmem *mem, unsigned int n_cpus,
		  struct engine **ret, struct err *e)
{
	struct interp *in = xnew(struct interp);
	int r;

	hostfault_init();
	in->en.ops = ops;
	in->en.mem = mem;
	in->en.n_cpus = n_cpus;
	in->jit = jit;
	in->heat = JIT_HEAT;
	in->cpus = xcalloc(n_cpus, sizeof(struct ivcpu *));
	pthread_mutex_init(&in->lock, NULL);
	pthread_mutex_init(&in->cpus_lock, NULL);
	pthread_mutex_init(&in->split, NULL);
	cpu_model_soft(&in->en.model, n_cpus);
	r = lines_make(in, e);
	if (r < 0) {
		interp_free(&in->en);
		return r;
	}
	if (jit)
		gmem_on_code_change(mem, code_changed, in);
	*ret = &in->en;
	return 0;
}

static int interp_create(struct gmem *mem, unsigned int n_cpus, struct engine **ret, struct err *e)
{
	return create(&interp_ops, false, mem, n_cpus, ret, e);
}

static int create_jit(const struct engine_ops *ops, struct gmem *mem, unsigned int n_cpus,
		      struct engine **ret, struct err *e)
{
	const char *lacks = jit_host_lacks();

	if (lacks)
		return err_msg(e, -ENOSYS, "engine %s: this CPU has no %s", ops->name, lacks);
	return create(ops, true, mem, n_cpus, ret, e);
}

static int jit_create(struct gmem *mem, unsigned int n_cpus, struct engine **ret, struct err *e)
{
	return create_jit(&jit_ops, mem, n_cpus, ret, e);
}

/* All code is checked, at its first run, too. */
static int lockstep_create(struct gmem *mem, unsigned int n_cpus, struct engine **ret,
			   struct err *e)
{
	struct engine *en = NULL;
	int r = create_jit(&lockstep_ops, mem, n_cpus, &en, e);

	if (r < 0)
		return r;
	container_of(en, struct interp, en)->lockstep = true;
	interp_set_heat(en, 1);
	*ret = en;
	return 0;
}

static int interp_memory_changed(struct engine *en, struct err *e)
{
	return lines_make(container_of(en, struct interp, en), e);
}

/* Both engines are one but for their names and whether there is a translator, whose code does not
 * count instructions. */
#define OPS(engine_name, create_fn, insn_count_fn, stats_fn)                                       \
	{                                                                                          \
		.name = engine_name, .create = create_fn, .free = interp_free,                     \
		.memory_changed = interp_memory_changed, .vcpu_new = interp_vcpu_new,              \
		.vcpu_free = interp_vcpu_free, .run = interp_run, .kick = interp_kick,             \
		.get_state = interp_get_state, .set_state = interp_set_state,                      \
		.irq_ready = interp_irq_ready, .interrupt = interp_interrupt,                      \
		.want_irq = interp_want_irq, .nmi = interp_nmi, .tsc = interp_tsc,                 \
		.single_step = interp_single_step, .insn_count = insn_count_fn, .stats = stats_fn, \
		.set_heat = interp_set_heat,                                                       \
	}

const struct engine_ops interp_ops = OPS("interp", interp_create, interp_insn_count, NULL);
const struct engine_ops jit_ops = OPS("jit", jit_create, NULL, translator_stats);
const struct engine_ops lockstep_ops = OPS("jit-lockstep", lockstep_create, NULL, translator_stats);
