/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/engine/programs.c - measures commands in a Debian: the guest's disk, or the same tree on
 * the host
 *
 *   programs ROOT DATA NAME...
 *
 * DATA/commands/NAME is a bash script; it sees ROOT as its root, DATA as /mnt and an empty /tmp.  A
 * line each: "FIRST name nanoseconds", of a run with cold files, and "ROW name nanoseconds
 * checksum", of the later ones and what they wrote.  A command that measures itself writes "NS
 * figure" and has no checksum.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BUDGET_NS 300000000.0 /* the later runs of a command last about so long together, */
#define MAX_TIMES 5           /* but there are at most so many and at least one */

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "programs: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void write_line(const char *path, const char *line)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	must(fd >= 0 && write(fd, line, strlen(line)) == (ssize_t)strlen(line), path);
	close(fd);
}

/* Mounts of our own; without root in a user namespace, where we are root. */
static void unshare_mounts(void)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	char map[64];

	must(unshare(CLONE_NEWNS | (uid ? CLONE_NEWUSER : 0)) == 0, "unshare");
	if (uid) {
		write_line("/proc/self/setgroups", "deny");
		snprintf(map, sizeof(map), "0 %u 1", uid);
		write_line("/proc/self/uid_map", map);
		snprintf(map, sizeof(map), "0 %u 1", gid);
		write_line("/proc/self/gid_map", map);
	}
	must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "private mounts");
}

static void bind(const char *from, const char *root, const char *to)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", root, to);
	must(mount(from, path, NULL, MS_BIND | MS_REC, NULL) == 0, path);
}

static void enter(const char *root, const char *data)
{
	char path[4096];

	unshare_mounts();
	bind("/proc", root, "proc");
	bind("/dev", root, "dev");
	bind(data, root, "mnt");
	snprintf(path, sizeof(path), "%s/tmp", root);
	must(mount("tmp", path, "tmpfs", 0, NULL) == 0, path);
	must(chroot(root) == 0 && chdir("/tmp") == 0, root);
	clearenv();
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	setenv("HOME", "/tmp", 1);
	setenv("LC_ALL", "C", 1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void redirect(const char *path, int to)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	must(fd >= 0 && dup2(fd, to) == to, path);
	close(fd);
}

/* Nanoseconds of one run of @script in an empty /tmp, or negative. */
static double run(const char *script)
{
	double start;
	pid_t child;
	int status;

	must(mount("tmp", "/tmp", "tmpfs", 0, NULL) == 0 && chdir("/tmp") == 0, "/tmp");
	start = now();
	child = fork();
	must(child >= 0, "fork");
	if (child == 0) {
		redirect("/tmp/.out", 1);
		redirect("/tmp/.err", 2);
		execl("/bin/bash", "bash", script, (char *)NULL);
		_exit(127);
	}
	must(waitpid(child, &status, 0) == child, "waitpid");
	return status == 0 ? now() - start : -1;
}

/* What the command wrote: the figure that it gave itself, or a checksum (FNV-1a). */
static bool read_output(double *figure, uint64_t *ret_sum)
{
	FILE *f = fopen("/tmp/.out", "re");
	uint64_t sum = 0xcbf29ce484222325;
	bool own;
	int c;

	must(f != NULL, "/tmp/.out");
	own = fscanf(f, "NS %lf", figure) == 1;
	rewind(f);
	while ((c = getc(f)) != EOF)
		sum = (sum ^ (uint64_t)c) * 0x100000001b3;
	fclose(f);
	*ret_sum = sum;
	return own;
}

static void clean(void)
{
	must(chdir("/") == 0 && umount("/tmp") == 0, "umount /tmp");
}

static void show_errors(const char *name)
{
	char line[256];
	FILE *f = fopen("/tmp/.err", "re");

	printf("programs: %s failed\n", name);
	for (int i = 0; f && i < 10 && fgets(line, sizeof(line), f); i++)
		printf("  %s", line);
	if (f)
		fclose(f);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static bool measure(const char *name)
{
	double times[MAX_TIMES], total = 0;
	uint64_t sum = 0, first_sum = 0;
	bool own = false;
	char script[256];
	int n = 0;

	snprintf(script, sizeof(script), "/mnt/commands/%s", name);
	for (int i = 0; n == 0 || (n < MAX_TIMES && total < BUDGET_NS); i++) {
		double t = run(script);

		if (t < 0)
			show_errors(name);
		else
			own = read_output(&t, &sum);
		clean();
		if (t < 0)
			return false;
		if (i == 0) {
			printf("FIRST %s %.4f\n", name, t);
			first_sum = sum;
			continue;
		}
		if (!own && sum != first_sum) {
			printf("programs: %s: two runs wrote different things\n", name);
			return false;
		}
		times[n++] = t;
		total += own ? BUDGET_NS : t;
	}
	qsort(times, (size_t)n, sizeof(*times), compare);
	if (own)
		printf("ROW %s %.4f -\n", name, times[n / 2]);
	else
		printf("ROW %s %.4f %" PRIx64 "\n", name, times[n / 2], sum);
	return true;
}

int main(int argc, char **argv)
{
	int status = 0;

	if (argc < 3) {
		fprintf(stderr, "usage: programs ROOT DATA NAME...\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	enter(argv[1], argv[2]);
	for (char **name = argv + 3; *name; name++) {
		if (!measure(*name))
			status = 1;
	}
	return status;
}
