/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent/boot.c - from the kernel's initramfs to a guest that can run commands
 *
 * Two steps: boot_early() makes /proc, /sys and /dev, after which the configuration can be read and
 * problems can be shown; boot_guest() does the rest.
 */
#include "agent/agent_priv.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>

struct mount_row {
	const char *type, *target;
	unsigned long flags;
	const char *data;
};

const char *const early_targets[] = {"/proc", "/sys", "/dev", "/run", NULL};

static const struct mount_row early_mounts[] = {
    {"proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
    {"sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
    {"devtmpfs", "/dev", MS_NOSUID, "mode=0755"},
    {"tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755"},
};

/* /dev itself moves along from the initramfs; these are made in the guest's root. */
static const struct mount_row late_mounts[] = {
    {"devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666"},
    {"tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777"},
    {"cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
};

int boot_early(struct err *e)
{
	umask(022);
	for (size_t i = 0; i < ARRAY_SIZE(early_mounts); i++) {
		const struct mount_row *m = &early_mounts[i];

		mkdir(m->target, 0755);
		if (mount(m->type, m->target, m->type, m->flags, m->data) < 0 && errno != EBUSY)
			return err_set(e, -errno, "mount %s", m->target);
	}
	return 0;
}

int config_read(json_t **ret, struct err *e)
{
	autostrbuf struct strbuf text = {0};
	json_error_t je;
	int r = read_file(AGENT_CONFIG_PATH, 1 << 20, &text);

	if (r == -ENOENT) {
		*ret = json_object();
		return 0;
	}
	if (r < 0)
		return err_set(e, r, "read %s", AGENT_CONFIG_PATH);
	*ret = json_loadb(text.data, text.len, 0, &je);
	if (!*ret)
		return err_msg(e, -EINVAL, "%s: line %d: %s", AGENT_CONFIG_PATH, je.line, je.text);
	return 0;
}

/* The host knows the time better than a machine without a running RTC. */
static void set_clock(const json_t *config)
{
	struct timeval tv = {.tv_sec = json_integer_value(json_object_get(config, "time"))};

	if (tv.tv_sec > time(NULL) + 2 && settimeofday(&tv, NULL) < 0)
		agent_log("set the clock: %s", strerror(errno));
}

/* The agent's own file, for poweroff and friends once the initramfs is gone. */
static void keep_own_file(void)
{
	autostrbuf struct strbuf self = {0};
	autoclose int fd = -1;

	mkdir(AGENT_RUN_DIR, 0755);
	mkdir(AGENT_RUN_DIR "/bin", 0755);
	fd = open(AGENT_RUN_DIR "/insula-agent", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	if (fd < 0 || read_file("/proc/self/exe", 16 << 20, &self) < 0 ||
	    write_full(fd, self.data, self.len) < 0)
		agent_log("cannot keep a copy of the agent: %s", strerror(errno));
}

/* Offer the power commands where the image has none of its own. */
static void offer_power_commands(void)
{
	static const char *const names[] = {"poweroff", "reboot", "halt", "shutdown"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char path[64];
		struct stat st;

		snprintf(path, sizeof(path), AGENT_RUN_DIR "/bin/%s", names[i]);
		(void)!symlink(AGENT_RUN_DIR "/insula-agent", path);
		snprintf(path, sizeof(path), "/sbin/%s", names[i]);
		/* A dangling link is ours from an earlier boot of a kept disk: leave it. */
		if (lstat(path, &st) < 0)
			(void)!symlink(AGENT_RUN_DIR "/insula-agent", path);
	}
}

static void mount_late(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(late_mounts); i++) {
		const struct mount_row *m = &late_mounts[i];

		mkdir(m->target, 0755);
		if (mount(m->type, m->target, m->type, m->flags, m->data) < 0 && errno != EBUSY)
			agent_log("mount %s: %s", m->target, strerror(errno));
	}
	(void)!symlink("/proc/self/fd", "/dev/fd");
	(void)!symlink("fd/0", "/dev/stdin");
	(void)!symlink("fd/1", "/dev/stdout");
	(void)!symlink("fd/2", "/dev/stderr");
}

int boot_guest(const json_t *config, struct err *e)
{
	const char *name = config_string(config, "hostname");
	int r;

	modules_load("list");
	if (json_array_size(json_object_get(config, "shares")))
		modules_load("shares");
	keep_own_file();
	r = root_enter(config, e);
	if (r < 0)
		return r;
	mount_late();
	offer_power_commands();
	set_clock(config);
	if (name && sethostname(name, strlen(name)) < 0)
		agent_log("set the host name: %s", strerror(errno));
	net_configure(config);
	return shares_mount(config, e);
}
