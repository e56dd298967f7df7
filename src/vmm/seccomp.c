/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/seccomp.c - which system calls insula-vmm may make while a guest runs
 *
 * Two lists: what every thread may call, and what only the loop's and the workers' threads may. All
 * else fails with EPERM: no program can be started, no process traced, no file system changed but
 * through the calls below, which Landlock confines.  Some calls are allowed with some arguments
 * only: no executable memory is made, no process signalled, none made but copies of ours
 * (snapshots), no namespace, no socket of an odd family.
 *
 * A list of allowed calls cannot say "any but these numbers" of an argument of which the kernel
 * uses the lower half only, so that a second filter refuses those.
 */
#include "vmm/sandbox.h"

#include <asm/ioctls.h>
#include <asm/sockios.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define CALL(name) SCMP_SYS(name)
#define LOW_HALF   UINT32_MAX
#define FORK_FLAGS (CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD)
#define NEW_NAMESPACES                                                                             \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |             \
	 CLONE_NEWPID | CLONE_NEWNET)

/* Time, memory, waiting, the engines, and what device emulation writes to in a vCPU's thread. */
static const int vcpu_calls[] = {
    CALL(read),
    CALL(write),
    CALL(readv),
    CALL(writev),
    CALL(pread64),
    CALL(pwrite64),
    CALL(preadv),
    CALL(pwritev),
    CALL(preadv2),
    CALL(pwritev2),
    CALL(close),
    CALL(lseek),
    CALL(futex),
    CALL(clock_gettime),
    CALL(clock_nanosleep),
    CALL(nanosleep),
    CALL(gettimeofday),
    CALL(time),
    CALL(timer_settime),
    CALL(timer_delete),
    CALL(timer_create),
    CALL(timer_gettime),
    CALL(timerfd_settime),
    CALL(munmap),
    CALL(mremap),
    CALL(madvise),
    CALL(brk),
    CALL(membarrier),
    CALL(sched_yield),
    CALL(sched_getaffinity),
    CALL(rt_sigaction),
    CALL(rt_sigprocmask),
    CALL(rt_sigreturn),
    CALL(sigaltstack),
    CALL(restart_syscall),
    CALL(gettid),
    CALL(getpid),
    CALL(exit),
    CALL(exit_group),
    CALL(getrandom),
    CALL(ioctl),
    CALL(io_uring_enter),
    CALL(fallocate),
    CALL(fdatasync),
    CALL(fsync),
    CALL(sync_file_range),
    CALL(eventfd2),
    CALL(epoll_ctl),
    CALL(rseq),
    CALL(set_robust_list),
    CALL(sendto),
    CALL(sendmsg),
    CALL(recvfrom),
    CALL(recvmsg),
    CALL(poll),
    CALL(ppoll),
    CALL(fcntl),
    CALL(shutdown),
    CALL(arch_prctl),
};

