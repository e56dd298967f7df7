/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model/machine_record.c - a machine as it is kept
 */
#include "model/machine_record.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

const char *const machine_restart_names[] = {"no", "on-failure", "always", NULL};

void machine_record_fini(struct machine_record *m)
{
	free(m->name);
	free(m->config);
	free(m->end_reason);
	json_decref(m->labels);
	memset(m, 0, sizeof(*m));
}

void machine_uuid_make(char ret[MACHINE_UUID_LEN + 1])
{
	uint8_t b[16];

	/* Of so few bytes the kernel gives all, or waits at its first boot. */
	while (getrandom(b, sizeof(b), 0) != sizeof(b))
		;
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	for (size_t i = 0, at = 0; i < sizeof(b); i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			ret[at++] = '-';
		snprintf(ret + at, 3, "%02x", b[i]);
		at += 2;
	}
}

bool machine_uuid_is(const char *text)
{
	if (strlen(text) != MACHINE_UUID_LEN)
		return false;
	for (size_t i = 0; i < MACHINE_UUID_LEN; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
			return false;
	}
	return true;
}

static bool key_ok(const char *key)
{
	size_t n = strlen(key);

	for (size_t i = 0; i < n; i++) {
		if (!isalnum((unsigned char)key[i]) && !strchr("._/-", key[i]))
			return false;
	}
	return n > 0 && n <= 63;
}

static bool value_ok(const char *value)
{
	for (const char *p = value; *p; p++) {
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return false;
	}
	return strlen(value) <= MACHINE_LABEL_BYTES;
}

int machine_labels_check(const json_t *labels, struct err *e)
{
	const char *key;
	json_t *v;

	if (!json_is_object(labels))
		return err_msg(e, -EINVAL, "labels: must be an object");
	if (json_object_size(labels) > MACHINE_MAX_LABELS)
		return err_msg(e, -EINVAL, "labels: more than %d", MACHINE_MAX_LABELS);
	json_object_foreach((json_t *)labels, key, v)
	{
		if (!key_ok(key))
			return err_msg(e, -EINVAL,
				       "labels: '%.80s' is no key: letters, digits and ._/-, at "
				       "most 63",
				       key);
		if (!json_is_string(v) || strlen(json_string_value(v)) != json_string_length(v) ||
		    !value_ok(json_string_value(v)))
			return err_msg(e, -EINVAL,
				       "labels.%s: must be a string without control characters, at "
				       "most %d bytes",
				       key, MACHINE_LABEL_BYTES);
	}
	return 0;
}
