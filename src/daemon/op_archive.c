/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/op_archive.c - machines in files: export, import, backups (live/machine_archive.h)
 *
 *	export    {kind: machine}    disk.qcow2, whole, and what it boots from
 *	backup    {kind: backup}     the same, and a snapshot "backup-ID" that says which instant it
 *is of {kind: increment}  layer-1.qcow2...: what was written since the instant of its parent
 *
 * An import of a backup and its increments makes a machine of the last instant.
 */
#include "daemon/daemon_priv.h"

#include "base/dirs.h"
#include "base/fd.h"
#include "block/disk.h"
#include "image/image.h"
#include "live/machine_archive.h"
#include "live/snapshots.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#define STAGE      "export" /* in the machine's directory, while one is made */
#define LAYERS_MAX (MACHINE_ARCHIVE_MAX_FILES - 8)
#define MARK       "backup-"

static int on_archive(void *opaque, uint64_t done, uint64_t total)
{
	struct op_call *c = opaque;

	job_fraction(c->job, "reading and writing", total ? (double)done / (double)total : 0);
	return op_cancelled(c, NULL);
}

static int on_flatten(void *opaque, uint64_t done, uint64_t total)
{
	struct op_call *c = opaque;

	job_fraction(c->job, "flattening the disk", total ? (double)done / (double)total : 0);
	return op_cancelled(c, NULL);
}

static int check_path(const char *path, struct err *e)
{
	return path[0] == '/' ? 0
			      : err_msg(e, -EINVAL, "path: '%.200s' is not an absolute one", path);
}

/* --- writing --- */

struct files {
	struct archived_file list[MACHINE_ARCHIVE_MAX_FILES];
	char *names[2 * MACHINE_ARCHIVE_MAX_FILES];
	unsigned int n, n_names;
};

static void files_fini(struct files *f)
{
	while (f->n_names)
		free(f->names[--f->n_names]);
}

/* Takes both over. */
static void add_file(struct files *f, char *name, char *path)
{
	f->names[f->n_names++] = name;
	f->names[f->n_names++] = path;
	f->list[f->n++] = (struct archived_file){name, path};
}

/* What it boots from; of that only the last is ever written to. */
static void add_boot_files(struct op_call *c, const struct machine_record *m, bool all,
			   struct files *f)
{
	static const char *const names[] = {"kernel", "modules", "nvram.fd"};

	for (size_t i = all ? 0 : 2; i < ARRAY_SIZE(names); i++) {
		char *path = path_guest(c->d, m->uuid, names[i]);

		if (access(path, R_OK) == 0)
			add_file(f, xstrdup(names[i]), path);
		else
			free(path);
	}
}

static json_t *make_manifest(const struct machine_record *m, const char *kind)
{
	json_t *config = json_loads(m->config, 0, NULL);

	json_object_del(config, "vnc_password");
	return json_pack("{s:s, s:s, s:s, s:I, s:o, s:O}", "kind", kind, "name", m->name, "uuid",
			 m->uuid, "created", (json_int_t)time(NULL), "config", config, "labels",
			 m->labels);
}

/* All that is seen through @disk, as one image. */
static int flatten(struct op_call *c, const struct machine_record *m, const char *disk,
		   struct files *f, struct err *e)
{
	char *stage = path_guest(c->d, m->uuid, STAGE), *to = xasprintf("%s/disk.qcow2", stage);
	const struct qcow2_options o = {.refcount_order = -1};
	const struct disk_progress p = {.tick = on_flatten, .opaque = c};
	struct disk_copy copy = {
	    .from = disk, .to = to, .to_format = "qcow2", .options = &o, .progress = &p};
	int r;

	dirs_remove(stage);
	r = make_dir(stage, 0700, e);
	free(stage);
	if (r == 0)
		r = disk_convert(&copy, e);
	add_file(f, xstrdup("disk.qcow2"), to);
	return r;
}

