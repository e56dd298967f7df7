/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/state.c - what is known about containers, in files
 */
#include "container/state.h"

#include "base/fd.h"
#include "container/proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#define MAX_STATE (1u << 20)

const char *const state_status_names[] = {"creating", "created", "running", "paused", "stopped"};

bool state_id_ok(const char *id)
{
	static const char ok[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.";
	size_t len = strlen(id);

	/* ".new" is ours. */
	return len && len < 256 && strspn(id, ok) == len && id[0] != '.';
}

int state_open_root(const char *path, struct err *e)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;

	if (fd < 0 && errno == ENOENT) {
		r = make_dir(path, 0700, e);
		if (r < 0)
			return r;
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	return fd < 0 ? err_set(e, -errno, "open %s", path) : fd;
}

static void new_path(const char *id, char out[300])
{
	snprintf(out, 300, ".new/%s", id);
}

static int lock(int fd, int how)
{
	struct stat st;

	while (flock(fd, how) < 0)
		if (errno != EINTR)
			return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	/* Whoever had it before may have removed it. */
	return fstat(fd, &st) < 0 || st.st_nlink == 0 ? -ENOENT : 0;
}

void state_unlock(int dir)
{
	(void)!lock(dir, LOCK_UN);
}

int state_lock(int dir)
{
	return lock(dir, LOCK_EX);
}

static int lock_dir(int parent, const char *path, int how)
{
	autoclose int fd = openat(parent, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r = fd < 0 ? -errno : lock(fd, how);

	return r < 0 ? r : steal_fd(&fd);
}

int state_new(int root, const char *id, int *dir, struct err *e)
{
	char path[300];
	int fd;

	new_path(id, path);
	for (unsigned int tries = 0; tries < 100; tries++) {
		if (faccessat(root, id, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			return err_msg(e, -EEXIST, "container '%s' already exists", id);
		if (mkdirat(root, path, 0711) < 0) {
			if (errno == EEXIST)
				return err_msg(e, -EEXIST, "container '%s' already exists", id);
			/* The first container makes ".new", or another first one does. */
			if (errno == ENOENT &&
			    (mkdirat(root, ".new", 0711) == 0 || errno == EEXIST))
				continue;
			return err_set(e, -errno, "make the state of '%s'", id);
		}
		/* A sweep may come between the two. */
		fd = lock_dir(root, path, LOCK_EX);
		/* Or another of the name arrived at its place since we looked. */
		if (fd >= 0 && faccessat(root, id, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
			unlinkat(root, path, AT_REMOVEDIR);
			close(fd);
			return err_msg(e, -EEXIST, "container '%s' already exists", id);
		}
		if (fd >= 0) {
			*dir = fd;
			return 0;
		}
		if (fd != -ENOENT)
			return err_set(e, fd, "lock the state of '%s'", id);
	}
	return err_msg(e, -EAGAIN, "the state of '%s' cannot be made", id);
}

int state_commit(int root, const char *id, struct err *e)
{
	char path[300];

	new_path(id, path);
	if (renameat2(root, path, root, id, RENAME_NOREPLACE) < 0)
		return err_set(e, -errno, "state of '%s'", id);
	return 0;
}

/* Files and empty directories; "notify" has one socket in it. */
static void empty_dir(int dir)
{
	static const char *const names[] = {"state.json.new", "config.json", "start.sock",
					    "notify/notify.sock", "state.json"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		unlinkat(dir, names[i], 0);
	unlinkat(dir, "notify", AT_REMOVEDIR);
}

int state_remove(int root, const char *id, int dir, struct err *e)
{
	struct stat ours, placed;
	char path[300];

	new_path(id, path);
	if (mkdirat(root, ".new", 0711) < 0 && errno != EEXIST)
		return err_set(e, -errno, "remove the state of '%s'", id);
	if (fstat(dir, &ours) < 0)
		return err_set(e, -errno, "remove the state of '%s'", id);
	/* One that did not come to its place is in .new still. */
	if (fstatat(root, id, &placed, AT_SYMLINK_NOFOLLOW) == 0 && placed.st_ino == ours.st_ino &&
	    renameat2(root, id, root, path, RENAME_NOREPLACE) < 0)
		return err_set(e, -errno, "remove the state of '%s'", id);
	empty_dir(dir);
	if (unlinkat(root, path, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return err_set(e, -errno, "remove the state of '%s'", id);
	return 0;
}

static char *copy_string(const struct json_reader *r, const char *key)
{
	const char *s = json_read_string(r, key);

	return s ? xstrdup(s) : NULL;
}

static int read_state(int dir, struct state *ret, struct err *e)
{
	autostrbuf struct strbuf text = {0};
	struct json_doc doc = {.err = e};
	struct json_reader root;
	int64_t pid = 0;
	int r = read_file_at(dir, "state.json", MAX_STATE, &text);

	if (r < 0)
		return r == -ENOENT ? r : err_set(e, r, "read state.json");
	r = json_doc_parse(&doc, text.data ? text.data : "", text.len, &root);
	if (r == 0) {
		ret->id = xstrdup(json_need_string(&root, "id"));
		ret->bundle = xstrdup(json_need_string(&root, "bundle"));
		ret->version = xstrdup(json_need_string(&root, "ociVersion"));
		json_read_int(&root, "pid", 0, INT32_MAX, &pid);
		ret->pid = (pid_t)pid;
		json_read_u64(&root, "startTime", &ret->start_time);
		ret->cgroup_path = copy_string(&root, "cgroupPath");
		ret->cgroup_unit = copy_string(&root, "cgroupUnit");
		json_read_int(&root, "created", 0, INT64_MAX, &ret->created);
		ret->owner = 0;
		json_read_int(&root, "owner", 0, UINT32_MAX, &pid);
		ret->owner = (uint32_t)pid;
		r = doc.error;
	}
	json_doc_fini(&doc);
	if (r < 0)
		state_fini(ret);
	return r < 0 ? err_wrap(e, r, "state.json") : 0;
}

int state_open(int root, const char *id, bool locked, int *dir, struct state *ret, struct err *e)
{
	autoclose int fd = -1;
	bool making = false;
	char path[300];
	int r;

	fd = lock_dir(root, id, locked ? LOCK_EX : LOCK_UN);
	if (fd == -ENOENT && !locked) { /* being made: its hooks may ask */
		new_path(id, path);
		fd = lock_dir(root, path, LOCK_UN);
		making = true;
	}
	*ret = (struct state){.making = making};
	r = fd < 0 ? fd : read_state(fd, ret, e);
	if (r == -ENOENT)
		return err_msg(e, r, "container '%s' does not exist", id);
	if (r < 0)
		return fd < 0 ? err_set(e, r, "state of '%s'", id) : r;
	*dir = steal_fd(&fd);
	return 0;
}

int state_open_fresh(int root, const char *id, int *dir, struct state *ret)
{
	autoclose int fd = -1;
	struct stat ours, there;
	char path[300];

	new_path(id, path);
	fd = lock_dir(root, path, LOCK_EX | LOCK_NB);
	if (fd < 0)
		return fd;
	/* It may have come to its place between the opening and the lock. */
	if (fstat(fd, &ours) < 0 || fstatat(root, path, &there, AT_SYMLINK_NOFOLLOW) < 0 ||
	    ours.st_ino != there.st_ino)
		return -ENOENT;
	*ret = (struct state){0};
	(void)!read_state(fd, ret, NULL);
	*dir = steal_fd(&fd);
	return 0;
}

int state_write(int dir, const struct state *s, struct err *e)
{
	json_t *o = json_pack("{s:s, s:s, s:s, s:I, s:I, s:s*, s:s*, s:I, s:I}", "id", s->id,
			      "bundle", s->bundle, "ociVersion", s->version, "pid",
			      (json_int_t)s->pid, "startTime", (json_int_t)s->start_time,
			      "cgroupPath", s->cgroup_path, "cgroupUnit", s->cgroup_unit, "created",
			      (json_int_t)s->created, "owner", (json_int_t)s->owner);
	autofree char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	autoclose int fd = -1;
	int r;

	json_decref(o);
	if (!text) /* a name that is not UTF-8 */
		return err_msg(e, -EINVAL, "the state cannot be written as JSON");
	fd = openat(dir, "state.json.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	r = fd < 0 ? -errno : write_full(fd, text, strlen(text));
	if (r == 0 && renameat(dir, "state.json.new", dir, "state.json") < 0)
		r = -errno;
	return r < 0 ? err_set(e, r, "write state.json") : 0;
}

void state_fini(struct state *s)
{
	free(s->id);
	free(s->bundle);
	free(s->version);
	free(s->cgroup_path);
	free(s->cgroup_unit);
	*s = (struct state){0};
}

int state_names(int root, bool fresh, char ***ret, struct err *e)
{
	int fd = openat(root, fresh ? ".new" : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	size_t n = 0, cap = 16;
	struct dirent *d;
	char **names;
	DIR *dir;

	if (fd < 0 && !(fresh && errno == ENOENT))
		return err_set(e, -errno, "list containers");
	names = xnew_n(char *, cap);
	dir = fd < 0 ? NULL : fdopendir(fd);
	while (dir && (d = readdir(dir))) {
		if (!state_id_ok(d->d_name))
			continue;
		if (n + 1 == cap) {
			cap *= 2;
			names = realloc(names, cap * sizeof(*names));
			if (!names)
				abort();
		}
		names[n++] = xstrdup(d->d_name);
	}
	names[n] = NULL;
	if (dir)
		closedir(dir);
	*ret = names;
	return 0;
}

void state_names_free(char **names)
{
	for (size_t i = 0; names && names[i]; i++)
		free(names[i]);
	free(names);
}

enum state_status state_status(int dir, const struct state *s)
{
	if (!s->pid || s->making)
		return STATE_CREATING;
	if (proc_start_time(s->pid) != s->start_time)
		return STATE_STOPPED;
	return faccessat(dir, "start.sock", F_OK, 0) == 0 ? STATE_CREATED : STATE_RUNNING;
}

void state_format(const struct state *s, enum state_status status,
		  const struct spec_pairs *annotations, struct strbuf *out)
{
	json_t *notes = json_object(), *o;
	char *text;

	for (size_t i = 0; annotations && i < annotations->n; i++)
		json_object_set_new(notes, annotations->v[i].key,
				    json_string(annotations->v[i].value));
	o = json_pack("{s:s, s:s, s:s, s:I, s:s, s:o}", "ociVersion", s->version, "id", s->id,
		      "status", state_status_names[status], "pid",
		      (json_int_t)(status == STATE_STOPPED ? 0 : s->pid), "bundle", s->bundle,
		      "annotations", notes);
	text = o ? json_dumps(o, JSON_INDENT(2)) : NULL;
	strbuf_puts(out, text ? text : "{}");
	free(text);
	json_decref(o);
}
