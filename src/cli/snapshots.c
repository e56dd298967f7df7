/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/snapshots.c - snapshots of named machines
 */
#include "cli/snapshots.h"

#include "base/fd.h"
#include "block/disk.h"
#include "live/live.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <time.h>

#define RECORD_MAX (1u << 20)

int snapshot_check_name(const char *name, struct err *e)
{
	struct run_config cfg = {0};
	int r = run_set_name(&cfg, name, e);

	free(cfg.name);
	return r;
}

char *snapshot_file(const char *machine, const char *snapshot, const char *suffix)
{
	autofree char *dir = machine_dir(machine);

	return xasprintf("%s/snapshots/%s.%s", dir, snapshot, suffix);
}

void snapshot_record_fini(struct snapshot_record *s)
{
	free(s->name);
	free(s->disk);
	json_decref(s->description);
	*s = (struct snapshot_record){0};
}

/* --- the record --- */

int snapshot_read(const char *machine, const char *snapshot, struct snapshot_record *ret,
		  struct err *e)
{
	autofree char *path = snapshot_file(machine, snapshot, "json");
	autostrbuf struct strbuf text = {0};
	json_t *o, *description;
	const char *disk;
	int r = snapshot_check_name(snapshot, e);

	if (r < 0)
		return r;
	r = read_file(path, RECORD_MAX, &text);
	if (r == -ENOENT)
		return err_msg(e, r, "machine '%s' has no snapshot '%s'", machine, snapshot);
	if (r < 0)
		return err_set(e, r, "read %s", path);
	o = json_loadb(text.data, text.len, 0, NULL);
	disk = json_string_value(json_object_get(o, "disk"));
	description = json_object_get(o, "description");
	if (!disk || strchr(disk, '/') || (description && !json_is_object(description))) {
		json_decref(o);
		return err_msg(e, -EINVAL, "%s is damaged", path);
	}
	*ret = (struct snapshot_record){
	    .name = xstrdup(snapshot),
	    .disk = xstrdup(disk),
	    .created = json_integer_value(json_object_get(o, "created")),
	    .state = json_is_true(json_object_get(o, "state")),
	    .description = json_incref(description),
	};
	json_decref(o);
	return 0;
}

/* All or nothing: written beside, then renamed. */
static int write_record(const char *machine, const char *snapshot, json_t *o, struct err *e)
{
	autofree char *path = snapshot_file(machine, snapshot, "json");
	autofree char *part = xasprintf("%s.part", path), *text = json_dumps(o, JSON_INDENT(1));
	autoclose int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : write_full(fd, text ? text : "", text ? strlen(text) : 0);

	if (r == 0 && (!text || fsync(fd) < 0 || rename(part, path) < 0))
		r = -errno;
	return r < 0 ? err_set(e, r, "write %s", path) : 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct snapshot_record *)a)->name,
		      ((const struct snapshot_record *)b)->name);
}

int snapshot_read_all(const char *machine, struct snapshot_record **ret, size_t *n, struct err *e)
{
	autofree char *dir = machine_dir(machine), *path = xasprintf("%s/snapshots", dir);
	struct snapshot_record *all = NULL;
	DIR *d = opendir(path);
	struct dirent *de;
	int r = 0;

	*n = 0;
	*ret = NULL;
	while (d && r == 0 && (de = readdir(d))) {
		size_t len = strlen(de->d_name);
		autofree char *name = NULL;

		if (len < 6 || strcmp(de->d_name + len - 5, ".json") != 0)
			continue;
		name = strndup(de->d_name, len - 5);
		all = realloc(all, (*n + 1) * sizeof(*all));
		if (!name || !all)
			abort();
		r = snapshot_read(machine, name, &all[*n], e);
		*n += r == 0;
	}
	if (d)
		closedir(d);
	if (*n)
		qsort(all, *n, sizeof(*all), by_name);
	*ret = all;
	return r;
}

/* --- overlays --- */

int snapshot_overlay(const char *machine, const char *disk, char **ret, struct err *e)
{
	autofree char *dir = machine_dir(machine);
	const char *suffix = strrchr(disk, '.');
	bool qcow2 = suffix && strcmp(suffix, ".qcow2") == 0;
	struct qcow2_options o = {
	    .refcount_order = -1, .backing = disk, .backing_format = qcow2 ? "qcow2" : "raw"};

	for (unsigned int k = 1;; k++) {
		autofree char *path = xasprintf("%s/disk0-%u.qcow2", dir, k);
		int r = disk_create(path, "qcow2", &o, false, e);

		if (r == -EEXIST)
			continue;
		if (r == 0)
			*ret = xstrdup(strrchr(path, '/') + 1);
		return r;
	}
}

/* --- making one --- */

/* The initrd of a run is gone with it; the guest may want it again when it reboots. */
static int keep_initrd(const char *machine, const char *snapshot, json_t *description,
		       struct err *e)
{
	const char *path = json_string_value(json_object_get(description, "initrd"));
	autofree char *copy = snapshot_file(machine, snapshot, "initrd");
	autostrbuf struct strbuf data = {0};
	autoclose int fd = -1;
	int r;

