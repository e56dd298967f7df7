/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/run_parse.c - the values of `insula run`'s options
 */
#include "cli/cli.h"
#include "cli/run.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>

static int parse_number(const char *text, unsigned long max, unsigned int *ret)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (!isdigit((unsigned char)text[0]) || *end || errno || n < 1 || n > max)
		return -EINVAL;
	*ret = (unsigned int)n;
	return 0;
}

int run_set_cpus(void *config, const char *value, struct err *e)
{
	struct run_config *cfg = config;

	if (parse_number(value, 64, &cfg->cpus) < 0)
		return err_msg(e, -EINVAL, "'%s' is not a number from 1 to 64", value);
	return 0;
}

int run_set_memory(void *config, const char *value, struct err *e)
{
	struct run_config *cfg = config;
	struct sysinfo si;
	uint64_t host;
	int r = cli_parse_size(value, &cfg->memory, e);

	if (r < 0)
		return r;
	sysinfo(&si);
	host = (uint64_t)si.totalram * si.mem_unit;
	err_exit(e, 0, EXIT_BAD_MEMORY);
	if (cfg->memory > host)
		return err_msg(e, -EINVAL, "%s is more than this host's memory, %llu MiB", value,
			       (unsigned long long)host >> 20);
	if (cfg->memory < UINT64_C(32) << 20)
		return err_msg(e, -EINVAL, "%s is too little to boot in; give 32M or more", value);
	cfg->memory = ALIGN_DOWN(cfg->memory, UINT64_C(4096));
	return 0;
}

int run_set_name(void *config, const char *value, struct err *e)
{
	struct run_config *cfg = config;
	size_t n = strlen(value);

	for (size_t i = 0; i < n; i++) {
		if (!isalnum((unsigned char)value[i]) && (i == 0 || value[i] != '-'))
			n = 0;
	}
	if (n < 1 || n > 63)
		return err_msg(e, -EINVAL,
			       "'%s' is no name: letters, digits and inner '-', at most 63", value);
	free(cfg->name);
	cfg->name = xstrdup(value);
	return 0;
}

/* FILE[,format=raw|qcow2][,readonly] */
int run_set_disk(void *config, const char *value, struct err *e)
{
	struct run_config *cfg = config;
	autofree char *copy = xstrdup(value);
	struct run_disk *d = &cfg->disks[cfg->n_disks];
	char *save = NULL;
	const char *path = strtok_r(copy, ",", &save);
	struct stat st;

	d->format = "auto";
	if (cfg->n_disks == RUN_MAX_DEVS - 1)
		return err_msg(e, -EINVAL, "more than %d disks", RUN_MAX_DEVS - 1);
	if (!path)
		return err_msg(e, -EINVAL, "a file is missing");
	for (char *o = strtok_r(NULL, ",", &save); o; o = strtok_r(NULL, ",", &save)) {
		if (strcmp(o, "readonly") == 0)
			d->read_only = true;
		else if (strcmp(o, "format=raw") == 0 || strcmp(o, "format=qcow2") == 0)
			d->format = o[7] == 'r' ? "raw" : "qcow2";
		else
			return err_msg(e, -EINVAL,
				       "'%s' is not format=raw, format=qcow2 or readonly", o);
	}
	d->path = realpath(path, NULL);
	if (!d->path || stat(d->path, &st) < 0 ||
	    access(d->path, d->read_only ? R_OK : R_OK | W_OK)) {
		err_exit(e, 0, EXIT_BAD_DISK);
		return err_set(e, -errno, "%s", path);
	}
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		err_exit(e, 0, EXIT_BAD_DISK);
		return err_msg(e, -EINVAL, "%s is neither a file nor a block device", path);
	}
	cfg->n_disks++;
	return 0;
}

