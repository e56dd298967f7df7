/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/op_copy.c - machines made of machines: forks, clones, templates
 *
 * As with a new machine the files come first, then the row.  A fork runs before its row is there:
 * one whose row did not come is ended by the next insulad.
 */
#include "daemon/daemon_priv.h"

#include "base/dirs.h"
#include "base/exit.h"
#include "base/fd.h"
#include "block/disk.h"
#include "image/image.h"
#include "live/live.h"
#include "live/snapshots.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#define FORKS_MAX   250
#define IDENTITY_MS 60000
#define AGENT_MS    2000

static const char *base_name(const char *path)
{
	return strrchr(path, '/') + 1;
}

/* --- what forks and clones have in common --- */

/* What two machines cannot have at once is left out: published ports, the screen's address. */
static int copy_config(const struct machine_record *from, char **ret, struct err *e)
{
	json_t *o = json_loads(from->config, 0, NULL), *disk;
	int r = 0;
	size_t i;

	json_array_foreach(json_object_get(o, "disks"), i, disk)
	{
		const char *path = json_string_value(json_object_get(disk, "path"));

		if (path && !json_is_true(json_object_get(disk, "readonly")) &&
		    !json_is_true(json_object_get(disk, "cdrom")))
			r = err_msg(e, -ENOTSUP,
				    "'%s' writes to %s, which is not its own: two machines "
				    "cannot have it",
				    from->name, path);
	}
	json_object_del(o, "publish");
	json_object_del(o, "vnc");
	json_object_del(o, "vnc_password");
	json_object_del(o, "vnc_tls");
	if (r == 0)
		*ret = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	return r;
}

static int copy_record(const struct op_call *c, const struct machine_record *from, const char *name,
		       bool runs, struct machine_record *ret, struct err *e)
{
	json_t *labels = json_object_get(c->args, "labels");

	machine_uuid_make(ret->uuid);
	ret->name = xstrdup(name);
	ret->labels = labels ? json_deep_copy(labels) : json_deep_copy(from->labels);
	if (machine_labels_check(ret->labels, e) < 0)
		return -EINVAL;
	ret->created = (int64_t)time(NULL);
	ret->restart = from->restart;
	ret->watchdog = from->watchdog;
	ret->wanted = runs;
	return copy_config(from, &ret->config, e);
}

/* Its directory, with what the source booted from. */
static int make_copy_dir(struct daemon *d, const struct machine_record *from,
			 const struct machine_record *m, struct err *e)
{
	static const char *const files[] = {"kernel", "modules", "nvram.fd"};
	autofree char *dir = path_guest(d, m->uuid, NULL);
	int r = make_dir(dir, MACHINE_FILES_MODE, e);

	for (size_t i = 0; i < ARRAY_SIZE(files) && r == 0; i++) {
		autofree char *source = path_guest(d, from->uuid, files[i]);
		autofree char *to = path_guest(d, m->uuid, files[i]);
		bool written = i == 2;

		if (access(source, F_OK) == 0 && (written || link(source, to) < 0))
			r = image_copy(source, to, e);
	}
	return r < 0 ? r : identity_want(d, m->uuid, e);
}

static int sync_dirs(struct daemon *d, const struct machine_record *m, struct err *e)
{
	autofree char *dir = path_guest(d, m->uuid, NULL);
	autofree char *guests = xasprintf("%s/guests", d->data_dir);
	int r = path_sync(dir, e);

	return r < 0 ? r : path_sync(guests, e);
}

static void remove_copy_dirs(struct daemon *d, const struct machine_record *m)
{
	autofree char *dir = path_guest(d, m->uuid, NULL);

	run_dir_remove(d, m->uuid);
	dirs_remove(dir);
}

static char *name_key(const char *name)
{
	return xasprintf("name/%s", name);
}

int op_claim_name(struct daemon *d, const char *name, struct err *e)
{
	autofree char *key = name_key(name);
	int r = machine_name_check(name, e);

	if (r == 0)
		r = daemon_claim(d, key, name, e);
	if (r < 0)
		return r;
	r = op_check_name_free(d, name, e);
	if (r < 0)
		daemon_release(d, key);
	return r;
}

void op_release_name(struct daemon *d, const char *name)
{
	autofree char *key = name_key(name);

	daemon_release(d, key);
}

int op_add_machine(struct op_call *c, const struct machine_record *m, struct err *e)
{
	autofree char *guests = xasprintf("%s/guests", c->d->data_dir);
	int r = path_sync(guests, e);

	if (r == 0)
		r = store_machine_add(c->d->store, m, 1, e);
	if (r < 0)
		return r;
	path_link_make(c->d, m->name, m->uuid);
	event_emit(c->d, "machine.created", m->uuid, m->name, NULL);
	c->result = op_format_machine(c->d, m, true);
	return 0;
}

