/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/engine_priv.h - what an engine implements; included by engine.c and the engines only
 */
#pragma once

#include "engine/engine.h"

/* Slots mean what the function of the same name in engine.h says.  NULL where noted. */
struct engine_ops {
	const char *name;
	int (*create)(struct gmem *mem, unsigned int n_cpus, struct engine **ret, struct err *e);
	void (*free)(struct engine *en);
	int (*memory_changed)(struct engine *en, struct err *e);
	int (*msi)(struct engine *en, uint64_t addr, uint32_t data); /* caps.local_apic */
	int (*ioeventfd)(struct engine *en, uint64_t addr, uint32_t size, bool pio, int fd,
			 bool add, struct err *e);                       /* caps.ioeventfd */
	void (*eoi_exits)(struct engine *en, const uint64_t vectors[4]); /* caps.local_apic */
	int (*vcpu_new)(struct engine *en, unsigned int index, struct vcpu **ret, struct err *e);
	void (*vcpu_free)(struct vcpu *v);
	void (*run)(struct vcpu *v, struct vm_exit *x);
	void (*kick)(struct vcpu *v);
	void (*get_state)(struct vcpu *v, struct cpu *ret);
	int (*set_state)(struct vcpu *v, const struct cpu *c, struct err *e);
	bool (*irq_ready)(struct vcpu *v);
	void (*interrupt)(struct vcpu *v, uint8_t vector);
	void (*want_irq)(struct vcpu *v, bool want);
	void (*nmi)(struct vcpu *v);
	uint64_t (*tsc)(struct vcpu *v);
	int (*single_step)(struct vcpu *v, bool on, struct err *e);
	uint64_t (*insn_count)(struct vcpu *v);                 /* may be NULL */
	void (*stats)(struct vcpu *v, char *buf, size_t len);   /* may be NULL */
	void (*set_heat)(struct engine *en, unsigned int runs); /* may be NULL */
};

/* Embedded at the start of the implementation's own structures. */
struct engine {
	const struct engine_ops *ops;
	struct engine_caps caps;
	struct cpu_model model;
	struct gmem *mem;
	unsigned int n_cpus;
};

struct vcpu {
	struct engine *en;
	unsigned int index;
};

extern const struct engine_ops interp_ops;
extern const struct engine_ops jit_ops;
extern const struct engine_ops lockstep_ops;
extern const struct engine_ops kvm_ops;

/*
 * How much slower than this CPU /dev/kvm runs a loop of guest kernel code (long mode, paging on);
 * 1.0 = full speed.  Negative errno as a double when KVM can't run at all.
 */
double kvm_probe_slowdown(struct err *e);
