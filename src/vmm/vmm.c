/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/vmm.c - one machine's process: console, control socket, sandbox, signals, exit status
 */
#include "vmm/vmm.h"

#include "base/clock.h"
#include "base/exit.h"
#include "base/fd.h"
#include "base/log.h"
#include "codec/base64.h"
#include "display/input.h"
#include "display/rfb_server.h"
#include "display/screen.h"
#include "tls/tls.h"
#include "vmm/chardev.h"
#include "vmm/listen_any.h"
#include "vmm/sandbox.h"
#include "vmm/text_view.h"
#include "vmm/vmm_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

#define POWERDOWN_PATIENCE (10 * NSEC_PER_SEC)

static void finish(struct vmm *v, int status, const char *reason)
{
	if (v->over)
		return;
	v->over = true;
	v->status = status;
	v->reason = reason;
	control_event(v->control, json_pack("{ss ss}", "event", "shutdown", "reason", reason));
	loop_stop(v->loop);
}

/* --- the machine's events --- */

static void on_machine(void *opaque, enum machine_event ev, unsigned int code, const char *text)
{
	struct vmm *v = opaque;

	switch (ev) {
	case MACHINE_POWEROFF:
		log_info("the guest powered off");
		finish(v, EXIT_OK, "poweroff");
		break;
	case MACHINE_REBOOT:
		log_info("the guest rebooted");
		finish(v, EXIT_OK, "reset");
		break;
	case MACHINE_RESTARTED:
		log_info("the guest rebooted");
		control_event(v->control, json_pack("{ss}", "event", "reset"));
		break;
	case MACHINE_CRASHED:
		log_error("the guest crashed: %s", text);
		snprintf(v->words, sizeof(v->words), "the guest crashed: %s", text);
		finish(v, EXIT_CRASHED, "crash");
		break;
	case MACHINE_FAILED:
		log_error("%s", text);
		snprintf(v->words, sizeof(v->words), "%s", text);
		finish(v, EXIT_FAIL, "error");
		break;
	case MACHINE_EXITED:
		finish(v, (int)(code & 0xff), "exit");
		break;
	case MACHINE_PAUSED:
		control_event(v->control, json_pack("{ss}", "event", "paused"));
		break;
	case MACHINE_RESUMED:
		control_event(v->control, json_pack("{ss}", "event", "resumed"));
		break;
	}
}

static int on_vcpu_enter(void *opaque, struct err *e)
{
	return sandbox_vcpu(e);
}

/* --- commands --- */

static int no_arguments(json_t *args, struct err *e)
{
	const char *key;
	json_t *a;

	json_object_foreach(args, key, a) return err_msg(e, -EINVAL, "%.64s: unknown argument",
							 key);
	return 0;
}

/* What the balloon is to leave, what it has left, and what the guest said last. */
static void put_memory(struct vmm *v, json_t *o)
{
	struct machine_memory m;

	if (!machine_memory(v->machine, &m))
		return;
	json_object_set_new(o, "memory_target", json_integer((json_int_t)m.target));
	json_object_set_new(o, "memory_actual", json_integer((json_int_t)m.actual));
	if (m.free != UINT64_MAX)
		json_object_set_new(o, "memory_free", json_integer((json_int_t)m.free));
	if (m.available != UINT64_MAX)
		json_object_set_new(o, "memory_available", json_integer((json_int_t)m.available));
}

static int run_status(struct vmm *v, json_t *args, json_t **ret, struct err *e)
{
	const char *why, *engine = machine_engine(v->machine, &why);

	*ret = json_pack("{ss ss ss ss si sI sI}", "name", v->desc->name, "state",
			 machine_state(v->machine), "engine", engine, "why", why, "cpus",
			 (int)v->desc->cpus, "memory", (json_int_t)v->desc->memory, "uptime_ms",
			 (json_int_t)((clock_now() - v->start) / NSEC_PER_MSEC));
	put_memory(v, *ret);
	return 0;
}

static int run_stop(struct vmm *v, json_t *args, json_t **ret, struct err *e)
{
	finish(v, EXIT_OK, "stop");
	return 0;
}

static int run_powerdown(struct vmm *v, json_t *args, json_t **ret, struct err *e)
{
	machine_powerdown(v->machine);
	return 0;
}

static int run_reset(struct vmm *v, json_t *args, json_t **ret, struct err *e)
{
	machine_reset(v->machine);
	return 0;
}

static int run_pause(struct vmm *v, json_t *args, json_t **ret, struct err *e)
{
	machine_pause(v->machine);
	return 0;
}