/* --- fork --- */

struct fork_child {
	struct machine_record m;
	char *dir, *sockets, *console, *console_log, *log, *exit;
	int lock;
	bool named; /* its name is claimed */
};

static void child_fini(struct daemon *d, struct fork_child *f)
{
	if (f->named)
		op_release_name(d, f->m.name);
	machine_record_fini(&f->m);
	free(f->dir);
	free(f->sockets);
	free(f->console);
	free(f->console_log);
	free(f->log);
	free(f->exit);
	close_p(&f->lock);
}

static int child_lock(struct fork_child *f, struct err *e)
{
	autofree char *path = xasprintf("%s/lock", f->dir);

	f->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (f->lock < 0 || flock(f->lock, LOCK_EX | LOCK_NB) < 0)
		return err_set(e, -errno, "lock %s", path);
	return 0;
}

static int child_prepare(struct op_call *c, const struct machine_record *from, const char *name,
			 struct fork_child *f, struct live_child *ret, struct err *e)
{
	struct daemon *d = c->d;
	int r = copy_record(c, from, name, true, &f->m, e);

	if (r == 0)
		r = op_claim_name(d, name, e);
	if (r < 0)
		return r;
	f->named = true;
	f->dir = path_guest(d, f->m.uuid, NULL);
	f->sockets = path_run(d, f->m.uuid, NULL);
	f->console = path_run(d, f->m.uuid, "console");
	f->exit = path_run(d, f->m.uuid, "exit");
	f->console_log = path_guest(d, f->m.uuid, "console.log");
	f->log = path_guest(d, f->m.uuid, "vmm.log");
	r = make_copy_dir(d, from, &f->m, e);
	if (r == 0)
		r = make_dir(f->sockets, 0700, e);
	if (r == 0)
		r = child_lock(f, e);
	*ret = (struct live_child){.name = f->m.name,
				   .uuid = f->m.uuid,
				   .dir = f->dir,
				   .sockets = f->sockets,
				   .console = f->console,
				   .console_log = f->console_log,
				   .log = f->log,
				   .exit = f->exit,
				   .keep = &f->lock,
				   .n_keep = 1};
	return r;
}

/* Its disk is the overlay that it runs on. */
static int child_settle(struct daemon *d, const struct fork_child *f, const struct live_child *c,
			struct err *e)
{
	int r = c->disks[0] ? live_set_disk(f->dir, base_name(c->disks[0]), e) : 0;

	return r < 0 ? r : sync_dirs(d, &f->m, e);
}

/* One of insulad's guests from here on. */
static int child_join(struct daemon *d, const struct fork_child *f, const struct live_child *c,
		      struct err *e)
{
	autofree char *path = path_run(d, f->m.uuid, "control");
	struct machine_config config = {0};
	json_t *o = json_loads(f->m.config, 0, NULL);
	int pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0), control = -1;
	int r = machine_config_parse(o, &config, e);

	json_decref(o);
	if (r == 0 && pidfd < 0)
		r = err_set(e, -errno, "'%s' ended", f->m.name);
	if (r == 0)
		r = guest_add(d, f->m.uuid, f->m.name, config.image != NULL, e);
	if (r == 0) {
		struct err unlimited = {0};

		/* The limits of its source hold until then; what fails here is no reason to end it.
		 */
		if (limits_apply(f->m.uuid, &config.limits, c->pid, false, &unlimited) < 0)
			event_emit(d, "machine.failed", f->m.uuid, f->m.name,
				   json_pack("{s:s}", "message", unlimited.msg));
		control =
		    vmm_connect(path, NULL); /* gone already: its end is all there is to see */
		path_link_make(d, f->m.name, f->m.uuid);
		power_link_control(d, f->m.uuid);
		event_emit(d, "machine.created", f->m.uuid, f->m.name, NULL);
		event_emit(d, "machine.started", f->m.uuid, f->m.name, NULL);
		guest_run(d, f->m.uuid, c->pid, pidfd, control);
		identity_start(d, f->m.uuid);
	} else {
		close_p(&pidfd);
	}
	machine_config_fini(&config);
	return r;
}

/* Nobody knows them yet. */
static void end_children(struct daemon *d, const struct fork_child *f, const struct live_child *c,
			 unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		if (c[i].pid > 0)
			(void)!vmm_call(d, f[i].m.uuid, "stop", NULL, NULL, NULL);
		if (f[i].dir)
			remove_copy_dirs(d, &f[i].m);
	}
}

static int commit_children(struct daemon *d, struct fork_child *f, const struct live_child *c,
			   unsigned int n, struct err *e)
{
	struct machine_record *rows = xcalloc(n, sizeof(*rows));
	int r = 0;

	for (unsigned int i = 0; i < n && r == 0; i++) {
		r = child_settle(d, &f[i], &c[i], e);
		rows[i] = f[i].m;
	}
	if (r == 0)
		r = store_machine_add(d->store, rows, n, e);
	free(rows);
	return r;
}

