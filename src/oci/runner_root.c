/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/runner_root.c - a container's root file system out of an image's layers
 */
#include "oci/runner_priv.h"

#include "container/userns.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

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
static int link_layers(const struct oci_store *s, const struct image_config *image, const char *dir,
		       struct strbuf *lower, struct err *e)
{
	for (size_t i = image->diff_ids.n; i--;) {
		autofree char *layer = oci_store_layer(s, image->diff_ids.v[i]);
		autofree char *name = xasprintf("%s/l%zu", dir, i);

		if (symlink(layer, name) < 0)
			return err_set(e, -errno, "make %s", name);
		strbuf_printf(lower, "%sl%zu", lower->len ? ":" : "", i);
	}
	return 0;
}

static int copy_layers(const struct oci_store *s, const struct image_config *image,
		       const char *rootfs, struct err *e)
{
	autostrbuf struct strbuf layers = {0};
	const char *argv[] = {s->unpacker, "merge", rootfs, NULL, NULL};

	for (size_t i = 0; i < image->diff_ids.n; i++) {
		autofree char *layer = oci_store_layer(s, image->diff_ids.v[i]);

		strbuf_printf(&layers, "%s\n", layer);
	}
	argv[3] = layers.data;
	return program_run(argv) < 0 ? err_msg(e, -EIO, "copying the image failed") : 0;
}

int rootfs_mount(const struct oci_store *s, const struct image_config *image, const char *dir,
		 struct err *e)
{
	static const char *const dirs[] = {"upper", "work", "rootfs"};
	autofree char *rootfs = xasprintf("%s/rootfs", dir), *options = NULL;
	autostrbuf struct strbuf lower = {0};
	const char *argv[] = {"fuse-overlayfs", "-o", NULL, "rootfs", NULL};
	int r;

	if (chdir(dir) < 0)
		return err_set(e, -errno, "%s", dir);
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		if (mkdir(dirs[i], 0755) < 0)
			return err_set(e, -errno, "make %s/%s", dir, dirs[i]);
	}
	if (image->diff_ids.n == 0)
		return err_msg(e, -ENOEXEC, "the image has no layers");
	r = link_layers(s, image, dir, &lower, e);
	if (r < 0)
		return r;
	options = xasprintf("lowerdir=%s,upperdir=upper,workdir=work%s", lower.data,
			    userns_is_host_root() ? "" : ",userxattr");
	if (mount("overlay", "rootfs", "overlay", MS_NODEV, options) == 0)
		return 0;
	argv[2] = options;
	if (program_run(argv) == 0)
		return 0;
	return copy_layers(s, image, rootfs, e);
}
