/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/fs_inode.c - what the guest's node ids and handles stand for
 *
 * An id is never used for a second object, so one that the guest kept too long finds nothing.
 */
#include "virtio/fs_priv.h"

#include <errno.h>

#define NO_HANDLE UINT32_MAX

/* --- inodes --- */

static struct list *bucket(struct list *heads, uint64_t key)
{
	return &heads[(key * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - FS_HASH_BITS)];
}

struct fs_inode *fs_inode_find(struct fs_session *s, uint64_t id)
{
	struct list *pos, *head = bucket(s->by_id, id);

	list_for_each(pos, head)
	{
		struct fs_inode *i = container_of(pos, struct fs_inode, by_id);

		if (i->id == id)
			return i;
	}
	return NULL;
}

static struct fs_inode *find_object(struct fs_session *s, const struct tree_node *n)
{
	struct list *pos, *head = bucket(s->by_object, n->id.ino);

	list_for_each(pos, head)
	{
		struct fs_inode *i = container_of(pos, struct fs_inode, by_object);

		if (node_same(i->node, n) && i->node->mode == n->mode)
			return i;
	}
	return NULL;
}

int fs_inode_of(struct fs_session *s, struct tree_node *n, struct fs_inode **ret)
{
	struct fs_inode *i = find_object(s, n);

	if (i) {
		/* Where it was seen last is where to look for it again. */
		node_moved(&s->tree, i->node, n->parent, n->name);
		node_put(&s->tree, n);
		i->lookups++;
		*ret = i;
		return 0;
	}
	if (s->n_inodes == FS_INODES_MAX) {
		node_put(&s->tree, n);
		return -ENFILE;
	}
	i = xnew(struct fs_inode);
	i->id = s->next_id++;
	i->node = n;
	i->lookups = 1;
	i->seen_size = -1;
	list_append(bucket(s->by_id, i->id), &i->by_id);
	list_append(bucket(s->by_object, n->id.ino), &i->by_object);
	s->n_inodes++;
	*ret = i;
	return 0;
}

static void inode_free(struct fs_session *s, struct fs_inode *i)
{
	list_remove(&i->by_id);
	list_remove(&i->by_object);
	s->n_inodes--;
	node_put(&s->tree, i->node);
	free(i);
}

static void drop_unused(struct fs_session *s, struct fs_inode *i)
{
	if (!i->lookups && !i->handles && i != s->root)
		inode_free(s, i);
}

void fs_inode_forget(struct fs_session *s, struct fs_inode *i, uint64_t lookups)
{
	i->lookups -= MIN(i->lookups, lookups);
	drop_unused(s, i);
}

void fs_inodes_clear(struct fs_session *s)
{
	for (unsigned int k = 0; k < s->n_handles; k++) {
		if (s->handles[k].inode)
			fs_handle_free(s, &s->handles[k]);
	}
	for (size_t k = 0; k < ARRAY_SIZE(s->by_id); k++) {
		struct list *pos, *tmp;

		list_for_each_safe(pos, tmp, &s->by_id[k])
		{
			struct fs_inode *i = container_of(pos, struct fs_inode, by_id);

			if (i != s->root)
				inode_free(s, i);
		}
	}
}

/* --- handles --- */

struct fs_handle *fs_handle_find(struct fs_session *s, uint64_t fh)
{
	uint32_t index = (uint32_t)fh;
	struct fs_handle *h;

	if (index >= s->n_handles)
		return NULL;
	h = &s->handles[index];
	return h->inode && h->generation == fh >> 32 ? h : NULL;
}

int fs_handle_new(struct fs_session *s, struct fs_inode *i, int fd, bool writable, uint64_t *fh)
{
	uint32_t index = s->free_handle;
	struct fs_handle *h;
	/* What is open stays there, even without a name. */
	int r = index == NO_HANDLE && s->n_handles == s->tree.max_open
		    ? -ENFILE
		    : node_pin(&s->tree, i->node);

	if (r < 0) {
		close(fd);
		return r;
	}
	if (index == NO_HANDLE)
		index = s->n_handles++;
	else
		s->free_handle = s->handles[index].next_free;
	h = &s->handles[index];
	h->inode = i;
	h->fd = fd;
	h->writable = writable;
	i->handles++;
	*fh = (uint64_t)h->generation << 32 | index;
	return 0;
}

void fs_handle_free(struct fs_session *s, struct fs_handle *h)
{
	struct fs_inode *i = h->inode;

	close(h->fd);
	h->inode = NULL;
	h->generation++;
	h->next_free = s->free_handle;
	s->free_handle = (uint32_t)(h - s->handles);
	i->handles--;
	node_unpin(&s->tree, i->node);
	drop_unused(s, i);
}
