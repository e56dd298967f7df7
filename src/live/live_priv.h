/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live/live_priv.h - between the parts of live/
 */
#pragma once

#include "live/client.h"
#include "live/live.h"

/* A machine that was asked what it is. */
struct live_session {
	const struct live_machine *m;
	struct vmm_client client;
	json_t *described; /* {description, disk_sizes} */
	json_t *description;
	struct live_disks disks;
	bool noted; /* m->switching was called */
};

must_check int live_begin(const struct live_machine *m, struct live_session *ret, struct err *e);
/* @r < 0: it failed.  The machine may have changed over to overlays all the same: it is asked. */
void live_end(struct live_session *s, int r);
/* An empty qcow2 image over @disk, whose name is new in @dir. */
must_check int live_overlay(const struct live_session *s, unsigned int disk, const char *dir,
			    char **ret, struct err *e);
/* Overlays for all disks that are written to, noted down; appends their "overlays" argument to
 * @args and their descriptors to @fds. */
must_check int live_overlays(struct live_session *s, json_t *args, int *fds, unsigned int *n,
			     struct err *e);
bool live_is_written(const struct live_session *s, unsigned int disk);
