/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/policy.c - options about what insulad does with a machine
 */
#include "cli/policy.h"

#include "cli/cli.h"

#include <errno.h>

void policy_init(struct policy_options *p)
{
	p->autostart = -1;
}

void policy_fini(struct policy_options *p)
{
	json_decref(p->labels);
	json_decref(p->config);
	free(p->restart);
}

int policy_set_label(struct policy_options *p, const char *value, struct err *e)
{
	autofree char *key = xstrdup(value);
	char *equals = strchr(key, '=');
	size_t n = strlen(key);

	if (!equals && (n < 2 || key[n - 1] != '-'))
		return err_msg(e, -EINVAL, "'%s' is not KEY=VALUE", value);
	if (equals)
		*equals++ = '\0';
	else
		key[n - 1] = '\0';
	if (!p->labels)
		p->labels = json_object();
	if (json_object_set_new(p->labels, key, equals ? json_string(equals) : json_null()) < 0)
		return err_msg(e, -EINVAL, "'%s' is not UTF-8", value);
	return 0;
}

int policy_set_restart(struct policy_options *p, const char *value, struct err *e)
{
	free(p->restart);
	p->restart = xstrdup(value);
	return 0;
}

int policy_set_autostart(struct policy_options *p, const char *value, struct err *e)
{
	p->autostart = !value || strcmp(value, "on") == 0;
	if (value && !p->autostart && strcmp(value, "off") != 0)
		return err_msg(e, -EINVAL, "'%s' is not on or off", value);
	return 0;
}

static int parse_number(const char *value, long long *ret, struct err *e)
{
	char *end;

	errno = 0;
	*ret = strtoll(value, &end, 10);
	if (errno || end == value || *end)
		return err_msg(e, -EINVAL, "'%s' is no number", value);
	return 0;
}

int policy_set_autostart_order(struct policy_options *p, const char *value, struct err *e)
{
	p->has_order = true;
	return parse_number(value, &p->order, e);
}

int policy_set_watchdog(struct policy_options *p, const char *value, struct err *e)
{
	p->has_watchdog = true;
	return parse_number(value, &p->watchdog, e);
}

static int set_limit(struct policy_options *p, const char *group, const char *key, json_t *value)
{
	if (!p->config)
		p->config = json_object();
	if (!json_object_get(p->config, group))
		json_object_set_new(p->config, group, json_object());
	return json_object_set_new(json_object_get(p->config, group), key, value);
}

static int set_size(struct policy_options *p, const char *group, const char *key, const char *value,
		    struct err *e)
{
	uint64_t n;
	int r = cli_parse_size(value, &n, e);

	return r < 0 ? r : set_limit(p, group, key, json_integer((json_int_t)n));
}

int policy_set_cpu_cap(struct policy_options *p, const char *value, struct err *e)
{
	long long n;
	int r = parse_number(value, &n, e);

	return r < 0 ? r : set_limit(p, "limits", "cpu_percent", json_integer(n));
}

int policy_set_cpu_weight(struct policy_options *p, const char *value, struct err *e)
{
	long long n;
	int r = parse_number(value, &n, e);

	return r < 0 ? r : set_limit(p, "limits", "cpu_weight", json_integer(n));
}

int policy_set_memory_limit(struct policy_options *p, const char *value, struct err *e)
{
	return set_size(p, "limits", "memory", value, e);
}

int policy_set_disk_bytes(struct policy_options *p, const char *value, struct err *e)
{
	return set_size(p, "root_rate", "bytes", value, e);
}

int policy_set_disk_ops(struct policy_options *p, const char *value, struct err *e)
{
	return set_size(p, "root_rate", "ops", value, e);
}

int policy_set_net_in(struct policy_options *p, const char *value, struct err *e)
{
	return set_size(p, "net_rate", "in", value, e);
}

int policy_set_net_out(struct policy_options *p, const char *value, struct err *e)
{
	return set_size(p, "net_rate", "out", value, e);
}

void policy_format(const struct policy_options *p, json_t *body)
{
	if (p->labels)
		json_object_set(body, "labels", p->labels);
	if (p->config && !json_object_get(body, "config"))
		json_object_set_new(body, "config", json_object());
	if (p->config)
		json_object_update(json_object_get(body, "config"), p->config);
	if (p->restart)
		json_object_set_new(body, "restart", json_string(p->restart));
	if (p->autostart >= 0)
		json_object_set_new(body, "autostart", json_boolean(p->autostart));
	if (p->has_order)
		json_object_set_new(body, "autostart_order", json_integer(p->order));
	if (p->has_watchdog)
		json_object_set_new(body, "watchdog", json_integer(p->watchdog));
}
