/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/engine/init.c - process 1 of the benchmark's guests
 *
 * The kernel hands the words of its command line that it does not know to us: rows=NAME,NAME... in
 * the environment asks for /rows, programs=NAME,NAME... for /programs on the first disk.  Says
 * "INIT seconds" at its start (the guest's clock, which began with the kernel), "DONE" at its end,
 * and switches off.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_WORDS 100

static void must(int good, const char *what)
{
	if (good)
		return;
	printf("INIT FAILED %s: %s\n", what, strerror(errno));
	reboot(RB_POWER_OFF);
}

static void mount_at(const char *source, const char *target, const char *type, unsigned long flags)
{
	mkdir(target, 0755);
	must(mount(source, target, type, flags, NULL) == 0, target);
}

/* Only errors on the console, where the results go. */
static void kernel_quiet(void)
{
	FILE *f = fopen("/proc/sys/kernel/printk", "w");

	if (f) {
		fputs("1\n", f);
		fclose(f);
	}
}

/* What the disk needs, in the order of /modules.list. */
static void load_modules(void)
{
	FILE *list = fopen("/modules.list", "re");
	char path[256];

	must(list != NULL, "/modules.list");
	while (fscanf(list, "%255s", path) == 1) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);

		must(fd >= 0, path);
		must(syscall(SYS_finit_module, fd, "", 0) == 0 || errno == EEXIST, path);
		close(fd);
	}
	fclose(list);
}

static void mount_disk(void)
{
	struct stat st;

	for (int tries = 0; stat("/dev/vda", &st) < 0 && tries < 1000; tries++)
		usleep(10000);
	mkdir("/disk", 0755);
	must(mount("/dev/vda", "/disk", "ext4", MS_RDONLY, "noload") == 0, "/dev/vda");
}

/* Runs @argv's program with the words of @list (commas between them) behind what is there. */
static void run(const char **argv, int n, char *list)
{
	char *save = NULL;
	pid_t child;

	for (char *w = strtok_r(list, ",", &save); w && n < MAX_WORDS - 1;
	     w = strtok_r(NULL, ",", &save))
		argv[n++] = w;
	argv[n] = NULL;
	child = fork();
	if (child == 0) {
		execv(argv[0], (char **)(uintptr_t)argv);
		printf("INIT FAILED %s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	waitpid(child, NULL, 0);
}

int main(void)
{
	char *rows = getenv("rows"), *programs = getenv("programs");
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("\nINIT %lld.%09ld\n", (long long)t.tv_sec, t.tv_nsec);
	mount_at("proc", "/proc", "proc", 0);
	mount_at("sys", "/sys", "sysfs", 0);
	mount_at("dev", "/dev", "devtmpfs", 0);
	kernel_quiet();
	if (rows)
		run((const char *[MAX_WORDS]){"/rows"}, 1, rows);
	if (programs) {
		load_modules();
		mount_disk();
		run((const char *[MAX_WORDS]){"/programs", "/disk", "/data"}, 3, programs);
	}
	puts("DONE");
	reboot(RB_POWER_OFF);
	return 1;
}