static int run_resume(struct vmm *v, json_t *args, json_t **ret, struct err *e)
{
	machine_resume(v->machine);
	return 0;
}

static int run_nmi(struct vmm *v, json_t *args, json_t **ret, struct err *e)
{
	machine_nmi(v->machine);
	return 0;
}

static int run_statistics(struct vmm *v, json_t *args, json_t **ret, struct err *e)
{
	autostrbuf struct strbuf text = {0};

	machine_stats(v->machine, &text);
	*ret = json_pack("{ss}", "text", text.data);
	return 0;
}

static int run_balloon(struct vmm *v, json_t *args, json_t **ret, struct err *e)
{
	json_t *memory = json_object_get(args, "memory");

	if (json_object_size(args) != 1 || !json_is_integer(memory) ||
	    json_integer_value(memory) < 0)
		return err_msg(e, -EINVAL, "memory: bytes the guest shall keep are needed");
	return machine_balloon(v->machine, (uint64_t)json_integer_value(memory), e);
}

/* --- the screen and the keyboard --- */

static int need_screen(const struct vmm *v, struct err *e)
{
	return v->screen ? 0 : err_msg(e, -ENODEV, "this machine has no screen");
}

static int run_screenshot(struct vmm *v, json_t *args, json_t **ret, struct err *e)
{
	autostrbuf struct strbuf png = {0}, text = {0};
	int r = need_screen(v, e);

	if (r < 0)
		return r;
	screen_refresh(v->screen);
	r = screen_png(v->screen, &png, e);
	if (r < 0)
		return r;
	base64_encode(png.data, png.len, &text);
	*ret = json_pack("{si si ss}", "width", (int)v->screen->width, "height",
			 (int)v->screen->height, "png", text.data);
	return 0;
}

static int run_screen_text(struct vmm *v, json_t *args, json_t **ret, struct err *e)
{
	autostrbuf struct strbuf text = {0};
	int r = need_screen(v, e);

	if (r == 0 && screen_text(v->screen, &text) < 0)
		r = err_msg(e, -EBUSY, "the screen shows graphics");
	if (r == 0)
		*ret = json_pack("{ss}", "text", text.data ? text.data : "");
	return r;
}

static const char *one_string(json_t *args, const char *key, struct err *e)
{
	const char *s = json_string_value(json_object_get(args, key));

	if (!s || json_object_size(args) != 1)
		err_msg(e, -EINVAL, "%s: a string is needed", key);
	return json_object_size(args) == 1 ? s : NULL;
}

static int run_type(struct vmm *v, json_t *args, json_t **ret, struct err *e)
{
	const char *text = one_string(args, "text", e);

	return text ? input_type(v->input, text, e) : -EINVAL;
}

static int run_keys(struct vmm *v, json_t *args, json_t **ret, struct err *e)
{
	const char *keys = one_string(args, "keys", e);

	return keys ? input_chord(v->input, keys, e) : -EINVAL;
}

static int run_eject(struct vmm *v, json_t *args, json_t **ret, struct err *e)
{
	return machine_change_disc(v->machine, -1, e);
}

static int run_insert(struct vmm *v, json_t *args, json_t **ret, struct err *e)
{
	int fd = control_take_fd(v->passed, 0, e);

	return fd < 0 ? err_wrap(e, fd, "the disc is to be passed")
		      : machine_change_disc(v->machine, fd, e);
}

static const struct command {
	const char *name;
	int (*run)(struct vmm *v, json_t *args, json_t **ret, struct err *e);
	bool has_args;
} commands[] = {
    {"balloon", run_balloon, true},
    {"describe", vmm_run_describe, false},
    {"eject", run_eject, false},
    {"fork", vmm_run_fork, true},
    {"give", vmm_run_give, true},
    {"insert", run_insert, false},
    {"keys", run_keys, true},
    {"nmi", run_nmi, false},
    {"pause", run_pause, false},
    {"plug", vmm_run_plug, true},
    {"powerdown", run_powerdown, false},
    {"query-stats", run_statistics, false},
    {"rate", vmm_run_rate, true},
    {"reset", run_reset, false},
    {"resume", run_resume, false},
    {"save", vmm_run_save, true},
    {"screen-text", run_screen_text, false},
    {"screenshot", run_screenshot, false},
    {"status", run_status, false},
    {"stop", run_stop, false},
    {"switch-disks", vmm_run_switch_disks, true},
    {"type", run_type, true},
    {"unplug", vmm_run_unplug, true},
};

