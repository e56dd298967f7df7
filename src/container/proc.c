/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/proc.c - processes: who they are, signals, descriptors, and our own program's safety
 */
#include "container/proc.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char **environ;

uint64_t proc_start_time(pid_t pid)
{
	char path[32], text[1024];
	unsigned long long start = 0;
	const char *p;
	char state = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	/* The name in parentheses may hold anything, ")" too. */
	p = strrchr(text, ')');
	if (!p || sscanf(p + 1,
			 " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
			 "%*d %llu",
			 &state, &start) != 2)
		return 0;
	return state == 'Z' || state == 'X' ? 0 : start;
}

int proc_open(pid_t pid, uint64_t start_time)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (fd < 0)
		return -errno;
	/* Looked at after opening: what we hold now is what had this time. */
	if (proc_start_time(pid) != start_time) {
		close(fd);
		return -ESRCH;
	}
	return fd;
}

int proc_signal(int pidfd, int signal)
{
	return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) < 0 ? -errno : 0;
}

int proc_wait(pid_t pid, int *status)
{
	int s = 0;

	while (waitpid(pid, &s, __WALL) < 0)
		if (errno != EINTR)
			return -errno;
	*status = s;
	return 0;
}

int proc_exit_status(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void proc_reset_signals(void)
{
	struct sigaction sa = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int i = 1; i < _NSIG; i++)
		if (i != SIGKILL && i != SIGSTOP)
			sigaction(i, &sa, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

void proc_cloexec_from(unsigned int first)
{
	close_range(first, ~0U, CLOSE_RANGE_CLOEXEC);
}

bool proc_are_open(unsigned int n)
{
	for (unsigned int fd = 3; fd < 3 + n; fd++)
		if (fcntl((int)fd, F_GETFD) < 0)
			return false;
	return true;
}

static int compare_ints(const void *a, const void *b)
{
	return *(const int *)a < *(const int *)b ? -1 : *(const int *)a > *(const int *)b;
}

void proc_close_from(unsigned int first, int *keep, size_t n)
{
	qsort(keep, n, sizeof(*keep), compare_ints);
	for (size_t i = 0; i < n; i++) {
		if (keep[i] < 0 || (unsigned int)keep[i] < first)
			continue;
		if ((unsigned int)keep[i] > first)
			close_range(first, (unsigned int)keep[i] - 1, 0);
		first = (unsigned int)keep[i] + 1;
	}
	close_range(first, ~0U, 0);
}

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static int make_copy(int *ret, struct err *e)
{
	autoclose int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), copy = -1;
	struct stat st;
	off_t at = 0;

	if (self < 0 || fstat(self, &st) < 0)
		return err_set(e, -errno, "open our own program");
	copy = memfd_create("insula-oci", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (copy < 0)
		return err_set(e, -errno, "a copy of our own program");
	while (at < st.st_size)
		if (sendfile(copy, self, &at, (size_t)(st.st_size - at)) <= 0)
			return err_set(e, -errno, "copy our own program");
	if (fchmod(copy, 0500) < 0 || fcntl(copy, F_ADD_SEALS, SEALS) < 0)
		return err_set(e, -errno, "seal the copy of our own program");
	*ret = steal_fd(&copy);
	return 0;
}

int proc_run_sealed(char **argv, struct err *e)
{
	autoclose int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), copy = -1;
	int seals, r;

	if (self < 0)
		return err_set(e, -errno, "open our own program");
	/* Not a variable in the environment, which anybody could set: the seals themselves. */
	seals = fcntl(self, F_GET_SEALS);
	if (seals >= 0 && (seals & SEALS) == SEALS)
		return 0;
	r = make_copy(&copy, e);
	if (r < 0)
		return r;
	fexecve(copy, argv, environ);
	return err_set(e, -errno, "run the copy of our own program");
}

static const struct {
	const char *name;
	int number;
} signal_names[] = {
    {"ABRT", SIGABRT}, {"ALRM", SIGALRM},     {"BUS", SIGBUS},       {"CHLD", SIGCHLD},
    {"CONT", SIGCONT}, {"FPE", SIGFPE},       {"HUP", SIGHUP},       {"ILL", SIGILL},
    {"INT", SIGINT},   {"IO", SIGIO},         {"IOT", SIGIOT},       {"KILL", SIGKILL},
    {"PIPE", SIGPIPE}, {"POLL", SIGPOLL},     {"PROF", SIGPROF},     {"PWR", SIGPWR},
    {"QUIT", SIGQUIT}, {"SEGV", SIGSEGV},     {"STKFLT", SIGSTKFLT}, {"STOP", SIGSTOP},
    {"SYS", SIGSYS},   {"TERM", SIGTERM},     {"TRAP", SIGTRAP},     {"TSTP", SIGTSTP},
    {"TTIN", SIGTTIN}, {"TTOU", SIGTTOU},     {"URG", SIGURG},       {"USR1", SIGUSR1},
    {"USR2", SIGUSR2}, {"VTALRM", SIGVTALRM}, {"WINCH", SIGWINCH},   {"XCPU", SIGXCPU},
    {"XFSZ", SIGXFSZ},
};

int proc_parse_signal(const char *name)
{
	char *end;
	long n;
	int plus = 0;

	n = strtol(name, &end, 10);
	if (end != name)
		return *end || n < 0 || n >= _NSIG ? -1 : (int)n;
	if (strncasecmp(name, "SIG", 3) == 0)
		name += 3;
	for (size_t i = 0; i < ARRAY_SIZE(signal_names); i++)
		if (strcasecmp(name, signal_names[i].name) == 0)
			return signal_names[i].number;
	if (strncasecmp(name, "RTMIN", 5) == 0 || strncasecmp(name, "RTMAX", 5) == 0) {
		int base = strncasecmp(name, "RTMIN", 5) == 0 ? SIGRTMIN : SIGRTMAX;

		if (name[5] && sscanf(name + 5, "%d", &plus) != 1)
			return -1;
		return base + plus < SIGRTMIN || base + plus > SIGRTMAX ? -1 : base + plus;
	}
	return -1;
}
