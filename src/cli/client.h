/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/client.h - asking insulad: its REST API over the unix socket (docs/daemon.md)
 *
 * The socket is $INSULA_SOCKET, or the user's own; on the latter insulad is started when nobody
 * listens.  A failure has insulad's words and the exit status that fits.
 */
#pragma once

#include "base/err.h"
#include "base/strbuf.h"

#include <jansson.h>

/* One request and its answer; @body is taken over and may be NULL, as may @ret. */
must_check int client_call(const char *method, const char *path, json_t *body, json_t **ret,
			   struct err *e);
/* For a job: shows its progress, waits for its end and gives its result.  An interrupt cancels it.
 */
must_check int client_job(const char *method, const char *path, json_t *body, json_t **ret,
			  struct err *e);
/* An answer that is not JSON: appended to @ret; *@next gets where its log goes on. */
must_check int client_text(const char *path, struct strbuf *ret, int64_t *next, struct err *e);
/* A connection that is the stream's from here on. */
must_check int client_stream(const char *path, struct err *e);
/* Calls @fn for each event until it returns false or the connection ends. */
must_check int client_events(const char *path, bool (*fn)(void *opaque, json_t *event),
			     void *opaque, struct err *e);

/* "/v1/machines/NAME" and @rest, the name escaped. */
char *client_machine_path(const char *name, const char *rest);
