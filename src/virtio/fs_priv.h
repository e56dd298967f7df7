/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/fs_priv.h - the FUSE server inside: requests, inodes, handles
 *
 * A session is single-threaded and knows nothing of virtio: it takes a request scattered over
 * iovecs and fills in the answer's.  Messages are those of <linux/fuse.h>, protocol 7.31 and later;
 * all integers are the guest's own, which is little-endian like us.
 *
 * The guest names objects by node ids, which we hand out in answers and which it gives back with
 * FORGET, and open files by handles.  Both are looked up in tables; none is trusted.
 */
#pragma once

#include "virtio/tree.h"

#include <linux/fuse.h>
#include <sys/uio.h>

#define FS_MINOR_MIN  31
#define FS_INODES_MAX (1u << 20)
#define FS_HASH_BITS  15
#define FS_MAX_PAGES  252 /* with the headers they fill a chain: VQ_CHAIN_MAX */
#define FS_MAX_WRITE  (FS_MAX_PAGES * 4096)
#define FS_PATH_MAX   4096
/* The largest message that is not data: an extended attribute and its name. */
#define FS_REQUEST (sizeof(struct fuse_in_header) + 8 + TREE_NAME_MAX + 1 + TREE_XATTR_MAX)
#define FS_ANSWER  (sizeof(struct fuse_out_header) + TREE_XATTR_MAX)

/* One object that the guest knows, whatever the number of its names. */
struct fs_inode {
	struct list by_id, by_object;
	uint64_t id;
	uint64_t lookups; /* that the guest has not forgotten */
	unsigned int handles;
	struct tree_node *node;
	/* What the guest's cache holds is of this state, if nothing has changed since. */
	struct timespec seen_mtime, seen_ctime;
	off_t seen_size;
};

struct fs_handle {
	struct fs_inode *inode; /* NULL = free */
	int fd;
	uint32_t generation; /* in the number that the guest has: told from an older one */
	uint32_t next_free;
	bool writable;
};

struct fs_session {
	struct tree tree;
	bool ready; /* after INIT */
	uint64_t next_id;
	struct fs_inode *root;
	struct list by_id[1 << FS_HASH_BITS], by_object[1 << FS_HASH_BITS];
	unsigned int n_inodes;
	struct fs_handle *handles; /* tree.max_open of them */
	unsigned int n_handles;    /* ever used */
	uint32_t free_handle;      /* list, UINT32_MAX = none */
	/* The request at hand. */
	const struct iovec *out, *in;
	unsigned int n_out, n_in;
	size_t direct; /* bytes of the answer that went straight into the guest's buffers */
	uint8_t request[FS_REQUEST], answer[FS_ANSWER];
};

/* A request's arguments and its answer, behind the headers. */
struct fs_call {
	struct fuse_in_header head;
	struct fs_inode *inode; /* of head.nodeid */
	const uint8_t *arg, *end;
	uint8_t *buf;
	size_t len, cap;
	size_t data_len; /* WRITE: what follows the arguments, not copied */
};

/* --- messages (fs_session.c) --- */

/* The next @n bytes of the arguments, zeroes where there are none left. */
void fs_take(struct fs_call *c, void *dst, size_t n);
/* The next string, without copying; NULL if it does not end. */
const char *fs_take_string(struct fs_call *c);
/* The next name of a directory's entry; NULL if it is none. */
const char *fs_take_name(struct fs_call *c);
/* -ERANGE if the guest left no room. */
must_check int fs_put(struct fs_call *c, const void *p, size_t n);

/* @root_fd and @proc_fd are the session's on success. */
must_check int fs_new(int root_fd, int proc_fd, bool read_only, struct fs_session **ret);
void fs_free(struct fs_session *s);
/* Forgets everything the guest did. */
void fs_reset(struct fs_session *s);
/* One request; the answer's length, 0 for requests without one, or -1 when it makes no message or
 * there is no room to say so. */
int64_t fs_handle(struct fs_session *s, const struct iovec *out, unsigned int n_out,
		  const struct iovec *in, unsigned int n_in);

/* --- inodes and handles (fs_inode.c) --- */

struct fs_inode *fs_inode_find(struct fs_session *s, uint64_t id);
/* Takes @n over and counts one lookup of its object; -ENFILE when there are too many. */
must_check int fs_inode_of(struct fs_session *s, struct tree_node *n, struct fs_inode **ret);
void fs_inode_forget(struct fs_session *s, struct fs_inode *i, uint64_t lookups);
void fs_inodes_clear(struct fs_session *s);

/* NULL if the guest has no such handle. */
struct fs_handle *fs_handle_find(struct fs_session *s, uint64_t fh);
/* Takes @fd over, closes it on failure. */
must_check int fs_handle_new(struct fs_session *s, struct fs_inode *i, int fd, bool writable,
			     uint64_t *fh);
void fs_handle_free(struct fs_session *s, struct fs_handle *h);

/* --- requests: 0 or -errno --- */

/* fs_meta.c */
void fs_fill_attr(struct fs_session *s, const struct stat *st, struct fuse_attr *a);
must_check int fs_fill_entry(struct fs_session *s, struct fs_inode *i, struct fuse_entry_out *o);
/* Takes back the lookup on failure. */
must_check int fs_put_entry(struct fs_session *s, struct fs_call *c, struct fs_inode *i);
int fs_getattr(struct fs_session *s, struct fs_call *c);
int fs_setattr(struct fs_session *s, struct fs_call *c);
int fs_statfs(struct fs_session *s, struct fs_call *c);
int fs_readlink(struct fs_session *s, struct fs_call *c);
int fs_setxattr(struct fs_session *s, struct fs_call *c);
int fs_getxattr(struct fs_session *s, struct fs_call *c);
int fs_listxattr(struct fs_session *s, struct fs_call *c);
int fs_removexattr(struct fs_session *s, struct fs_call *c);
/* Clears set-id bits as a write by somebody unprivileged does. */
int fs_kill_suidgid(int fd);
/* fs_name.c */
int fs_lookup(struct fs_session *s, struct fs_call *c);
int fs_mknod(struct fs_session *s, struct fs_call *c);
int fs_mkdir(struct fs_session *s, struct fs_call *c);
int fs_symlink(struct fs_session *s, struct fs_call *c);
int fs_link(struct fs_session *s, struct fs_call *c);
int fs_unlink(struct fs_session *s, struct fs_call *c);
int fs_rmdir(struct fs_session *s, struct fs_call *c);
int fs_rename(struct fs_session *s, struct fs_call *c);
int fs_rename2(struct fs_session *s, struct fs_call *c);
int fs_create(struct fs_session *s, struct fs_call *c);
/* fs_file.c */
int fs_open(struct fs_session *s, struct fs_call *c);
int fs_read(struct fs_session *s, struct fs_call *c);
int fs_write(struct fs_session *s, struct fs_call *c);
int fs_release(struct fs_session *s, struct fs_call *c);
int fs_fsync(struct fs_session *s, struct fs_call *c);
int fs_lseek(struct fs_session *s, struct fs_call *c);
int fs_fallocate(struct fs_session *s, struct fs_call *c);
int fs_copy_file_range(struct fs_session *s, struct fs_call *c);
/* fs_dir.c */
int fs_opendir(struct fs_session *s, struct fs_call *c);
int fs_readdir(struct fs_session *s, struct fs_call *c);
int fs_readdirplus(struct fs_session *s, struct fs_call *c);
