/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/virtio/test_fs_escape.c - FUSE: attempts to leave the shared directory, and to exhaust
 * the server
 */
#include "virtio/fs_client.h"

#include <sys/resource.h>

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
	CHECK_EQ(symlink(share_base, host("share/outdir")), 0);
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

static void symlink_race(void)
{
	unsigned int inside = 0;

	CHECK_EQ(mkdir(host("share/flip"), 0755), 0);
	host_file("share/flip/secret", "mine");
	race_start();
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
	race_stop();
	CHECK(inside > 0);
}

static void malformed(void)
{
	struct iovec out = {request, 40}, in = {reply, 100};
	struct fuse_attr a;

	begin(FUSE_GETATTR, 1);
	store_le32(request, 40);
	out.iov_len = 39;
	CHECK_EQ(fs_handle(server, &out, 1, &in, 1), -1); /* no header */
	out.iov_len = 40;
	store_le32(request, 41);
	CHECK_EQ(fs_handle(server, &out, 1, &in, 1), -1); /* longer than it is */
	store_le32(request, 39);
	CHECK_EQ(fs_handle(server, &out, 1, &in, 1), -1);
	store_le32(request, 40);
	in.iov_len = 15;
	CHECK_EQ(fs_handle(server, &out, 1, &in, 1), -1); /* no room for an error */
	in.iov_len = 16;
	CHECK_EQ(fs_handle(server, &out, 1, &in, 1), 16); /* arguments are missing */
	CHECK_EQ((int32_t)load_le32(reply + 4), -EINVAL);
	/* Unknown requests, nodes, handles. */
	for (uint32_t op = 0; op < 100; op++) {
		if (op == FUSE_FORGET || op == FUSE_BATCH_FORGET || op == FUSE_INTERRUPT ||
		    op == FUSE_INIT || op == FUSE_DESTROY)
			continue;
		begin(op, 12345678);
		memset(request + request_len, 'x', 200);
		request_len += 200;
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

/* Depth is bounded, and a deep chain of parents neither overflows the stack nor hangs. */
static void deep(void)
{
	struct fuse_entry_out e = {.nodeid = 1};
	unsigned int depth = 0;

	while (depth < 2000 && mkdir_fs(e.nodeid, "d", 0755, &e) == 0)
		depth++;
	CHECK_EQ(depth, TREE_DEPTH_MAX);
	start(); /* forgets all */
	CHECK_EQ(server->n_inodes, 1);
}

static void read_only(void)
{
	struct fuse_setattr_in set = {.valid = FATTR_MODE, .mode = 0600};
	struct fuse_entry_out e;
	uint64_t id, fh;

	fs_free(server);
	server = open_session(true);
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
	server = open_session(false);
	start();
	dir = node(1, "many");
	for (unsigned int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "file%u", i);
		ids[i] = node(dir, name);
	}
	CHECK(server->tree.n_fds <= 64 + 2);
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
	fs_reset(server);
	CHECK_EQ(server->n_inodes, 1);
	fs_free(server);
}

int main(void)
{
	int status;

	share_make();
	host_file("share/attr", "x");
	CHECK_EQ(mkdir(host("share/many"), 0755), 0);
	host_many_files();
	server = open_session(false);
	start();
	escapes();
	symlink_race();
	malformed();
	deep();
	read_only();
	fs_free(server);
	status = run_child(many_nodes);
	share_remove();
	CHECK_EQ(status, 0);
	return 0;
}
