/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/machine.h - what the commands about insulad's machines share
 */
#pragma once

#include "base/err.h"

#include <jansson.h>

/* What completion offers for a machine. */
#define MACHINE_WORDS "insula list --all --names"

/* Options that many have. */
struct machine_options {
	bool json, all, force, names, xml;
	long long timeout; /* ms, -1 = the command's default */
	char *label, *state;
};
int machine_set_json(void *config, const char *value, struct err *e);
int machine_set_all(void *config, const char *value, struct err *e);
int machine_set_force(void *config, const char *value, struct err *e);
int machine_set_timeout(void *config, const char *value, struct err *e); /* seconds */
void machine_options_init(void *config);
void machine_options_fini(void *config);

/* EXIT_USAGE with words unless there are @n words. */
int machine_need_words(const char *command, int argc, int n, const char *what);
/* Prints @o on standard output, indented; takes it over. */
void machine_print_json(json_t *o);
const char *machine_text(const json_t *o, const char *key);
long long machine_int(const json_t *o, const char *key);
/* "3h 12m", "2d 4h", "48s" */
void machine_duration(long long seconds, char ret[32]);
/* "512M", "1.5G" */
void machine_size(long long bytes, char ret[16]);
