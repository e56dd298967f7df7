/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/codec/test_passwd.c - USER[:GROUP] by an image's own files, which may be anything
 */
#include "codec/passwd.h"
#include "test.h"

static const char passwd[] = "root:x:0:0::/root:/bin/sh\n\nbroken\nbad:x:-1:0::/\n"
			     "huge:x:4294967295:0::/:\nuser:x:1000:1001::/home/user:/bin/sh\n"
			     "rel:x:7:7::home:\n";
static const char group[] = "root:x:0:\nuser:x:1001:\nextra:x:2000:a,user,b\nnone:x:5:userx\n"
			    "bad:x:x:user\nlast:x:3000:user";

static void is(const char *who, uint32_t uid, uint32_t gid, size_t groups, const char *home)
{
	struct passwd_user u;

	CHECK_EQ(passwd_resolve(who, passwd, group, &u, NULL), 0);
	CHECK_EQ(u.uid, uid);
	CHECK_EQ(u.gid, gid);
	CHECK_EQ(u.n_groups, groups);
	CHECK_STR(u.home, home);
}

static void unknown(const char *who)
{
	struct passwd_user u;
	struct err e = {0};

	CHECK(passwd_resolve(who, passwd, group, &u, &e) < 0);
	CHECK(e.msg[0]);
}

int main(void)
{
	is("", 0, 0, 0, "/root");
	is("root", 0, 0, 0, "/root");
	is("user", 1000, 1001, 2, "/home/user");
	is("1000", 1000, 1001, 2, "/home/user");
	is("user:extra", 1000, 2000, 0, "/home/user");
	is("user:77", 1000, 77, 0, "/home/user");
	is("4242", 4242, 0, 0, "/");
	is("4242:user", 4242, 1001, 0, "/");
	is(":5", 0, 5, 0, "/root");
	is("rel", 7, 7, 0, "/");
	unknown("nobody");
	unknown("user:nogroup");
	unknown("broken");
	unknown("bad");
	unknown("huge");
	unknown("-1");
	unknown("4294967295");
	unknown("99999999999");
	return 0;
}
