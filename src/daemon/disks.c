/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/disks.c - disk files that several machines look through
 *
 * Clones and forks go on in overlays above files of their source, which outlive it: a deleted
 * machine's directory stays, with nothing but those files, until no machine's disk or snapshot lies
 * over them.  Nothing is counted; the images say what they are over (live/lineage.h).
 */
#include "daemon/daemon_priv.h"

#include "base/dirs.h"
#include "base/log.h"
#include "live/snapshots.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define SHARED  "descendants" /* others may lie over files of this machine */
#define DELETED "deleted"     /* its row is gone */

static int mark(struct daemon *d, const char *uuid, const char *what, struct err *e)
{
	autofree char *path = path_guest(d, uuid, what);
	autoclose int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	return fd < 0 ? err_set(e, -errno, "make %s", path) : 0;
}

static bool has_mark(struct daemon *d, const char *uuid, const char *what)
{
	autofree char *path = path_guest(d, uuid, what);

	return access(path, F_OK) == 0;
}

int disks_note_descendants(struct daemon *d, const char *uuid, struct err *e)
{
	return mark(d, uuid, SHARED, e);
}

bool disks_have_descendants(struct daemon *d, const char *uuid)
{
	return has_mark(d, uuid, SHARED);
}

int disks_lineage(struct daemon *d, struct lineage *ret, struct err *e)
{
	autofree char *named = xasprintf("%s/machines", d->data_dir);
	struct machine_record *rows = NULL;
	size_t n = 0;
	int r = store_machine_list(d->store, &rows, &n, e);

	for (size_t i = 0; i < n; i++) {
		autofree char *dir = path_guest(d, rows[i].uuid, NULL);

		if (r == 0)
			r = lineage_add(ret, dir, e);
		machine_record_fini(&rows[i]);
	}
	free(rows);
	/* Those of `insula run --name`, which no row tells of. */
	return r < 0 ? r : lineage_add_all(ret, named, e);
}

void disks_tidy(struct daemon *d, const char *uuid)
{
	autofree char *dir = path_guest(d, uuid, NULL);
	struct lineage l = {0};
	struct err e = {0};

	snapshot_sweep(dir);
	if (disks_lineage(d, &l, &e) == 0)
		lineage_sweep(&l, dir, false);
	else
		log_warn("disks are not tidied: %s", e.msg);
	lineage_fini(&l);
}

void disks_release(struct daemon *d, const struct lineage *l, const char *uuid)
{
	autofree char *dir = path_guest(d, uuid, NULL);

	if (!lineage_needs(l, dir))
		path_guest_remove(d, uuid);
	else if (lineage_sweep(l, dir, true) && mark(d, uuid, DELETED, NULL) < 0)
		log_warn("%s cannot be written", dir);
}

/* Of machines that are gone, what nobody needs any more. */
static void release_deleted(struct daemon *d, const struct lineage *l)
{
	autofree char *guests = xasprintf("%s/guests", d->data_dir);
	DIR *dir = opendir(guests);
	struct dirent *de;

	while (dir && (de = readdir(dir))) {
		if (machine_uuid_is(de->d_name) && has_mark(d, de->d_name, DELETED))
			disks_release(d, l, de->d_name);
	}
	if (dir)
		closedir(dir);
}

bool disks_lie_elsewhere(struct daemon *d, const char *uuid)
{
	autofree char *dir = path_guest(d, uuid, NULL);
	struct lineage l = {0};
	bool elsewhere = false;
	size_t n = strlen(dir);

	if (lineage_add(&l, dir, NULL) < 0)
		elsewhere = true;
	for (size_t i = 0; i < l.n; i++)
		elsewhere = elsewhere || strncmp(l.path[i], dir, n) != 0;
	lineage_fini(&l);
	return elsewhere;
}

void disks_remove(struct daemon *d, const char *uuid, bool elsewhere)
{
	autofree char *dir = path_guest(d, uuid, NULL);
	bool shared = has_mark(d, uuid, SHARED);
	struct lineage l = {0};
	struct err e = {0};

	if (!shared)
		path_guest_remove(d, uuid);
	if (!shared && !elsewhere)
		return;
	if (disks_lineage(d, &l, &e) == 0) {
		if (shared)
			disks_release(d, &l, uuid);
		release_deleted(d, &l);
	} else {
		log_warn("files of a deleted machine stay: %s", e.msg);
	}
	lineage_fini(&l);
}
