/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live/snapshots.c - the snapshots of a machine
 */
#include "live/snapshots.h"

#include "base/dirs.h"
#include "base/fd.h"
#include "live/lineage.h"
#include "live/live.h"
#include "model/machine_config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#define RECORD_MAX (1u << 20)
#define INITRD_MAX (512u << 20)

int snapshot_check_name(const char *name, struct err *e)
{
	return machine_name_check(name, e);
}

char *snapshot_path(const char *dir, const char *file)
{
	return xasprintf("%s/snapshots/%s", dir, file);
}

void snapshot_record_fini(struct snapshot_record *s)
{
	free(s->name);
	free(s->disk);
	free(s->memory);
	json_decref(s->parents);
	json_decref(s->description);
	*s = (struct snapshot_record){0};
}

uint64_t snapshot_bytes(const char *dir, const struct snapshot_record *s)
{
	autofree char *path = s->memory ? snapshot_path(dir, s->memory) : NULL;
	struct stat st;

	return path && stat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

/* --- the record --- */

static bool is_file_name(const json_t *o)
{
	const char *s = json_string_value(o);

	return s && s[0] && s[0] != '.' && !strchr(s, '/') && strlen(s) == json_string_length(o);
}

static bool is_sound(const json_t *o)
{
	const json_t *disk = json_object_get(o, "disk"), *memory = json_object_get(o, "memory");
	const json_t *parents = json_object_get(o, "parents"), *p;
	const json_t *description = json_object_get(o, "description");
	size_t i;

	if ((disk && !is_file_name(disk)) || (memory && !is_file_name(memory)) ||
	    (parents && !json_is_array(parents)) || (!disk && !memory) ||
	    json_is_object(description) != (memory != NULL))
		return false;
	json_array_foreach((json_t *)parents, i, p)
	{
		if (!is_file_name(p))
			return false;
	}
	return true;
}

static char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? xstrdup(s) : NULL;
}

int snapshot_read(const char *dir, const char *name, struct snapshot_record *ret, struct err *e)
{
	autofree char *file = xasprintf("%s.json", name), *path = snapshot_path(dir, file);
	autostrbuf struct strbuf text = {0};
	json_t *o;
	int r = snapshot_check_name(name, e);

	if (r < 0)
		return r;
	r = read_file(path, RECORD_MAX, &text);
	if (r == -ENOENT)
		return err_msg(e, r, "there is no snapshot '%s'", name);
	if (r < 0)
		return err_set(e, r, "read %s", path);
	o = json_loadb(text.data ? text.data : "", text.len, 0, NULL);
	if (!is_sound(o)) {
		json_decref(o);
		return err_msg(e, -EINVAL, "%s is damaged", path);
	}
	*ret = (struct snapshot_record){
	    .name = xstrdup(name),
	    .disk = text_of(o, "disk"),
	    .memory = text_of(o, "memory"),
	    .parents = json_incref(json_object_get(o, "parents")),
	    .created = json_integer_value(json_object_get(o, "created")),
	    .description = json_incref(json_object_get(o, "description")),
	};
	json_decref(o);
	return 0;
}

/* All or nothing: written beside, then renamed. */
static int write_record(const char *dir, const char *name, const json_t *o, struct err *e)
{
	autofree char *file = xasprintf("%s.json", name), *path = snapshot_path(dir, file);
	autofree char *part = xasprintf("%s.part", path), *text = json_dumps(o, JSON_INDENT(1));
	autofree char *parent = snapshot_path(dir, ".");
	autoclose int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	autoclose int at = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r =
	    fd < 0 || at < 0 ? -errno : write_full(fd, text ? text : "", text ? strlen(text) : 0);

	if (r == 0 && (!text || fsync(fd) < 0 || rename(part, path) < 0 || fsync(at) < 0))
		r = -errno;
	return r < 0 ? err_set(e, r, "write %s", path) : 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct snapshot_record *)a)->name,
		      ((const struct snapshot_record *)b)->name);
}

int snapshot_read_all(const char *dir, struct snapshot_record **ret, size_t *n, struct err *e)
{
	autofree char *path = xasprintf("%s/snapshots", dir);
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
		r = snapshot_read(dir, name, &all[*n], e);
		*n += r == 0;
	}
	if (d)
		closedir(d);
	if (*n)
		qsort(all, *n, sizeof(*all), by_name);
	*ret = all;
	return r;
}

