/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api/request.c - from a request to an operation, and from what comes of it to an answer
 */
#include "api/api_priv.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <strings.h>

#define STREAM_PROTOCOL "insula-stream"

/* One operation of one connection, in a thread of its own. */
struct call {
	struct conn *conn;
	struct op_call op;
	int r;
	struct err e;
	struct loop_work done;
};

int request_status(int code)
{
	switch (-code) {
	case EINVAL:
	case EPROTO:
		return 400;
	case EPERM:
	case EACCES:
		return 403;
	case ENOENT:
		return 404;
	case EEXIST:
	case EBUSY:
	case ENOTCONN:
		return 409;
	case ENOTSUP:
		return 501;
	case EAGAIN:
		return 503;
	case ETIMEDOUT:
		return 504;
	case ENOSPC:
		return 507;
	default:
		return 500;
	}
}

/* --- finding the operation --- */

/* The length of the first segment of @path. */
static size_t segment(const char *path)
{
	return strcspn(path, "/");
}

static bool add_text(json_t *args, const struct op_field *f, const char *text)
{
	json_t *v = NULL;

	if (f->type[0] == 'i') {
		char *end;
		long long n;

		errno = 0;
		n = strtoll(text, &end, 10);
		if (!errno && !*end && (isdigit((unsigned char)text[0]) || text[0] == '-'))
			v = json_integer(n);
	} else if (f->type[0] == 'b') {
		if (!text[0] || strcmp(text, "true") == 0 || strcmp(text, "1") == 0)
			v = json_true();
		else if (strcmp(text, "false") == 0 || strcmp(text, "0") == 0)
			v = json_false();
	} else {
		v = json_string(text);
	}
	return v && json_object_set_new(args, f->name, v) == 0;
}

static const struct op_field *find_field(const struct operation *op, const char *name, size_t len)
{
	for (const struct op_field *f = op->fields; f->name; f++) {
		if (strlen(f->name) == len && strncmp(f->name, name, len) == 0)
			return f;
	}
	return NULL;
}

/* Does @path fit @op's?  What stands for {name} goes to @args. */
static bool match_path(const struct operation *op, const char *path, json_t *args)
{
	const char *want = op->path;

	for (;;) {
		size_t w = segment(want), p = segment(path);

		if (want[0] == '{') {
			const struct op_field *f = find_field(op, want + 1, w - 2);
			autofree char *value = strndup(path, p);

			if (!p || !value || !http_unescape(value, false) || !value[0] ||
			    !add_text(args, f, value))
				return false;
		} else if (w != p || strncmp(want, path, w) != 0) {
			return false;
		}
		want += w;
		path += p;
		if (!*want || !*path)
			return !*want && !*path;
		want++;
		path++;
	}
}

/* NULL with *@status = 404 or 405, and the methods that there are in @allow. */
static const struct operation *route(const char *method, const char *path, json_t *args,
				     int *status, struct strbuf *allow)
{
	for (size_t i = 0; i < n_operations; i++) {
		json_object_clear(args);
		if (!match_path(&operations[i], path, args))
			continue;
		if (strcmp(operations[i].method, method) == 0)
			return &operations[i];
		strbuf_printf(allow, "%s%s", allow->len ? ", " : "", operations[i].method);
	}
	*status = allow->len ? 405 : 404;
	return NULL;
}

/* --- arguments --- */

static int add_query(const struct operation *op, char *query, json_t *args, struct err *e)
{
	char *save = NULL;

	for (char *p = strtok_r(query, "&", &save); p; p = strtok_r(NULL, "&", &save)) {
		char *value = strchr(p, '=');
		const struct op_field *f;

		if (value)
			*value++ = '\0';
		f = find_field(op, p, strlen(p));
		if (!f || f->place != OP_QUERY)
			return err_msg(e, -EINVAL, "%.64s: unknown argument", p);
		if (value && !http_unescape(value, true))
			return err_msg(e, -EINVAL, "%s: is badly escaped", f->name);
		if (!add_text(args, f, value ? value : ""))
			return err_msg(e, -EINVAL, "%s: must be of type %s", f->name, f->type);
	}
	return 0;
}

static int add_body(const struct operation *op, const struct strbuf *body, json_t *args,
		    struct err *e)
{
	json_error_t je;
	json_t *o, *v;
	const char *key;
	int r = 0;

	if (!body->len)
		return 0;
	o = json_loadb(body->data, body->len, JSON_REJECT_DUPLICATES, &je);
	if (!json_is_object(o)) {
		json_decref(o);
		return err_msg(e, -EINVAL, "the body is not a JSON object: line %d: %s", je.line,
			       je.text);
	}
	json_object_foreach(o, key, v)
	{
		const struct op_field *f = find_field(op, key, strlen(key));

		if (!f || f->place != OP_BODY) {
			r = err_msg(e, -EINVAL, "%.64s: unknown argument", key);
			break;
		}
		json_object_set(args, key, v);
	}
	json_decref(o);
	return r;
}

/* --- answers --- */

static void answer_json(struct conn *c, int status, const json_t *o)
{
	autofree char *text = json_dumps(o, JSON_COMPACT | JSON_ENCODE_ANY);

	if (text)
		conn_answer(c, status, "application/json", NULL, text, strlen(text));
	else
		conn_answer(c, 500, "text/plain", NULL, "out of memory", 13);
}

