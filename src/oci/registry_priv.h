/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/registry_priv.h - one request to a registry
 */
#pragma once

#include "oci/registry.h"

#include <curl/curl.h>
#include <stdio.h>

struct registry {
	char *base; /* "https://HOST/v2/NAME" */
	char *host, *name;
	char *credentials; /* "user:password" or NULL */
	char *token;       /* NULL = none yet */
	bool basic;        /* the registry takes the credentials themselves */
	bool write;
	char *ca; /* file with the registry's own certificate authority, or NULL */
	struct progress *progress;
};

struct request {
	const char *method, *url;
	const char *accept, *content_type; /* may be NULL */
	const struct strbuf *body;
	FILE *upload; /* or a file of @upload_size bytes */
	uint64_t upload_size;
	/* the answer */
	long status;
	struct strbuf text;
	char *location, *challenge;
};

/* A handle with what all requests to it share. */
CURL *registry_handle(struct registry *g, const char *url);
/* Adds the token or credentials. */
void registry_authorize(struct registry *g, CURL *h);
/* After a 401 with this challenge: gets a token.  -EACCES with words when that does not help. */
must_check int registry_login(struct registry *g, const char *challenge, struct err *e);
/* Performs it, logging in where the registry asks for it.  Any status is a success. */
must_check int registry_request(struct registry *g, struct request *q, struct err *e);
void request_fini(struct request *q);
/* Keeps "WWW-Authenticate" and "Location" in @q. */
size_t request_header(char *data, size_t size, size_t n, void *opaque);
/* Words for a status that is no success. */
int registry_failure(const struct registry *g, const char *what, long status,
		     const struct strbuf *text, struct err *e);
