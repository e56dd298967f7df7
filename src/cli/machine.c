/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/machine.c - what the commands about insulad's machines share
 */
#include "cli/machine.h"

#include "base/exit.h"
#include "cli/ui.h"

#include <errno.h>
#include <stdio.h>

int machine_set_json(void *config, const char *value, struct err *e)
{
	((struct machine_options *)config)->json = true;
	return 0;
}

int machine_set_all(void *config, const char *value, struct err *e)
{
	((struct machine_options *)config)->all = true;
	return 0;
}

int machine_set_force(void *config, const char *value, struct err *e)
{
	((struct machine_options *)config)->force = true;
	return 0;
}

int machine_set_timeout(void *config, const char *value, struct err *e)
{
	char *end;
	double seconds = strtod(value, &end);

	if (end == value || *end || !(seconds >= 0 && seconds <= 1e6))
		return err_msg(e, -EINVAL, "'%s' is no number of seconds", value);
	((struct machine_options *)config)->timeout = (long long)(seconds * 1000);
	return 0;
}

void machine_options_init(void *config)
{
	((struct machine_options *)config)->timeout = -1;
}

void machine_options_fini(void *config)
{
	struct machine_options *o = config;

	free(o->label);
	free(o->state);
}

int machine_need_words(const char *command, int argc, int n, const char *what)
{
	if (argc < n)
		return ui_error(EXIT_USAGE, "insula %s %s: a word is missing", command, what);
	if (argc > n)
		return ui_error(EXIT_USAGE, "insula %s %s: there is a word too many", command,
				what);
	return EXIT_OK;
}

void machine_print_json(json_t *o)
{
	json_dumpf(o, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
	putchar('\n');
	json_decref(o);
}

const char *machine_text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

long long machine_int(const json_t *o, const char *key)
{
	return (long long)json_integer_value(json_object_get(o, key));
}

void machine_duration(long long s, char ret[32])
{
	if (s < 0)
		s = 0;
	if (s < 60)
		snprintf(ret, 32, "%llds", s);
	else if (s < 3600)
		snprintf(ret, 32, "%lldm %llds", s / 60, s % 60);
	else if (s < 86400)
		snprintf(ret, 32, "%lldh %lldm", s / 3600, s / 60 % 60);
	else
		snprintf(ret, 32, "%lldd %lldh", s / 86400, s / 3600 % 24);
}

void machine_size(long long bytes, char ret[16])
{
	static const char units[] = "BKMGT";
	double n = (double)bytes;
	unsigned int unit = 0;

	while (n >= 1024 && unit < 4) {
		n /= 1024;
		unit++;
	}
	snprintf(ret, 16, n < 10 && unit && n != (long long)n ? "%.1f%c" : "%.0f%c", n,
		 units[unit]);
}