static json_t *format_children(struct daemon *d, const struct fork_child *f,
			       const struct live_child *c, unsigned int n, double stall_ms)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < n; i++) {
		json_t *o = op_format_machine(d, &f[i].m, false);

		json_object_set_new(o, "ms", json_real(c[i].ms));
		json_array_append_new(list, o);
	}
	return json_pack("{s:o, s:f}", "machines", list, "stall_ms", stall_ms);
}

static int fork_now(struct op_call *c, const struct machine_record *from, struct fork_child *f,
		    struct live_child *children, unsigned int n, struct err *e)
{
	autofree char *dir = path_guest(c->d, from->uuid, NULL);
	autofree char *control = path_run(c->d, from->uuid, "control");
	struct live_machine m = {.control = control,
				 .dir = dir,
				 .switching = snapshot_switching,
				 .not_switched = snapshot_not_switched,
				 .opaque = dir};
	/* A guest whose agent does not answer gets its names later, or never. */
	bool named = agent_ping(c->d, from->uuid, AGENT_MS);
	json_t *answer = NULL;
	double stall_ms;
	int r = op_cancelled(c, e);

	if (r == 0)
		r = disks_note_descendants(c->d, from->uuid, e);
	if (r == 0)
		r = live_fork(&m, children, n, &answer, e);
	if (r == 0)
		r = op_cancelled(c, e);
	if (r == 0)
		r = commit_children(c->d, f, children, n, e);
	if (r < 0) {
		json_decref(answer);
		end_children(c->d, f, children, n);
		return r;
	}
	stall_ms = json_real_value(json_object_get(answer, "stall_ms"));
	json_decref(answer);
	for (unsigned int i = 0; i < n; i++) {
		struct err gone = {0};

		/* One that has ended already is a machine that does not run. */
		if (child_join(c->d, &f[i], &children[i], &gone) < 0)
			op_note(c, gone.msg);
	}
	op_note(c, "names and keys of their own");
	for (unsigned int i = 0; i < n; i++)
		if (named)
			(void)identity_wait(c->d, f[i].m.uuid, IDENTITY_MS);
	c->result = format_children(c->d, f, children, n, stall_ms);
	return 0;
}

static int fork_claimed(struct op_call *c, const struct machine_record *from, unsigned int n,
			struct err *e)
{
	const char *name = op_string(c, "name");
	struct fork_child *f = xcalloc(n, sizeof(*f));
	struct live_child *children = xcalloc(n, sizeof(*children));
	int r = op_need_running(c, from, NULL, e);

	for (unsigned int i = 0; i < n; i++)
		f[i].lock = -1;
	for (unsigned int i = 0; i < n && r == 0; i++) {
		autofree char *own = n == 1 ? xstrdup(name) : xasprintf("%s-%u", name, i + 1);

		r = child_prepare(c, from, own, &f[i], &children[i], e);
		if (r < 0)
			end_children(c->d, f, children, i + 1);
	}
	if (r == 0)
		r = fork_now(c, from, f, children, n, e);
	for (unsigned int i = 0; i < n; i++) {
		for (unsigned int k = 0; k < LIVE_MAX_DISKS; k++)
			free(children[i].disks[k]);
		child_fini(c->d, &f[i]);
	}
	free(children);
	free(f);
	return r;
}

int op_machine_fork(struct op_call *c, struct err *e)
{
	int64_t n = op_int(c, "count", 1);
	struct machine_record m;
	int r;

	if (n < 1 || n > FORKS_MAX)
		return err_msg(e, -EINVAL, "count: %lld is not between 1 and %d", (long long)n,
			       FORKS_MAX);
	r = op_claim(c, &m, e);
	if (r < 0)
		return r;
	r = op_refuse_container(&m, "forked", e);
	if (r == 0)
		r = fork_claimed(c, &m, (unsigned int)n, e);
	op_unclaim(c, &m);
	return r;
}

/* --- clone --- */

static int on_tick(void *opaque, uint64_t done, uint64_t total)
{
	struct op_call *c = opaque;

	job_fraction(c->job, "copying the disk", total ? (double)done / (double)total : 0);
	return op_cancelled(c, NULL);
}

static int copy_disk(struct op_call *c, const char *base, const char *dir, struct err *e)
{
	autofree char *to = xasprintf("%s/disk.raw", dir);
	const struct qcow2_options o = {.refcount_order = -1};
	const struct disk_progress p = {.tick = on_tick, .opaque = c};
	struct disk_copy copy = {.from = base,
				 .to = to,
				 .to_format = "raw",
				 .options = &o,
				 .progress = c->job ? &p : NULL};
	int r = disk_convert(&copy, e);

	return r == -EINTR ? op_cancelled(c, e) : r;
}

