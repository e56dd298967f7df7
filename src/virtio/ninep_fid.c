/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/ninep_fid.c - what the client's numbers stand for
 */
#include "virtio/ninep_priv.h"

#include <errno.h>
#include <fcntl.h>

#define QID_DIR     0x80
#define QID_SYMLINK 0x02

struct p9_qid qid_of(const struct p9_session *s, const struct stat *st)
{
	struct p9_qid q = {.path = tree_ino(&s->tree, st->st_dev, st->st_ino)};

	if (S_ISDIR(st->st_mode))
		q.type = QID_DIR;
	else if (S_ISLNK(st->st_mode))
		q.type = QID_SYMLINK;
	/* Changes whenever the content may have: the guest's cache goes by it. */
	q.version =
	    (uint32_t)(st->st_mtim.tv_sec ^ (st->st_mtim.tv_nsec << 8) ^ (uint64_t)st->st_size);
	return q;
}

/* --- fids --- */

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

int fid_new(struct p9_session *s, uint32_t id, struct tree_node *node, uint32_t uid,
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
	node_put(&s->tree, f->node);
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
	if (s->n_open >= s->tree.max_open) {
		close(fd);
		return -ENFILE;
	}
	s->n_open++;
	f->fd = fd;
	f->writable = (flags & O_ACCMODE) != O_RDONLY;
	f->is_dir = f->node->mode == S_IFDIR;
	return 0;
}
