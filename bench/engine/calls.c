/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/engine/calls.c - system calls and processes
 */
#include "rows.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

uint64_t row_getppid(uint64_t n)
{
	for (; n; n--)
		must(syscall(SYS_getppid) >= 0, "getppid");
	return 0;
}

uint64_t row_read(uint64_t n)
{
	static char data[65536];
	int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);

	must(fd >= 0, "/dev/zero");
	for (; n; n--)
		must(read(fd, data, sizeof(data)) == sizeof(data), "read");
	close(fd);
	return 0;
}

uint64_t row_pipe(uint64_t n)
{
	char c = 1;
	int p[2];

	must(pipe(p) == 0, "pipe");
	for (; n; n--) {
		must(write(p[1], &c, 1) == 1, "write");
		must(read(p[0], &c, 1) == 1, "read");
	}
	close(p[0]);
	close(p[1]);
	return (uint64_t)c;
}

static uint64_t reap(pid_t child)
{
	int status;

	must(child > 0, "fork");
	must(waitpid(child, &status, 0) == child && WIFEXITED(status), "wait");
	return (uint64_t)WEXITSTATUS(status);
}

uint64_t row_fork(uint64_t n)
{
	uint64_t sum = 0;

	for (; n; n--) {
		pid_t child = fork();

		if (child == 0)
			_exit(3);
		sum = reap(child);
	}
	return sum;
}

uint64_t row_exec(uint64_t n)
{
	uint64_t sum = 0;

	for (; n; n--) {
		pid_t child = fork();

		if (child == 0) {
			execl("/proc/self/exe", "rows", "--exit", (char *)NULL);
			_exit(127);
		}
		sum = reap(child);
		must(sum == 5, "exec");
	}
	return sum;
}

/* A byte there and back: two switches. */
uint64_t row_switch(uint64_t n)
{
	int there[2], back[2];
	char c = 0;
	pid_t child;

	must(pipe(there) == 0 && pipe(back) == 0, "pipe");
	child = fork();
	if (child == 0) {
		close(there[1]);
		while (read(there[0], &c, 1) == 1) {
			c++;
			must(write(back[1], &c, 1) == 1, "write");
		}
		_exit(c & 1);
	}
	close(there[0]);
	close(back[1]);
	for (; n; n--) {
		c = 0;
		must(write(there[1], &c, 1) == 1, "write");
		must(read(back[0], &c, 1) == 1 && c == 1, "read");
	}
	close(there[1]);
	close(back[0]);
	return reap(child);
}
