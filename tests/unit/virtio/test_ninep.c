/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/virtio/test_ninep.c - 9P2000.L against a real directory, and attempts to leave it
 */
#include "test.h"
#include "virtio/driver.h"
#include "virtio/ninep.h"
#include "virtio/ninep_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

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

static char base[] = "/var/tmp/insula-9p-XXXXXX";
static struct p9_session *s;

/* --- client --- */

static uint8_t request[1 << 17], reply[1 << 17];
static struct msg_out q; /* the request being made */
static struct msg_in a;  /* the answer's body */

static void begin(uint8_t type)
{
	q = (struct msg_out){.buf = request, .len = 4, .cap = sizeof(request)};
	put8(&q, type);
	put16(&q, 0x1234);
}

static void str(const char *x)
{
	put_str(&q, x, strlen(x));
}

/* 0 or -errno as the server said; checks the frame of the answer. */
static int call(void)
{
	struct iovec out[3], in[3];
	int64_t n;

	CHECK(!q.full);
	store_le32(request, (uint32_t)q.len);
	/* Scattered on purpose, in the middle of the header. */
	out[0] = (struct iovec){request, 3};
	out[1] = (struct iovec){request + 3, q.len - 3};
	in[0] = (struct iovec){reply, 5};
	in[1] = (struct iovec){reply + 5, 9};
	in[2] = (struct iovec){reply + 14, sizeof(reply) - 14};
	n = p9_handle(s, out, 2, in, 3);
	CHECK(n >= 7);
	CHECK_EQ(load_le32(reply), n);
	CHECK_EQ(load_le16(reply + 5), 0x1234);
	a = (struct msg_in){.p = reply + 7, .end = reply + n};
	if (reply[4] == 7) {
		CHECK_EQ(n, 11);
		return -(int)get32(&a);
	}
	CHECK_EQ(reply[4], request[4] + 1);
	return 0;
}

static void start(void)
{
	begin(T_VERSION);
	put32(&q, 65536);
	str("9P2000.L");
	CHECK_EQ(call(), 0);
	CHECK_EQ(get32(&a), 65536);
	begin(T_ATTACH);
	put32(&q, 0);
	put32(&q, UINT32_MAX);
	str("root");
	str("");
	put32(&q, 0);
	CHECK_EQ(call(), 0);
	CHECK_EQ(get8(&a), 0x80);
}

/* Names separated by | since / may be part of one. */
static int walk(uint32_t from, uint32_t to, const char *names)
{
	unsigned int n = 0;
	size_t at;

	begin(T_WALK);
	put32(&q, from);
	put32(&q, to);
	at = q.len;
	put16(&q, 0);
	for (const char *p = names; *p; n++) {
		size_t len = strcspn(p, "|");

		put_str(&q, p, len);
		p += len + (p[len] == '|');
	}
	store_le16(request + at, (uint16_t)n);
	if (call() < 0)
		return -(int)load_le32(reply + 7);
	return get16(&a) == n ? 0 : -ENOENT;
}

static int fid_op(uint8_t type, uint32_t fid)
{
	begin(type);
	put32(&q, fid);
	return call();
}

static int clunk(uint32_t fid)
{
	return fid_op(T_CLUNK, fid);
}

static int lopen(uint32_t fid, uint32_t flags)
{
	begin(T_LOPEN);
	put32(&q, fid);
	put32(&q, flags);
	return call();
}

static int lcreate(uint32_t fid, const char *name, uint32_t flags, uint32_t mode)
{
	begin(T_LCREATE);
	put32(&q, fid);
	str(name);
	put32(&q, flags);
	put32(&q, mode);
	put32(&q, 0);
	return call();
}

static int mkdir9(uint32_t fid, const char *name, uint32_t mode)
{
	begin(T_MKDIR);
	put32(&q, fid);
	str(name);
	put32(&q, mode);
	put32(&q, 0);
	return call();
}

static int symlink9(uint32_t fid, const char *name, const char *target)
{
	begin(T_SYMLINK);
	put32(&q, fid);
	str(name);
	str(target);
	put32(&q, 0);
	return call();
}

static int mknod9(uint32_t fid, const char *name, uint32_t mode)
{
	begin(T_MKNOD);
	put32(&q, fid);
	str(name);
	put32(&q, mode);
	put32(&q, 1);
	put32(&q, 3);
	put32(&q, 0);
	return call();
}

