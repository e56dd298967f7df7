/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/userns.c - ids of user namespaces
 */
#include "container/userns.h"

#include "base/fd.h"
#include "container/path.h"
#include "container/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void format_maps(const struct spec_id_maps *maps, struct strbuf *out)
{
	for (size_t i = 0; i < maps->n; i++)
		strbuf_printf(out, "%u %u %u\n", maps->v[i].inside, maps->v[i].outside,
			      maps->v[i].size);
}

/* newuidmap PID INSIDE OUTSIDE SIZE..., a setuid program that looks into /etc/subuid. */
static int map_by_program(const char *program, pid_t pid, const struct spec_id_maps *maps,
			  struct err *e)
{
	size_t n = 2 + maps->n * 3, k = 0;
	char **argv = xnew_n(char *, n + 1);
	int status = 0, r;
	pid_t child;

	argv[k++] = xstrdup(program);
	argv[k++] = xasprintf("%d", pid);
	for (size_t i = 0; i < maps->n; i++) {
		argv[k++] = xasprintf("%u", maps->v[i].inside);
		argv[k++] = xasprintf("%u", maps->v[i].outside);
		argv[k++] = xasprintf("%u", maps->v[i].size);
	}
	child = fork();
	if (child == 0) {
		proc_reset_signals();
		proc_cloexec_from(3);
		execvp(program, argv);
		_exit(127);
	}
	r = child < 0 ? -errno : proc_wait(child, &status);
	for (size_t i = 0; i < n; i++)
		free(argv[i]);
	free(argv);
	if (r < 0)
		return err_set(e, r, "run %s", program);
	if (status)
		return err_msg(e, -EPERM,
			       "%s refused the mapping of ids (exit status %d; see /etc/subuid)",
			       program, proc_exit_status(status));
	return 0;
}

static int map_kind(pid_t pid, int proc, bool user, const struct spec_id_maps *maps, struct err *e)
{
	autofree char *path = xasprintf("%d/%s", pid, user ? "uid_map" : "gid_map");
	uint32_t own = user ? geteuid() : getegid();
	autostrbuf struct strbuf text = {0};
	bool single = maps->n == 1 && maps->v[0].size == 1 && maps->v[0].outside == own;
	int r;

	format_maps(maps, &text);
	if (!user && single && geteuid() != 0) {
		autofree char *deny = xasprintf("%d/setgroups", pid);

		r = path_write_in_proc(proc, deny, "deny");
		if (r < 0)
			return err_set(e, r, "deny setgroups");
	}
	r = path_write_in_proc(proc, path, text.data ? text.data : "");
	if (r == -EPERM && !single)
		return map_by_program(user ? "newuidmap" : "newgidmap", pid, maps, e);
	return r < 0 ? err_set(e, r, "map %s ids", user ? "user" : "group") : 0;
}

int userns_map(pid_t pid, int proc, const struct spec_id_maps *uids,
	       const struct spec_id_maps *gids, struct err *e)
{
	int r = map_kind(pid, proc, false, gids, e);

	return r < 0 ? r : map_kind(pid, proc, true, uids, e);
}

int userns_make(const struct spec_id_maps *uids, const struct spec_id_maps *gids, struct err *e)
{
	autoclose int proc = path_open_proc(e);
	char path[64];
	int fd, r, status;
	pid_t pid;

	if (proc < 0)
		return proc;
	pid = (pid_t)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid < 0)
		return err_set(e, -errno, "user namespace");
	if (pid == 0)
		for (;;)
			pause();
	r = userns_map(pid, proc, uids, gids, e);
	snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
	fd = r < 0 ? r : open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && r == 0)
		fd = err_set(e, -errno, "open %s", path);
	kill(pid, SIGKILL);
	r = proc_wait(pid, &status);
	return fd < 0 || r == 0 ? fd : r;
}

bool userns_is_host_root(void)
{
	autostrbuf struct strbuf map = {0};
	unsigned long inside, outside, size;

	if (geteuid() != 0 || read_file("/proc/self/uid_map", 4096, &map) < 0 || !map.data)
		return false;
	return sscanf(map.data, "%lu %lu %lu", &inside, &outside, &size) == 3 && inside == 0 &&
	       outside == 0 && size == UINT32_MAX;
}