/* Sockets of the network and of vsock, files of the shares, worker threads. */
static const int loop_calls[] = {
    CALL(epoll_wait),
    CALL(epoll_pwait),
    CALL(epoll_pwait2),
    CALL(epoll_create1),
    CALL(select),
    CALL(pselect6),
    CALL(accept),
    CALL(accept4),
    CALL(connect),
    CALL(bind),
    CALL(listen),
    CALL(getsockopt),
    CALL(setsockopt),
    CALL(getsockname),
    CALL(getpeername),
    CALL(sendmmsg),
    CALL(recvmmsg),
    CALL(pipe2),
    CALL(dup),
    CALL(dup2),
    CALL(dup3),
    CALL(open),
    CALL(openat),
    CALL(openat2),
    CALL(stat),
    CALL(fstat),
    CALL(lstat),
    CALL(newfstatat),
    CALL(statx),
    CALL(statfs),
    CALL(fstatfs),
    CALL(getdents64),
    CALL(access),
    CALL(faccessat),
    CALL(faccessat2),
    CALL(readlink),
    CALL(readlinkat),
    CALL(unlink),
    CALL(unlinkat),
    CALL(rename),
    CALL(renameat),
    CALL(renameat2),
    CALL(mkdir),
    CALL(mkdirat),
    CALL(rmdir),
    CALL(link),
    CALL(linkat),
    CALL(symlink),
    CALL(symlinkat),
    CALL(mknodat),
    CALL(fchmod),
    CALL(fchmodat),
    CALL(fchown),
    CALL(fchownat),
    CALL(lchown),
    CALL(utimensat),
    CALL(truncate),
    CALL(ftruncate),
    CALL(fsetxattr),
    CALL(fgetxattr),
    CALL(flistxattr),
    CALL(fremovexattr),
    CALL(lgetxattr),
    CALL(lsetxattr),
    CALL(llistxattr),
    CALL(lremovexattr),
    CALL(flock),
    CALL(copy_file_range),
    CALL(sendfile),
    CALL(splice),
    CALL(prctl),
    CALL(getrlimit),
    CALL(sysinfo),
    CALL(uname),
    CALL(getuid),
    CALL(geteuid),
    CALL(getgid),
    CALL(getegid),
    CALL(umask),
    CALL(rt_sigtimedwait),
    CALL(signalfd4),
    CALL(timerfd_create),
    CALL(timerfd_gettime),
    CALL(set_tid_address),
    CALL(seccomp),
    CALL(getcwd),
    CALL(fchdir),
    CALL(getcpu),
    CALL(close_range),
    CALL(memfd_create),
};

struct limited {
	int call;
	struct scmp_arg_cmp arg;
};

static int add_limited(scmp_filter_ctx ctx, const struct limited *list, size_t n, uint32_t action)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++)
		r = seccomp_rule_add_array(ctx, action, list[i].call, 1, &list[i].arg);
	return r;
}

static int add_vcpu_limited(scmp_filter_ctx ctx)
{
	const struct limited list[] = {
	    {CALL(mmap), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
	    {CALL(mprotect), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
	    {CALL(tgkill), SCMP_A0(SCMP_CMP_MASKED_EQ, LOW_HALF, (scmp_datum_t)getpid())},
	};

	return add_limited(ctx, list, ARRAY_SIZE(list), SCMP_ACT_ALLOW);
}

/* clone3 hides its flags behind a pointer; told that there is none, the C library uses clone. */
static int add_loop_limited(scmp_filter_ctx ctx)
{
	/* Code memory of a fork's translator: a file that is nobody else's, not writable here. */
	const struct scmp_arg_cmp code[] = {
	    SCMP_A2(SCMP_CMP_MASKED_EQ, LOW_HALF, PROT_READ | PROT_EXEC),
	    SCMP_A3(SCMP_CMP_MASKED_EQ, LOW_HALF & ~(scmp_datum_t)MAP_FIXED, MAP_SHARED),
	};
	const struct limited list[] = {
	    {CALL(clone), SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD | NEW_NAMESPACES, CLONE_THREAD)},
	    /* As the C library's fork: a copy of ourselves, behind the same walls. */
	    {CALL(clone), SCMP_A0(SCMP_CMP_MASKED_EQ, LOW_HALF, FORK_FLAGS)},
	    {CALL(kill), SCMP_A0(SCMP_CMP_MASKED_EQ, LOW_HALF, (scmp_datum_t)getpid())},
	    {CALL(prlimit64), SCMP_A0(SCMP_CMP_MASKED_EQ, LOW_HALF, 0)},
	    {CALL(socket), SCMP_A0(SCMP_CMP_MASKED_EQ, LOW_HALF, AF_UNIX)},
	    {CALL(socket), SCMP_A0(SCMP_CMP_MASKED_EQ, LOW_HALF, AF_INET)},
	    {CALL(socket), SCMP_A0(SCMP_CMP_MASKED_EQ, LOW_HALF, AF_INET6)},
	    {CALL(socketpair), SCMP_A0(SCMP_CMP_MASKED_EQ, LOW_HALF, AF_UNIX)},
	};
	int r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), CALL(clone3), 0);

	if (r == 0)
		r = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, CALL(mmap), 2, code);
	return r < 0 ? r : add_limited(ctx, list, ARRAY_SIZE(list), SCMP_ACT_ALLOW);
}

