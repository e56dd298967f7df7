/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent/power.c - taking the guest down, and asking for it from inside
 */
#include "agent/agent_priv.h"
#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/reboot.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <time.h>

#define TERM_PATIENCE (2 * NSEC_PER_SEC)

/* Signals everybody and waits until only we are left, at most @patience. */
static void end_processes(int signal, uint64_t patience)
{
	uint64_t give_up = clock_now() + patience;

	if (kill(-1, signal) < 0)
		return; /* nobody there */
	kill(-1, SIGCONT);
	while (clock_now() < give_up) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (kill(-1, 0) < 0)
			return;
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	}
}

/* Unmounts from the last mount to the first; what stays busy, the root above all, becomes
 * read-only, which writes it out and marks it clean. */
static void unmount_all(void)
{
	autostrbuf struct strbuf mounts = {0};
	char *lines[512], *save = NULL;
	size_t n = 0;

	if (read_file("/proc/self/mounts", 1 << 20, &mounts) < 0 || !mounts.len)
		return;
	for (char *l = strtok_r(mounts.data, "\n", &save); l && n < ARRAY_SIZE(lines);
	     l = strtok_r(NULL, "\n", &save))
		lines[n++] = l;
	while (n-- > 0) {
		char *dev = strtok_r(lines[n], " ", &save), *dir = strtok_r(NULL, " ", &save);

		if (!dev || !dir || strcmp(dir, "/") == 0 || strncmp(dir, "/proc", 5) == 0 ||
		    strncmp(dir, "/dev", 4) == 0 || strncmp(dir, "/sys", 4) == 0)
			continue;
		if (umount2(dir, UMOUNT_NOFOLLOW) < 0)
			mount(NULL, dir, NULL, MS_REMOUNT | MS_RDONLY, NULL);
	}
	mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL);
}

void power_down(enum power_mode mode)
{
	end_processes(SIGTERM, TERM_PATIENCE);
	end_processes(SIGKILL, TERM_PATIENCE);
	sync();
	unmount_all();
	sync();
	reboot(mode == POWER_REBOOT ? LINUX_REBOOT_CMD_RESTART : LINUX_REBOOT_CMD_POWER_OFF);
	/* No way to switch off: stop here, the host ends the machine. */
	reboot(LINUX_REBOOT_CMD_HALT);
	for (;;)
		pause();
}

int power_client(const char *name, int argc, char **argv)
{
	bool restart = strcmp(name, "reboot") == 0;

	if (!restart && strcmp(name, "poweroff") != 0 && strcmp(name, "halt") != 0 &&
	    strcmp(name, "shutdown") != 0) {
		fprintf(stderr, "insula-agent: the first process of an Insula guest; "
				"not a command to run by hand\n");
		return 1;
	}
	for (int i = 1; i < argc; i++)
		restart = restart || strcmp(argv[i], "-r") == 0 || strcmp(argv[i], "--reboot") == 0;
	if (kill(1, restart ? SIGTERM : SIGUSR2) < 0) {
		fprintf(stderr, "%s: %s\n", name, strerror(errno));
		return 1;
	}
	return 0;
}
