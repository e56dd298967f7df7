/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/vmm_fork.c - live fork: copies of the running machine that go on by themselves
 *
 *	"give"   sockets, overlays and the files below them, opened by whoever asks: nothing can be
 *	         opened behind our walls
 *	"fork"   all vCPUs stand still --> state of CPUs and devices --> overlays --> fork, once a
 *child
 *
 * A child is this process as fork(2) leaves it: one thread, memory shared with the parent until one
 * of both writes to it, the same walls.  It takes nothing over but the guest's memory, the state
 *and the files that are its own, makes a machine of its description as if it had just been started,
 * moves the memory there (mremap: no byte is copied) and goes on.  Of the old machine it leaves
 *alone what it does not need: to free it would mean to copy it.
 */
#include "vmm/vmm_priv.h"

#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#define CHILDREN_MAX 256

struct child {
	struct vmm_fork *fork;
	struct vm_desc desc;
	char *log;  /* path of a given file: standard output and error; NULL = nowhere */
	char *exit; /* likewise: how it ended */
	pid_t pid;
	int ready; /* see take_words; or its end */
	char words[32];
	size_t n_words;
	struct loop_fd watch;
	bool runs;
	uint64_t ns; /* from the request until it ran */
};

struct vmm_fork {
	struct vmm *vmm;
	uint64_t request, asked, stall_ns;
	unsigned int n, n_over;
	struct child child[];
};

static void fork_free(struct vmm_fork *f)
{
	for (unsigned int i = 0; i < f->n; i++) {
		struct child *c = &f->child[i];

		loop_remove(f->vmm->loop, &c->watch);
		close_p(&c->ready);
		vm_desc_fini(&c->desc);
		free(c->log);
		free(c->exit);
	}
	fd_table_fini(&f->vmm->given); /* they were for these children */
	f->vmm->fork = NULL;
	free(f);
}

void vmm_fork_free(struct vmm *v)
{
	if (v->fork)
		fork_free(v->fork);
}

/* --- a child --- */

/* Those given to it stay, with standard input and output; everything else is the parent's. */
static void keep_own(struct vmm *v, unsigned int number, struct fd_table *own, int ready)
{
	unsigned int next = 3;

	/* In ascending order; the list is short. */
	for (;;) {
		unsigned int keep = UINT_MAX;

		for (unsigned int i = 0; i < v->given.n; i++) {
			const struct fd_table_entry *e = &v->given.entry[i];
			bool ours = e->owner < 0 || e->owner == (int)number;

			if (ours && e->fd >= (int)next)
				keep = MIN(keep, (unsigned int)e->fd);
		}
		if (ready >= (int)next)
			keep = MIN(keep, (unsigned int)ready);
		if (keep > next)
			close_range(next, keep - 1, 0);
		if (keep == UINT_MAX)
			break;
		next = keep + 1;
	}
	for (unsigned int i = 0; i < v->given.n; i++) {
		const struct fd_table_entry *e = &v->given.entry[i];

		if (e->owner < 0 || e->owner == (int)number)
			fd_table_add(own, e->path, -1, e->fd);
	}
}

static void redirect(const struct fd_table *own, const char *log)
{
	autoclose int fd = log ? fd_table_find(own, log) : -1;

	for (int i = 0; i < 3; i++) {
		if (fd >= 0)
			dup2(fd, i);
		else
			close(i);
	}
	/* Descriptors that are opened later must not get these numbers. */
	for (int i = 0; fd < 0 && i < 3; i++)
		(void)!eventfd(0, EFD_NONBLOCK);
}

static void run_child(struct vmm_fork *f, unsigned int number, struct vmm_parent *parent, int ready)
    __attribute__((noreturn));
static void run_child(struct vmm_fork *f, unsigned int number, struct vmm_parent *parent, int ready)
{
	struct child *c = &f->child[number];
	struct fd_table own = {0};
	struct vmm_options options = {
	    .ready_fd = ready, .parent_fd = -1, .exit_fd = -1, .parent = parent};

	dprintf(ready, "%d\n", (int)getpid());
	machine_forget(f->vmm->machine);
	keep_own(f->vmm, number, &own, ready);
	redirect(&own, c->log);
	if (c->exit)
		options.exit_fd = fd_table_find(&own, c->exit);
	parent->given = &own;
	/* _exit: what the C library would do at the end is the parent's to do. */
	_exit(vmm_run(&c->desc, &options));
}

