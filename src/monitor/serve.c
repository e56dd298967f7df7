/* SPDX-License-Identifier: Apache-2.0 */
/*
 * monitor/serve.c - the inner process at work: control socket, commands, console, the end
 */
#include "monitor/monitor_priv.h"

#include "base/clock.h"
#include "base/exit.h"
#include "codec/agent_proto.h"
#include "container/container.h"
#include "container/proc.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define MAX_CONNS 64
#define FIXED     3   /* signals, the loop, who connects to the agent */
#define EOF_TICK  100 /* ms: a terminal's end of file is typed again */

/* --- control --- */

static uint64_t number_of(const json_t *o, const char *a, const char *b, const char *c)
{
	json_t *v = json_object_get(json_object_get(o, a), b);

	v = c ? json_object_get(v, c) : v;
	return (uint64_t)json_integer_value(v);
}

static json_t *status(struct box *b)
{
	const struct container_runtime rt = {.root = b->state};
	autostrbuf struct strbuf text = {0};
	json_t *o =
		   json_pack("{s:s, s:s, s:i, s:I, s:I}", "state", b->paused ? "paused" : "running",
			     "engine", "host", "cpus", (int)b->d.options.cpus, "memory",
			     (json_int_t)b->d.options.memory, "uptime_ms",
			     (json_int_t)((clock_now() - b->started) / NSEC_PER_MSEC)),
	       *stats;

	if (container_stats(&rt, BOX_ID, &text, NULL) < 0)
		return o;
	stats = json_loads(text.data, 0, NULL);
	/* Without control groups nothing is known. */
	if (json_object_get(stats, "cpu")) {
		json_object_set_new(
		    o, "cpu_ns",
		    json_integer((json_int_t)number_of(stats, "cpu", "usage", "total")));
		json_object_set_new(
		    o, "resident",
		    json_integer((json_int_t)number_of(stats, "memory", "usage", "usage")));
		json_object_set_new(
		    o, "processes",
		    json_integer((json_int_t)number_of(stats, "pids", "current", NULL)));
	}
	json_decref(stats);
	return o;
}

static int change_limits(struct box *b, const json_t *args, struct err *e)
{
	const struct container_runtime rt = {.root = b->state};
	struct container_options *o = &b->d.options;
	struct spec_resources resources = {0};
	struct json_doc doc = {.err = e};
	autofree char *text = NULL;
	json_t *limits;
	int r;

	o->cpus = (unsigned int)json_integer_value(json_object_get(args, "cpus"));
	o->memory = (uint64_t)json_integer_value(json_object_get(args, "memory"));
	o->cpu_percent = json_integer_value(json_object_get(args, "cpu_percent"));
	o->cpu_weight = json_integer_value(json_object_get(args, "cpu_weight"));
	limits = bundle_limits(o);
	text = json_dumps(limits, JSON_COMPACT);
	json_decref(limits);
	r = spec_resources_parse(text, strlen(text), &doc, &resources, e);
	if (r == 0)
		r = container_update(&rt, BOX_ID, &resources, e);
	spec_resources_fini(&resources);
	json_doc_fini(&doc);
	return r;
}

static int hold(struct box *b, bool on, struct err *e)
{
	bool was = b->paused;
	int r = box_pause(b, on, e);

	if (r == 0 && was != on)
		control_event(b->control, json_pack("{s:s}", "event", on ? "paused" : "resumed"));
	return r;
}

static int end(struct box *b, enum box_wish wish, int signal, struct err *e)
{
	b->wish = wish;
	return box_signal(b, signal, e);
}

static int run_control(void *opaque, const char *command, json_t *args, struct control_fds *fds,
		       json_t **ret, struct err *e)
{
	struct box *b = opaque;

	if (strcmp(command, "status") == 0) {
		*ret = status(b);
		return 0;
	}
	if (strcmp(command, "describe") == 0) {
		*ret = json_pack("{s:O}", "description", b->d.root);
		return 0;
	}
	if (strcmp(command, "stop") == 0)
		return end(b, WISH_STOP, SIGKILL, e);
	if (strcmp(command, "reset") == 0)
		return end(b, WISH_RESTART, SIGKILL, e);
	if (strcmp(command, "powerdown") == 0)
		return box_signal(b, b->stop_signal, e);
	if (strcmp(command, "pause") == 0)
		return hold(b, true, e);
	if (strcmp(command, "resume") == 0)
		return hold(b, false, e);
	if (strcmp(command, "limits") == 0)
		return change_limits(b, args, e);
	return err_msg(e, -ENOSYS, "a container knows no '%.64s'", command);
}

