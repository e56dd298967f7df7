/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/state.h - saved state as a table of named fields
 *
 * Every device describes what of it must survive a snapshot, migration or fork: one row a field,
 * never the struct's image.  Written form, little-endian, self-describing:
 *
 *	u8 name length | name | u16 element size | u32 element count | elements
 *
 * Loading matches by name: an unknown name is an error (state from the future), a missing one keeps
 * its reset value if the saved version is older than the row's `since`, else is an error.
 */
#pragma once

#include "base/err.h"
#include "base/strbuf.h"

struct state_field {
	const char *name;
	uint32_t offset;
	uint16_t size; /* of one element: 1, 2, 4, 8, or the record's size for opaque byte arrays */
	uint32_t count; /* elements */
	uint16_t since; /* version that brought the field */
	bool is_bool;   /* elements other than 0 and 1 are refused */
};

struct state_table {
	const char *name; /* of the device model or part */
	uint16_t version;
	const struct state_field *fields;
	size_t n_fields;
	/* Recompute what the fields imply (armed timers, line levels); may be NULL. */
	int (*loaded)(void *obj, struct err *e);
};

#define STATE_IS_BOOL(x) _Generic((x), bool : true, default : false)

#define STATE_FIELD(type, member, since_)                                                          \
	{                                                                                          \
		.name = #member, .offset = offsetof(type, member),                                 \
		.size = sizeof(((type *)0)->member), .count = 1, .since = (since_),                \
		.is_bool = STATE_IS_BOOL(((type *)0)->member)                                      \
	}
#define STATE_ARRAY(type, member, since_)                                                          \
	{                                                                                          \
		.name = #member, .offset = offsetof(type, member),                                 \
		.size = sizeof(((type *)0)->member[0]),                                            \
		.count = sizeof(((type *)0)->member) / sizeof(((type *)0)->member[0]),             \
		.since = (since_), .is_bool = STATE_IS_BOOL(((type *)0)->member[0])                \
	}

void state_save(const struct state_table *t, const void *obj, struct strbuf *out);
/* Reads one table's record from the front of @data; @used gets its length.  @obj is untouched on
 * failure only before the first field was stored: reset it then. */
must_check int state_load(const struct state_table *t, void *obj, const void *data, size_t len,
			  size_t *used, struct err *e);
