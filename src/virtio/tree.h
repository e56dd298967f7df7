/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/tree.h - a host directory in the hands of a guest: what 9P and virtio-fs have in common
 *
 * Confinement.  A node is an object below the share's root, held by an O_PATH descriptor that was
 * opened one component at a time, never through a symlink and never through "..".  What is done to
 * an object is done through its descriptor.  So no name, link or race can lead outside.  Every
 * change goes through a function here, which refuses it when the share is read-only.
 *
 * A guest may know more objects than a process may have descriptors.  The least recently used nodes
 * lose theirs, and get it back by their name in their parent - if the same inode is still there,
 * else -ESTALE.
 *
 * A tree belongs to one thread at a time.  All functions give 0 or more, or a negative errno.
 */
#pragma once

#include "base/err.h"
#include "base/list.h"

#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

#define TREE_NAME_MAX  255
#define TREE_DEPTH_MAX 1024
#define TREE_XATTR_MAX 65536
#define TREE_HASH_BITS 12
#define TREE_NOBODY    65534

/* Which object it is.  The time of birth (0 where a file system keeps none) tells an inode number
 * that was used again from the old one. */
struct tree_id {
	dev_t dev;
	ino_t ino;
	int64_t born;
	uint32_t born_nsec;
};

struct tree_node {
	unsigned int refs, pins;
	struct tree_node *parent; /* counted; NULL = the root */
	struct list place;        /* in tree.places, by parent and name */
	struct list lru;          /* in tree.lru while fd is open and not pinned */
	int fd;                   /* O_PATH; -1 = closed to save descriptors */
	uint64_t serial;          /* of the request that used fd last: not closed meanwhile */
	struct tree_id id;
	mode_t mode; /* type only */
	char *name;  /* in parent */
};

struct tree {
	struct tree_node *root;
	int proc_fd; /* /proc/self/fd: opens an O_PATH descriptor for real, in any sandbox */
	bool read_only;
	bool as_root;  /* ids go through unchanged */
	bool can_give; /* files to other users */
	uid_t uid;     /* our own */
	gid_t gid;
	uint64_t serial;
	struct list places[1 << TREE_HASH_BITS];
	struct list lru;             /* the oldest first */
	unsigned int n_fds, max_fds; /* of nodes in the lru */
	unsigned int max_open;       /* how many files a guest may hold open */
};

/* Opens everything that is ever opened by path; raises the soft limit of descriptors. */
must_check int tree_open(const char *path, int *root_fd, int *proc_fd, struct err *e);
/* Both descriptors are the tree's on success. */
must_check int tree_init(struct tree *t, int root_fd, int proc_fd, bool read_only);
/* All nodes but the root are gone by then. */
void tree_fini(struct tree *t);
/* A new guest, or a new start of it: by now the sandbox may have taken our privileges. */
void tree_settle(struct tree *t);
/* A new request: descriptors of nodes it uses stay valid until the next one. */
void tree_begin(struct tree *t);
/* One component: neither empty nor "." nor "..", no slash. */
bool name_ok(const char *name);

/* --- nodes (tree.c) --- */

/* New node for @name in @parent.  Never follows a symlink. */
must_check int node_walk(struct tree *t, struct tree_node *parent, const char *name,
			 struct tree_node **ret);
struct tree_node *node_get(struct tree_node *n);
void node_put(struct tree *t, struct tree_node *n);
/* The O_PATH descriptor, valid to the end of this request. */
must_check int node_fd(struct tree *t, struct tree_node *n);
/* Keeps the descriptor open, for an object that may lose its name.  Counted. */
must_check int node_pin(struct tree *t, struct tree_node *n);
void node_unpin(struct tree *t, struct tree_node *n);
/* A real descriptor of a regular file or directory. */
must_check int node_open(struct tree *t, struct tree_node *n, int flags);
/* "N" for *at() calls relative to proc_fd. */
must_check int node_proc_name(struct tree *t, struct tree_node *n, char name[16]);
must_check int node_stat(struct tree *t, struct tree_node *n, struct stat *st);
bool node_same(const struct tree_node *a, const struct tree_node *b);
/* @n was found at @name in @parent: that is where it is opened again.  No effect if this would make
 * a loop of parents, which only the host can have done. */
void node_moved(struct tree *t, struct tree_node *n, struct tree_node *parent, const char *name);
/* Inode number for the guest: file systems mounted inside the share have numbers of their own. */
uint64_t tree_ino(const struct tree *t, dev_t dev, ino_t ino);

/* --- changes (tree_change.c) --- */

/* What is to be made: type and permissions; a symlink's target; the owner, for a VMM of root's. */
struct tree_new {
	uint32_t mode, uid, gid;
	const char *target;
};

/* Directory, symlink, empty file, FIFO or socket; -EPERM for devices. */
must_check int tree_make(struct tree *t, struct tree_node *dir, const char *name,
			 const struct tree_new *what, struct tree_node **ret);
/* As open(O_CREAT) with those of @flags that tree_open_flags() keeps, O_TRUNC and O_EXCL: the
 * descriptor.  An existing object is opened only if node_open() likes its kind. */
must_check int tree_create(struct tree *t, struct tree_node *dir, const char *name, uint32_t flags,
			   const struct tree_new *what, struct tree_node **ret);
/* node_open() for flags from a guest, with O_TRUNC, and -EROFS or -EISDIR for writing. */
must_check int tree_open_node(struct tree *t, struct tree_node *n, uint32_t flags);
must_check int tree_link(struct tree *t, struct tree_node *n, struct tree_node *dir,
			 const char *name);
/* @flags: RENAME_NOREPLACE or none. */
must_check int tree_rename(struct tree *t, struct tree_node *dir, const char *name,
			   struct tree_node *new_dir, const char *new_name, unsigned int flags);
must_check int tree_unlink(struct tree *t, struct tree_node *dir, const char *name, bool is_dir);

/* (uid_t)-1 and (gid_t)-1 leave them alone. */
must_check int node_set_owner(struct tree *t, struct tree_node *n, uint32_t uid, uint32_t gid);
must_check int node_set_mode(struct tree *t, struct tree_node *n, uint32_t mode);
/* @fd: a writable descriptor of it, or -1. */
must_check int node_set_size(struct tree *t, struct tree_node *n, int fd, uint64_t size);
must_check int node_set_times(struct tree *t, struct tree_node *n, const struct timespec times[2]);

/* Owners as the guest sees them: docs/share.md. */
uint32_t tree_shown_uid(const struct tree *t, uint32_t uid);
uint32_t tree_shown_gid(const struct tree *t, uint32_t gid);

/* --- extended attributes (tree_xattr.c) --- */

/*
 * Only the `user.` ones: the others carry meaning for the host (capabilities, labels, ACLs), which
 * a guest is not to set, and which do not fit the guest's users when read.
 */
bool xattr_is_user(const char *name);
/* The value, or the names each with its NUL: how many bytes.  @cap of at least TREE_XATTR_MAX holds
 * any. */
must_check ssize_t node_get_xattr(struct tree *t, struct tree_node *n, const char *name, void *buf,
				  size_t cap);
must_check ssize_t node_list_xattr(struct tree *t, struct tree_node *n, char *buf, size_t cap);
must_check int node_set_xattr(struct tree *t, struct tree_node *n, const char *name,
			      const void *value, size_t len, int flags);
must_check int node_remove_xattr(struct tree *t, struct tree_node *n, const char *name);
