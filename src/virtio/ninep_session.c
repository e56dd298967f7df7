/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/ninep_session.c - requests in, answers out; version, attach, walk, clunk
 *
 *	request   size[4] T-type[1] tag[2] ...     answer   size[4] R-type[1] tag[2] ...
 *	failure   size[4] Rlerror[1] tag[2] errno[4]
 *
 * Requests are handled one after another, so that by the time of a Tflush its victim was answered.
 */
#include "virtio/ninep_priv.h"
#include "virtio/virtio.h"

#include <errno.h>

#define RLERROR  7
#define TVERSION 100
#define NO_UID   UINT32_MAX

/* --- version, attach, walk, clunk --- */

static int p9_version(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	uint32_t msize = get32(in);
	char version[64];

	get_str(in, version, sizeof(version) - 1);
	if (in->bad || msize < P9_MSIZE_MIN)
		return -EINVAL;
	fids_clear(s);
	tree_settle(&s->tree);
	s->msize = MIN(msize, P9_MSIZE_MAX);
	put32(out, s->msize);
	if (strcmp(version, "9P2000.L") == 0) {
		put_str(out, "9P2000.L", 8);
		return 0;
	}
	put_str(out, "unknown", 7);
	s->msize = 0;
	return 0;
}

/* We ask for no authentication: whoever has the device has the share. */
static int p9_auth(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	return -EOPNOTSUPP;
}

static int p9_attach(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	uint32_t id = get32(in), uid;
	char name[P9_PATH_MAX + 1];
	struct p9_fid *f;
	struct p9_qid qid;
	struct stat st;
	int r;

	(void)get32(in);                /* afid */
	get_str(in, name, P9_PATH_MAX); /* uname */
	get_str(in, name, P9_PATH_MAX); /* aname: there is one tree */
	uid = get32(in);
	if (in->bad)
		return -EINVAL;
	r = node_stat(&s->tree, s->tree.root, &st);
	if (r == 0)
		r = fid_new(s, id, s->tree.root, uid == NO_UID ? 0 : uid, &f);
	if (r < 0)
		return r;
	(void)node_get(s->tree.root);
	qid = qid_of(s, &st);
	put_qid(out, &qid);
	return 0;
}

static int p9_flush(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	return 0;
}

/* One step from @node, whose reference is dropped; NULL on failure. */
static int walk_step(struct p9_session *s, struct tree_node **node, const char *name)
{
	struct tree_node *next;
	int r = 0;

	if (strcmp(name, "..") == 0)
		next = node_get((*node)->parent ? (*node)->parent : *node);
	else if (!name_ok(name))
		return -EINVAL;
	else
		r = node_walk(&s->tree, *node, name, &next);
	if (r < 0)
		return r;
	node_put(&s->tree, *node);
	*node = next;
	return 0;
}

static int walk_names(struct p9_session *s, struct msg_in *in, struct msg_out *out,
		      struct tree_node **node, unsigned int n, unsigned int *done)
{
	for (*done = 0; *done < n; (*done)++) {
		char name[TREE_NAME_MAX + 1];
		struct p9_qid qid;
		struct stat st;
		int r;

		get_str(in, name, TREE_NAME_MAX);
		if (in->bad)
			return -EINVAL;
		r = walk_step(s, node, name);
		if (r == 0)
			r = node_stat(&s->tree, *node, &st);
		if (r < 0)
			return r;
		qid = qid_of(s, &st);
		put_qid(out, &qid);
	}
	return 0;
}

static int p9_walk(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	uint32_t from = get32(in), to = get32(in);
	unsigned int n = get16(in), done = 0;
	struct p9_fid *f = fid_find(s, from), *t;
	struct tree_node *node;
	int r;

	if (in->bad || n > P9_WALK_MAX)
		return -EINVAL;
	if (!f || f->xattr || (to != from && fid_find(s, to)))
		return -EBADF;
	if (to == from && f->fd >= 0)
		return -EBUSY;
	node = node_get(f->node);
	put16(out, 0);
	r = walk_names(s, in, out, &node, n, &done);
	/* Some names found: their qids, and no new fid.  None at all: the reason. */
	store_le16(out->buf + P9_HEADER, (uint16_t)done);
	if (done < n) {
		node_put(&s->tree, node);
		return done ? 0 : r;
	}
	if (to == from) {
		node_put(&s->tree, f->node);
		f->node = node;
		return 0;
	}
	r = fid_new(s, to, node, f->uid, &t);
	if (r < 0)
		node_put(&s->tree, node);
	return r;
}

