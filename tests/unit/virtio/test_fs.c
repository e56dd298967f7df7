/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/virtio/test_fs.c - FUSE against a real directory, and attempts to leave it
 */
#include "test.h"
#include "virtio/driver.h"
#include "virtio/fs.h"
#include "virtio/fs_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

static char base[] = "/var/tmp/insula-fs-XXXXXX";
static struct fs_session *s;

/* --- client --- */

static uint8_t request[1 << 21], reply[1 << 21];
static size_t len;      /* of the request */
static size_t got;      /* of the answer, behind its header */
static uint8_t *answer; /* that */

static void begin(uint32_t opcode, uint64_t nodeid)
{
	struct fuse_in_header h = {.opcode = opcode, .unique = 0x1234, .nodeid = nodeid};

	memcpy(request, &h, sizeof(h));
	len = sizeof(h);
}

static void add(const void *p, size_t n)
{
	memcpy(request + len, p, n);
	len += n;
}

static void str(const char *x)
{
	add(x, strlen(x) + 1);
}

/* 0 or -errno as the server said; checks the frame of the answer. */
static int call_room(size_t room)
{
	struct fuse_out_header h;
	struct iovec out[3], in[3];
	int64_t n;

	store_le32(request, (uint32_t)len);
	/* Scattered on purpose, in the middle of the header. */
	out[0] = (struct iovec){request, 3};
	out[1] = (struct iovec){request + 3, 40};
	out[2] = (struct iovec){request + 43, len > 43 ? len - 43 : 0};
	in[0] = (struct iovec){reply, 5};
	in[1] = (struct iovec){reply + 5, 11};
	in[2] = (struct iovec){reply + 16, room};
	out[1].iov_len = MIN(out[1].iov_len, len - 3);
	n = fs_handle(s, out, 3, in, 3);
	CHECK(n >= 16);
	memcpy(&h, reply, sizeof(h));
	CHECK_EQ(h.len, n);
	CHECK_EQ(h.unique, 0x1234);
	answer = reply + 16;
	got = (size_t)n - 16;
	CHECK(h.error <= 0 && (h.error == 0 || got == 0));
	return h.error;
}

static int call(void)
{
	return call_room(sizeof(reply) - 16);
}

static void start(void)
{
	struct fuse_init_in in = {
	    .major = 7, .minor = 36, .max_readahead = 1 << 20, .flags = UINT32_MAX};
	struct fuse_init_out o;

	begin(FUSE_INIT, 0);
	add(&in, sizeof(in));
	CHECK_EQ(call(), 0);
	CHECK_EQ(got, sizeof(o));
	memcpy(&o, answer, sizeof(o));
	CHECK_EQ(o.major, 7);
	CHECK_EQ(o.minor, 36);
	CHECK_EQ(o.max_pages, FS_MAX_PAGES);
	CHECK_EQ(o.max_write, FS_MAX_PAGES * 4096);
	CHECK(o.flags & FUSE_MAX_PAGES);
	CHECK(!(o.flags & (FUSE_POSIX_LOCKS | FUSE_WRITEBACK_CACHE | FUSE_EXPORT_SUPPORT)));
}

static int entry(struct fuse_entry_out *e)
{
	int r = call();

	if (r == 0) {
		CHECK(got >= sizeof(*e));
		memcpy(e, answer, sizeof(*e));
		CHECK(e->nodeid);
	}
	return r;
}

static int lookup(uint64_t dir, const char *name, struct fuse_entry_out *e)
{
	begin(FUSE_LOOKUP, dir);
	str(name);
	return entry(e);
}

static uint64_t node(uint64_t dir, const char *name)
{
	struct fuse_entry_out e;

	CHECK_EQ(lookup(dir, name, &e), 0);
	return e.nodeid;
}

static void forget(uint64_t id, uint64_t n)
{
	struct fuse_forget_in in = {n};
	struct iovec out;

	begin(FUSE_FORGET, id);
	add(&in, sizeof(in));
	store_le32(request, (uint32_t)len);
	out = (struct iovec){request, len};
	CHECK_EQ(fs_handle(s, &out, 1, NULL, 0), 0);
}

static int named(uint32_t op, uint64_t dir, const char *name)
{
	begin(op, dir);
	str(name);
	return call();
}

static int open_op(uint32_t op, uint64_t id, uint32_t flags, uint64_t *fh)
{
	struct fuse_open_in in = {.flags = flags};
	struct fuse_open_out o;
	int r;

	begin(op, id);
	add(&in, sizeof(in));
	r = call();
	if (r == 0) {
		CHECK_EQ(got, sizeof(o));
		memcpy(&o, answer, sizeof(o));
		*fh = o.fh;
		return (int)o.open_flags;
	}
	return r;
}

static int create(uint64_t dir, const char *name, uint32_t flags, uint32_t mode,
		  struct fuse_entry_out *e, uint64_t *fh)
{
	struct fuse_create_in in = {.flags = flags | O_CREAT, .mode = S_IFREG | mode};
	struct fuse_open_out o;
	int r;

	begin(FUSE_CREATE, dir);
	add(&in, sizeof(in));
	str(name);
	r = entry(e);
	if (r == 0) {
		CHECK_EQ(got, sizeof(*e) + sizeof(o));
		memcpy(&o, answer + sizeof(*e), sizeof(o));
		*fh = o.fh;
	}
	return r;
}

static int release(uint64_t id, uint64_t fh)
{
	struct fuse_release_in in = {.fh = fh};

	begin(FUSE_RELEASE, id);
	add(&in, sizeof(in));
	return call();
}

static int64_t read_fs(uint64_t id, uint64_t fh, uint64_t off, uint32_t size, uint32_t op)
{
	struct fuse_read_in in = {.fh = fh, .offset = off, .size = size};
	int r;

	begin(op, id);
	add(&in, sizeof(in));
	r = call();
	return r < 0 ? r : (int64_t)got;
}

static int64_t write_fs(uint64_t id, uint64_t fh, uint64_t off, const void *data, uint32_t size,
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
	CHECK_EQ(got, sizeof(o));
	memcpy(&o, answer, sizeof(o));
	return o.size;
}

