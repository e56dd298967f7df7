/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/op_pool.c - storage pools: directories that hold disks, and what must be true of them
 *
 *	dir     a directory
 *	mount   a file system is mounted there (NFS and the like): without it nothing is written
 *	tmpfs   it is in memory
 *	btrfs   it is on btrfs, whose copies share their blocks
 *
 * What a pool is, is looked at anew each time: file systems come and go.  A copy shares blocks
 * wherever the file system can, whatever the kind.
 */
#include "daemon/daemon_priv.h"

#include "base/dirs.h"
#include "base/fd.h"
#include "block/disk.h"
#include "image/image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>

#define NAME_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

enum kind { KIND_DIR, KIND_MOUNT, KIND_TMPFS, KIND_BTRFS };
static const char *const kinds[] = {"dir", "mount", "tmpfs", "btrfs", NULL};

static int parse_kind(const char *word, struct err *e)
{
	for (int i = 0; kinds[i]; i++)
		if (strcmp(word, kinds[i]) == 0)
			return i;
	return err_msg(e, -EINVAL, "kind: '%.32s' is not dir, mount, tmpfs or btrfs", word);
}

/* What a copy is called while it is made (image/copy.c, block/disk_copy.c). */
static bool is_half_made(const char *name)
{
	size_t n = strlen(name);

	return (n > 5 && strcmp(name + n - 5, ".part") == 0) ||
	       (n > 4 && strcmp(name + n - 4, ".tmp") == 0);
}

/* A file's name and nothing else. */
static int check_disk_name(const char *name, struct err *e)
{
	size_t n = strlen(name);

	if (n < 1 || n > 100 || strspn(name, NAME_CHARS) != n || name[0] == '.' || name[0] == '-' ||
	    is_half_made(name))
		return err_msg(e, -EINVAL,
			       "'%.100s' is no name for a disk: letters, digits, '.', '_', '-'; at "
			       "most 100, not ending in .part or .tmp",
			       name);
	return 0;
}

/* --- what is there --- */

static bool is_mount(const char *path)
{
	struct statx st;

	return statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &st) == 0 &&
	       (st.stx_attributes & st.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT);
}

