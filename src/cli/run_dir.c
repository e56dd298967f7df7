/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/run_dir.c - a private directory for the time of a run, and where our programs are
 */
#include "cli/run.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#define ORPHAN_AGE 60 /* seconds */

static void remove_flat(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *de;

	while (d && (de = readdir(d)))
		unlinkat(dirfd(d), de->d_name, 0);
	if (d)
		closedir(d);
	rmdir(path);
}

/* A run that is over, however it ended, no longer holds its lock.  One that has no lock yet makes
 * it within moments, or never. */
static void sweep_one(const char *path)
{
	autofree char *lock = xasprintf("%s/lock", path);
	autoclose int fd = open(lock, O_RDWR | O_CLOEXEC);
	struct stat st;

	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
		remove_flat(path);
	else if (fd < 0 && stat(path, &st) == 0 && time(NULL) - st.st_ctime > ORPHAN_AGE)
		rmdir(path);
}

static void sweep(const char *base)
{
	DIR *d = opendir(base);
	struct dirent *de;

	while (d && (de = readdir(d))) {
		autofree char *path = xasprintf("%s/%s", base, de->d_name);

		if (de->d_name[0] != '.')
			sweep_one(path);
	}
	if (d)
		closedir(d);
}

static char *base_dir(void)
{
	const char *xdg = getenv("XDG_RUNTIME_DIR");

	if (geteuid() == 0)
		return xstrdup("/run/insula");
	if (xdg && xdg[0] == '/' && access(xdg, W_OK) == 0)
		return xasprintf("%s/insula", xdg);
	return xasprintf("/tmp/insula-%u", (unsigned int)geteuid());
}

/* In a shared /tmp somebody else may have been first. */
static int check_owner(const char *path, struct err *e)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return err_set(e, -errno, "%s", path);
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid())
		return err_msg(e, -EPERM, "%s is not a directory of ours", path);
	return 0;
}

static int try_make(const char *parent, struct run_dir *ret, struct err *e)
{
	struct run_dir d = {.path = xasprintf("%s/XXXXXX", parent), .lock = -1};
	autofree char *lock = NULL;
	struct stat st;
	int r = 0;

	if (!mkdtemp(d.path)) {
		r = err_set(e, -errno, "make a directory in %s", parent);
		free(d.path);
		return r;
	}
	lock = run_dir_file(&d, "lock");
	d.lock = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (d.lock < 0 || flock(d.lock, LOCK_EX) < 0)
		r = err_set(e, -errno, "lock %s", lock);
	else if (fstat(d.lock, &st) < 0 || st.st_nlink == 0)
		r = -EAGAIN; /* another run's sweep was between our two steps */
	if (r < 0)
		run_dir_fini(&d);
	else
		*ret = d;
	return r;
}

int run_dir_make(struct run_dir *ret, struct err *e)
{
	autofree char *base = base_dir();
	autofree char *parent = xasprintf("%s/run", base);
	int r;

	mkdir(base, 0700);
	mkdir(parent, 0700);
	r = check_owner(base, e);
	if (r < 0)
		return r;
	sweep(parent);
	do
		r = try_make(parent, ret, e);
	while (r == -EAGAIN);
	return r;
}

void run_dir_fini(struct run_dir *d)
{
	if (!d->path)
		return;
	remove_flat(d->path);
	close_p(&d->lock);
	free(d->path);
	d->path = NULL;
}

char *run_dir_file(const struct run_dir *d, const char *name)
{
	return xasprintf("%s/%s", d->path, name);
}

int run_find_program(const char *name, char **ret, struct err *e)
{
	static const char *const places[] = {"", "/../libexec/insula"};
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		return err_set(e, -errno, "/proc/self/exe");
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		char *path = xasprintf("%s%s/%s", self, places[i], name);

		if (access(path, X_OK) == 0) {
			*ret = path;
			return 0;
		}
		free(path);
	}
	return err_msg(e, -ENOENT,
		       "%s is neither in %s nor in its ../libexec/insula: install "
		       "Insula whole, or build it with `make`",
		       name, self);
}
