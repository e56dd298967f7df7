/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/vmm/test_sandbox.c - what a taken-over insula-vmm cannot do, tried from all threads
 *
 * Every case is a process of its own, since nothing of it can be taken back.
 */
#include "vmm/sandbox.h"

#include "base/fd.h"
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#define DENIED(call)                                                                               \
	do {                                                                                       \
		errno = 0;                                                                         \
		CHECK((call) < 0);                                                                 \
		CHECK(errno == EPERM || errno == EACCES || errno == ENOENT || errno == EROFS);     \
	} while (0)

struct fixture {
	char dir[32], outside[32];
	char control[64], secret[64], socket[64];
	struct vm_desc desc;
	pthread_barrier_t made, closed, tried;
	bool vcpu; /* the thread takes the narrower list too */
};

static void make_file(const char *path)
{
	autoclose int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	CHECK(fd >= 0);
}

static void listen_on(const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	CHECK_EQ(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	CHECK_EQ(chmod(path, 0777), 0);
	CHECK_EQ(listen(fd, 1), 0);
}

static void setup(struct fixture *f)
{
	strcpy(f->dir, "/var/tmp/insula-sbx-XXXXXX");
	strcpy(f->outside, "/var/tmp/insula-out-XXXXXX");
	CHECK(mkdtemp(f->dir) && mkdtemp(f->outside));
	CHECK_EQ(chmod(f->dir, 0777), 0);
	CHECK_EQ(chmod(f->outside, 0777), 0);
	snprintf(f->control, sizeof(f->control), "%s/control", f->dir);
	snprintf(f->secret, sizeof(f->secret), "%s/secret", f->outside);
	snprintf(f->socket, sizeof(f->socket), "%s/socket", f->outside);
	make_file(f->control);
	make_file(f->secret);
	listen_on(f->socket);
	f->desc.control = f->control;
}

static void teardown(struct fixture *f)
{
	unlink(f->control);
	unlink(f->secret);
	unlink(f->socket);
	CHECK_EQ(rmdir(f->dir), 0);
	CHECK_EQ(rmdir(f->outside), 0);
}

static uint64_t capabilities(void)
{
	struct {
		uint32_t version;
		int pid;
	} head = {0x20080522, 0};
	struct {
		uint32_t effective, permitted, inheritable;
	} data[2];

	CHECK_EQ(syscall(SYS_capget, &head, data), 0);
	return data[0].effective | data[0].permitted | data[0].inheritable | data[1].effective |
	       data[1].permitted | data[1].inheritable;
}

static void try_files(const struct fixture *f)
{
	DENIED(open(f->secret, O_RDONLY));
	DENIED(open(f->secret, O_WRONLY));
	DENIED(open("/etc/shadow", O_RDONLY));
	DENIED(unlink(f->secret));
	DENIED(mkdir("/var/tmp/insula-made", 0755));
	DENIED(open("/proc/1/environ", O_RDONLY));
}

/* Of the service that would do anything for us. */
static int dial(const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	return connect(fd, (struct sockaddr *)&sa, sizeof(sa));
}

/* The wrong bits above the lower half, which the kernel does not look at. */
#define WIDE(n) ((unsigned long)(n) | 1ul << 40)

static void try_calls(void)
{
	int value = 0;

	DENIED(kill(getppid(), 0));
	DENIED(syscall(SYS_tgkill, getppid(), getppid(), 0));
	DENIED(syscall(SYS_execve, "/bin/true", NULL, NULL));
	DENIED(syscall(SYS_ptrace, 0, 0, 0, 0));
	DENIED(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
	DENIED(unshare(CLONE_NEWUSER));
	DENIED(syscall(SYS_mount, "x", "/", "tmpfs", 0, NULL));
	DENIED(syscall(SYS_io_uring_setup, 8, NULL));
	DENIED(syscall(SYS_userfaultfd, 0));
	DENIED(syscall(SYS_open_by_handle_at, -1, NULL, 0));
	DENIED(syscall(SYS_bpf, 0, NULL, 0));
	DENIED(syscall(SYS_perf_event_open, NULL, 0, 0, 0, 0));
	DENIED(syscall(SYS_keyctl, 0, 0, 0, 0, 0));
	DENIED(syscall(SYS_prlimit64, getppid(), 0, NULL, NULL));
	DENIED(socket(AF_NETLINK, SOCK_RAW, 0));
	DENIED(socket(AF_PACKET, SOCK_RAW, 0));
	DENIED(syscall(SYS_ioctl, 0, WIDE(TIOCSTI), &value));
	DENIED(syscall(SYS_fcntl, 0, WIDE(F_SETOWN), getppid()));
	DENIED((long)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	DENIED((long)mmap(NULL, 4096, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	DENIED((long)mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, 0, 0));
	DENIED((long)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, 0, 0));
}

/* Snapshots and live forks: a copy of ourselves, which can do no more than we. */
static void try_fork(void)
{
	int ends[2], fd = memfd_create("code", MFD_CLOEXEC);
	struct err e = {0};
	char word = 0;
	pid_t pid;

	CHECK(fd >= 0 && ftruncate(fd, 4096) == 0);
	CHECK(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0) != MAP_FAILED);
	CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		CHECK_EQ(sandbox_forked(&e), 0);
		try_calls();
		DENIED(kill(getpid(), 0));
		CHECK_EQ(write(ends[1], "+", 1), 1);
		_exit(0);
	}
	close(ends[1]);
	CHECK_EQ(read(ends[0], &word, 1), 1);
	CHECK_EQ(word, '+');
	close(ends[0]);
	close(fd);
}

static void *nothing(void *arg)
{
	return arg;
}

static void *earlier_thread(void *arg)
{
	struct fixture *f = arg;
	struct err e = {0};

	pthread_barrier_wait(&f->made);
	pthread_barrier_wait(&f->closed);
	CHECK_EQ(capabilities(), 0);
	try_files(f);
	pthread_barrier_wait(&f->tried);
	pthread_barrier_wait(&f->closed);
	if (f->vcpu) {
		CHECK_EQ(sandbox_vcpu(&e), 0);
		DENIED(socket(AF_INET, SOCK_STREAM, 0));
		DENIED(fork());
	}
	try_calls();
	pthread_barrier_wait(&f->tried);
	return NULL;
}

static bool has_landlock(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, 1) >= 1;
}

