/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/ninep_fid.c - what the client's numbers stand for
 *
 * A guest that caches names keeps a fid for every file it ever saw, more than a process may have
 * descriptors.  So the least recently used nodes lose theirs, and get it back by their name in
 * their parent - if the same inode is still there, else -ESTALE.
 */
#include "virtio/ninep_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define WALK_FLAGS (O_PATH | O_NOFOLLOW | O_CLOEXEC)

#define QID_DIR     0x80
#define QID_SYMLINK 0x02

/* --- nodes ------------------------------------------------------------------------------------ */

static void node_close(struct p9_session *s, struct p9_node *n)
{
	if (n->fd < 0 || !n->parent)
		return;
	close(n->fd);
	n->fd = -1;
	list_remove(&n->lru);
	s->n_node_fds--;
}

static void node_has_fd(struct p9_session *s, struct p9_node *n, int fd)
{
	struct p9_node *oldest;

	n->fd = fd;
	n->serial = s->serial;
	list_append(&s->lru, &n->lru);
	s->n_node_fds++;
	oldest = container_of(s->lru.next, struct p9_node, lru);
	if (s->n_node_fds > s->max_node_fds && oldest->serial != s->serial)
		node_close(s, oldest);
}

static void touch(struct p9_session *s, struct p9_node *n)
{
	n->serial = s->serial;
	if (!n->parent)
		return;
	list_remove(&n->lru);
	list_append(&s->lru, &n->lru);
}

struct p9_node *node_get(struct p9_node *n)
{
	n->refs++;
	return n;
}

void node_put(struct p9_session *s, struct p9_node *n)
{
	/* Not recursive: chains of parents are as deep as the guest likes. */
	while (n && --n->refs == 0) {
		struct p9_node *parent = n->parent;

		node_close(s, n);
		list_remove(&n->all);
		free(n->name);
		free(n);
		n = parent;
	}
}

static int depth_of(const struct p9_node *n)
{
	int depth = 0;

	for (; n->parent && depth <= P9_DEPTH_MAX; n = n->parent)
		depth++;
	return depth;
}

int node_walk(struct p9_session *s, struct p9_node *parent, const char *name, struct p9_node **ret)
{
	struct p9_node *n;
	struct stat st;
	int dir, fd;

	if (depth_of(parent) >= P9_DEPTH_MAX)
		return -ENAMETOOLONG;
	dir = node_fd(s, parent);
	if (dir < 0)
		return dir;
	fd = openat(dir, name, WALK_FLAGS);
	if (fd < 0 || fstat(fd, &st) < 0) {
		int r = -errno;

		close_p(&fd);
		return r;
	}
	n = xnew(struct p9_node);
	n->name = xstrdup(name);
	n->refs = 1;
	n->parent = node_get(parent);
	n->dev = st.st_dev;
	n->ino = st.st_ino;
	n->mode = st.st_mode & S_IFMT;
	list_append(&s->nodes, &n->all);
	list_init(&n->lru);
	node_has_fd(s, n, fd);
	*ret = n;
	return 0;
}

/* @n's parent has its descriptor. */
static int reopen_one(struct p9_session *s, struct p9_node *n)
{
	int fd = openat(n->parent->fd, n->name, WALK_FLAGS);
	struct stat st;

	if (fd < 0)
		return -ESTALE;
	if (fstat(fd, &st) < 0 || st.st_dev != n->dev || st.st_ino != n->ino) {
		close(fd);
		return -ESTALE;
	}
	node_has_fd(s, n, fd);
	return 0;
}

int node_fd(struct p9_session *s, struct p9_node *n)
{
	struct p9_node *chain[P9_DEPTH_MAX];
	unsigned int k = 0;

	for (struct p9_node *at = n; at->fd < 0; at = at->parent) {
		if (k == P9_DEPTH_MAX)
			return -ESTALE;
		chain[k++] = at;
	}
	/* The open one they start from must not be the victim of their opening. */
	touch(s, k ? chain[k - 1]->parent : n);
	while (k) {
		int r = reopen_one(s, chain[--k]);

		if (r < 0)
			return r;
	}
	return n->fd;
}

int node_proc_name(struct p9_session *s, struct p9_node *n, char name[16])
{
	int fd = node_fd(s, n);

	if (fd < 0)
		return fd;
	snprintf(name, 16, "%d", fd);
	return 0;
}