static int p9_clunk(struct p9_session *s, struct msg_in *in, struct msg_out *out)
{
	struct p9_fid *f = get_fid(s, in);
	int r = 0;

	if (!f)
		return -EBADF;
	if (f->xattr && f->xattr->write)
		r = xattr_commit(s, f);
	fid_free(s, f);
	return r;
}

/* --- dispatch --- */

/* By request type; the answer's is one higher. */
static const p9_handler handlers[256] = {
    [8] = p9_statfs,   [12] = p9_lopen,     [14] = p9_lcreate,     [16] = p9_symlink,
    [18] = p9_mknod,   [20] = p9_rename,    [22] = p9_readlink,    [24] = p9_getattr,
    [26] = p9_setattr, [30] = p9_xattrwalk, [32] = p9_xattrcreate, [40] = p9_readdir,
    [50] = p9_fsync,   [52] = p9_lock,      [54] = p9_getlock,     [70] = p9_link,
    [72] = p9_mkdir,   [74] = p9_renameat,  [76] = p9_unlinkat,    [TVERSION] = p9_version,
    [102] = p9_auth,   [104] = p9_attach,   [108] = p9_flush,      [110] = p9_walk,
    [116] = p9_read,   [118] = p9_write,    [120] = p9_clunk,      [122] = p9_remove,
};

static int dispatch(struct p9_session *s, uint8_t type, struct msg_in *in, struct msg_out *out)
{
	if (!handlers[type])
		return -EOPNOTSUPP;
	if (!s->msize && type != TVERSION)
		return -EPROTO;
	return handlers[type](s, in, out);
}

int64_t p9_handle(struct p9_session *s, const struct iovec *out, unsigned int n_out,
		  const struct iovec *in, unsigned int n_in)
{
	struct msg_out answer = {.buf = s->answer, .len = P9_HEADER, .cap = P9_BUF};
	size_t total = iov_len(out, n_out), copied, len;
	struct msg_in request;
	uint32_t size;
	int r;

	s->out = out;
	s->n_out = n_out;
	s->in = in;
	s->n_in = n_in;
	s->in_len = iov_len(in, n_in);
	s->direct = 0;
	tree_begin(&s->tree);
	/* Data of a write stays where it is; all else is copied once, then checked. */
	copied = iov_to_buf(out, n_out, 0, s->request, sizeof(s->request));
	if (copied < P9_HEADER || s->in_len < P9_HEADER + 4)
		return -1;
	size = load_le32(s->request);
	if (size < P9_HEADER || size > total)
		return -1;
	request.p = s->request + P9_HEADER;
	request.end = s->request + MIN(copied, (size_t)size);
	request.bad = false;
	answer.cap = MIN(answer.cap, s->in_len);
	r = dispatch(s, s->request[4], &request, &answer);
	if (r == 0 && answer.full)
		r = -EMSGSIZE;
	if (r < 0) {
		answer.len = P9_HEADER;
		put32(&answer, (uint32_t)-r);
		s->direct = 0;
	}
	len = answer.len + s->direct;
	store_le32(s->answer, (uint32_t)len);
	s->answer[4] = r < 0 ? RLERROR : (uint8_t)(s->request[4] + 1);
	memcpy(s->answer + 5, s->request + 5, 2);
	iov_from_buf(in, n_in, 0, s->answer, answer.len);
	return (int64_t)len;
}

/* --- life --- */

int p9_new(int root_fd, int proc_fd, bool read_only, struct p9_session **ret)
{
	struct p9_session *s = xnew(struct p9_session);
	int r = tree_init(&s->tree, root_fd, proc_fd, read_only);

	if (r < 0) {
		free(s);
		return r;
	}
	for (unsigned int i = 0; i < P9_FID_HASH; i++)
		list_init(&s->fids[i]);
	*ret = s;
	return 0;
}

void p9_reset(struct p9_session *s)
{
	fids_clear(s);
	s->msize = 0;
}

void p9_free(struct p9_session *s)
{
	if (!s)
		return;
	p9_reset(s);
	tree_fini(&s->tree);
	free(s);
}
