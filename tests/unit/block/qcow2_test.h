/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/block/qcow2_test.h - what the tests of qcow2 images share
 */
#pragma once

#include "block/block.h"
#include "block/node_priv.h"
#include "block/qcow2.h"
#include "test.h"

/* A file in memory that notes every write and flush, for power cuts. */
struct fake_event {
	enum { FAKE_WRITE, FAKE_FLUSH, FAKE_TRUNCATE, FAKE_MARK } kind;
	uint64_t off, len;
	uint8_t *data;
};

struct fake_log {
	struct fake_event *events;
	size_t n, room;
};

/* @data: what it holds at first (@len bytes); @log may be NULL.  fake_data: what it holds now. */
struct blk *fake_new(struct loop *l, const void *data, size_t len, struct fake_log *log);
const uint8_t *fake_data(struct blk *b, size_t *len);
/* The @n-th write or flush from now on fails with -EIO, once; 0 = none. */
void fake_fail(struct blk *b, unsigned int n);
bool fake_failed(struct blk *b);
void fake_mark(struct fake_log *log, uint64_t what);
void fake_log_fini(struct fake_log *log);

uint64_t test_random(void);
/* One request, waited for by draining. */
int test_io(struct blk *b, enum blk_op op, unsigned int flags, uint64_t off, void *buf,
	    uint64_t len);
/* An image in memory. */
struct blk *test_open(struct blk *file, unsigned int flags, struct loop *l);
/* Without corruptions; leaks only if allowed. */
void test_check(struct blk *b, bool leaks_ok);
