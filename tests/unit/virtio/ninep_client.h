/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/virtio/ninep_client.h - a 9P2000.L client, one function a message
 */
#pragma once

#include "test.h"
#include "virtio/ninep_priv.h"
#include "virtio/share_dir.h"

#include <errno.h>
#include <fcntl.h>

enum {
	T_STATFS = 8,
	T_LOPEN = 12,
	T_LCREATE = 14,
	T_SYMLINK = 16,
	T_MKNOD = 18,
	T_RENAME = 20,
	T_READLINK = 22,
	T_GETATTR = 24,
	T_SETATTR = 26,
	T_XATTRWALK = 30,
	T_XATTRCREATE = 32,
	T_READDIR = 40,
	T_FSYNC = 50,
	T_LOCK = 52,
	T_GETLOCK = 54,
	T_LINK = 70,
	T_MKDIR = 72,
	T_RENAMEAT = 74,
	T_UNLINKAT = 76,
	T_VERSION = 100,
	T_ATTACH = 104,
	T_FLUSH = 108,
	T_WALK = 110,
	T_READ = 116,
	T_WRITE = 118,
	T_CLUNK = 120,
	T_REMOVE = 122,
};

extern struct p9_session *server; /* that the messages go to */
extern uint8_t request[1 << 17], reply[1 << 17];
extern struct msg_out ask;   /* the request being made */
extern struct msg_in answer; /* the answer's body */

struct attr {
	uint32_t mode, uid, gid;
	uint64_t nlink, size, mtime;
};

/* Of the directory "share". */
struct p9_session *open_session(bool read_only);
void begin(uint8_t type);
void str(const char *x);
/* 0 or -errno as the server said; checks the frame of the answer. */
int call(void);
void start(void);
/* Names separated by | since / may be part of one. */
int walk(uint32_t from, uint32_t to, const char *names);
int fid_op(uint8_t type, uint32_t fid);
int clunk(uint32_t fid);
int lopen(uint32_t fid, uint32_t flags);
int lcreate(uint32_t fid, const char *name, uint32_t flags, uint32_t mode);
int mkdir9(uint32_t fid, const char *name, uint32_t mode);
int symlink9(uint32_t fid, const char *name, const char *target);
int mknod9(uint32_t fid, const char *name, uint32_t mode);
int rename9(uint32_t from, const char *name, uint32_t to, const char *new_name);
int unlink9(uint32_t fid, const char *name, uint32_t flags);
int64_t read9(uint32_t fid, uint64_t off, uint32_t count, void *buf);
int64_t write9(uint32_t fid, uint64_t off, const void *data, uint32_t count);
int getattr9(uint32_t fid, struct attr *t);
int setattr9(uint32_t fid, uint32_t valid, uint32_t mode, uint64_t size, uint64_t mtime);
int xattr_set(uint32_t from, const char *name, const char *value, uint64_t size);
int64_t xattr_get(uint32_t from, const char *name, char *buf);
