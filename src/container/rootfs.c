/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/rootfs.c - the container's root: attached, protected, entered
 */
#include "container/path.h"
#include "container/rootfs_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

/*
 * pivot_root wants the root's parent not shared.  Everything of the host becomes a slave, so that
 * what is mounted here never shows there; what the configuration says about propagation holds for
 * the root itself, at the end (rootfs_enter).
 */
static uint64_t host_propagation(const struct spec *s)
{
	uint64_t flags = MS_PRIVATE;
	bool rec;

	if (s->rootfs_propagation)
		mount_propagation_parse(s->rootfs_propagation, &flags, &rec);
	return flags == MS_PRIVATE || flags == MS_UNBINDABLE ? MS_PRIVATE : MS_SLAVE;
}

/* Without a mount namespace of its own the root stays detached, and what is mounted in it: nothing
 * shows in the namespace that is the host's, or another's.  Linux 6.15 mounts on detached mounts.
 */
static bool own_namespace(const struct rootfs *fs)
{
	return fs->spec->ns[SPEC_NS_MOUNT].wanted && !fs->spec->ns[SPEC_NS_MOUNT].path;
}

/* Where hooks expect it; anywhere else, where its path is not for root of a user namespace. */
static int open_place(struct rootfs *fs)
{
	int fd = openat(fs->bundle, fs->spec->root_path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 && (errno == EACCES || errno == EBADF))
		fd = open("/tmp", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int rootfs_attach(struct rootfs *fs, struct err *e)
{
	autoclose int host = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), place = -1;
	const char *path = fs->spec->root_path;
	int r;

	if (host < 0)
		return err_set(e, -errno, "open /");
	/* The runtime's descriptors are of its own mount namespace, from which nothing is bound. */
	close_p(&fs->bundle);
	fs->bundle = open(fs->bundle_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	fs->dev_null = open("/dev/null", O_PATH | O_CLOEXEC | O_NOFOLLOW);
	if (fs->dev_null < 0)
		fs->dev_null = -errno;
	r = own_namespace(fs) ? mount_change(host, true, 0, 0, MS_SLAVE) : 0;
	if (r < 0)
		return err_set(e, r, "separate the mounts from the host's");
	if (fs->root < 0)
		fs->root = mount_clone(fs->bundle, path, true);
	if (fs->root < 0)
		return err_set(e, fs->root, "root file system %s", path);
	r = mount_change(fs->root, true, 0, 0, host_propagation(fs->spec));
	if (r == 0 && !own_namespace(fs))
		return 0;
	if (r == 0)
		r = place = open_place(fs);
	if (r >= 0)
		r = mount_attach(fs->root, place);
	return r < 0 ? err_set(e, r, "root file system %s", path) : 0;
}

/* --- masks --- */

static int mask_file(struct rootfs *fs, int target)
{
	autoclose int mnt = -1;
	struct stat st;

	/* Nothing but the null device may lie over a masked file: what is bound would be readable,
	 * writable even (CVE-2025-31133). */
	if (fs->dev_null < 0)
		return fs->dev_null;
	if (fstat(fs->dev_null, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
		return -ENODEV;
	mnt = mount_clone(fs->dev_null, "", false);
	return mnt < 0 ? mnt : mount_attach(mnt, target);
}

/* One empty file system for all: attached to the first place, and cloned from there. */
static int mask_dir(int *empty, int target)
{
	static const char *const data[] = {"size=0k", "nr_inodes=2", "mode=755"};
	autoclose int mnt = -1;

	if (*empty < 0) {
		*empty = mount_new("tmpfs", "tmpfs", data, ARRAY_SIZE(data),
				   MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
				       MOUNT_ATTR_NOEXEC);
		return *empty < 0 ? *empty : mount_attach(*empty, target);
	}
	mnt = mount_clone(*empty, "", false);
	return mnt < 0 ? mnt : mount_attach(mnt, target);
}

static int mask(struct rootfs *fs, const char *path, int *empty)
{
	autoclose int target = path_open(fs->root, path, O_PATH);
	struct stat st;

	if (target == -ENOENT || target == -ENOTDIR || target == -EACCES)
		return 0;
	if (target < 0)
		return target;
	if (fstat(target, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? mask_dir(empty, target) : mask_file(fs, target);
}

static int make_readonly(struct rootfs *fs, const char *path)
{
	autoclose int target = path_open(fs->root, path, O_PATH), mnt = -1;
	int r;

	if (target == -ENOENT || target == -ENOTDIR || target == -EACCES)
		return 0;
	if (target < 0)
		return target;
	mnt = mount_clone(target, "", true);
	if (mnt < 0)
		return mnt;
	r = mount_change(mnt, true, MOUNT_ATTR_RDONLY, 0, 0);
	return r < 0 ? r : mount_attach(mnt, target);
}

int rootfs_protect(struct rootfs *fs, struct err *e)
{
	const struct spec *s = fs->spec;
	autoclose int empty = -1;
	int r;

	for (size_t i = 0; i < s->readonly_paths.n; i++) {
		r = make_readonly(fs, s->readonly_paths.v[i]);
		if (r < 0)
			return err_set(e, r, "make %s read-only", s->readonly_paths.v[i]);
	}
	for (size_t i = 0; i < s->masked_paths.n; i++) {
		r = mask(fs, s->masked_paths.v[i], &empty);
		if (r < 0)
			return err_set(e, r, "mask %s", s->masked_paths.v[i]);
	}
	if (s->root_readonly) {
		r = mount_change(fs->root, false, MOUNT_ATTR_RDONLY, 0, 0);
		if (r < 0)
			return err_set(e, r, "make the root read-only");
	}
	return 0;
}

/* Where the root of the host is an initramfs, which cannot be exchanged: the root moves over it. */
static int move_over(struct rootfs *fs)
{
	autoclose int top = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (top < 0)
		return -errno;
	r = mount_attach(fs->root, top);
	if (r < 0)
		return r;
	return fchdir(fs->root) < 0 || chroot(".") < 0 ? -errno : 0;
}

static int pivot(struct rootfs *fs)
{
	if (!own_namespace(fs))
		return fchdir(fs->root) < 0 || chroot(".") < 0 ? -errno : 0;
	if (fchdir(fs->root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
		return -errno;
	/* The host's root now lies over ours, at "."; it goes, and nothing of it may propagate. */
	return umount2(".", MNT_DETACH) < 0 ? -errno : 0;
}

int rootfs_enter(struct rootfs *fs, bool no_pivot, struct err *e)
{
	const char *word = fs->spec->rootfs_propagation;
	uint64_t flags;
	bool rec;
	int r = no_pivot && own_namespace(fs) ? move_over(fs) : pivot(fs);

	if (r < 0)
		return err_set(e, r, no_pivot ? "enter the root" : "pivot_root");
	if (chdir("/") < 0)
		return err_set(e, -errno, "enter the root");
	if (word && mount_propagation_parse(word, &flags, &rec)) {
		r = mount_change(fs->root, true, 0, 0, flags);
		if (r < 0)
			return err_set(e, r, "propagation of the root");
	}
	close(fs->root);
	fs->root = -1;
	close_p(&fs->dev_null);
	fs->dev_null = -1;
	return 0;
}
