/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/container/test_json_read.c - the JSON reader: types, ranges, the way in its errors
 */
#include "codec/json_read.h"
#include "test.h"

static const char text[] =
    "{\"s\":\"word\",\"n\":7,\"big\":18446744073709551615,\"neg\":-1,\"real\":1.5,\"null\":null,"
    "\"nul\":\"a\\u0000b\",\"o\":{\"a\":[{\"x\":1},{\"x\":\"no\"}]},\"b\":true}";

static struct json_doc doc;
static struct json_reader root;
static struct err e;

static void open_doc(void)
{
	json_doc_fini(&doc);
	doc = (struct json_doc){.err = &e};
	CHECK_EQ(json_doc_parse(&doc, text, strlen(text), &root), 0);
}

static void test_values(void)
{
	uint64_t u = 0;
	int64_t n = 0;

	open_doc();
	CHECK_STR(json_read_string(&root, "s"), "word");
	CHECK(json_read_int(&root, "n", 0, 7, &n) && n == 7);
	CHECK(json_read_u64(&root, "big", &u) && u == UINT64_MAX);
	CHECK(json_read_u64(&root, "neg", &u) && u == UINT64_MAX);
	CHECK(!json_read_string(&root, "null") && !json_read_string(&root, "absent"));
	CHECK(json_read_bool(&root, "b", false) && json_read_bool(&root, "absent", true));
	CHECK_EQ(doc.error, 0);
}

static void refused(const char *words)
{
	CHECK(doc.error < 0);
	CHECK_STR(e.msg, words);
}

static void test_mistakes(void)
{
	struct json_reader o, a, entry;
	int64_t n = 42;

	open_doc();
	CHECK(!json_read_int(&root, "n", 0, 6, &n));
	refused("n: 7 is not between 0 and 6");
	CHECK_EQ(n, 42);
	CHECK(!json_read_string(&root, "s")); /* after a mistake nothing is found */
	open_doc();
	CHECK(!json_read_int(&root, "real", 0, 6, &n));
	refused("real: must be a whole number");
	open_doc();
	CHECK(!json_read_string(&root, "nul"));
	refused("nul: has a NUL character in it");
	open_doc();
	CHECK(json_read_object(&root, "o", &o));
	CHECK_EQ(json_read_array(&o, "a", 2, &a), 2);
	json_read_entry(&a, 1, &entry);
	CHECK(!json_read_int(&entry, "x", 0, 9, &n));
	refused("o.a[1].x: must be a whole number");
	open_doc();
	CHECK(json_read_object(&root, "o", &o));
	CHECK_EQ(json_read_array(&o, "a", 1, &a), 0);
	refused("o.a: has 2 entries, at most 1 are allowed");
}

int main(void)
{
	test_values();
	test_mistakes();
	json_doc_fini(&doc);
	return 0;
}
