/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/session.c - the loop that moves bytes between the person and the guest
 *
 * Standard output may block: at most PIPE_BUF bytes are written after poll says there is room,
 * which never blocks, and the guest is not read while much is waiting.
 */
#include "cli/session.h"

#include "base/clock.h"
#include "base/exit.h"
#include "base/fd.h"
#include "cli/ui.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>

#define BUFFER_LIMIT  (256u << 10)
#define BOOT_PATIENCE (300 * NSEC_PER_SEC)
#define END_PATIENCE  (15 * NSEC_PER_SEC)
#define KILL_PATIENCE (10 * NSEC_PER_SEC)

enum slot {
	SLOT_SIGNALS,
	SLOT_READY,
	SLOT_ERRORS,
	SLOT_CONSOLE,
	SLOT_CONTROL,
	SLOT_AGENT,
	SLOT_STDIN,
	SLOT_STDOUT,
	SLOT_STDERR,
	N_SLOTS,
};

static void watch_signals(struct session *s)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGWINCH);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void terminal_raw(struct session *s)
{
	struct termios t;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &s->saved) < 0 ||
	    (s->cfg->agent && !s->cfg->tty))
		return;
	t = s->saved;
	cfmakeraw(&t);
	s->raw = tcsetattr(STDIN_FILENO, TCSADRAIN, &t) == 0;
}

static void terminal_restore(struct session *s)
{
	if (s->raw)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &s->saved);
	s->raw = false;
}

/* The person wants out: the machine ends with us. */
static void leave(struct session *s, int status)
{
	s->status = status;
	s->status_known = true;
	s->state = SESSION_OVER;
}

static void on_window_change(struct session *s)
{
	struct winsize ws;
	uint8_t payload[4];

	if (!s->cfg->tty || s->state != SESSION_RUNNING || ioctl(STDIN_FILENO, TIOCGWINSZ, &ws) < 0)
		return;
	store_le16(payload, ws.ws_row);
	store_le16(payload + 2, ws.ws_col);
	agent_frame_put(&s->out, AGENT_WINSIZE, payload, sizeof(payload));
}

/* A command gets the signal and may take its time; a shell of ours would ignore it.  Who insists
 * gets the end at once. */
static void on_end_signal(struct session *s, int signal)
{
	bool command = s->cfg->agent && s->cfg->argv && s->cfg->argv[0];

	if (!command || s->state != SESSION_RUNNING || ++s->ctrl_c > 2) {
		s->ended_by_signal = true;
		if (!s->status_known)
			leave(s, EXIT_SIGNAL_BASE + signal);
		s->state = SESSION_OVER;
		return;
	}
	session_signal(s, signal);
	s->kill_at = clock_now() + KILL_PATIENCE;
	s->kill_signal = signal;
}

static void take_signals(struct session *s)
{
	struct signalfd_siginfo si;

	while (read(s->signals, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGWINCH)
			on_window_change(s);
		else if (si.ssi_signo != SIGCHLD)
			on_end_signal(s, (int)si.ssi_signo);
	}
}

static void take_ready(struct session *s)
{
	char line[16];
	ssize_t n = read(s->vm->ready, line, sizeof(line));

	if (n < 0 && errno == EINTR)
		return;
	close(s->vm->ready);
	s->vm->ready = -1;
	if (n <= 0)
		return; /* it failed: its end tells how */
	vm_connect(s->vm);
	s->give_up_at = clock_now() + BOOT_PATIENCE;
	s->state = s->cfg->agent ? SESSION_CONNECTING : SESSION_RUNNING;
}

static void take_stdin(struct session *s)
{
	static char chunk[32768];
	ssize_t n = read(STDIN_FILENO, chunk, sizeof(chunk));
	const char *escape;

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		s->stdin_open = false;
		if (s->cfg->agent)
			agent_frame_put(&s->out, AGENT_STDIN_EOF, NULL, 0);
		return;
	}
	escape = s->raw ? memchr(chunk, RUN_ESCAPE, (size_t)n) : NULL;
	if (escape)
		n = escape - chunk;
	if (s->cfg->agent && n)
		agent_frame_put(&s->out, AGENT_STDIN, chunk, (size_t)n);
	else if (n)
		strbuf_add(&s->to_console, chunk, (size_t)n);
	if (escape)
		leave(s, EXIT_OK);
}