int op_freeze_disk(struct op_call *c, const struct machine_record *from, const char *disk,
		   struct err *e)
{
	autofree char *dir = path_guest(c->d, from->uuid, NULL), *overlay = NULL;
	autofree char *control = path_run(c->d, from->uuid, "control");
	struct live_machine m = {.control = control,
				 .dir = dir,
				 .switching = snapshot_switching,
				 .not_switched = snapshot_not_switched,
				 .opaque = dir};
	int r;

	if (from->template)
		return 0; /* nobody writes to it */
	if (guest_get(c->d, from->uuid, NULL))
		return live_save(&m, NULL, NULL, e);
	r = live_overlay_make(dir, 0, disk, NULL, 0, &overlay, e);
	return r < 0 ? r : live_set_disk(dir, base_name(overlay), e);
}

/* A linked one lies over the source's disk, a full one copies it; of a machine that runs it is the
 * disk of one instant, as after a power cut. */
static int clone_disk(struct op_call *c, const struct machine_record *from,
		      const struct machine_record *m, struct err *e)
{
	autofree char *source = path_guest(c->d, from->uuid, NULL);
	autofree char *disk = dirs_machine_disk(source), *dir = path_guest(c->d, m->uuid, NULL);
	autofree char *overlay = NULL;
	bool full = op_bool(c, "full"), runs = guest_get(c->d, from->uuid, NULL);
	int r = 0;

	if (access(disk, F_OK) < 0)
		return 0; /* it has none of its own */
	if (!full || runs)
		r = op_freeze_disk(c, from, disk, e);
	if (r == 0 && full)
		return copy_disk(c, disk, dir, e);
	if (r == 0)
		r = disks_note_descendants(c->d, from->uuid, e);
	if (r == 0)
		r = live_overlay_make(dir, 0, disk, NULL, 0, &overlay, e);
	return r < 0 ? r : live_set_disk(dir, base_name(overlay), e);
}

static int clone_named(struct op_call *c, const struct machine_record *from,
		       struct machine_record *m, struct err *e)
{
	int r = make_copy_dir(c->d, from, m, e);

	if (r == 0)
		r = clone_disk(c, from, m, e);
	if (r == 0)
		r = sync_dirs(c->d, m, e);
	if (r == 0)
		r = op_cancelled(c, e);
	if (r == 0)
		r = op_add_machine(c, m, e);
	if (r < 0)
		remove_copy_dirs(c->d, m);
	return r;
}

int op_machine_clone(struct op_call *c, struct err *e)
{
	struct machine_record from, m = {0};
	int r = op_claim(c, &from, e);

	if (r < 0)
		return r;
	if (container_is(&from)) {
		r = container_clone(c, &from, op_string(c, "name"), e);
		op_unclaim(c, &from);
		return r;
	}
	r = copy_record(c, &from, op_string(c, "name"), false, &m, e);
	if (r == 0)
		r = op_claim_name(c->d, m.name, e);
	if (r == 0) {
		r = clone_named(c, &from, &m, e);
		op_release_name(c->d, m.name);
	}
	machine_record_fini(&m);
	op_unclaim(c, &from);
	return r;
}

/* --- templates --- */

/* Clones lie over the disk of what was a template: it goes on above. */
static int leave_template(struct op_call *c, struct machine_record *m, struct err *e)
{
	autofree char *dir = path_guest(c->d, m->uuid, NULL), *disk = dirs_machine_disk(dir);

	m->template = false;
	if (!disks_have_descendants(c->d, m->uuid) || access(disk, F_OK) < 0)
		return 0;
	return op_freeze_disk(c, m, disk, e);
}

static int set_template(struct op_call *c, struct machine_record *m, struct err *e)
{
	bool on = op_bool(c, "template");
	int r = 0;

	if (on && guest_get(c->d, m->uuid, NULL))
		return err_msg(e, -EBUSY, "'%s' is running: a template does not", m->name);
	if (on != m->template) {
		r = on ? 0 : leave_template(c, m, e);
		m->template = on;
		m->wanted = false;
		if (r == 0)
			r = store_machine_update(c->d->store, m, e);
	}
	if (r == 0) {
		event_emit(c->d, "machine.changed", m->uuid, m->name, NULL);
		c->result = op_format_machine(c->d, m, false);
	}
	return r;
}

int op_machine_template(struct op_call *c, struct err *e)
{
	struct machine_record m;
	int r = op_claim(c, &m, e);

	if (r < 0)
		return r;
	r = op_refuse_container(&m, "a template", e);
	if (r == 0)
		r = set_template(c, &m, e);
	op_unclaim(c, &m);
	return r;
}