/* insulad watches the outer process, with which all ends. */
static const struct control_ops control_ops = {.run = run_control, .of_maker = true};

/* --- agent --- */

/* Who connects says "CONNECT 1024", as to a machine's vsock. */
static void add_conn(struct box *b, int fd)
{
	struct conn *c = conn_new(fd, false, command_start, b);

	c->greeting = true;
	list_append(&b->conns, &c->node);
}

static void accept_caller(struct box *b)
{
	int fd = accept4(b->agent, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct list *at;
	size_t n = 0;

	list_for_each(at, &b->conns) n++;
	if (fd >= 0 && n >= MAX_CONNS)
		close(fd);
	else if (fd >= 0)
		add_conn(b, fd);
}

/* The request to go down is for the container; the connection stays for the answer. */
static void take_power(struct box *b, struct conn *c)
{
	bool reboot = c->power == POWER_REBOOT;

	c->power_wanted = false;
	if (reboot)
		b->wish = WISH_RESTART;
	(void)!box_signal(b, b->stop_signal, NULL);
	conn_send_json(c, AGENT_GOODBYE,
		       json_pack("{s:s}", "mode", reboot ? "reboot" : "poweroff"));
}

static void step_conns(struct box *b)
{
	uint64_t now = clock_now();
	struct list *at, *tmp;

	list_for_each_safe(at, tmp, &b->conns)
	{
		struct conn *c = container_of(at, struct conn, node);

		conn_step(c, now);
		if (c->power_wanted) {
			take_power(b, c);
			conn_step(c, now);
		}
		if (c->closing)
			conn_free(c);
	}
}

/* --- children and signals --- */

static void reap(struct box *b)
{
	struct list *at;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == b->pid) {
			b->ended = true;
			b->status = status;
		}
		list_for_each(at, &b->conns)
		    conn_child_ended(container_of(at, struct conn, node), pid, status);
	}
}

/* Signals that ask us to go, from the outer process, ask the container. */
static void take_signals(struct box *b)
{
	struct signalfd_siginfo si;

	while (read(b->signals, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGTERM || si.ssi_signo == SIGINT || si.ssi_signo == SIGHUP)
			(void)!box_signal(b, b->stop_signal, NULL);
	}
	reap(b);
}

/* --- the loop --- */

int serve_open(struct box *b, int control, struct err *e)
{
	int r = loop_new(&b->loop, e);

	return r < 0 ? r
		     : control_new(b->loop, b->d.control, control, &control_ops, b, &b->control, e);
}

void serve_close(struct box *b)
{
	struct list *at, *tmp;

	list_for_each_safe(at, tmp, &b->conns) conn_free(container_of(at, struct conn, node));
	control_free(b->control);
	loop_free(b->loop);
	close_p(&b->signals);
}

static size_t prepare(struct box *b, struct pollfd *polls, int *timeout)
{
	struct list *at;
	size_t n = FIXED;

	polls[0] = (struct pollfd){.fd = b->signals, .events = POLLIN};
	polls[1] = (struct pollfd){.fd = loop_poll_fd(b->loop), .events = POLLIN};
	polls[2] = (struct pollfd){.fd = b->agent, .events = POLLIN};
	n += console_prepare(&b->console, polls + n);
	*timeout = -1;
	list_for_each(at, &b->conns)
	{
		struct conn *c = container_of(at, struct conn, node);

		n += conn_prepare(c, polls + n);
		if (c->proc && c->proc->tty && c->proc->eof_wanted)
			*timeout = EOF_TICK;
	}
	return n;
}

void serve(struct box *b)
{
	static struct pollfd polls[FIXED + CONSOLE_POLLS + MAX_CONNS * CONN_POLLS];

	while (!b->ended) {
		int timeout;
		size_t n = prepare(b, polls, &timeout);

		if (poll(polls, n, timeout) < 0 && errno != EINTR)
			log_warn("poll: %s", strerror(errno));
		take_signals(b);
		if (polls[1].revents)
			loop_once(b->loop, 0);
		if (polls[2].revents & POLLIN)
			accept_caller(b);
		console_step(&b->console);
		step_conns(b);
	}
}
