/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/session_report.c - what the machine says beside the command, and what its end means
 */
#include "base/exit.h"
#include "cli/session.h"
#include "cli/ui.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#define CONSOLE_QUOTE 160
#define LINE_LIMIT    65536u /* of what insula-vmm says; a longer one is not a line */

void session_take_console(struct session *s)
{
	char chunk[8192];
	ssize_t n = read(s->vm->console, chunk, sizeof(chunk));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		close(s->vm->console);
		s->vm->console = -1;
		if (s->vm->remote) {
			s->status = EXIT_OK;
			s->status_known = true;
			s->state = SESSION_OVER;
		}
		return;
	}
	if (!s->cfg->agent)
		strbuf_add(&s->stdout_text, chunk, (size_t)n);
	else if (s->cfg->run->verbose)
		ui_console(chunk, (size_t)n);
	strbuf_add(&s->console, chunk, (size_t)n);
	if (s->console.len > CONSOLE_KEEP)
		strbuf_consume(&s->console, s->console.len - CONSOLE_KEEP);
}

/* insula-vmm's complaints are ours to tell: once, under our name. */
static void take_error_line(struct session *s, const char *line)
{
	static const char prefix[] = "insula-vmm: ", error[] = "error: ";

	if (strncmp(line, prefix, strlen(prefix)) == 0)
		line += strlen(prefix);
	if (strncmp(line, error, strlen(error)) == 0)
		snprintf(s->error_line, sizeof(s->error_line), "%s", line + strlen(error));
	else
		ui_note("%s", line);
}

void session_take_errors(struct session *s)
{
	char chunk[4096], *end;
	ssize_t n = read(s->vm->errors, chunk, sizeof(chunk));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		close(s->vm->errors);
		s->vm->errors = -1;
		return;
	}
	strbuf_add(&s->errors, chunk, (size_t)n);
	while (s->errors.len && (end = memchr(s->errors.data, '\n', s->errors.len))) {
		*end = '\0';
		take_error_line(s, s->errors.data);
		strbuf_consume(&s->errors, (size_t)(end - s->errors.data) + 1);
	}
	if (s->errors.len > LINE_LIMIT)
		strbuf_consume(&s->errors, s->errors.len);
}

void session_take_control(struct session *s)
{
	char chunk[4096], *end;
	ssize_t n = read(s->vm->control, chunk, sizeof(chunk));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		close(s->vm->control);
		s->vm->control = -1;
		return;
	}
	strbuf_add(&s->control, chunk, (size_t)n);
	while (s->control.len && (end = memchr(s->control.data, '\n', s->control.len))) {
		size_t len = (size_t)(end - s->control.data);
		json_t *o = json_loadb(s->control.data, len, 0, NULL);
		const char *event = json_string_value(json_object_get(o, "event"));
		const char *reason = json_string_value(json_object_get(o, "reason"));

		if (event && strcmp(event, "shutdown") == 0)
			snprintf(s->reason_text, sizeof(s->reason_text), "%s",
				 reason ? reason : "");
		json_decref(o);
		strbuf_consume(&s->control, len + 1);
	}
	if (s->control.len > LINE_LIMIT)
		strbuf_consume(&s->control, s->control.len);
}

/* How much a line of the console tells: the agent on why it gave up, then the kernel on its panic.
 */
static unsigned int line_weight(const char *line)
{
	if (strstr(line, "insula-agent: "))
		return 3;
	/* "---[ end Kernel panic" only repeats it. */
	if (strstr(line, "Kernel panic"))
		return strstr(line, "end Kernel panic") ? 0 : 2;
	return line[strspn(line, " ")] ? 1 : 0;
}

/* The line that tells most; of equal ones the last. */
static void quote_console(const struct session *s, char *ret, size_t size)
{
	autofree char *copy = xcalloc(1, s->console.len + 1);
	char *save = NULL, *best = NULL, *text = NULL;
	unsigned int weight = 1;

	if (s->console.len)
		memcpy(copy, s->console.data, s->console.len);
	for (size_t i = 0; i < s->console.len; i++) {
		if (!copy[i] || (copy[i] < ' ' && copy[i] != '\n'))
			copy[i] = copy[i] == '\r' ? '\n' : ' ';
	}
	for (char *l = strtok_r(copy, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		if (line_weight(l) < weight)
			continue;
		weight = line_weight(l);
		best = l;
	}
	if (best)
		text = weight == 3 ? strstr(best, "insula-agent: ") : strstr(best, "Kernel panic");
	if (!text)
		text = best;
	snprintf(ret, size, "%s%.*s%s", text ? "; its console says: '" : "", CONSOLE_QUOTE,
		 text ? text : "", text ? "'" : "");
}

static int crashed(const struct session *s, const char *what)
{
	char quote[CONSOLE_QUOTE + 64];

	quote_console(s, quote, sizeof(quote));
	return ui_error(EXIT_CRASHED, "%s%s", what, quote);
}

int session_conclude(struct session *s)
{
	int st = s->vm->status;

	if (s->status_known)
		return s->status;
	if (WIFSIGNALED(st))
		return ui_error(EXIT_FAIL, "insula-vmm was ended by signal %d (%s)", WTERMSIG(st),
				strsignal(WTERMSIG(st)));
	if (s->error_line[0] || WEXITSTATUS(st) != 0) {
		int status = WEXITSTATUS(st) ? WEXITSTATUS(st) : EXIT_FAIL;

		if (status == EXIT_CRASHED && !s->error_line[0])
			return crashed(s, "the guest crashed");
		return ui_error(status, "%s",
				s->error_line[0] ? s->error_line : "insula-vmm ended early");
	}
	if (!s->cfg->agent)
		return EXIT_OK; /* the person has seen the console */
	if (s->state == SESSION_CONNECTING || s->state == SESSION_STARTING)
		return crashed(s, "the guest went down before it could run the command");
	if (s->goodbye || strcmp(s->reason_text, "poweroff") == 0)
		return EXIT_OK;
	return crashed(s, "the guest crashed or was reset");
}