static int write_archive(struct op_call *c, const char *path, json_t *manifest,
			 const struct files *f, struct err *e)
{
	const struct machine_archive_progress p = {.tick = on_archive, .opaque = c};
	int r = machine_archive_write(path, manifest, f->list, f->n, &p, e);
	struct stat st;

	if (r == 0 && stat(path, &st) == 0)
		c->result = json_pack("{s:s, s:I}", "path", path, "bytes", (json_int_t)st.st_size);
	return r;
}

static void remove_stage(struct op_call *c, const struct machine_record *m)
{
	autofree char *stage = path_guest(c->d, m->uuid, STAGE);

	dirs_remove(stage);
}

/* One that runs goes on above its disk meanwhile. */
static int export_claimed(struct op_call *c, const struct machine_record *m, struct err *e)
{
	autofree char *dir = path_guest(c->d, m->uuid, NULL), *disk = dirs_machine_disk(dir);
	json_t *manifest = make_manifest(m, "machine");
	struct files f = {.n = 0};
	int r = check_path(op_string(c, "path"), e);

	add_boot_files(c, m, true, &f);
	if (r == 0 && access(disk, F_OK) == 0) {
		if (guest_get(c->d, m->uuid, NULL))
			r = op_freeze_disk(c, m, disk, e);
		if (r == 0)
			r = flatten(c, m, disk, &f, e);
	}
	if (r == 0)
		r = write_archive(c, op_string(c, "path"), manifest, &f, e);
	remove_stage(c, m);
	files_fini(&f);
	json_decref(manifest);
	return r;
}

static int run_claimed(struct op_call *c,
		       int (*fn)(struct op_call *c, const struct machine_record *m, struct err *e),
		       struct err *e)
{
	struct machine_record m;
	int r = op_claim(c, &m, e);

	if (r < 0)
		return r;
	r = op_refuse_container(&m, "exported", e);
	if (r == 0)
		r = fn(c, &m, e);
	op_unclaim(c, &m);
	return r;
}

int op_machine_export(struct op_call *c, struct err *e)
{
	return run_claimed(c, export_claimed, e);
}

/* --- backups --- */

/* The disk of this instant, kept by a snapshot whose name is the backup's id; *@disk is its file.
 */
static int mark_instant(struct op_call *c, const struct machine_record *m, const char *id,
			char **disk, struct err *e)
{
	autofree char *dir = path_guest(c->d, m->uuid, NULL);
	autofree char *control = path_run(c->d, m->uuid, "control");
	struct snapshot_request q = {.dir = dir,
				     .machine = m->name,
				     .name = id,
				     .control = guest_get(c->d, m->uuid, NULL) ? control : NULL,
				     .disk_only = true};
	struct snapshot_record s = {0};
	double stall_ms;
	int r = snapshot_make(&q, &stall_ms, e);

	if (r == 0)
		r = snapshot_read(dir, id, &s, e);
	if (r == 0)
		*disk = xasprintf("%s/%s", dir, s.disk);
	snapshot_record_fini(&s);
	return r;
}

/* The layers of @disk down to, and without, @base: what was written between the two instants. */
static int add_layers(const char *disk, const char *base, struct files *f, struct err *e)
{
	char *chain[LAYERS_MAX], *path = xstrdup(disk);
	unsigned int n = 0;
	int r = 0;

	while (r == 0 && path && strcmp(path, base) != 0) {
		bool qcow2;

		if (n == LAYERS_MAX) {
			r = err_msg(e, -E2BIG, "too much has happened since: make a full backup");
			break;
		}
		chain[n++] = path;
		path = NULL;
		if (strcmp(disk_format(chain[n - 1], NULL), "qcow2") == 0)
			r = qcow2_read_backing(chain[n - 1], &path, &qcow2, e);
	}
	if (r == 0 && !path)
		r = err_msg(e, -EINVAL,
			    "the disk does not lie over that backup's any more: make a full one");
	free(path);
	for (unsigned int i = 0; i < n; i++) {
		if (r == 0)
			add_file(f, xasprintf("layer-%u.qcow2", i + 1), chain[n - 1 - i]);
		else
			free(chain[i]);
	}
	return r;
}

