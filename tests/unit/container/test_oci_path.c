/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/container/test_oci_path.c - paths below a root: no link and no dots lead out of it
 */
#include "container/path.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>

static char top[] = "/tmp/test_oci_path.XXXXXX";
static int root;

/* Where a descriptor leads, from the top. */
static const char *where(int fd)
{
	static char path[PATH_MAX];
	char link[64];
	ssize_t n;

	CHECK(fd >= 0);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	CHECK(n > 0);
	path[n] = '\0';
	close(fd);
	CHECK(strncmp(path, top, strlen(top)) == 0);
	return path + strlen(top);
}

static void test_open(void)
{
	CHECK_STR(where(path_open(root, "/", O_PATH)), "/root");
	CHECK_STR(where(path_open(root, "../../..", O_PATH)), "/root");
	CHECK_STR(where(path_open(root, "/dir/../../../dir", O_PATH)), "/root/dir");
	CHECK_STR(where(path_open(root, "absolute", O_PATH)), "/root/dir");
	CHECK_STR(where(path_open(root, "up", O_PATH)), "/root/dir");
	CHECK_EQ(path_open(root, "outside", O_PATH), -ENOENT);
	CHECK_EQ(path_open(root, "loop", O_PATH), -ELOOP);
}

static void test_make(void)
{
	CHECK_STR(where(path_make(root, "/a/b/c", PATH_DIR)), "/root/a/b/c");
	CHECK_STR(where(path_make(root, "/a/b/c/", PATH_DIR)), "/root/a/b/c");
	CHECK_STR(where(path_make(root, "a/f", PATH_FILE)), "/root/a/f");
	CHECK_STR(where(path_make(root, "/dangling/x", PATH_DIR)), "/root/made/here/x");
	CHECK_STR(where(path_make(root, "/outside/x", PATH_FILE)), "/root/victim/x");
	CHECK_STR(where(path_make(root, "/../../up2/y", PATH_DIR)), "/root/up2/y");
	CHECK_EQ(path_make(root, "/missing/../z", PATH_DIR), -EINVAL);
	CHECK_EQ(path_make(root, "/a/f/g", PATH_DIR), -ENOTDIR);
	CHECK_EQ(path_make(root, "loop/x", PATH_DIR), -ELOOP);
	CHECK_EQ(path_make(root, "self", PATH_FILE), -ELOOP);
	CHECK_EQ(faccessat(root, "../victim/x", F_OK, 0), -1);
}

static void test_parent(void)
{
	char *name = NULL;

	CHECK_STR(where(path_make_parent(root, "/p/q/last/", &name)), "/root/p/q");
	CHECK_STR(name, "last");
	free(name);
	CHECK_EQ(path_make_parent(root, "/", &name), -EINVAL);
	CHECK_EQ(path_make_parent(root, "/a/..", &name), -EINVAL);
	CHECK_EQ(path_make_parent(root, "/a/.", &name), -EINVAL);
}

static void test_dots(void)
{
	CHECK(path_has_dots("..") && path_has_dots("a/../b") && path_has_dots("/a/.") &&
	      path_has_dots("./a"));
	CHECK(!path_has_dots("") && !path_has_dots("/a..b/...") && !path_has_dots("/"));
}

static void test_proc(void)
{
	struct err e = {0};
	int proc = path_open_proc(&e), fd;

	CHECK(proc >= 0);
	fd = path_open_in_proc(proc, "self/stat", O_RDONLY);
	CHECK(fd >= 0);
	close(fd);
	CHECK(path_open_in_proc(proc, "../etc/passwd", O_RDONLY) < 0);
	CHECK(path_open_in_proc(proc, "self/root/etc/passwd", O_RDONLY) < 0);
	CHECK(path_open_in_proc(proc, "/etc/passwd", O_RDONLY) < 0);
	close(proc);
}

int main(void)
{
	char path[PATH_MAX];
	int dir;

	CHECK(mkdtemp(top));
	dir = open(top, O_RDONLY | O_DIRECTORY);
	CHECK(mkdirat(dir, "root", 0755) == 0 && mkdirat(dir, "victim", 0755) == 0);
	snprintf(path, sizeof(path), "%s/root", top);
	root = open(path, O_RDONLY | O_DIRECTORY);
	CHECK(root >= 0 && mkdirat(root, "dir", 0755) == 0);
	CHECK(symlinkat("/dir", root, "absolute") == 0);
	CHECK(symlinkat("../../../../dir", root, "up") == 0);
	CHECK(symlinkat("../victim", root, "outside") == 0);
	CHECK(symlinkat("loop2", root, "loop") == 0 && symlinkat("loop", root, "loop2") == 0);
	CHECK(symlinkat("self", root, "self") == 0);
	CHECK(symlinkat("/made/here", root, "dangling") == 0);
	test_open();
	test_make();
	test_parent();
	test_dots();
	test_proc();
	snprintf(path, sizeof(path), "rm -rf %s", top);
	return system(path) != 0;
}
