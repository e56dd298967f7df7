/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/container_copy.c - file systems of containers kept, brought back, copied to new ones
 *
 *	guests/UUID/kept/NAME/ {upper copy info.json}   a snapshot
 *	guests/UUID/kept/.new                           one on its way in or out
 *	guests/UUID/restoring                           what takes the place of upper, or did
 *
 * Copies share blocks where the file system can.  A container that runs writes meanwhile: only a
 * stopped one is copied.
 */
#include "daemon/daemon_priv.h"

#include "base/dirs.h"
#include "base/fd.h"
#include "container/path.h"
#include "image/cache.h"
#include "image/exec.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

/* What it wrote: over the layers, or into a copy of them where nothing mounts overlays. */
static const char *const parts[][2] = {{"upper", "upper"}, {"work/copy", "copy"}};

static char *own_path(struct daemon *d, const struct machine_record *m, const char *a,
		      const char *b)
{
	autofree char *rest = xasprintf("%s%s%s", a, b ? "/" : "", b ? b : "");

	return path_guest(d, m->uuid, rest);
}

/* Files of any of the container's users, with what overlayfs noted on them. */
static int copy_tree(const char *from, const char *to, struct err *e)
{
	const char *const args[] = {from, to, NULL};

	return exec_script_as_root("cp -a --reflink=auto -- \"$1\" \"$2\"", args, NULL, e);
}

static void remove_tree(const char *path)
{
	if (access(path, F_OK) == 0)
		exec_remove_tree(path);
}

/* All that was written is on the disk before a name says so. */
static int sync_all(const char *dir, struct err *e)
{
	autoclose int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || syncfs(fd) < 0 ? err_set(e, -errno, "sync %s", dir) : 0;
}

static int need_stopped(struct op_call *c, const struct machine_record *m, struct err *e)
{
	if (!guest_get(c->d, m->uuid, NULL))
		return 0;
	return err_msg(e, -EBUSY,
		       "'%s' is running: a container's files are copied while it is "
		       "stopped",
		       m->name);
}

bool container_is(const struct machine_record *m)
{
	json_t *o = json_loads(m->config, 0, NULL);
	const char *isolation = json_string_value(json_object_get(o, "isolation"));
	bool is = isolation && strcmp(isolation, "container") == 0;

	json_decref(o);
	return is;
}

void container_sweep_copies(struct daemon *d, const char *uuid)
{
	autofree char *fresh = path_guest(d, uuid, "kept/.new");
	autofree char *restoring = path_guest(d, uuid, "restoring");

	remove_tree(fresh);
	remove_tree(restoring);
}

/* --- snapshots --- */

static int copy_parts(struct daemon *d, const struct machine_record *m, const char *to,
		      struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(parts) && r == 0; i++) {
		autofree char *from = path_guest(d, m->uuid, parts[i][0]);
		autofree char *target = xasprintf("%s/%s", to, parts[i][1]);

		if (access(from, F_OK) == 0)
			r = copy_tree(from, target, e);
	}
	return r;
}

static int write_info(const char *dir, struct err *e)
{
	autofree char *path = xasprintf("%s/info.json", dir);

	return json_write(path, json_pack("{s:I}", "created", (json_int_t)time(NULL)), e);
}

static json_t *format_kept(struct daemon *d, const struct machine_record *m, const char *name)
{
	autofree char *dir = own_path(d, m, "kept", name);
	autofree char *path = xasprintf("%s/info.json", dir);
	json_t *info = json_read(path);
	json_t *o = json_pack("{s:s, s:I, s:b}", "name", name, "created",
			      json_integer_value(json_object_get(info, "created")), "memory", 0);

	json_decref(info);
	return o;
}

int container_snapshot_create(struct op_call *c, const struct machine_record *m, const char *name,
			      struct err *e)
{
	autofree char *kept = path_guest(c->d, m->uuid, "kept");
	autofree char *fresh = own_path(c->d, m, "kept", ".new");
	autofree char *final = own_path(c->d, m, "kept", name);
	int r = machine_name_check(name, e);

