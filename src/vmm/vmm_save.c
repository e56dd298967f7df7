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
	int file;
	int result; /* the child's end tells: empty = all is written, else why not */
	struct loop_fd watch;
	bool pause, packed;
	uint64_t asked, stall_ns;
};

static void save_free(struct vmm_save *s)
{
	loop_remove(s->vmm->loop, &s->watch);
	close_p(&s->file);
	close_p(&s->result);
	s->vmm->save = NULL;
	free(s);
}

static void save_failed(struct vmm_save *s, int r, const struct err *e)
{
	control_answer(s->vmm->control, s->request, r, NULL, e);
	save_free(s);
}

/* --- the child --- */

/* Of the process's descriptors only two are its: with the others it would hold locks and sockets.
 */
static void close_others(int a, int b)
{
	unsigned int low = (unsigned int)MIN(a, b), high = (unsigned int)MAX(a, b);

	if (low)
		close_range(0, low - 1, 0);
	if (high > low + 1)
		close_range(low + 1, high - 1, 0);
	close_range(high + 1, ~0u, 0);
}

static void write_and_exit(const struct vmm_save *s, const struct snapshot_source *src, int result)
    __attribute__((noreturn));
static void write_and_exit(const struct vmm_save *s, const struct snapshot_source *src, int result)
{
	struct err e = {0};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close_others(s->file, result);
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
		control_answer(s->vmm->control, s->request, 0,
			       json_pack("{sf sf}", "stall_ms", (double)s->stall_ns / 1e6,
					 "total_ms", (double)(clock_now() - s->asked) / 1e6),
			       NULL);
		save_free(s);
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
	struct snapshot_source src = {.regions = regions, .packed = s->packed};
	int r = machine_save(m, &state, e);

	if (r < 0)
		return r;
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
		if (strcmp(key, "overlays") != 0)
			return err_msg(e, -EINVAL, "%.64s: not an argument, or not its kind", key);
	}
	return 0;
}

/* Descriptor 0 is the file, the others are overlays. */
int vmm_run_save(struct vmm *v, json_t *args, json_t **ret, struct err *e)
{
	bool pause = json_is_true(json_object_get(args, "pause"));
	autoclose int fd = -1;
	struct vmm_save *s;
	int r = check_arguments(args, e);

	if (r < 0)
		return r;
	if (v->save || v->fork)
		return err_msg(e, -EBUSY, "a snapshot is being made");
	fd = control_take_fd(v->passed, 0, e);
	if (fd < 0)
		return err_wrap(e, fd, "the file to save to");
	r = vmm_overlays_take(v, json_object_get(args, "overlays"), 1, e);
	if (r == 0)
		r = machine_check_disks(v->machine, !pause, e);
	if (r < 0) {
		vmm_overlays_drop(v);
		return r;
	}
	s = xnew(struct vmm_save);
	*s = (struct vmm_save){
	    .vmm = v,
	    .file = steal_fd(&fd),
	    .result = -1,
	    .pause = pause,
	    .packed = json_is_true(json_object_get(args, "compress")),
	    .asked = clock_now(),
	};
	v->save = s;
	r = machine_freeze(v->machine, on_frozen, s, e);
	if (r < 0) {
		vmm_overlays_drop(v);
		save_free(s);
		return r;
	}
	s->request = control_defer(v->control);
	return CONTROL_LATER;
}

void vmm_save_wait(struct vmm *v)
{
	while (v->save && v->save->result >= 0)
		on_result(v->save, 0);
}

int vmm_restore(void *opaque, struct machine *m, struct err *e)
{
	struct machine_region regions[MACHINE_REGIONS_MAX];
	struct vmm *v = opaque;
	const char *path = v->options->restore;
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	const void *state;
	size_t len;
	int r;

	if (fd < 0)
		return err_set(e, -errno, "open %s", path);
	r = snapshot_open(fd, path, &v->restored, e);
	if (r < 0)
		return r;
	(void)steal_fd(&fd);
	r = snapshot_map(v->restored, regions, machine_regions(m, regions), e);
	if (r < 0)
		return r;
	state = snapshot_state(v->restored, &len);
	return machine_load(m, state, len, e);
}
