/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live/save.c - a snapshot of a running machine
 */
#include "live/live_priv.h"

#include <errno.h>
#include <fcntl.h>

int live_save(const struct live_machine *m, const char *file, json_t **ret, struct err *e)
{
	autofree char *part = xasprintf("%s.part", file);
	int fds[1 + LIVE_MAX_DISKS];
	json_t *args = json_object(), *answer = NULL;
	struct live_session s;
	unsigned int n = 0;
	int r = live_begin(m, &s, e);

	if (r < 0) {
		json_decref(args);
		return r;
	}
	json_object_set_new(args, "compress", json_boolean(m->compress));
	fds[0] = open(part, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fds[0] < 0)
		r = err_set(e, -errno, "make %s", part);
	else
		n = 1;
	if (r == 0)
		r = live_overlays(&s, args, fds, &n, e);
	if (r == 0)
		r = vmm_client_call(&s.client, "save", json_incref(args), fds, n, &answer, e);
	/* What is on stable storage first is the content, then its name. */
	if (r == 0 && (fsync(fds[0]) < 0 || rename(part, file) < 0))
		r = err_set(e, -errno, "%s", file);
	while (n)
		close(fds[--n]);
	if (r < 0)
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