static int rename9(uint32_t from, const char *name, uint32_t to, const char *new_name)
{
	begin(T_RENAMEAT);
	put32(&q, from);
	str(name);
	put32(&q, to);
	str(new_name);
	return call();
}

static int unlink9(uint32_t fid, const char *name, uint32_t flags)
{
	begin(T_UNLINKAT);
	put32(&q, fid);
	str(name);
	put32(&q, flags);
	return call();
}

static int64_t read9(uint32_t fid, uint64_t off, uint32_t count, void *buf)
{
	uint32_t n;
	int r;

	begin(T_READ);
	put32(&q, fid);
	put64(&q, off);
	put32(&q, count);
	r = call();
	if (r < 0)
		return r;
	n = get32(&a);
	CHECK_EQ(a.end - a.p, n);
	memcpy(buf, a.p, n);
	return n;
}

static int64_t write9(uint32_t fid, uint64_t off, const void *data, uint32_t count)
{
	int r;

	begin(T_WRITE);
	put32(&q, fid);
	put64(&q, off);
	put32(&q, count);
	memcpy(request + q.len, data, count);
	q.len += count;
	r = call();
	return r < 0 ? r : (int64_t)get32(&a);
}

struct attr {
	uint32_t mode, uid, gid;
	uint64_t nlink, size, mtime;
};

static int getattr9(uint32_t fid, struct attr *t)
{
	int r;

	begin(T_GETATTR);
	put32(&q, fid);
	put64(&q, 0x7ff);
	r = call();
	if (r < 0)
		return r;
	CHECK_EQ(a.end - a.p, 153);
	a.p += 8 + 13;
	t->mode = get32(&a);
	t->uid = get32(&a);
	t->gid = get32(&a);
	t->nlink = get64(&a);
	(void)get64(&a);
	t->size = get64(&a);
	a.p += 16 + 16;
	t->mtime = get64(&a);
	return 0;
}

static int setattr9(uint32_t fid, uint32_t valid, uint32_t mode, uint64_t size, uint64_t mtime)
{
	begin(T_SETATTR);
	put32(&q, fid);
	put32(&q, valid);
	put32(&q, mode);
	put32(&q, 0);
	put32(&q, 0);
	put64(&q, size);
	put64(&q, mtime);
	put64(&q, 0);
	put64(&q, mtime);
	put64(&q, 0);
	return call();
}

/* --- the host's side --- */

static const char *host(const char *name)
{
	static char path[2][512];
	static int which;

	which = !which;
	snprintf(path[which], sizeof(path[which]), "%s/%s", base, name);
	return path[which];
}