static int getattr(uint64_t id, struct fuse_attr *a)
{
	struct fuse_getattr_in in = {0};
	struct fuse_attr_out o;
	int r;

	begin(FUSE_GETATTR, id);
	add(&in, sizeof(in));
	r = call();
	if (r == 0) {
		CHECK_EQ(got, sizeof(o));
		memcpy(&o, answer, sizeof(o));
		*a = o.attr;
	}
	return r;
}

static int setattr(uint64_t id, const struct fuse_setattr_in *in)
{
	begin(FUSE_SETATTR, id);
	add(in, sizeof(*in));
	return call();
}

static int mkdir_fs(uint64_t dir, const char *name, uint32_t mode, struct fuse_entry_out *e)
{
	struct fuse_mkdir_in in = {.mode = mode};

	begin(FUSE_MKDIR, dir);
	add(&in, sizeof(in));
	str(name);
	return entry(e);
}

static int mknod_fs(uint64_t dir, const char *name, uint32_t mode)
{
	struct fuse_mknod_in in = {.mode = mode, .rdev = 0x103};
	struct fuse_entry_out e;

	begin(FUSE_MKNOD, dir);
	add(&in, sizeof(in));
	str(name);
	return entry(&e);
}

static int symlink_fs(uint64_t dir, const char *name, const char *target)
{
	struct fuse_entry_out e;

	begin(FUSE_SYMLINK, dir);
	str(name);
	str(target);
	return entry(&e);
}

static int link_fs(uint64_t id, uint64_t dir, const char *name, struct fuse_entry_out *e)
{
	struct fuse_link_in in = {.oldnodeid = id};

	begin(FUSE_LINK, dir);
	add(&in, sizeof(in));
	str(name);
	return entry(e);
}

