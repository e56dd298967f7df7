/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/run_dir.c - a private directory for the time of a run
 */
#include "base/dirs.h"
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
	autofree char *base = NULL, *parent = NULL;
	int r = dirs_make_run(&base, e);

	if (r < 0)
		return r;
	parent = xasprintf("%s/run", base);
	mkdir(parent, 0700);
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