static void host_file(const char *name, const char *text)
{
	int fd = open(host(name), O_CREAT | O_TRUNC | O_WRONLY, 0644);

	CHECK(fd >= 0);
	CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static struct p9_session *session(bool read_only)
{
	struct p9_session *p = NULL;
	int root = open(host("share"), O_PATH | O_DIRECTORY), proc;

	proc = open("/proc/self/fd", O_PATH | O_DIRECTORY);
	CHECK(root >= 0 && proc >= 0);
	CHECK_EQ(p9_new(root, proc, read_only, &p), 0);
	return p;
}

/* --- conformance --- */

static void before_version(void)
{
	begin(T_WALK);
	put32(&q, 0);
	put32(&q, 1);
	put16(&q, 0);
	CHECK_EQ(call(), -EPROTO);
	begin(T_VERSION);
	put32(&q, 8192);
	str("9P2000.u");
	CHECK_EQ(call(), 0);
	CHECK_EQ(get32(&a), 8192);
	CHECK_EQ(get16(&a), 7);
	CHECK(memcmp(a.p, "unknown", 7) == 0);
	begin(T_VERSION);
	put32(&q, 4095);
	str("9P2000.L");
	CHECK_EQ(call(), -EINVAL);
}

static void files(void)
{
	char buf[65536];
	struct attr t;
	struct stat st;

	CHECK_EQ(walk(0, 1, ""), 0);
	CHECK_EQ(lcreate(1, "new", O_RDWR | O_CREAT | O_EXCL, 0640), 0);
	CHECK_EQ(write9(1, 0, "hello world", 11), 11);
	CHECK_EQ(write9(1, 6, "WORLD", 5), 5);
	CHECK_EQ(read9(1, 0, 100, buf), 11);
	CHECK(memcmp(buf, "hello WORLD", 11) == 0);
	CHECK_EQ(read9(1, 11, 100, buf), 0);
	CHECK_EQ(read9(1, 9, 100, buf), 2);
	begin(T_FSYNC);
	put32(&q, 1);
	put32(&q, 1);
	CHECK_EQ(call(), 0);
	CHECK_EQ(getattr9(1, &t), 0);
	CHECK_EQ(t.mode, S_IFREG | 0640);
	CHECK_EQ(t.size, 11);
	CHECK_EQ(t.uid, 0);
	CHECK_EQ(setattr9(1, 1 | 8 | 0x20 | 0x100, 0600, 5, 1000000), 0);
	CHECK_EQ(stat(host("share/new"), &st), 0);
	CHECK_EQ(st.st_mode & 07777, 0600);
	CHECK_EQ(st.st_size, 5);
	CHECK_EQ(st.st_mtime, 1000000);
	CHECK_EQ(clunk(1), 0);
	CHECK_EQ(clunk(1), -EBADF);
	CHECK_EQ(walk(0, 1, ""), 0);
	CHECK_EQ(lcreate(1, "new", O_RDWR | O_CREAT | O_EXCL, 0640), -EEXIST);
	CHECK_EQ(lcreate(1, "new", O_RDWR | O_CREAT | O_TRUNC, 0640), 0); /* the existing one */
	CHECK_EQ(getattr9(1, &t), 0);
	CHECK_EQ(t.size, 0);
	CHECK_EQ(t.mode & 07777, 0600);
	CHECK_EQ(clunk(1), 0);
	CHECK_EQ(walk(0, 1, "new"), 0);
	CHECK_EQ(lopen(1, O_RDONLY), 0);
	CHECK_EQ(lopen(1, O_RDONLY), -EBADF);
	CHECK_EQ(write9(1, 0, "x", 1), -EBADF);
	/* Without a name it lives on while open. */
	CHECK_EQ(unlink9(0, "new", 0), 0);
	CHECK_EQ(getattr9(1, &t), 0);
	CHECK_EQ(t.nlink, 0);
	CHECK_EQ(read9(1, 0, 10, buf), 0);
	CHECK_EQ(clunk(1), 0);
	CHECK_EQ(walk(0, 1, "new"), -ENOENT);
}

static void names(void)
{
	char link_target[64];
	struct attr t;
	struct stat st;

	CHECK_EQ(mkdir9(0, "dir", 0751), 0);
	CHECK_EQ(stat(host("share/dir"), &st), 0);
	CHECK_EQ(st.st_mode, S_IFDIR | 0751); /* whatever the umask */
	CHECK_EQ(mkdir9(0, "dir", 0700), -EEXIST);
	CHECK_EQ(walk(0, 1, "dir"), 0);
	CHECK_EQ(mknod9(1, "plain", S_IFREG | 0604), 0);
	CHECK_EQ(mknod9(1, "fifo", S_IFIFO | 0600), 0);
	CHECK_EQ(mknod9(1, "dev", S_IFCHR | 0600), -EPERM);
	CHECK_EQ(mknod9(1, "dev", S_IFBLK | 0600), -EPERM);
	CHECK_EQ(walk(1, 2, "plain"), 0);
	CHECK_EQ(walk(1, 3, "fifo"), 0);
	CHECK_EQ(lopen(3, O_RDONLY), -EACCES);
	CHECK_EQ(clunk(3), 0);
	begin(T_LINK);
	put32(&q, 0);
	put32(&q, 2);
	str("hard");
	CHECK_EQ(call(), 0);
	CHECK_EQ(getattr9(2, &t), 0);
	CHECK_EQ(t.nlink, 2);
	CHECK_EQ(symlink9(1, "soft", "../../anything"), 0);
	CHECK_EQ(walk(1, 3, "soft"), 0);
	CHECK_EQ(fid_op(T_READLINK, 3), 0);
	get_str(&a, link_target, 63);
	CHECK_STR(link_target, "../../anything");
	CHECK_EQ(setattr9(3, 0x20 | 0x100, 0, 0, 7777), 0); /* the link's own time */
	CHECK_EQ(lstat(host("share/dir/soft"), &st), 0);
	CHECK_EQ(st.st_mtime, 7777);
	CHECK_EQ(setattr9(3, 1, 0600, 0, 0), -EOPNOTSUPP);
	/* Renaming a directory: fids below it stay good. */
	CHECK_EQ(rename9(0, "dir", 0, "moved"), 0);
	CHECK_EQ(getattr9(2, &t), 0);
	begin(T_RENAME);
	put32(&q, 2);
	put32(&q, 0);
	str("up");
	CHECK_EQ(call(), 0);
	CHECK_EQ(access(host("share/up"), F_OK), 0);
	CHECK_EQ(walk(2, 4, ".."), 0); /* its parent is the root now */
	CHECK_EQ(walk(4, 5, "up"), 0);
	CHECK_EQ(clunk(4), 0);
	CHECK_EQ(clunk(5), 0);
	CHECK_EQ(unlink9(0, "moved", 0), -EISDIR);
	CHECK_EQ(unlink9(0, "moved", AT_REMOVEDIR), -ENOTEMPTY);
	CHECK_EQ(fid_op(T_REMOVE, 3), 0);
	CHECK_EQ(clunk(3), -EBADF);
	CHECK_EQ(unlink9(1, "fifo", 0), 0);
	CHECK_EQ(fid_op(T_REMOVE, 1), 0);
	CHECK_EQ(fid_op(T_REMOVE, 2), 0);
	CHECK_EQ(unlink9(0, "hard", 0), 0);
	CHECK_EQ(fid_op(T_STATFS, 0), 0);
	begin(T_FLUSH);
	put16(&q, 1);
	CHECK_EQ(call(), 0);
}

/* @count bytes a call: entries come once each, whatever the size. */
static void readdir9(uint32_t count)
{
	unsigned int n = 0, seen[200] = {0};
	uint64_t off = 0;

	CHECK_EQ(walk(0, 1, "many"), 0);
	CHECK_EQ(lopen(1, O_RDONLY | O_DIRECTORY), 0);
	for (;;) {
		begin(T_READDIR);
		put32(&q, 1);
		put64(&q, off);
		put32(&q, count);
		CHECK_EQ(call(), 0);
		if (!get32(&a))
			break;
		CHECK((size_t)(a.end - a.p) <= count);
		while (a.p < a.end) {
			char name[256];
			unsigned int i;

			a.p += 13;
			off = get64(&a);
			(void)get8(&a);
			get_str(&a, name, 255);
			if (sscanf(name, "file%u", &i) == 1)
				seen[i]++;
			n++;
		}
	}
	CHECK_EQ(n, 202);
	for (unsigned int i = 0; i < 200; i++)
		CHECK_EQ(seen[i], 1);
	CHECK_EQ(clunk(1), 0);
}

static void directories(void)
{
	char name[64];

	CHECK_EQ(mkdir9(0, "many", 0755), 0);
	for (unsigned int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "share/many/file%u", i);
		host_file(name, "");
	}
	readdir9(60000);
	readdir9(300);
	readdir9(64);
	CHECK_EQ(walk(0, 1, "many"), 0);
	CHECK_EQ(lopen(1, O_RDONLY), 0);
	begin(T_READDIR);
	put32(&q, 1);
	put64(&q, 0);
	put32(&q, 10);
	CHECK_EQ(call(), -EINVAL);
	CHECK_EQ(read9(1, 0, 10, name), -EISDIR);
	CHECK_EQ(clunk(1), 0);
}