static int rename_fs(uint64_t dir, const char *name, uint64_t to, const char *new_name,
		     uint32_t flags)
{
	struct fuse_rename2_in in = {.newdir = to, .flags = flags};

	begin(FUSE_RENAME2, dir);
	add(&in, sizeof(in));
	str(name);
	str(new_name);
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

static struct fs_session *session(bool read_only)
{
	struct fs_session *p = NULL;
	int root = open(host("share"), O_PATH | O_DIRECTORY), proc;

	proc = open("/proc/self/fd", O_PATH | O_DIRECTORY);
	CHECK(root >= 0 && proc >= 0);
	CHECK_EQ(fs_new(root, proc, read_only, &p), 0);
	return p;
}

/* --- conformance --- */

static void before_init(void)
{
	struct fuse_init_in in = {.major = 7, .minor = 30};
	struct fuse_attr a;

	CHECK_EQ(getattr(1, &a), -ENOTCONN);
	begin(FUSE_INIT, 0);
	add(&in, sizeof(in));
	CHECK_EQ(call(), -EPROTO);
	in.major = 8; /* is told ours, and asks again */
	begin(FUSE_INIT, 0);
	add(&in, sizeof(in));
	CHECK_EQ(call(), 0);
	CHECK_EQ(load_le32(answer), 7);
	CHECK_EQ(getattr(1, &a), -ENOTCONN);
}

static void files(void)
{
	struct fuse_setattr_in set = {.valid = FATTR_MODE | FATTR_SIZE | FATTR_MTIME,
				      .mode = 0600,
				      .size = 5,
				      .mtime = 1000000,
				      .mtimensec = 7};
	struct fuse_fsync_in sync = {.fsync_flags = 1};
	struct fuse_entry_out e;
	struct fuse_attr a;
	struct stat st;
	uint64_t fh, fh2;

	CHECK_EQ(create(1, "new", O_RDWR | O_EXCL, 0640, &e, &fh), 0);
	CHECK_EQ(e.attr.mode, S_IFREG | 0640);
	CHECK_EQ(write_fs(e.nodeid, fh, 0, "hello world", 11, 0), 11);
	CHECK_EQ(write_fs(e.nodeid, fh, 6, "WORLD", 5, 0), 5);
	CHECK_EQ(read_fs(e.nodeid, fh, 0, 100, FUSE_READ), 11);
	CHECK(memcmp(answer, "hello WORLD", 11) == 0);
	CHECK_EQ(read_fs(e.nodeid, fh, 11, 100, FUSE_READ), 0);
	CHECK_EQ(read_fs(e.nodeid, fh, 9, 100, FUSE_READ), 2);
	CHECK_EQ(read_fs(e.nodeid, fh, 0, 4, FUSE_READ), 4);
	CHECK_EQ(read_fs(e.nodeid, fh, UINT64_MAX, 4, FUSE_READ), -EINVAL);
	sync.fh = fh;
	begin(FUSE_FSYNC, e.nodeid);
	add(&sync, sizeof(sync));
	CHECK_EQ(call(), 0);
	CHECK_EQ(setattr(e.nodeid, &set), 0);
	CHECK_EQ(stat(host("share/new"), &st), 0);
	CHECK_EQ(st.st_mode & 07777, 0600);
	CHECK_EQ(st.st_size, 5);
	CHECK_EQ(st.st_mtime, 1000000);
	CHECK_EQ(st.st_mtim.tv_nsec, 7);
	CHECK_EQ(create(1, "new", O_RDWR | O_EXCL, 0640, &e, &fh2), -EEXIST);
	CHECK_EQ(create(1, "new", O_RDWR | O_TRUNC, 0640, &e, &fh2), 0); /* the existing one */
	CHECK_EQ(e.attr.mode & 07777, 0600);
	CHECK_EQ(e.attr.size, 0);
	CHECK_EQ(release(e.nodeid, fh2), 0);
	CHECK_EQ(release(e.nodeid, fh2), -EBADF);
	CHECK_EQ(open_op(FUSE_OPEN, e.nodeid, O_RDONLY, &fh2), 0);
	CHECK(fh2 != fh);
	CHECK_EQ(write_fs(e.nodeid, fh2, 0, "x", 1, 0), -EBADF);
	CHECK_EQ(release(e.nodeid, fh2), 0);
	/* Without a name it lives on while open. */
	CHECK_EQ(named(FUSE_UNLINK, 1, "new"), 0);
	CHECK_EQ(getattr(e.nodeid, &a), 0);
	CHECK_EQ(a.nlink, 0);
	CHECK_EQ(write_fs(e.nodeid, fh, 0, "alive", 5, 0), 5);
	CHECK_EQ(read_fs(e.nodeid, fh, 0, 10, FUSE_READ), 5);
	forget(e.nodeid, 100);
	CHECK_EQ(getattr(e.nodeid, &a), 0);
	CHECK_EQ(release(e.nodeid, fh), 0);
	CHECK_EQ(getattr(e.nodeid, &a), -ESTALE);
	CHECK_EQ(lookup(1, "new", &e), -ENOENT);
}

/* Holes, preallocation, copies, set-id bits. */
static void file_tricks(void)
{
	struct fuse_lseek_in seek = {.whence = SEEK_DATA};
	struct fuse_fallocate_in alloc = {.length = 1 << 20};
	struct fuse_copy_file_range_in copy = {.len = UINT64_MAX};
	struct fuse_setattr_in set = {.valid = FATTR_MODE, .mode = 06755};
	struct fuse_entry_out e, e2;
	uint64_t fh, fh2;
	struct stat st;
	int r;

	CHECK_EQ(create(1, "a", O_RDWR, 0644, &e, &fh), 0);
	CHECK_EQ(create(1, "b", O_RDWR, 0644, &e2, &fh2), 0);
	CHECK_EQ(write_fs(e.nodeid, fh, 100, "data", 4, 0), 4);
	seek.fh = fh;
	begin(FUSE_LSEEK, e.nodeid);
	add(&seek, sizeof(seek));
	CHECK_EQ(call(), 0);
	CHECK_EQ(got, 8);
	seek.whence = SEEK_END;
	begin(FUSE_LSEEK, e.nodeid);
	add(&seek, sizeof(seek));
	CHECK_EQ(call(), -EINVAL);
	copy.fh_in = fh;
	copy.fh_out = fh2;
	begin(FUSE_COPY_FILE_RANGE, e.nodeid);
	add(&copy, sizeof(copy));
	CHECK_EQ(call(), 0);
	CHECK_EQ(load_le32(answer), 104);
	CHECK_EQ(read_fs(e2.nodeid, fh2, 100, 10, FUSE_READ), 4);
	alloc.fh = fh2;
	begin(FUSE_FALLOCATE, e2.nodeid);
	add(&alloc, sizeof(alloc));
	r = call();
	CHECK(r == 0 || r == -EOPNOTSUPP);
	alloc.mode = 0x40000000;
	begin(FUSE_FALLOCATE, e2.nodeid);
	add(&alloc, sizeof(alloc));
	CHECK_EQ(call(), -EOPNOTSUPP);
	CHECK_EQ(setattr(e.nodeid, &set), 0);
	CHECK_EQ(stat(host("share/a"), &st), 0);
	CHECK_EQ(st.st_mode & 07777, 06755);
	CHECK_EQ(write_fs(e.nodeid, fh, 0, "x", 1, FUSE_WRITE_KILL_SUIDGID), 1);
	CHECK_EQ(stat(host("share/a"), &st), 0);
	CHECK_EQ(st.st_mode & 07777, 0755);
	CHECK_EQ(release(e.nodeid, fh), 0);
	CHECK_EQ(release(e2.nodeid, fh2), 0);
	CHECK_EQ(named(FUSE_UNLINK, 1, "a"), 0);
	CHECK_EQ(named(FUSE_UNLINK, 1, "b"), 0);
}

static void names(void)
{
	struct fuse_setattr_in set = {.valid = FATTR_MTIME, .mtime = 7777};
	struct fuse_entry_out dir, e, hard;
	struct fuse_attr a;
	struct stat st;
	uint64_t fh;

	CHECK_EQ(mkdir_fs(1, "dir", 0751, &dir), 0);
	CHECK_EQ(stat(host("share/dir"), &st), 0);
	CHECK_EQ(st.st_mode, S_IFDIR | 0751); /* whatever the umask */
	CHECK_EQ(dir.attr.mode, st.st_mode);
	CHECK_EQ(mkdir_fs(1, "dir", 0700, &e), -EEXIST);
	CHECK_EQ(mknod_fs(dir.nodeid, "plain", S_IFREG | 0604), 0);
	CHECK_EQ(mknod_fs(dir.nodeid, "fifo", S_IFIFO | 0600), 0);
	CHECK_EQ(mknod_fs(dir.nodeid, "sock", S_IFSOCK | 0600), 0);
	CHECK_EQ(mknod_fs(dir.nodeid, "dev", S_IFCHR | 0600), -EPERM);
	CHECK_EQ(mknod_fs(dir.nodeid, "dev", S_IFBLK | 0600), -EPERM);
	CHECK_EQ(mknod_fs(dir.nodeid, "dev", S_IFDIR | 0700), -EPERM);
	CHECK_EQ(open_op(FUSE_OPEN, node(dir.nodeid, "fifo"), O_RDONLY, &fh), -EACCES);
	CHECK_EQ(lookup(dir.nodeid, "plain", &e), 0);
	/* All names of an object are one node. */
	CHECK_EQ(link_fs(e.nodeid, 1, "hard", &hard), 0);
	CHECK_EQ(hard.nodeid, e.nodeid);
	CHECK_EQ(hard.attr.nlink, 2);
	CHECK_EQ(node(dir.nodeid, "plain"), e.nodeid);
	CHECK_EQ(symlink_fs(dir.nodeid, "soft", "../../anything"), 0);
	CHECK_EQ(lookup(dir.nodeid, "soft", &e), 0);
	begin(FUSE_READLINK, e.nodeid);
	CHECK_EQ(call(), 0);
	CHECK_EQ(got, 14);
	CHECK(memcmp(answer, "../../anything", 14) == 0);
	CHECK_EQ(setattr(e.nodeid, &set), 0); /* the link's own time */
	CHECK_EQ(lstat(host("share/dir/soft"), &st), 0);
	CHECK_EQ(st.st_mtime, 7777);
	set.valid = FATTR_MODE;
	CHECK_EQ(setattr(e.nodeid, &set), -EOPNOTSUPP);
	/* Renaming: nodes stay good. */
	CHECK_EQ(rename_fs(1, "dir", 1, "moved", 0), 0);
	CHECK_EQ(getattr(e.nodeid, &a), 0);
	CHECK_EQ(rename_fs(1, "moved", 1, "hard", RENAME_NOREPLACE), -EEXIST);
	CHECK_EQ(rename_fs(1, "moved", 1, "hard", RENAME_EXCHANGE), -EINVAL);
	CHECK_EQ(rename_fs(1, "moved", dir.nodeid, "below", 0), -EINVAL);
	CHECK_EQ(rename_fs(dir.nodeid, "soft", 1, "up", 0), 0);
	CHECK_EQ(node(1, "up"), e.nodeid);
	CHECK_EQ(named(FUSE_UNLINK, 1, "moved"), -EISDIR);
	CHECK_EQ(named(FUSE_RMDIR, 1, "moved"), -ENOTEMPTY);
	CHECK_EQ(named(FUSE_RMDIR, 1, "up"), -ENOTDIR);
	CHECK_EQ(named(FUSE_UNLINK, 1, "up"), 0);
	CHECK_EQ(named(FUSE_UNLINK, 1, "hard"), 0);
	CHECK_EQ(named(FUSE_UNLINK, dir.nodeid, "plain"), 0);
	CHECK_EQ(named(FUSE_UNLINK, dir.nodeid, "fifo"), 0);
	CHECK_EQ(named(FUSE_UNLINK, dir.nodeid, "sock"), 0);
	CHECK_EQ(named(FUSE_RMDIR, 1, "moved"), 0);
	begin(FUSE_STATFS, 1);
	CHECK_EQ(call(), 0);
	CHECK_EQ(got, sizeof(struct fuse_statfs_out));
}

/* In a set-group-id directory, as local file systems do it. */
static void groups(void)
{
	struct fuse_entry_out dir, e;
	struct stat st;

	CHECK_EQ(mkdir_fs(1, "group", 0755, &dir), 0);
	CHECK_EQ(chmod(host("share/group"), 02775), 0);
	CHECK_EQ(mkdir_fs(dir.nodeid, "sub", 0755, &e), 0);
	CHECK_EQ(stat(host("share/group/sub"), &st), 0);
	CHECK_EQ(st.st_mode & 07777, 02755);
}

/* A server that cannot give files away makes them its own, whoever asks. */
static void owners(void)
{
	struct fuse_setattr_in set = {.valid = FATTR_UID | FATTR_GID, .uid = 1234, .gid = 0};
	struct fuse_create_in in = {.flags = O_RDWR | O_CREAT, .mode = S_IFREG | 0600};
	bool could = s->tree.can_give;
	struct fuse_entry_out e;
	struct stat st;

	for (int i = 0; i < 2; i++) {
		s->tree.can_give = could && i == 0;
		begin(FUSE_CREATE, 1);
		store_le32(request + offsetof(struct fuse_in_header, uid), 1234);
		add(&in, sizeof(in));
		str("owned");
		CHECK_EQ(entry(&e), 0);
		CHECK_EQ(stat(host("share/owned"), &st), 0);
		CHECK_EQ(st.st_uid, s->tree.can_give ? 1234 : geteuid());
		CHECK_EQ(e.attr.uid, s->tree.can_give ? 1234 : 0);
		CHECK_EQ(setattr(e.nodeid, &set), s->tree.can_give ? 0 : -EPERM);
		CHECK_EQ(named(FUSE_UNLINK, 1, "owned"), 0);
	}
	s->tree.can_give = could;
}

/* The guest has to ask for names each time, and may keep content that is as it was. */
static void caching(void)
{
	struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	struct fuse_entry_out e, e2;
	uint64_t fh;

	host_file("share/kept", "one");
	CHECK_EQ(lookup(1, "kept", &e), 0);
	CHECK_EQ(e.entry_valid, 0);
	CHECK_EQ(e.entry_valid_nsec, 0);
	CHECK_EQ(e.attr_valid, 1);
	/* Just changed: a second change may bear the same time. */
	CHECK_EQ(utimensat(AT_FDCWD, host("share/kept"), old, 0), 0);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(open_op(FUSE_OPEN, e.nodeid, O_RDONLY, &fh), 0);
		CHECK_EQ(release(e.nodeid, fh), 0);
	}
	usleep(2100000);
	CHECK_EQ(open_op(FUSE_OPEN, e.nodeid, O_RDONLY, &fh), 0);
	CHECK_EQ(release(e.nodeid, fh), 0);
	CHECK_EQ(open_op(FUSE_OPEN, e.nodeid, O_RDONLY, &fh), FOPEN_KEEP_CACHE);
	CHECK_EQ(release(e.nodeid, fh), 0);
	host_file("share/kept", "two");
	CHECK_EQ(open_op(FUSE_OPEN, e.nodeid, O_RDONLY, &fh), 0);
	CHECK_EQ(release(e.nodeid, fh), 0);
	/* Another file under the name is another node, even with the old number. */
	CHECK_EQ(unlink(host("share/kept")), 0);
	host_file("share/kept", "new");
	CHECK_EQ(lookup(1, "kept", &e2), 0);
	CHECK(e2.nodeid != e.nodeid);
	CHECK_EQ(unlink(host("share/kept")), 0);
}