/* What was written since the backup in the file @after. */
static int add_increment(struct op_call *c, const struct machine_record *m, const char *after,
			 const char *disk, json_t *manifest, struct files *f, struct err *e)
{
	autofree char *dir = path_guest(c->d, m->uuid, NULL), *base = NULL;
	struct snapshot_record s = {0};
	json_t *parent = NULL;
	const char *id;
	int r = machine_archive_read(after, NULL, NULL, &parent, e);

	id = json_string_value(json_object_get(parent, "id"));
	if (r == 0 && !id)
		r = err_msg(e, -EINVAL, "%s is no backup", after);
	if (r == 0)
		r = snapshot_read(dir, id, &s, e);
	if (r == -ENOENT)
		r = err_msg(e, r, "the instant of %s is not known any more: make a full backup",
			    after);
	if (r == 0) {
		base = xasprintf("%s/%s", dir, s.disk);
		json_object_set_new(manifest, "parent", json_string(id));
		json_object_set_new(manifest, "base_format", json_string(disk_format(base, NULL)));
		r = add_layers(disk, base, f, e);
	}
	snapshot_record_fini(&s);
	json_decref(parent);
	return r;
}

/* Of earlier backups: whoever makes the next increment makes it after the newest. */
static void forget_others(struct op_call *c, const struct machine_record *m, const char *id)
{
	autofree char *dir = path_guest(c->d, m->uuid, NULL);
	struct snapshot_record *all = NULL;
	struct err e = {0};
	size_t n = 0;

	(void)!snapshot_read_all(dir, &all, &n, &e);
	for (size_t i = 0; i < n; i++) {
		if (strncmp(all[i].name, MARK, strlen(MARK)) == 0 && strcmp(all[i].name, id) != 0)
			(void)!snapshot_remove(dir, all[i].name, &e);
		snapshot_record_fini(&all[i]);
	}
	free(all);
	disks_tidy(c->d, m->uuid);
}

static int backup_claimed(struct op_call *c, const struct machine_record *m, struct err *e)
{
	const char *path = op_string(c, "path"), *after = op_string(c, "after");
	json_t *manifest = make_manifest(m, after ? "increment" : "backup");
	autofree char *dir = path_guest(c->d, m->uuid, NULL), *disk = NULL;
	char uuid[MACHINE_UUID_LEN + 1], id[sizeof(MARK) + 13];
	struct files f = {.n = 0};
	struct err ignored = {0};
	int r = check_path(path, e);

	machine_uuid_make(uuid);
	snprintf(id, sizeof(id), MARK "%.8s%.4s", uuid, uuid + 9);
	json_object_set_new(manifest, "id", json_string(id));
	if (r == 0)
		r = mark_instant(c, m, id, &disk, e);
	add_boot_files(c, m, !after, &f);
	if (r == 0)
		r = after ? add_increment(c, m, after, disk, manifest, &f, e)
			  : flatten(c, m, disk, &f, e);
	if (r == 0)
		r = write_archive(c, path, manifest, &f, e);
	if (r == 0)
		forget_others(c, m, id);
	else if (disk)
		(void)!snapshot_remove(dir, id, &ignored);
	if (r < 0)
		disks_tidy(c->d, m->uuid);
	remove_stage(c, m);
	files_fini(&f);
	json_decref(manifest);
	return r;
}

int op_machine_backup(struct op_call *c, struct err *e)
{
	return run_claimed(c, backup_claimed, e);
}

/* --- import --- */

/* An image from outside must not look through to a file of the host's. */
static int check_image(const char *path, bool layer, struct err *e)
{
	char *below = NULL;
	bool qcow2;
	int r = qcow2_read_backing(path, &below, &qcow2, e);

	if (r == 0 && !layer && below)
		r = err_msg(e, -EINVAL, "%s: a whole disk lies over no other", path);
	if (r == 0 && layer && !below)
		r = err_msg(e, -EINVAL, "%s: a layer lies over another", path);
	free(below);
	return r;
}

