/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/tree.c - nodes: objects of a host directory, reached without following anything
 */
#include "virtio/tree_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>

#define WALK_FLAGS (O_PATH | O_NOFOLLOW | O_CLOEXEC)
#define FDS_WANTED 65536

bool name_ok(const char *name)
{
	return *name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && !strchr(name, '/');
}

void tree_settle(struct tree *t)
{
	t->can_give = t->as_root && prctl(PR_CAPBSET_READ, CAP_CHOWN, 0, 0, 0) == 1;
}

void tree_begin(struct tree *t)
{
	t->serial++;
}

/* --- places --- */

static struct list *place_of(struct tree *t, const struct tree_node *dir, const char *name)
{
	uint64_t h = dir->id.ino;

	while (*name)
		h = (h ^ (uint8_t)*name++) * UINT64_C(0x100000001b3);
	return &t->places[(h * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - TREE_HASH_BITS)];
}

bool node_same(const struct tree_node *a, const struct tree_node *b)
{
	return a->id.dev == b->id.dev && a->id.ino == b->id.ino && a->id.born == b->id.born &&
	       a->id.born_nsec == b->id.born_nsec;
}

static bool is_above(const struct tree_node *n, const struct tree_node *below)
{
	for (int i = 0; below && i <= TREE_DEPTH_MAX; i++, below = below->parent) {
		if (node_same(n, below))
			return true;
	}
	return below != NULL; /* too deep to tell */
}

void node_moved(struct tree *t, struct tree_node *n, struct tree_node *parent, const char *name)
{
	struct tree_node *old = n->parent;

	if (!old || is_above(n, parent) || (old == parent && strcmp(n->name, name) == 0))
		return;
	list_remove(&n->place);
	free(n->name);
	n->name = xstrdup(name);
	n->parent = node_get(parent);
	list_append(place_of(t, parent, name), &n->place);
	node_put(t, old);
}

/* --- descriptors --- */

static void lru_add(struct tree *t, struct tree_node *n)
{
	list_append(&t->lru, &n->lru);
	t->n_fds++;
}

static void lru_remove(struct tree *t, struct tree_node *n)
{
	list_remove(&n->lru);
	t->n_fds--;
}

static void node_close(struct tree *t, struct tree_node *n)
{
	if (n->fd < 0 || !n->parent)
		return;
	close(n->fd);
	n->fd = -1;
	if (!n->pins)
		lru_remove(t, n);
}

static void node_has_fd(struct tree *t, struct tree_node *n, int fd)
{
	n->fd = fd;
	n->serial = t->serial;
	lru_add(t, n);
	while (t->n_fds > t->max_fds) {
		struct tree_node *oldest = container_of(t->lru.next, struct tree_node, lru);

		if (oldest->serial == t->serial)
			break;
		node_close(t, oldest);
	}
}

static void touch(struct tree *t, struct tree_node *n)
{
	n->serial = t->serial;
	if (!n->parent || n->pins)
		return;
	list_remove(&n->lru);
	list_append(&t->lru, &n->lru);
}

struct tree_node *node_get(struct tree_node *n)
{
	n->refs++;
	return n;
}

void node_put(struct tree *t, struct tree_node *n)
{
	/* Not recursive: chains of parents are as deep as the guest likes. */
	while (n && --n->refs == 0) {
		struct tree_node *parent = n->parent;

		node_close(t, n);
		list_remove(&n->place);
		free(n->name);
		free(n);
		n = parent;
	}
}

static int depth_of(const struct tree_node *n)
{
	int depth = 0;

	for (; n->parent && depth <= TREE_DEPTH_MAX; n = n->parent)
		depth++;
	return depth;
}

static int identify(int fd, struct tree_id *id, mode_t *type)
{
	struct statx x;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_INO | STATX_BTIME, &x) < 0)
		return -errno;
	*id = (struct tree_id){.dev = makedev(x.stx_dev_major, x.stx_dev_minor), .ino = x.stx_ino};
	if (x.stx_mask & STATX_BTIME) {
		id->born = x.stx_btime.tv_sec;
		id->born_nsec = x.stx_btime.tv_nsec;
	}
	*type = x.stx_mode & S_IFMT;
	return 0;
}

int node_walk(struct tree *t, struct tree_node *parent, const char *name, struct tree_node **ret)
{
	struct tree_node *n;
	struct tree_id id;
	mode_t type;
	int dir, fd, r;

	if (depth_of(parent) >= TREE_DEPTH_MAX)
		return -ENAMETOOLONG;
	dir = node_fd(t, parent);
	if (dir < 0)
		return dir;
	fd = openat(dir, name, WALK_FLAGS);
	if (fd < 0)
		return -errno;
	r = identify(fd, &id, &type);
	if (r < 0) {
		close(fd);
		return r;
	}
	n = xnew(struct tree_node);
	n->name = xstrdup(name);
	n->refs = 1;
	n->parent = node_get(parent);
	n->id = id;
	n->mode = type;
	list_append(place_of(t, parent, name), &n->place);
	list_init(&n->lru);
	node_has_fd(t, n, fd);
	*ret = n;
	return 0;
}

/* @n's parent has its descriptor. */
static int reopen_one(struct tree *t, struct tree_node *n)
{
	int fd = openat(n->parent->fd, n->name, WALK_FLAGS);
	struct tree_node now = {0};

	if (fd < 0)
		return -ESTALE;
	if (identify(fd, &now.id, &now.mode) < 0 || !node_same(n, &now) || n->mode != now.mode) {
		close(fd);
		return -ESTALE;
	}
	node_has_fd(t, n, fd);
	return 0;
}

