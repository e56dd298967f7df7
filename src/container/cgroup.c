/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/cgroup.c - the control group of one container: where it is, who is in it
 */
#include "base/clock.h"
#include "base/fd.h"
#include "container/cgroup_priv.h"
#include "container/path.h"
#include "container/userns.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>

static void add_tree(struct cgroup *c, const char *controllers, const char *name)
{
	autofree char *path = xasprintf(CGROUP_MOUNT_POINT "%s%s", name[0] ? "/" : "", name);
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || c->n_trees == CGROUP_MAX_TREES) {
		close_p(&fd);
		return;
	}
	c->trees[c->n_trees++] = (struct cgroup_tree){
	    .controllers = xstrdup(controllers), .name = xstrdup(name), .root = fd, .entry = -1};
}

int cgroup_init(struct cgroup *c, struct err *e)
{
	autostrbuf struct strbuf text = {0};
	struct statfs fs;
	char *line, *next;
	int r;

	*c = (struct cgroup){0};
	if (statfs(CGROUP_MOUNT_POINT, &fs) < 0)
		return 0;
	c->v2 = fs.f_type == CGROUP2_SUPER_MAGIC;
	r = read_file("/proc/self/cgroup", 1u << 20, &text);
	if (r < 0)
		return r == -ENOENT ? 0 : err_set(e, r, "read /proc/self/cgroup");
	for (line = text.data; line && *line; line = next) {
		char *controllers = strchr(line, ':'), *end;
		const char *name;

		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		end = controllers ? strchr(++controllers, ':') : NULL;
		if (!end)
			continue;
		*end = '\0';
		name = strncmp(controllers, "name=", 5) == 0 ? controllers + 5 : controllers;
		/* Of a hybrid host's trees version 2 has no controllers. */
		if (c->v2 == !controllers[0])
			add_tree(c, controllers, name);
	}
	return 0;
}

void cgroup_fini(struct cgroup *c)
{
	for (size_t i = 0; i < c->n_trees; i++) {
		free(c->trees[i].controllers);
		free(c->trees[i].name);
		close_p(&c->trees[i].root);
		close_p(&c->trees[i].entry);
	}
	free(c->path);
	free(c->unit);
	*c = (struct cgroup){0};
}

int cgroup_place(struct cgroup *c, const char *wanted, const char *id, struct err *e)
{
	size_t len;

	free(c->path);
	c->path = NULL;
	if (wanted && path_has_dots(wanted))
		return err_msg(e, -EINVAL, "linux.cgroupsPath: '%s' has dots in it", wanted);
	if (wanted)
		c->path = xasprintf("%s%s", wanted[0] == '/' ? "" : "/", wanted);
	else
		c->path = xasprintf("/insula-oci.%s", id);
	for (len = strlen(c->path); len > 1 && c->path[len - 1] == '/';)
		c->path[--len] = '\0';
	if (strspn(c->path, "/") == len)
		return err_msg(e, -EINVAL, "linux.cgroupsPath: '%s' is the host's own", wanted);
	return 0;
}

const struct cgroup_tree *cgroup_find(const struct cgroup *c, const char *controller)
{
	size_t len = strlen(controller);

	for (size_t i = 0; i < c->n_trees; i++) {
		const char *p = c->trees[i].controllers;

		if (c->trees[i].absent)
			continue;
		if (c->v2)
			return &c->trees[i];
		for (; (p = strstr(p, controller)); p++)
			if ((p == c->trees[i].controllers || p[-1] == ',') &&
			    (p[len] == ',' || p[len] == '\0'))
				return &c->trees[i];
	}
	return NULL;
}

