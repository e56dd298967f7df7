/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/oci/test_policy.c - which images may come
 */
#include "oci/policy.h"
#include "test.h"

#include <errno.h>

#define YES  "[{\"type\":\"insecureAcceptAnything\"}]"
#define NO   "[{\"type\":\"reject\"}]"
#define SIGN "[{\"type\":\"signedBy\",\"keyType\":\"GPGKeys\",\"keyPath\":\"/k\"}]"

static int judge(const char *policy, const char *name)
{
	struct reference ref = {0};
	struct err e = {0};
	int r;

	if (name)
		CHECK_EQ(reference_parse(name, &ref, NULL), 0);
	r = policy_judge(policy, strlen(policy), name ? "docker" : "oci-archive",
			 name ? &ref : NULL, &e);
	CHECK(r == 0 || e.msg[0]);
	reference_fini(&ref);
	return r;
}

/* The most exact scope decides, whatever the others say. */
static void test_scopes(void)
{
	static const char policy[] =
	    "{\"default\":" NO ",\"transports\":{\"docker\":{"
	    "\"good.example\":" YES ",\"good.example/bad\":" NO ",\"good.example/bad/one\":" YES
	    ",\"good.example/x:2\":" NO ",\"*.wild.example\":" YES "}}}";

	CHECK_EQ(judge(policy, "good.example/a/b"), 0);
	CHECK_EQ(judge(policy, "good.example/bad/two"), -EACCES);
	CHECK_EQ(judge(policy, "good.example/bad/one"), 0);
	CHECK_EQ(judge(policy, "good.example/bader"), 0);
	CHECK_EQ(judge(policy, "good.example/x:1"), 0);
	CHECK_EQ(judge(policy, "good.example/x:2"), -EACCES);
	CHECK_EQ(judge(policy, "a.wild.example/x"), 0);
	CHECK_EQ(judge(policy, "a.b.wild.example/x"), 0);
	CHECK_EQ(judge(policy, "wild.example/x"), -EACCES);
	CHECK_EQ(judge(policy, "alpine"), -EACCES);
	CHECK_EQ(judge(policy, NULL), -EACCES);
}

static void test_transports(void)
{
	CHECK_EQ(judge("{\"default\":" YES "}", "alpine"), 0);
	CHECK_EQ(judge("{\"default\":" YES "}", NULL), 0);
	CHECK_EQ(judge("{\"default\":" NO ",\"transports\":{\"docker\":{\"\":" YES "}}}", "alpine"),
		 0);
	CHECK_EQ(
	    judge("{\"default\":" NO ",\"transports\":{\"oci-archive\":{\"\":" YES "}}}", NULL), 0);
}

/* What cannot be checked is no yes. */
static void test_unknown(void)
{
	CHECK_EQ(judge("{\"default\":" SIGN "}", "alpine"), -EACCES);
	CHECK_EQ(judge("{\"default\":[{\"type\":\"insecureAcceptAnything\"},{}]}", "alpine"),
		 -EACCES);
	CHECK_EQ(judge("{\"default\":[]}", "alpine"), -EINVAL);
	CHECK_EQ(judge("{}", "alpine"), -EINVAL);
	CHECK_EQ(judge("", "alpine"), -EINVAL);
	CHECK_EQ(judge("[]", "alpine"), -EINVAL);
}

int main(void)
{
	test_scopes();
	test_transports();
	test_unknown();
	return 0;
}