/* @size bytes a call: entries come once each, whatever the size. */
static void list(uint64_t dir, uint32_t size, uint32_t op)
{
	size_t plus = op == FUSE_READDIRPLUS ? sizeof(struct fuse_entry_out) : 0;
	unsigned int n = 0, seen[200] = {0};
	uint64_t off = 0, fh;

	CHECK_EQ(open_op(FUSE_OPENDIR, dir, O_RDONLY, &fh), 0);
	for (;;) {
		int64_t have = read_fs(dir, fh, off, size, op);

		CHECK(have >= 0 && have <= size);
		if (!have)
			break;
		for (int64_t at = 0; at < have;) {
			struct fuse_entry_out e = {0};
			struct fuse_dirent d;
			char name[256] = "";
			unsigned int i;

			memcpy(&e, answer + at, plus);
			memcpy(&d, answer + at + plus, FUSE_NAME_OFFSET);
			CHECK(d.namelen < 256);
			memcpy(name, answer + at + plus + FUSE_NAME_OFFSET, d.namelen);
			off = d.off;
			if (sscanf(name, "file%u", &i) == 1) {
				CHECK(i < 200);
				seen[i]++;
				CHECK(!plus || (e.nodeid && S_ISREG(e.attr.mode)));
				CHECK(!plus || e.attr.ino == d.ino);
				if (plus)
					forget(e.nodeid, 1);
				CHECK_EQ(d.type, DT_REG);
			} else {
				CHECK(!e.nodeid);
			}
			at += (int64_t)FUSE_REC_ALIGN(plus + FUSE_NAME_OFFSET + d.namelen);
			n++;
		}
	}
	CHECK_EQ(n, 202);
	for (unsigned int i = 0; i < 200; i++)
		CHECK_EQ(seen[i], 1);
	CHECK_EQ(read_fs(dir, fh, 0, 10, op), -EINVAL);
	CHECK_EQ(read_fs(dir, fh, 0, 100, FUSE_READ), -EISDIR);
	CHECK_EQ(release(dir, fh), 0);
}

