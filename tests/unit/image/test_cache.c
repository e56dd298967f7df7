/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/image/test_cache.c - half-made images are never seen, locks hold, killed builds go
 * away
 */
#include "base/fd.h"
#include "image/image_priv.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>

static void touch(const char *dir, const char *name)
{
	autofree char *path = xasprintf("%s/%s", dir, name);
	autoclose int fd = open(path, O_WRONLY | O_CREAT, 0600);

	CHECK(fd >= 0);
}

static bool exists(const char *dir, const char *name)
{
	autofree char *path = xasprintf("%s/%s", dir, name);

	return access(path, F_OK) == 0;
}

static void publish(struct image_cache *c)
{
	struct workspace w;

	CHECK_EQ(workspace_make(c, &w, NULL), 0);
	touch(w.dir, "one");
	CHECK(!exists(c->dir, "images/x"));
	CHECK_EQ(workspace_publish(&w, c, "images/x", NULL), 0);
	workspace_fini(&w);
	CHECK(exists(c->dir, "images/x/one"));

	/* Replaced as a whole. */
	CHECK_EQ(workspace_make(c, &w, NULL), 0);
	touch(w.dir, "two");
	CHECK_EQ(workspace_publish(&w, c, "images/x", NULL), 0);
	workspace_fini(&w);
	CHECK(exists(c->dir, "images/x/two"));
	CHECK(!exists(c->dir, "images/x/one"));
}

/* Closing the lock without a word is what a kill does. */
static void killed_build(struct image_cache *c)
{
	struct image_cache again;
	struct workspace dead, alive;
	autofree char *old = NULL;

	CHECK_EQ(workspace_make(c, &dead, NULL), 0);
	CHECK_EQ(workspace_make(c, &alive, NULL), 0);
	touch(dead.dir, "half");
	/* Killed in the middle of workspace_publish: the one it replaces lies beside. */
	old = xasprintf("%s.old", dead.dir);
	CHECK_EQ(make_dir(old, 0755, NULL), 0);
	close(dead.lock);
	CHECK_EQ(image_cache_open(&again, NULL), 0);
	CHECK(access(dead.dir, F_OK) < 0);
	CHECK(access(old, F_OK) < 0);
	CHECK(access(alive.dir, F_OK) == 0);
	workspace_fini(&alive);
	free(dead.dir);
	image_cache_fini(&again);
}

static void locks(struct image_cache *c)
{
	int a, b;

	CHECK_EQ(cache_lock(c, CACHE_LOCK_USE, "x", false, false, &a, NULL), 0);
	CHECK_EQ(cache_lock(c, CACHE_LOCK_USE, "x", false, false, &b, NULL), 0);
	close(b);
	CHECK(cache_lock(c, CACHE_LOCK_USE, "x", true, false, &b, NULL) == -EBUSY);
	close(a);
	CHECK_EQ(cache_lock(c, CACHE_LOCK_USE, "x", true, false, &a, NULL), 0);
	close(a);
}

static void unreadable_meta(struct image_cache *c)
{
	autofree char *meta = xasprintf("%s/images/x/meta.json", c->dir);
	autoclose int fd = open(meta, O_WRONLY | O_CREAT, 0600);
	struct image i;

	CHECK_EQ(write_full(fd, "{\"recipe\": ", 11), 0);
	CHECK(image_find(c, "x", &i, NULL) == -ENOENT);
}

int main(void)
{
	char dir[] = "/tmp/insula-test-XXXXXX";
	struct image_cache c;

	CHECK(mkdtemp(dir));
	setenv("XDG_CACHE_HOME", dir, 1);
	CHECK_EQ(image_cache_open(&c, NULL), 0);
	publish(&c);
	killed_build(&c);
	locks(&c);
	unreadable_meta(&c);
	image_cache_fini(&c);
	exec_remove_tree(dir);
	return 0;
}
