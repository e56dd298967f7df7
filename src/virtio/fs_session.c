/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/fs_session.c - FUSE requests in, answers out; INIT, FORGET
 *
 *	request   fuse_in_header, arguments, names     answer   fuse_out_header, result
 *
 * FORGET, BATCH_FORGET and INTERRUPT have no answer.  Requests are handled one after another, so
 * there is never one to interrupt.
 */
#include "virtio/fs_priv.h"
#include "virtio/virtio.h"

#include <assert.h>
#include <errno.h>

#define IN_HEAD  sizeof(struct fuse_in_header)
#define OUT_HEAD sizeof(struct fuse_out_header)

/* What we want of what the guest offers. */
#define FLAGS                                                                                      \
	(FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_AUTO_INVAL_DATA |          \
	 FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS |     \
	 FUSE_HANDLE_KILLPRIV_V2 | FUSE_MAX_PAGES)
#define BACKGROUND 64 /* requests that nobody waits for, as readahead */

/* --- messages --- */

void fs_take(struct fs_call *c, void *dst, size_t n)
{
	size_t have = MIN(n, (size_t)(c->end - c->arg));

	memcpy(dst, c->arg, have);
	memset((uint8_t *)dst + have, 0, n - have);
	c->arg += have;
}

const char *fs_take_string(struct fs_call *c)
{
	const uint8_t *nul = memchr(c->arg, 0, (size_t)(c->end - c->arg));
	const char *s = (const char *)c->arg;

	if (!nul)
		return NULL;
	c->arg = nul + 1;
	return s;
}

const char *fs_take_name(struct fs_call *c)
{
	const char *name = fs_take_string(c);

	return name && strlen(name) <= TREE_NAME_MAX && name_ok(name) ? name : NULL;
}

int fs_put(struct fs_call *c, const void *p, size_t n)
{
	if (c->cap - c->len < n)
		return -ERANGE;
	memcpy(c->buf + c->len, p, n);
	c->len += n;
	return 0;
}

/* --- the session itself --- */

static int fs_init(struct fs_session *s, struct fs_call *c)
{
	struct fuse_init_out o = {.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION};
	struct fuse_init_in in;

	fs_take(c, &in, sizeof(in));
	if (in.major < FUSE_KERNEL_VERSION ||
	    (in.major == FUSE_KERNEL_VERSION && in.minor < FS_MINOR_MIN))
		return -EPROTO;
	fs_reset(s);
	/* A newer guest asks again with our version. */
	if (in.major > FUSE_KERNEL_VERSION)
		return fs_put(c, &o, sizeof(o));
	tree_settle(&s->tree);
	s->ready = true;
	o.minor = MIN(in.minor, o.minor);
	o.max_readahead = in.max_readahead;
	o.flags = in.flags & FLAGS;
	o.max_background = BACKGROUND;
	o.congestion_threshold = BACKGROUND * 3 / 4;
	o.max_write = FS_MAX_WRITE;
	o.time_gran = 1;
	o.max_pages = FS_MAX_PAGES;
	return fs_put(c, &o, sizeof(o));
}

static int fs_destroy(struct fs_session *s, struct fs_call *c)
{
	fs_reset(s);
	return 0;
}

static int fs_forget(struct fs_session *s, struct fs_call *c)
{
	struct fuse_forget_in in;
	struct fs_inode *i = fs_inode_find(s, c->head.nodeid);

	fs_take(c, &in, sizeof(in));
	if (i)
		fs_inode_forget(s, i, in.nlookup);
	return 0;
}

static int fs_batch_forget(struct fs_session *s, struct fs_call *c)
{
	struct fuse_batch_forget_in in;

	fs_take(c, &in, sizeof(in));
	for (; in.count && (size_t)(c->end - c->arg) >= sizeof(struct fuse_forget_one);
	     in.count--) {
		struct fuse_forget_one one;
		struct fs_inode *i;

		fs_take(c, &one, sizeof(one));
		i = fs_inode_find(s, one.nodeid);
		if (i)
			fs_inode_forget(s, i, one.nlookup);
	}
	return 0;
}

static int fs_interrupt(struct fs_session *s, struct fs_call *c)
{
	return 0;
}

/* --- dispatch --- */