/* [ADDR:]HOST:GUEST[/udp] with an address in brackets if it is IPv6 */
int run_set_publish(void *config, const char *value, struct err *e)
{
	struct run_config *cfg = config;
	struct run_publish *p = &cfg->publish[cfg->n_publish];
	autofree char *copy = xstrdup(value);
	char *slash = strrchr(copy, '/'), *guest, *host;
	struct in6_addr addr;

	if (cfg->n_publish == ARRAY_SIZE(cfg->publish))
		return err_msg(e, -EINVAL, "more than %zu ports", ARRAY_SIZE(cfg->publish));
	if (slash) {
		*slash++ = '\0';
		p->udp = strcmp(slash, "udp") == 0;
		if (!p->udp && strcmp(slash, "tcp") != 0)
			return err_msg(e, -EINVAL, "'%s' is neither tcp nor udp", slash);
	}
	guest = strrchr(copy, ':');
	if (!guest)
		return err_msg(e, -EINVAL, "'%s' is not [ADDR:]HOST:GUEST[/udp]", value);
	*guest++ = '\0';
	host = strrchr(copy, ':');
	if (host)
		*host++ = '\0';
	if (parse_number(host ? host : copy, 65535, &p->host) < 0 ||
	    parse_number(guest, 65535, &p->guest) < 0)
		return err_msg(e, -EINVAL, "'%s': ports are numbers from 1 to 65535", value);
	if (host && inet_pton(AF_INET, copy, &addr) != 1 && inet_pton(AF_INET6, copy, &addr) != 1)
		return err_msg(e, -EINVAL, "'%s' is not an address", copy);
	p->address = xstrdup(host ? copy : "127.0.0.1");
	cfg->n_publish++;
	return 0;
}

/* HOSTDIR:GUESTDIR[:ro] */
int run_set_share(void *config, const char *value, struct err *e)
{
	struct run_config *cfg = config;
	struct run_share *s = &cfg->shares[cfg->n_shares];
	autofree char *copy = xstrdup(value), *host = NULL;
	char *guest = strchr(copy, ':'), *mode = guest ? strchr(guest + 1, ':') : NULL;
	struct stat st;

	if (cfg->n_shares == RUN_MAX_DEVS)
		return err_msg(e, -EINVAL, "more than %d shares", RUN_MAX_DEVS);
	if (mode) {
		*mode++ = '\0';
		s->read_only = strcmp(mode, "ro") == 0;
		if (!s->read_only && strcmp(mode, "rw") != 0)
			return err_msg(e, -EINVAL, "'%s' is neither ro nor rw", mode);
	}
	if (!guest || guest[1] != '/')
		return err_msg(e, -EINVAL, "'%s' is not HOSTDIR:/GUESTDIR[:ro]", value);
	*guest++ = '\0';
	host = realpath(copy, NULL);
	if (!host || stat(host, &st) < 0)
		return err_set(e, -errno, "%s", copy);
	if (!S_ISDIR(st.st_mode))
		return err_msg(e, -ENOTDIR, "%s is not a directory", copy);
	if (access(host, R_OK | X_OK) < 0)
		return err_set(e, -errno, "%s", copy);
	s->host = steal_ptr(&host);
	s->guest = xstrdup(guest);
	cfg->n_shares++;
	return 0;
}

/* NAME=value, or NAME to pass ours on */
int run_set_env(void *config, const char *value, struct err *e)
{
	struct run_config *cfg = config;
	const char *ours;

	if (cfg->n_env == ARRAY_SIZE(cfg->env))
		return err_msg(e, -EINVAL, "more than %zu variables", ARRAY_SIZE(cfg->env));
	if (!value[0] || value[0] == '=')
		return err_msg(e, -EINVAL, "'%s' is not NAME=VALUE", value);
	if (strchr(value, '=')) {
		cfg->env[cfg->n_env++] = xstrdup(value);
		return 0;
	}
	ours = getenv(value);
	if (ours)
		cfg->env[cfg->n_env++] = xasprintf("%s=%s", value, ours);
	return 0;
}
