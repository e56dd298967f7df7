/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/loose.c - running machines that no insulad keeps: of `insula run --name` and `insula fork`
 *
 * Each has a directory of its name with a link to its control socket; insulad's have a link there
 * instead of the directory.
 */
#include "cli/loose.h"

#include "base/dirs.h"
#include "cli/run.h"
#include "live/client.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

bool loose_is(const char *name)
{
	autofree char *data = dirs_data(), *path = xasprintf("%s/machines/%s", data, name);
	struct stat st;

	return name[0] && !strchr(name, '/') && lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int ask(const char *name, const char *command, json_t **ret, struct err *e)
{
	struct vmm_client c;
	int fd = machine_connect(name, e), r;

	if (fd < 0)
		return fd;
	vmm_client_init(&c, fd);
	r = vmm_client_call(&c, command, NULL, NULL, 0, ret, e);
	vmm_client_fini(&c);
	return r;
}

int loose_call(const char *name, const char *command, struct err *e)
{
	return loose_is(name) ? ask(name, command, NULL, e) : -ENOENT;
}

char *loose_vsock(const char *name)
{
	autofree char *dir = machine_dir(name), *link = xasprintf("%s/control", dir);
	char control[PATH_MAX], *slash;
	struct err e = {0};
	autoclose int fd = loose_is(name) ? machine_connect(name, &e) : -ENOENT;

	if (fd < 0 || !realpath(link, control))
		return NULL;
	slash = strrchr(control, '/');
	return xasprintf("%.*s/vsock", (int)(slash - control), control);
}

static void add(json_t *machines, const char *name)
{
	json_t *d = NULL, *desc;
	struct err e = {0};

	if (ask(name, "describe", &d, &e) < 0)
		return;
	desc = json_object_get(d, "description");
	json_array_append_new(machines, json_pack("{s:s, s:s, s:O*, s:O*}", "name", name, "state",
						  "running", "cpus", json_object_get(desc, "cpus"),
						  "memory", json_object_get(desc, "memory")));
	json_decref(d);
}

void loose_list(json_t *machines)
{
	autofree char *data = dirs_data(), *path = xasprintf("%s/machines", data);
	DIR *d = opendir(path);
	struct dirent *de;

	while (d && (de = readdir(d)))
		if (de->d_type == DT_DIR && de->d_name[0] != '.')
			add(machines, de->d_name);
	if (d)
		closedir(d);
}
