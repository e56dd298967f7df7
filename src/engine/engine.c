/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/engine.c - the front door: which engine, and calls to it
 */
#include "engine/engine_priv.h"

#include "engine/jit/jit.h"

#include <errno.h>
#include <stdio.h>

/* Slower than this, hardware virtualization is none: our own engine wins. */
#define KVM_MAX_SLOWDOWN 20.0

static const struct {
	enum engine_kind kind;
	const struct engine_ops *ops;
} engines[] = {
    {ENGINE_KVM, &kvm_ops},
    {ENGINE_JIT, &jit_ops},
    {ENGINE_LOCKSTEP, &lockstep_ops},
    {ENGINE_INTERP, &interp_ops},
};

static const struct engine_ops *engine_find(enum engine_kind kind)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(engines); i++) {
		if (engines[i].kind == kind)
			return engines[i].ops;
	}
	return NULL;
}

/* What AUTO means on this host, and why in words. */
static enum engine_kind choose(char reason[200])
{
	struct err probe = {0};
	double slowdown = kvm_probe_slowdown(&probe);

	if (slowdown < 0) {
		snprintf(reason, 200, "%.180s", probe.msg);
		return ENGINE_SOFT;
	}
	if (slowdown >= KVM_MAX_SLOWDOWN) {
		snprintf(reason, 200, "/dev/kvm runs guest kernel code %.0fx slower than this CPU",
			 slowdown);
		return ENGINE_SOFT;
	}
	snprintf(reason, 200, "/dev/kvm runs guest kernel code at hardware speed");
	return ENGINE_KVM;
}

/* The translator, where the host can run what it makes. */
static enum engine_kind soft(char reason[200])
{
	const char *lacks = jit_host_lacks();
	size_t n = strlen(reason);

	if (!lacks)
		return ENGINE_JIT;
	snprintf(reason + n, 200 - n, "; no translator: this CPU has no %s", lacks);
	return ENGINE_INTERP;
}

int engine_new(enum engine_kind kind, struct gmem *mem, unsigned int n_cpus, struct engine **ret,
	       char why[256], struct err *e)
{
	const struct engine_ops *ops;
	char reason[200] = "asked for";

	if (n_cpus < 1 || n_cpus > 64)
		return err_msg(e, -EINVAL, "cpus: %u is not between 1 and 64", n_cpus);
	if (kind == ENGINE_AUTO)
		kind = choose(reason);
	if (kind == ENGINE_SOFT)
		kind = soft(reason);
	ops = engine_find(kind);
	if (!ops)
		return err_msg(e, -ENOSYS, "engine: kind %d is not in this build", kind);
	snprintf(why, 256, "%s: %s", ops->name, reason);
	return ops->create(mem, n_cpus, ret, e);
}

void engine_free(struct engine *en)
{
	if (en)
		en->ops->free(en);
}

const char *engine_name(const struct engine *en)
{
	return en->ops->name;
}

const struct engine_caps *engine_caps(const struct engine *en)
{
	return &en->caps;
}

const struct cpu_model *engine_cpu_model(const struct engine *en)
{
	return &en->model;
}

int engine_memory_changed(struct engine *en, struct err *e)
{
	return en->ops->memory_changed(en, e);
}

int engine_msi(struct engine *en, uint64_t addr, uint32_t data)
{
	return en->ops->msi ? en->ops->msi(en, addr, data) : -ENOSYS;
}

int engine_ioeventfd(struct engine *en, uint64_t addr, uint32_t size, bool pio, int fd, bool add,
		     struct err *e)
{
	if (!en->ops->ioeventfd)
		return err_msg(e, -ENOSYS, "engine %s has no ioeventfd", en->ops->name);
	return en->ops->ioeventfd(en, addr, size, pio, fd, add, e);
}

void engine_eoi_exits(struct engine *en, const uint64_t vectors[4])
{
	if (en->ops->eoi_exits)
		en->ops->eoi_exits(en, vectors);
}

int vcpu_new(struct engine *en, unsigned int index, struct vcpu **ret, struct err *e)
{
	return en->ops->vcpu_new(en, index, ret, e);
}

void vcpu_free(struct vcpu *v)
{
	if (v)
		v->en->ops->vcpu_free(v);
}

void engine_run(struct vcpu *v, struct vm_exit *x)
{
	v->en->ops->run(v, x);
}

void engine_kick(struct vcpu *v)
{
	v->en->ops->kick(v);
}

void engine_get_state(struct vcpu *v, struct cpu *ret)
{
	v->en->ops->get_state(v, ret);
}

int engine_set_state(struct vcpu *v, const struct cpu *c, struct err *e)
{
	return v->en->ops->set_state(v, c, e);
}

bool engine_irq_ready(struct vcpu *v)
{
	return v->en->ops->irq_ready(v);
}

void engine_interrupt(struct vcpu *v, uint8_t vector)
{
	v->en->ops->interrupt(v, vector);
}

void engine_want_irq(struct vcpu *v, bool want)
{
	v->en->ops->want_irq(v, want);
}

void engine_nmi(struct vcpu *v)
{
	v->en->ops->nmi(v);
}

uint64_t engine_tsc(struct vcpu *v)
{
	return v->en->ops->tsc(v);
}

int engine_single_step(struct vcpu *v, bool on, struct err *e)
{
	return v->en->ops->single_step(v, on, e);
}

uint64_t engine_insn_count(struct vcpu *v)
{
	return v->en->ops->insn_count ? v->en->ops->insn_count(v) : 0;
}

void engine_stats(struct vcpu *v, char *buf, size_t len)
{
	buf[0] = '\0';
	if (v->en->ops->stats)
		v->en->ops->stats(v, buf, len);
}

void engine_set_heat(struct engine *en, unsigned int runs)
{
	if (en->ops->set_heat)
		en->ops->set_heat(en, runs);
}
