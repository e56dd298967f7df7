/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/machines.c - named machines: $XDG_DATA_HOME/insula/machines/NAME/{lock,disk.raw,nvram.fd}
 * and, while one runs, a link to its control socket
 */
#include "base/exit.h"
#include "base/fd.h"
#include "cli/run.h"
#include "image/image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

char *machine_dir(const char *name)
{
	const char *xdg = getenv("XDG_DATA_HOME"), *home = getenv("HOME");

	if (xdg && xdg[0] == '/')
		return xasprintf("%s/insula/machines/%s", xdg, name);
	if (geteuid() == 0 || !home || home[0] != '/')
		return xasprintf("/var/lib/insula/machines/%s", name);
	return xasprintf("%s/.local/share/insula/machines/%s", home, name);
}

int machine_claim(const char *name, int *lock, struct err *e)
{
	autofree char *dir = machine_dir(name), *path = xasprintf("%s/lock", dir);
	autoclose int fd = -1;
	int r = make_dir(dir, 0700, e);

	if (r < 0)
		return r;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(e, -errno, "open %s", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		err_exit(e, 0, EXIT_NAME_IN_USE);
		return err_msg(e, -EBUSY, "a machine named '%s' is running", name);
	}
	*lock = steal_fd(&fd);
	return 0;
}

/* Only what is allocated: images are mostly holes. */
static int copy_sparse(int from, int to)
{
	struct stat st;
	off_t at = 0;

	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	if (fstat(from, &st) < 0 || ftruncate(to, st.st_size) < 0)
		return -errno;
	while (at < st.st_size) {
		off_t data = lseek(from, at, SEEK_DATA), hole;

		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		hole = lseek(from, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		for (loff_t in = data, out = data; in < hole;) {
			ssize_t n = copy_file_range(from, &in, to, &out, (size_t)(hole - in), 0);

			if (n < 0)
				return -errno;
			if (n == 0)
				return -EIO;
		}
		at = hole;
	}
	return 0;
}

/* The link "disk" says which file it is, once it is not the first one any more. */
char *machine_current_disk(const char *name)
{
	autofree char *dir = machine_dir(name), *link = xasprintf("%s/disk", dir);
	char file[256];
	ssize_t n = readlink(link, file, sizeof(file) - 1);

	if (n <= 0)
		return xasprintf("%s/disk.raw", dir);
	file[n] = '\0';
	return xasprintf("%s/%s", dir, file);
}

int machine_set_disk(const char *name, const char *file, struct err *e)
{
	autofree char *dir = machine_dir(name), *link = xasprintf("%s/disk", dir);
	autofree char *temp = xasprintf("%s/disk.new", dir);
	autoclose int fd = -1;

	unlink(temp);
	if (symlink(file, temp) < 0 || rename(temp, link) < 0)
		return err_set(e, -errno, "make %s", link);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		(void)fsync(fd);
	return 0;
}

int machine_disk(const char *name, const char *base, char **ret, struct err *e)
{
	autofree char *dir = machine_dir(name), *path = machine_current_disk(name);
	autofree char *part = xasprintf("%s/disk.part", dir);
	autoclose int from = -1, to = -1;
	int r;

	if (access(path, F_OK) < 0) {
		from = open(base, O_RDONLY | O_CLOEXEC);
		to = open(part, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		r = from < 0 || to < 0 ? -errno : copy_sparse(from, to);
		if (r == 0 && (fsync(to) < 0 || rename(part, path) < 0))
			r = -errno;
		if (r < 0) {
			unlink(part);
			return err_set(e, r, "make a private copy of %s", base);
		}
	}
	*ret = steal_ptr(&path);
	return 0;
}

/* machines/NAME/clones/CLONE, a link to the clone's directory: gone with that, it dangles. */
int machine_note_clone(const char *name, const char *clone, struct err *e)
{
	autofree char *dir = machine_dir(name), *clones = xasprintf("%s/clones", dir);
	autofree char *link = xasprintf("%s/%s", clones, clone), *target = machine_dir(clone);
	int r = make_dir(clones, 0700, e);

	if (r < 0)
		return r;
	unlink(link);
	return symlink(target, link) < 0 ? err_set(e, -errno, "make %s", link) : 0;
}

bool machine_has_clones(const char *name)
{
	autofree char *dir = machine_dir(name), *path = xasprintf("%s/clones", dir);
	DIR *d = opendir(path);
	struct dirent *de;
	bool any = false;

	while (d && (de = readdir(d)))
		any |= de->d_name[0] != '.' && faccessat(dirfd(d), de->d_name, F_OK, 0) == 0;
	if (d)
		closedir(d);
	return any;
}

char *machine_nvram(const char *name)
{
	autofree char *dir = machine_dir(name);

	return xasprintf("%s/nvram.fd", dir);
}

int machine_publish(const char *name, const char *control, struct err *e)
{
	autofree char *dir = machine_dir(name), *path = xasprintf("%s/control", dir);

	unlink(path);
	return symlink(control, path) < 0 ? err_set(e, -errno, "make %s", path) : 0;
}

void machine_unpublish(const char *name)
{
	autofree char *dir = machine_dir(name), *path = xasprintf("%s/control", dir);

	unlink(path);
}

int machine_connect(const char *name, struct err *e)
{
	autofree char *dir = machine_dir(name), *path = xasprintf("%s/control", dir);
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ssize_t n = readlink(path, addr.sun_path, sizeof(addr.sun_path) - 1);

	if (fd < 0)
		return err_set(e, -errno, "socket");
	if (n < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return err_msg(e, -ENOENT, "no machine named '%s' is running", name);
	return steal_fd(&fd);
}
