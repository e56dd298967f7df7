/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/oci/test_reference.c - names of images in registries
 */
#include "oci/reference.h"
#include "test.h"

#define HEX16  "0123456789abcdef"
#define DIGEST "sha256:" HEX16 HEX16 HEX16 HEX16

static void good(const char *text, const char *full, bool loopback)
{
	struct reference r, again;
	char *is, *twice;

	CHECK_EQ(reference_parse(text, &r, NULL), 0);
	is = reference_text(&r);
	CHECK_STR(is, full);
	CHECK_EQ(reference_is_loopback(&r), loopback);
	CHECK_EQ(reference_parse(is, &again, NULL), 0);
	twice = reference_text(&again);
	CHECK_STR(twice, full);
	free(is);
	free(twice);
	reference_fini(&r);
	reference_fini(&again);
}

static void bad(const char *text)
{
	struct reference r = {0};
	struct err e = {0};

	CHECK(reference_parse(text, &r, &e) < 0);
	CHECK(e.msg[0] && !r.host && !r.name);
}

int main(void)
{
	static const char *const wrong[] = {
	    "",       "/",     "a/",    "/a",           "a//b",         "A",
	    "a:",     "a:-b",  "a@",    "a@sha256:1",   "a@md5:" HEX16, "../a",
	    "a/../b", "a b",   "a\nb",  "-a",           "a-",           "a..b",
	    "a___b",  "a._b",  "h:x/a", "h:123456/a",   "[::1/a",       "[x]:1/a",
	    "a.:1/b", "-.b/a", "a:b:c", "a@" DIGEST "0"};

	good("alpine", "docker.io/library/alpine:latest", false);
	good("me/box:1.2", "docker.io/me/box:1.2", false);
	good("docker.io/alpine", "docker.io/library/alpine:latest", false);
	good("index.docker.io/alpine", "docker.io/library/alpine:latest", false);
	good("r.example/a/b/c-d__e.f:T_1", "r.example/a/b/c-d__e.f:T_1", false);
	good("localhost/x", "localhost/x:latest", true);
	good("localhost:5000/x@" DIGEST, "localhost:5000/x@" DIGEST, true);
	good("127.3.2.1:5/x:t@" DIGEST, "127.3.2.1:5/x:t@" DIGEST, true);
	good("[::1]:5000/x", "[::1]:5000/x:latest", true);
	/* What only begins like this machine's address is none. */
	good("127.0.0.1.example/x", "127.0.0.1.example/x:latest", false);
	good("localhost.example/x", "localhost.example/x:latest", false);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		bad(wrong[i]);
	return 0;
}
