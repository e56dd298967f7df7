/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/policy.h - options about what insulad does with a machine: of `insula create` and `edit`
 */
#pragma once

#include "base/err.h"

#include <jansson.h>

#define POLICY_LABEL_HELP   "a label of yours; repeatable"
#define POLICY_RESTART_HELP "when it ends without being stopped: no (default), on-failure, always"
#define POLICY_ORDER_HELP   "machines of lower order start first (default 0)"
#define POLICY_WATCHDOG_HELP                                                                       \
	"reset it when its agent, once up, was silent for so long; 0 = never (default)"

struct policy_options {
	json_t *config; /* limits and rates, as of the configuration; NULL = none was said */
	json_t *labels; /* NULL values take labels away */
	char *restart;
	int autostart; /* -1 = not said */
	bool has_order, has_watchdog;
	long long order, watchdog;
};

void policy_init(struct policy_options *p);
void policy_fini(struct policy_options *p);
/* KEY=VALUE, or KEY- to take it away. */
int policy_set_label(struct policy_options *p, const char *value, struct err *e);
int policy_set_restart(struct policy_options *p, const char *value, struct err *e);
int policy_set_autostart(struct policy_options *p, const char *value, struct err *e);
int policy_set_autostart_order(struct policy_options *p, const char *value, struct err *e);
/* Of the host: percent of a CPU, weight beside other machines, bytes; 0 takes a limit away. */
int policy_set_cpu_cap(struct policy_options *p, const char *value, struct err *e);
int policy_set_cpu_weight(struct policy_options *p, const char *value, struct err *e);
int policy_set_memory_limit(struct policy_options *p, const char *value, struct err *e);
/* Of the image's disk and the first card, a second; 0 takes a limit away. */
int policy_set_disk_bytes(struct policy_options *p, const char *value, struct err *e);
int policy_set_disk_ops(struct policy_options *p, const char *value, struct err *e);
int policy_set_net_in(struct policy_options *p, const char *value, struct err *e);
int policy_set_net_out(struct policy_options *p, const char *value, struct err *e);
int policy_set_watchdog(struct policy_options *p, const char *value, struct err *e);
#define POLICY_LIMIT_OPTIONS                                                                       \
	{"cpu-cap", "PERCENT", NULL, "at most so much of one CPU's time; 150 is one and a half",   \
	 set_cpu_cap},                                                                             \
	    {"cpu-weight", "N", NULL,                                                              \
	     "its part of CPUs that are short, 1 to 10000 (100, as others)", set_cpu_weight},      \
	    {"memory-limit", "SIZE", NULL,                                                         \
	     "most memory of the host's, its process's own included", set_memory_limit},           \
	    {"disk-bytes", "SIZE", NULL, "bytes a second of the image's disk", set_disk_bytes},    \
	    {"disk-ops", "N", NULL, "requests a second of the image's disk", set_disk_ops},        \
	    {"net-in", "SIZE", NULL, "bytes a second to the guest", set_net_in},                   \
	{                                                                                          \
		"net-out", "SIZE", NULL, "bytes a second from the guest", set_net_out              \
	}

/* Adds what was said to a request's @body. */
void policy_format(const struct policy_options *p, json_t *body);

/* Option setters set_label() and so on for a command whose struct @config has a member policy. */
#define POLICY_SETTER(config, name)                                                                \
	static int set_##name(void *c, const char *value, struct err *e)                           \
	{                                                                                          \
		return policy_set_##name(&((struct config *)c)->policy, value, e);                 \
	}
#define POLICY_SETTERS(config)                                                                     \
	POLICY_SETTER(config, label)                                                               \
	POLICY_SETTER(config, restart)                                                             \
	POLICY_SETTER(config, autostart)                                                           \
	POLICY_SETTER(config, autostart_order)                                                     \
	POLICY_SETTER(config, watchdog)                                                            \
	POLICY_SETTER(config, cpu_cap)                                                             \
	POLICY_SETTER(config, cpu_weight)                                                          \
	POLICY_SETTER(config, memory_limit)                                                        \
	POLICY_SETTER(config, disk_bytes)                                                          \
	POLICY_SETTER(config, disk_ops)                                                            \
	POLICY_SETTER(config, net_in)                                                              \
	POLICY_SETTER(config, net_out)