/* Typing on a terminal in a person's name; signals to other processes by way of a descriptor. */
static int add_refused(scmp_filter_ctx ctx)
{
	const struct limited list[] = {
	    {CALL(ioctl), SCMP_A1(SCMP_CMP_MASKED_EQ, LOW_HALF, TIOCSTI)},
	    {CALL(ioctl), SCMP_A1(SCMP_CMP_MASKED_EQ, LOW_HALF, TIOCLINUX)},
	    {CALL(ioctl), SCMP_A1(SCMP_CMP_MASKED_EQ, LOW_HALF, FIOSETOWN)},
	    {CALL(ioctl), SCMP_A1(SCMP_CMP_MASKED_EQ, LOW_HALF, SIOCSPGRP)},
	    {CALL(fcntl), SCMP_A1(SCMP_CMP_MASKED_EQ, LOW_HALF, F_SETOWN)},
	    {CALL(fcntl), SCMP_A1(SCMP_CMP_MASKED_EQ, LOW_HALF, F_SETOWN_EX)},
	    {CALL(fcntl), SCMP_A1(SCMP_CMP_MASKED_EQ, LOW_HALF, F_SETSIG)},
	};

	return add_limited(ctx, list, ARRAY_SIZE(list), SCMP_ACT_ERRNO(EPERM));
}

static int add_calls(scmp_filter_ctx ctx, const int *calls, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int r;

		if (calls[i] < 0) /* not on this architecture */
			continue;
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i], 0);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Fills a filter by @add (and @more), puts it on this thread or all. */
static int load(uint32_t otherwise, int (*add)(scmp_filter_ctx ctx),
		int (*more)(scmp_filter_ctx ctx), bool all_threads, struct err *e)
{
	scmp_filter_ctx ctx = seccomp_init(otherwise);
	int r;

	if (!ctx)
		return err_set(e, -ENOMEM, "sandbox: seccomp");
	r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, all_threads);
	if (r == 0)
		r = add(ctx);
	if (r == 0 && more)
		r = more(ctx);
	if (r == 0)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	return r < 0 ? err_set(e, r, "sandbox: seccomp") : 0;
}

static int add_vcpu(scmp_filter_ctx ctx)
{
	int r = add_calls(ctx, vcpu_calls, ARRAY_SIZE(vcpu_calls));

	return r < 0 ? r : add_vcpu_limited(ctx);
}

static int add_loop(scmp_filter_ctx ctx)
{
	int r = add_calls(ctx, loop_calls, ARRAY_SIZE(loop_calls));

	return r < 0 ? r : add_loop_limited(ctx);
}

int sandbox_run(struct err *e)
{
	int r = load(SCMP_ACT_ALLOW, add_refused, NULL, true, e);

	return r < 0 ? r : load(SCMP_ACT_ERRNO(EPERM), add_vcpu, add_loop, true, e);
}

int sandbox_vcpu(struct err *e)
{
	return load(SCMP_ACT_ERRNO(EPERM), add_vcpu, NULL, false, e);
}

/* The process that may be signalled is the parent, by the filter that came along. */
static int add_no_signals(scmp_filter_ctx ctx)
{
	int r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), CALL(kill), 0);

	return r < 0 ? r : seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), CALL(tgkill), 0);
}

int sandbox_forked(struct err *e)
{
	return load(SCMP_ACT_ALLOW, add_no_signals, NULL, false, e);
}
