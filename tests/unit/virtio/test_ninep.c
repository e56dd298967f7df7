/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/virtio/test_ninep.c - 9P2000.L against a real directory
 */
#include "virtio/ninep.h"
#include "virtio/ninep_client.h"

#include <stdio.h>

static void before_version(void)
{
	begin(T_WALK);
	put32(&ask, 0);
	put32(&ask, 1);
	put16(&ask, 0);
	CHECK_EQ(call(), -EPROTO);
	begin(T_VERSION);
	put32(&ask, 8192);
	str("9P2000.u");
	CHECK_EQ(call(), 0);
	CHECK_EQ(get32(&answer), 8192);
	CHECK_EQ(get16(&answer), 7);
	CHECK(memcmp(answer.p, "unknown", 7) == 0);
	begin(T_VERSION);
	put32(&ask, 4095);
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
	put32(&ask, 1);
	put32(&ask, 1);
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
	put32(&ask, 0);
	put32(&ask, 2);
	str("hard");
	CHECK_EQ(call(), 0);
	CHECK_EQ(getattr9(2, &t), 0);
	CHECK_EQ(t.nlink, 2);
	CHECK_EQ(symlink9(1, "soft", "../../anything"), 0);
	CHECK_EQ(walk(1, 3, "soft"), 0);
	CHECK_EQ(fid_op(T_READLINK, 3), 0);
	get_str(&answer, link_target, 63);
	CHECK_STR(link_target, "../../anything");
	CHECK_EQ(setattr9(3, 0x20 | 0x100, 0, 0, 7777), 0); /* the link's own time */
	CHECK_EQ(lstat(host("share/dir/soft"), &st), 0);
	CHECK_EQ(st.st_mtime, 7777);
	CHECK_EQ(setattr9(3, 1, 0600, 0, 0), -EOPNOTSUPP);
	/* Renaming a directory: fids below it stay good. */
	CHECK_EQ(rename9(0, "dir", 0, "moved"), 0);
	CHECK_EQ(getattr9(2, &t), 0);
	begin(T_RENAME);
	put32(&ask, 2);
	put32(&ask, 0);
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
	put16(&ask, 1);
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
		put32(&ask, 1);
		put64(&ask, off);
		put32(&ask, count);
		CHECK_EQ(call(), 0);
		if (!get32(&answer))
			break;
		CHECK((size_t)(answer.end - answer.p) <= count);
		while (answer.p < answer.end) {
			char name[256];
			unsigned int i;

			answer.p += 13;
			off = get64(&answer);
			(void)get8(&answer);
			get_str(&answer, name, 255);
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
	host_many_files();
	readdir9(60000);
	readdir9(300);
	readdir9(64);
	CHECK_EQ(walk(0, 1, "many"), 0);
	CHECK_EQ(lopen(1, O_RDONLY), 0);
	begin(T_READDIR);
	put32(&ask, 1);
	put64(&ask, 0);
	put32(&ask, 10);
	CHECK_EQ(call(), -EINVAL);
	CHECK_EQ(read9(1, 0, 10, name), -EISDIR);
	CHECK_EQ(clunk(1), 0);
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
	put32(&ask, 1);
	put8(&ask, 1);
	put32(&ask, 0);
	put64(&ask, 0);
	put64(&ask, 0);
	put32(&ask, 77);
	str("guest");
	CHECK_EQ(call(), 0);
	CHECK_EQ(get8(&answer), 0);
	begin(T_GETLOCK);
	put32(&ask, 1);
	put8(&ask, 1);
	put64(&ask, 5);
	put64(&ask, 6);
	put32(&ask, 77);
	str("guest");
	CHECK_EQ(call(), 0);
	CHECK_EQ(get8(&answer), 2);
	CHECK_EQ(get64(&answer), 5);
	CHECK_EQ(clunk(1), 0);
}

/* --- through the device --- */

static uint32_t device_call(struct share_drv *v, uint32_t in_len)
{
	store_le32(request, (uint32_t)ask.len);
	return share_drv_call(v, v->qi, request, ask.len, reply, in_len);
}

static void device(void)
{
	struct virtio_9p_spec spec = {.path = host("share"), .tag = "tag0"};
	struct gmem *m;
	struct virtio_dev *d;
	struct err e = {0};
	uint8_t config[6];
	struct share_drv v = {.qi = 0, .head = 11, .out_size = 65536, .in_size = 1 << 17};

	CHECK_EQ(gmem_new(8 << 20, 8 << 20, &m, &e), 0);
	CHECK_EQ(virtio_9p_new(m, &spec, &d, &e), 0);
	virtio_config_read(d, 0, config, 6);
	CHECK(memcmp(config, "\4\0tag0", 6) == 0);
	share_drv_init(&v, m, d, VIRTIO_F_EVENT_IDX | BIT(0));
	begin(T_VERSION);
	put32(&ask, 65536);
	str("9P2000.L");
	CHECK_EQ(device_call(&v, 100), 7 + 4 + 10);
	virtio_lock(d);
	CHECK_EQ(d->ops->can_save(d, &e), -EBUSY);
	virtio_unlock(d);
	CHECK_STR(e.msg, "the shared folder 'tag0' is mounted: unmount it in the guest first");
	begin(T_ATTACH);
	put32(&ask, 0);
	put32(&ask, UINT32_MAX);
	str("root");
	str("");
	put32(&ask, 0);
	CHECK_EQ(device_call(&v, 100), 7 + 13);
	begin(T_LCREATE);
	put32(&ask, 0);
	str("through");
	put32(&ask, O_RDWR | O_CREAT);
	put32(&ask, 0644);
	put32(&ask, 0);
	CHECK_EQ(device_call(&v, 100), 7 + 13 + 4);
	begin(T_WRITE);
	put32(&ask, 0);
	put64(&ask, 0);
	put32(&ask, 5);
	memcpy(request + ask.len, "bytes", 5);
	ask.len += 5;
	CHECK_EQ(device_call(&v, 100), 7 + 4);
	begin(T_READ);
	put32(&ask, 0);
	put64(&ask, 0);
	put32(&ask, 65536);
	CHECK_EQ(device_call(&v, 65536), 11 + 5);
	CHECK(memcmp(reply + 11, "bytes", 5) == 0);
	/* Reset with requests under way, again and again; then it works as new. */
	share_drv_storm(&v, 200, ask.len);
	begin(T_CLUNK);
	put32(&ask, 0);
	CHECK_EQ(device_call(&v, 100), 11);
	CHECK_EQ(load_le32(reply + 7), EPROTO);
	share_drv_break(&v);
	d->ops->free(d);
	gmem_free(m);
}

int main(void)
{
	share_make();
	server = open_session(false);
	before_version();
	start();
	files();
	names();
	directories();
	xattrs();
	locks();
	p9_free(server);
	device();
	share_remove();
	return 0;
}
