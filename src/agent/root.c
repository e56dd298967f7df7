/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent/root.c - kernel modules, the root file system, shared directories
 */
#include "agent/agent_priv.h"
#include "base/clock.h"
#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>

#define NEW_ROOT       "/newroot"
#define ROOT_WAIT      (10 * NSEC_PER_SEC)
#define READ_AHEAD_KIB "1008"
#define ROOT_SERIAL    "root" /* of the virtio disk that insula gives as the root */

static int module_load(const char *path)
{
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

void modules_load(const char *group)
{
	autofree char *path = xasprintf(AGENT_MODULES_PREFIX "%s", group);
	autostrbuf struct strbuf list = {0};
	char *save = NULL;

	if (read_file(path, 1 << 20, &list) < 0 || !list.len)
		return;
	for (char *m = strtok_r(list.data, "\n", &save); m; m = strtok_r(NULL, "\n", &save)) {
		int r = module_load(m);

		/* A driver without its device may refuse: that is its right. */
		if (r < 0 && r != -ENODEV)
			agent_log("module %s: %s", m, strerror(-r));
	}
}

void make_dirs(const char *path)
{
	autofree char *copy = xstrdup(path);

	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		mkdir(copy, 0755);
		*p = '/';
	}
	mkdir(copy, 0755);
}

/* The disk whose virtio serial says it is the root; else the first virtio disk. */
static bool find_root_disk(char *ret, size_t size)
{
	DIR *d = opendir("/sys/block");
	struct dirent *de;
	bool found = false;

	ret[0] = '\0';
	while (d && !found && (de = readdir(d))) {
		autostrbuf struct strbuf serial = {0};
		char path[300];

		if (strncmp(de->d_name, "vd", 2) != 0)
			continue;
		snprintf(path, sizeof(path), "/sys/block/%s/serial", de->d_name);
		found = read_file(path, 64, &serial) == 0 && serial.len &&
			strcmp(serial.data, ROOT_SERIAL) == 0;
		if (found || !ret[0] || strcmp(de->d_name, ret + strlen("/dev/")) < 0)
			snprintf(ret, size, "/dev/%s", de->d_name);
	}
	if (d)
		closedir(d);
	return ret[0];
}

/* A root file system is one that has a shell or an init to run. */
static bool looks_like_root(void)
{
	static const char *const signs[] = {"bin/sh",    "usr/bin/sh",    "bin/bash",
					    "sbin/init", "usr/sbin/init", "etc/os-release",
					    "nix/store"};

	for (size_t i = 0; i < ARRAY_SIZE(signs); i++) {
		char path[128];
		struct stat st;

		snprintf(path, sizeof(path), "%s/%s", NEW_ROOT, signs[i]);
		if (lstat(path, &st) == 0)
			return true;
	}
	return false;
}

static bool mount_type(const char *dev, const char *type, unsigned long flags)
{
	if (mount(dev, NEW_ROOT, type, flags, NULL) < 0)
		return false;
	if (looks_like_root())
		return true;
	umount(NEW_ROOT);
	return false;
}

/* Tries every disk file system that the kernel knows; first the one that our images have. */
static bool mount_any_type(const char *dev, unsigned long flags)
{
	autostrbuf struct strbuf types = {0};
	char *save = NULL;

	if (mount_type(dev, "ext4", flags))
		return true;
	if (read_file("/proc/filesystems", 65536, &types) < 0 || !types.len)
		return false;
	for (char *t = strtok_r(types.data, "\n", &save); t; t = strtok_r(NULL, "\n", &save)) {
		if (*t++ != '\t')
			continue; /* "nodev" */
		if (strcmp(t, "ext4") != 0 && mount_type(dev, t, flags))
			return true;
	}
	return false;
}

/* The disk as a whole, else the first of its partitions that looks like a root file system. */
static bool mount_disk(const char *disk, unsigned long flags)
{
	char dir[300];
	struct dirent *de;
	bool done = false;
	DIR *d;

	if (mount_any_type(disk, flags))
		return true;
	snprintf(dir, sizeof(dir), "/sys/block/%s", strrchr(disk, '/') + 1);
	d = opendir(dir);
	while (d && !done && (de = readdir(d))) {
		char part[300];

		if (strncmp(de->d_name, strrchr(disk, '/') + 1, strlen(strrchr(disk, '/') + 1)))
			continue;
		snprintf(part, sizeof(part), "/dev/%s", de->d_name);
		done = mount_any_type(part, flags);
	}
	if (d)
		closedir(d);
	return done;
}