static int run_command(void *opaque, const char *command, json_t *args, struct control_fds *fds,
		       json_t **ret, struct err *e)
{
	struct vmm *v = opaque;

	v->passed = fds;
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		int r;

		if (strcmp(commands[i].name, command) != 0)
			continue;
		r = commands[i].has_args ? 0 : no_arguments(args, e);
		return r < 0 ? r : commands[i].run(v, args, ret, e);
	}
	return err_msg(e, -ENOSYS, "unknown command '%.64s'", command);
}

static const struct control_ops control_ops = {.run = run_command};

/* --- being asked to end --- */

static void on_patience(void *opaque)
{
	struct vmm *v = opaque;

	log_warn("the guest did not power off in time");
	finish(v, EXIT_SIGNAL_BASE + SIGTERM, "stop");
}

/* The first signal presses the power button, the second one cuts the power. */
static void on_signal(void *opaque, uint32_t events)
{
	struct vmm *v = opaque;
	struct signalfd_siginfo si;

	if (read(v->signal_fd, &si, sizeof(si)) != sizeof(si))
		return;
	if (v->signals++) {
		finish(v, EXIT_SIGNAL_BASE + (int)si.ssi_signo, "stop");
		return;
	}
	machine_powerdown(v->machine);
	timer_set(&v->patience, timerq_now(v->patience.q) + POWERDOWN_PATIENCE);
}

static void on_escape(void *opaque)
{
	finish(opaque, EXIT_OK, "stop");
}

static void on_parent(void *opaque, uint32_t events)
{
	struct vmm *v = opaque;
	char c;

	if ((events & EPOLLIN) && read(v->options->parent_fd, &c, 1) == 1)
		return;
	loop_remove(v->loop, &v->parent_watch);
	finish(v, EXIT_FAIL, "stop");
}

static int watch_signals(struct vmm *v, struct err *e)
{
	sigset_t set;
	int r;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN); /* children of ours tell by pipes how it went */
	v->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (v->signal_fd < 0)
		return err_set(e, -errno, "signalfd");
	r = loop_add(v->loop, &v->signal_watch, v->signal_fd, EPOLLIN, on_signal, v);
	if (r == 0 && v->options->parent_fd >= 0)
		r = loop_add(v->loop, &v->parent_watch, v->options->parent_fd, EPOLLIN, on_parent,
			     v);
	return r < 0 ? err_set(e, r, "watch signals") : 0;
}

/* --- life --- */

static const struct fd_table *given_files(const struct vmm *v)
{
	return v->options->parent ? v->options->parent->given : NULL;
}

static int open_vnc(struct vmm *v, struct err *e)
{
	struct rfb_config cfg = {
	    .screen = v->screen,
	    .input = v->input,
	    .password = v->desc->display.password,
	    .name = v->desc->name,
	    .origin = v->desc->display.origin,
	};
	const char *tls = v->desc->display.tls;
	int r = tls ? tls_identity_open(tls, &v->vnc_identity, e) : 0;
	int fd = r == 0 ? listen_any(v->desc->display.vnc, e) : r;

	if (fd < 0)
		return err_wrap(e, fd, "VNC");
	return rfb_server_new(v->loop, fd, &cfg, v->vnc_identity, &v->vnc, e);
}

static int open_text_view(struct vmm *v, struct err *e)
{
	static const struct vm_chardev_desc stdio = {.type = VM_CHARDEV_STDIO};
	struct chardev_config cfg = {
	    .desc = &stdio, .loop = v->loop, .on_escape = on_escape, .opaque = v};
	int r = chardev_backend_open(&cfg, &v->terminal, e);

	if (r == 0)
		v->text_view =
		    text_view_new(v->loop, chardev_backend_front(v->terminal), v->screen, v->input);
	return r;
}

static int open_ends(struct vmm *v, struct err *e)
{
	struct chardev_config serial = {
	    .desc = &v->desc->serial, .loop = v->loop, .on_escape = on_escape, .opaque = v};
	struct chardev_config console = {
	    .desc = &v->desc->console, .loop = v->loop, .on_escape = on_escape, .opaque = v};
	struct chardev_config firmware_log = {.desc = &v->desc->firmware_log};
	int r;

	r = loop_new(&v->loop, e);
	if (r < 0)
		return r;
	timer_init(&v->patience, loop_timers(v->loop), on_patience, v);
	serial.loop = console.loop = firmware_log.loop = v->loop;
	serial.given = console.given = firmware_log.given = given_files(v);
	v->input = input_new(loop_timers(v->loop));
	if (v->desc->display.vga)
		v->screen = screen_new();
	r = watch_signals(v, e);
	if (r == 0)
		r = chardev_backend_open(&serial, &v->serial, e);
	if (r == 0)
		r = chardev_backend_open(&console, &v->console, e);
	if (r == 0)
		r = chardev_backend_open(&firmware_log, &v->firmware_log, e);
	if (r == 0 && v->desc->display.vnc)
		r = open_vnc(v, e);
	if (r == 0 && v->desc->display.text)
		r = open_text_view(v, e);
	if (r == 0 && v->desc->control)
		r = control_new(v->loop, v->desc->control,
				fd_table_find(given_files(v), v->desc->control), &control_ops, v,
				&v->control, e);
	return r;
}

