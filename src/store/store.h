/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/store.h - what insulad keeps: one SQLite database
 *
 * A call that returned 0 is on the disk (WAL, synchronous=FULL): neither kill -9 nor a power cut
 * takes it back; one that did not return is there whole or not at all.  One process at a time opens
 * a store.  Calls are safe from any thread; they wait for each other.
 */
#pragma once

#include "model/machine_record.h"

struct store;

/* Opens or makes @path and brings its schema up to date; -EBUSY while another process has it,
 * -ENOTSUP when a newer Insula wrote it. */
must_check int store_open(const char *path, struct store **ret, struct err *e);
void store_close(struct store *s);

/* --- machines: machine_table.c --- */

/* @n of them, all or none; -EEXIST with words when a name is taken. */
must_check int store_machine_add(struct store *s, const struct machine_record *m, size_t n,
				 struct err *e);
/* By UUID; -ENOENT. */
must_check int store_machine_get(struct store *s, const char *uuid, struct machine_record *ret,
				 struct err *e);
/*
 * By name, UUID, or a beginning of one - names first - that fits one machine only.  -ENOENT when
 * none fits, -EINVAL with the names when several do.
 */
must_check int store_machine_find(struct store *s, const char *ref, struct machine_record *ret,
				  struct err *e);
/* -EEXIST with words when the name is taken. */
must_check int store_machine_check_name(struct store *s, const char *name, struct err *e);
/* All, sorted by name; the caller finishes each and frees the array. */
must_check int store_machine_list(struct store *s, struct machine_record **ret, size_t *n,
				  struct err *e);
/* Everything of it but UUID, creation and end; -EEXIST as above, -ENOENT. */
must_check int store_machine_update(struct store *s, const struct machine_record *m, struct err *e);
must_check int store_machine_set_wanted(struct store *s, const char *uuid, bool wanted,
					struct err *e);
/* How it ended, now. */
must_check int store_machine_set_end(struct store *s, const char *uuid, const char *reason,
				     int64_t status, struct err *e);
must_check int store_machine_remove(struct store *s, const char *uuid, struct err *e);

/* --- tokens of the API: token_table.c --- */

struct token_record {
	char *name;
	uint8_t hash[32];
	int64_t role;             /* daemon/operations.h */
	int64_t created, expires; /* Unix time; expires 0 = never */
};

void token_record_fini(struct token_record *t);
/* -EEXIST with words when the name is taken. */
must_check int store_token_add(struct store *s, const struct token_record *t, struct err *e);
/* All, sorted by name; the caller finishes each and frees the array. */
must_check int store_token_list(struct store *s, struct token_record **ret, size_t *n,
				struct err *e);
must_check int store_token_remove(struct store *s, const char *name, struct err *e); /* -ENOENT */

/* --- storage pools: pool_table.c --- */

struct pool_record {
	char *name, *kind, *path;
	int64_t created;
};

void pool_record_fini(struct pool_record *p);
/* -EEXIST with words when the name is taken, or another has the path. */
must_check int store_pool_add(struct store *s, const struct pool_record *p, struct err *e);
must_check int store_pool_get(struct store *s, const char *name, struct pool_record *ret,
			      struct err *e); /* -ENOENT */
must_check int store_pool_list(struct store *s, struct pool_record **ret, size_t *n, struct err *e);
must_check int store_pool_remove(struct store *s, const char *name, struct err *e); /* -ENOENT */