int node_open(struct p9_session *s, struct p9_node *n, int flags)
{
	char name[16];
	int r, fd;

	/* Devices would act on the host, FIFOs block it; the guest has its own. */
	if (n->mode != S_IFREG && n->mode != S_IFDIR)
		return n->mode == S_IFLNK ? -ELOOP : -EACCES;
	r = node_proc_name(s, n, name);
	if (r < 0)
		return r;
	fd = openat(s->proc_fd, name, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

int node_stat(struct p9_session *s, struct p9_node *n, struct stat *st)
{
	int fd = node_fd(s, n);

	if (fd < 0)
		return fd;
	return fstat(fd, st) < 0 ? -errno : 0;
}

static bool same(const struct p9_node *a, const struct p9_node *b)
{
	return a->dev == b->dev && a->ino == b->ino;
}

static bool is_above(const struct p9_node *n, const struct p9_node *below)
{
	for (int i = 0; below && i <= P9_DEPTH_MAX; i++, below = below->parent) {
		if (same(n, below))
			return true;
	}
	return below != NULL; /* too deep to tell */
}

static struct p9_node *find_named(struct p9_session *s, const struct p9_node *dir, const char *name,
				  const struct p9_node *new_dir)
{
	struct list *pos;

	list_for_each(pos, &s->nodes)
	{
		struct p9_node *n = container_of(pos, struct p9_node, all);

		/* Only the host can have made a loop of them meanwhile. */
		if (n->parent && same(n->parent, dir) && strcmp(n->name, name) == 0 &&
		    !is_above(n, new_dir))
			return n;
	}
	return NULL;
}

void nodes_renamed(struct p9_session *s, struct p9_node *dir, const char *name,
		   struct p9_node *new_dir, const char *new_name)
{
	struct p9_node *n;

	if (same(dir, new_dir) && strcmp(name, new_name) == 0)
		return;
	while ((n = find_named(s, dir, name, new_dir)) != NULL) {
		struct p9_node *old = n->parent;

		free(n->name);
		n->name = xstrdup(new_name);
		n->parent = node_get(new_dir);
		node_put(s, old);
	}
}

struct p9_qid qid_of(const struct p9_session *s, const struct stat *st)
{
	struct p9_qid q = {.path = st->st_ino};

	if (S_ISDIR(st->st_mode))
		q.type = QID_DIR;
	else if (S_ISLNK(st->st_mode))
		q.type = QID_SYMLINK;
	/* File systems mounted inside the share have inode numbers of their own. */
	q.path ^= (uint64_t)(st->st_dev ^ s->root->dev) << 40;
	/* Changes whenever the content may have: the guest's cache goes by it. */
	q.version =
	    (uint32_t)(st->st_mtim.tv_sec ^ (st->st_mtim.tv_nsec << 8) ^ (uint64_t)st->st_size);
	return q;
}

/* --- fids ------------------------------------------------------------------------------------- */

static struct list *bucket(struct p9_session *s, uint32_t id)
{
	return &s->fids[(id * UINT32_C(2654435761)) >> 20];
}

struct p9_fid *fid_find(struct p9_session *s, uint32_t id)
{
	struct list *pos, *head = bucket(s, id);

	list_for_each(pos, head)
	{
		struct p9_fid *f = container_of(pos, struct p9_fid, hash);

		if (f->id == id)
			return f;
	}
	return NULL;
}

struct p9_fid *get_fid(struct p9_session *s, struct msg_in *in)
{
	uint32_t id = get32(in);

	return in->bad ? NULL : fid_find(s, id);
}

int fid_new(struct p9_session *s, uint32_t id, struct p9_node *node, uint32_t uid,
	    struct p9_fid **ret)
{
	struct p9_fid *f;

	if (fid_find(s, id))
		return -EBADF;
	if (s->n_fids == P9_FIDS_MAX)
		return -ENFILE;
	f = xnew(struct p9_fid);
	f->id = id;
	f->node = node;
	f->fd = -1;
	f->uid = uid;
	list_append(bucket(s, id), &f->hash);
	s->n_fids++;
	*ret = f;
	return 0;
}

void fid_free(struct p9_session *s, struct p9_fid *f)
{
	if (f->fd >= 0) {
		close(f->fd);
		s->n_open--;
	}
	list_remove(&f->hash);
	s->n_fids--;
	node_put(s, f->node);
	free(f->xattr);
	free(f);
}

void fids_clear(struct p9_session *s)
{
	for (unsigned int i = 0; i < P9_FID_HASH; i++) {
		while (!list_empty(&s->fids[i]))
			fid_free(s, container_of(s->fids[i].next, struct p9_fid, hash));
	}
}

int fid_set_fd(struct p9_session *s, struct p9_fid *f, int fd, int flags)
{
	if (s->n_open >= s->max_open) {
		close(fd);
		return -ENFILE;
	}
	s->n_open++;
	f->fd = fd;
	f->writable = (flags & O_ACCMODE) != O_RDONLY;
	f->is_dir = f->node->mode == S_IFDIR;
	return 0;
}
