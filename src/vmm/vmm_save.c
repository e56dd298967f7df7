/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/vmm_save.c - saving the machine while it runs, and going on from a file
 *
 *	"save" --> all vCPUs stand still --> state of CPUs and devices --> fork --> the guest goes
 *on
 *	                                                                     |
 *	            answer <-- pipe <-- the child writes memory as it was at the fork
 *
 * The kernel's copy on write keeps the child's memory as it was, so that the guest stands still for
 * milliseconds, whatever its size.
 */
#include "vmm/vmm_priv.h"

#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/prctl.h>

struct vmm_save {
	struct vmm *vmm;
	uint64_t request; /* of control_defer */
	int file;         /* -1: disks only */
	int result;       /* the child's end tells: empty = all is written, else why not */
	struct loop_fd watch;
	bool pause, packed;
	struct snapshot *parent; /* what the file may leave out; NULL = none */
	char *parent_name;
	uint64_t asked, stall_ns;
};

static void save_free(struct vmm_save *s)
{
	loop_remove(s->vmm->loop, &s->watch);
	close_p(&s->file);
	close_p(&s->result);
	snapshot_free(s->parent);
	free(s->parent_name);
	s->vmm->save = NULL;
	free(s);
}

static void save_failed(struct vmm_save *s, int r, const struct err *e)
{
	control_answer(s->vmm->control, s->request, r, NULL, e);
	save_free(s);
}

static void save_done(struct vmm_save *s)
{
	control_answer(s->vmm->control, s->request, 0,
		       json_pack("{sf sf}", "stall_ms", (double)s->stall_ns / 1e6, "total_ms",
				 (double)(clock_now() - s->asked) / 1e6),
		       NULL);
	save_free(s);
}

/* --- the child --- */

/* Of the process's descriptors only these are its: with the others it would hold locks and sockets.
 */
struct kept {
	int fd[SNAPSHOT_PARENTS_MAX + 2];
	unsigned int n;
};

static void keep(void *opaque, int fd)
{
	struct kept *k = opaque;

	k->fd[k->n++] = fd;
}

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

static void close_others(struct kept *k)
{
	unsigned int next = 0;

	qsort(k->fd, k->n, sizeof(k->fd[0]), by_number);
	for (unsigned int i = 0; i < k->n; i++) {
		unsigned int fd = (unsigned int)k->fd[i];

		if (fd > next)
			close_range(next, fd - 1, 0);
		next = fd + 1;
	}
	close_range(next, ~0u, 0);
}

static void write_and_exit(const struct vmm_save *s, const struct snapshot_source *src, int result)
    __attribute__((noreturn));
static void write_and_exit(const struct vmm_save *s, const struct snapshot_source *src, int result)
{
	struct kept kept = {.fd = {s->file, result}, .n = 2};
	struct err e = {0};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snapshot_each_fd(s->parent, keep, &kept);
	close_others(&kept);
	if (snapshot_write(s->file, src, &e) < 0)
		(void)!write_full(result, e.msg, strlen(e.msg));
	else
		(void)!write_full(result, "+", 1);
	_exit(0);
}

/* --- the machine stands still --- */

static void on_result(void *opaque, uint32_t events)
{
	struct vmm_save *s = opaque;
	struct err e = {0};
	char text[sizeof(e.msg)];
	ssize_t n = read(s->result, text, sizeof(text) - 1);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n == 1 && text[0] == '+') {
		save_done(s);
		return;
	}
	text[MAX(n, 0)] = '\0';
	save_failed(s, err_msg(&e, -EIO, "%s", n > 0 ? text : "the writer of the snapshot died"),
		    &e);
}

static json_t *make_manifest(struct vmm *v)
{
	json_t *o = json_object();

	json_object_set_new(o, "description", vmm_description(v));
	json_object_set_new(o, "engine", json_string(machine_engine(v->machine, NULL)));
	json_object_set_new(o, "created", json_integer((json_int_t)(clock_wall() / NSEC_PER_SEC)));
	return o;
}

