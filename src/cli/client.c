/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/client.c - asking insulad
 */
#include "cli/client.h"

#include "base/exit.h"
#include "cli/client_remote.h"
#include "cli/client_start.h"
#include "cli/ui.h"
#include "codec/http.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#define MAX_ANSWER    (64u << 20)
#define CALL_TRIES    5
#define CALL_PAUSE_MS 50

/* One exchange: what came in is behind @head. */
struct exchange {
	int fd;
	struct strbuf in;
	bool exact; /* takes nothing that lies behind the head */
	struct http_head head;
	enum http_framing framing;
	uint64_t length;
};

static void exchange_fini(struct exchange *x)
{
	close_p(&x->fd);
	strbuf_fini(&x->in);
	http_head_fini(&x->head);
}

static int send_all(int fd, const struct strbuf *b, struct err *e)
{
	for (size_t done = 0; done < b->len;) {
		ssize_t n = send(fd, b->data + done, b->len - done, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(e, -errno, "ask insulad");
		done += (size_t)n;
	}
	return 0;
}

/* 1, or 0 at the end of the stream.  An interrupt (ui_interrupted) ends the wait. */
static int receive(struct exchange *x, struct err *e)
{
	char chunk[65536];
	ssize_t n;

	do
		n = recv(x->fd, chunk, x->exact ? 1 : sizeof(chunk), 0);
	while (n < 0 && errno == EINTR && !ui_interrupted());
	if (n < 0)
		return err_set(e, -errno, "insulad's answer");
	if (x->in.len + (size_t)n > MAX_ANSWER)
		return err_msg(e, -EFBIG, "insulad's answer is too long");
	strbuf_add(&x->in, chunk, (size_t)n);
	return n > 0;
}

static int read_head(struct exchange *x, struct err *e)
{
	size_t used = 0;
	int r;

	while ((r = http_head_parse(x->in.data ? x->in.data : "", x->in.len, HTTP_RESPONSE,
				    &x->head, &used)) == 0) {
		r = receive(x, e);
		if (r == 0)
			return err_msg(e, -EPIPE, "insulad ended");
		if (r < 0)
			return r;
	}
	if (r < 0 || http_framing_of(&x->head, HTTP_RESPONSE, &x->framing, &x->length) < 0)
		return err_msg(e, -EPROTO, "what answers on the socket is not insulad");
	strbuf_consume(&x->in, used);
	x->exact = false;
	return 0;
}

/* The whole body, into @ret. */
static int read_body(struct exchange *x, struct strbuf *ret, struct err *e)
{
	struct http_chunks chunks = {0};
	int r = 0;

	for (;;) {
		if (x->framing == HTTP_CHUNKED)
			r = http_chunks_take(&chunks, &x->in, ret, MAX_ANSWER);
		else if (x->framing == HTTP_LENGTH && x->in.len >= x->length)
			r = 1;
		else if (x->framing == HTTP_NO_BODY)
			return 0;
		if (r < 0)
			return err_msg(e, r, "insulad's answer makes no sense");
		if (r == 1)
			break;
		r = receive(x, e);
		if (r < 0)
			return r;
		if (r == 0 && x->framing != HTTP_UNTIL_CLOSE)
			return err_msg(e, -EPIPE, "insulad ended");
		if (r == 0)
			break;
		r = 0;
	}
	if (x->framing != HTTP_CHUNKED)
		strbuf_add(ret, x->in.data, x->framing == HTTP_LENGTH ? x->length : x->in.len);
	return 0;
}

static int begin(const char *method, const char *path, const char *headers, json_t *body,
		 bool exact, struct exchange *x, struct err *e)
{
	autofree char *text = body ? json_dumps(body, JSON_COMPACT) : NULL, *authorization = NULL;
	autostrbuf struct strbuf out = {0};
	int r;

	*x = (struct exchange){.fd = -1, .exact = exact};
	if (body && !text) {
		json_decref(body);
		return err_msg(e, -EINVAL, "an argument is not UTF-8");
	}
	json_decref(body);
	r = client_authorization(&authorization, e);
	if (r == 0)
		r = x->fd = client_connect(e);
	if (r < 0)
		return r;
	strbuf_printf(&out, "%s %s HTTP/1.1\r\nHost: insula\r\n%s%s", method, path, authorization,
		      headers);
	if (text)
		strbuf_printf(&out, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
			      strlen(text));
	strbuf_printf(&out, "\r\n%s", text ? text : "");
	r = send_all(x->fd, &out, e);
	if (r == 0)
		r = read_head(x, e);
	if (r < 0)
		exchange_fini(x);
	return r;
}

/* --- failures --- */

static const struct {
	int status, code, exit_code;
} failures[] = {
    {400, -EINVAL, EXIT_USAGE},
    {401, -EACCES, EXIT_FAIL},
    {403, -EPERM, EXIT_FAIL},
    {404, -ENOENT, EXIT_NO_MACHINE},
    {409, -EBUSY, EXIT_WRONG_STATE},
    {501, -ENOTSUP, EXIT_WRONG_STATE},
    {504, -ETIMEDOUT, EXIT_WRONG_STATE},
};

static int fail(int status, const json_t *error, struct err *e)
{
	const char *message = json_string_value(json_object_get(error, "message"));
	json_int_t exit_code = json_integer_value(json_object_get(error, "exit_status"));
	int code = -EIO, fallback = EXIT_FAIL;

	for (size_t i = 0; i < ARRAY_SIZE(failures); i++) {
		if (failures[i].status == status) {
			code = failures[i].code;
			fallback = failures[i].exit_code;
		}
	}
	err_exit(e, 0, exit_code > 0 && exit_code < 256 ? (int)exit_code : fallback);
	return message ? err_msg(e, code, "%s", message)
		       : err_msg(e, code, "insulad answers with status %d", status);
}

/* The JSON of the body; a failure becomes ours. */
static int take_json(struct exchange *x, json_t **ret, struct err *e)
{
	autostrbuf struct strbuf body = {0};
	json_t *o;
	int r = read_body(x, &body, e);

	if (r < 0)
		return r;
	o = json_loadb(body.data ? body.data : "", body.len, JSON_DECODE_ANY, NULL);
	if (x->head.status >= 300)
		r = fail(x->head.status, json_object_get(o, "error"), e);
	else if (!o)
		r = err_msg(e, -EPROTO, "insulad's answer makes no sense");
	if (r == 0 && ret)
		*ret = json_incref(o);
	json_decref(o);
	return r;
}

static int call_once(const char *method, const char *path, json_t *body, json_t **ret,
		     struct err *e)
{
	struct exchange x;
	int r = begin(method, path, "Connection: close\r\n", body, false, &x, e);

	if (r < 0)
		return r;
	r = take_json(&x, ret, e);
	exchange_fini(&x);
	return r;
}

/* An insulad that ends while it is asked: who only looks asks the next one.  Whether a change was
 * made is for the person to see. */
int client_call(const char *method, const char *path, json_t *body, json_t **ret, struct err *e)
{
	bool looks = strcmp(method, "GET") == 0;
	int r = -ECONNRESET;

	for (int i = 0; i < (looks ? CALL_TRIES : 1) && (r == -ECONNRESET || r == -EPIPE); i++) {
		if (i > 0)
			poll(NULL, 0, CALL_PAUSE_MS);
		r = call_once(method, path, body, ret, e);
	}
	if (r == -ECONNRESET || r == -EPIPE)
		r = err_msg(e, r,
			    "insulad ended before it answered: see with `insula list --all` what "
			    "was done, and try again");
	return r;
}

int client_text(const char *path, struct strbuf *ret, int64_t *next, struct err *e)
{
	const char *offset;
	struct exchange x;
	int r = begin("GET", path, "Connection: close\r\n", NULL, false, &x, e);

	if (r < 0)
		return r;
	offset = http_header(&x.head, "Insula-Next-Offset");
	if (offset && next)
		*next = strtoll(offset, NULL, 10);
	r = x.head.status < 300 ? read_body(&x, ret, e) : take_json(&x, NULL, e);
	exchange_fini(&x);
	return r;
}

/* --- jobs --- */

static void show_job(struct progress *p, const json_t *job)
{
	const char *step = json_string_value(json_object_get(job, "step"));
	struct progress_event ev = {
	    .subject = "insulad",
	    .text = step ? step : "",
	    .fraction = json_number_value(json_object_get(job, "percent")) / 100,
	};

	if (step && p->show)
		p->show(p->opaque, &ev);
}

/* It may just be through: then its end counts. */
static void cancel_job(const char *path)
{
	if (client_call("DELETE", path, NULL, NULL, NULL) < 0)
		ui_note("the job could not be cancelled");
}

static int follow_job(const char *path, json_t **ret, struct err *e)
{
	autofree char *wait = xasprintf("%s?wait=1000", path);
	bool cancelled = false;
	struct progress p;

	ui_progress_init(&p);
	for (;;) {
		json_t *job = NULL;
		const char *state;
		int r;

		if (ui_interrupted() && !cancelled) {
			cancel_job(path);
			cancelled = true;
		}
		r = client_call("GET", wait, NULL, &job, e);
		if (r == -EINTR && !cancelled)
			continue;
		if (r == -ENOENT)
			return err_msg(
			    e, r,
			    "insulad ended before it was done: nothing of it is left, try "
			    "again");
		if (r < 0)
			return r;
		state = json_string_value(json_object_get(job, "state"));
		if (state && strcmp(state, "running") == 0) {
			show_job(&p, job);
			json_decref(job);
			continue;
		}
		ui_clear_bar();
		if (state && strcmp(state, "done") == 0)
			*ret = json_incref(json_object_get(job, "result"));
		else
			r = fail(500, json_object_get(job, "error"), e);
		if (r < 0 && cancelled)
			err_exit(e, 0, EXIT_SIGNAL_BASE + ui_interrupted());
		json_decref(job);
		return r;
	}
}

int client_job(const char *method, const char *path, json_t *body, json_t **ret, struct err *e)
{
	autofree char *job_path = NULL;
	json_t *job = NULL;
	int r = client_call(method, path, body, &job, e);

	if (r < 0)
		return r;
	job_path =
	    xasprintf("/v1/jobs/%lld", (long long)json_integer_value(json_object_get(job, "id")));
	json_decref(job);
	return follow_job(job_path, ret, e);
}

/* --- streams --- */

int client_stream(const char *path, struct err *e)
{
	struct exchange x;
	int r = begin("GET", path, "Connection: upgrade\r\nUpgrade: insula-stream\r\n", NULL, true,
		      &x, e);
	int fd;

	if (r < 0)
		return r;
	if (x.head.status != 101) {
		r = take_json(&x, NULL, e);
		exchange_fini(&x);
		return r < 0 ? r : err_msg(e, -EPROTO, "insulad gives no stream");
	}
	fd = steal_fd(&x.fd);
	exchange_fini(&x);
	return fd;
}

static bool take_events(struct strbuf *text, bool (*fn)(void *opaque, json_t *event), void *opaque)
{
	char *end;

	while (text->len && (end = memmem(text->data, text->len, "\n\n", 2))) {
		char *data = memmem(text->data, (size_t)(end - text->data), "\ndata: ", 7);
		json_t *o;
		bool more = true;

		*end = '\0';
		o = data ? json_loads(data + 7, 0, NULL) : NULL;
		if (o)
			more = fn(opaque, o);
		json_decref(o);
		strbuf_consume(text, (size_t)(end - text->data) + 2);
		if (!more)
			return false;
	}
	return true;
}

int client_events(const char *path, bool (*fn)(void *opaque, json_t *event), void *opaque,
		  struct err *e)
{
	autostrbuf struct strbuf text = {0};
	struct http_chunks chunks = {0};
	struct exchange x;
	int r = begin("GET", path, "", NULL, false, &x, e);

	if (r < 0)
		return r;
	if (x.head.status >= 300) {
		r = take_json(&x, NULL, e);
		exchange_fini(&x);
		return r;
	}
	for (;;) {
		r = http_chunks_take(&chunks, &x.in, &text, MAX_ANSWER);
		if (r < 0 || !take_events(&text, fn, opaque) || r == 1)
			break;
		r = receive(&x, e);
		if (r <= 0)
			break;
	}
	exchange_fini(&x);
	return MIN(r, 0);
}

char *client_machine_path(const char *name, const char *rest)
{
	autostrbuf struct strbuf path = {0};

	strbuf_puts(&path, "/v1/machines/");
	http_escape(name, &path);
	strbuf_puts(&path, rest);
	return strbuf_steal(&path);
}
