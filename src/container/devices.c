/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/devices.c - what lies in the container's /dev (runtime-spec, config-linux.md, "Default
 * Devices")
 */
#include "container/path.h"
#include "container/rootfs_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/sysmacros.h>

static const struct spec_device defaults[] = {
    {"/dev/null", S_IFCHR, 1, 3, 0666},    {"/dev/zero", S_IFCHR, 1, 5, 0666},
    {"/dev/full", S_IFCHR, 1, 7, 0666},    {"/dev/random", S_IFCHR, 1, 8, 0666},
    {"/dev/urandom", S_IFCHR, 1, 9, 0666}, {"/dev/tty", S_IFCHR, 5, 0, 0666},
};

/* The host's own node, where none may be made: of the same kind and number. */
static int bind_device(struct rootfs *fs, const struct spec_device *d)
{
	autoclose int source = open(d->path, O_PATH | O_CLOEXEC | O_NOFOLLOW), mnt = -1,
		      target = -1;
	struct stat st;

	if (source < 0 || fstat(source, &st) < 0)
		return -errno;
	if ((st.st_mode & S_IFMT) != d->type || st.st_rdev != makedev(d->major, d->minor))
		return -ENODEV;
	mnt = mount_clone(source, "", false);
	if (mnt < 0)
		return mnt;
	target = path_make(fs->root, d->path, PATH_FILE);
	return target < 0 ? target : mount_attach(mnt, target);
}

static int make_node(int dir, const char *name, const struct spec_device *d)
{
	struct stat st;

	if (mknodat(dir, name, d->type | d->mode, makedev(d->major, d->minor)) == 0) {
		if ((d->uid || d->gid) &&
		    fchownat(dir, name, d->uid, d->gid, AT_SYMLINK_NOFOLLOW) < 0)
			return -errno;
		return 0;
	}
	if (errno != EEXIST)
		return -errno;
	/* One that is there and is the same will do. */
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if ((st.st_mode & S_IFMT) != d->type ||
	    (d->type != S_IFIFO && st.st_rdev != makedev(d->major, d->minor)))
		return -EEXIST;
	return 0;
}

static int make_device(struct rootfs *fs, const struct spec_device *d)
{
	autofree char *name = NULL;
	autoclose int dir = -1;
	int r;

	if (fs->userns && d->type != S_IFIFO)
		return bind_device(fs, d);
	dir = path_make_parent(fs->root, d->path, &name);
	if (dir < 0)
		return dir;
	r = make_node(dir, name, d);
	return r == -EPERM && d->type != S_IFIFO ? bind_device(fs, d) : r;
}

static int make_link(struct rootfs *fs, const char *target, const char *path)
{
	autofree char *name = NULL;
	autoclose int dir = path_make_parent(fs->root, path, &name);

	if (dir < 0)
		return dir;
	return symlinkat(target, dir, name) < 0 && errno != EEXIST ? -errno : 0;
}

static int make_links(struct rootfs *fs)
{
	static const struct {
		const char *target, *path;
	} links[] = {
	    {"/proc/self/fd", "/dev/fd"},       {"/proc/self/fd/0", "/dev/stdin"},
	    {"/proc/self/fd/1", "/dev/stdout"}, {"/proc/self/fd/2", "/dev/stderr"},
	    {"/proc/kcore", "/dev/core"},
	};
	autofree char *name = NULL;
	autoclose int dir = -1, pts = path_open(fs->root, "/dev/pts/ptmx", O_PATH);
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		r = make_link(fs, links[i].target, links[i].path);
		if (r < 0)
			return r;
	}
	if (pts < 0)
		return 0;
	/* The image may bring a node, which would open terminals of the host. */
	dir = path_make_parent(fs->root, "/dev/ptmx", &name);
	if (dir < 0)
		return dir;
	if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
		return errno == EBUSY ? 0 : -errno;
	return symlinkat("pts/ptmx", dir, name) < 0 ? -errno : 0;
}

/* A /dev that the configuration binds is somebody else's: nothing is made there. */
static bool dev_is_bound(const struct spec *s)
{
	for (size_t i = 0; i < s->n_mounts; i++) {
		const struct spec_mount *m = &s->mounts[i];

		if (strcmp(m->destination, "/dev") != 0 && strcmp(m->destination, "/dev/") != 0)
			continue;
		if (m->type && strcmp(m->type, "bind") == 0)
			return true;
		for (size_t k = 0; k < m->options.n; k++)
			if (strcmp(m->options.v[k], "bind") == 0 ||
			    strcmp(m->options.v[k], "rbind") == 0)
				return true;
	}
	return false;
}

static int make_all(struct rootfs *fs, struct err *e)
{
	const struct spec *s = fs->spec;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(defaults); i++) {
		r = make_device(fs, &defaults[i]);
		if (r < 0)
			return err_set(e, r, "device %s", defaults[i].path);
	}
	for (size_t i = 0; i < s->n_devices; i++) {
		r = make_device(fs, &s->devices[i]);
		if (r < 0)
			return err_set(e, r, "device %s", s->devices[i].path);
	}
	r = make_links(fs);
	return r < 0 ? err_set(e, r, "links in /dev") : 0;
}

int rootfs_make_devices(struct rootfs *fs, struct err *e)
{
	mode_t old;
	int r;

	if (dev_is_bound(fs->spec))
		return 0;
	old = umask(0); /* modes as they are given */
	r = make_all(fs, e);
	umask(old);
	return r;
}
