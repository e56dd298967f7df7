/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/passwd.c - users and groups by an image's own files
 */
#include "codec/passwd.h"

#include <errno.h>
#include <stdio.h>

#define FIELDS 7

/* The fields of the line at *@p, which goes on to the next; false at the end. */
static bool next_line(const char **p, char *line, size_t size, char *fields[FIELDS])
{
	size_t len = strcspn(*p, "\n"), keep = MIN(len, size - 1);
	char *at = line;

	if (!**p)
		return false;
	memcpy(line, *p, keep);
	line[keep] = '\0';
	*p += len + ((*p)[len] == '\n');
	for (size_t i = 0; i < FIELDS; i++) {
		fields[i] = at ? at : line + keep;
		at = at ? strchr(at, ':') : NULL;
		if (at)
			*at++ = '\0';
	}
	return true;
}

static bool parse_id(const char *s, uint32_t *ret)
{
	char *end;
	unsigned long n = strtoul(s, &end, 10);

	if (s[0] < '0' || s[0] > '9' || *end || strlen(s) > 10 || n >= UINT32_MAX)
		return false;
	*ret = (uint32_t)n;
	return true;
}

/* By name, or by number for the rest of the line. */
static bool find_user(const char *text, const char *name, struct passwd_user *u, char *login,
		      size_t size)
{
	char line[1024], *f[FIELDS];
	uint32_t number = 0, uid, gid;
	bool is_number = parse_id(name, &number);

	while (next_line(&text, line, sizeof(line), f)) {
		if (!parse_id(f[2], &uid) || !parse_id(f[3], &gid))
			continue;
		if (strcmp(f[0], name) != 0 && !(is_number && uid == number))
			continue;
		u->uid = uid;
		u->gid = gid;
		snprintf(u->home, sizeof(u->home), "%s", f[5][0] == '/' ? f[5] : "/");
		memcpy(login, f[0], MIN(strlen(f[0]), size - 1));
		return true;
	}
	if (is_number)
		u->uid = number;
	return is_number;
}

static bool find_group(const char *text, const char *name, uint32_t *ret)
{
	char line[4096], *f[FIELDS];

	if (parse_id(name, ret))
		return true;
	while (next_line(&text, line, sizeof(line), f)) {
		if (strcmp(f[0], name) == 0 && parse_id(f[2], ret))
			return true;
	}
	return false;
}

static bool is_member(char *list, const char *login)
{
	char *save = NULL;

	for (char *m = strtok_r(list, ",", &save); m; m = strtok_r(NULL, ",", &save)) {
		if (strcmp(m, login) == 0)
			return true;
	}
	return false;
}

static void find_groups(const char *text, const char *login, struct passwd_user *u)
{
	char line[4096], *f[FIELDS];
	uint32_t gid;

	while (login[0] && u->n_groups < PASSWD_GROUPS_MAX &&
	       next_line(&text, line, sizeof(line), f)) {
		if (parse_id(f[2], &gid) && gid != u->gid && is_member(f[3], login))
			u->groups[u->n_groups++] = gid;
	}
}

int passwd_resolve(const char *user, const char *passwd, const char *group, struct passwd_user *ret,
		   struct err *e)
{
	struct passwd_user u = {.home = "/"};
	autofree char *name = xstrdup(user[0] ? user : "0");
	char *colon = strchr(name, ':');
	char login[256] = "";

	if (colon)
		*colon++ = '\0';
	if (!find_user(passwd, name[0] ? name : "0", &u, login, sizeof(login)))
		return err_msg(e, -ENOENT, "the image has no user '%s'", name);
	if (colon && !find_group(group, colon, &u.gid))
		return err_msg(e, -ENOENT, "the image has no group '%s'", colon);
	if (!colon)
		find_groups(group, login, &u);
	*ret = u;
	return 0;
}
