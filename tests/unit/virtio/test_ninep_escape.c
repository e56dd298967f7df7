/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/virtio/test_ninep_escape.c - 9P2000.L: attempts to leave the shared directory, and to
 * exhaust the server
 */
#include "virtio/ninep_client.h"

#include <stdio.h>
#include <sys/resource.h>

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
	CHECK_EQ(symlink(share_base, host("share/outdir")), 0);
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
	put32(&ask, 0);
	put_str(&ask, "ab\0cd", 5);
	put32(&ask, 0700);
	put32(&ask, 0);
	CHECK_EQ(call(), -EINVAL);
	memset(long_name, 'n', sizeof(long_name));
	long_name[256] = '\0';
	CHECK_EQ(mkdir9(0, long_name, 0700), -EINVAL);
	long_name[255] = '\0';
	CHECK_EQ(mkdir9(0, long_name, 0700), 0);
	CHECK_EQ(unlink9(0, long_name, AT_REMOVEDIR), 0);
	CHECK_EQ(clunk(1), 0);
}

static void symlink_race(void)
{
	unsigned int inside = 0;
	char buf[64];

	CHECK_EQ(mkdir(host("share/flip"), 0755), 0);
	host_file("share/flip/secret", "mine");
	race_start();
	for (unsigned int i = 0; i < 5000 || (!inside && i < 1000000); i++) {
		if (walk(0, 1, "flip|secret") < 0)
			continue;
		if (lopen(1, O_RDONLY) == 0) {
			CHECK_EQ(read9(1, 0, 64, buf), 4);
			inside++;
		}
		CHECK_EQ(clunk(1), 0);
	}
	race_stop();
	CHECK(inside > 0);
}

static void malformed(void)
{
	struct iovec out = {request, 7}, in = {reply, 100}, tiny = {reply, 10};

	memset(request, 0, 64);
	store_le32(request, 7);
	request[4] = T_CLUNK;
	out.iov_len = 6;
	CHECK_EQ(p9_handle(server, &out, 1, &in, 1), -1); /* no header */
	out.iov_len = 7;
	CHECK_EQ(p9_handle(server, &out, 1, &tiny, 1), -1); /* no room for an error */
	store_le32(request, 8);
	CHECK_EQ(p9_handle(server, &out, 1, &in, 1), -1); /* longer than it is */
	store_le32(request, 6);
	CHECK_EQ(p9_handle(server, &out, 1, &in, 1), -1);
	store_le32(request, 7);
	CHECK_EQ(p9_handle(server, &out, 1, &in, 1), 11);
	CHECK_EQ(load_le32(reply + 7), EBADF);
	request[4] = 99;
	CHECK_EQ(p9_handle(server, &out, 1, &in, 1), 11);
	CHECK_EQ(load_le32(reply + 7), EOPNOTSUPP);
	/* A good answer that has no room becomes an error that has. */
	begin(T_GETATTR);
	put32(&ask, 0);
	put64(&ask, 0x7ff);
	store_le32(request, (uint32_t)ask.len);
	out.iov_len = ask.len;
	CHECK_EQ(p9_handle(server, &out, 1, &in, 1), 11);
	CHECK_EQ(load_le32(reply + 7), EMSGSIZE);
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

static void read_only(void)
{
	char buf[16];

	p9_free(server);
	server = open_session(true);
	start();
	CHECK_EQ(walk(0, 1, "attr"), 0);
	CHECK_EQ(lopen(1, O_RDWR), -EROFS);
	CHECK_EQ(lopen(1, O_RDONLY | O_TRUNC), -EROFS);
	CHECK_EQ(setattr9(1, 1, 0600, 0, 0), -EROFS);
	CHECK_EQ(setattr9(1, 8, 0, 0, 0), -EROFS);
	CHECK_EQ(xattr_set(1, "user.x", "y", 1), -EROFS);
	begin(T_LINK);
	put32(&ask, 0);
	put32(&ask, 1);
	str("hard");
	CHECK_EQ(call(), -EROFS);
	begin(T_RENAME);
	put32(&ask, 1);
	put32(&ask, 0);
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
	limit.rlim_cur = 256;
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	server = open_session(false);
	start();
	for (unsigned int round = 0; round < 5; round++) {
		for (unsigned int i = 0; i < 200; i++) {
			snprintf(name, sizeof(name), "many|file%u", i);
			CHECK_EQ(walk(0, 1000 + round * 200 + i, name), 0);
		}
	}
	CHECK(server->tree.n_fds <= 64 + 2);
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
	p9_free(server);
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
	p9_free(server);
	status = run_child(many_fids);
	share_remove();
	CHECK_EQ(status, 0);
	return 0;
}