static void remove_tree(int dir_fd, const char *name, dev_t dev)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct dirent *de;
	struct stat st;
	DIR *d;

	if (fd < 0)
		return;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return;
	}
	while (fstat(fd, &st) == 0 && st.st_dev == dev && (de = readdir(d))) {
		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		if (unlinkat(fd, de->d_name, 0) < 0)
			remove_tree(fd, de->d_name, dev);
	}
	closedir(d);
	unlinkat(dir_fd, name, AT_REMOVEDIR);
}

/* Makes NEW_ROOT the root directory, taking the early mounts along, and frees the initramfs. */
static int switch_root(struct err *e)
{
	autoclose int old = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (old < 0 || fstat(old, &st) < 0)
		return err_set(e, -errno, "open /");
	for (const char *const *t = early_targets; *t; t++) {
		char target[64];

		snprintf(target, sizeof(target), NEW_ROOT "%s", *t);
		mkdir(target, 0755);
		if (mount(*t, target, NULL, MS_MOVE, NULL) < 0)
			return err_set(e, -errno, "move %s into the root file system", *t);
	}
	if (chdir(NEW_ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
	    chdir("/") < 0)
		return err_set(e, -errno, "switch to the root file system");
	remove_tree(old, "insula", st.st_dev);
	unlinkat(old, "init", 0);
	return 0;
}

/* Less usual file systems' modules are slow to load: only when nothing else helps. */
static bool mount_root(const char *disk, unsigned long flags)
{
	if (mount_disk(disk, flags))
		return true;
	modules_load("filesystems");
	return mount_disk(disk, flags) || mount_disk(disk, flags | MS_RDONLY);
}

int root_enter(const json_t *config, struct err *e)
{
	bool read_only = json_is_true(json_object_get(config, "readonly"));
	uint64_t give_up = clock_now() + ROOT_WAIT;
	char disk[300];

	mkdir(NEW_ROOT, 0755);
	while (!find_root_disk(disk, sizeof(disk))) {
		if (clock_now() > give_up)
			return err_msg(e, -ENODEV, "no virtio disk to take the root from");
		nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	}
	if (!mount_root(disk, MS_NOATIME | (read_only ? MS_RDONLY : 0)))
		return err_msg(e, -EINVAL,
			       "%s holds no root file system that this kernel can mount", disk);
	return switch_root(e);
}

/* As much at once as a request holds: a large file then takes an eighth of the requests. */
static void read_ahead(const char *path)
{
	char file[64];
	struct stat st;
	int fd;

	if (stat(path, &st) < 0)
		return;
	snprintf(file, sizeof(file), "/sys/class/bdi/%u:%u/read_ahead_kb", major(st.st_dev),
		 minor(st.st_dev));
	fd = open(file, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	(void)!write(fd, READ_AHEAD_KIB, strlen(READ_AHEAD_KIB));
	close(fd);
}

static int mount_share(const char *tag, const char *path, bool read_only, struct err *e)
{
	unsigned long flags = MS_NODEV | (read_only ? MS_RDONLY : 0);

	make_dirs(path);
	if (mount(tag, path, "virtiofs", flags, NULL) == 0) {
		read_ahead(path);
		return 0;
	}
	if (mount(tag, path, "9p", flags, "trans=virtio,version=9p2000.L,msize=262144") == 0)
		return 0;
	return err_set(e, -errno, "mount the shared directory at %s", path);
}

int shares_mount(const json_t *config, struct err *e)
{
	json_t *share;
	size_t i;

	json_array_foreach(json_object_get(config, "shares"), i, share)
	{
		const char *tag = config_string(share, "tag");
		const char *path = config_string(share, "path");
		int r;

		if (!tag || !path || path[0] != '/')
			return err_msg(e, -EINVAL, "configuration: shares[%zu] is not usable", i);
		r = mount_share(tag, path, json_is_true(json_object_get(share, "readonly")), e);
		if (r < 0)
			return r;
	}
	return 0;
}