static int move_region(const struct machine_region *from, const struct machine_region *to,
		       struct err *e)
{
	if (strcmp(from->name, to->name) != 0 || from->size != to->size)
		return err_msg(e, -EINVAL, "memory '%s' of the parent is not '%s' of the fork",
			       from->name, to->name);
	if (!to->pages) {
		memcpy(to->data, from->data, to->size);
		return 0;
	}
	if (mremap(from->data, from->size, to->size, MREMAP_MAYMOVE | MREMAP_FIXED, to->data) ==
	    MAP_FAILED)
		return err_set(e, -errno, "move memory '%s'", to->name);
	return 0;
}

int vmm_adopt(void *opaque, struct machine *m, struct err *e)
{
	const struct vmm *v = opaque;
	const struct vmm_parent *p = v->options->parent;
	struct machine_region regions[MACHINE_REGIONS_MAX];
	unsigned int n = machine_regions(m, regions);
	int r = 0;

	if (n != p->n_regions)
		return err_msg(e, -EINVAL, "the fork has other memory than its parent");
	for (unsigned int i = 0; i < n && r == 0; i++)
		r = move_region(&p->regions[i], &regions[i], e);
	return r < 0 ? r : machine_load(m, p->state, p->state_len, e);
}

/* --- the parent --- */

static void answer(struct vmm_fork *f)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < f->n; i++) {
		const struct child *c = &f->child[i];

		json_array_append_new(
		    list, c->runs
			      ? json_pack("{si sf}", "pid", (int)c->pid, "ms", (double)c->ns / 1e6)
			      : json_pack("{ss}", "error", "the fork did not start: see its log"));
	}
	control_answer(
	    f->vmm->control, f->request, 0,
	    json_pack("{sf so}", "stall_ms", (double)f->stall_ns / 1e6, "children", list), NULL);
	fork_free(f);
}

/* A child says its pid, then "ready". */
static void take_words(struct child *c)
{
	if (!c->pid)
		c->pid = (pid_t)strtol(c->words, NULL, 10);
	c->runs = strstr(c->words, "ready") != NULL;
}

static void on_child(void *opaque, uint32_t events)
{
	struct child *c = opaque;
	ssize_t n = read(c->ready, c->words + c->n_words, sizeof(c->words) - 1 - c->n_words);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n > 0) {
		c->n_words += (size_t)n;
		take_words(c);
		if (!c->runs && c->n_words < sizeof(c->words) - 1)
			return;
	}
	loop_remove(c->fork->vmm->loop, &c->watch);
	c->ns = clock_now() - c->fork->asked;
	if (++c->fork->n_over == c->fork->n)
		answer(c->fork);
}

/* The first fork is the instant; the children are forks of that one, so that the parent stands
 * still for one however many there are. */
static void run_seed(struct vmm_fork *f, struct vmm_parent *parent, const int *ends)
    __attribute__((noreturn));
static void run_seed(struct vmm_fork *f, struct vmm_parent *parent, const int *ends)
{
	/* The last child need not be a copy of a copy. */
	for (unsigned int i = 0; i + 1 < f->n; i++)
		if (fork() == 0)
			run_child(f, i, parent, ends[i]);
	run_child(f, f->n - 1, parent, ends[f->n - 1]);
}

static int fork_children(struct vmm_fork *f, struct vmm_parent *parent, struct err *e)
{
	int ends[CHILDREN_MAX], r = 0;
	unsigned int n = 0;
	pid_t pid = -1;

	for (; n < f->n && r == 0; n++) {
		struct child *c = &f->child[n];
		int pair[2];

		if (pipe2(pair, O_CLOEXEC) < 0) {
			r = err_set(e, -errno, "pipe");
			break;
		}
		c->ready = pair[0];
		ends[n] = pair[1];
		if (loop_add(f->vmm->loop, &c->watch, c->ready, EPOLLIN, on_child, c) < 0)
			r = err_set(e, -EMFILE, "watch a fork");
	}
	if (r == 0) {
		pid = fork();
		if (pid == 0)
			run_seed(f, parent, ends);
		r = pid < 0 ? err_set(e, -errno, "fork") : 0;
	}
	while (n)
		close(ends[--n]);
	return r;
}

