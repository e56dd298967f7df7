/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/container/test_oci_state.c - states in files: in, out, locked, left by the killed
 */
#include "container/state.h"

#include "container/proc.h"
#include "test.h"

#include <errno.h>

static char top[] = "/tmp/test_oci_state.XXXXXX";

static void test_names(void)
{
	static const char *const bad[] = {"", ".", "..", ".new", "a/b", "a b", "a\n", "\xc3\xa4"};
	char longest[300];

	CHECK(state_id_ok("a") && state_id_ok("Az09_+-.x"));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK(!state_id_ok(bad[i]));
	memset(longest, 'x', sizeof(longest));
	longest[255] = '\0';
	CHECK(state_id_ok(longest));
	longest[255] = 'x';
	longest[256] = '\0';
	CHECK(!state_id_ok(longest));
}

static void test_life(int root)
{
	struct state s = {.id = (char *)"one", .bundle = (char *)"/b", .version = (char *)"1.0.0"},
		     r;
	struct err e = {0};
	char **names;
	int dir, other;

	CHECK_EQ(state_new(root, "one", &dir, &e), 0);
	CHECK_EQ(state_new(root, "one", &other, &e), -EEXIST);
	s.pid = getpid();
	s.start_time = proc_start_time(s.pid);
	s.cgroup_path = (char *)"/x";
	CHECK_EQ(state_write(dir, &s, &e), 0);
	/* On its way in it shows, as being made, and nobody may sweep it. */
	CHECK_EQ(state_open(root, "one", false, &other, &r, &e), 0);
	CHECK_EQ(state_status(other, &r), STATE_CREATING);
	close(other);
	state_fini(&r);
	CHECK_EQ(state_open_fresh(root, "one", &other, &r), -EAGAIN);
	CHECK_EQ(state_commit(root, "one", &e), 0);
	CHECK_EQ(state_new(root, "one", &other, &e), -EEXIST);
	CHECK_EQ(state_open(root, "one", false, &other, &r, &e), 0);
	CHECK_EQ(state_status(other, &r), STATE_RUNNING);
	CHECK(r.pid == s.pid && r.start_time == s.start_time);
	CHECK_STR(r.cgroup_path, "/x");
	CHECK(!r.cgroup_unit);
	r.start_time++; /* the number was given to another process */
	CHECK_EQ(state_status(other, &r), STATE_STOPPED);
	close(other);
	state_fini(&r);
	CHECK_EQ(state_names(root, false, &names, &e), 0);
	CHECK(names[0] && !names[1]);
	CHECK_STR(names[0], "one");
	state_names_free(names);
	CHECK_EQ(state_remove(root, "one", dir, &e), 0);
	CHECK_EQ(state_lock(dir), -ENOENT);
	close(dir);
	CHECK_EQ(state_open(root, "one", true, &dir, &r, &e), -ENOENT);
}

/* Killed after mkdir, and while it was written. */
static void test_left(int root)
{
	struct err e = {0};
	struct state r;
	char **names;
	int dir;

	CHECK_EQ(state_new(root, "left", &dir, &e), 0);
	close(dir);
	CHECK_EQ(state_names(root, true, &names, &e), 0);
	CHECK_STR(names[0], "left");
	state_names_free(names);
	CHECK_EQ(state_open_fresh(root, "left", &dir, &r), 0);
	CHECK(!r.pid && !r.id);
	CHECK_EQ(state_remove(root, "left", dir, &e), 0);
	close(dir);
	CHECK_EQ(state_new(root, "left", &dir, &e), 0);
	CHECK_EQ(state_remove(root, "left", dir, &e), 0);
	close(dir);
}

int main(void)
{
	char command[64];
	struct err e = {0};
	int root;

	CHECK(mkdtemp(top));
	root = state_open_root(top, &e);
	CHECK(root >= 0);
	test_names();
	test_life(root);
	test_left(root);
	snprintf(command, sizeof(command), "rm -rf %s", top);
	return system(command) != 0;
}
