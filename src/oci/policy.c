/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/policy.c - whether an image may come here at all
 */
#include "oci/policy.h"

#include "base/fd.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>

#define FILE_LIMIT (1u << 20)

/* All of a list must be content; what we do not know is not. */
static int judge_list(const json_t *list, const char *scope, struct err *e)
{
	json_t *rule;
	size_t i;

	if (!json_is_array(list) || !json_array_size(list))
		return err_msg(e, -EINVAL, "the policy's '%s' is not a list of requirements",
			       scope);
	json_array_foreach((json_t *)list, i, rule)
	{
		const char *type = json_string_value(json_object_get(rule, "type"));

		if (type && strcmp(type, "insecureAcceptAnything") == 0)
			continue;
		if (type && strcmp(type, "reject") == 0)
			return err_msg(e, -EACCES, "the policy of images rejects it ('%s')", scope);
		return err_msg(e, -EACCES,
			       "the policy of images ('%s') asks for %.32s, which Insula cannot "
			       "check: it is refused",
			       scope, type ? type : "something unknown");
	}
	return 0;
}

/* "*.example.com" covers the host's names below it. */
static const json_t *find_wildcard(const json_t *scopes, const char *host, char **scope)
{
	const char *rest = host;

	while ((rest = strchr(rest, '.'))) {
		autofree char *key = xasprintf("*%s", rest);
		const json_t *list = json_object_get(scopes, key);

		if (list) {
			*scope = steal_ptr(&key);
			return list;
		}
		rest++;
	}
	return NULL;
}

/* The most exact first: with tag or digest, HOST/NAME/PART, HOST/NAME, HOST, *.DOMAIN. */
static const json_t *find_scope(const json_t *scopes, const struct reference *ref, char **scope)
{
	autofree char *key = reference_text(ref);
	autofree char *repository = xasprintf("%s/%s", ref->host, ref->name);
	const json_t *list = json_object_get(scopes, key);
	char *slash;

	if (list) {
		*scope = steal_ptr(&key);
		return list;
	}
	for (;;) {
		list = json_object_get(scopes, repository);
		if (list) {
			*scope = steal_ptr(&repository);
			return list;
		}
		slash = strrchr(repository, '/');
		if (!slash)
			return find_wildcard(scopes, ref->host, scope);
		*slash = '\0';
	}
}

int policy_judge(const char *text, size_t len, const char *transport, const struct reference *ref,
		 struct err *e)
{
	json_error_t je;
	json_t *o = json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
	const json_t *scopes = json_object_get(json_object_get(o, "transports"), transport), *list;
	autofree char *scope = NULL;
	int r;

	if (!json_is_object(o)) {
		r = err_msg(e, -EINVAL, "the policy is not JSON: line %d: %s", je.line, je.text);
		json_decref(o);
		return r;
	}
	list = ref ? find_scope(scopes, ref, &scope) : NULL;
	if (!list) {
		list = json_object_get(scopes, "");
		scope = xstrdup(transport);
	}
	if (!list) {
		list = json_object_get(o, "default");
		free(scope);
		scope = xstrdup("default");
	}
	r = judge_list(list, scope, e);
	json_decref(o);
	return r;
}

static int check(const char *transport, const struct reference *ref, struct err *e)
{
	const char *home = getenv("HOME"), *config = getenv("XDG_CONFIG_HOME");
	autofree char *base =
	    config ? xstrdup(config) : xasprintf("%s/.config", home ? home : "/root");
	autofree char *own = xasprintf("%s/containers/policy.json", base);
	const char *const files[] = {own, "/etc/containers/policy.json"};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		autostrbuf struct strbuf text = {0};
		int r = read_file(files[i], FILE_LIMIT, &text);

		if (r == -ENOENT || r == -ENOTDIR)
			continue;
		/* One that cannot be read says nothing, and so does not say yes. */
		if (r < 0)
			return err_set(e, r, "read %s", files[i]);
		r = policy_judge(text.data ? text.data : "", text.len, transport, ref, e);
		return r < 0 ? err_wrap(e, r, "%s", files[i]) : 0;
	}
	return 0;
}

int policy_check(const struct reference *ref, struct err *e)
{
	return check("docker", ref, e);
}

int policy_check_archive(const char *transport, struct err *e)
{
	return check(transport, NULL, e);
}