static void directories(void)
{
	struct fuse_entry_out dir;
	unsigned int before;
	char name[64];
	uint64_t fh;

	CHECK_EQ(mkdir_fs(1, "many", 0755, &dir), 0);
	for (unsigned int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "share/many/file%u", i);
		host_file(name, "");
	}
	before = s->n_inodes;
	list(dir.nodeid, 60000, FUSE_READDIR);
	list(dir.nodeid, 300, FUSE_READDIR);
	list(dir.nodeid, 64, FUSE_READDIR);
	list(dir.nodeid, 60000, FUSE_READDIRPLUS);
	list(dir.nodeid, 4096, FUSE_READDIRPLUS);
	list(dir.nodeid, 200, FUSE_READDIRPLUS);
	CHECK_EQ(s->n_inodes, before); /* every lookup was forgotten */
	CHECK_EQ(open_op(FUSE_OPENDIR, node(dir.nodeid, "file0"), O_RDONLY, &fh), -ENOTDIR);
	CHECK_EQ(open_op(FUSE_OPEN, dir.nodeid, O_RDONLY, &fh), -EISDIR);
}

static int set_xattr(uint64_t id, const char *name, const char *value, uint32_t size)
{
	uint32_t in[2] = {size, 0};

	begin(FUSE_SETXATTR, id);
	add(in, sizeof(in));
	str(name);
	add(value, strlen(value));
	return call();
}

static int get_xattr(uint64_t id, uint32_t op, const char *name, uint32_t size)
{
	struct fuse_getxattr_in in = {.size = size};

	begin(op, id);
	add(&in, sizeof(in));
	if (name)
		str(name);
	return call();
}

static void xattrs(void)
{
	uint64_t id;

	host_file("share/attr", "x");
	id = node(1, "attr");
	CHECK_EQ(set_xattr(id, "security.capability", "x", 1), -EOPNOTSUPP);
	CHECK_EQ(set_xattr(id, "trusted.x", "x", 1), -EOPNOTSUPP);
	CHECK_EQ(set_xattr(id, "user.long", "x", 2), -EINVAL);
	CHECK_EQ(get_xattr(id, FUSE_GETXATTR, "system.posix_acl_access", 100), -EOPNOTSUPP);
	if (set_xattr(id, "user.colour", "blue", 4) == -EOPNOTSUPP)
		return; /* a file system without them */
	CHECK_EQ(get_xattr(id, FUSE_GETXATTR, "user.colour", 0), 0);
	CHECK_EQ(load_le32(answer), 4);
	CHECK_EQ(get_xattr(id, FUSE_GETXATTR, "user.colour", 3), -ERANGE);
	CHECK_EQ(get_xattr(id, FUSE_GETXATTR, "user.colour", 4), 0);
	CHECK(got == 4 && memcmp(answer, "blue", 4) == 0);
	CHECK_EQ(get_xattr(id, FUSE_GETXATTR, "user.none", 4), -ENODATA);
	CHECK_EQ(get_xattr(id, FUSE_LISTXATTR, NULL, 100), 0);
	CHECK(got == 12 && memcmp(answer, "user.colour", 12) == 0);
	CHECK_EQ(named(FUSE_REMOVEXATTR, id, "user.colour"), 0);
	CHECK_EQ(named(FUSE_REMOVEXATTR, id, "user.colour"), -ENODATA);
	CHECK_EQ(named(FUSE_REMOVEXATTR, id, "security.capability"), -EOPNOTSUPP);
}

/* --- attempts to leave --- */

static void bad_names(uint64_t in)
{
	static const char *const bad[] = {"",    ".",         "..",          "/",  "/etc",
					  "a/b", "../secret", "share/../..", "x/", NULL};
	struct fuse_entry_out e;
	char long_name[300];
	uint64_t fh;

	for (unsigned int i = 0; bad[i]; i++) {
		CHECK_EQ(lookup(in, bad[i], &e), -EINVAL);
		CHECK_EQ(lookup(1, bad[i], &e), -EINVAL);
		CHECK_EQ(mkdir_fs(1, bad[i], 0700, &e), -EINVAL);
		CHECK_EQ(create(1, bad[i], O_RDWR, 0600, &e, &fh), -EINVAL);
		CHECK_EQ(symlink_fs(1, bad[i], "x"), -EINVAL);
		CHECK_EQ(mknod_fs(1, bad[i], S_IFREG), -EINVAL);
		CHECK_EQ(link_fs(in, 1, bad[i], &e), -EINVAL);
		CHECK_EQ(rename_fs(1, "in", 1, bad[i], 0), -EINVAL);
		CHECK_EQ(rename_fs(1, bad[i], 1, "y", 0), -EINVAL);
		CHECK_EQ(named(FUSE_UNLINK, 1, bad[i]), -EINVAL);
		CHECK_EQ(named(FUSE_RMDIR, in, bad[i]), -EINVAL);
	}
	memset(long_name, 'n', sizeof(long_name));
	long_name[256] = '\0';
	CHECK_EQ(mkdir_fs(1, long_name, 0700, &e), -EINVAL);
	long_name[255] = '\0';
	CHECK_EQ(mkdir_fs(1, long_name, 0700, &e), 0);
	CHECK_EQ(named(FUSE_RMDIR, 1, long_name), 0);
	/* no NUL at the end */
	begin(FUSE_LOOKUP, 1);
	add("in", 2);
	CHECK_EQ(call(), -EINVAL);
}