static int xattr_set(uint32_t from, const char *name, const char *value, uint64_t size)
{
	int r;

	CHECK_EQ(walk(from, 9, ""), 0);
	begin(T_XATTRCREATE);
	put32(&q, 9);
	str(name);
	put64(&q, size);
	put32(&q, 0);
	r = call();
	if (r == 0 && *value)
		CHECK_EQ(write9(9, 0, value, (uint32_t)strlen(value)), strlen(value));
	if (r < 0) {
		CHECK_EQ(clunk(9), 0);
		return r;
	}
	return clunk(9);
}

static int64_t xattr_get(uint32_t from, const char *name, char *buf)
{
	int64_t n;

	begin(T_XATTRWALK);
	put32(&q, from);
	put32(&q, 9);
	str(name);
	n = call();
	if (n < 0)
		return n;
	n = (int64_t)get64(&a);
	CHECK_EQ(read9(9, 0, 4096, buf), n);
	CHECK_EQ(clunk(9), 0);
	return n;
}

static void xattrs(void)
{
	char buf[4096];

	host_file("share/attr", "x");
	CHECK_EQ(walk(0, 1, "attr"), 0);
	if (xattr_set(1, "user.colour", "blue", 4) == -EOPNOTSUPP) {
		CHECK_EQ(clunk(1), 0);
		return; /* a file system without them */
	}
	CHECK_EQ(xattr_get(1, "user.colour", buf), 4);
	CHECK(memcmp(buf, "blue", 4) == 0);
	CHECK_EQ(xattr_get(1, "", buf), 12);
	CHECK_STR(buf, "user.colour");
	CHECK_EQ(xattr_get(1, "user.none", buf), -ENODATA);
	CHECK_EQ(xattr_get(1, "security.capability", buf), -ENODATA);
	CHECK_EQ(xattr_set(1, "security.capability", "x", 1), -EOPNOTSUPP);
	CHECK_EQ(xattr_set(1, "trusted.x", "x", 1), -EOPNOTSUPP);
	CHECK_EQ(xattr_set(1, "user.half", "x", 5), -EINVAL);
	CHECK_EQ(xattr_set(1, "user.big", "", 65537), -E2BIG);
	CHECK_EQ(clunk(1), 0);
}