int node_fd(struct tree *t, struct tree_node *n)
{
	struct tree_node *chain[TREE_DEPTH_MAX];
	unsigned int k = 0;

	for (struct tree_node *at = n; at->fd < 0; at = at->parent) {
		if (k == TREE_DEPTH_MAX)
			return -ESTALE;
		chain[k++] = at;
	}
	/* The open one they start from must not be the victim of their opening. */
	touch(t, k ? chain[k - 1]->parent : n);
	while (k) {
		int r = reopen_one(t, chain[--k]);

		if (r < 0)
			return r;
	}
	return n->fd;
}

int node_pin(struct tree *t, struct tree_node *n)
{
	int fd = node_fd(t, n);

	if (fd < 0)
		return fd;
	if (n->parent && n->pins++ == 0)
		lru_remove(t, n);
	return 0;
}

void node_unpin(struct tree *t, struct tree_node *n)
{
	if (n->parent && --n->pins == 0)
		lru_add(t, n);
}

int node_proc_name(struct tree *t, struct tree_node *n, char name[16])
{
	int fd = node_fd(t, n);

	if (fd < 0)
		return fd;
	snprintf(name, 16, "%d", fd);
	return 0;
}

int node_open(struct tree *t, struct tree_node *n, int flags)
{
	char name[16];
	int r, fd;

	/* Devices would act on the host, FIFOs block it; the guest has its own. */
	if (n->mode != S_IFREG && n->mode != S_IFDIR)
		return n->mode == S_IFLNK ? -ELOOP : -EACCES;
	r = node_proc_name(t, n, name);
	if (r < 0)
		return r;
	fd = openat(t->proc_fd, name, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

int node_stat(struct tree *t, struct tree_node *n, struct stat *st)
{
	int fd = node_fd(t, n);

	if (fd < 0)
		return fd;
	return fstat(fd, st) < 0 ? -errno : 0;
}

uint64_t tree_ino(const struct tree *t, dev_t dev, ino_t ino)
{
	return ino ^ (uint64_t)(dev ^ t->root->id.dev) << 40;
}

static struct tree_node *find_named(struct tree *t, const struct tree_node *dir, const char *name,
				    const struct tree_node *new_dir)
{
	struct list *pos, *head = place_of(t, dir, name);

	list_for_each(pos, head)
	{
		struct tree_node *n = container_of(pos, struct tree_node, place);

		/* Only the host can have made a loop of them meanwhile. */
		if (node_same(n->parent, dir) && strcmp(n->name, name) == 0 &&
		    !is_above(n, new_dir))
			return n;
	}
	return NULL;
}

void nodes_renamed(struct tree *t, struct tree_node *dir, const char *name,
		   struct tree_node *new_dir, const char *new_name)
{
	struct tree_node *n;

	if (node_same(dir, new_dir) && strcmp(name, new_name) == 0)
		return;
	while ((n = find_named(t, dir, name, new_dir)) != NULL)
		node_moved(t, n, new_dir, new_name);
}

/* --- life --- */

/* A guest keeps many files open; the usual soft limit of 1024 is for programs that use select(). */
static void raise_fd_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= FDS_WANTED)
		return;
	limit.rlim_cur = MIN(limit.rlim_max, (rlim_t)FDS_WANTED);
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* A mount of its own where the host lets us: from its root no ".." leads out. */
static int open_root(const char *path)
{
	autoclose int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int tree =
	    dir < 0 ? -1
		    : open_tree(dir, "",
				OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH);

	return tree >= 0 ? tree : steal_fd(&dir);
}

int tree_open(const char *path, int *root_fd, int *proc_fd, struct err *e)
{
	autoclose int root = open_root(path);
	autoclose int proc = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (root < 0)
		return err_set(e, -errno, "share '%s'", path);
	if (proc < 0)
		return err_set(e, -errno, "share '%s': /proc/self/fd", path);
	raise_fd_limit();
	*root_fd = steal_fd(&root);
	*proc_fd = steal_fd(&proc);
	return 0;
}

int tree_init(struct tree *t, int root_fd, int proc_fd, bool read_only)
{
	struct rlimit limit = {.rlim_cur = 1024};
	struct tree_node *root = xnew(struct tree_node);
	int r = identify(root_fd, &root->id, &root->mode);

	if (r < 0) {
		free(root);
		return r;
	}
	root->refs = 1;
	root->name = xstrdup("");
	root->fd = root_fd;
	list_init(&root->place);
	list_init(&root->lru);
	t->root = root;
	t->proc_fd = proc_fd;
	t->read_only = read_only;
	t->uid = geteuid();
	t->gid = getegid();
	t->as_root = t->uid == 0;
	list_init(&t->lru);
	for (unsigned int i = 0; i < ARRAY_SIZE(t->places); i++)
		list_init(&t->places[i]);
	/* Shares of the process's descriptors, so that a guest cannot use them up. */
	(void)getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = MIN(limit.rlim_cur, (rlim_t)FDS_WANTED);
	t->max_fds = (unsigned int)limit.rlim_cur / 4;
	t->max_open = (unsigned int)limit.rlim_cur / 4;
	return 0;
}

void tree_fini(struct tree *t)
{
	close(t->root->fd);
	node_put(t, t->root);
	close(t->proc_fd);
}
