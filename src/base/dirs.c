/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/dirs.c - where Insula keeps what lasts, what a run leaves, and its programs
 */
#include "base/dirs.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>

char *dirs_data(void)
{
	const char *xdg = getenv("XDG_DATA_HOME"), *home = getenv("HOME");

	if (xdg && xdg[0] == '/')
		return xasprintf("%s/insula", xdg);
	if (geteuid() == 0 || !home || home[0] != '/')
		return xstrdup("/var/lib/insula");
	return xasprintf("%s/.local/share/insula", home);
}

char *dirs_run(void)
{
	const char *own = getenv("INSULA_RUN_DIR"), *xdg = getenv("XDG_RUNTIME_DIR");

	if (own && own[0] == '/')
		return xstrdup(own);
	if (geteuid() == 0)
		return xstrdup("/run/insula");
	if (xdg && xdg[0] == '/' && access(xdg, W_OK) == 0)
		return xasprintf("%s/insula", xdg);
	return xasprintf("/tmp/insula-%u", (unsigned int)geteuid());
}

int dirs_make_run(char **ret, struct err *e)
{
	autofree char *path = dirs_run();
	struct stat st;

	mkdir(path, 0700);
	if (lstat(path, &st) < 0)
		return err_set(e, -errno, "%s", path);
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid())
		return err_msg(e, -EPERM, "%s is not a directory of ours", path);
	*ret = steal_ptr(&path);
	return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path) < 0 && errno != ENOENT ? -1 : 0;
}

void dirs_remove(const char *path)
{
	nftw(path, remove_entry, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

int dirs_program(const char *name, char **ret, struct err *e)
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

char *dirs_machine_disk(const char *dir)
{
	autofree char *link = xasprintf("%s/disk", dir);
	char file[256];
	ssize_t n = readlink(link, file, sizeof(file) - 1);

	if (n <= 0)
		return xasprintf("%s/disk.raw", dir);
	file[n] = '\0';
	return xasprintf("%s/%s", dir, file);
}
