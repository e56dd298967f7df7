/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live/save.c - a snapshot of a running machine
 */
#include "live/live_priv.h"

#include <errno.h>
#include <fcntl.h>

/* Those that @file may leave things out of, beside it: appends to @fds. */
static int open_parents(const struct live_machine *m, const char *file, int *fds, unsigned int *n,
			struct err *e)
{
	int dir = (int)(strrchr(file, '/') - file);
	const json_t *p;
	size_t i;

	json_array_foreach((json_t *)m->parents, i, p)
	{
		autofree char *path = xasprintf("%.*s/%s", dir, file, json_string_value(p));
		int fd = open(path, O_RDONLY | O_CLOEXEC);

		if (i == LIVE_MAX_PARENTS)
			return err_msg(e, -E2BIG, "more than %d parents", LIVE_MAX_PARENTS);
		if (fd < 0)
			return err_set(e, -errno, "open %s", path);
		fds[(*n)++] = fd;
	}
	return 0;
}

int live_save(const struct live_machine *m, const char *file, json_t **ret, struct err *e)
{
	autofree char *part = file ? xasprintf("%s.part", file) : NULL;
	int fds[1 + LIVE_MAX_PARENTS + LIVE_MAX_DISKS];
	json_t *args = json_object(), *answer = NULL;
	struct live_session s;
	unsigned int n = 0;
	int r = live_begin(m, &s, e);

	if (r < 0) {
		json_decref(args);
		return r;
	}
	if (file) {
		json_object_set_new(args, "compress", json_boolean(m->compress));
		json_object_set_new(args, "parents",
				    m->parents ? json_deep_copy(m->parents) : json_array());
		fds[0] = open(part, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		r = fds[0] < 0 ? err_set(e, -errno, "make %s", part) : 0;
		n = fds[0] >= 0;
		if (r == 0)
			r = open_parents(m, file, fds, &n, e);
	}
	if (r == 0)
		r = live_overlays(&s, args, fds, &n, e);
	if (r == 0)
		r = vmm_client_call(&s.client, file ? "save" : "switch-disks", json_incref(args),
				    fds, n, &answer, e);
	/* What is on stable storage first is the content, then its name. */
	if (r == 0 && file && (fsync(fds[0]) < 0 || rename(part, file) < 0))
		r = err_set(e, -errno, "%s", file);
	while (n)
		close(fds[--n]);
	if (r < 0 && file)
		unlink(part);
	if (r == 0)
		json_object_set(answer, "description", s.description);
	live_end(&s, answer ? 0 : r);
	json_decref(args);
	if (r == 0 && ret)
		*ret = json_incref(answer);
	json_decref(answer);
	return r;
}