static int check_place(const char *path, enum kind kind, struct err *e)
{
	struct statfs fs;
	struct stat st;

	if (stat(path, &st) < 0 || statfs(path, &fs) < 0)
		return err_set(e, errno == ENOENT ? -ENOENT : -EIO, "%s: %s", path,
			       strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return err_msg(e, -EINVAL, "%s is not a directory", path);
	if (kind == KIND_MOUNT && !is_mount(path))
		return err_msg(e, -EBUSY, "nothing is mounted at %s", path);
	if (kind == KIND_TMPFS && fs.f_type != TMPFS_MAGIC)
		return err_msg(e, -EINVAL, "%s is not on a tmpfs", path);
	if (kind == KIND_BTRFS && (uint32_t)fs.f_type != BTRFS_SUPER_MAGIC)
		return err_msg(e, -EINVAL, "%s is not on btrfs", path);
	return 0;
}

/* Tried with two files without names; false also where there are none such. */
static bool shares_blocks(const char *path)
{
	autoclose int a = open(path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	autoclose int b = open(path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	return a >= 0 && b >= 0 && write(a, "x", 1) == 1 && ioctl(b, FICLONE, a) == 0;
}

static int find_pool(struct op_call *c, struct pool_record *ret, struct err *e)
{
	return store_pool_get(c->d->store, op_string(c, "pool"), ret, e);
}

/* And it is as it should be. */
static int open_pool(struct op_call *c, struct pool_record *ret, struct err *e)
{
	int r = find_pool(c, ret, e);

	if (r < 0)
		return r;
	r = parse_kind(ret->kind, e);
	if (r >= 0)
		r = check_place(ret->path, (enum kind)r, e);
	if (r < 0) {
		(void)err_wrap(e, r, "pool '%s'", ret->name);
		pool_record_fini(ret);
	}
	return r;
}

static json_t *format_pool(const struct pool_record *p)
{
	json_t *o = json_pack("{s:s, s:s, s:s, s:I}", "name", p->name, "kind", p->kind, "path",
			      p->path, "created", (json_int_t)p->created);
	int kind = parse_kind(p->kind, NULL);
	struct statvfs fs;
	struct err e = {0};

	if (check_place(p->path, (enum kind)kind, &e) < 0) {
		json_object_set_new(o, "problem", json_string(e.msg));
		return o;
	}
	if (statvfs(p->path, &fs) == 0) {
		json_object_set_new(o, "size",
				    json_integer((json_int_t)(fs.f_blocks * fs.f_frsize)));
		json_object_set_new(o, "available",
				    json_integer((json_int_t)(fs.f_bavail * fs.f_frsize)));
	}
	return o;
}

static json_t *list_disks(const char *dir)
{
	json_t *list = json_array();
	DIR *d = opendir(dir);
	struct dirent *at;

	while (d && (at = readdir(d))) {
		autofree char *path = xasprintf("%s/%s", dir, at->d_name);
		struct stat st;

		if (check_disk_name(at->d_name, NULL) < 0 || lstat(path, &st) < 0 ||
		    !S_ISREG(st.st_mode))
			continue;
		json_array_append_new(list,
				      json_pack("{s:s, s:s, s:s, s:I, s:I}", "name", at->d_name,
						"path", path, "format", disk_format(path, NULL),
						"file_size", (json_int_t)st.st_size, "allocated",
						(json_int_t)(st.st_blocks * 512)));
	}
	if (d)
		closedir(d);
	return list;
}

/* --- pools --- */

int op_pool_create(struct op_call *c, struct err *e)
{
	const char *name = op_string(c, "name"), *path = op_string(c, "path");
	const char *word = op_string(c, "kind");
	struct pool_record p = {.created = (int64_t)time(NULL)};
	int kind = parse_kind(word ? word : kinds[KIND_DIR], e);
	int r = kind < 0 ? kind : machine_name_check(name, e);
	bool made;

	if (r == 0 && path[0] != '/')
		r = err_msg(e, -EINVAL, "path: '%s' is not an absolute path", path);
	if (r < 0)
		return r;
	/* Not where a mount is to be: its absence would be hidden. */
	made = kind != KIND_MOUNT && access(path, F_OK) < 0;
	if (made)
		r = make_dir(path, 0700, e);
	if (r == 0)
		r = check_place(path, (enum kind)kind, e);
	if (r == 0) {
		p.name = xstrdup(name);
		p.kind = xstrdup(kinds[kind]);
		p.path = realpath(path, NULL);
		r = p.path ? store_pool_add(c->d->store, &p, e) : err_set(e, -errno, "%s", path);
	}
	if (r == 0)
		c->result = format_pool(&p);
	else if (made)
		rmdir(path);
	pool_record_fini(&p);
	return r;
}

int op_pool_list(struct op_call *c, struct err *e)
{
	struct pool_record *rows = NULL;
	json_t *list = json_array();
	size_t n = 0;
	int r = store_pool_list(c->d->store, &rows, &n, e);

	for (size_t i = 0; i < n; i++) {
		json_array_append_new(list, format_pool(&rows[i]));
		pool_record_fini(&rows[i]);
	}
	free(rows);
	c->result = json_pack("{s:o}", "pools", list);
	return r;
}

int op_pool_show(struct op_call *c, struct err *e)
{
	struct pool_record p;
	int r = find_pool(c, &p, e);

	if (r < 0)
		return r;
	c->result = format_pool(&p);
	if (!json_object_get(c->result, "problem")) {
		json_object_set_new(c->result, "reflinks", json_boolean(shares_blocks(p.path)));
		json_object_set_new(c->result, "disks", list_disks(p.path));
	}
	pool_record_fini(&p);
	return 0;
}

/* The definition alone: disks are people's. */
int op_pool_delete(struct op_call *c, struct err *e)
{
	return store_pool_remove(c->d->store, op_string(c, "pool"), e);
}

/* --- disks in them --- */

static int on_tick(void *opaque, uint64_t done, uint64_t total)
{
	struct op_call *c = opaque;

	return c->job && c->job->cancel ? -ECANCELED : 0;
}

/* Byte for byte, sharing blocks where the file system can, if the copy is of the same format and
 * needs nothing below it; else through the formats' code.  The source is locked meanwhile. */
static int copy_disk(struct op_call *c, const char *from, const char *to, struct err *e)
{
	struct qcow2_options options = {.refcount_order = -1};
	struct disk_progress progress = {.tick = on_tick, .opaque = c};
	struct disk_copy copy = {
	    .from = from, .to = to, .options = &options, .progress = &progress};
	bool qcow2 = strcmp(disk_format(from, NULL), "qcow2") == 0, below;
	autofree char *backing = NULL;
	struct disk source = {0};
	int r = disk_open(from, NULL, DISK_READ_ONLY, &source, e);

	if (r == 0 && qcow2)
		r = qcow2_read_backing(from, &backing, &below, e);
	if (r == 0 && !backing && strcmp(disk_format(from, NULL), disk_format(to, NULL)) == 0)
		r = image_copy(from, to, e);
	else if (r == 0)
		r = disk_convert(&copy, e);
	disk_close(&source);
	return r;
}

static int make_disk(struct op_call *c, const char *path, struct err *e)
{
	struct qcow2_options o = {.refcount_order = -1,
				  .size = (uint64_t)op_int(c, "size", 0),
				  .backing = (char *)op_string(c, "backing")};
	const char *from = op_string(c, "from");

	if (access(path, F_OK) == 0)
		return err_msg(e, -EEXIST, "there is a disk %s already", path);
	if ((from && from[0] != '/') || (o.backing && o.backing[0] != '/'))
		return err_msg(e, -EINVAL, "from, backing: are absolute paths");
	if (from && (o.backing || o.size))
		return err_msg(e, -EINVAL, "from: the copy is as large as its source, and whole");
	return from ? copy_disk(c, from, path, e) : disk_create(path, NULL, &o, false, e);
}

int op_pool_disk_create(struct op_call *c, struct err *e)
{
	autofree char *path = NULL, *key = NULL;
	const char *name = op_string(c, "name");
	struct pool_record p;
	int r = check_disk_name(name, e);

	if (r == 0 && op_int(c, "size", 0) < 0)
		r = err_msg(e, -EINVAL, "size: is negative");
	if (r == 0)
		r = open_pool(c, &p, e);
	if (r < 0)
		return r;
	path = xasprintf("%s/%s", p.path, name);
	key = xasprintf("disk/%s", path);
	r = daemon_claim(c->d, key, name, e);
	if (r == 0) {
		r = make_disk(c, path, e);
		if (r == 0)
			r = path_sync(p.path, e);
		daemon_release(c->d, key);
	}
	if (r == 0)
		c->result = json_pack("{s:s, s:s, s:s, s:s}", "name", name, "pool", p.name, "path",
				      path, "format", disk_format(path, NULL));
	pool_record_fini(&p);
	return r;
}

/* A machine whose definition has it would not start any more. */
static int check_unused(struct op_call *c, const char *path, struct err *e)
{
	struct machine_record *rows = NULL;
	size_t n = 0;
	int r = store_machine_list(c->d->store, &rows, &n, e);

	for (size_t i = 0; i < n; i++) {
		struct machine_config config = {0};

		if (r == 0 && machine_record_config(&rows[i], &config, e) == 0)
			for (size_t k = 0; k < config.n_disks && r == 0; k++)
				if (config.disks[k].path && strcmp(config.disks[k].path, path) == 0)
					r = err_msg(e, -EBUSY,
						    "machine '%s' has it: `insula disk "
						    "detach` takes it away there",
						    rows[i].name);
		machine_config_fini(&config);
		machine_record_fini(&rows[i]);
	}
	free(rows);
	return r;
}

static int remove_disk(struct op_call *c, const struct pool_record *p, const char *path,
		       struct err *e)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int r = check_unused(c, path, e);
	autoclose int fd = -1;

	if (r == 0 && access(path, F_OK) < 0)
		r = err_msg(e, -ENOENT, "there is no disk %s", path);
	if (r < 0)
		return r;
	/* Nor one that somebody else uses: who has a disk open holds a lock of its file. */
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, -errno, "%s", path);
	if (fcntl(fd, F_OFD_SETLK, &lock) < 0 && (errno == EAGAIN || errno == EACCES))
		return err_msg(e, -EBUSY, "disk '%s' is in use by another machine", path);
	if (unlink(path) < 0)
		return err_set(e, -errno, "%s", path);
	return path_sync(p->path, e);
}

int op_pool_disk_delete(struct op_call *c, struct err *e)
{
	const char *name = op_string(c, "disk");
	autofree char *path = NULL, *key = NULL;
	struct pool_record p;
	int r = check_disk_name(name, e);

	if (r == 0)
		r = open_pool(c, &p, e);
	if (r < 0)
		return r;
	path = xasprintf("%s/%s", p.path, name);
	key = xasprintf("disk/%s", path);
	r = daemon_claim(c->d, key, name, e);
	if (r == 0) {
		r = remove_disk(c, &p, path, e);
		daemon_release(c->d, key);
	}
	pool_record_fini(&p);
	return r;
}