static int fork_frozen(struct vmm_fork *f, struct err *e)
{
	struct machine_region regions[MACHINE_REGIONS_MAX];
	autostrbuf struct strbuf state = {0};
	struct vmm_parent parent = {.regions = regions};
	int r = machine_save(f->vmm->machine, &state, e);

	if (r == 0)
		r = vmm_overlays_put(f->vmm, e);
	if (r < 0)
		return r;
	parent.n_regions = machine_regions(f->vmm->machine, regions);
	parent.state = state.data;
	parent.state_len = state.len;
	return fork_children(f, &parent, e);
}

static void fork_failed(struct vmm_fork *f, int r, const struct err *e)
{
	vmm_overlays_drop(f->vmm);
	control_answer(f->vmm->control, f->request, r, NULL, e);
	fork_free(f);
}

static void on_frozen(void *opaque, int result)
{
	struct vmm_fork *f = opaque;
	struct err e = {0};

	if (result < 0)
		err_msg(&e, result, "the machine stopped before it could be forked");
	else
		result = fork_frozen(f, &e);
	f->stall_ns = clock_now() - machine_frozen_since(f->vmm->machine);
	if (result < 0)
		fork_failed(f, result, &e);
}

/* --- commands --- */

int vmm_run_give(struct vmm *v, json_t *args, json_t **ret, struct err *e)
{
	json_t *paths = json_object_get(args, "paths"), *child = json_object_get(args, "child"), *p;
	size_t i;

	if (!json_is_array(paths) || json_array_size(paths) != v->passed->n ||
	    (child && !json_is_integer(child)) || json_object_size(args) != (child ? 2 : 1))
		return err_msg(e, -EINVAL,
			       "give: a list of paths, as many as descriptors, and whose they are");
	if (v->fork)
		return err_msg(e, -EBUSY, "a fork is being made");
	json_array_foreach(paths, i, p)
	{
		int fd = json_is_string(p) ? control_take_fd(v->passed, (unsigned int)i, e) : -1;

		if (fd < 0)
			return err_msg(e, -EINVAL, "paths: %zu is not a path", i);
		fd_table_add(&v->given, json_string_value(p),
			     child ? (int)json_integer_value(child) : -1, fd);
	}
	return 0;
}

static int parse_child(struct vmm_fork *f, unsigned int number, json_t *o, struct err *e)
{
	struct child *c = &f->child[number];
	autofree char *text = json_dumps(json_object_get(o, "description"), JSON_COMPACT);
	const char *log = json_string_value(json_object_get(o, "log"));
	const char *end = json_string_value(json_object_get(o, "exit"));
	int r;

	c->fork = f;
	c->ready = -1;
	f->n++;
	if (!text)
		return err_msg(e, -EINVAL, "children: each has a description");
	c->log = log ? xstrdup(log) : NULL;
	c->exit = end ? xstrdup(end) : NULL;
	r = vm_desc_parse(text, strlen(text), &c->desc, e);
	if (r == 0 && c->desc.n_shares)
		r = err_msg(e, -EINVAL, "a fork cannot have shared folders");
	return r < 0 ? err_wrap(e, r, "child %u", number) : 0;
}

int vmm_run_fork(struct vmm *v, json_t *args, json_t **ret, struct err *e)
{
	json_t *children = json_object_get(args, "children"), *o;
	size_t n = json_array_size(children), i;
	struct vmm_fork *f;
	int r = 0;

	if (n < 1 || n > CHILDREN_MAX)
		return err_msg(e, -EINVAL, "children: a list of 1 to %d is needed", CHILDREN_MAX);
	if (v->save || v->fork)
		return err_msg(e, -EBUSY, "a snapshot is being made");
	f = xcalloc(1, sizeof(*f) + n * sizeof(f->child[0]));
	f->vmm = v;
	f->asked = clock_now();
	v->fork = f;
	json_array_foreach(children, i, o)
	{
		r = r < 0 ? r : parse_child(f, (unsigned int)i, o, e);
	}
	if (r == 0)
		r = vmm_overlays_take(v, json_object_get(args, "overlays"), 0, e);
	if (r == 0)
		r = machine_check_disks(v->machine, true, e);
	if (r == 0)
		r = machine_freeze(v->machine, on_frozen, f, e);
	if (r < 0) {
		vmm_overlays_drop(v);
		fork_free(f);
		return r;
	}
	f->request = control_defer(v->control);
	return CONTROL_LATER;
}
