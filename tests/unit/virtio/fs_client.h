/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/virtio/fs_client.h - a FUSE client, one function a request
 */
#pragma once

#include "test.h"
#include "virtio/fs_priv.h"
#include "virtio/share_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

extern struct fs_session *server; /* that the requests go to */
extern uint8_t request[1 << 21], reply[1 << 21];
extern size_t request_len;
extern size_t answer_len; /* behind its header */
extern uint8_t *answer;   /* that */

/* Of the directory "share". */
struct fs_session *open_session(bool read_only);
void begin(uint32_t opcode, uint64_t nodeid);
void add(const void *p, size_t n);
void str(const char *x);
/* 0 or -errno as the server said; checks the frame of the answer. */
int call_room(size_t room);
int call(void);
void start(void);
int entry(struct fuse_entry_out *e);
int lookup(uint64_t dir, const char *name, struct fuse_entry_out *e);
uint64_t node(uint64_t dir, const char *name);
void forget(uint64_t id, uint64_t n);
int named(uint32_t op, uint64_t dir, const char *name);
int open_op(uint32_t op, uint64_t id, uint32_t flags, uint64_t *fh);
int create(uint64_t dir, const char *name, uint32_t flags, uint32_t mode, struct fuse_entry_out *e,
	   uint64_t *fh);
int release(uint64_t id, uint64_t fh);
int64_t read_fs(uint64_t id, uint64_t fh, uint64_t off, uint32_t size, uint32_t op);
int64_t write_fs(uint64_t id, uint64_t fh, uint64_t off, const void *data, uint32_t size,
		 uint32_t flags);
int getattr(uint64_t id, struct fuse_attr *a);
int setattr(uint64_t id, const struct fuse_setattr_in *in);
int mkdir_fs(uint64_t dir, const char *name, uint32_t mode, struct fuse_entry_out *e);
int mknod_fs(uint64_t dir, const char *name, uint32_t mode);
int symlink_fs(uint64_t dir, const char *name, const char *target);
int link_fs(uint64_t id, uint64_t dir, const char *name, struct fuse_entry_out *e);
int rename_fs(uint64_t dir, const char *name, uint64_t to, const char *new_name, uint32_t flags);
int set_xattr(uint64_t id, const char *name, const char *value, uint32_t size);
int get_xattr(uint64_t id, uint32_t op, const char *name, uint32_t size);