/* At most what poll promised room for. */
static void put_some(int fd, struct strbuf *b)
{
	ssize_t n = write(fd, b->data, MIN(b->len, (size_t)PIPE_BUF));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	/* Nobody reads it any more: as a command's own output would, it vanishes. */
	strbuf_consume(b, n < 0 ? b->len : (size_t)n);
}

static void put_console(struct session *s)
{
	ssize_t n =
	    s->to_console.len ? write(s->vm->console, s->to_console.data, s->to_console.len) : 0;

	if (n > 0)
		strbuf_consume(&s->to_console, (size_t)n);
}

/* While the guest boots, keys are only looked at for the escape; what is typed ahead waits. */
static bool wants_stdin(const struct session *s)
{
	if (!s->stdin_open || s->out.len >= BUFFER_LIMIT || s->to_console.len >= BUFFER_LIMIT)
		return false;
	return s->state == SESSION_RUNNING;
}

static void set_poll(struct pollfd *p, int fd, short events)
{
	p->fd = events ? fd : -1;
	p->events = events;
	p->revents = 0;
}

static void prepare(struct session *s, struct pollfd p[N_SLOTS])
{
	bool full = s->stdout_text.len >= BUFFER_LIMIT || s->stderr_text.len >= BUFFER_LIMIT;

	set_poll(&p[SLOT_SIGNALS], s->signals, POLLIN);
	set_poll(&p[SLOT_READY], s->vm->ready, POLLIN);
	set_poll(&p[SLOT_ERRORS], s->vm->errors, POLLIN);
	set_poll(
	    &p[SLOT_CONSOLE], s->vm->console,
	    (short)((full && !s->cfg->agent ? 0 : POLLIN) | (s->to_console.len ? POLLOUT : 0)));
	set_poll(&p[SLOT_CONTROL], s->vm->control, POLLIN);
	set_poll(&p[SLOT_AGENT], s->agent,
		 (short)((full ? 0 : POLLIN) | (s->accepted && s->out.len ? POLLOUT : 0)));
	set_poll(&p[SLOT_STDIN], STDIN_FILENO, wants_stdin(s) ? POLLIN : 0);
	set_poll(&p[SLOT_STDOUT], STDOUT_FILENO, s->stdout_text.len ? POLLOUT : 0);
	set_poll(&p[SLOT_STDERR], STDERR_FILENO, s->stderr_text.len ? POLLOUT : 0);
}

static void dispatch(struct session *s, const struct pollfd p[N_SLOTS])
{
	if (p[SLOT_STDOUT].revents)
		put_some(STDOUT_FILENO, &s->stdout_text);
	if (p[SLOT_STDERR].revents)
		put_some(STDERR_FILENO, &s->stderr_text);
	if (p[SLOT_SIGNALS].revents)
		take_signals(s);
	/* What else came in this round must not bring the session back to life. */
	if (s->state == SESSION_OVER)
		return;
	if (p[SLOT_READY].revents)
		take_ready(s);
	if (p[SLOT_ERRORS].revents)
		session_take_errors(s);
	if (p[SLOT_CONSOLE].revents & POLLOUT)
		put_console(s);
	if (p[SLOT_CONSOLE].revents & (POLLIN | POLLHUP | POLLERR))
		session_take_console(s);
	if (p[SLOT_CONTROL].revents)
		session_take_control(s);
	if (p[SLOT_STDIN].revents)
		take_stdin(s);
	if (s->agent >= 0 && (p[SLOT_AGENT].revents & (POLLIN | POLLHUP | POLLERR)))
		session_agent_read(s);
	session_agent_write(s);
}

