/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image/cache.c - the cache's directories, locks and temporary places
 */
#include "base/fd.h"
#include "image/image_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#define ORPHAN_AGE 600 /* seconds */

/* Killed between making a directory and its lock: nobody is that slow. */
static bool is_orphan(const char *tmp, const char *name)
{
	autofree char *path = xasprintf("%s/%s", tmp, name), *lock = NULL;
	char *dot = strrchr(path, '.');
	struct stat st;

	if (stat(path, &st) < 0 || time(NULL) - st.st_ctime < ORPHAN_AGE)
		return false;
	if (dot && strcmp(dot, ".old") == 0)
		*dot = '\0';
	lock = xasprintf("%s.lock", path);
	return access(lock, F_OK) < 0;
}

static void remove_if_there(const char *path)
{
	if (access(path, F_OK) == 0)
		exec_remove_tree(path);
}

/* Builds that were killed: nobody holds their lock any more. */
static void sweep(const struct image_cache *c)
{
	autofree char *tmp = xasprintf("%s/tmp", c->dir);
	DIR *d = opendir(tmp);
	struct dirent *de;

	while (d && (de = readdir(d))) {
		autofree char *lock = xasprintf("%s/%s", tmp, de->d_name), *old = NULL;
		autofree char *dir = xstrdup(lock);
		char *dot = strrchr(dir, '.');
		autoclose int fd = -1;

		if (de->d_name[0] == '.')
			continue;
		if (!dot || strcmp(dot, ".lock") != 0) {
			if (is_orphan(tmp, de->d_name))
				exec_remove_tree(lock);
			continue;
		}
		fd = open(lock, O_RDWR | O_CLOEXEC);
		if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
			continue;
		*dot = '\0';
		old = xasprintf("%s.old", dir);
		remove_if_there(dir);
		remove_if_there(old);
		if (access(dir, F_OK) < 0) /* else the next sweep tries again */
			unlink(lock);
	}
	if (d)
		closedir(d);
}

static char *default_dir(void)
{
	const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");

	if (xdg && xdg[0] == '/')
		return xasprintf("%s/insula", xdg);
	if (geteuid() == 0 || !home || home[0] != '/')
		return xstrdup("/var/cache/insula");
	return xasprintf("%s/.cache/insula", home);
}

int image_cache_open(struct image_cache *ret, struct err *e)
{
	static const char *const dirs[] = {"images", "kernels", "locks", "tmp"};
	struct image_cache c = {.dir = default_dir()};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(dirs) && r == 0; i++) {
		autofree char *path = xasprintf("%s/%s", c.dir, dirs[i]);

		r = make_dir(path, 0755, e);
	}
	if (r < 0) {
		image_cache_fini(&c);
		return r;
	}
	sweep(&c);
	*ret = c;
	return 0;
}

void image_cache_fini(struct image_cache *c)
{
	free(c->dir);
	c->dir = NULL;
}

static int workspace_try(const struct image_cache *c, struct workspace *ret, struct err *e)
{
	struct workspace w = {.dir = xasprintf("%s/tmp/XXXXXX", c->dir), .lock = -1};
	autofree char *lock = NULL;
	struct stat st;

	if (!mkdtemp(w.dir)) {
		free(w.dir);
		return err_set(e, -errno, "make a directory in %s/tmp", c->dir);
	}
	lock = xasprintf("%s.lock", w.dir);
	w.lock = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (w.lock < 0 || flock(w.lock, LOCK_EX) < 0 || fstat(w.lock, &st) < 0) {
		int r = err_set(e, -errno, "lock %s", lock);

		workspace_fini(&w);
		return r;
	}
	/* Somebody's sweep may have locked it first, taking it for a dead one's. */
	if (st.st_nlink == 0) {
		workspace_fini(&w);
		return -EAGAIN;
	}
	chmod(w.dir, 0755);
	*ret = w;
	return 0;
}

int workspace_make(const struct image_cache *c, struct workspace *ret, struct err *e)
{
	int r;

	do
		r = workspace_try(c, ret, e);
	while (r == -EAGAIN);
	return r;
}