/* --- memory files --- */

/* "mem-3": no file begins so yet. */
static char *new_memory(const char *dir)
{
	for (unsigned int k = 1;; k++) {
		autofree char *file = xasprintf("mem-%u.state", k),
			      *path = snapshot_path(dir, file);

		if (access(path, F_OK) < 0)
			return xasprintf("mem-%u", k);
	}
}

static bool names(const struct snapshot_record *s, const char *file)
{
	json_t *p;
	size_t i;

	if (s->memory && strcmp(s->memory, file) == 0)
		return true;
	json_array_foreach(s->parents, i, p)
	{
		if (strcmp(json_string_value(p), file) == 0)
			return true;
	}
	return false;
}

/* "mem-3.initrd" goes with "mem-3.state". */
static bool is_memory_needed(const struct snapshot_record *all, size_t n, const char *file)
{
	autofree char *state = xasprintf("%.*s.state", (int)strcspn(file, "."), file);

	for (size_t i = 0; i < n; i++) {
		if (names(&all[i], state))
			return true;
	}
	return false;
}

void snapshot_sweep(const char *dir)
{
	autofree char *path = xasprintf("%s/snapshots", dir);
	struct snapshot_record *all = NULL;
	struct err e = {0};
	struct dirent *de;
	size_t n = 0;
	DIR *d = opendir(path);

	if (d && snapshot_read_all(dir, &all, &n, &e) == 0) {
		while ((de = readdir(d))) {
			size_t len = strlen(de->d_name);
			bool part = len > 5 && strcmp(de->d_name + len - 5, ".part") == 0;
			bool memory = strncmp(de->d_name, "mem-", 4) == 0;

			if (part || (memory && !is_memory_needed(all, n, de->d_name)))
				unlinkat(dirfd(d), de->d_name, 0);
		}
	}
	for (size_t i = 0; i < n; i++)
		snapshot_record_fini(&all[i]);
	free(all);
	if (d)
		closedir(d);
	rmdir(path); /* if it is empty */
}

/* What a new memory file may leave out: what the newest one, and those that it needs, have.  The
 * caller's list of file names, empty for none. */
static json_t *choose_parents(const char *dir)
{
	struct snapshot_record *all = NULL, *best = NULL;
	json_t *ret = json_array();
	struct err e = {0};
	size_t n = 0;

	if (snapshot_read_all(dir, &all, &n, &e) < 0)
		n = 0;
	for (size_t i = 0; i < n; i++) {
		if (all[i].memory && (!best || all[i].created >= best->created))
			best = &all[i];
	}
	if (best && json_array_size(best->parents) + 1 < SNAPSHOT_CHAIN_MAX) {
		json_array_append_new(ret, json_string(best->memory));
		if (best->parents)
			json_array_extend(ret, best->parents);
	}
	for (size_t i = 0; i < n; i++)
		snapshot_record_fini(&all[i]);
	free(all);
	return ret;
}

/* --- making one --- */

/* The initrd of a run is gone with it; the guest may want it again when it reboots. */
static int keep_initrd(const struct snapshot_request *q, const char *stem, json_t *description,
		       struct err *e)
{
	const char *path = json_string_value(json_object_get(description, "initrd"));
	autofree char *file = xasprintf("%s.initrd", stem), *copy = snapshot_path(q->dir, file);
	autostrbuf struct strbuf data = {0};
	autoclose int fd = -1;
	int r;