/* A guest that lost its agent and does not end is of no use any more. */
static void check_times(struct session *s)
{
	uint64_t now = clock_now();

	if (s->state == SESSION_CONNECTING) {
		session_agent_start(s);
		if (now > s->give_up_at)
			leave(s, ui_error(EXIT_FAIL, "the guest did not answer within %u s",
					  (unsigned int)(BOOT_PATIENCE / NSEC_PER_SEC)));
	}
	/* SIGKILL stands for a machine that does not end: below. */
	if (s->kill_at && now > s->kill_at && s->kill_signal != SIGKILL && !s->status_known) {
		s->ended_by_signal = true;
		leave(s, EXIT_SIGNAL_BASE + s->kill_signal);
	}
	if (s->state == SESSION_ENDING && !s->cfg->clean_end && !s->stdout_text.len &&
	    !s->stderr_text.len)
		s->state = SESSION_OVER;
	if (s->state == SESSION_ENDING ||
	    (s->state == SESSION_RUNNING && s->cfg->agent && s->agent < 0)) {
		if (!s->kill_at) {
			s->kill_at = now + END_PATIENCE;
			s->kill_signal = SIGKILL;
		}
		if (now > s->kill_at)
			s->state = SESSION_OVER;
	}
}

static int poll_timeout(const struct session *s)
{
	if (s->state == SESSION_CONNECTING)
		return 20;
	return s->state == SESSION_RUNNING && !s->kill_at && (s->agent >= 0 || !s->cfg->agent)
		   ? -1
		   : 100;
}

/* Reads on what is there already. */
static void drain_one(struct session *s, const int *fd, void (*take)(struct session *s))
{
	while (*fd >= 0) {
		struct pollfd p = {.fd = *fd, .events = POLLIN};

		if (poll(&p, 1, 0) != 1)
			return;
		take(s);
	}
}

/* Waits for the reader, but not when a signal asks us to end. */
static void flush_output(struct session *s, int fd, struct strbuf *b)
{
	while (b->len && !s->ended_by_signal) {
		struct pollfd p[2] = {{.fd = fd, .events = POLLOUT},
				      {.fd = s->signals, .events = POLLIN}};

		if (poll(p, 2, -1) < 0)
			continue;
		if (p[1].revents)
			take_signals(s);
		if (p[0].revents)
			put_some(fd, b);
	}
}

/* What is still in the pipes of a machine that is gone; one that lives could fill them for ever. */
static void drain(struct session *s)
{
	if (s->vm->finished) {
		drain_one(s, &s->agent, session_agent_read);
		drain_one(s, &s->vm->console, session_take_console);
		drain_one(s, &s->vm->control, session_take_control);
		drain_one(s, &s->vm->errors, session_take_errors);
	}
	flush_output(s, STDOUT_FILENO, &s->stdout_text);
	flush_output(s, STDERR_FILENO, &s->stderr_text);
}

static void session_free(struct session *s)
{
	struct strbuf *const all[] = {&s->in,      &s->out,        &s->stdout_text, &s->stderr_text,
				      &s->console, &s->to_console, &s->errors,      &s->control};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		strbuf_fini(all[i]);
	close_p(&s->agent);
	close_p(&s->signals);
}

int session_run(const struct session_config *cfg, struct vm *vm)
{
	struct session s = {.cfg = cfg, .vm = vm, .agent = -1, .stdin_open = true};
	int status;

	if (vm->remote) {
		s.state = cfg->agent ? SESSION_CONNECTING : SESSION_RUNNING;
		s.give_up_at = clock_now() + BOOT_PATIENCE;
	}
	watch_signals(&s);
	terminal_raw(&s);
	if (ui_interrupted())
		leave(&s, EXIT_SIGNAL_BASE + ui_interrupted());
	while (s.state != SESSION_OVER && !vm_poll(vm)) {
		struct pollfd p[N_SLOTS];

		prepare(&s, p);
		if (poll(p, N_SLOTS, poll_timeout(&s)) > 0)
			dispatch(&s, p);
		check_times(&s);
	}
	if (vm->finished || s.state != SESSION_OVER || s.status_known)
		drain(&s);
	terminal_restore(&s);
	if (!vm->finished && !s.status_known)
		s.status = ui_error(EXIT_CRASHED, "the guest stopped answering"),
		s.status_known = true;
	vm_stop(vm);
	status = session_conclude(&s);
	session_free(&s);
	return status;
}
