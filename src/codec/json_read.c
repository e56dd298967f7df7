/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/json_read.c - values out of a JSON document, with errors that name the field
 */
#include "codec/json_read.h"

#include "base/strbuf.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

int json_doc_parse(struct json_doc *doc, const char *text, size_t len, struct json_reader *root)
{
	const size_t flags = JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL;
	json_error_t je;

	doc->root = json_loadb(text, len, flags, &je);
	if (!doc->root && json_error_code(&je) == json_error_numeric_overflow)
		doc->root = json_loadb(text, len, flags | JSON_DECODE_INT_AS_REAL, &je);
	if (!doc->root)
		doc->error = err_msg(doc->err, -EINVAL, "not JSON: line %d: %s", je.line, je.text);
	else if (!json_is_object(doc->root))
		doc->error = err_msg(doc->err, -EINVAL, "not a JSON object");
	*root = (struct json_reader){.doc = doc, .value = doc->root};
	return doc->error;
}

void json_doc_fini(struct json_doc *doc)
{
	json_decref(doc->root);
	doc->root = NULL;
}

static void add_way(const struct json_reader *r, struct strbuf *out)
{
	if (!r->up)
		return;
	add_way(r->up, out);
	if (r->key)
		strbuf_printf(out, "%s%s", out->len ? "." : "", r->key);
	else
		strbuf_printf(out, "[%zu]", r->index);
}

void json_fail(const struct json_reader *r, const char *key, const char *fmt, ...)
{
	autostrbuf struct strbuf way = {0};
	char what[300];
	va_list ap;

	if (r->doc->error)
		return;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	add_way(r, &way);
	if (key)
		strbuf_printf(&way, "%s%s", way.len ? "." : "", key);
	r->doc->error = err_msg(r->doc->err, -EINVAL, "%s: %s", way.data ? way.data : "root", what);
}

static json_t *get(const struct json_reader *r, const char *key)
{
	json_t *v = r->doc->error ? NULL : key ? json_object_get(r->value, key) : r->value;

	return json_is_null(v) ? NULL : v;
}

bool json_read_object(const struct json_reader *r, const char *key, struct json_reader *ret)
{
	json_t *v = get(r, key);

	if (!v)
		return false;
	if (!json_is_object(v)) {
		json_fail(r, key, "must be an object");
		return false;
	}
	*ret = (struct json_reader){.doc = r->doc, .up = r, .key = key, .value = v};
	return true;
}

size_t json_read_array(const struct json_reader *r, const char *key, size_t max,
		       struct json_reader *ret)
{
	json_t *v = get(r, key);

	if (!v)
		return 0;
	if (!json_is_array(v)) {
		json_fail(r, key, "must be an array");
		return 0;
	}
	if (json_array_size(v) > max) {
		json_fail(r, key, "has %zu entries, at most %zu are allowed", json_array_size(v),
			  max);
		return 0;
	}
	*ret = (struct json_reader){.doc = r->doc, .up = r, .key = key, .value = v};
	return json_array_size(v);
}

void json_read_entry(const struct json_reader *array, size_t i, struct json_reader *ret)
{
	*ret = (struct json_reader){
	    .doc = array->doc, .up = array, .index = i, .value = json_array_get(array->value, i)};
}

static const char *text_of(const struct json_reader *r, const char *key, json_t *v)
{
	if (!json_is_string(v)) {
		json_fail(r, key, "must be a string");
		return NULL;
	}
	if (strlen(json_string_value(v)) != json_string_length(v)) {
		json_fail(r, key, "has a NUL character in it");
		return NULL;
	}
	return json_string_value(v);
}

const char *json_read_text(const struct json_reader *r)
{
	const char *s = r->doc->error ? NULL : text_of(r, NULL, r->value); /* null is no text */

	return s ? s : "";
}

const char *json_read_string(const struct json_reader *r, const char *key)
{
	json_t *v = get(r, key);

	return v ? text_of(r, key, v) : NULL;
}

const char *json_need_string(const struct json_reader *r, const char *key)
{
	const char *s = json_read_string(r, key);

	if (!s)
		json_fail(r, key, "is missing");
	return s ? s : "";
}

bool json_read_bool(const struct json_reader *r, const char *key, bool preset)
{
	json_t *v = get(r, key);

	if (!v)
		return preset;
	if (!json_is_boolean(v))
		json_fail(r, key, "must be true or false");
	return json_is_true(v);
}

/* Whole numbers come as reals where one of the document is too long for an integer. */
static bool whole(const struct json_reader *r, const char *key, json_t *v, bool *negative,
		  uint64_t *ret)
{
	double d = 0;

	if (json_is_integer(v)) {
		json_int_t i = json_integer_value(v);

		*negative = i < 0;
		*ret = i < 0 ? -(uint64_t)i : (uint64_t)i;
		return true;
	}
	if (json_is_real(v))
		d = json_real_value(v);
	if (!json_is_real(v) || d != floor(d) || fabs(d) > 0x1p64) {
		json_fail(r, key, "must be a whole number");
		return false;
	}
	*negative = d < 0;
	*ret = fabs(d) >= 0x1p64 ? UINT64_MAX : (uint64_t)fabs(d);
	return true;
}

bool json_read_int(const struct json_reader *r, const char *key, int64_t min, int64_t max,
		   int64_t *ret)
{
	json_t *v = get(r, key);
	bool negative;
	uint64_t n;
	int64_t i;

	if (!v || !whole(r, key, v, &negative, &n))
		return false;
	i = negative ? (n > INT64_MAX ? INT64_MIN : -(int64_t)n)
		     : (n > INT64_MAX ? INT64_MAX : (int64_t)n);
	if (i < min || i > max) {
		json_fail(r, key, "%" PRId64 " is not between %" PRId64 " and %" PRId64, i, min,
			  max);
		return false;
	}
	*ret = i;
	return true;
}

bool json_read_u64(const struct json_reader *r, const char *key, uint64_t *ret)
{
	json_t *v = get(r, key);
	bool negative;
	uint64_t n;

	if (!v || !whole(r, key, v, &negative, &n))
		return false;
	/* -1 is how several callers write "no limit". */
	if (negative && n != 1) {
		json_fail(r, key, "must not be negative");
		return false;
	}
	*ret = negative ? UINT64_MAX : n;
	return true;
}

int json_read_word(const struct json_reader *r, const char *key, const char *const *names)
{
	const char *s = json_read_string(r, key);

	if (!s)
		return -1;
	for (int i = 0; names[i]; i++)
		if (strcmp(s, names[i]) == 0)
			return i;
	json_fail(r, key, "unknown value '%s'", s);
	return -1;
}
