/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/runner_root.c - a container's root file system out of an image's layers
 */
#include "oci/runner_parts.h"

#include "base/dirs.h"
#include "container/userns.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define COPY "work/copy" /* where nothing mounts overlays */

int program_run(const char *const *argv)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return pid < 0 ? -errno : status == 0 ? 0 : -EIO;
}

/* overlayfs takes its layers as one string of less than a page: short links to each, from @dir. */
static int link_layers(const struct root_layers *l, const char *dir, struct strbuf *lower,
		       struct err *e)
{
	for (size_t i = l->n; i--;) {
		autofree char *name = xasprintf("%s/l%zu", dir, i);

		if (symlink(l->v[i], name) < 0)
			return err_set(e, -errno, "make %s", name);
		strbuf_printf(lower, "%sl%zu", lower->len ? ":" : "", i);
	}
	return 0;
}

/* A copy that appears whole or not at all, and is there the next time. */
static int copy_layers(const struct root_layers *l, struct err *e)
{
	autostrbuf struct strbuf layers = {0};
	const char *argv[] = {l->unpacker, "merge", "work/copying", NULL, NULL};

	for (size_t i = 0; i < l->n; i++)
		strbuf_printf(&layers, "%s\n", l->v[i]);
	argv[3] = layers.data;
	dirs_remove("work/copying");
	if (mkdir("work/copying", 0755) < 0 || program_run(argv) < 0 ||
	    rename("work/copying", COPY) < 0)
		return err_msg(e, -EIO, "copying the image failed");
	return 0;
}

static int bind_copy(struct err *e)
{
	return mount(COPY, "rootfs", NULL, MS_BIND, NULL) < 0
		   ? err_set(e, -errno, "bind the copy of the image")
		   : 0;
}

static int mount_overlay(const char *lower)
{
	autofree char *options = xasprintf("lowerdir=%s,upperdir=upper,workdir=work%s", lower,
					   userns_is_host_root() ? "" : ",userxattr");
	const char *argv[] = {"fuse-overlayfs", "-o", options, "rootfs", NULL};

	if (mount("overlay", "rootfs", "overlay", MS_NODEV, options) == 0)
		return 0;
	return program_run(argv);
}

int layers_mount(const struct root_layers *l, const char *dir, struct err *e)
{
	static const char *const dirs[] = {"upper", "work", "rootfs"};
	autostrbuf struct strbuf lower = {0};
	int r;

	if (chdir(dir) < 0)
		return err_set(e, -errno, "%s", dir);
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		if (mkdir(dirs[i], 0755) < 0 && errno != EEXIST)
			return err_set(e, -errno, "make %s/%s", dir, dirs[i]);
	}
	if (l->n == 0)
		return err_msg(e, -ENOEXEC, "the image has no layers");
	if (access(COPY, F_OK) == 0)
		return bind_copy(e);
	r = link_layers(l, dir, &lower, e);
	if (r < 0 || mount_overlay(lower.data) == 0)
		return r;
	r = copy_layers(l, e);
	return r < 0 ? r : bind_copy(e);
}
