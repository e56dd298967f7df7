/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/runner.c - from an image to a container that runs
 */
#include "oci/runner_priv.h"

#include "base/exit.h"
#include "base/fd.h"
#include "container/path.h"
#include "container/userns.h"
#include "oci/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define RUNTIME_ROOT "state"

static const int forwarded[] = {SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM, SIGCONT};

char **runner_args(const struct image_config *c, char *const *command)
{
	char **args, **cmd = (char **)command;
	size_t n = 0, more = 0;

	if (!cmd || !cmd[0])
		cmd = c->cmd.n ? c->cmd.v : NULL;
	while (cmd && cmd[more])
		more++;
	args = xcalloc(c->entrypoint.n + more + 2, sizeof(*args));
	for (size_t i = 0; i < c->entrypoint.n; i++)
		args[n++] = c->entrypoint.v[i];
	for (size_t i = 0; i < more; i++)
		args[n++] = cmd[i];
	if (n == 0)
		args[0] = (char *)"/bin/sh";
	return args;
}

static void block_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGCHLD);
	for (size_t i = 0; i < ARRAY_SIZE(forwarded); i++)
		sigaddset(set, forwarded[i]);
	sigprocmask(SIG_BLOCK, set, NULL);
}

static int status_of(int status)
{
	return WIFSIGNALED(status) ? EXIT_SIGNAL_BASE + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Waits for @pid, reaping whoever else ends, and hands signals on.  Those of the terminal reach all
 * of us from the kernel. */
static int wait_for(pid_t pid, const sigset_t *set)
{
	for (;;) {
		siginfo_t info;
		pid_t ended;
		int status;

		while ((ended = waitpid(-1, &status, WNOHANG)) > 0) {
			if (ended == pid)
				return status_of(status);
		}
		if (ended < 0 && errno == ECHILD)
			return EXIT_FAIL;
		if (sigwaitinfo(set, &info) > 0 && info.si_signo != SIGCHLD &&
		    info.si_code != SI_KERNEL)
			kill(pid, info.si_signo);
	}
}

static int mount_proc(struct err *e)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 &&
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return err_set(e, -errno, "make mounts private");
	if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return err_set(e, -errno, "mount /proc");
	return 0;
}

static void loopback_up(void)
{
	autoclose int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};

	if (fd >= 0)
		(void)ioctl(fd, SIOCSIFFLAGS, &ifr);
}

/* What the runtime failed at it wrote to its log too: a status of its own, as shells have. */
static int judge(const char *log, int status)
{
	autostrbuf struct strbuf text = {0};

	if (read_file(log, 65536, &text) < 0 || !text.len)
		return status;
	if (strstr(text.data, "not found") || strstr(text.data, "No such file"))
		return EXIT_NOT_FOUND;
	return strstr(text.data, "Permission denied") ? EXIT_NOT_EXECUTABLE : EXIT_FAIL;
}

/* In the monitor; returns the container's status, or tells over @report why there is none. */
static int monitor(const struct oci_store *s, const struct oci_image *image,
		   const struct container_options *o, const char *dir, int go, struct err *e)
{
	autofree char *state = xasprintf("%s/" RUNTIME_ROOT, dir);
	autofree char *log = xasprintf("%s/log", dir), *cgroup = cgroup_path(s, dir);
	autofree char *id = xasprintf("insula-%s", strrchr(dir, '/') + 1);
	sigset_t set, none;
	char byte;
	pid_t pid;
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (read(go, &byte, 1) != 1)
		return -ECANCELED; /* the caller said why */
	if (geteuid() != 0 && (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0))
		return err_set(e, -errno, "become root of the user namespace");
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* forgotten with the ids */
	r = mount_proc(e);
	loopback_up();
	if (r == 0)
		r = rootfs_mount(s, &image->config, dir, e);
	if (r == 0)
		r = bundle_write(dir, cgroup, &image->config, o, e);
	if (r < 0)
		return r;
	block_signals(&set);
	pid = fork();
	if (pid == 0) {
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		signal(SIGPIPE, SIG_DFL);
		if (geteuid() != 0)
			setgroups(0, NULL);
		execl(o->runtime, "insula-oci", "--root", state, "--log", log, "run", "--bundle",
		      dir, id, (char *)NULL);
		_exit(127);
	}
	return pid < 0 ? err_set(e, -errno, "fork") : judge(log, wait_for(pid, &set));
}