static void escapes(void)
{
	struct fuse_setattr_in size = {.valid = FATTR_SIZE};
	struct fuse_entry_out in, out, e;
	struct stat st;
	uint64_t fh;

	host_file("secret", "top secret");
	CHECK_EQ(symlink("../secret", host("share/out")), 0);
	CHECK_EQ(symlink(base, host("share/outdir")), 0);
	CHECK_EQ(mkdir_fs(1, "in", 0755, &in), 0);
	bad_names(in.nodeid);
	/* symlinks are objects */
	CHECK_EQ(lookup(1, "out", &out), 0);
	CHECK(S_ISLNK(out.attr.mode));
	CHECK_EQ(open_op(FUSE_OPEN, out.nodeid, O_RDONLY, &fh), -ELOOP);
	CHECK_EQ(setattr(out.nodeid, &size), -EINVAL);
	CHECK_EQ(create(1, "out", O_RDWR | O_TRUNC, 0600, &e, &fh), -ELOOP);
	/* and a link to one is one */
	CHECK_EQ(link_fs(out.nodeid, 1, "out2", &e), 0);
	CHECK(S_ISLNK(e.attr.mode));
	CHECK_EQ(lookup(1, "outdir", &out), 0);
	CHECK_EQ(lookup(out.nodeid, "secret", &e), -ENOTDIR);
	CHECK_EQ(open_op(FUSE_OPENDIR, out.nodeid, O_RDONLY, &fh), -ENOTDIR);
	CHECK_EQ(create(out.nodeid, "x", O_RDWR, 0600, &e, &fh), -ENOTDIR);
	CHECK_EQ(mkdir_fs(out.nodeid, "x", 0700, &e), -ENOTDIR);
	CHECK_EQ(rename_fs(1, "in", out.nodeid, "x", 0), -ENOTDIR);
	CHECK_EQ(named(FUSE_UNLINK, out.nodeid, "secret"), -ENOTDIR);
	/* a directory that was moved out leads nowhere but down */
	CHECK_EQ(rename(host("share/in"), host("in")), 0);
	CHECK_EQ(lookup(in.nodeid, "secret", &e), -ENOENT);
	CHECK_EQ(lookup(in.nodeid, "..", &e), -EINVAL);
	CHECK_EQ(rename(host("in"), host("share/in")), 0);
	CHECK_EQ(stat(host("secret"), &st), 0);
	CHECK(st.st_size == 10 && st.st_nlink == 1);
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
	pthread_t t;

	CHECK_EQ(mkdir(host("share/flip"), 0755), 0);
	host_file("share/flip/secret", "mine");
	racing = true;
	CHECK_EQ(pthread_create(&t, NULL, racer, NULL), 0);
	for (unsigned int i = 0; i < 5000 || (!inside && i < 1000000); i++) {
		struct fuse_entry_out dir, e;
		uint64_t fh;

		if (lookup(1, "flip", &dir) < 0)
			continue;
		if (lookup(dir.nodeid, "secret", &e) == 0) {
			if (open_op(FUSE_OPEN, e.nodeid, O_RDONLY, &fh) >= 0) {
				CHECK_EQ(read_fs(e.nodeid, fh, 0, 64, FUSE_READ), 4);
				CHECK_EQ(release(e.nodeid, fh), 0);
				inside++;
			}
			forget(e.nodeid, 1);
		}
		forget(dir.nodeid, 1);
	}
	racing = false;
	pthread_join(t, NULL);
	CHECK(inside > 0);
}

static void read_only(void)
{
	struct fuse_setattr_in set = {.valid = FATTR_MODE, .mode = 0600};
	struct fuse_entry_out e;
	uint64_t id, fh;

	fs_free(s);
	s = session(true);
	start();
	id = node(1, "attr");
	CHECK_EQ(open_op(FUSE_OPEN, id, O_RDWR, &fh), -EROFS);
	CHECK_EQ(open_op(FUSE_OPEN, id, O_WRONLY, &fh), -EROFS);
	CHECK_EQ(open_op(FUSE_OPEN, id, O_RDONLY | O_TRUNC, &fh), -EROFS);
	for (unsigned int bit = 0; bit < 12; bit++) {
		set.valid = 1u << bit;
		CHECK_EQ(setattr(id, &set), -EROFS);
	}
	CHECK_EQ(set_xattr(id, "user.x", "y", 1), -EROFS);
	CHECK_EQ(named(FUSE_REMOVEXATTR, id, "user.x"), -EROFS);
	CHECK_EQ(link_fs(id, 1, "hard", &e), -EROFS);
	CHECK_EQ(mkdir_fs(1, "x", 0755, &e), -EROFS);
	CHECK_EQ(symlink_fs(1, "x", "y"), -EROFS);
	CHECK_EQ(mknod_fs(1, "x", S_IFREG), -EROFS);
	CHECK_EQ(rename_fs(1, "attr", 1, "x", 0), -EROFS);
	CHECK_EQ(named(FUSE_UNLINK, 1, "attr"), -EROFS);
	CHECK_EQ(named(FUSE_RMDIR, 1, "in"), -EROFS);
	CHECK_EQ(create(1, "x", O_RDWR, 0600, &e, &fh), -EROFS);
	CHECK_EQ(create(1, "attr", O_RDONLY, 0600, &e, &fh), -EROFS);
	CHECK_EQ(open_op(FUSE_OPEN, id, O_RDONLY, &fh), 0);
	CHECK_EQ(read_fs(id, fh, 0, 16, FUSE_READ), 1);
	CHECK_EQ(write_fs(id, fh, 0, "x", 1, 0), -EBADF);
	CHECK_EQ(access(host("share/attr"), F_OK), 0);
}

/* More nodes than descriptors: all of them still work; handles have a limit of their own. */
static void many_nodes(void)
{
	struct rlimit limit;
	uint64_t ids[200], fh[65], dir;
	struct fuse_attr a;
	char name[64];

	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = 256;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	s = session(false);
	start();
	dir = node(1, "many");
	for (unsigned int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "file%u", i);
		ids[i] = node(dir, name);
	}
	CHECK(s->tree.n_fds <= 64 + 2);
	CHECK_EQ(rename_fs(1, "many", 1, "more", 0), 0);
	for (unsigned int i = 0; i < 200; i++)
		CHECK_EQ(getattr(ids[i], &a), 0);
	/* A file replaced behind our back is not taken for the old one. */
	CHECK_EQ(rename(host("share/more/file0"), host("share/more/other")), 0);
	host_file("share/more/file0", "new");
	CHECK_EQ(getattr(ids[0], &a), -ESTALE);
	CHECK_EQ(node(dir, "other"), ids[0]); /* found where it is now */
	CHECK_EQ(getattr(ids[0], &a), 0);
	for (unsigned int i = 0; i < 64; i++)
		CHECK_EQ(open_op(FUSE_OPEN, ids[i], O_RDONLY, &fh[i]), 0);
	CHECK_EQ(open_op(FUSE_OPEN, ids[64], O_RDONLY, &fh[64]), -ENFILE);
	/* Open files keep their descriptors: names may go. */
	CHECK_EQ(unlink(host("share/more/file5")), 0);
	for (unsigned int i = 64; i < 200; i++)
		CHECK_EQ(getattr(ids[i], &a), 0);
	CHECK_EQ(getattr(ids[5], &a), 0);
	CHECK_EQ(release(ids[63], fh[63]), 0);
	CHECK_EQ(open_op(FUSE_OPEN, ids[64], O_RDONLY, &fh[64]), 0);
	CHECK_EQ(getattr(ids[64], &a), 0);
	fs_reset(s);
	CHECK_EQ(s->n_inodes, 1);
	fs_free(s);
}

