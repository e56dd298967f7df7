/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/cgroup_bpf.c - device rules in control groups of version 2: a BPF program
 *
 * The program looks at the rules from the last to the first; the first that fits decides.
 *
 *	r2 = kind (1 block, 2 char)   r3 = wanted access   r4 = major   r5 = minor
 */
#include "container/cgroup_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <sys/syscall.h>

struct program {
	struct bpf_insn *code;
	size_t n;
};

static void emit(struct program *p, uint8_t code, uint8_t dst, uint8_t src, int16_t off,
		 int32_t imm)
{
	p->code[p->n++] =
	    (struct bpf_insn){.code = code, .dst_reg = dst, .src_reg = src, .off = off, .imm = imm};
}

static void emit_return(struct program *p, bool allow)
{
	emit(p, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, allow);
	emit(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

#define MAX_RULE_INSNS 8

static void emit_rule(struct program *p, const struct spec_device_rule *d)
{
	unsigned int access = (d->access & DEVICE_READ ? BPF_DEVCG_ACC_READ : 0u) |
			      (d->access & DEVICE_WRITE ? BPF_DEVCG_ACC_WRITE : 0u) |
			      (d->access & DEVICE_MKNOD ? BPF_DEVCG_ACC_MKNOD : 0u);
	size_t jumps[MAX_RULE_INSNS], n = 0;

	/* Each jump leads past the rule; filled in below. */
	if (d->type != 'a') {
		jumps[n++] = p->n;
		emit(p, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_2, 0, 0,
		     d->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
		if (d->access != DEVICE_ALL) {
			/* Allowed is what is wholly in it, denied what has any of it. */
			emit(p, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_1, BPF_REG_3, 0, 0);
			emit(p, BPF_ALU64 | BPF_AND | BPF_K, BPF_REG_1, 0, 0,
			     (int32_t)(d->allow ? ~access & 7 : access));
			jumps[n++] = p->n;
			emit(p, (uint8_t)(BPF_JMP | (d->allow ? BPF_JNE : BPF_JEQ) | BPF_K),
			     BPF_REG_1, 0, 0, 0);
		}
		if (d->major >= 0) {
			jumps[n++] = p->n;
			emit(p, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_4, 0, 0, (int32_t)d->major);
		}
		if (d->minor >= 0) {
			jumps[n++] = p->n;
			emit(p, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_5, 0, 0, (int32_t)d->minor);
		}
	}
	emit_return(p, d->allow);
	for (size_t i = 0; i < n; i++)
		p->code[jumps[i]].off = (int16_t)(p->n - jumps[i] - 1);
}

static int bpf(int command, union bpf_attr *a)
{
	long r = syscall(SYS_bpf, command, a, sizeof(*a));

	return r < 0 ? -errno : (int)r;
}

static int load(const struct program *p)
{
	union bpf_attr a = {.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE};

	a.insns = (uint64_t)(uintptr_t)p->code;
	a.insn_cnt = (uint32_t)p->n;
	a.license = (uint64_t)(uintptr_t) "Apache-2.0";
	return bpf(BPF_PROG_LOAD, &a);
}

/* Programs of an earlier call, which would still deny what they denied. */
static void detach_old(int dir, const uint32_t *ids, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		union bpf_attr a = {.prog_id = ids[i]};
		autoclose int prog = bpf(BPF_PROG_GET_FD_BY_ID, &a);

		if (prog < 0)
			continue;
		a = (union bpf_attr){.target_fd = (uint32_t)dir,
				     .attach_bpf_fd = (uint32_t)prog,
				     .attach_type = BPF_CGROUP_DEVICE};
		bpf(BPF_PROG_DETACH, &a);
	}
}

static int attach(int dir, int prog)
{
	uint32_t old[64];
	union bpf_attr q = {.query = {.target_fd = (uint32_t)dir,
				      .attach_type = BPF_CGROUP_DEVICE,
				      .prog_ids = (uint64_t)(uintptr_t)old,
				      .prog_cnt = ARRAY_SIZE(old)}};
	union bpf_attr a = {.target_fd = (uint32_t)dir,
			    .attach_bpf_fd = (uint32_t)prog,
			    .attach_type = BPF_CGROUP_DEVICE,
			    .attach_flags = BPF_F_ALLOW_MULTI};
	uint32_t n = bpf(BPF_PROG_QUERY, &q) < 0 ? 0 : q.query.prog_cnt;
	int r = bpf(BPF_PROG_ATTACH, &a);

	if (r == 0)
		detach_old(dir, old, MIN(n, (uint32_t)ARRAY_SIZE(old)));
	return r;
}

int cgroup_v2_devices(const struct cgroup *c, const struct spec_device_rule *rules, size_t n,
		      struct err *e)
{
	autoclose int dir = -1, prog = -1;
	autofree struct bpf_insn *code = NULL;
	struct program p = {0};
	bool all = false;
	int r;

	p.code = code = xnew_n(struct bpf_insn, 6 + (n + 1) * (MAX_RULE_INSNS + 2));
	/* The context: access and kind in one word, major, minor. */
	emit(&p, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_2, BPF_REG_1, 0, 0);
	emit(&p, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_3, BPF_REG_2, 0, 0);
	emit(&p, BPF_ALU64 | BPF_AND | BPF_K, BPF_REG_2, 0, 0, 0xffff);
	emit(&p, BPF_ALU64 | BPF_RSH | BPF_K, BPF_REG_3, 0, 0, 16);
	emit(&p, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_4, BPF_REG_1, 4, 0);
	emit(&p, BPF_LDX | BPF_MEM | BPF_W, BPF_REG_5, BPF_REG_1, 8, 0);
	for (size_t i = n; i > 0 && !all; i--) {
		emit_rule(&p, &rules[i - 1]);
		/* Nothing before it counts, and the verifier wants no dead code. */
		all = rules[i - 1].type == 'a';
	}
	if (!all)
		emit_return(&p, false);
	prog = load(&p);
	if (prog < 0)
		return err_set(e, prog, "load the program of device rules");
	dir = openat(c->trees[0].root, c->path + 1, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_set(e, -errno, "control group %s", c->path);
	r = attach(dir, prog);
	return r < 0 ? err_set(e, r, "attach the program of device rules") : 0;
}
