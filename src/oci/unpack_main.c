/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/unpack_main.c - insula-unpack: unpacks a layer, or puts layers together, in a process of its
 * own, as root of whatever user namespace it is started in
 *
 *	insula-unpack layer BLOB DIFF_ID MAX_BYTES DIR
 *	insula-unpack merge DIR LAYERS          the lowest first, a line each
 */
#include "oci/unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define MEMORY_MAX (UINT64_C(1) << 30)

static int open_tree(const char *path, struct err *e)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? err_set(e, -errno, "%s", path) : fd;
}

/* Two walls: names are looked up inside of the directory, and there is nothing else to be seen. */
static int enter(const char *path, struct err *e)
{
	int fd = open_tree(path, e);

	if (fd >= 0 && (fchdir(fd) < 0 || chroot(".") < 0)) {
		close(fd);
		return err_set(e, -errno, "enter %s", path);
	}
	return fd;
}

static int do_layer(char **argv, struct err *e)
{
	autoclose int blob = open(argv[0], O_RDONLY | O_CLOEXEC), root = -1;
	struct unpack_limits limits = UNPACK_LIMITS;
	uint64_t max = strtoull(argv[2], NULL, 10);
	struct digest_text diff_id;
	int r;

	limits.bytes = MIN(limits.bytes, max);
	(void)unpack_xattr_prefix(); /* while there is a /proc */
	if (blob < 0)
		return err_set(e, -errno, "%s", argv[0]);
	root = enter(argv[3], e);
	r = root < 0 ? root : unpack_layer(blob, root, &limits, &diff_id, e);
	if (r < 0)
		return r;
	if (strcmp(diff_id.s, argv[1]) != 0)
		return err_msg(e, -EBADMSG,
			       "its content is %s, and the image's configuration says %s",
			       diff_id.s, argv[1]);
	return 0;
}

static int do_merge(char **argv, struct err *e)
{
	autoclose int to = open_tree(*argv++, e);
	int r = MIN(to, 0);

	for (char *l = strtok(*argv, "\n"); l && r == 0; l = strtok(NULL, "\n")) {
		autoclose int from = open_tree(l, e);

		r = from < 0 ? from : merge_layer(from, to, e);
	}
	return r;
}

int main(int argc, char **argv)
{
	const struct rlimit memory = {MEMORY_MAX, MEMORY_MAX};
	struct err e = {0};
	int r;

	setlocale(LC_CTYPE, "C.UTF-8");
	setrlimit(RLIMIT_AS, &memory);
	umask(0);
	if (argc == 6 && strcmp(argv[1], "layer") == 0) {
		r = do_layer(argv + 2, &e);
	} else if (argc == 4 && strcmp(argv[1], "merge") == 0) {
		r = do_merge(argv + 2, &e);
	} else {
		fprintf(stderr, "usage: insula-unpack layer BLOB DIFF_ID MAX_BYTES DIR | "
				"merge DIR LAYERS\n");
		return 2;
	}
	if (r < 0)
		fprintf(stderr, "%s\n", e.msg);
	return r < 0;
}
