/* SPDX-License-Identifier: Apache-2.0 */
/*
 * monitor/desc.h - what insula-monitor is told about its container, as JSON (docs/containers.md)
 */
#pragma once

#include "oci/runner_parts.h"

#define DESC_MAX_TEXT (1u << 20)

struct desc {
	char *dir;          /* of this run: bundle, state, sockets; gone with it */
	char *upper, *work; /* what it writes, and overlayfs' own: these stay */
	char *cgroup;
	const char *login; /* of who runs us */
	char *control, *agent, *console, *console_log;
	struct root_layers layers;
	struct image_config image;
	struct container_options options; /* args: the command, NULL = the image's */
	json_t *root;                     /* strings of the options are in it */
	struct strings command, env;
	struct run_mount *mounts;
	struct run_port *ports;
};

/* @ret is initialised by this; on failure it is left finished. */
must_check int desc_parse(const char *text, size_t len, struct desc *ret, struct err *e);
void desc_fini(struct desc *d);