/* Below a tree's root; its path is ours, so that plain openat is enough. */
static int open_below(const struct cgroup_tree *t, const char *path, int flags)
{
	int fd = openat(t->root, path[1] ? path + 1 : ".", flags | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* Relative to the tree's root. */
static char *path_of(const struct cgroup *c, const char *file)
{
	return xasprintf("%s%s%s", c->path + 1, c->path[1] ? "/" : "", file);
}

int cgroup_write(const struct cgroup *c, const struct cgroup_tree *t, const char *file,
		 const char *text)
{
	autofree char *path = path_of(c, file);

	return write_text_at(t->root, path, text);
}

int cgroup_read(const struct cgroup *c, const struct cgroup_tree *t, const char *file,
		struct strbuf *ret)
{
	autofree char *path = path_of(c, file);

	return read_file_at(t->root, path, 1u << 20, ret);
}

bool cgroup_read_number(const struct cgroup *c, const struct cgroup_tree *t, const char *file,
			uint64_t *ret)
{
	autostrbuf struct strbuf text = {0};
	char *end;
	uint64_t n;

	if (!t || cgroup_read(c, t, file, &text) < 0 || !text.data)
		return false;
	n = strtoull(text.data, &end, 10);
	if (end == text.data)
		return false;
	*ret = n;
	return true;
}

static int make_one(const struct cgroup *c, const struct cgroup_tree *t, char *path)
{
	const struct cgroup part = {.v2 = c->v2, .path = path};

	if (mkdirat(t->root, path + 1, 0755) < 0)
		return errno == EEXIST ? 0 : -errno;
	/* New groups of cpuset have no CPUs, and nobody may enter them. */
	return c->v2 ? 0 : cgroup_v1_prepare(&part, t);
}

/* mkdir -p, from the end: mostly the parents are there. */
static int make_in_tree(const struct cgroup *c, const struct cgroup_tree *t)
{
	autofree char *path = xstrdup(c->path);
	int r = make_one(c, t, path);

	if (r != -ENOENT)
		return r;
	for (char *p = path + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		r = make_one(c, t, path);
		*p = '/';
		if (r < 0)
			return r;
	}
	return make_one(c, t, path);
}

int cgroup_check_unused(const struct cgroup *c, struct err *e)
{
	autofree pid_t *pids = NULL;
	size_t n;
	int r = cgroup_pids(c, &pids, &n, e);

	if (r == 0 && n)
		r = err_msg(e, -EBUSY, "control group %s has processes in it already", c->path);
	return r;
}

int cgroup_make(struct cgroup *c, bool lenient, struct err *e)
{
	for (size_t i = 0; i < c->n_trees; i++) {
		int r = c->trees[i].absent ? 0 : make_in_tree(c, &c->trees[i]);

		if (r < 0 && lenient && (r == -EACCES || r == -EPERM || r == -EROFS))
			c->trees[i].absent = true;
		else if (r < 0)
			return err_set(e, r, "control group %s in %s", c->path,
				       c->trees[i].name[0] ? c->trees[i].name : CGROUP_MOUNT_POINT);
	}
	if (c->v2 && c->n_trees)
		cgroup_v2_enable(c);
	return 0;
}

/* Without root, also as root of a user namespace, @what is nothing to fail for.  errno stays. */
static bool is_rootless(bool what)
{
	int saved = errno;
	bool yes = what && !userns_is_host_root();

	errno = saved;
	return yes;
}

int cgroup_open_entries(struct cgroup *c, const char *below, struct err *e)
{
	if (below && path_has_dots(below))
		return err_msg(e, -EINVAL, "control group '%s' has dots in it", below);
	for (size_t i = 0; c->path && i < c->n_trees; i++) {
		struct cgroup_tree *t = &c->trees[i];
		autofree char *path =
		    xasprintf("%s/%s%s", c->path + 1, below ? below : "", c->v2 ? "" : "/tasks");

		if (t->absent)
			continue;
		t->entry =
		    openat(t->root, path, (c->v2 ? O_PATH | O_DIRECTORY : O_WRONLY) | O_CLOEXEC);
		/* Without root it may not be there at all. */
		if (t->entry < 0 && !is_rootless(errno == ENOENT))
			return err_set(e, -errno, "control group %s%s%s", c->path,
				       t->name[0] ? " of " : "", t->name);
	}
	return 0;
}

int cgroup_attach(const struct cgroup *c, pid_t pid, struct err *e)
{
	autofree char *text = xasprintf("%d", (int)pid);

	for (size_t i = 0; c->path && i < c->n_trees; i++) {
		const struct cgroup_tree *t = &c->trees[i];
		int r = t->absent ? 0 : cgroup_write(c, t, "cgroup.procs", text);

		if (r < 0)
			return err_set(e, r, "move process %s to control group %s of %s", text,
				       c->path, t->name);
	}
	return 0;
}

void cgroup_restrict(struct cgroup *c, const char *const *controllers)
{
	const struct cgroup_tree *keep[CGROUP_MAX_TREES] = {NULL};
	size_t n = 0;

	for (; controllers[n] && n < CGROUP_MAX_TREES; n++)
		keep[n] = cgroup_find(c, controllers[n]);
	for (size_t i = 0; i < c->n_trees; i++) {
		bool wanted = false;

		for (size_t k = 0; k < n; k++)
			wanted = wanted || keep[k] == &c->trees[i];
		c->trees[i].absent = c->trees[i].absent || !wanted;
	}
}

int cgroup_enter(const struct cgroup *c, struct err *e)
{
	for (size_t i = 0; i < c->n_trees; i++) {
		const struct cgroup_tree *t = &c->trees[i];

		/* "0" is who writes.  In "tasks", unlike "cgroup.procs", it is one thread that
		 * moves, and we have no other. */
		if (t->entry >= 0 && !c->v2 && write(t->entry, "0", 1) < 0)
			return err_set(e, -errno, "enter control group %s of %s", c->path, t->name);
	}
	return 0;
}

char *cgroup_path_of(pid_t pid)
{
	autofree char *file = xasprintf("/proc/%d/cgroup", pid);
	autostrbuf struct strbuf text = {0};
	char *save, *line, *found = NULL;

	if (read_file(file, 1u << 20, &text) < 0 || !text.data)
		return NULL;
	for (line = strtok_r(text.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *tree = strchr(line, ':'), *path = tree ? strchr(tree + 1, ':') : NULL;

		if (path && (strncmp(tree, ":name=systemd:", 14) == 0 ||
			     (!found && strncmp(tree, "::", 2) == 0))) {
			free(found);
			found = xstrdup(path + 1);
		}
	}
	return found;
}

int cgroup_clone_fd(const struct cgroup *c)
{
	return c->v2 && c->n_trees ? c->trees[0].entry : -1;
}

int cgroup_apply(const struct cgroup *c, const struct spec_resources *r, struct err *e)
{
	if (!c->path || !c->n_trees)
		return 0;
	return c->v2 ? cgroup_v2_apply(c, r, e) : cgroup_v1_apply(c, r, e);
}

/* What the specification's default devices need, terminals, and making nodes, which gives no
 * access. */
static const struct spec_device_rule default_rules[] = {
    {true, 'c', -1, -1, DEVICE_MKNOD}, {true, 'b', -1, -1, DEVICE_MKNOD},
    {true, 'c', 1, 3, DEVICE_ALL},     {true, 'c', 1, 5, DEVICE_ALL},
    {true, 'c', 1, 7, DEVICE_ALL},     {true, 'c', 1, 8, DEVICE_ALL},
    {true, 'c', 1, 9, DEVICE_ALL},     {true, 'c', 5, 0, DEVICE_ALL},
    {true, 'c', 5, 2, DEVICE_ALL},     {true, 'c', 136, -1, DEVICE_ALL},
};

int cgroup_apply_devices(const struct cgroup *c, const struct spec_resources *r, struct err *e)
{
	autofree struct spec_device_rule *rules = NULL;
	size_t n = r->n_devices + ARRAY_SIZE(default_rules);

	if (!c->path || !c->n_trees || !r->n_devices)
		return 0;
	rules = xnew_n(struct spec_device_rule, n);
	memcpy(rules, r->devices, r->n_devices * sizeof(*rules));
	memcpy(rules + r->n_devices, default_rules, sizeof(default_rules));
	return c->v2 ? cgroup_v2_devices(c, rules, n, e) : cgroup_v1_devices(c, rules, n, e);
}

/* --- who is in it --- */

/* The tree to look at: in version 1 a process may leave one tree but not all of ours unseen. */
static const struct cgroup_tree *main_tree(const struct cgroup *c)
{
	static const char *const order[] = {"freezer", "pids", "devices", "memory"};

	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		const struct cgroup_tree *t = cgroup_find(c, order[i]);

		if (t)
			return t;
	}
	for (size_t i = 0; i < c->n_trees; i++)
		if (!c->trees[i].absent)
			return &c->trees[i];
	return NULL;
}

typedef int walk_fn(int dir, void *opaque);

/* @fn for @dir and what is below, below first.  Closes @dir. */
static int walk(int fd, unsigned int depth, walk_fn *fn, void *opaque)
{
	DIR *dir = depth < 64 ? fdopendir(fd) : NULL;
	struct dirent *d;
	int r = 0;

	if (!dir) {
		r = depth < 64 ? -errno : -ELOOP;
		close(fd);
		return r;
	}
	while (r == 0 && (d = readdir(dir))) {
		int sub;

		if (d->d_type != DT_DIR || d->d_name[0] == '.')
			continue;
		sub = openat(fd, d->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		r = sub < 0 ? (errno == ENOENT ? 0 : -errno) : walk(sub, depth + 1, fn, opaque);
		/* Only removal asks for the directory itself to go; elsewhere this fails. */
		if (r == 0 && fn == NULL && unlinkat(fd, d->d_name, AT_REMOVEDIR) < 0 &&
		    errno != ENOENT)
			r = -errno;
	}
	if (r == 0 && fn)
		r = fn(fd, opaque);
	closedir(dir);
	return r;
}

struct pid_list {
	pid_t *v;
	size_t n, cap;
};

static int read_pids(int dir, void *opaque)
{
	autostrbuf struct strbuf text = {0};
	struct pid_list *l = opaque;
	int r = read_file_at(dir, "cgroup.procs", 16u << 20, &text);

	/* A threaded group of version 2 lists its processes at its domain. */
	if (r < 0)
		return r == -ENODEV || r == -ENOENT || r == -EOPNOTSUPP ? 0 : r;
	for (char *p = text.data; p && *p;) {
		char *end;
		long pid = strtol(p, &end, 10);

		if (end == p)
			break;
		if (l->n == l->cap) {
			l->cap = l->cap ? l->cap * 2 : 64;
			l->v = realloc(l->v, l->cap * sizeof(*l->v));
			if (!l->v)
				abort();
		}
		l->v[l->n++] = (pid_t)pid;
		p = end + strspn(end, "\n");
	}
	return 0;
}

int cgroup_pids(const struct cgroup *c, pid_t **ret, size_t *n, struct err *e)
{
	const struct cgroup_tree *t = main_tree(c);
	struct pid_list l = {0};
	int fd, r;

	*ret = NULL;
	*n = 0;
	if (!c->path || !t)
		return 0;
	fd = open_below(t, c->path, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd == -ENOENT ? 0 : err_set(e, fd, "control group %s", c->path);
	r = walk(fd, 0, read_pids, &l);
	if (r < 0) {
		free(l.v);
		return err_set(e, r, "processes of control group %s", c->path);
	}
	*ret = l.v;
	*n = l.n;
	return 0;
}

/* Waits until the kernel says so; a process in the depth of a system call may take long. */
static int wait_frozen(const struct cgroup *c, const struct cgroup_tree *t, bool on, struct err *e)
{
	uint64_t until = clock_now() + 10 * NSEC_PER_SEC;
	const struct timespec pause = {.tv_nsec = 1000000};

	while (cgroup_is_frozen(c) != on) {
		if (clock_now() > until)
			return err_msg(e, -ETIMEDOUT, "control group %s does not %s", c->path,
				       on ? "freeze" : "thaw");
		/* Version 1 may miss one that forked; asking again helps. */
		if (!c->v2 && cgroup_write(c, t, "freezer.state", on ? "FROZEN" : "THAWED") < 0)
			return err_msg(e, -EIO, "control group %s: freezer.state", c->path);
		nanosleep(&pause, NULL);
	}
	return 0;
}

int cgroup_freeze(const struct cgroup *c, bool on, struct err *e)
{
	const struct cgroup_tree *t = cgroup_find(c, "freezer");
	int r;

	if (!t || !c->path)
		return err_msg(e, -ENOTSUP, "there is no freezer of control groups here");
	r = c->v2 ? cgroup_write(c, t, "cgroup.freeze", on ? "1" : "0")
		  : cgroup_write(c, t, "freezer.state", on ? "FROZEN" : "THAWED");
	if (r < 0)
		return err_set(e, r, "freeze control group %s", c->path);
	return wait_frozen(c, t, on, e);
}

bool cgroup_is_frozen(const struct cgroup *c)
{
	const struct cgroup_tree *t = cgroup_find(c, "freezer");
	autostrbuf struct strbuf text = {0};

	if (!t || !c->path ||
	    cgroup_read(c, t, c->v2 ? "cgroup.events" : "freezer.state", &text) < 0 || !text.data)
		return false;
	return c->v2 ? strstr(text.data, "frozen 1") != NULL : strncmp(text.data, "FROZEN", 6) == 0;
}

int cgroup_signal(const struct cgroup *c, int signal, struct err *e)
{
	const struct cgroup_tree *freezer = cgroup_find(c, "freezer");
	bool frozen = false, was_frozen;
	pid_t *pids;
	size_t n;
	int r;

	if (c->v2 && signal == SIGKILL && c->path && c->n_trees &&
	    cgroup_write(c, &c->trees[0], "cgroup.kill", "1") == 0)
		return 0;
	was_frozen = cgroup_is_frozen(c);
	/* Frozen, nobody forks while we count; one process needs no such care. */
	r = cgroup_pids(c, &pids, &n, e);
	if (r == 0 && n > 1 && freezer && !was_frozen) {
		frozen = cgroup_freeze(c, true, NULL) == 0;
		free(pids);
		r = cgroup_pids(c, &pids, &n, e);
	}
	for (size_t i = 0; r == 0 && i < n; i++)
		if (kill(pids[i], signal) < 0 && errno != ESRCH)
			r = err_set(e, -errno, "signal process %d", pids[i]);
	free(pids);
	/* The dead of a frozen group die when it thaws. */
	if (frozen || (was_frozen && signal == SIGKILL && freezer)) {
		int r2 = cgroup_write(c, freezer, c->v2 ? "cgroup.freeze" : "freezer.state",
				      c->v2 ? "0" : "THAWED");

		if (r == 0 && r2 < 0)
			r = err_set(e, r2, "thaw control group %s", c->path);
	}
	return r;
}

static int remove_in_tree(const struct cgroup *c, const struct cgroup_tree *t)
{
	const struct timespec pause = {.tv_nsec = 2000000};
	uint64_t until = clock_now() + 5 * NSEC_PER_SEC;

	for (;;) {
		int fd, r;

		if (unlinkat(t->root, c->path + 1, AT_REMOVEDIR) == 0 || errno == ENOENT)
			return 0;
		if (errno != EBUSY && errno != ENOTEMPTY)
			return -errno;
		/* Groups below it, or a process that has not quite gone. */
		fd = open_below(t, c->path, O_RDONLY | O_DIRECTORY);
		r = fd < 0 ? fd : walk(fd, 0, NULL, NULL);
		if (r == 0 &&
		    (unlinkat(t->root, c->path + 1, AT_REMOVEDIR) == 0 || errno == ENOENT))
			return 0;
		if (clock_now() > until)
			return r < 0 ? r : -EBUSY;
		nanosleep(&pause, NULL);
	}
}

int cgroup_remove(const struct cgroup *c, struct err *e)
{
	int result = 0;

	for (size_t i = 0; c->path && i < c->n_trees; i++) {
		int r = c->trees[i].absent ? 0 : remove_in_tree(c, &c->trees[i]);

		/* The others all the same. */
		if (r < 0 && !is_rootless(r == -EACCES || r == -EPERM || r == -EROFS))
			result = err_set(e, r, "remove control group %s of %s", c->path,
					 c->trees[i].name);
	}
	return result;
}

int cgroup_destroy(const struct cgroup *c, struct err *e)
{
	uint64_t until = clock_now() + 5 * NSEC_PER_SEC;
	const struct timespec pause = {.tv_nsec = 1000000};

	/* Again, for what forked between our looking and our killing. */
	for (;;) {
		autofree pid_t *pids = NULL;
		size_t n = 0;
		int r = cgroup_pids(c, &pids, &n, e);

		if (r == 0 && n)
			r = cgroup_signal(c, SIGKILL, e);
		if (r < 0)
			return r;
		if (!n)
			return cgroup_remove(c, e);
		if (clock_now() > until)
			return err_msg(e, -EBUSY, "processes of control group %s do not end",
				       c->path);
		nanosleep(&pause, NULL);
	}
}
