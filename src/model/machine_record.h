/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model/machine_record.h - a machine as it is kept: who it is, its configuration, what it shall do
 *
 * All strings are owned; machine_record_fini frees them.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>

#define MACHINE_UUID_LEN    36
#define MACHINE_MAX_LABELS  64
#define MACHINE_LABEL_BYTES 255

enum machine_restart { MACHINE_RESTART_NO, MACHINE_RESTART_ON_FAILURE, MACHINE_RESTART_ALWAYS };
extern const char *const machine_restart_names[]; /* ends with NULL */

struct machine_record {
	char uuid[MACHINE_UUID_LEN + 1];
	char *name;
	char *config;    /* struct machine_config as JSON */
	json_t *labels;  /* object of strings */
	int64_t created; /* seconds since 1970 */
	bool autostart;
	int64_t autostart_order; /* lower ones first */
	enum machine_restart restart;
	int64_t watchdog; /* seconds without an answer of the agent; 0 = none */
	bool wanted;      /* was started, and not stopped by a person since */
	bool template;    /* does not run: what is made from it lies over its disk */
	/* How it last ended; NULL = never ran. */
	char *end_reason;
	int64_t end_status, end_time;
};

void machine_record_fini(struct machine_record *m);
/* A random UUID (RFC 9562, version 4). */
void machine_uuid_make(char ret[MACHINE_UUID_LEN + 1]);
bool machine_uuid_is(const char *text);
/* Keys [a-z0-9A-Z._/-]{1,63}, values printable strings of at most MACHINE_LABEL_BYTES. */
must_check int machine_labels_check(const json_t *labels, struct err *e);
