/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live/overlay.c - overlays for the disks of a running machine
 */
#include "live/lineage.h"
#include "live/live_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

static json_t *disk_of(const struct live_session *s, unsigned int disk)
{
	return json_array_get(json_object_get(s->description, "disks"), disk);
}

bool live_is_written(const struct live_session *s, unsigned int disk)
{
	const json_t *d = disk_of(s, disk);

	return json_string_value(json_object_get(d, "path")) &&
	       !json_is_true(json_object_get(d, "readonly")) &&
	       !json_is_true(json_object_get(d, "cdrom"));
}

int live_begin(const struct live_machine *m, struct live_session *ret, struct err *e)
{
	struct live_session s = {.m = m};
	int r = vmm_client_open(m->control, &s.client, e);

	if (r < 0)
		return r;
	r = vmm_client_call(&s.client, "describe", NULL, NULL, 0, &s.described, e);
	s.description = json_object_get(s.described, "description");
	if (r == 0 && !json_is_object(s.description))
		r = err_msg(e, -EPROTO, "the machine does not say what it is");
	if (r < 0) {
		json_decref(s.described);
		vmm_client_fini(&s.client);
		return r;
	}
	*ret = s;
	return 0;
}

/* Those that the machine does not write to go away.  If it does not say, all stay: they are empty,
 * and show what is below. */
static void undo_overlays(struct live_session *s)
{
	struct live_disks undone = {.n = 0};
	json_t *now = NULL, *disks;
	struct err e = {0};

	if (vmm_client_call(&s->client, "describe", NULL, NULL, 0, &now, &e) < 0)
		return;
	disks = json_object_get(json_object_get(now, "description"), "disks");
	for (unsigned int i = 0; i < s->disks.n; i++) {
		const struct live_disk *d = &s->disks.disk[i];
		const json_t *o = json_array_get(disks, d->number);
		const char *path = json_string_value(json_object_get(o, "path"));

		if (d->overlay && path && strcmp(path, d->overlay) != 0)
			undone.disk[undone.n++] = *d;
	}
	if (undone.n && s->noted && s->m->not_switched)
		s->m->not_switched(s->m->opaque, &undone);
	for (unsigned int i = 0; i < undone.n; i++)
		unlink(undone.disk[i].overlay);
	json_decref(now);
}

void live_end(struct live_session *s, int r)
{
	if (r < 0)
		undo_overlays(s);
	for (unsigned int i = 0; i < s->disks.n; i++) {
		free(s->disks.disk[i].overlay);
		free(s->disks.disk[i].path);
	}
	json_decref(s->described);
	vmm_client_fini(&s->client);
}

int live_overlay(const struct live_session *s, unsigned int disk, const char *dir, char **ret,
		 struct err *e)
{
	const json_t *d = disk_of(s, disk), *sizes = json_object_get(s->described, "disk_sizes");
	const char *base = json_string_value(json_object_get(d, "path"));
	const char *format = json_string_value(json_object_get(d, "format"));
	uint64_t size = (uint64_t)json_integer_value(json_array_get(sizes, disk));

	return live_overlay_make(dir, disk, base, format, size, ret, e);
}

static bool is_in(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && path[n] == '/' && !strchr(path + n + 1, '/');
}

static int make_overlays(struct live_session *s, struct err *e)
{
	size_t n = json_array_size(json_object_get(s->description, "disks"));

	for (unsigned int i = 0; i < n; i++) {
		const char *path = json_string_value(json_object_get(disk_of(s, i), "path"));
		struct live_disk *d = &s->disks.disk[s->disks.n];
		int r;

		if (!live_is_written(s, i))
			continue;
		if (s->disks.n == LIVE_MAX_DISKS)
			return err_msg(e, -E2BIG, "more than %d disks", LIVE_MAX_DISKS);
		if (!is_in(path, s->m->dir))
			return err_msg(
			    e, -ENOTSUP,
			    "disk '%s' is written to and not one of the machine's own in "
			    "%s",
			    path, s->m->dir);
		d->number = i;
		d->path = xstrdup(path);
		s->disks.n++;
		r = live_overlay(s, i, s->m->dir, &d->overlay, e);
		if (r < 0)
			return r;
	}
	return 0;
}

int live_overlays(struct live_session *s, json_t *args, int *fds, unsigned int *n, struct err *e)
{
	json_t *list = json_array();
	int r = make_overlays(s, e);

	json_object_set_new(args, "overlays", list);
	for (unsigned int i = 0; i < s->disks.n && r == 0; i++) {
		const struct live_disk *d = &s->disks.disk[i];
		int fd = open(d->overlay, O_RDWR | O_CLOEXEC);

		if (fd < 0)
			return err_set(e, -errno, "open %s", d->overlay);
		fds[(*n)++] = fd;
		json_array_append_new(
		    list, json_pack("{s:i, s:s}", "disk", (int)d->number, "path", d->overlay));
	}
	if (r == 0 && s->m->switching) {
		s->noted = true;
		r = s->m->switching(s->m->opaque, &s->disks, e);
	}
	return r;
}