static int make_machine(struct vmm *v, struct err *e)
{
	struct machine_config cfg = {
	    .desc = v->desc,
	    .loop = v->loop,
	    .serial = chardev_backend_front(v->serial),
	    .console = chardev_backend_front(v->console),
	    .firmware_log = chardev_backend_front(v->firmware_log),
	    .screen = v->screen,
	    .input = v->input,
	    .event = on_machine,
	    .vcpu_enter = v->desc->sandbox ? on_vcpu_enter : NULL,
	    .given = given_files(v),
	    .restore = v->options->parent    ? vmm_adopt
		       : v->options->restore ? vmm_restore
					     : NULL,
	    .opaque = v,
	};
	const char *why;
	int r = machine_new(&cfg, &v->machine, e);

	if (r < 0)
		return r;
	machine_engine(v->machine, &why);
	log_info("engine: %s", why);
	return 0;
}

static int prepare(struct vmm *v, struct err *e)
{
	bool jail = false, build = v->desc->sandbox && !v->options->parent;
	int r = 0;

	if (build)
		r = sandbox_enter(&jail, e);
	else if (v->desc->sandbox)
		r = sandbox_forked(e);
	if (r == 0)
		r = open_ends(v, e);
	if (r == 0)
		r = make_machine(v, e);
	if (r == 0 && build)
		r = sandbox_opened(v->desc, jail, e);
	if (r == 0 && build)
		r = sandbox_run(e);
	return r;
}

static int start(struct vmm *v, struct err *e)
{
	int r;

	if (v->options->ready_fd >= 0 && write_full(v->options->ready_fd, "ready\n", 6) < 0)
		log_warn("--ready-fd: nobody reads it");
	if (v->options->ready_fd >= 0)
		close(v->options->ready_fd);
	v->start = clock_now();
	r = machine_start(v->machine, e);
	if (r == 0 && (v->options->parent || v->options->restore))
		machine_new_generation(v->machine);
	return r;
}

static void release(struct vmm *v)
{
	autostrbuf struct strbuf stats = {0};

	if (v->machine && v->options->verbose)
		machine_stats(v->machine, &stats);
	vmm_save_wait(v);
	vmm_hotplug_free(v);
	vmm_fork_free(v);
	vmm_overlays_drop(v);
	machine_free(v->machine);
	snapshot_free(v->restored);
	chardev_backend_close(v->serial);
	chardev_backend_close(v->console);
	chardev_backend_close(v->firmware_log);
	text_view_free(v->text_view);
	if (v->vnc && strncmp(v->desc->display.vnc, "unix:", 5) == 0)
		unlink(v->desc->display.vnc + 5);
	rfb_server_free(v->vnc);
	tls_identity_free(v->vnc_identity);
	chardev_backend_close(v->terminal);
	control_free(v->control);
	screen_free(v->screen);
	input_free(v->input);
	if (v->loop) {
		timer_cancel(&v->patience);
		loop_free(v->loop);
	}
	close_p(&v->signal_fd);
	fd_table_fini(&v->given);
	for (unsigned int i = 0; i < VM_DESC_MAX_DEVS; i++)
		free(v->disk_path[i]);
	if (stats.len)
		fputs(stats.data, stderr);
}

/* For a starter that is not our parent any more when we end. */
static void tell_end(const struct vmm *v, int status, const char *reason, const char *words)
{
	if (v->options->exit_fd >= 0)
		dprintf(v->options->exit_fd, "%d %s %s\n", status, reason, words);
}

int vmm_run(struct vm_desc *desc, const struct vmm_options *options)
{
	struct vmm v = {.desc = desc, .options = options, .signal_fd = -1};
	struct err e = {0};
	int r;

	list_init(&v.unplugs);
	r = prepare(&v, &e);
	if (r == 0)
		r = start(&v, &e);
	if (r < 0) {
		release(&v);
		log_error("%s", e.msg);
		r = e.exit_code ? e.exit_code : EXIT_FAIL;
		tell_end(&v, r, "error", e.msg);
		return r;
	}
	if (!v.over)
		loop_run(v.loop);
	release(&v);
	tell_end(&v, v.status, v.reason, v.words);
	return v.status;
}