void workspace_fini(struct workspace *w)
{
	autofree char *lock = w->dir ? xasprintf("%s.lock", w->dir) : NULL;

	if (!w->dir)
		return;
	if (access(w->dir, F_OK) == 0)
		exec_remove_tree(w->dir);
	unlink(lock);
	close_p(&w->lock);
	free(w->dir);
	w->dir = NULL;
	w->lock = -1;
}

int workspace_publish(struct workspace *w, const struct image_cache *c, const char *entry,
		      struct err *e)
{
	autofree char *target = xasprintf("%s/%s", c->dir, entry);
	autofree char *old = xasprintf("%s.old", w->dir);
	autoclose int fd = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool had;

	/* Or a power failure could leave the name with files that are not whole. */
	if (fd < 0 || syncfs(fd) < 0)
		return err_set(e, -errno, "write %s to the disk", w->dir);
	had = rename(target, old) == 0;
	if (rename(w->dir, target) < 0) {
		int r = err_set(e, -errno, "rename %s to %s", w->dir, target);

		if (had && rename(old, target) < 0)
			exec_remove_tree(old);
		return r;
	}
	if (had)
		exec_remove_tree(old);
	return 0;
}

int cache_lock(const struct image_cache *c, enum cache_lock kind, const char *id, bool exclusive,
	       bool wait, int *ret, struct err *e)
{
	autofree char *path =
	    xasprintf("%s/locks/%s.%s", c->dir, id, kind == CACHE_LOCK_USE ? "use" : "build");
	autoclose int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	if (fd < 0)
		return err_set(e, -errno, "open %s", path);
	if (flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | (wait ? 0 : LOCK_NB)) < 0)
		return errno == EWOULDBLOCK ? err_msg(e, -EBUSY, "'%s' is in use", id)
					    : err_set(e, -errno, "lock %s", path);
	*ret = steal_fd(&fd);
	return 0;
}

int cache_lock_build(const struct image_cache *c, const char *id, struct progress *p, int *ret,
		     struct err *e)
{
	bool told = false;

	for (;;) {
		int r = cache_lock(c, CACHE_LOCK_BUILD, id, true, false, ret, e);

		if (r != -EBUSY)
			return r;
		if (!told) {
			autofree char *text =
			    xasprintf("another insula is making %s; waiting for it", id);

			progress_note(p, text);
			told = true;
		}
		if (progress_cancelled(p))
			return err_msg(e, -EINTR, "interrupted");
		usleep(200000);
	}
}

int cache_check_space(const char *dir, const char *what, uint64_t needed, struct err *e)
{
	struct statvfs v;
	uint64_t left;

	if (statvfs(dir, &v) < 0)
		return err_set(e, -errno, "%s", dir);
	left = (uint64_t)v.f_bavail * v.f_frsize;
	if (left < needed)
		return err_msg(e, -ENOSPC, "%s has %llu MiB free, %s needs %llu", dir,
			       (unsigned long long)left >> 20, what,
			       (unsigned long long)needed >> 20);
	return 0;
}

int json_write(const char *path, json_t *object, struct err *e)
{
	int r = json_dump_file(object, path, JSON_INDENT(1) | JSON_SORT_KEYS);

	json_decref(object);
	return r < 0 ? err_msg(e, -EIO, "cannot write %s", path) : 0;
}

json_t *json_read(const char *path)
{
	json_t *o = json_load_file(path, 0, NULL);

	if (json_is_object(o))
		return o;
	json_decref(o);
	return NULL;
}

const char *json_text(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s ? s : "";
}

int link_or_copy(const char *from, const char *to, struct err *e)
{
	autostrbuf struct strbuf data = {0};
	autoclose int fd = -1;
	int r;

	if (link(from, to) == 0)
		return 0;
	r = read_file(from, 1u << 30, &data);
	if (r < 0)
		return err_set(e, r, "read %s", from);
	fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	r = fd < 0 ? -errno : write_full(fd, data.data, data.len);
	return r < 0 ? err_set(e, r, "write %s", to) : 0;
}
