/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/mount.c - one mount of the configuration, and the kernel's calls for mounts
 */
#include "container/lsm.h"
#include "container/path.h"
#include "container/rootfs_priv.h"
#include "container/userns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#define MAX_VALUE 255 /* longer ones fsconfig does not take */

int mount_attach(int mnt, int target)
{
	return move_mount(mnt, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) <
		       0
		   ? -errno
		   : 0;
}

int mount_change(int fd, bool rec, uint64_t set, uint64_t clear, uint64_t propagation)
{
	struct mount_attr a = {.attr_set = set, .attr_clr = clear, .propagation = propagation};

	if (!set && !clear && !propagation)
		return 0;
	return mount_setattr(fd, "", AT_EMPTY_PATH | (rec ? AT_RECURSIVE : 0), &a, sizeof(a)) < 0
		   ? -errno
		   : 0;
}

int mount_clone(int dir, const char *path, bool rec)
{
	int fd = open_tree(dir, path,
			   OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (rec ? AT_RECURSIVE : 0) |
			       (path[0] ? 0 : AT_EMPTY_PATH));

	return fd < 0 ? -errno : fd;
}

static int configure(int fs, const char *option)
{
	const char *value = strchr(option, '=');
	autofree char *key = NULL;

	if (!value)
		return fsconfig(fs, FSCONFIG_SET_FLAG, option, NULL, 0) < 0 ? -errno : 0;
	key = xasprintf("%.*s", (int)(value - option), option);
	return fsconfig(fs, FSCONFIG_SET_STRING, key, value + 1, 0) < 0 ? -errno : 0;
}

int mount_new(const char *type, const char *source, const char *const *data, size_t n_data,
	      uint64_t attr)
{
	autoclose int fs = fsopen(type, FSOPEN_CLOEXEC);
	int mnt;

	if (fs < 0)
		return -errno;
	if (source && fsconfig(fs, FSCONFIG_SET_STRING, "source", source, 0) < 0)
		return -errno;
	for (size_t i = 0; i < n_data; i++) {
		int r = configure(fs, data[i]);

		if (r < 0)
			return r;
	}
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	mnt = fsmount(fs, FSMOUNT_CLOEXEC, (unsigned int)attr);
	return mnt < 0 ? -errno : mnt;
}

/* The old call, at a directory that we hold: for options too long for the new one (the layers of
 * an overlay). */
static int mount_old(int target, const char *type, const char *source, const struct mount_opts *o)
{
	static const struct {
		uint64_t attr;
		unsigned long flag;
	} flags[] = {
	    {MOUNT_ATTR_RDONLY, MS_RDONLY},         {MOUNT_ATTR_NOSUID, MS_NOSUID},
	    {MOUNT_ATTR_NODEV, MS_NODEV},           {MOUNT_ATTR_NOEXEC, MS_NOEXEC},
	    {MOUNT_ATTR_NOATIME, MS_NOATIME},       {MOUNT_ATTR_STRICTATIME, MS_STRICTATIME},
	    {MOUNT_ATTR_NODIRATIME, MS_NODIRATIME},
	};
	autoclose int back = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	autostrbuf struct strbuf data = {0};
	unsigned long ms = 0;
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		ms |= o->set & flags[i].attr ? flags[i].flag : 0;
	for (size_t i = 0; i < o->n_data; i++)
		strbuf_printf(&data, "%s%s", i ? "," : "", o->data[i]);
	if (back < 0 || fchdir(target) < 0)
		return -errno;
	if (mount(source ? source : type, ".", type, ms, data.data) < 0)
		r = -errno;
	if (fchdir(back) < 0 && r == 0)
		r = -errno;
	return r;
}

/* What a bind mount may stand for where the kernel refuses a new instance in a user namespace. */
static const struct {
	const char *type, *path;
} fallbacks[] = {{"sysfs", "/sys"}, {"proc", "/proc"}, {"mqueue", "/dev/mqueue"}};

static int clone_instead(const struct rootfs *fs, const char *type, int error)
{
	for (size_t i = 0; i < ARRAY_SIZE(fallbacks); i++)
		if (fs->userns && (error == -EPERM || error == -EBUSY) &&
		    strcmp(type, fallbacks[i].type) == 0)
			return mount_clone(AT_FDCWD, fallbacks[i].path, true);
	return error;
}

static bool has_long_option(const struct mount_opts *o)
{
	for (size_t i = 0; i < o->n_data; i++)
		if (strlen(o->data[i]) > MAX_VALUE)
			return true;
	return false;
}

/* Of the kernel itself, with no medium whose writing could be forbidden. */
static bool is_virtual(const char *type)
{
	static const char *const types[] = {"proc",   "sysfs",  "tmpfs",   "devpts",
					    "mqueue", "cgroup", "cgroup2", "overlay"};

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (strcmp(type, types[i]) == 0)
			return true;
	return false;
}

/* What the mounts below it get as well, and propagation. */
static int apply_rest(const struct spec_mount *m, const struct mount_opts *o, int mnt,
		      struct err *e)
{
	int r = mount_change(mnt, true, o->rec_set, o->rec_clear, 0);