/* Our subordinate ids after our own: 0 is us, 1... are the first range of /etc/subuid. */
static int find_range(const char *file, struct spec_id_map map[2], uint32_t own, struct err *e)
{
	struct passwd *pw = getpwuid(geteuid());
	autofree char *number = xasprintf("%u", (unsigned int)geteuid());
	autostrbuf struct strbuf text = {0};
	char *save = NULL;

	if (read_file(file, 1 << 20, &text) == 0 && text.data) {
		for (char *l = strtok_r(text.data, "\n", &save); l;
		     l = strtok_r(NULL, "\n", &save)) {
			char *colon = strchr(l, ':');
			unsigned int first, size;

			if (!colon)
				continue;
			*colon = '\0';
			if ((strcmp(l, number) != 0 && (!pw || strcmp(l, pw->pw_name) != 0)) ||
			    sscanf(colon + 1, "%u:%u", &first, &size) != 2)
				continue;
			map[0] = (struct spec_id_map){.inside = 0, .outside = own, .size = 1};
			map[1] = (struct spec_id_map){.inside = 1, .outside = first, .size = size};
			return 0;
		}
	}
	return err_msg(e, -EPERM,
		       "containers without root need subordinate ids: %s has none for "
		       "you",
		       file);
}

static int map_ids(pid_t pid, struct err *e)
{
	struct spec_id_map u[2], g[2];
	struct spec_id_maps uids = {.v = u, .n = 2}, gids = {.v = g, .n = 2};
	autoclose int proc = path_open_proc(e);
	int r = proc < 0 ? proc : find_range("/etc/subuid", u, geteuid(), e);

	if (r == 0)
		r = find_range("/etc/subgid", g, getegid(), e);
	return r < 0 ? r : userns_map(pid, proc, &uids, &gids, e);
}

/* The monitor's own failures, and its status, come over a pipe. */
struct report {
	int r;
	struct err e;
};

static int start(const struct oci_store *s, const struct oci_image *image,
		 const struct container_options *o, const char *dir, int *go, int *report,
		 pid_t *ret, struct err *e)
{
	unsigned long flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | SIGCHLD;
	int g[2], r[2];
	pid_t pid;

	if (pipe2(g, O_CLOEXEC) < 0 || pipe2(r, O_CLOEXEC) < 0)
		return err_set(e, -errno, "pipe");
	if (geteuid() != 0)
		flags |= CLONE_NEWUSER;
	pid = (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, NULL);
	if (pid == 0) {
		struct report answer = {0};

		close(g[1]);
		close(r[0]);
		answer.r = monitor(s, image, o, dir, g[0], &answer.e);
		(void)!write(r[1], &answer, sizeof(answer));
		_exit(0);
	}
	close(g[0]);
	close(r[1]);
	*go = g[1];
	*report = r[0];
	if (pid < 0)
		return err_set(e, -errno, "new namespaces");
	*ret = pid;
	return 0;
}

static int run_in(const struct oci_store *s, const struct oci_image *image,
		  const struct container_options *o, const char *dir, int *status, struct err *e)
{
	autoclose int go = -1, report = -1;
	struct report answer = {0};
	struct slirp net = {0};
	sigset_t set;
	pid_t pid = 0;
	int ended, r;

	block_signals(&set);
	r = start(s, image, o, dir, &go, &report, &pid, e);
	if (r == 0 && geteuid() != 0)
		r = map_ids(pid, e);
	if (r == 0 && o->net)
		r = slirp_start(pid, dir, o, &net, e);
	if (r == 0 && write(go, "", 1) != 1)
		r = err_set(e, -errno, "start the container");
	if (pid > 0 && r < 0)
		kill(pid, SIGKILL);
	ended = pid > 0 ? wait_for(pid, &set) : 0;
	slirp_stop(&net);
	if (r < 0)
		return r;
	if (read(report, &answer, sizeof(answer)) != sizeof(answer)) {
		*status = ended;
		return 0;
	}
	if (answer.r < 0) {
		answer.e.msg[sizeof(answer.e.msg) - 1] = '\0';
		return err_msg(e, answer.r, "%s", answer.e.msg);
	}
	*status = answer.r;
	return 0;
}

int runner_run(const struct oci_store *s, const struct oci_image *image,
	       const struct container_options *o, int *status, struct err *e)
{
	struct workspace w;
	int r = workspace_make(s->cache, &w, e);

	if (r < 0)
		return r;
	cgroup_sweep(s);
	r = run_in(s, image, o, w.dir, status, e);
	workspace_fini(&w);
	return r;
}