/* Depth is bounded, and a deep chain of parents neither overflows the stack nor hangs. */
static void deep(void)
{
	struct fuse_entry_out e = {.nodeid = 1};
	unsigned int depth = 0;

	while (depth < 2000 && mkdir_fs(e.nodeid, "d", 0755, &e) == 0)
		depth++;
	CHECK_EQ(depth, TREE_DEPTH_MAX);
	start(); /* forgets all */
	CHECK_EQ(s->n_inodes, 1);
}

static void forgetting(void)
{
	struct fuse_batch_forget_in batch = {.count = UINT32_MAX};
	struct fuse_forget_one one[3] = {{.nlookup = 1}, {99999, 5}, {1, UINT64_MAX}};
	struct fuse_attr a;
	struct iovec out;
	uint64_t id, again;

	host_file("share/known", "");
	id = node(1, "known");
	again = node(1, "known");
	CHECK_EQ(id, again);
	forget(id, 1);
	CHECK_EQ(getattr(id, &a), 0);
	one[0].nodeid = id;
	begin(FUSE_BATCH_FORGET, 0);
	add(&batch, sizeof(batch));
	add(one, sizeof(one));
	store_le32(request, (uint32_t)len);
	out = (struct iovec){request, len};
	CHECK_EQ(fs_handle(s, &out, 1, NULL, 0), 0);
	CHECK_EQ(getattr(id, &a), -ESTALE);
	CHECK_EQ(getattr(1, &a), 0); /* the root stays */
	CHECK(node(1, "known") != id);
}

static void malformed(void)
{
	struct iovec out = {request, 40}, in = {reply, 100};
	struct fuse_attr a;

	begin(FUSE_GETATTR, 1);
	store_le32(request, 40);
	out.iov_len = 39;
	CHECK_EQ(fs_handle(s, &out, 1, &in, 1), -1); /* no header */
	out.iov_len = 40;
	store_le32(request, 41);
	CHECK_EQ(fs_handle(s, &out, 1, &in, 1), -1); /* longer than it is */
	store_le32(request, 39);
	CHECK_EQ(fs_handle(s, &out, 1, &in, 1), -1);
	store_le32(request, 40);
	in.iov_len = 15;
	CHECK_EQ(fs_handle(s, &out, 1, &in, 1), -1); /* no room for an error */
	in.iov_len = 16;
	CHECK_EQ(fs_handle(s, &out, 1, &in, 1), 16); /* arguments are missing */
	CHECK_EQ((int32_t)load_le32(reply + 4), -EINVAL);
	/* Unknown requests, nodes, handles. */
	for (uint32_t op = 0; op < 100; op++) {
		if (op == FUSE_FORGET || op == FUSE_BATCH_FORGET || op == FUSE_INTERRUPT ||
		    op == FUSE_INIT || op == FUSE_DESTROY)
			continue;
		begin(op, 12345678);
		memset(request + len, 'x', 200);
		len += 200;
		CHECK(call() < 0);
	}
	begin(UINT32_MAX, 1);
	CHECK_EQ(call(), -ENOSYS);
	begin(FUSE_FLUSH, 1);
	CHECK_EQ(call(), -ENOSYS);
	CHECK_EQ(release(1, 5), -EBADF);
	CHECK_EQ(release(1, UINT64_MAX), -EBADF);
	CHECK_EQ(read_fs(1, 1, 0, 100, FUSE_READ), -EBADF);
	/* More to write than is there. */
	{
		struct fuse_write_in w = {.size = 100};
		struct fuse_entry_out e;

		CHECK_EQ(create(1, "short", O_RDWR, 0600, &e, &w.fh), 0);
		begin(FUSE_WRITE, e.nodeid);
		add(&w, sizeof(w));
		add("12345", 5);
		CHECK_EQ(call(), -EINVAL);
		CHECK_EQ(named(FUSE_UNLINK, 1, "short"), 0);
	}
	/* A good answer that has no room. */
	begin(FUSE_LOOKUP, 1);
	str("attr");
	CHECK_EQ(call_room(sizeof(struct fuse_entry_out) - 1), -EINVAL);
	CHECK_EQ(getattr(1, &a), 0);
	begin(FUSE_DESTROY, 0);
	CHECK_EQ(call(), 0);
	CHECK_EQ(getattr(1, &a), -ENOTCONN);
	start();
}

/* --- through the device --- */

static uint64_t dev_out, dev_in;

static uint32_t device_call(struct drv *v, uint32_t in_len)
{
	struct drv_buf b[3] = {{dev_out, (uint32_t)len}, {dev_in, 16}, {dev_in + 4096, in_len}};
	struct timespec tick = {.tv_nsec = 100000};
	uint16_t head;
	uint32_t n;

	store_le32(request, (uint32_t)len);
	CHECK_EQ(gmem_write(v->m, dev_out, request, len), 0);
	CHECK(drv_post(v, 1, b, 1, 2, 0) >= 0);
	drv_kick(v, 1);
	for (unsigned int i = 0; !drv_used(v, 1, &head, &n); i++) {
		CHECK(i < 100000);
		nanosleep(&tick, NULL);
	}
	CHECK_EQ(gmem_read(v->m, dev_in, reply, 16), 0);
	CHECK_EQ(gmem_read(v->m, dev_in + 4096, reply + 16, in_len), 0);
	answer = reply + 16;
	return n;
}

