/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/virtio/fs_client.c - a FUSE client, one function a request
 */
#include "virtio/fs_client.h"

struct fs_session *server;
uint8_t request[1 << 21], reply[1 << 21];
size_t request_len, answer_len;
uint8_t *answer;

struct fs_session *open_session(bool read_only)
{
	struct fs_session *p = NULL;
	int root, proc;

	host_open_share(&root, &proc);
	CHECK_EQ(fs_new(root, proc, read_only, &p), 0);
	return p;
}

void begin(uint32_t opcode, uint64_t nodeid)
{
	struct fuse_in_header h = {.opcode = opcode, .unique = 0x1234, .nodeid = nodeid};

	memcpy(request, &h, sizeof(h));
	request_len = sizeof(h);
}

void add(const void *p, size_t n)
{
	memcpy(request + request_len, p, n);
	request_len += n;
}

void str(const char *x)
{
	add(x, strlen(x) + 1);
}

int call_room(size_t room)
{
	struct fuse_out_header h;
	struct iovec out[3], in[3];
	int64_t n;

	store_le32(request, (uint32_t)request_len);
	/* Scattered on purpose, in the middle of the header. */
	out[0] = (struct iovec){request, 3};
	out[1] = (struct iovec){request + 3, 40};
	out[2] = (struct iovec){request + 43, request_len > 43 ? request_len - 43 : 0};
	in[0] = (struct iovec){reply, 5};
	in[1] = (struct iovec){reply + 5, 11};
	in[2] = (struct iovec){reply + 16, room};
	out[1].iov_len = MIN(out[1].iov_len, request_len - 3);
	n = fs_handle(server, out, 3, in, 3);
	CHECK(n >= 16);
	memcpy(&h, reply, sizeof(h));
	CHECK_EQ(h.len, n);
	CHECK_EQ(h.unique, 0x1234);
	answer = reply + 16;
	answer_len = (size_t)n - 16;
	CHECK(h.error <= 0 && (h.error == 0 || answer_len == 0));
	return h.error;
}

int call(void)
{
	return call_room(sizeof(reply) - 16);
}

void start(void)
{
	struct fuse_init_in in = {
	    .major = 7, .minor = 36, .max_readahead = 1 << 20, .flags = UINT32_MAX};
	struct fuse_init_out o;

	begin(FUSE_INIT, 0);
	add(&in, sizeof(in));
	CHECK_EQ(call(), 0);
	CHECK_EQ(answer_len, sizeof(o));
	memcpy(&o, answer, sizeof(o));
	CHECK_EQ(o.major, 7);
	CHECK_EQ(o.minor, 36);
	CHECK_EQ(o.max_pages, FS_MAX_PAGES);
	CHECK_EQ(o.max_write, FS_MAX_PAGES * 4096);
	CHECK(o.flags & FUSE_MAX_PAGES);
	CHECK(!(o.flags & (FUSE_POSIX_LOCKS | FUSE_WRITEBACK_CACHE | FUSE_EXPORT_SUPPORT)));
}

int entry(struct fuse_entry_out *e)
{
	int r = call();

	if (r == 0) {
		CHECK(answer_len >= sizeof(*e));
		memcpy(e, answer, sizeof(*e));
		CHECK(e->nodeid);
	}
	return r;
}

int lookup(uint64_t dir, const char *name, struct fuse_entry_out *e)
{
	begin(FUSE_LOOKUP, dir);
	str(name);
	return entry(e);
}

uint64_t node(uint64_t dir, const char *name)
{
	struct fuse_entry_out e;

	CHECK_EQ(lookup(dir, name, &e), 0);
	return e.nodeid;
}

void forget(uint64_t id, uint64_t n)
{
	struct fuse_forget_in in = {n};
	struct iovec out;

	begin(FUSE_FORGET, id);
	add(&in, sizeof(in));
	store_le32(request, (uint32_t)request_len);
	out = (struct iovec){request, request_len};
	CHECK_EQ(fs_handle(server, &out, 1, NULL, 0), 0);
}

int named(uint32_t op, uint64_t dir, const char *name)
{
	begin(op, dir);
	str(name);
	return call();
}

int open_op(uint32_t op, uint64_t id, uint32_t flags, uint64_t *fh)
{
	struct fuse_open_in in = {.flags = flags};
	struct fuse_open_out o;
	int r;

	begin(op, id);
	add(&in, sizeof(in));
	r = call();
	if (r == 0) {
		CHECK_EQ(answer_len, sizeof(o));
		memcpy(&o, answer, sizeof(o));
		*fh = o.fh;
		return (int)o.open_flags;
	}
	return r;
}