static int start_writer(struct vmm_save *s, const struct snapshot_source *src, struct err *e)
{
	autoclose int result = -1;
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_set(e, -errno, "pipe");
	s->result = ends[0];
	result = ends[1];
	if (loop_add(s->vmm->loop, &s->watch, s->result, EPOLLIN, on_result, s) < 0)
		return err_set(e, -EMFILE, "watch the writer");
	pid = fork();
	if (pid == 0)
		write_and_exit(s, src, result);
	return pid < 0 ? err_set(e, -errno, "fork") : 0;
}

static int write_frozen(struct vmm_save *s, struct err *e)
{
	struct machine_region regions[MACHINE_REGIONS_MAX];
	struct machine *m = s->vmm->machine;
	autostrbuf struct strbuf state = {0};
	struct snapshot_source src = {.regions = regions,
				      .packed = s->packed,
				      .parent = s->parent,
				      .parent_name = s->parent_name};
	int r = machine_save(m, &state, e);

	if (r < 0)
		return r;
	if (s->file < 0)
		return vmm_overlays_put(s->vmm, e);
	src.n_regions = machine_regions(m, regions);
	src.state = state.data;
	src.state_len = state.len;
	src.manifest = make_manifest(s->vmm); /* names the disks as they are below the overlays */
	r = vmm_overlays_put(s->vmm, e);
	if (r == 0)
		r = start_writer(s, &src, e);
	json_decref(src.manifest);
	return r;
}

static void on_frozen(void *opaque, int result)
{
	struct vmm_save *s = opaque;
	struct err e = {0};

	if (result < 0)
		err_msg(&e, result, "the machine stopped before it could be saved");
	else
		result = write_frozen(s, &e);
	s->stall_ns = clock_now() - machine_frozen_since(s->vmm->machine);
	if (result == 0 && s->pause)
		machine_pause(s->vmm->machine);
	if (result < 0) {
		vmm_overlays_drop(s->vmm);
		save_failed(s, result, &e);
	} else if (s->file < 0) {
		save_done(s);
	}
}

/* --- commands --- */

static int check_arguments(json_t *args, struct err *e)
{
	const char *key;
	json_t *value;

	json_object_foreach(args, key, value)
	{
		if ((strcmp(key, "pause") == 0 || strcmp(key, "compress") == 0) &&
		    json_is_boolean(value))
			continue;
		if (strcmp(key, "overlays") != 0 &&
		    (strcmp(key, "parents") != 0 || !json_is_array(value)))
			return err_msg(e, -EINVAL, "%.64s: not an argument, or not its kind", key);
	}
	return 0;
}

/* Names and descriptors, of which the last needs no other; from number 1 on. */
static int take_parents(struct vmm *v, const json_t *names, struct vmm_save *s, struct err *e)
{
	struct snapshot *below = NULL, *p;
	size_t n = json_array_size(names);

	if (n > SNAPSHOT_PARENTS_MAX)
		return err_msg(e, -EINVAL, "parents: more than %d", SNAPSHOT_PARENTS_MAX);
	for (size_t i = n; i > 0; i--) {
		const char *name = json_string_value(json_array_get(names, i - 1));
		int fd = control_take_fd(v->passed, (unsigned int)i, e), r = fd < 0 ? fd : 0;

		if (r == 0 && (!name || strchr(name, '/')))
			r = err_msg(e, -EINVAL, "parents: not the name of a file beside");
		if (r == 0)
			r = snapshot_open(fd, name, &p, e);
		if (r < 0) {
			close_p(&fd);
			snapshot_free(below);
			return r;
		}
		r = below ? snapshot_set_parent(p, below, e) : 0;
		if (r < 0) {
			snapshot_free(p);
			snapshot_free(below);
			return r;
		}
		below = p;
	}
	s->parent = below;
	if (n)
		s->parent_name = xstrdup(json_string_value(json_array_get(names, 0)));
	return 0;
}

