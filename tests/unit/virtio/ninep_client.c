/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/virtio/ninep_client.c - a 9P2000.L client, one function a message
 */
#include "virtio/ninep_client.h"

struct p9_session *server;
uint8_t request[1 << 17], reply[1 << 17];
struct msg_out ask;
struct msg_in answer;

struct p9_session *open_session(bool read_only)
{
	struct p9_session *p = NULL;
	int root, proc;

	host_open_share(&root, &proc);
	CHECK_EQ(p9_new(root, proc, read_only, &p), 0);
	return p;
}

void begin(uint8_t type)
{
	ask = (struct msg_out){.buf = request, .len = 4, .cap = sizeof(request)};
	put8(&ask, type);
	put16(&ask, 0x1234);
}

void str(const char *x)
{
	put_str(&ask, x, strlen(x));
}

int call(void)
{
	struct iovec out[3], in[3];
	int64_t n;

	CHECK(!ask.full);
	store_le32(request, (uint32_t)ask.len);
	/* Scattered on purpose, in the middle of the header. */
	out[0] = (struct iovec){request, 3};
	out[1] = (struct iovec){request + 3, ask.len - 3};
	in[0] = (struct iovec){reply, 5};
	in[1] = (struct iovec){reply + 5, 9};
	in[2] = (struct iovec){reply + 14, sizeof(reply) - 14};
	n = p9_handle(server, out, 2, in, 3);
	CHECK(n >= 7);
	CHECK_EQ(load_le32(reply), n);
	CHECK_EQ(load_le16(reply + 5), 0x1234);
	answer = (struct msg_in){.p = reply + 7, .end = reply + n};
	if (reply[4] == 7) {
		CHECK_EQ(n, 11);
		return -(int)get32(&answer);
	}
	CHECK_EQ(reply[4], request[4] + 1);
	return 0;
}

void start(void)
{
	begin(T_VERSION);
	put32(&ask, 65536);
	str("9P2000.L");
	CHECK_EQ(call(), 0);
	CHECK_EQ(get32(&answer), 65536);
	begin(T_ATTACH);
	put32(&ask, 0);
	put32(&ask, UINT32_MAX);
	str("root");
	str("");
	put32(&ask, 0);
	CHECK_EQ(call(), 0);
	CHECK_EQ(get8(&answer), 0x80);
}

int walk(uint32_t from, uint32_t to, const char *names)
{
	unsigned int n = 0;
	size_t at;

	begin(T_WALK);
	put32(&ask, from);
	put32(&ask, to);
	at = ask.len;
	put16(&ask, 0);
	for (const char *p = names; *p; n++) {
		size_t len = strcspn(p, "|");

		put_str(&ask, p, len);
		p += len + (p[len] == '|');
	}
	store_le16(request + at, (uint16_t)n);
	if (call() < 0)
		return -(int)load_le32(reply + 7);
	return get16(&answer) == n ? 0 : -ENOENT;
}

int fid_op(uint8_t type, uint32_t fid)
{
	begin(type);
	put32(&ask, fid);
	return call();
}

int clunk(uint32_t fid)
{
	return fid_op(T_CLUNK, fid);
}

int lopen(uint32_t fid, uint32_t flags)
{
	begin(T_LOPEN);
	put32(&ask, fid);
	put32(&ask, flags);
	return call();
}

int lcreate(uint32_t fid, const char *name, uint32_t flags, uint32_t mode)
{
	begin(T_LCREATE);
	put32(&ask, fid);
	str(name);
	put32(&ask, flags);
	put32(&ask, mode);
	put32(&ask, 0);
	return call();
}

int mkdir9(uint32_t fid, const char *name, uint32_t mode)
{
	begin(T_MKDIR);
	put32(&ask, fid);
	str(name);
	put32(&ask, mode);
	put32(&ask, 0);
	return call();
}

int symlink9(uint32_t fid, const char *name, const char *target)
{
	begin(T_SYMLINK);
	put32(&ask, fid);
	str(name);
	str(target);
	put32(&ask, 0);
	return call();
}

int mknod9(uint32_t fid, const char *name, uint32_t mode)
{
	begin(T_MKNOD);
	put32(&ask, fid);
	str(name);
	put32(&ask, mode);
	put32(&ask, 1);
	put32(&ask, 3);
	put32(&ask, 0);
	return call();
}

int rename9(uint32_t from, const char *name, uint32_t to, const char *new_name)
{
	begin(T_RENAMEAT);
	put32(&ask, from);
	str(name);
	put32(&ask, to);
	str(new_name);
	return call();
}

int unlink9(uint32_t fid, const char *name, uint32_t flags)
{
	begin(T_UNLINKAT);
	put32(&ask, fid);
	str(name);
	put32(&ask, flags);
	return call();
}

int64_t read9(uint32_t fid, uint64_t off, uint32_t count, void *buf)
{
	uint32_t n;
	int r;

	begin(T_READ);
	put32(&ask, fid);
	put64(&ask, off);
	put32(&ask, count);
	r = call();
	if (r < 0)
		return r;
	n = get32(&answer);
	CHECK_EQ(answer.end - answer.p, n);
	memcpy(buf, answer.p, n);
	return n;
}

int64_t write9(uint32_t fid, uint64_t off, const void *data, uint32_t count)
{
	int r;

	begin(T_WRITE);
	put32(&ask, fid);
	put64(&ask, off);
	put32(&ask, count);
	memcpy(request + ask.len, data, count);
	ask.len += count;
	r = call();
	return r < 0 ? r : (int64_t)get32(&answer);
}

int getattr9(uint32_t fid, struct attr *t)
{
	int r;

	begin(T_GETATTR);
	put32(&ask, fid);
	put64(&ask, 0x7ff);
	r = call();
	if (r < 0)
		return r;
	CHECK_EQ(answer.end - answer.p, 153);
	answer.p += 8 + 13;
	t->mode = get32(&answer);
	t->uid = get32(&answer);
	t->gid = get32(&answer);
	t->nlink = get64(&answer);
	(void)get64(&answer);
	t->size = get64(&answer);
	answer.p += 16 + 16;
	t->mtime = get64(&answer);
	return 0;
}

int setattr9(uint32_t fid, uint32_t valid, uint32_t mode, uint64_t size, uint64_t mtime)
{
	begin(T_SETATTR);
	put32(&ask, fid);
	put32(&ask, valid);
	put32(&ask, mode);
	put32(&ask, 0);
	put32(&ask, 0);
	put64(&ask, size);
	put64(&ask, mtime);
	put64(&ask, 0);
	put64(&ask, mtime);
	put64(&ask, 0);
	return call();
}

int xattr_set(uint32_t from, const char *name, const char *value, uint64_t size)
{
	int r;

	CHECK_EQ(walk(from, 9, ""), 0);
	begin(T_XATTRCREATE);
	put32(&ask, 9);
	str(name);
	put64(&ask, size);
	put32(&ask, 0);
	r = call();
	if (r == 0 && *value)
		CHECK_EQ(write9(9, 0, value, (uint32_t)strlen(value)), strlen(value));
	if (r < 0) {
		CHECK_EQ(clunk(9), 0);
		return r;
	}
	return clunk(9);
}

int64_t xattr_get(uint32_t from, const char *name, char *buf)
{
	int64_t n;

	begin(T_XATTRWALK);
	put32(&ask, from);
	put32(&ask, 9);
	str(name);
	n = call();
	if (n < 0)
		return n;
	n = (int64_t)get64(&answer);
	CHECK_EQ(read9(9, 0, 4096, buf), n);
	CHECK_EQ(clunk(9), 0);
	return n;
}
