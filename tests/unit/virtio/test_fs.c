/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/virtio/test_fs.c - FUSE against a real directory
 */
#include "virtio/fs.h"
#include "virtio/fs_client.h"

#include <dirent.h>
#include <time.h>

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
	CHECK_EQ(answer_len, 8);
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
	CHECK_EQ(answer_len, 14);
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
	CHECK_EQ(answer_len, sizeof(struct fuse_statfs_out));
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
	bool could = server->tree.can_give;
	struct fuse_entry_out e;
	struct stat st;

	for (int i = 0; i < 2; i++) {
		server->tree.can_give = could && i == 0;
		begin(FUSE_CREATE, 1);
		store_le32(request + offsetof(struct fuse_in_header, uid), 1234);
		add(&in, sizeof(in));
		str("owned");
		CHECK_EQ(entry(&e), 0);
		CHECK_EQ(stat(host("share/owned"), &st), 0);
		CHECK_EQ(st.st_uid, server->tree.can_give ? 1234 : geteuid());
		CHECK_EQ(e.attr.uid, server->tree.can_give ? 1234 : 0);
		CHECK_EQ(setattr(e.nodeid, &set), server->tree.can_give ? 0 : -EPERM);
		CHECK_EQ(named(FUSE_UNLINK, 1, "owned"), 0);
	}
	server->tree.can_give = could;
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
	uint64_t fh;

	CHECK_EQ(mkdir_fs(1, "many", 0755, &dir), 0);
	host_many_files();
	before = server->n_inodes;
	list(dir.nodeid, 60000, FUSE_READDIR);
	list(dir.nodeid, 300, FUSE_READDIR);
	list(dir.nodeid, 64, FUSE_READDIR);
	list(dir.nodeid, 60000, FUSE_READDIRPLUS);
	list(dir.nodeid, 4096, FUSE_READDIRPLUS);
	list(dir.nodeid, 200, FUSE_READDIRPLUS);
	CHECK_EQ(server->n_inodes, before); /* every lookup was forgotten */
	CHECK_EQ(open_op(FUSE_OPENDIR, node(dir.nodeid, "file0"), O_RDONLY, &fh), -ENOTDIR);
	CHECK_EQ(open_op(FUSE_OPEN, dir.nodeid, O_RDONLY, &fh), -EISDIR);
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
	CHECK(answer_len == 4 && memcmp(answer, "blue", 4) == 0);
	CHECK_EQ(get_xattr(id, FUSE_GETXATTR, "user.none", 4), -ENODATA);
	CHECK_EQ(get_xattr(id, FUSE_LISTXATTR, NULL, 100), 0);
	CHECK(answer_len == 12 && memcmp(answer, "user.colour", 12) == 0);
	CHECK_EQ(named(FUSE_REMOVEXATTR, id, "user.colour"), 0);
	CHECK_EQ(named(FUSE_REMOVEXATTR, id, "user.colour"), -ENODATA);
	CHECK_EQ(named(FUSE_REMOVEXATTR, id, "security.capability"), -EOPNOTSUPP);
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
	store_le32(request, (uint32_t)request_len);
	out = (struct iovec){request, request_len};
	CHECK_EQ(fs_handle(server, &out, 1, NULL, 0), 0);
	CHECK_EQ(getattr(id, &a), -ESTALE);
	CHECK_EQ(getattr(1, &a), 0); /* the root stays */
	CHECK(node(1, "known") != id);
}

/* --- through the device --- */

static uint32_t device_call(struct share_drv *v, uint32_t in_len)
{
	store_le32(request, (uint32_t)request_len);
	answer = reply + 16;
	return share_drv_call(v, v->qi, request, request_len, reply, in_len);
}

static void device_init(struct share_drv *v)
{
	struct fuse_init_in in = {.major = 7, .minor = 31};

	begin(FUSE_INIT, 0);
	add(&in, 16); /* as older guests send it */
	CHECK_EQ(device_call(v, 64), 16 + 64);
}

/* A FORGET on the queue for those in a hurry. */
static void device_forget(struct share_drv *v, uint64_t id)
{
	struct fuse_forget_in in = {1};

	begin(FUSE_FORGET, id);
	add(&in, sizeof(in));
	store_le32(request, (uint32_t)request_len);
	CHECK_EQ(share_drv_call(v, 0, request, request_len, NULL, 0), 0);
}

static void device_file(struct share_drv *v)
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
		request[request_len++] = (uint8_t)(i * 7);
	CHECK_EQ(device_call(v, 8), 16 + 8);
	CHECK_EQ(load_le32(answer), w.size);
	begin(FUSE_READ, e.nodeid);
	add(&rd, sizeof(rd));
	CHECK_EQ(device_call(v, rd.size), 16 + w.size);
	for (uint32_t i = 0; i < w.size; i++)
		CHECK_EQ(answer[i], (uint8_t)(i * 7));
	device_forget(v, e.nodeid);
}

static int can_save(struct virtio_dev *d, struct err *e)
{
	int r;

	virtio_lock(d);
	r = d->ops->can_save(d, e);
	virtio_unlock(d);
	return r;
}

static void device(void)
{
	struct share_drv v = {.qi = 1, .head = 16, .out_size = 1 << 20, .in_size = 2 << 20};
	struct virtio_fs_spec spec = {.path = host("share"), .tag = "tag0"};
	uint8_t config[40], want[40] = "tag0";
	struct fuse_getattr_in attr = {0};
	struct virtio_dev *d;
	struct err e = {0};
	struct gmem *m;

	want[36] = 1;
	CHECK_EQ(gmem_new(16 << 20, 16 << 20, &m, &e), 0);
	CHECK_EQ(virtio_fs_new(m, &spec, &d, &e), 0);
	virtio_config_read(d, 0, config, 40);
	CHECK(memcmp(config, want, 40) == 0);
	share_drv_init(&v, m, d, VIRTIO_F_EVENT_IDX);
	CHECK_EQ(can_save(d, &e), 0);
	device_init(&v);
	device_file(&v);
	CHECK_EQ(can_save(d, &e), -EBUSY);
	CHECK_STR(e.msg, "the shared folder 'tag0' is mounted: unmount it in the guest first");
	/* Reset with requests under way, again and again; then it works as new. */
	share_drv_storm(&v, 100, request_len);
	begin(FUSE_GETATTR, 1);
	add(&attr, sizeof(attr));
	CHECK_EQ(device_call(&v, 104), 16);
	CHECK_EQ((int32_t)load_le32(reply + 4), -ENOTCONN);
	device_init(&v);
	begin(FUSE_GETATTR, 1);
	add(&attr, sizeof(attr));
	CHECK_EQ(device_call(&v, 104), 16 + 104);
	share_drv_break(&v);
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
	share_make();
	server = open_session(false);
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
	forgetting();
	fs_free(server);
	device();
	refused();
	share_remove();
	return 0;
}