	if (r == 0 && o->propagation)
		r = mount_change(mnt, o->propagation_rec, 0, 0, o->propagation);
	return r < 0 ? err_set(e, r, "options of %s", m->destination) : 0;
}

static int mount_fs(struct rootfs *fs, const struct spec_mount *m, struct mount_opts *o, int target,
		    struct err *e)
{
	const char *type = m->type ? m->type : "none";
	autofree char *label = NULL;
	autoclose int mnt = -1;
	bool proc_or_sys = strcmp(type, "proc") == 0 || strcmp(type, "sysfs") == 0;
	int r;

	if (fs->spec->mount_label && fs->spec->mount_label[0] && !proc_or_sys &&
	    lsm_have_selinux()) {
		label = xasprintf("context=%s", fs->spec->mount_label);
		o->data[o->n_data++] = label;
	}
	if ((o->set & MOUNT_ATTR_RDONLY) && !is_virtual(type))
		o->data[o->n_data++] = "ro";
	if (has_long_option(o)) {
		r = mount_old(target, type, m->source, o);
		if (r == 0)
			r = mnt = path_open(fs->root, m->destination, O_PATH);
		if (r < 0)
			return err_set(e, r, "mount %s at %s", type, m->destination);
		return apply_rest(m, o, mnt, e);
	}
	mnt = mount_new(type, m->source, o->data, o->n_data, o->set | o->rec_set);
	if (mnt < 0) {
		mnt = clone_instead(fs, type, mnt);
		if (mnt >= 0 && (r = mount_change(mnt, true, o->set, 0, 0)) < 0)
			return err_set(e, r, "options of %s", m->destination);
	}
	if (mnt < 0)
		return err_set(e, mnt, "mount %s at %s", type, m->destination);
	if (o->tmpcopyup && strcmp(type, "tmpfs") == 0) {
		r = mount_change(mnt, false, 0, MOUNT_ATTR_RDONLY, 0);
		if (r == 0)
			r = copy_up(target, mnt);
		if (r == 0)
			r = mount_change(mnt, false, o->set & MOUNT_ATTR_RDONLY, 0, 0);
		if (r < 0)
			return err_set(e, r, "copy into %s", m->destination);
	}
	r = apply_rest(m, o, mnt, e);
	if (r < 0)
		return r;
	r = mount_attach(mnt, target);
	return r < 0 ? err_set(e, r, "mount %s at %s", type, m->destination) : 0;
}

static int mount_bind(struct rootfs *fs, const struct spec_mount *m, const struct mount_opts *o,
		      int source, struct err *e)
{
	autoclose int target = -1;
	struct stat st;
	int r;

	if (fstat(source, &st) < 0)
		return err_set(e, -errno, "bind %s", m->source);
	target = path_make(fs->root, m->destination, S_ISDIR(st.st_mode) ? PATH_DIR : PATH_FILE);
	if (target < 0)
		return err_set(e, target, "make %s", m->destination);
	r = mount_change(source, false, o->set, o->clear, 0);
	if (r < 0)
		return err_set(e, r, "options of %s", m->destination);
	r = apply_rest(m, o, source, e);
	if (r < 0)
		return r;
	r = mount_attach(source, target);
	return r < 0 ? err_set(e, r, "bind %s to %s", m->source, m->destination) : 0;
}

static int remount(struct rootfs *fs, const struct spec_mount *m, const struct mount_opts *o,
		   struct err *e)
{
	autoclose int target = path_open(fs->root, m->destination, O_PATH), fd = -1;
	int r = 0;

	if (target < 0)
		return err_set(e, target, "remount %s", m->destination);
	if (!o->bind && o->n_data) {
		fd = fspick(target, "", FSPICK_EMPTY_PATH | FSPICK_CLOEXEC);
		if (fd < 0)
			return err_set(e, -errno, "remount %s", m->destination);
		for (size_t i = 0; i < o->n_data && r == 0; i++)
			r = configure(fd, o->data[i]);
		if (r == 0 && fsconfig(fd, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) < 0)
			r = -errno;
	}
	if (r == 0)
		r = mount_change(target, false, o->set, o->clear, 0);
	if (r < 0)
		return err_set(e, r, "remount %s", m->destination);
	return apply_rest(m, o, target, e);
}

static bool is_cgroup(const struct spec_mount *m)
{
	return m->type && (strcmp(m->type, "cgroup") == 0 || strcmp(m->type, "cgroup2") == 0);
}

/* Where /proc and /sys come to lie must be what their names say: a link in the image could lead
 * the masks that go over them later to somewhere else (CVE-2019-19921). */