static void device_buffers(struct drv *v)
{
	dev_out = drv_alloc(v, 1 << 20, 4096);
	dev_in = drv_alloc(v, 2 << 20, 4096);
}

static void device_init(struct drv *v)
{
	struct fuse_init_in in = {.major = 7, .minor = 31};

	begin(FUSE_INIT, 0);
	add(&in, 16); /* as older guests send it */
	CHECK_EQ(device_call(v, 64), 16 + 64);
}

/* A FORGET on the queue for those in a hurry. */
static void device_forget(struct drv *v, uint64_t id)
{
	struct fuse_forget_in in = {1};
	struct timespec tick = {.tv_nsec = 100000};
	struct drv_buf b;
	uint16_t head;
	uint32_t n = 1;

	begin(FUSE_FORGET, id);
	add(&in, sizeof(in));
	store_le32(request, (uint32_t)len);
	CHECK_EQ(gmem_write(v->m, dev_out, request, len), 0);
	b = (struct drv_buf){dev_out, (uint32_t)len};
	CHECK(drv_post(v, 0, &b, 1, 0, 0) >= 0);
	drv_kick(v, 0);
	for (unsigned int i = 0; !drv_used(v, 0, &head, &n); i++) {
		CHECK(i < 100000);
		nanosleep(&tick, NULL);
	}
	CHECK_EQ(n, 0);
}

static void device_file(struct drv *v)
{
	struct fuse_create_in in = {.flags = O_RDWR | O_CREAT, .mode = S_IFREG | 0644};
	struct fuse_write_in w = {.size = FS_MAX_WRITE / 2};
	struct fuse_read_in rd = {.size = FS_MAX_WRITE};
	struct fuse_entry_out e;
	struct fuse_open_out o;

	begin(FUSE_CREATE, 1);
	add(&in, sizeof(in));
	str("through");
	CHECK_EQ(device_call(v, sizeof(e) + sizeof(o)), 16 + sizeof(e) + sizeof(o));
	CHECK_EQ((int32_t)load_le32(reply + 4), 0);
	memcpy(&e, answer, sizeof(e));
	memcpy(&o, answer + sizeof(e), sizeof(o));
	w.fh = rd.fh = o.fh;
	begin(FUSE_WRITE, e.nodeid);
	add(&w, sizeof(w));
	for (uint32_t i = 0; i < w.size; i++)
		request[len++] = (uint8_t)(i * 7);
	CHECK_EQ(device_call(v, 8), 16 + 8);
	CHECK_EQ(load_le32(answer), w.size);
	begin(FUSE_READ, e.nodeid);
	add(&rd, sizeof(rd));
	CHECK_EQ(device_call(v, rd.size), 16 + w.size);
	for (uint32_t i = 0; i < w.size; i++)
		CHECK_EQ(answer[i], (uint8_t)(i * 7));
	device_forget(v, e.nodeid);
}

static void device(void)
{
	struct virtio_fs_spec spec = {.path = host("share"), .tag = "tag0"};
	uint8_t config[40], want[40] = "tag0";
	struct fuse_getattr_in attr = {0};
	struct virtio_dev *d;
	struct err e = {0};
	struct gmem *m;
	struct drv v;

	want[36] = 1;
	CHECK_EQ(gmem_new(16 << 20, 16 << 20, &m, &e), 0);
	CHECK_EQ(virtio_fs_new(m, &spec, &d, &e), 0);
	virtio_config_read(d, 0, config, 40);
	CHECK(memcmp(config, want, 40) == 0);
	drv_init(&v, m, d, VIRTIO_F_EVENT_IDX, 128);
	device_buffers(&v);
	device_init(&v);
	device_file(&v);
	/* Reset with requests under way, again and again; then it works as new. */
	for (unsigned int i = 0; i < 100; i++) {
		struct drv_buf b[2] = {{dev_out, (uint32_t)len}, {dev_in, 65536}};

		for (unsigned int k = 0; k < 20; k++)
			CHECK(drv_post(&v, 1, b, 1, 1, 0) >= 0);
		drv_kick(&v, 1);
		drv_start(&v, VIRTIO_F_EVENT_IDX, 128);
		device_buffers(&v);
	}
	begin(FUSE_GETATTR, 1);
	add(&attr, sizeof(attr));
	CHECK_EQ(device_call(&v, 104), 16);
	CHECK_EQ((int32_t)load_le32(reply + 4), -ENOTCONN);
	device_init(&v);
	begin(FUSE_GETATTR, 1);
	add(&attr, sizeof(attr));
	CHECK_EQ(device_call(&v, 104), 16 + 104);
	/* A message that is none breaks the device. */
	{
		struct drv_buf b[2] = {{dev_out, 3}, {dev_in, 100}};
		struct timespec tick = {.tv_nsec = 1000000};

		CHECK(drv_post(&v, 1, b, 1, 1, 0) >= 0);
		drv_kick(&v, 1);
		for (unsigned int i = 0; !v.config_irqs && i < 5000; i++)
			nanosleep(&tick, NULL);
		CHECK_EQ(v.config_irqs, 1);
	}
	d->ops->free(d);
	gmem_free(m);
}

static void refused(void)
{
	struct virtio_fs_spec spec = {.path = "/nowhere", .tag = "t"};
	struct virtio_dev *d;
	struct err e = {0};
	struct gmem *m;

	CHECK_EQ(gmem_new(1 << 20, 1 << 20, &m, &e), 0);
	CHECK_EQ(virtio_fs_new(m, &spec, &d, &e), -ENOENT);
	spec.path = "/";
	spec.tag = "";
	CHECK_EQ(virtio_fs_new(m, &spec, &d, &e), -EINVAL);
	spec.tag = "1234567890123456789012345678901234567";
	CHECK_EQ(virtio_fs_new(m, &spec, &d, &e), -EINVAL);
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
	before_init();
	start();
	files();
	file_tricks();
	names();
	groups();
	owners();
	caching();
	directories();
	xattrs();
	escapes();
	symlink_race();
	forgetting();
	malformed();
	deep();
	read_only();
	fs_free(s);
	device();
	refused();
	pid = fork();
	if (pid == 0) {
		many_nodes();
		exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", base);
	CHECK_EQ(system(cmd), 0);
	CHECK_EQ(status, 0);
	return 0;
}