	if (r == 0)
		r = need_stopped(c, m, e);
	if (r == 0 && access(final, F_OK) == 0)
		r = err_msg(e, -EEXIST, "'%s' has a snapshot '%s' already", m->name, name);
	if (r < 0)
		return r;
	remove_tree(fresh);
	r = make_dir(fresh, MACHINE_FILES_MODE, e);
	if (r == 0)
		r = copy_parts(c->d, m, fresh, e);
	if (r == 0)
		r = write_info(fresh, e);
	if (r == 0)
		r = sync_all(fresh, e);
	if (r == 0 && rename(fresh, final) < 0)
		r = err_set(e, -errno, "rename %s", fresh);
	if (r == 0)
		r = path_sync(kept, e);
	if (r < 0) {
		remove_tree(fresh);
		return r;
	}
	c->result = format_kept(c->d, m, name);
	event_emit(c->d, "snapshot.created", m->uuid, m->name,
		   json_pack("{s:s}", "snapshot", name));
	return 0;
}

json_t *container_snapshots(struct daemon *d, const struct machine_record *m)
{
	autofree char *kept = path_guest(d, m->uuid, "kept");
	json_t *list = json_array();
	struct dirent **names;
	int n = scandir(kept, &names, NULL, alphasort);

	for (int i = 0; i < n; i++) {
		if (names[i]->d_name[0] != '.')
			json_array_append_new(list, format_kept(d, m, names[i]->d_name));
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	return list;
}

static int need_kept(struct op_call *c, const struct machine_record *m, const char *name,
		     char **dir, struct err *e)
{
	int r = machine_name_check(name, e);

	if (r < 0)
		return r;
	*dir = own_path(c->d, m, "kept", name);
	if (access(*dir, F_OK) == 0)
		return 0;
	return err_msg(e, -ENOENT, "'%s' has no snapshot '%s'", m->name, name);
}

/* One part changes places with its copy: the one or the other is there at any moment. */
static int put_back(struct daemon *d, const struct machine_record *m, const char *kept,
		    const char *const part[2], struct err *e)
{
	autofree char *from = xasprintf("%s/%s", kept, part[1]);
	autofree char *restoring = path_guest(d, m->uuid, "restoring");
	autofree char *place = path_guest(d, m->uuid, part[0]);
	bool had = access(place, F_OK) == 0;
	int r;

	if (access(from, F_OK) < 0)
		return 0;
	remove_tree(restoring);
	r = copy_tree(from, restoring, e);
	if (r == 0)
		r = sync_all(kept, e);
	if (r == 0 &&
	    renameat2(AT_FDCWD, restoring, AT_FDCWD, place, had ? RENAME_EXCHANGE : 0) < 0)
		r = err_set(e, -errno, "rename %s", restoring);
	remove_tree(restoring);
	return r;
}

/* What overlayfs prepared there belongs to what was upper before. */
static int renew_work(struct daemon *d, const struct machine_record *m, struct err *e)
{
	autofree char *inner = path_guest(d, m->uuid, "work/work");

	remove_tree(inner);
	return access(inner, F_OK) == 0 ? err_msg(e, -EIO, "%s cannot be removed", inner) : 0;
}

int container_snapshot_restore(struct op_call *c, const struct machine_record *m, const char *name,
			       struct err *e)
{
	autofree char *kept = NULL;
	int r = need_kept(c, m, name, &kept, e);

	if (r == 0 && op_bool(c, "force") && guest_get(c->d, m->uuid, NULL))
		r = power_stop(c->d, m->uuid, e);
	if (r == 0)
		r = need_stopped(c, m, e);
	for (size_t i = 0; i < ARRAY_SIZE(parts) && r == 0; i++)
		r = put_back(c->d, m, kept, parts[i], e);
	if (r == 0)
		r = renew_work(c->d, m, e);
	if (r < 0)
		return r;
	c->result = op_format_machine(c->d, m, false);
	event_emit(c->d, "snapshot.restored", m->uuid, m->name,
		   json_pack("{s:s}", "snapshot", name));
	return 0;
}

int container_snapshot_delete(struct op_call *c, const struct machine_record *m, const char *name,
			      struct err *e)
{
	autofree char *kept = NULL, *fresh = own_path(c->d, m, "kept", ".new");
	int r = need_kept(c, m, name, &kept, e);

	if (r < 0)
		return r;
	remove_tree(fresh);
	if (rename(kept, fresh) < 0)
		return err_set(e, -errno, "rename %s", kept);
	remove_tree(fresh);
	event_emit(c->d, "snapshot.deleted", m->uuid, m->name,
		   json_pack("{s:s}", "snapshot", name));
	return 0;
}

/* --- clones --- */

/* Two systems must not have one id; the init makes another of an empty file. */
static void forget_identity(const char *upper)
{
	autoclose int root = open(upper, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1;

	if (root < 0)
		return;
	fd = path_open(root, "/etc/machine-id", O_WRONLY | O_TRUNC | O_NOFOLLOW);
}

static int fill_clone(struct op_call *c, const struct machine_record *from,
		      const struct machine_record *m, const char *dir, struct err *e)
{
	autofree char *upper = path_guest(c->d, m->uuid, "upper");
	autofree char *work = path_guest(c->d, m->uuid, "work");
	autofree char *copy = path_guest(c->d, m->uuid, "copy");
	autofree char *copied = path_guest(c->d, m->uuid, "work/copy");
	autofree char *image = path_guest(c->d, from->uuid, "image.json");
	int r = container_pin(m->uuid, dir, image, e);

	if (r == 0)
		r = copy_parts(c->d, from, dir, e);
	if (r < 0)
		return r;
	if (mkdir(work, 0755) < 0 || (access(copy, F_OK) == 0 && rename(copy, copied) < 0))
		return err_set(e, -errno, "make %s", work);
	forget_identity(upper);
	return sync_all(dir, e);
}

/* What two machines cannot have at once is left out. */
static void make_record(const struct machine_record *from, const char *name, const json_t *labels,
			struct machine_record *ret)
{
	json_t *o = json_loads(from->config, 0, NULL);

	machine_uuid_make(ret->uuid);
	ret->name = xstrdup(name);
	ret->labels = json_deep_copy(labels ? labels : from->labels);
	ret->created = (int64_t)time(NULL);
	ret->restart = from->restart;
	ret->watchdog = from->watchdog;
	json_object_del(o, "publish");
	ret->config = json_dumps(o, JSON_COMPACT);
	json_decref(o);
}

static int clone_named(struct op_call *c, const struct machine_record *from,
		       const struct machine_record *m, struct err *e)
{
	autofree char *dir = path_guest(c->d, m->uuid, NULL);
	int r = op_check_name_free(c->d, m->name, e);

	if (r == 0)
		r = make_dir(dir, MACHINE_FILES_MODE, e);
	if (r < 0)
		return r;
	r = fill_clone(c, from, m, dir, e);
	if (r == 0)
		r = store_machine_add(c->d->store, m, 1, e);
	if (r < 0) {
		path_guest_remove(c->d, m->uuid);
		return r;
	}
	path_link_make(c->d, m->name, m->uuid);
	event_emit(c->d, "machine.created", m->uuid, m->name, NULL);
	c->result = op_format_machine(c->d, m, false);
	return 0;
}

int container_clone(struct op_call *c, const struct machine_record *from, const char *name,
		    struct err *e)
{
	const json_t *labels = json_object_get(c->args, "labels");
	autofree char *key = xasprintf("name/%s", name);
	struct machine_record m = {0};
	int r = machine_name_check(name, e);

	if (r == 0)
		r = need_stopped(c, from, e);
	if (r == 0 && labels)
		r = machine_labels_check(labels, e);
	if (r == 0)
		r = daemon_claim(c->d, key, name, e);
	if (r < 0)
		return r;
	make_record(from, name, labels, &m);
	r = clone_named(c, from, &m, e);
	daemon_release(c->d, key);
	machine_record_fini(&m);
	return r;
}
