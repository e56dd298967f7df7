/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/seccomp_filter.c - system-call filters, compiled by libseccomp
 */
#include "container/seccomp_filter.h"

#include "container/spec_priv.h"
#include "container/sync.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

const char *const seccomp_actions[] = {"SCMP_ACT_KILL",        "SCMP_ACT_KILL_PROCESS",
				       "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP",
				       "SCMP_ACT_ERRNO",       "SCMP_ACT_TRACE",
				       "SCMP_ACT_ALLOW",       "SCMP_ACT_LOG",
				       "SCMP_ACT_NOTIFY",      NULL};

const char *const seccomp_operators[] = {"SCMP_CMP_NE",        "SCMP_CMP_LT", "SCMP_CMP_LE",
					 "SCMP_CMP_EQ",        "SCMP_CMP_GE", "SCMP_CMP_GT",
					 "SCMP_CMP_MASKED_EQ", NULL};

const char *const seccomp_archs[] = {
    "SCMP_ARCH_X86",     "SCMP_ARCH_X86_64",   "SCMP_ARCH_X32",         "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64", "SCMP_ARCH_MIPS",     "SCMP_ARCH_MIPS64",      "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",  "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",   "SCMP_ARCH_PPC64LE",  "SCMP_ARCH_S390",        "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",  "SCMP_ARCH_PARISC64", "SCMP_ARCH_RISCV64",     NULL};

const char *const seccomp_flag_names[] = {"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG",
					  "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
					  "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", NULL};

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

static void read_arg(const struct json_reader *r, struct spec_seccomp_arg *a)
{
	a->index = spec_read_u32(r, "index", 0);
	if (a->index > 5)
		json_fail(r, "index", "a system call has no argument %u", a->index);
	json_read_u64(r, "value", &a->value);
	json_read_u64(r, "valueTwo", &a->value_two);
	a->op = json_need_string(r, "op");
	json_read_word(r, "op", seccomp_operators);
}

static void read_rule(const struct json_reader *r, struct spec_seccomp_rule *rule)
{
	struct json_reader array, entry;
	size_t n;

	spec_read_strings(r, "names", &rule->names);
	if (!rule->names.n)
		json_fail(r, "names", "is missing or empty");
	rule->action = json_need_string(r, "action");
	json_read_word(r, "action", seccomp_actions);
	spec_read_opt(r, "errnoRet", 0, UINT16_MAX, &rule->errno_ret);
	n = json_read_array(r, "args", 64, &array);
	if (n)
		rule->args = xnew_n(struct spec_seccomp_arg, n);
	for (; rule->n_args < n; rule->n_args++) {
		json_read_entry(&array, rule->n_args, &entry);
		read_arg(&entry, &rule->args[rule->n_args]);
	}
}

void spec_read_seccomp(const struct json_reader *linux_object, struct spec_seccomp *s)
{
	struct json_reader r, array, entry;
	size_t n;

	if (!json_read_object(linux_object, "seccomp", &r))
		return;
	s->set = true;
	s->default_action = json_need_string(&r, "defaultAction");
	json_read_word(&r, "defaultAction", seccomp_actions);
	spec_read_opt(&r, "defaultErrnoRet", 0, UINT16_MAX, &s->default_errno);
	spec_read_strings(&r, "architectures", &s->architectures);
	spec_read_strings(&r, "flags", &s->flags);
	s->listener_path = json_read_string(&r, "listenerPath");
	s->listener_metadata = json_read_string(&r, "listenerMetadata");
	n = json_read_array(&r, "syscalls", SPEC_MAX_ENTRIES, &array);
	if (n)
		s->rules = xnew_n(struct spec_seccomp_rule, n);
	for (; s->n_rules < n && !r.doc->error; s->n_rules++) {
		json_read_entry(&array, s->n_rules, &entry);
		read_rule(&entry, &s->rules[s->n_rules]);
	}
}

void spec_seccomp_fini(struct spec_seccomp *s)
{
	free(s->architectures.v);
	free(s->flags.v);
	for (size_t i = 0; i < s->n_rules; i++) {
		free(s->rules[i].names.v);
		free(s->rules[i].args);
	}
	free(s->rules);
}

static bool notifies(const char *action)
{
	return strcmp(action, "SCMP_ACT_NOTIFY") == 0;
}