static void locks(void)
{
	CHECK_EQ(walk(0, 1, "attr"), 0);
	CHECK_EQ(lopen(1, O_RDWR), 0);
	begin(T_LOCK);
	put32(&q, 1);
	put8(&q, 1);
	put32(&q, 0);
	put64(&q, 0);
	put64(&q, 0);
	put32(&q, 77);
	str("guest");
	CHECK_EQ(call(), 0);
	CHECK_EQ(get8(&a), 0);
	begin(T_GETLOCK);
	put32(&q, 1);
	put8(&q, 1);
	put64(&q, 5);
	put64(&q, 6);
	put32(&q, 77);
	str("guest");
	CHECK_EQ(call(), 0);
	CHECK_EQ(get8(&a), 2);
	CHECK_EQ(get64(&a), 5);
	CHECK_EQ(clunk(1), 0);
}

/* --- attempts to leave --- */

static void escapes(void)
{
	static const char *const bad[] = {"",    ".",         "/",           "/etc",
					  "a/b", "../secret", "share/../..", NULL};
	char long_name[300];
	struct attr t;
	struct stat root;

	host_file("secret", "top secret");
	CHECK_EQ(stat(host("share"), &root), 0);
	CHECK_EQ(symlink("../secret", host("share/out")), 0);
	CHECK_EQ(symlink(base, host("share/outdir")), 0);
	CHECK_EQ(mkdir9(0, "in", 0755), 0);
	/* ".." stops at the root */
	CHECK_EQ(walk(0, 1, "..|..|.."), 0);
	CHECK_EQ(walk(1, 2, "secret"), -ENOENT);
	CHECK_EQ(clunk(1), 0);
	CHECK_EQ(walk(0, 1, "in|..|..|secret"), -ENOENT);
	/* even when the directory was moved away under us */
	CHECK_EQ(walk(0, 1, "in"), 0);
	CHECK_EQ(rename(host("share/in"), host("in")), 0);
	CHECK_EQ(walk(1, 2, "..|secret"), -ENOENT);
	CHECK_EQ(rename(host("in"), host("share/in")), 0);
	CHECK_EQ(clunk(1), 0);
	/* symlinks are objects */
	CHECK_EQ(walk(0, 1, "out"), 0);
	CHECK_EQ(getattr9(1, &t), 0);
	CHECK(S_ISLNK(t.mode));
	CHECK_EQ(lopen(1, O_RDONLY), -ELOOP);
	CHECK_EQ(setattr9(1, 8, 0, 0, 0), -EINVAL);
	CHECK_EQ(clunk(1), 0);
	CHECK_EQ(walk(0, 1, "outdir|secret"), -ENOENT);
	CHECK_EQ(walk(0, 1, "outdir"), 0);
	CHECK_EQ(lopen(1, O_RDONLY | O_DIRECTORY), -ENOTDIR);
	CHECK_EQ(lcreate(1, "x", O_RDWR | O_CREAT, 0600), -ENOTDIR);
	CHECK_EQ(mkdir9(1, "x", 0700), -ENOTDIR);
	CHECK_EQ(unlink9(1, "secret", 0), -ENOTDIR);
	CHECK_EQ(clunk(1), 0);
	CHECK_EQ(walk(0, 1, ""), 0);
	CHECK_EQ(lcreate(1, "out", O_RDWR | O_CREAT | O_TRUNC, 0600), -ELOOP);
	CHECK_EQ(stat(host("secret"), &root), 0);
	CHECK_EQ(root.st_size, 10);
	/* names that are paths */
	for (unsigned int i = 0; bad[i]; i++) {
		CHECK_EQ(mkdir9(0, bad[i], 0700), -EINVAL);
		CHECK_EQ(lcreate(1, bad[i], O_RDWR | O_CREAT, 0600), -EINVAL);
		CHECK_EQ(symlink9(0, bad[i], "x"), -EINVAL);
		CHECK_EQ(mknod9(0, bad[i], S_IFREG), -EINVAL);
		CHECK_EQ(rename9(0, "in", 0, bad[i]), -EINVAL);
		CHECK_EQ(rename9(0, bad[i], 0, "y"), -EINVAL);
		CHECK_EQ(unlink9(0, bad[i], 0), -EINVAL);
		if (*bad[i])
			CHECK(walk(0, 5, bad[i]) < 0);
	}
	CHECK_EQ(mkdir9(0, "..", 0700), -EINVAL);
	CHECK_EQ(unlink9(0, "..", AT_REMOVEDIR), -EINVAL);
	/* a NUL inside, and a name one longer than there are */
	begin(T_MKDIR);
	put32(&q, 0);
	put_str(&q, "ab\0cd", 5);
	put32(&q, 0700);
	put32(&q, 0);
	CHECK_EQ(call(), -EINVAL);
	memset(long_name, 'n', sizeof(long_name));
	long_name[256] = '\0';
	CHECK_EQ(mkdir9(0, long_name, 0700), -EINVAL);
	long_name[255] = '\0';
	CHECK_EQ(mkdir9(0, long_name, 0700), 0);
	CHECK_EQ(unlink9(0, long_name, AT_REMOVEDIR), 0);
	CHECK_EQ(clunk(1), 0);
}

