/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image/apt.c - which Debian archives the machine's own apt configuration uses
 *
 * apt itself reads both forms of its configuration: `apt-get indextargets` lists what it found.
 */
#include "base/fd.h"
#include "image/image_priv.h"

#include <errno.h>
#include <stdio.h>

#define DEBIAN_KEYRING "/usr/share/keyrings/debian-archive-keyring.gpg"

char *apt_host_suite(void)
{
	autostrbuf struct strbuf text = {0};
	char *save = NULL, *suite = NULL;
	bool debian = false;

	if (read_file("/etc/os-release", 65536, &text) == 0 && text.len) {
		for (char *l = strtok_r(text.data, "\n", &save); l;
		     l = strtok_r(NULL, "\n", &save)) {
			debian = debian || strcmp(l, "ID=debian") == 0;
			if (strncmp(l, "VERSION_CODENAME=", 17) == 0 && !suite)
				suite = xstrdup(l + 17);
		}
	}
	if (debian && suite)
		return suite;
	free(suite);
	return xstrdup("bookworm");
}

/* "bookworm-security" of host suite "bookworm" gives "-security"; NULL for other archives. */
static const char *release_suffix(const char *release, const char *host)
{
	const char *const bases[] = {host, "stable", "oldstable"};
	static const char *const known[] = {"", "-updates", "-security"};

	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		size_t n = strlen(bases[i]);

		if (strncmp(release, bases[i], n) != 0)
			continue;
		for (size_t k = 0; k < ARRAY_SIZE(known); k++) {
			if (strcmp(release + n, known[k]) == 0)
				return known[k];
		}
	}
	return NULL;
}

static bool is_rolling(const char *suite)
{
	return strcmp(suite, "sid") == 0 || strcmp(suite, "unstable") == 0;
}

/* One line "URI|RELEASE|COMPONENT|ORIGIN" of apt's. */
static void add_source(char *line, const char *host, const char *suite, struct strbuf *ret)
{
	autostrbuf struct strbuf out = {0};
	char *fields[4], *p = line;
	const char *suffix;

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		fields[i] = p;
		p = p ? strchr(p, '|') : NULL;
		if (p)
			*p++ = '\0';
		if (!fields[i])
			return;
	}
	suffix = release_suffix(fields[1], host);
	/* Others' archives may use Debian's suite names; before the first update the origin is
	 * not known and the variable stays as it is. */
	if (!suffix || (is_rolling(suite) && suffix[0]) ||
	    (fields[3][0] && fields[3][0] != '$' && strcmp(fields[3], "Debian") != 0))
		return;
	if (strcmp(fields[2], "main") != 0 && strcmp(fields[2], "contrib") != 0 &&
	    strncmp(fields[2], "non-free", 8) != 0)
		return;
	strbuf_puts(&out, "deb ");
	if (access(DEBIAN_KEYRING, R_OK) == 0)
		strbuf_puts(&out, "[signed-by=" DEBIAN_KEYRING "] ");
	strbuf_printf(&out, "%s %s%s %s\n", fields[0], suite, suffix, fields[2]);
	if (!ret->len || !strstr(ret->data, out.data))
		strbuf_add(ret, out.data, out.len);
}

int apt_sources(const char *suite, struct strbuf *ret, struct err *e)
{
	const char *const argv[] = {"apt-get",
				    "indextargets",
				    "--format",
				    "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)",
				    "Created-By: Packages",
				    NULL};
	autostrbuf struct strbuf out = {0};
	struct exec x = {.argv = argv, .out = &out};
	autofree char *host = apt_host_suite();
	char *save = NULL;
	int r = exec_run(&x, e);

	if (r < 0)
		return r;
	if (!out.len)
		strbuf_puts(&out, "");
	for (char *l = strtok_r(out.data, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
		add_source(l, host, suite, ret);
	if (!ret->len)
		return err_msg(e, -ENOENT,
			       "apt's configuration (/etc/apt) names no archive of Debian %s",
			       host);
	return 0;
}