	if (!path || !q->keep_initrd)
		return 0;
	r = read_file(path, INITRD_MAX, &data);
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

int snapshot_switching(void *dir, const struct live_disks *disks, struct err *e)
{
	return disks->n ? live_set_disk(dir, base_name(disks->disk[0].overlay), e) : 0;
}

void snapshot_not_switched(void *dir, const struct live_disks *disks)
{
	struct err e = {0};

	if (disks->n && live_set_disk(dir, base_name(disks->disk[0].path), &e) < 0)
		fprintf(stderr, "insula: %s\n", e.msg);
}

static int make_running(const struct snapshot_request *q, json_t *o, double *stall_ms,
			struct err *e)
{
	autofree char *disk = dirs_machine_disk(q->dir), *stem = new_memory(q->dir);
	autofree char *file = xasprintf("%s.state", stem), *path = snapshot_path(q->dir, file);
	json_t *parents = q->whole || q->disk_only ? json_array() : choose_parents(q->dir);
	struct live_machine m = {.control = q->control,
				 .dir = q->dir,
				 .compress = q->compress,
				 .parents = parents,
				 .switching = snapshot_switching,
				 .not_switched = snapshot_not_switched,
				 .opaque = (void *)(uintptr_t)q->dir};
	json_t *answer = NULL, *description;
	bool own = access(disk, F_OK) == 0;
	int r = own || !q->disk_only
		    ? 0
		    : err_msg(e, -ENOTSUP, "'%s' has no disk of its own", q->machine);

	if (r == 0)
		r = live_save(&m, q->disk_only ? NULL : path, &answer, e);
	if (r == 0) {
		*stall_ms = json_real_value(json_object_get(answer, "stall_ms"));
		description = json_object_get(answer, "description");
		if (own)
			json_object_set_new(o, "disk", json_string(base_name(disk)));
		if (!q->disk_only) {
			r = keep_initrd(q, stem, description, e);
			json_object_set_new(o, "memory", json_string(file));
			json_object_set(o, "parents", parents);
			json_object_set(o, "description", description);
		}
	}
	json_decref(answer);
	json_decref(parents);
	return r;
}

/* From now on the machine writes to an overlay. */
static int make_stopped(const struct snapshot_request *q, json_t *o, struct err *e)
{
	autofree char *disk = dirs_machine_disk(q->dir), *overlay = NULL;
	int r;

	if (access(disk, F_OK) < 0)
		return err_msg(e, -ENOTSUP,
			       "'%s' does not run, and has no disk of its own: there is nothing "
			       "to keep",
			       q->machine);
	r = live_overlay_make(q->dir, 0, disk, NULL, 0, &overlay, e);
	if (r == 0)
		r = live_set_disk(q->dir, base_name(overlay), e);
	json_object_set_new(o, "disk", json_string(base_name(disk)));
	return r;
}

int snapshot_make(const struct snapshot_request *q, double *stall_ms, struct err *e)
{
	autofree char *file = xasprintf("%s.json", q->name), *record = snapshot_path(q->dir, file);
	autofree char *parent = xasprintf("%s/snapshots", q->dir);
	json_t *o;
	int r = snapshot_check_name(q->name, e);

	if (r == 0 && access(record, F_OK) == 0)
		r = err_msg(e, -EEXIST, "machine '%s' has a snapshot '%s' already", q->machine,
			    q->name);
	if (r == 0)
		r = make_dir(parent, 0700, e);
	if (r < 0)
		return r;
	o = json_pack("{s:I}", "created", (json_int_t)time(NULL));
	*stall_ms = 0;
	r = q->control ? make_running(q, o, stall_ms, e) : make_stopped(q, o, e);
	if (r == 0)
		r = write_record(q->dir, q->name, o, e);
	json_decref(o);
	if (r < 0)
		snapshot_sweep(q->dir);
	return r;
}

/* --- going back, and away --- */

int snapshot_put_back(const char *dir, const struct snapshot_record *s, char **ret, struct err *e)
{
	autofree char *disk = s->disk ? xasprintf("%s/%s", dir, s->disk) : NULL, *overlay = NULL;
	int r;

	if (!disk) {
		*ret = NULL;
		return 0;
	}
	r = live_overlay_make(dir, 0, disk, NULL, 0, &overlay, e);
	if (r == 0)
		*ret = xstrdup(base_name(overlay));
	return r;
}

int snapshot_remove(const char *dir, const char *name, struct err *e)
{
	autofree char *file = xasprintf("%s.json", name), *path = snapshot_path(dir, file);
	struct snapshot_record s = {0};
	int r = snapshot_read(dir, name, &s, e);

	if (r < 0)
		return r;
	snapshot_record_fini(&s);
	if (unlink(path) < 0)
		return err_set(e, -errno, "remove %s", path);
	snapshot_sweep(dir);
	return 0;
}
