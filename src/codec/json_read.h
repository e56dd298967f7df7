/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/json_read.h - values out of a JSON document, with errors that name the field
 *
 * For documents whose unknown keys are to be ignored.  A reader stands for one place in the
 * document and knows the way there ("linux.devices[2].type").  The first mistake is kept in the
 * document and every later read finds nothing, so that a caller may read a whole object and look
 * for an error once.  Strings belong to the document and live as long as it.
 *
 *	struct json_doc doc = {.err = e};
 *	struct json_reader root, user;
 *
 *	r = json_doc_parse(&doc, text, len, &root);
 *	if (json_read_object(&root, "user", &user))
 *		json_read_int(&user, "uid", 0, UINT32_MAX, &uid);
 *	r = doc.error;
 */
#pragma once

#include "base/err.h"

#include <jansson.h>

struct json_doc {
	json_t *root;
	struct err *err; /* may be NULL */
	int error;       /* the first one, negative errno */
};

struct json_reader {
	struct json_doc *doc;
	const struct json_reader *up; /* NULL = root */
	const char *key;              /* under up; NULL = an array's entry */
	size_t index;
	json_t *value;
};

/* Parses; the root must be an object.  Integers past 63 bits are read with a double's precision.
 * Release with json_doc_fini in every case. */
must_check int json_doc_parse(struct json_doc *doc, const char *text, size_t len,
			      struct json_reader *root);
void json_doc_fini(struct json_doc *doc);

/* Records a mistake at @key of @r (NULL = @r itself), unless there was one before. */
void json_fail(const struct json_reader *r, const char *key, const char *fmt, ...)
    printf_like(3, 4);

/* All readers: false, 0 or NULL when @key is absent or null (not a mistake), or after a mistake;
 * @ret is then untouched.  @key NULL = @r's value itself, an array's entry. */
bool json_read_object(const struct json_reader *r, const char *key, struct json_reader *ret);
/* How many entries, at most @max. */
size_t json_read_array(const struct json_reader *r, const char *key, size_t max,
		       struct json_reader *ret);
void json_read_entry(const struct json_reader *array, size_t i, struct json_reader *ret);
/* The value itself as a string (an array's entry), "" after a mistake. */
const char *json_read_text(const struct json_reader *r);
/* Without NUL characters. */
const char *json_read_string(const struct json_reader *r, const char *key);
/* A string that must be there, "" after a mistake. */
const char *json_need_string(const struct json_reader *r, const char *key);
bool json_read_bool(const struct json_reader *r, const char *key, bool preset);
bool json_read_int(const struct json_reader *r, const char *key, int64_t min, int64_t max,
		   int64_t *ret);
bool json_read_u64(const struct json_reader *r, const char *key, uint64_t *ret);
/* Index in @names (ends with NULL), or -1. */
int json_read_word(const struct json_reader *r, const char *key, const char *const *names);