static int open_target(struct rootfs *fs, const struct spec_mount *m, struct err *e)
{
	bool strict = m->type && (strcmp(m->type, "proc") == 0 || strcmp(m->type, "sysfs") == 0);
	autofree char *name = NULL;
	autoclose int parent = -1;
	struct stat st;
	int fd;

	if (strict) {
		parent = path_make_parent(fs->root, m->destination, &name);
		if (parent < 0)
			return err_set(e, parent, "make %s", m->destination);
		if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode))
			return err_msg(e, -ENOTDIR, "%s: in the image this is no directory",
				       m->destination);
	}
	fd = path_make(fs->root, m->destination, PATH_DIR);
	return fd < 0 ? err_set(e, fd, "make %s", m->destination) : fd;
}

static int open_source(struct rootfs *fs, size_t i, const struct mount_opts *o, struct err *e)
{
	const struct spec_mount *m = &fs->spec->mounts[i];
	int fd;

	if (fs->sources && fs->sources[i] >= 0)
		return steal_fd(&fs->sources[i]);
	if (!m->source)
		return err_msg(e, -EINVAL, "mounts[%zu].source: is missing", i);
	fd = mount_clone(fs->bundle, m->source, o->rec);
	return fd < 0 ? err_set(e, fd, "bind %s", m->source) : fd;
}

int rootfs_mount(struct rootfs *fs, size_t i, struct err *e)
{
	const struct spec_mount *m = &fs->spec->mounts[i];
	autoclose int fd = -1;
	struct mount_opts o;
	int r;

	mount_opts_parse(&m->options, &o);
	if (m->type && strcmp(m->type, "bind") == 0)
		o.bind = true;
	if (o.remount) {
		r = remount(fs, m, &o, e);
	} else if (o.bind) {
		r = fd = open_source(fs, i, &o, e);
		if (fd >= 0)
			r = mount_bind(fs, m, &o, fd, e);
	} else {
		r = fd = open_target(fs, m, e);
		if (fd >= 0 && is_cgroup(m))
			r = mount_cgroups(fs, &o, fd, e);
		else if (fd >= 0)
			r = mount_fs(fs, m, &o, fd, e);
	}
	mount_opts_fini(&o);
	return r;
}

/* --- in the runtime --- */

static int map_ids(struct rootfs *fs, const struct spec_mount *m, const struct mount_opts *o,
		   int mnt, struct err *e)
{
	const struct spec_id_maps *uids = m->uids.n ? &m->uids : &fs->spec->uids;
	const struct spec_id_maps *gids = m->gids.n ? &m->gids : &fs->spec->gids;
	struct mount_attr a = {.attr_set = MOUNT_ATTR_IDMAP};
	autoclose int ns = -1;

	if (!uids->n)
		return err_msg(e, -EINVAL, "mount %s: no mapping of ids is given", m->destination);
	ns = userns_make(uids, gids, e);
	if (ns < 0)
		return ns;
	a.userns_fd = (uint64_t)ns;
	if (mount_setattr(mnt, "", AT_EMPTY_PATH | (o->idmap_rec ? AT_RECURSIVE : 0), &a,
			  sizeof(a)) < 0)
		return err_set(e, -errno, "map ids of %s", m->source);
	return 0;
}

static int prepare(struct rootfs *fs, size_t i, struct err *e)
{
	const struct spec_mount *m = &fs->spec->mounts[i];
	autoclose int fd = -1;
	struct mount_opts o;
	bool idmap, rec;
	int r = 0;

	mount_opts_parse(&m->options, &o);
	idmap = o.idmap || m->uids.n;
	rec = o.rec;
	if ((!o.bind && !(m->type && strcmp(m->type, "bind") == 0)) || o.remount || !m->source ||
	    (!idmap && !fs->userns)) {
		mount_opts_fini(&o);
		return 0;
	}
	fd = mount_clone(fs->bundle, m->source, rec);
	if (fd < 0 && (fd != -EPERM || idmap))
		r = err_set(e, fd, "bind %s", m->source);
	/* What is mounted in the container stays there. */
	if (fd >= 0 && r == 0)
		r = mount_change(fd, true, 0, 0, MS_SLAVE);
	if (fd >= 0 && r == 0 && idmap)
		r = map_ids(fs, m, &o, fd, e);
	if (r == 0 && fd >= 0)
		fs->sources[i] = steal_fd(&fd);
	mount_opts_fini(&o);
	return r;
}

int rootfs_open_sources(struct rootfs *fs, struct err *e)
{
	fs->sources = xnew_n(int, fs->spec->n_mounts + 1);
	for (size_t i = 0; i < fs->spec->n_mounts; i++)
		fs->sources[i] = -1;
	if (fs->userns) {
		fs->root = mount_clone(fs->bundle, fs->spec->root_path, true);
		if (fs->root < 0 && fs->root != -EPERM)
			return err_set(e, fs->root, "root file system %s", fs->spec->root_path);
	}
	for (size_t i = 0; i < fs->spec->n_mounts; i++) {
		int r = prepare(fs, i, e);

		if (r < 0)
			return r;
	}
	return 0;
}

void rootfs_close_sources(struct rootfs *fs)
{
	for (size_t i = 0; fs->sources && i < fs->spec->n_mounts; i++)
		close_p(&fs->sources[i]);
	free(fs->sources);
	fs->sources = NULL;
}