int seccomp_check(const struct spec_seccomp *s, struct seccomp_flags *ret, struct err *e)
{
	struct seccomp_flags f = {.filter = 0};

	for (size_t i = 0; i < s->flags.n; i++) {
		const char *name = s->flags.v[i];

		if (strcmp(name, "SECCOMP_FILTER_FLAG_LOG") == 0)
			f.filter |= SECCOMP_FILTER_FLAG_LOG;
		else if (strcmp(name, "SECCOMP_FILTER_FLAG_SPEC_ALLOW") == 0)
			f.filter |= SECCOMP_FILTER_FLAG_SPEC_ALLOW;
		else if (strcmp(name, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV") == 0)
			f.filter |= SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
		else if (strcmp(name, "SECCOMP_FILTER_FLAG_TSYNC") != 0) /* there is one thread */
			return err_msg(e, -EINVAL, "linux.seccomp.flags: unknown flag '%s'", name);
	}
	if (s->default_action && notifies(s->default_action))
		return err_msg(
		    e, -EINVAL,
		    "linux.seccomp.defaultAction: notifying of every call would stop the "
		    "container before it starts");
	for (size_t i = 0; i < s->n_rules; i++) {
		if (!notifies(s->rules[i].action))
			continue;
		f.listener = true;
		/* With it the process tells which descriptor the listener has. */
		for (size_t k = 0; k < s->rules[i].names.n; k++)
			if (strcmp(s->rules[i].names.v[k], "write") == 0)
				return err_msg(e, -EINVAL,
					       "linux.seccomp.syscalls[%zu]: write cannot notify",
					       i);
	}
	if (f.listener && !s->listener_path)
		return err_msg(e, -EINVAL, "linux.seccomp.listenerPath: is missing");
	if (f.listener)
		f.filter |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
	*ret = f;
	return 0;
}

static uint32_t action_of(const char *name, const struct spec_opt *errno_ret)
{
	uint32_t no = errno_ret->set ? (uint32_t)errno_ret->v : EPERM;

	if (strcmp(name, "SCMP_ACT_ERRNO") == 0)
		return SCMP_ACT_ERRNO(no);
	if (strcmp(name, "SCMP_ACT_TRACE") == 0)
		return SCMP_ACT_TRACE(no);
	if (strcmp(name, "SCMP_ACT_KILL_PROCESS") == 0)
		return SCMP_ACT_KILL_PROCESS;
	if (strncmp(name, "SCMP_ACT_KILL", 13) == 0)
		return SCMP_ACT_KILL_THREAD;
	if (strcmp(name, "SCMP_ACT_TRAP") == 0)
		return SCMP_ACT_TRAP;
	if (strcmp(name, "SCMP_ACT_LOG") == 0)
		return SCMP_ACT_LOG;
	if (notifies(name))
		return SCMP_ACT_NOTIFY;
	return SCMP_ACT_ALLOW;
}

static enum scmp_compare operator_of(const char *name)
{
	static const enum scmp_compare ops[] = {SCMP_CMP_NE,       SCMP_CMP_LT, SCMP_CMP_LE,
						SCMP_CMP_EQ,       SCMP_CMP_GE, SCMP_CMP_GT,
						SCMP_CMP_MASKED_EQ};

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++)
		if (strcmp(name, seccomp_operators[i]) == 0)
			return ops[i];
	return SCMP_CMP_EQ;
}

static int add_archs(scmp_filter_ctx ctx, const struct spec_seccomp *s, struct err *e)
{
	for (size_t i = 0; i < s->architectures.n; i++) {
		const char *name = s->architectures.v[i];
		char lower[32] = "";
		uint32_t token;
		int r;

		for (size_t k = 10; strncmp(name, "SCMP_ARCH_", 10) == 0 && name[k] && k < 40; k++)
			lower[k - 10] = (char)(name[k] | (name[k] == '_' ? 0 : 0x20));
		token = seccomp_arch_resolve_name(lower);
		if (!token)
			return err_msg(e, -EINVAL,
				       "linux.seccomp.architectures: unknown value '%s'", name);
		r = seccomp_arch_add(ctx, token);
		if (r < 0 && r != -EEXIST)
			return err_set(e, r, "seccomp: architecture %s", name);
	}
	return 0;
}

static int add_call(scmp_filter_ctx ctx, const struct spec_seccomp_rule *rule, const char *name,
		    uint32_t action, struct err *e)
{
	struct scmp_arg_cmp args[6];
	bool twice = false;
	unsigned int seen = 0;
	int nr = seccomp_syscall_resolve_name(name), r;

	if (nr == __NR_SCMP_ERROR)
		return 0; /* of a newer kernel or another architecture: nobody can call it */
	for (size_t i = 0; i < rule->n_args; i++) {
		const struct spec_seccomp_arg *a = &rule->args[i];

		twice |= seen & (1u << a->index);
		seen |= 1u << a->index;
	}
	if (!twice) {
		for (size_t i = 0; i < rule->n_args; i++)
			args[i] = SCMP_CMP64(rule->args[i].index, operator_of(rule->args[i].op),
					     rule->args[i].value, rule->args[i].value_two);
		r = seccomp_rule_add_array(ctx, action, nr, (unsigned int)rule->n_args, args);
		return r < 0 && r != -EEXIST ? err_set(e, r, "seccomp: rule for %s", name) : 0;
	}
	/* One argument compared twice: libseccomp takes these as alternatives only. */
	for (size_t i = 0; i < rule->n_args; i++) {
		args[0] = SCMP_CMP64(rule->args[i].index, operator_of(rule->args[i].op),
				     rule->args[i].value, rule->args[i].value_two);
		r = seccomp_rule_add_array(ctx, action, nr, 1, args);
		if (r < 0 && r != -EEXIST)
			return err_set(e, r, "seccomp: rule for %s", name);
	}
	return 0;
}

static int fill(scmp_filter_ctx ctx, const struct spec_seccomp *s, struct err *e)
{
	uint32_t fallback = action_of(s->default_action, &s->default_errno);
	int r = add_archs(ctx, s, e);

	if (r < 0)
		return r;
	/* Filters that the kernel keeps in its cache of allowed calls stay a plain list. */
	seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 0);
	for (size_t i = 0; i < s->n_rules; i++) {
		uint32_t action = action_of(s->rules[i].action, &s->rules[i].errno_ret);

		if (action == fallback)
			continue;
		for (size_t k = 0; k < s->rules[i].names.n; k++) {
			r = add_call(ctx, &s->rules[i], s->rules[i].names.v[k], action, e);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

int seccomp_compile(const struct spec_seccomp *s, int fd, struct err *e)
{
	scmp_filter_ctx ctx = seccomp_init(action_of(s->default_action, &s->default_errno));
	int r;

	if (!ctx)
		return err_msg(e, -ENOMEM, "seccomp: no filter");
	r = fill(ctx, s, e);
	if (r == 0) {
		r = seccomp_export_bpf(ctx, fd);
		if (r < 0)
			err_set(e, r, "seccomp: compile");
	}
	seccomp_release(ctx);
	return r;
}

int seccomp_install(int fd, struct seccomp_flags flags, int *listener, struct err *e)
{
	struct sock_fprog prog;
	struct stat st;
	void *code;
	long r;

	if (fstat(fd, &st) < 0 || st.st_size <= 0 ||
	    (size_t)st.st_size / sizeof(struct sock_filter) > UINT16_MAX)
		return err_msg(e, -EINVAL, "seccomp: the program is too long");
	code = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (code == MAP_FAILED)
		return err_set(e, -errno, "seccomp: map the program");
	prog.len = (unsigned short)((size_t)st.st_size / sizeof(struct sock_filter));
	prog.filter = code;
	r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags.filter, &prog);
	if (r < 0)
		return err_set(e, -errno, "seccomp: load the program");
	*listener = flags.listener ? (int)r : -1;
	/* Not unmapped: the filter may forbid munmap, and exec does it anyway. */
	return 0;
}

int seccomp_hand_over(const struct spec_seccomp *s, int pidfd, int number,
		      const char *process_state, struct err *e)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	autoclose int sock = -1, fd = -1;
	int r;

	if (strlen(s->listener_path) >= sizeof(addr.sun_path))
		return err_set(e, -ENAMETOOLONG, "linux.seccomp.listenerPath");
	strcpy(addr.sun_path, s->listener_path);
	fd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
	if (fd < 0)
		return err_set(e, -errno, "seccomp: fetch the listener");
	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sock < 0 || connect(sock, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return err_set(e, -errno, "connect to %s", s->listener_path);
	r = sync_send_fd(sock, fd, process_state, strlen(process_state));
	return r < 0 ? err_set(e, r, "send the listener to %s", s->listener_path) : 0;
}