/* "disk.qcow2" becomes the first disk, of the format that layers above say. */
static int place_disk(struct op_call *c, const char *dir, const char *format, char **top,
		      struct err *e)
{
	autofree char *from = xasprintf("%s/disk.qcow2", dir);
	autofree char *raw = xasprintf("%s/disk.raw", dir),
		      *own = xasprintf("%s/disk0-1.qcow2", dir);
	const struct qcow2_options o = {.refcount_order = -1};
	const struct disk_progress p = {.tick = on_flatten, .opaque = c};
	struct disk_copy copy = {.from = from,
				 .from_format = "qcow2",
				 .to = raw,
				 .to_format = "raw",
				 .options = &o,
				 .progress = &p};
	int r;

	if (access(from, F_OK) < 0)
		return 0; /* it has none of its own */
	r = check_image(from, false, e);
	if (r == 0 && strcmp(format, "raw") == 0) {
		r = disk_convert(&copy, e);
		unlink(from);
		*top = steal_ptr(&raw);
	} else if (r == 0) {
		r = rename(from, own) < 0 ? err_set(e, -errno, "%s", own) : 0;
		if (r == 0)
			r = live_set_disk(dir, "disk0-1.qcow2", e);
		*top = steal_ptr(&own);
	}
	return r;
}

/* The layers in @stage over *@top, which becomes the last. */
static int place_layers(const char *stage, const char *dir, unsigned int *number, char **top,
			struct err *e)
{
	for (unsigned int i = 1; i <= LAYERS_MAX; i++) {
		autofree char *from = xasprintf("%s/layer-%u.qcow2", stage, i);
		autofree char *name = xasprintf("disk0-%u.qcow2", ++*number);
		char *to;
		int r;

		if (access(from, F_OK) < 0)
			break;
		r = *top ? check_image(from, true, e)
			 : err_msg(e, -EINVAL, "there is no disk below the layers");
		if (r == 0)
			r = qcow2_rename_backing(from, *top, e);
		to = xasprintf("%s/%s", dir, name);
		if (r == 0 && rename(from, to) < 0)
			r = err_set(e, -errno, "%s", to);
		if (r == 0)
			r = live_set_disk(dir, name, e);
		free(*top);
		*top = to;
		if (r < 0)
			return r;
	}
	return 0;
}

static int place_nvram(const char *stage, const char *dir, struct err *e)
{
	autofree char *from = xasprintf("%s/nvram.fd", stage), *to = xasprintf("%s/nvram.fd", dir);

	if (rename(from, to) < 0 && errno != ENOENT)
		return err_set(e, -errno, "%s", to);
	return 0;
}

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

/* Each after the one before it; *@last is the last one's manifest. */
static int take_increments(struct op_call *c, const json_t *paths, const char *dir, char **top,
			   json_t **last, struct err *e)
{
	const struct machine_archive_progress p = {.tick = on_archive, .opaque = c};
	autofree char *stage = xasprintf("%s/" STAGE, dir);
	unsigned int number = 1;
	int r = 0;

	for (size_t i = 1; i < json_array_size(paths) && r == 0; i++) {
		const char *path = json_string_value(json_array_get(paths, i));
		json_t *manifest = NULL;

		dirs_remove(stage);
		r = make_dir(stage, 0700, e);
		if (r == 0)
			r = machine_archive_read(path, stage, &p, &manifest, e);
		if (r == 0 && (strcmp(text(manifest, "kind"), "increment") != 0 ||
			       strcmp(text(manifest, "parent"), text(*last, "id")) != 0))
			r = err_msg(e, -EINVAL, "%s does not follow the file before it", path);
		if (r == 0)
			r = place_layers(stage, dir, &number, top, e);
		if (r == 0)
			r = place_nvram(stage, dir, e);
		if (r < 0) {
			json_decref(manifest);
			break;
		}
		json_decref(*last);
		*last = manifest;
	}
	dirs_remove(stage);
	return r;
}

