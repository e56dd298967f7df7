/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/loose_snapshots.c - snapshots of machines that no insulad keeps
 */
#include "base/exit.h"
#include "cli/loose.h"
#include "cli/run.h"
#include "cli/ui.h"
#include "live/lineage.h"
#include "live/snapshots.h"

#include "base/dirs.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

/* --- create, delete --- */

/* Overlays that nothing looks through any more. */
static void tidy(const char *name)
{
	autofree char *dir = machine_dir(name), *data = dirs_data();
	autofree char *machines = xasprintf("%s/machines", data);
	struct lineage l = {0};
	struct err e = {0};

	if (lineage_add_all(&l, machines, &e) == 0)
		lineage_sweep(&l, dir, false);
	lineage_fini(&l);
}

int loose_snapshot_create(const char *name, const char *snapshot, bool compress, bool disk_only,
			  bool json)
{
	autofree char *dir = machine_dir(name), *link = xasprintf("%s/control", dir);
	char control[PATH_MAX];
	struct snapshot_request q = {.dir = dir,
				     .machine = name,
				     .name = snapshot,
				     .compress = compress,
				     .disk_only = disk_only,
				     .keep_initrd = true};
	struct err e = {0}, busy = {0};
	autoclose int lock = -1;
	double stall;
	int r = machine_must_exist(name, &e);

	if (r == 0 && machine_claim(name, &lock, &busy) < 0) {
		q.control = control;
		if (!realpath(link, control))
			r = err_set(&e, -errno, "%s", link);
	}
	if (r == 0)
		r = snapshot_make(&q, &stall, &e);
	if (r < 0)
		return ui_fail(&e, EXIT_FAIL);
	if (json)
		printf("{\"name\":\"%s\",\"stall_ms\":%.3f}\n", snapshot, stall);
	return EXIT_OK;
}

int loose_snapshot_delete(const char *name, const char *snapshot)
{
	autofree char *dir = machine_dir(name);
	struct err e = {0};

	if (snapshot_remove(dir, snapshot, &e) < 0)
		return ui_fail(&e, EXIT_FAIL);
	tidy(name);
	return EXIT_OK;
}

/* --- list --- */

int loose_snapshot_list(const char *name, bool json)
{
	autofree char *dir = machine_dir(name);
	struct snapshot_record *all = NULL;
	json_t *list = json_array(), *o;
	struct err e = {0};
	size_t n = 0, i;
	int r = snapshot_read_all(dir, &all, &n, &e);

	for (i = 0; i < n; i++) {
		json_array_append_new(list, json_pack("{s:s, s:I, s:b, s:I}", "name", all[i].name,
						      "created", (json_int_t)all[i].created,
						      "memory", all[i].memory != NULL, "bytes",
						      (json_int_t)snapshot_bytes(dir, &all[i])));
		snapshot_record_fini(&all[i]);
	}
	free(all);
	if (r == 0 && json) {
		json_dumpf(list, stdout, JSON_INDENT(1));
		putchar('\n');
	} else if (r == 0) {
		json_array_foreach(list, i, o) snapshot_print_line(o);
	}
	json_decref(list);
	return r < 0 ? ui_fail(&e, EXIT_FAIL) : EXIT_OK;
}

/* --- restore --- */

static void put_disk(json_t *description, const char *path)
{
	json_t *disks = json_object_get(description, "disks"), *d;
	size_t i;

	json_array_foreach(disks, i, d)
	{
		const char *serial = json_string_value(json_object_get(d, "serial"));

		if (!serial || strcmp(serial, "root") != 0)
			continue;
		json_object_set_new(d, "path", json_string(path));
		json_object_set_new(d, "format", json_string("qcow2"));
	}
}

/* As `insula run` from here on: the machine lives as long as we do. */
static int go_on(bool verbose, const char *machine, const struct snapshot_record *s, char **command,
		 struct err *e)
{
	autofree char *from = machine_dir(machine), *state = snapshot_path(from, s->memory);
	autofree char *disk = machine_current_disk(machine);
	struct run_config run = {.verbose = verbose};
	struct session_config session = {.run = &run, .argv = command, .clean_end = true};
	struct run_dir dir = {.lock = -1};
	struct vm vm = {.ready = -1, .parent = -1, .errors = -1, .console = -1, .control = -1};
	int status = EXIT_FAIL, r = run_dir_make(&dir, e);

	put_disk(s->description, disk);
	session.agent = json_object_get(s->description, "vsock") != NULL;
	session.tty = (!command || !command[0]) || (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO));
	if (r == 0)
		r = vm_restore(s->description, state, verbose, &dir, &vm, e);
	if (r == 0) {
		r = machine_publish(machine, vm.control_path, e);
		if (r == 0)
			status = session_run(&session, &vm);
		machine_unpublish(machine);
	}
	vm_fini(&vm);
	run_dir_fini(&dir);
	return r < 0 ? r : status;
}

int loose_snapshot_restore(const char *name, const char *snapshot, bool verbose, char **command)
{
	autofree char *dir = machine_dir(name), *disk = NULL;
	struct snapshot_record s = {0};
	autoclose int lock = -1;
	struct err e = {0};
	int r;

	ui_init(false, verbose);
	r = snapshot_read(dir, snapshot, &s, &e);
	if (r == 0)
		r = machine_claim(name, &lock, &e);
	if (r == 0 && command && !s.memory)
		r = err_msg(&e, -EINVAL, "snapshot '%s' is of the disk only: nothing runs in it",
			    snapshot);
	if (r == 0)
		r = snapshot_put_back(dir, &s, &disk, &e);
	if (r == 0 && disk)
		r = live_set_disk(dir, disk, &e);
	if (r == 0)
		tidy(name);
	if (r == 0 && s.memory)
		r = go_on(verbose, name, &s, command, &e);
	snapshot_record_fini(&s);
	return r < 0 ? ui_fail(&e, EXIT_FAIL) : r;
}