enum {
	SILENT = 1, /* no answer */
	ALONE = 2,  /* names no object */
	EARLY = 4,  /* before INIT, too */
};

#define IN(type)  .in = sizeof(struct type)
#define OUT(type) .out = sizeof(struct type)

/* What is not here gets ENOSYS, after which Linux does without or does it itself: FLUSH and ACCESS
 * (nothing to do), locks (the guest's own), IOCTL, POLL, BMAP, SYNCFS, TMPFILE. */
static const struct op {
	int (*handler)(struct fs_session *s, struct fs_call *c);
	size_t in, out; /* the least there must be, behind the headers */
	unsigned int flags;
} ops[] = {
    [FUSE_LOOKUP] = {fs_lookup, OUT(fuse_entry_out)},
    [FUSE_FORGET] = {fs_forget, IN(fuse_forget_in), .flags = SILENT | ALONE},
    [FUSE_GETATTR] = {fs_getattr, IN(fuse_getattr_in), OUT(fuse_attr_out)},
    [FUSE_SETATTR] = {fs_setattr, IN(fuse_setattr_in), OUT(fuse_attr_out)},
    [FUSE_READLINK] = {fs_readlink},
    [FUSE_SYMLINK] = {fs_symlink, OUT(fuse_entry_out)},
    [FUSE_MKNOD] = {fs_mknod, IN(fuse_mknod_in), OUT(fuse_entry_out)},
    [FUSE_MKDIR] = {fs_mkdir, IN(fuse_mkdir_in), OUT(fuse_entry_out)},
    [FUSE_UNLINK] = {fs_unlink},
    [FUSE_RMDIR] = {fs_rmdir},
    [FUSE_RENAME] = {fs_rename, IN(fuse_rename_in)},
    [FUSE_LINK] = {fs_link, IN(fuse_link_in), OUT(fuse_entry_out)},
    [FUSE_OPEN] = {fs_open, IN(fuse_open_in), OUT(fuse_open_out)},
    [FUSE_READ] = {fs_read, IN(fuse_read_in)},
    [FUSE_WRITE] = {fs_write, IN(fuse_write_in), OUT(fuse_write_out)},
    [FUSE_STATFS] = {fs_statfs, OUT(fuse_statfs_out)},
    [FUSE_RELEASE] = {fs_release, IN(fuse_release_in)},
    [FUSE_FSYNC] = {fs_fsync, IN(fuse_fsync_in)},
    [FUSE_SETXATTR] = {fs_setxattr, .in = FUSE_COMPAT_SETXATTR_IN_SIZE},
    [FUSE_GETXATTR] = {fs_getxattr, IN(fuse_getxattr_in)},
    [FUSE_LISTXATTR] = {fs_listxattr, IN(fuse_getxattr_in)},
    [FUSE_REMOVEXATTR] = {fs_removexattr},
    [FUSE_INIT] = {fs_init, .in = 16, OUT(fuse_init_out), .flags = ALONE | EARLY},
    [FUSE_OPENDIR] = {fs_opendir, IN(fuse_open_in), OUT(fuse_open_out)},
    [FUSE_READDIR] = {fs_readdir, IN(fuse_read_in)},
    [FUSE_RELEASEDIR] = {fs_release, IN(fuse_release_in)},
    [FUSE_FSYNCDIR] = {fs_fsync, IN(fuse_fsync_in)},
    [FUSE_CREATE] = {fs_create, IN(fuse_create_in),
		     .out = sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out)},
    [FUSE_INTERRUPT] = {fs_interrupt, .flags = SILENT | ALONE},
    [FUSE_DESTROY] = {fs_destroy, .flags = ALONE},
    [FUSE_BATCH_FORGET] = {fs_batch_forget, IN(fuse_batch_forget_in), .flags = SILENT | ALONE},
    [FUSE_FALLOCATE] = {fs_fallocate, IN(fuse_fallocate_in)},
    [FUSE_READDIRPLUS] = {fs_readdirplus, IN(fuse_read_in)},
    [FUSE_RENAME2] = {fs_rename2, IN(fuse_rename2_in)},
    [FUSE_LSEEK] = {fs_lseek, IN(fuse_lseek_in), OUT(fuse_lseek_out)},
    [FUSE_COPY_FILE_RANGE] = {fs_copy_file_range, IN(fuse_copy_file_range_in), OUT(fuse_write_out)},
};

