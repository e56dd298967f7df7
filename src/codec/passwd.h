/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/passwd.h - who "USER[:GROUP]" of an image is, by its own /etc/passwd and /etc/group
 * (image-spec config.md, "User")
 */
#pragma once

#include "base/err.h"

#define PASSWD_GROUPS_MAX 64

struct passwd_user {
	uint32_t uid, gid;
	uint32_t groups[PASSWD_GROUPS_MAX];
	size_t n_groups;
	char home[256]; /* "/" when the file does not tell */
};

/* @user: a name or number, or both with a colon; "" is root.  The texts are the files', each ending
 * with NUL, "" where there is none.  -ENOENT for a name that they lack. */
must_check int passwd_resolve(const char *user, const char *passwd, const char *group,
			      struct passwd_user *ret, struct err *e);