/* @first: the number of the overlays' first descriptor. */
static int begin(struct vmm_save *s, json_t *args, unsigned int first, struct err *e)
{
	struct vmm *v = s->vmm;
	int r = vmm_overlays_take(v, json_object_get(args, "overlays"), first, e);

	if (r == 0)
		r = machine_check_disks(v->machine, !s->pause, e);
	if (r == 0) {
		v->save = s;
		r = machine_freeze(v->machine, on_frozen, s, e);
	}
	if (r < 0) {
		vmm_overlays_drop(v);
		save_free(s);
		return r;
	}
	s->request = control_defer(v->control);
	return CONTROL_LATER;
}

static struct vmm_save *save_new(struct vmm *v)
{
	struct vmm_save *s = xnew(struct vmm_save);

	*s = (struct vmm_save){.vmm = v, .file = -1, .result = -1, .asked = clock_now()};
	return s;
}

/* Descriptor 0 is the file, then come parents and overlays. */
int vmm_run_save(struct vmm *v, json_t *args, json_t **ret, struct err *e)
{
	const json_t *parents = json_object_get(args, "parents");
	struct vmm_save *s;
	int r = check_arguments(args, e);

	if (r < 0)
		return r;
	if (v->save || v->fork)
		return err_msg(e, -EBUSY, "a snapshot is being made");
	s = save_new(v);
	s->pause = json_is_true(json_object_get(args, "pause"));
	s->packed = json_is_true(json_object_get(args, "compress"));
	s->file = control_take_fd(v->passed, 0, e);
	r = s->file < 0 ? err_wrap(e, s->file, "the file to save to")
			: take_parents(v, parents, s, e);
	if (r < 0) {
		save_free(s);
		return r;
	}
	return begin(s, args, 1 + (unsigned int)json_array_size(parents), e);
}

/* Disks of one instant, without memory: descriptors are overlays. */
int vmm_run_switch_disks(struct vmm *v, json_t *args, json_t **ret, struct err *e)
{
	if (json_object_size(args) != 1 || !json_array_size(json_object_get(args, "overlays")))
		return err_msg(e, -EINVAL, "overlays: a list of them is needed");
	if (v->save || v->fork)
		return err_msg(e, -EBUSY, "a snapshot is being made");
	return begin(save_new(v), args, 0, e);
}

void vmm_save_wait(struct vmm *v)
{
	while (v->save && v->save->result >= 0)
		on_result(v->save, 0);
}

/* The snapshot at @path and, beside it, those that it is of no use without. */
static int open_chain(const char *path, unsigned int depth, struct snapshot **ret, struct err *e)
{
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct snapshot *s, *parent;
	const char *name, *slash = strrchr(path, '/');
	int r;

	if (fd < 0)
		return err_set(e, -errno, "open %s", path);
	r = snapshot_open(fd, path, &s, e);
	if (r < 0)
		return r;
	(void)steal_fd(&fd);
	name = snapshot_parent_name(s);
	if (name && (strchr(name, '/') || depth == SNAPSHOT_PARENTS_MAX)) {
		r = err_msg(e, -EINVAL, "%s: its parent is no file beside it, or has too many",
			    path);
	} else if (name) {
		autofree char *beside =
		    xasprintf("%.*s%s", (int)(slash ? slash - path + 1 : 0), path, name);

		r = open_chain(beside, depth + 1, &parent, e);
		if (r == 0) {
			r = snapshot_set_parent(s, parent, e);
			if (r < 0)
				snapshot_free(parent);
		}
	}
	if (r < 0)
		snapshot_free(s);
	else
		*ret = s;
	return r;
}

int vmm_restore(void *opaque, struct machine *m, struct err *e)
{
	struct machine_region regions[MACHINE_REGIONS_MAX];
	struct vmm *v = opaque;
	const void *state;
	size_t len;
	int r = open_chain(v->options->restore, 0, &v->restored, e);

	if (r == 0)
		r = snapshot_map(v->restored, regions, machine_regions(m, regions), false, e);
	if (r < 0)
		return r;
	state = snapshot_state(v->restored, &len);
	return machine_load(m, state, len, e);
}
