/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/machines.c - named machines: $XDG_DATA_HOME/insula/machines/NAME/{lock,disk.raw,nvram.fd}
 * and, while one runs, a link to its control socket
 */
#include "base/dirs.h"
#include "base/exit.h"
#include "base/fd.h"
#include "cli/run.h"
#include "image/image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>

char *machine_dir(const char *name)
{
	autofree char *data = dirs_data(), *path = xasprintf("%s/machines/%s", data, name);
	char real[PATH_MAX];

	/* insulad's have their files elsewhere, and a link here. */
	return xstrdup(realpath(path, real) ? real : path);
}

int machine_must_exist(const char *name, struct err *e)
{
	autofree char *disk = machine_current_disk(name);

	return access(disk, R_OK) < 0
		   ? err_msg(e, -ENOENT, "there is no machine named '%s' that keeps a disk", name)
		   : 0;
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

char *machine_current_disk(const char *name)
{
	autofree char *dir = machine_dir(name);

	return dirs_machine_disk(dir);
}

int machine_disk(const char *name, const char *base, char **ret, struct err *e)
{
	autofree char *path = machine_current_disk(name);
	int r = access(path, F_OK) < 0 ? image_copy(base, path, e) : 0;

	if (r == 0)
		*ret = steal_ptr(&path);
	return r;
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