/* A host directory that turns into a symlink and back, as fast as it can. */
static atomic_bool racing;

static void *racer(void *opaque)
{
	struct timespec moment = {.tv_nsec = 1000};

	while (racing) {
		nanosleep(&moment, NULL); /* a directory for a while */
		(void)!rename(host("share/flip"), host("share/flip.dir"));
		(void)!symlink(base, host("share/flip"));
		(void)!unlink(host("share/flip"));
		(void)!rename(host("share/flip.dir"), host("share/flip"));
	}
	return opaque;
}

static void symlink_race(void)
{
	unsigned int inside = 0;
	char buf[64];
	pthread_t t;

	CHECK_EQ(mkdir(host("share/flip"), 0755), 0);
	host_file("share/flip/secret", "mine");
	racing = true;
	CHECK_EQ(pthread_create(&t, NULL, racer, NULL), 0);
	for (unsigned int i = 0; i < 5000 || (!inside && i < 1000000); i++) {
		if (walk(0, 1, "flip|secret") < 0)
			continue;
		if (lopen(1, O_RDONLY) == 0) {
			CHECK_EQ(read9(1, 0, 64, buf), 4);
			inside++;
		}
		CHECK_EQ(clunk(1), 0);
	}
	racing = false;
	pthread_join(t, NULL);
	CHECK(inside > 0);
}

static void read_only(void)
{
	char buf[16];

	p9_free(s);
	s = session(true);
	start();
	CHECK_EQ(walk(0, 1, "attr"), 0);
	CHECK_EQ(lopen(1, O_RDWR), -EROFS);
	CHECK_EQ(lopen(1, O_RDONLY | O_TRUNC), -EROFS);
	CHECK_EQ(setattr9(1, 1, 0600, 0, 0), -EROFS);
	CHECK_EQ(setattr9(1, 8, 0, 0, 0), -EROFS);
	CHECK_EQ(xattr_set(1, "user.x", "y", 1), -EROFS);
	begin(T_LINK);
	put32(&q, 0);
	put32(&q, 1);
	str("hard");
	CHECK_EQ(call(), -EROFS);
	begin(T_RENAME);
	put32(&q, 1);
	put32(&q, 0);
	str("up");
	CHECK_EQ(call(), -EROFS);
	CHECK_EQ(lopen(1, O_RDONLY), 0);
	CHECK_EQ(read9(1, 0, 16, buf), 1);
	CHECK_EQ(fid_op(T_REMOVE, 1), -EROFS);
	CHECK_EQ(mkdir9(0, "x", 0700), -EROFS);
	CHECK_EQ(symlink9(0, "x", "y"), -EROFS);
	CHECK_EQ(mknod9(0, "x", S_IFREG), -EROFS);
	CHECK_EQ(rename9(0, "attr", 0, "x"), -EROFS);
	CHECK_EQ(unlink9(0, "attr", 0), -EROFS);
	CHECK_EQ(walk(0, 1, ""), 0);
	CHECK_EQ(lcreate(1, "x", O_RDWR | O_CREAT, 0600), -EROFS);
	CHECK_EQ(access(host("share/attr"), F_OK), 0);
}

