/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/sandbox_threads.c - drops capabilities and enters Landlock in every thread of the process
 *
 * The kernel keeps both by thread, and devices have workers by now.  As the C library does for user
 * ids, a signal goes to each thread, whose handler makes the calls.  A thread that starts meanwhile
 * inherits from its maker, or is found in the next round.
 */
#include "vmm/sandbox.h"

#include "virtio/worker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#define THREAD_SIGNAL (SIGRTMIN + 6)
#define PATIENCE_S    5
#define MAX_THREADS   1024

/* Handlers take no argument: what they shall do, and how it went. */
static struct {
	int ruleset;
	volatile int error; /* 0 or -errno, only ever set */
	sem_t done;
} order;

/*
 * What root's share needs to be root's: files of any owner, and to give files away.  Only the
 * thread that serves it keeps this, and it sees no files but those of the shares.
 */
#define SHARE_CAPS (BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FOWNER))

static int restrict_thread(int ruleset)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};
	uint32_t keep = 0;

	if (worker_is_this_thread() && geteuid() == 0 && syscall(SYS_capget, &head, data) == 0)
		keep = data[0].permitted & (uint32_t)SHARE_CAPS;
	if (ruleset >= 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		return -errno;
	/* -EPERM without CAP_SETPCAP: then there is nothing to fear from the bounding set. */
	for (int cap = 0; cap <= CAP_LAST_CAP; cap++) {
		if (cap > 31 || !(keep & BIT(cap)))
			prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	}
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	memset(data, 0, sizeof(data));
	data[0].permitted = data[0].effective = keep;
	return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;
}

static void on_order(int sig)
{
	int saved = errno, r = restrict_thread(order.ruleset);

	if (r < 0)
		order.error = r;
	sem_post(&order.done);
	errno = saved;
}

static bool is_known(const pid_t *tids, size_t n, pid_t tid)
{
	for (size_t i = 0; i < n; i++) {
		if (tids[i] == tid)
			return true;
	}
	return false;
}

/* A worker of io_uring takes no signals; it works with the privileges of the thread that asks. */
static bool is_kernel_worker(int tasks, pid_t tid)
{
	autofree char *path = xasprintf("%d/comm", (int)tid);
	autoclose int fd = openat(tasks, path, O_RDONLY | O_CLOEXEC);
	char name[4] = "";

	return fd >= 0 && read(fd, name, sizeof(name)) == sizeof(name) &&
	       memcmp(name, "iou-", sizeof(name)) == 0;
}

static int order_thread(pid_t tid)
{
	struct timespec until;

	if (syscall(SYS_tgkill, getpid(), tid, THREAD_SIGNAL) < 0)
		return errno == ESRCH ? 0 : -errno;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE_S;
	while (sem_timedwait(&order.done, &until) < 0) {
		if (errno == EINTR)
			continue;
		/* Did it end before it saw the signal? */
		return syscall(SYS_tgkill, getpid(), tid, 0) < 0 ? 0 : -ETIMEDOUT;
	}
	return order.error;
}

/* One look at the threads; *@n grows by those that were new. */
static int order_new(DIR *tasks, pid_t *tids, size_t *n)
{
	struct dirent *de;

	rewinddir(tasks);
	while ((de = readdir(tasks))) {
		pid_t tid = (pid_t)strtol(de->d_name, NULL, 10);
		int r;

		if (tid <= 0 || is_known(tids, *n, tid) || is_kernel_worker(dirfd(tasks), tid))
			continue;
		if (*n == MAX_THREADS)
			return -E2BIG;
		tids[(*n)++] = tid;
		r = order_thread(tid);
		if (r < 0)
			return r;
	}
	return 0;
}

int sandbox_other_threads(int ruleset, struct err *e)
{
	struct sigaction sa = {.sa_handler = on_order, .sa_flags = SA_RESTART | SA_ONSTACK}, old;
	pid_t tids[MAX_THREADS] = {gettid()};
	size_t n = 1, before;
	DIR *tasks;
	int r = 0;

	tasks = opendir("/proc/self/task");
	if (!tasks)
		return err_set(e, -errno, "sandbox: /proc/self/task");
	order.ruleset = ruleset;
	order.error = 0;
	sem_init(&order.done, 0, 0);
	sigaction(THREAD_SIGNAL, &sa, &old);
	do {
		before = n;
		r = order_new(tasks, tids, &n);
	} while (r == 0 && n > before);
	sigaction(THREAD_SIGNAL, &old, NULL);
	closedir(tasks);
	return r < 0 ? err_set(e, r, "sandbox: restrict the threads") : 0;
}

int sandbox_this_thread(int ruleset, struct err *e)
{
	int r = restrict_thread(ruleset);

	return r < 0 ? err_set(e, r, "sandbox: restrict the thread") : 0;
}
