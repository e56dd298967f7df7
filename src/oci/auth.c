/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/auth.c - credentials for registries
 */
#include "oci/auth.h"

#include "base/fd.h"
#include "codec/base64.h"

#include <jansson.h>

#define FILE_LIMIT (1u << 20)

static char *decode(const json_t *entry)
{
	const char *auth = json_string_value(json_object_get(entry, "auth"));
	struct strbuf text = {0};

	if (auth && base64_decode(auth, strlen(auth), &text) == 0 && text.len &&
	    strlen(text.data) == text.len && strchr(text.data, ':'))
		return strbuf_steal(&text);
	strbuf_fini(&text);
	return NULL;
}

char *auth_parse(const char *text, size_t len, const char *host, const char *name)
{
	json_t *o = json_loadb(text, len, 0, NULL), *auths = json_object_get(o, "auths");
	autofree char *key = xasprintf("%s/%s", host, name);
	char *found = NULL;

	/* The most exact first: HOST/NAME/PART, HOST/NAME, HOST. */
	while (!found) {
		char *slash = strrchr(key, '/');

		found = decode(json_object_get(auths, key));
		if (!slash)
			break;
		*slash = '\0';
	}
	if (!found && strcmp(host, "docker.io") == 0)
		found = decode(json_object_get(auths, "https://index.docker.io/v1/"));
	json_decref(o);
	return found;
}

char *auth_helper(const char *text, size_t len, const char *host, bool all)
{
	json_t *o = json_loadb(text, len, 0, NULL);
	const json_t *v = all ? json_object_get(o, "credsStore")
			      : json_object_get(json_object_get(o, "credHelpers"), host);
	const char *name = json_string_value(v);
	char *copy = name && name[0] ? xstrdup(name) : NULL;

	json_decref(o);
	return copy;
}

static char *ask_helper(const struct strbuf *text, const char *host, bool all)
{
	autofree char *helper = auth_helper(text->data, text->len, host, all);

	return helper ? auth_ask(helper, host) : NULL;
}

static char *from_file(const char *path, const char *host, const char *name)
{
	autostrbuf struct strbuf text = {0};
	char *found;

	if (read_file(path, FILE_LIMIT, &text) < 0 || !text.len)
		return NULL;
	found = ask_helper(&text, host, false);
	if (!found)
		found = auth_parse(text.data, text.len, host, name);
	return found ? found : ask_helper(&text, host, true);
}

char *auth_find(const char *host, const char *name)
{
	const char *only = getenv("REGISTRY_AUTH_FILE"), *run = getenv("XDG_RUNTIME_DIR"),
		   *home = getenv("HOME"), *config = getenv("XDG_CONFIG_HOME"),
		   *docker = getenv("DOCKER_CONFIG");
	autofree char *own_run = xasprintf("/run/containers/%u", (unsigned int)geteuid());
	autofree char *own_config = xasprintf("%s/.config", home ? home : "/root");
	autofree char *own_docker = xasprintf("%s/.docker", home ? home : "/root");
	autofree char *first =
	    xasprintf("%s%s", run ? run : own_run, run ? "/containers/auth.json" : "/auth.json");
	autofree char *second = xasprintf("%s/containers/auth.json", config ? config : own_config);
	autofree char *third = xasprintf("%s/config.json", docker ? docker : own_docker);
	char *found;

	if (only)
		return from_file(only, host, name);
	found = from_file(first, host, name);
	if (!found)
		found = from_file(second, host, name);
	return found ? found : from_file(third, host, name);
}