static void answer_text(struct conn *c, const struct op_call *op)
{
	json_t *next = json_object_get(op->result, "next");
	autofree char *headers =
	    next ? xasprintf("Insula-Next-Offset: %lld\r\n", (long long)json_integer_value(next))
		 : NULL;

	conn_answer(c, 200, "application/octet-stream", headers, op->text.data, op->text.len);
}

static void answer(struct conn *c, struct call *call)
{
	if (call->r < 0) {
		conn_error(c, request_status(call->r), NULL, &call->e);
	} else if (call->op.stream >= 0) {
		stream_splice(c, call->op.stream);
		call->op.stream = -1;
	} else if (call->op.is_text) {
		answer_text(c, &call->op);
	} else {
		json_t *o = call->op.result ? json_incref(call->op.result) : json_object();

		answer_json(c, 200, o);
		json_decref(o);
	}
}

static void call_free(struct call *call)
{
	json_decref(call->op.args);
	json_decref(call->op.result);
	strbuf_fini(&call->op.text);
	close_p(&call->op.stream);
	free(call);
}

static void on_done(void *opaque)
{
	struct call *call = opaque;
	struct conn *c = call->conn;

	c->call = NULL;
	if (c->dead) {
		conn_free(c);
	} else {
		answer(c, call);
		conn_resume(c);
	}
	call_free(call);
}

static void call_main(struct daemon *d, void *opaque)
{
	struct call *call = opaque;

	call->r = operation_run(&call->op, &call->e);
	loop_post(daemon_loop(d), &call->done);
}

/* --- running --- */

static void start_call(struct conn *c, const struct operation *op, json_t *args)
{
	struct call *call = xnew(struct call);
	struct err e = {0};

	call->conn = c;
	call->op =
	    (struct op_call){.d = c->api->d, .op = op, .args = json_incref(args), .stream = -1};
	loop_work_init(&call->done, on_done, call);
	c->call = call;
	/* From here on the call's members are the thread's, until on_done. */
	if (daemon_thread(c->api->d, call_main, call, &e) < 0) {
		c->call = NULL;
		conn_error(c, 503, "Retry-After: 1\r\n", &e);
		call_free(call);
	}
}

static void start_job(struct conn *c, const struct operation *op, json_t *args)
{
	struct err e = {0};
	json_t *job = NULL;
	int r = operation_start_job(c->api->d, op, args, &job, &e);

	if (r < 0) {
		conn_error(c, request_status(r), NULL, &e);
		return;
	}
	answer_json(c, 202, job);
	json_decref(job);
}

static bool wants_stream(const struct conn *c)
{
	return http_header_has(&c->head, "Connection", "upgrade") &&
	       http_header_has(&c->head, "Upgrade", STREAM_PROTOCOL);
}

static uint64_t events_after(const struct conn *c, const json_t *args)
{
	const char *last = http_header(&c->head, "Last-Event-ID");
	const json_t *after = json_object_get(args, "after");

	if (last && isdigit((unsigned char)last[0]))
		return strtoull(last, NULL, 10);
	if (after)
		return (uint64_t)json_integer_value(after);
	return daemon_last_event(c->api->d);
}

static void dispatch(struct conn *c, const struct operation *op, json_t *args)
{
	struct err e = {0};

	if (c->role < op->role) {
		err_msg(&e, -EPERM, "%s is for the role %s, and you are a %s", op->name,
			role_names[op->role], role_names[c->role]);
		conn_error(c, 403, NULL, &e);
		return;
	}
	switch (op->kind) {
	case OP_JOB:
		start_job(c, op, args);
		return;
	case OP_EVENTS:
		stream_events(c, events_after(c, args));
		return;
	case OP_STREAM:
		if (!wants_stream(c)) {
			err_msg(&e, -EPROTO,
				"ask with the headers Connection: upgrade and "
				"Upgrade: " STREAM_PROTOCOL);
			conn_error(c, 426, "Upgrade: " STREAM_PROTOCOL "\r\n", &e);
			return;
		}
		break;
	case OP_PLAIN:
		break;
	}
	start_call(c, op, args);
}

static void answer_openapi(struct conn *c)
{
	json_t *o = api_openapi();

	answer_json(c, 200, o);
	json_decref(o);
}

void request_run(struct conn *c)
{
	autofree char *path = xstrdup(c->head.target);
	autostrbuf struct strbuf allow = {0};
	char *query = strchr(path, '?');
	const struct operation *op;
	json_t *args = json_object();
	struct err e = {0};
	int status = 0, r;

	if (query)
		*query++ = '\0';
	op = route(c->head.method, path, args, &status, &allow);
	if (op) {
		r = query ? add_query(op, query, args, &e) : 0;
		if (r == 0)
			r = add_body(op, &c->body, args, &e);
		if (r < 0)
			conn_error(c, 400, NULL, &e);
		else
			dispatch(c, op, args);
	} else if (strcmp(path, "/v1/openapi.json") == 0 && strcmp(c->head.method, "GET") == 0) {
		answer_openapi(c);
	} else if (status == 405) {
		autofree char *header = xasprintf("Allow: %s\r\n", allow.data);

		err_msg(&e, -EINVAL, "%.200s takes %s", path, allow.data);
		conn_error(c, 405, header, &e);
	} else {
		err_msg(&e, -ENOENT, "there is no %.200s; /v1/openapi.json lists what there is",
			path);
		conn_error(c, 404, NULL, &e);
	}
	json_decref(args);
}