int create(uint64_t dir, const char *name, uint32_t flags, uint32_t mode, struct fuse_entry_out *e,
	   uint64_t *fh)
{
	struct fuse_create_in in = {.flags = flags | O_CREAT, .mode = S_IFREG | mode};
	struct fuse_open_out o;
	int r;

	begin(FUSE_CREATE, dir);
	add(&in, sizeof(in));
	str(name);
	r = entry(e);
	if (r == 0) {
		CHECK_EQ(answer_len, sizeof(*e) + sizeof(o));
		memcpy(&o, answer + sizeof(*e), sizeof(o));
		*fh = o.fh;
	}
	return r;
}

int release(uint64_t id, uint64_t fh)
{
	struct fuse_release_in in = {.fh = fh};

	begin(FUSE_RELEASE, id);
	add(&in, sizeof(in));
	return call();
}

int64_t read_fs(uint64_t id, uint64_t fh, uint64_t off, uint32_t size, uint32_t op)
{
	struct fuse_read_in in = {.fh = fh, .offset = off, .size = size};
	int r;

	begin(op, id);
	add(&in, sizeof(in));
	r = call();
	return r < 0 ? r : (int64_t)answer_len;
}

int64_t write_fs(uint64_t id, uint64_t fh, uint64_t off, const void *data, uint32_t size,
		 uint32_t flags)
{
	struct fuse_write_in in = {.fh = fh, .offset = off, .size = size, .write_flags = flags};
	struct fuse_write_out o;
	int r;

	begin(FUSE_WRITE, id);
	add(&in, sizeof(in));
	add(data, size);
	r = call();
	if (r < 0)
		return r;
	CHECK_EQ(answer_len, sizeof(o));
	memcpy(&o, answer, sizeof(o));
	return o.size;
}

int getattr(uint64_t id, struct fuse_attr *a)
{
	struct fuse_getattr_in in = {0};
	struct fuse_attr_out o;
	int r;

	begin(FUSE_GETATTR, id);
	add(&in, sizeof(in));
	r = call();
	if (r == 0) {
		CHECK_EQ(answer_len, sizeof(o));
		memcpy(&o, answer, sizeof(o));
		*a = o.attr;
	}
	return r;
}

int setattr(uint64_t id, const struct fuse_setattr_in *in)
{
	begin(FUSE_SETATTR, id);
	add(in, sizeof(*in));
	return call();
}

int mkdir_fs(uint64_t dir, const char *name, uint32_t mode, struct fuse_entry_out *e)
{
	struct fuse_mkdir_in in = {.mode = mode};

	begin(FUSE_MKDIR, dir);
	add(&in, sizeof(in));
	str(name);
	return entry(e);
}

int mknod_fs(uint64_t dir, const char *name, uint32_t mode)
{
	struct fuse_mknod_in in = {.mode = mode, .rdev = 0x103};
	struct fuse_entry_out e;

	begin(FUSE_MKNOD, dir);
	add(&in, sizeof(in));
	str(name);
	return entry(&e);
}

int symlink_fs(uint64_t dir, const char *name, const char *target)
{
	struct fuse_entry_out e;

	begin(FUSE_SYMLINK, dir);
	str(name);
	str(target);
	return entry(&e);
}

int link_fs(uint64_t id, uint64_t dir, const char *name, struct fuse_entry_out *e)
{
	struct fuse_link_in in = {.oldnodeid = id};

	begin(FUSE_LINK, dir);
	add(&in, sizeof(in));
	str(name);
	return entry(e);
}

int rename_fs(uint64_t dir, const char *name, uint64_t to, const char *new_name, uint32_t flags)
{
	struct fuse_rename2_in in = {.newdir = to, .flags = flags};

	begin(FUSE_RENAME2, dir);
	add(&in, sizeof(in));
	str(name);
	str(new_name);
	return call();
}

int set_xattr(uint64_t id, const char *name, const char *value, uint32_t size)
{
	uint32_t in[2] = {size, 0};

	begin(FUSE_SETXATTR, id);
	add(in, sizeof(in));
	str(name);
	add(value, strlen(value));
	return call();
}

int get_xattr(uint64_t id, uint32_t op, const char *name, uint32_t size)
{
	struct fuse_getxattr_in in = {.size = size};

	begin(op, id);
	add(&in, sizeof(in));
	if (name)
		str(name);
	return call();
}
