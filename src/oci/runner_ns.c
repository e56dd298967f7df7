/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/runner_ns.c - the namespaces around a container: made, entered, their ids, and waiting
 */
#include "oci/runner_parts.h"

#include "base/exit.h"
#include "base/fd.h"
#include "container/path.h"
#include "container/userns.h"

#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static const int forwarded[] = {SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM, SIGCONT};

void runner_block_signals(sigset_t *set)
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

int runner_wait(pid_t pid, const sigset_t *set)
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

pid_t runner_clone(void)
{
	unsigned long flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | SIGCHLD;

	if (geteuid() != 0)
		flags |= CLONE_NEWUSER;
	return (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, NULL);
}

int runner_enter(int go, struct err *e)
{
	char byte;
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (read(go, &byte, 1) != 1)
		return -ECANCELED; /* the caller said why */
	if (geteuid() != 0 && (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0))
		return err_set(e, -errno, "become root of the user namespace");
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* forgotten with the ids */
	r = mount_proc(e);
	loopback_up();
	return r;
}

/* Our subordinate ids after our own: 0 is us, 1... are the first range of /etc/subuid. */
static int find_range(const char *file, const char *login, struct spec_id_map map[2], uint32_t own,
		      struct err *e)
{
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
			if ((strcmp(l, number) != 0 && (!login || strcmp(l, login) != 0)) ||
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

int runner_map_ids(pid_t pid, const char *login, struct err *e)
{
	struct spec_id_map u[2], g[2];
	struct spec_id_maps uids = {.v = u, .n = 2}, gids = {.v = g, .n = 2};
	autoclose int proc = geteuid() == 0 ? -1 : path_open_proc(e);
	int r;

	if (geteuid() == 0)
		return 0;
	r = proc < 0 ? proc : find_range("/etc/subuid", login, u, geteuid(), e);

	if (r == 0)
		r = find_range("/etc/subgid", login, g, getegid(), e);
	return r < 0 ? r : userns_map(pid, proc, &uids, &gids, e);
}
