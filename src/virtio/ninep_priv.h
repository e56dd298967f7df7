/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/ninep_priv.h - the 9P server inside: messages, nodes, fids, sessions
 *
 * A session is single-threaded and knows nothing of virtio: it takes a request scattered over
 * iovecs and fills in the answer's.  Handlers return 0 or a negative errno, which becomes Rlerror.
 */
#pragma once

#include "base/list.h"
#include "virtio/tree.h"

#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#define P9_HEADER    7 /* size[4] type[1] tag[2] */
#define P9_MSIZE_MAX (1u << 20)
#define P9_MSIZE_MIN 4096u
#define P9_PATH_MAX  4096 /* symlink targets */
#define P9_WALK_MAX  16
#define P9_BUF       65536 /* the largest message that is not data */
#define P9_FIDS_MAX  131072
#define P9_FID_HASH  4096

/* --- messages (ninep_proto.c) --- */

/* Reading past the end sets `bad` and gives zeroes. */
struct msg_in {
	const uint8_t *p, *end;
	bool bad;
};

struct msg_out {
	uint8_t *buf;
	size_t len, cap;
	bool full; /* something did not fit */
};

struct p9_qid {
	uint8_t type;
	uint32_t version;
	uint64_t path;
};

uint8_t get8(struct msg_in *m);
uint16_t get16(struct msg_in *m);
uint32_t get32(struct msg_in *m);
uint64_t get64(struct msg_in *m);
/* A string of at most @max bytes without NUL, terminated in @dst[max + 1]; else bad. */
void get_str(struct msg_in *m, char *dst, size_t max);
void put8(struct msg_out *m, uint8_t v);
void put16(struct msg_out *m, uint16_t v);
void put32(struct msg_out *m, uint32_t v);
void put64(struct msg_out *m, uint64_t v);
void put_str(struct msg_out *m, const char *s, size_t len);
void put_qid(struct msg_out *m, const struct p9_qid *q);

/* --- fids (ninep_fid.c) --- */

struct p9_xattr {
	char name[TREE_NAME_MAX + 1];
	bool write; /* commit at clunk */
	int flags;
	size_t len, cap;
	uint8_t data[];
};

struct p9_fid {
	struct list hash;
	uint32_t id;
	struct tree_node *node;
	int fd; /* open file or directory, -1 = not open */
	bool writable, is_dir;
	uint32_t uid; /* who attached */
	struct p9_xattr *xattr;
};

struct p9_session {
	struct tree tree;
	uint32_t msize; /* 0 until Tversion */
	struct list fids[P9_FID_HASH];
	unsigned int n_fids, n_open;
	/* The request at hand. */
	const struct iovec *out, *in;
	unsigned int n_out, n_in;
	size_t in_len;
	size_t direct; /* bytes of the answer that went straight into the guest's buffers */
	uint8_t request[P9_BUF], answer[P9_BUF];
};

struct p9_qid qid_of(const struct p9_session *s, const struct stat *st);

struct p9_fid *fid_find(struct p9_session *s, uint32_t id);
/* The fid a message names next; NULL also when the message is cut short. */
struct p9_fid *get_fid(struct p9_session *s, struct msg_in *in);
/* Takes over @node's reference on success.  -EBADF when @id is in use, -ENFILE when too many. */
must_check int fid_new(struct p9_session *s, uint32_t id, struct tree_node *node, uint32_t uid,
		       struct p9_fid **ret);
void fid_free(struct p9_session *s, struct p9_fid *f);
void fids_clear(struct p9_session *s);
/* Gives @f an open descriptor, or closes it and says -ENFILE. */
must_check int fid_set_fd(struct p9_session *s, struct p9_fid *f, int fd, int flags);

/* --- the session (ninep_session.c) --- */

/* @root_fd and @proc_fd are the session's on success. */
must_check int p9_new(int root_fd, int proc_fd, bool read_only, struct p9_session **ret);
void p9_free(struct p9_session *s);
/* Forgets everything the client did. */
void p9_reset(struct p9_session *s);
/* One request; the answer's length, or -1 when it makes no message or there is no room to say so.
 */
int64_t p9_handle(struct p9_session *s, const struct iovec *out, unsigned int n_out,
		  const struct iovec *in, unsigned int n_in);

typedef int (*p9_handler)(struct p9_session *s, struct msg_in *in, struct msg_out *out);

/* ninep_file.c */
int p9_lopen(struct p9_session *s, struct msg_in *in, struct msg_out *out);
int p9_lcreate(struct p9_session *s, struct msg_in *in, struct msg_out *out);
int p9_read(struct p9_session *s, struct msg_in *in, struct msg_out *out);
int p9_write(struct p9_session *s, struct msg_in *in, struct msg_out *out);
int p9_fsync(struct p9_session *s, struct msg_in *in, struct msg_out *out);
int p9_lock(struct p9_session *s, struct msg_in *in, struct msg_out *out);
int p9_getlock(struct p9_session *s, struct msg_in *in, struct msg_out *out);
int p9_readdir(struct p9_session *s, struct msg_in *in, struct msg_out *out);
/* ninep_xattr.c */
int p9_xattrwalk(struct p9_session *s, struct msg_in *in, struct msg_out *out);
int p9_xattrcreate(struct p9_session *s, struct msg_in *in, struct msg_out *out);
int xattr_read(const struct p9_fid *f, uint64_t off, uint32_t count, struct msg_out *out);
int xattr_write(struct p9_fid *f, uint64_t off, const void *data, uint32_t count);
/* Sets what was written; at clunk. */
int xattr_commit(struct p9_session *s, struct p9_fid *f);
/* ninep_meta.c */
int p9_getattr(struct p9_session *s, struct msg_in *in, struct msg_out *out);
int p9_setattr(struct p9_session *s, struct msg_in *in, struct msg_out *out);
int p9_statfs(struct p9_session *s, struct msg_in *in, struct msg_out *out);
int p9_readlink(struct p9_session *s, struct msg_in *in, struct msg_out *out);
/* ninep_name.c */
int p9_symlink(struct p9_session *s, struct msg_in *in, struct msg_out *out);
int p9_mknod(struct p9_session *s, struct msg_in *in, struct msg_out *out);
int p9_mkdir(struct p9_session *s, struct msg_in *in, struct msg_out *out);
int p9_link(struct p9_session *s, struct msg_in *in, struct msg_out *out);
int p9_rename(struct p9_session *s, struct msg_in *in, struct msg_out *out);
int p9_renameat(struct p9_session *s, struct msg_in *in, struct msg_out *out);
int p9_unlinkat(struct p9_session *s, struct msg_in *in, struct msg_out *out);
int p9_remove(struct p9_session *s, struct msg_in *in, struct msg_out *out);
