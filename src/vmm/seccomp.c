/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/seccomp.c - which system calls insula-vmm may make while a guest runs
 *
 * Two lists: what every thread may call, and what only the loop's and the workers' threads may. All
 * else fails with EPERM: no program can be started, no process traced, no file system changed but
 * through the calls below, which Landlock confines.
 */
#include "vmm/sandbox.h"

#include <errno.h>
#include <seccomp.h>

#define CALL(name) SCMP_SYS(name)

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
    CALL(mmap),
    CALL(munmap),
    CALL(mprotect),
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
    CALL(tgkill),
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
    CALL(socket),
    CALL(socketpair),
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
    CALL(clone),
    CALL(clone3),
    CALL(prctl),
    CALL(prlimit64),
    CALL(getrlimit),
    CALL(sysinfo),
    CALL(uname),
    CALL(getuid),
    CALL(geteuid),
    CALL(getgid),
    CALL(getegid),
    CALL(umask),
    CALL(kill),
    CALL(rt_sigtimedwait),
    CALL(signalfd4),
    CALL(timerfd_create),
    CALL(timerfd_gettime),
    CALL(set_tid_address),
    CALL(io_uring_register),
    CALL(memfd_create),
    CALL(seccomp),
    CALL(capset),
    CALL(name_to_handle_at),
    CALL(getcwd),
    CALL(fchdir),
    CALL(wait4),
    CALL(getcpu),
    CALL(sched_setaffinity),
};

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

static int load(bool all_threads, struct err *e)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r;

	if (!ctx)
		return err_set(e, -ENOMEM, "sandbox: seccomp");
	r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, all_threads);
	if (r == 0)
		r = add_calls(ctx, vcpu_calls, ARRAY_SIZE(vcpu_calls));
	if (r == 0 && all_threads)
		r = add_calls(ctx, loop_calls, ARRAY_SIZE(loop_calls));
	if (r == 0)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	return r < 0 ? err_set(e, r, "sandbox: seccomp") : 0;
}

int sandbox_run(struct err *e)
{
	return load(true, e);
}

/* The thread is older than the loop's loss of capabilities: it loses its own. */
int sandbox_vcpu(struct err *e)
{
	int r = sandbox_drop_capabilities(e);

	return r < 0 ? r : load(false, e);
}