static int dispatch(struct fs_session *s, const struct op *op, struct fs_call *c)
{
	if (!op || !op->handler)
		return -ENOSYS;
	if (!s->ready && !(op->flags & EARLY))
		return -ENOTCONN;
	if ((size_t)(c->end - c->arg) < op->in || c->cap < op->out)
		return -EINVAL;
	if (!(op->flags & ALONE)) {
		c->inode = fs_inode_find(s, c->head.nodeid);
		if (!c->inode)
			return -ESTALE;
	}
	return op->handler(s, c);
}

/* The header and what is interpreted, copied once; data of a write stays where it is. */
static int64_t take_request(struct fs_session *s, struct fs_call *c)
{
	size_t total = iov_len(s->out, s->n_out), want = sizeof(s->request), copied;

	if (iov_to_buf(s->out, s->n_out, 0, &c->head, IN_HEAD) < IN_HEAD)
		return -1;
	if (c->head.len < IN_HEAD || c->head.len > total)
		return -1;
	if (c->head.opcode == FUSE_WRITE)
		want = IN_HEAD + sizeof(struct fuse_write_in);
	want = MIN(want, (size_t)c->head.len);
	copied = iov_to_buf(s->out, s->n_out, 0, s->request, want);
	c->arg = s->request + IN_HEAD;
	c->end = s->request + copied;
	c->data_len = c->head.len - copied;
	return 0;
}

int64_t fs_handle(struct fs_session *s, const struct iovec *out, unsigned int n_out,
		  const struct iovec *in, unsigned int n_in)
{
	struct fs_call c = {.buf = s->answer + OUT_HEAD};
	size_t in_len = iov_len(in, n_in);
	struct fuse_out_header head = {0};
	const struct op *op = NULL;
	int r;

	s->out = out;
	s->n_out = n_out;
	s->in = in;
	s->n_in = n_in;
	s->direct = 0;
	tree_begin(&s->tree);
	if (take_request(s, &c) < 0)
		return -1;
	if (c.head.opcode < ARRAY_SIZE(ops))
		op = &ops[c.head.opcode];
	if (op && (op->flags & SILENT)) {
		(void)dispatch(s, op, &c);
		return 0;
	}
	if (in_len < OUT_HEAD)
		return -1;
	c.cap = MIN(in_len - OUT_HEAD, sizeof(s->answer) - OUT_HEAD);
	r = dispatch(s, op, &c);
	if (r < 0) {
		c.len = 0;
		s->direct = 0;
	}
	head.len = (uint32_t)(OUT_HEAD + c.len + s->direct);
	head.error = r;
	head.unique = c.head.unique;
	memcpy(s->answer, &head, OUT_HEAD);
	iov_from_buf(in, n_in, 0, s->answer, OUT_HEAD + c.len);
	return head.len;
}

/* --- life --- */

int fs_new(int root_fd, int proc_fd, bool read_only, struct fs_session **ret)
{
	struct fs_session *s = xnew(struct fs_session);
	int r = tree_init(&s->tree, root_fd, proc_fd, read_only);

	if (r < 0) {
		free(s);
		return r;
	}
	for (size_t i = 0; i < ARRAY_SIZE(s->by_id); i++) {
		list_init(&s->by_id[i]);
		list_init(&s->by_object[i]);
	}
	s->handles = xcalloc(s->tree.max_open, sizeof(*s->handles));
	s->free_handle = UINT32_MAX;
	s->next_id = FUSE_ROOT_ID;
	r = fs_inode_of(s, node_get(s->tree.root), &s->root);
	assert(r == 0 && s->root->id == FUSE_ROOT_ID);
	*ret = s;
	return 0;
}

void fs_reset(struct fs_session *s)
{
	fs_inodes_clear(s);
	s->ready = false;
}

void fs_free(struct fs_session *s)
{
	if (!s)
		return;
	fs_reset(s);
	node_put(&s->tree, s->root->node);
	free(s->root);
	tree_fini(&s->tree);
	free(s->handles);
	free(s);
}