/* Status of the process: 0, or 77 if the host has neither kind of wall for files. */
static void run(struct fixture *f)
{
	struct err e = {0};
	pthread_t t[2];
	bool jail;

	if (sandbox_enter(&jail, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		_exit(1);
	}
	if (!jail && !has_landlock())
		_exit(TEST_SKIP);
	pthread_barrier_init(&f->made, NULL, 2);
	pthread_barrier_init(&f->closed, NULL, 2);
	pthread_barrier_init(&f->tried, NULL, 2);
	CHECK_EQ(pthread_create(&t[0], NULL, earlier_thread, f), 0);
	pthread_barrier_wait(&f->made);
	CHECK_EQ(dial(f->socket), 0);
	if (sandbox_opened(&f->desc, jail, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		_exit(1);
	}
	pthread_barrier_wait(&f->closed);
	pthread_barrier_wait(&f->tried);
	CHECK_EQ(capabilities(), 0);
	try_files(f);
	CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
	CHECK_EQ(prctl(PR_GET_DUMPABLE), 0);
	CHECK_EQ(sandbox_run(&e), 0);
	pthread_barrier_wait(&f->closed);
	pthread_barrier_wait(&f->tried);
	try_calls();
	try_fork();
	if (jail)
		DENIED(dial(f->socket));
	errno = 0; /* the C library asks, and takes clone then */
	CHECK(syscall(SYS_clone3, NULL, 0) < 0 && errno == ENOSYS);
	/* What it must still be able to do. */
	CHECK_EQ(pthread_join(t[0], NULL), 0);
	CHECK_EQ(pthread_create(&t[1], NULL, nothing, NULL), 0);
	CHECK_EQ(pthread_join(t[1], NULL), 0);
	CHECK(open("/etc/resolv.conf", O_RDONLY) >= 0 || errno == ENOENT);
	CHECK_EQ(kill(getpid(), 0), 0);
	CHECK_EQ(unlink(f->control), 0);
	_exit(0);
}

static int run_as(uid_t uid, bool vcpu)
{
	struct fixture f = {.vcpu = vcpu};
	int status;
	pid_t pid;

	setup(&f);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		if (uid != getuid()) {
			CHECK_EQ(setgroups(0, NULL), 0);
			CHECK_EQ(setresgid(uid, uid, uid), 0);
			CHECK_EQ(setresuid(uid, uid, uid), 0);
			prctl(PR_SET_DUMPABLE, 1); /* as a program started by that user */
		}
		run(&f);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	teardown(&f);
	CHECK(WIFEXITED(status));
	return WEXITSTATUS(status);
}

int main(void)
{
	int r = run_as(getuid(), false);

	if (r == 0)
		r = run_as(getuid(), true);
	if (r == 0 && getuid() == 0)
		r = run_as(65534, false);
	return r;
}
