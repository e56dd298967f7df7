/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/mount_cgroup.c - the container's view of control groups, usually at /sys/fs/cgroup
 *
 * With a cgroup namespace of its own the trees themselves, whose root is then the container's
 * group; without, its directory of each tree bound to where the tree would be.
 */
#include "container/cgroup_priv.h"
#include "container/path.h"
#include "container/rootfs_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/stat.h>

static bool own_namespace(const struct rootfs *fs)
{
	return fs->spec->ns[SPEC_NS_CGROUP].wanted;
}

/* A detached mount of one tree as the container shall see it. */
static int open_tree_mount(struct rootfs *fs, const struct cgroup_tree *t, uint64_t attr)
{
	autofree char *path = NULL;
	autoclose int mnt = -1;
	int r;

	if (own_namespace(fs)) {
		const char *option = t->controllers;
		const char *data[] = {option};
		char *words, *word, *save;
		size_t n = 0;
		const char *list[CGROUP_MAX_TREES];

		if (!option[0])
			mnt = mount_new("cgroup2", "cgroup", NULL, 0, attr);
		else if (strchr(option, '=')) /* name=systemd, and no controller */
			mnt = mount_new("cgroup", "cgroup", (const char *[]){"none", data[0]}, 2,
					attr);
		else {
			words = xstrdup(option);
			for (word = strtok_r(words, ",", &save); word && n < ARRAY_SIZE(list);
			     word = strtok_r(NULL, ",", &save))
				list[n++] = word;
			mnt = mount_new("cgroup", "cgroup", list, n, attr);
			free(words);
		}
		if (mnt >= 0)
			return steal_fd(&mnt);
	}
	/* Also where a user namespace may not mount it.  By path: our descriptors of the trees are
	 * of the runtime's mount namespace. */
	path = xasprintf(CGROUP_MOUNT_POINT "/%s%s", t->name, fs->cgroup->path);
	mnt = mount_clone(AT_FDCWD, path, false);
	if (mnt < 0)
		return mnt;
	r = mount_change(mnt, false, attr, 0, 0);
	return r < 0 ? r : steal_fd(&mnt);
}

/* "cpu,cpuacct", and "cpu" and "cpuacct" that lead there. */
static int make_names(const struct cgroup_tree *t, int base)
{
	autofree char *words = xstrdup(t->name);
	char *word, *save;

	if (mkdirat(base, t->name, 0755) < 0)
		return -errno;
	if (!strchr(t->name, ','))
		return 0;
	for (word = strtok_r(words, ",", &save); word; word = strtok_r(NULL, ",", &save))
		if (symlinkat(t->name, base, word) < 0)
			return -errno;
	return 0;
}

static int place_tree(struct rootfs *fs, const struct cgroup_tree *t, uint64_t attr, int base)
{
	autoclose int mnt = open_tree_mount(fs, t, attr), target = -1;

	/* One that is gone or hidden is left out, as on the host. */
	if (mnt < 0)
		return mnt == -ENOENT || mnt == -EPERM || mnt == -EACCES ? 0 : mnt;
	target = openat(base, t->name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return target < 0 ? -errno : mount_attach(mnt, target);
}

static int mount_v1(struct rootfs *fs, uint64_t attr, int target)
{
	static const char *const data[] = {"mode=755", "size=1m"};
	autoclose int base = mount_new("tmpfs", "tmpfs", data, ARRAY_SIZE(data),
				       attr & ~(uint64_t)MOUNT_ATTR_RDONLY);
	int r = MIN(base, 0);

	for (size_t i = 0; r == 0 && i < fs->cgroup->n_trees; i++)
		if (!fs->cgroup->trees[i].absent)
			r = make_names(&fs->cgroup->trees[i], base);
	if (r == 0)
		r = mount_change(base, false, attr & MOUNT_ATTR_RDONLY, 0, 0);
	/* Attached before the trees: nothing may be mounted on what is detached. */
	if (r == 0)
		r = mount_attach(base, target);
	for (size_t i = 0; r == 0 && i < fs->cgroup->n_trees; i++)
		if (!fs->cgroup->trees[i].absent)
			r = place_tree(fs, &fs->cgroup->trees[i], attr, base);
	return r;
}

int mount_cgroups(struct rootfs *fs, const struct mount_opts *o, int target, struct err *e)
{
	autoclose int mnt = -1;
	int r;

	if (!fs->cgroup->n_trees || !fs->cgroup->path)
		return 0;
	if (fs->cgroup->v2) {
		r = mnt = open_tree_mount(fs, &fs->cgroup->trees[0], o->set);
		if (mnt >= 0)
			r = mount_attach(mnt, target);
	} else {
		r = mount_v1(fs, o->set, target);
	}
	return r < 0 ? err_set(e, r, "mount control groups") : 0;
}
