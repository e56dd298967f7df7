/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/operations.h - the one table of what insulad can do
 *
 * A row has what a face needs to offer it: method and path for REST, arguments with types for all.
 * Arguments are checked against the row before the operation runs, and the OpenAPI document
 * (api/openapi.h) is written from it.
 */
#pragma once

#include "daemon/daemon.h"

#include "base/strbuf.h"

enum role { ROLE_VIEWER, ROLE_OPERATOR, ROLE_ADMIN };
extern const char *const role_names[]; /* ends with NULL */

enum op_place { OP_PATH, OP_QUERY, OP_BODY };

struct op_field {
	const char *name;
	enum op_place place;
	const char *type; /* JSON schema's; "config" = a machine's configuration */
	bool required;
	const char *help;
};

enum op_kind {
	OP_PLAIN,  /* answers when it is done */
	OP_JOB,    /* answers with a job at once */
	OP_STREAM, /* gives a descriptor to speak through, after `Upgrade: insula-stream` */
	OP_EVENTS, /* events as they come, text/event-stream: the face's own */
};

#define OP_MAX_FIELDS 12

struct op_call {
	struct daemon *d;
	const struct operation *op;
	json_t *args;    /* an object: path, query and body */
	struct job *job; /* of OP_JOB */
	/* What comes of it. */
	json_t *result;     /* NULL = {} */
	struct strbuf text; /* instead of JSON, if @is_text */
	bool is_text;
	int stream; /* of OP_STREAM, the caller's; -1 = none */
};

struct operation {
	const char *name;          /* "machine.start" */
	const char *method, *path; /* "POST", "/v1/machines/{machine}/start" */
	const char *summary;
	enum role role; /* the least that may */
	enum op_kind kind;
	struct op_field fields[OP_MAX_FIELDS]; /* ends with a NULL name */
	int (*run)(struct op_call *c, struct err *e);
};

extern const struct operation operations[];
extern const size_t n_operations;

const struct operation *operation_find(const char *name);
/* -EINVAL that names the argument: unknown, missing, of the wrong type. */
must_check int operation_check_args(const struct operation *op, const json_t *args, struct err *e);
/* Checks and runs it in the calling thread, which may be for long.  @c->d, op and args are set. */
must_check int operation_run(struct op_call *c, struct err *e);
/* Starts it as a job; *@ret = the job as JSON. */
must_check int operation_start_job(struct daemon *d, const struct operation *op, json_t *args,
				   json_t **ret, struct err *e);

/* A thread that daemon_stop waits for; @opaque is the function's to free.  -EAGAIN when there are
 * too many, or the daemon is stopping. */
must_check int daemon_thread(struct daemon *d, void (*fn)(struct daemon *d, void *opaque),
			     void *opaque, struct err *e);
