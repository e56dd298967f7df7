/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/disk_foreign.c - vmdk, vdi, vhdx by way of qemu-img
 *
 * The source may be anybody's file.  qemu-img is told both formats, so that it guesses nothing; it
 * gets absolute paths, which it cannot take for a protocol or an option; and it runs without a
 * shell, with limits on memory and descriptors, allowed to read the source's directory and to write
 * the copy's (image/exec.h).
 */
#include "cli/disk.h"

#include "image/exec.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>

static const char *const foreign[] = {"vmdk", "vdi", "vhdx"};

bool disk_is_foreign(const char *format)
{
	for (size_t i = 0; i < ARRAY_SIZE(foreign); i++) {
		if (strcmp(format, foreign[i]) == 0)
			return true;
	}
	return false;
}

const char *disk_guess(const char *path)
{
	const char *dot = strrchr(path, '.');

	for (size_t i = 0; dot && i < ARRAY_SIZE(foreign); i++) {
		if (strcmp(dot + 1, foreign[i]) == 0)
			return foreign[i];
	}
	return dot && strcmp(dot, ".qcow2") == 0 ? "qcow2" : "raw";
}

struct lines {
	struct progress *p;
	struct progress_event ev;
};

/* "    (12.34/100%)" */
static void on_line(void *opaque, const char *text)
{
	struct lines *l = opaque;
	const char *open = strchr(text, '(');
	double percent;

	if (!open || sscanf(open, "(%lf/100%%)", &percent) != 1 || percent < 0 || percent > 100)
		return;
	l->ev.fraction = MIN(percent / 100, 0.999);
	l->p->show(l->p->opaque, &l->ev);
}

/* "/abs/dir/name" of a file that need not be there. */
static int absolute(const char *path, char **ret, struct err *e)
{
	autofree char *a = xstrdup(path), *b = xstrdup(path);
	autofree char *dir = realpath(dirname(a), NULL);

	if (!dir)
		return err_set(e, -errno, "%s", path);
	*ret = xasprintf("%s/%s", strcmp(dir, "/") == 0 ? "" : dir, basename(b));
	return 0;
}

static int run_qemu_img(const struct disk_copy *c, const char *from, const char *to,
			struct progress *p, struct err *e)
{
	autofree char *from_copy = xstrdup(from), *to_copy = xstrdup(to);
	const char *argv[] = {"qemu-img", "convert", "-p", "-f", c->from_format, "-O", c->to_format,
			      "--",       from,      to,   NULL};
	struct lines lines = {.p = p, .ev = {.subject = c->from, .text = "copying"}};
	struct exec x = {
	    .argv = argv,
	    .line = on_line,
	    .opaque = &lines,
	    .progress = p,
	    .confine = true,
	    .read_dir = dirname(from_copy),
	    .write_dir = dirname(to_copy),
	};

	return exec_run(&x, e);
}

int disk_convert_foreign(const struct disk_copy *copy, struct progress *p, struct err *e)
{
	autofree char *from = realpath(copy->from, NULL), *to = NULL, *temp = NULL;
	struct disk_copy c = *copy;
	int r;

	if (!from)
		return err_set(e, -errno, "%s", c.from);
	c.from_format = c.from_format ? c.from_format : "raw";
	if (c.compress || c.options->cluster_bits)
		return err_msg(e, -EINVAL,
			       "convert to raw or qcow2 first: --compress and "
			       "--cluster-size are for those");
	r = absolute(c.to, &to, e);
	if (r < 0)
		return r;
	if (!c.force && access(to, F_OK) == 0)
		return err_set(e, -EEXIST, "%s", c.to);
	temp = xasprintf("%s.insula-%d.tmp", to, (int)getpid());
	r = run_qemu_img(&c, from, temp, p, e);
	if (r == 0 && rename(temp, to) < 0)
		r = err_set(e, -errno, "%s", c.to);
	if (r < 0)
		unlink(temp);
	return r;
}