	if (!path)
		return 0;
	r = read_file(path, 512u << 20, &data);
	if (r < 0)
		return err_set(e, r, "read %s", path);
	fd = open(copy, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	r = fd < 0 ? -errno : write_full(fd, data.data, data.len);
	if (r < 0)
		return err_set(e, r, "write %s", copy);
	json_object_set_new(description, "initrd", json_string(copy));
	return 0;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static int on_switching(void *machine, const struct live_disks *disks, struct err *e)
{
	return disks->n ? machine_set_disk(machine, base_name(disks->disk[0].overlay), e) : 0;
}

static void on_not_switched(void *machine, const struct live_disks *disks)
{
	struct err e = {0};

	if (disks->n && machine_set_disk(machine, base_name(disks->disk[0].path), &e) < 0)
		fprintf(stderr, "insula: %s\n", e.msg);
}

static int make_running(const char *machine, const char *snapshot, bool compress, json_t *o,
			double *stall_ms, struct err *e)
{
	autofree char *dir = machine_dir(machine), *control = xasprintf("%s/control", dir);
	autofree char *file = snapshot_file(machine, snapshot, "state");
	autofree char *disk = machine_current_disk(machine);
	struct live_machine m = {.dir = dir,
				 .compress = compress,
				 .switching = on_switching,
				 .not_switched = on_not_switched,
				 .opaque = (void *)(uintptr_t)machine};
	char real[PATH_MAX];
	json_t *answer, *description;
	int r;

	if (!realpath(control, real))
		return err_set(e, -errno, "%s", control);
	m.control = real;
	r = live_save(&m, file, &answer, e);
	if (r < 0)
		return r;
	*stall_ms = json_real_value(json_object_get(answer, "stall_ms"));
	description = json_object_get(answer, "description");
	r = keep_initrd(machine, snapshot, description, e);
	json_object_set_new(o, "disk", json_string(base_name(disk)));
	json_object_set_new(o, "state", json_true());
	json_object_set(o, "description", description);
	json_decref(answer);
	return r;
}

/* From now on the machine writes to an overlay. */
static int make_stopped(const char *machine, json_t *o, struct err *e)
{
	autofree char *disk = machine_current_disk(machine), *overlay = NULL;
	int r;

	r = snapshot_overlay(machine, disk, &overlay, e);
	if (r == 0)
		r = machine_set_disk(machine, overlay, e);
	json_object_set_new(o, "disk", json_string(base_name(disk)));
	json_object_set_new(o, "state", json_false());
	return r;
}

int snapshot_make(const char *machine, const char *snapshot, bool compress, double *stall_ms,
		  struct err *e)
{
	autofree char *record = snapshot_file(machine, snapshot, "json");
	autofree char *dir = xstrdup(record);
	autoclose int lock = -1;
	struct err busy = {0};
	json_t *o;
	int r = snapshot_check_name(snapshot, e);

	if (r == 0)
		r = machine_must_exist(machine, e);
	if (r == 0 && access(record, F_OK) == 0)
		r = err_msg(e, -EEXIST, "machine '%s' has a snapshot '%s' already", machine,
			    snapshot);
	if (r == 0)
		r = make_dir(dirname(dir), 0700, e);
	if (r < 0)
		return r;
	o = json_pack("{s:I}", "created", (json_int_t)time(NULL));
	*stall_ms = 0;
	if (machine_claim(machine, &lock, &busy) == 0)
		r = make_stopped(machine, o, e);
	else
		r = make_running(machine, snapshot, compress, o, stall_ms, e);
	if (r == 0)
		r = write_record(machine, snapshot, o, e);
	json_decref(o);
	return r;
}

/* --- going back, and away --- */

int snapshot_put_back(const char *machine, const struct snapshot_record *s, struct err *e)
{
	autofree char *dir = machine_dir(machine), *disk = xasprintf("%s/%s", dir, s->disk);
	autofree char *overlay = NULL;
	int r = snapshot_overlay(machine, disk, &overlay, e);

	return r < 0 ? r : machine_set_disk(machine, overlay, e);
}

/* Is @file needed: by the disk, a snapshot, or something above those? */
static bool is_needed(const char *machine, const struct snapshot_record *all, size_t n,
		      const char *file)
{
	autofree char *dir = machine_dir(machine), *disk = machine_current_disk(machine);

	for (size_t i = 0; i <= n; i++) {
		char *path = i < n ? xasprintf("%s/%s", dir, all[i].disk) : xstrdup(disk);
		bool qcow2 = true;

		while (path) {
			char *below = NULL;
			struct err e = {0};

			if (strcmp(base_name(path), file) == 0) {
				free(path);
				return true;
			}
			qcow2 = strcmp(disk_format(path, NULL), "qcow2") == 0;
			/* What cannot be read is not to be judged by. */
			if (qcow2 && qcow2_read_backing(path, &below, &qcow2, &e) < 0) {
				free(path);
				return true;
			}
			free(path);
			path = below;
		}
	}
	return false;
}

/* Overlays that nothing is over, and no snapshot names, hold what nobody can see any more. */
static void sweep(const char *machine)
{
	autofree char *dir = machine_dir(machine);
	struct snapshot_record *all = NULL;
	struct err e = {0};
	struct dirent *de;
	size_t n = 0;
	DIR *d;

	if (snapshot_read_all(machine, &all, &n, &e) == 0 && (d = opendir(dir))) {
		while ((de = readdir(d))) {
			bool ours =
			    strncmp(de->d_name, "disk0-", 6) == 0 && strstr(de->d_name, ".qcow2");

			if (ours && !is_needed(machine, all, n, de->d_name))
				unlinkat(dirfd(d), de->d_name, 0);
		}
		closedir(d);
	}
	for (size_t i = 0; i < n; i++)
		snapshot_record_fini(&all[i]);
	free(all);
}

int snapshot_remove(const char *machine, const char *snapshot, struct err *e)
{
	static const char *const suffixes[] = {"json", "state", "initrd"};
	struct snapshot_record s = {0};
	int r = snapshot_read(machine, snapshot, &s, e);

	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		autofree char *path = snapshot_file(machine, snapshot, suffixes[i]);

		unlink(path);
	}
	snapshot_record_fini(&s);
	/* Linked clones look through the overlays of their source, and their list is kept there. */
	if (!machine_has_clones(machine))
		sweep(machine);
	return 0;
}