/* More fids than descriptors: all of them still work. */
static void many_fids(void)
{
	struct rlimit limit;
	char name[64];
	struct attr t;

	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
	p9_free(s);
	limit.rlim_cur = 256;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	s = session(false);
	start();
	for (unsigned int round = 0; round < 5; round++) {
		for (unsigned int i = 0; i < 200; i++) {
			snprintf(name, sizeof(name), "many|file%u", i);
			CHECK_EQ(walk(0, 1000 + round * 200 + i, name), 0);
		}
	}
	CHECK(s->tree.n_fds <= 64 + 2);
	CHECK_EQ(rename9(0, "many", 0, "more"), 0);
	for (unsigned int i = 0; i < 1000; i++)
		CHECK_EQ(getattr9(1000 + i, &t), 0);
	/* A file replaced behind our back is not taken for the old one. */
	CHECK_EQ(rename(host("share/more/file0"), host("share/more/other")), 0);
	host_file("share/more/file0", "new");
	CHECK_EQ(getattr9(1000, &t), -ESTALE);
	/* Open files have a limit of their own. */
	for (unsigned int i = 1; i < 65; i++)
		CHECK_EQ(lopen(1000 + i, O_RDONLY), 0);
	CHECK_EQ(lopen(1065, O_RDONLY), -ENFILE);
	CHECK_EQ(clunk(1064), 0);
	CHECK_EQ(lopen(1065, O_RDONLY), 0);
}

/* Depth is bounded, and a deep chain of parents neither overflows the stack nor hangs. */
static void deep(void)
{
	unsigned int depth = 0;

	CHECK_EQ(walk(0, 1, ""), 0);
	while (depth < 2000 && mkdir9(1, "d", 0755) == 0 && walk(1, 1, "d") == 0)
		depth++;
	CHECK_EQ(depth, TREE_DEPTH_MAX);
	CHECK_EQ(walk(1, 2, "..|..|.."), 0);
	CHECK_EQ(clunk(1), 0);
	CHECK_EQ(clunk(2), 0);
}

static void malformed(void)
{
	struct iovec out = {request, 7}, in = {reply, 100}, tiny = {reply, 10};

	memset(request, 0, 64);
	store_le32(request, 7);
	request[4] = T_CLUNK;
	out.iov_len = 6;
	CHECK_EQ(p9_handle(s, &out, 1, &in, 1), -1); /* no header */
	out.iov_len = 7;
	CHECK_EQ(p9_handle(s, &out, 1, &tiny, 1), -1); /* no room for an error */
	store_le32(request, 8);
	CHECK_EQ(p9_handle(s, &out, 1, &in, 1), -1); /* longer than it is */
	store_le32(request, 6);
	CHECK_EQ(p9_handle(s, &out, 1, &in, 1), -1);
	store_le32(request, 7);
	CHECK_EQ(p9_handle(s, &out, 1, &in, 1), 11);
	CHECK_EQ(load_le32(reply + 7), EBADF);
	request[4] = 99;
	CHECK_EQ(p9_handle(s, &out, 1, &in, 1), 11);
	CHECK_EQ(load_le32(reply + 7), EOPNOTSUPP);
	/* A good answer that has no room becomes an error that has. */
	begin(T_GETATTR);
	put32(&q, 0);
	put64(&q, 0x7ff);
	store_le32(request, (uint32_t)q.len);
	out.iov_len = q.len;
	CHECK_EQ(p9_handle(s, &out, 1, &in, 1), 11);
	CHECK_EQ(load_le32(reply + 7), EMSGSIZE);
}

/* --- through the device --- */

static uint32_t device_call(struct drv *v, uint64_t out, uint64_t in, uint32_t in_len)
{
	struct drv_buf b[3] = {{out, (uint32_t)q.len}, {in, 11}, {in + 4096, in_len}};
	struct timespec tick = {.tv_nsec = 100000};
	uint16_t head;
	uint32_t len;

	store_le32(request, (uint32_t)q.len);
	CHECK_EQ(gmem_write(v->m, out, request, q.len), 0);
	CHECK(drv_post(v, 0, b, 1, 2, 0) >= 0);
	drv_kick(v, 0);
	for (unsigned int i = 0; !drv_used(v, 0, &head, &len); i++) {
		CHECK(i < 100000);
		nanosleep(&tick, NULL);
	}
	CHECK_EQ(gmem_read(v->m, in, reply, 11), 0);
	CHECK_EQ(gmem_read(v->m, in + 4096, reply + 11, in_len), 0);
	return len;
}