/* The format of the first disk: what the first increment was made over. */
static int first_format(const json_t *paths, const char **ret, struct err *e)
{
	const char *path = json_string_value(json_array_get(paths, 1));
	json_t *manifest = NULL;
	int r;

	*ret = "qcow2";
	if (!path)
		return 0;
	r = machine_archive_read(path, NULL, NULL, &manifest, e);
	if (r == 0 && strcmp(text(manifest, "base_format"), "raw") == 0)
		*ret = "raw";
	json_decref(manifest);
	return r;
}

static int fill_dir(struct op_call *c, const json_t *paths, const char *dir, json_t **manifest,
		    struct err *e)
{
	const struct machine_archive_progress p = {.tick = on_archive, .opaque = c};
	autofree char *top = NULL;
	const char *format, *kind;
	int r = first_format(paths, &format, e);

	if (r == 0)
		r = machine_archive_read(json_string_value(json_array_get(paths, 0)), dir, &p,
					 manifest, e);
	if (r < 0)
		return r;
	kind = text(*manifest, "kind");
	if (strcmp(kind, "machine") != 0 && strcmp(kind, "backup") != 0)
		return err_msg(e, -EINVAL, "%s is %s, and not a whole machine",
			       json_string_value(json_array_get(paths, 0)),
			       kind[0] ? kind : "something else");
	r = place_disk(c, dir, format, &top, e);
	return r < 0 ? r : take_increments(c, paths, dir, &top, manifest, e);
}

static int make_record(struct op_call *c, const json_t *manifest, struct machine_record *m,
		       struct err *e)
{
	struct machine_config config = {0};
	json_t *o, *labels = json_object_get(manifest, "labels");
	int r = machine_config_parse(json_object_get(manifest, "config"), &config, e);

	if (r < 0)
		return r;
	o = machine_config_format(&config);
	m->config = json_dumps(o, JSON_COMPACT);
	m->labels = json_is_object(labels) ? json_deep_copy(labels) : json_object();
	m->created = (int64_t)time(NULL);
	json_decref(o);
	machine_config_fini(&config);
	return m->config ? machine_labels_check(m->labels, e)
			 : err_msg(e, -EINVAL, "config: is not UTF-8");
}

/* Its own name unless one is asked for; claimed. */
static int take_name(struct op_call *c, const json_t *manifest, struct machine_record *m,
		     struct err *e)
{
	const char *name = op_string(c, "name");

	m->name = xstrdup(name ? name : text(manifest, "name"));
	return op_claim_name(c->d, m->name, e);
}

static int check_paths(const json_t *paths, struct err *e)
{
	const json_t *p;
	size_t i;
	int r = json_array_size(paths) ? 0 : err_msg(e, -EINVAL, "paths: which files?");

	json_array_foreach((json_t *)paths, i, p)
	{
		if (r == 0)
			r = json_is_string(p) ? check_path(json_string_value(p), e)
					      : err_msg(e, -EINVAL, "paths: a list of strings");
	}
	return r;
}

int op_machine_import(struct op_call *c, struct err *e)
{
	const json_t *paths = json_object_get(c->args, "paths");
	struct machine_record m = {0};
	json_t *manifest = NULL;
	autofree char *dir = NULL;
	int r = check_paths(paths, e);

	if (r < 0)
		return r;
	machine_uuid_make(m.uuid);
	dir = path_guest(c->d, m.uuid, NULL);
	r = make_dir(dir, MACHINE_FILES_MODE, e);
	if (r == 0)
		r = fill_dir(c, paths, dir, &manifest, e);
	if (r == 0)
		r = make_record(c, manifest, &m, e);
	/* Under another name it is another machine, else what it was. */
	if (r == 0 && op_string(c, "name"))
		r = identity_want(c->d, m.uuid, e);
	if (r == 0)
		r = path_sync(dir, e);
	if (r == 0)
		r = op_cancelled(c, e);
	if (r == 0 && (r = take_name(c, manifest, &m, e)) == 0) {
		r = op_add_machine(c, &m, e);
		op_release_name(c->d, m.name);
	}
	if (r < 0)
		dirs_remove(dir);
	json_decref(manifest);
	machine_record_fini(&m);
	return r;
}