static void device(void)
{
	struct virtio_9p_spec spec = {.path = host("share"), .tag = "tag0"};
	struct gmem *m;
	struct virtio_dev *d;
	struct err e = {0};
	uint8_t config[6];
	struct drv v;
	uint64_t out, in;

	CHECK_EQ(gmem_new(8 << 20, 8 << 20, &m, &e), 0);
	CHECK_EQ(virtio_9p_new(m, &spec, &d, &e), 0);
	virtio_config_read(d, 0, config, 6);
	CHECK(memcmp(config, "\4\0tag0", 6) == 0);
	drv_init(&v, m, d, VIRTIO_F_EVENT_IDX | BIT(0), 128);
	out = drv_alloc(&v, 65536, 4096);
	in = drv_alloc(&v, 1 << 17, 4096);
	s = NULL;
	begin(T_VERSION);
	put32(&q, 65536);
	str("9P2000.L");
	CHECK_EQ(device_call(&v, out, in, 100), 7 + 4 + 10);
	begin(T_ATTACH);
	put32(&q, 0);
	put32(&q, UINT32_MAX);
	str("root");
	str("");
	put32(&q, 0);
	CHECK_EQ(device_call(&v, out, in, 100), 7 + 13);
	begin(T_LCREATE);
	put32(&q, 0);
	str("through");
	put32(&q, O_RDWR | O_CREAT);
	put32(&q, 0644);
	put32(&q, 0);
	CHECK_EQ(device_call(&v, out, in, 100), 7 + 13 + 4);
	begin(T_WRITE);
	put32(&q, 0);
	put64(&q, 0);
	put32(&q, 5);
	memcpy(request + q.len, "bytes", 5);
	q.len += 5;
	CHECK_EQ(device_call(&v, out, in, 100), 7 + 4);
	begin(T_READ);
	put32(&q, 0);
	put64(&q, 0);
	put32(&q, 65536);
	CHECK_EQ(device_call(&v, out, in, 65536), 11 + 5);
	CHECK(memcmp(reply + 11, "bytes", 5) == 0);
	/* Reset with requests under way, again and again; then it works as new. */
	for (unsigned int i = 0; i < 200; i++) {
		struct drv_buf b[2] = {{out, (uint32_t)q.len}, {in, 65536}};

		for (unsigned int k = 0; k < 20; k++)
			CHECK(drv_post(&v, 0, b, 1, 1, 0) >= 0);
		drv_kick(&v, 0);
		drv_start(&v, VIRTIO_F_EVENT_IDX, 128);
		out = drv_alloc(&v, 65536, 4096);
		in = drv_alloc(&v, 1 << 17, 4096);
	}
	begin(T_CLUNK);
	put32(&q, 0);
	CHECK_EQ(device_call(&v, out, in, 100), 11);
	CHECK_EQ(load_le32(reply + 7), EPROTO);
	/* A message that is none breaks the device. */
	q.len = 3;
	{
		struct drv_buf b[2] = {{out, 3}, {in, 100}};
		struct timespec tick = {.tv_nsec = 1000000};

		CHECK(drv_post(&v, 0, b, 1, 1, 0) >= 0);
		drv_kick(&v, 0);
		for (unsigned int i = 0; !v.config_irqs && i < 5000; i++)
			nanosleep(&tick, NULL);
		CHECK_EQ(v.config_irqs, 1);
	}
	d->ops->free(d);
	gmem_free(m);
}

int main(void)
{
	char cmd[128];
	pid_t pid;
	int status;

	CHECK(mkdtemp(base));
	umask(077);
	CHECK_EQ(mkdir(host("share"), 0755), 0);
	s = session(false);
	before_version();
	start();
	files();
	names();
	directories();
	xattrs();
	locks();
	escapes();
	symlink_race();
	malformed();
	deep();
	read_only();
	p9_free(s);
	device();
	pid = fork();
	if (pid == 0) {
		s = session(false);
		many_fids();
		p9_free(s);
		exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", base);
	CHECK_EQ(system(cmd), 0);
	CHECK_EQ(status, 0);
	return 0;
}
