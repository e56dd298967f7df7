/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/mount_opts.h - the words in a mount's options (runtime-spec, config.md, "Linux mount
 * options")
 */
#pragma once

#include "container/spec.h"

struct mount_opts {
	uint64_t set, clear;         /* MOUNT_ATTR_* of the mount itself */
	uint64_t rec_set, rec_clear; /* of the mounts below it as well */
	uint64_t propagation;        /* MS_SHARED... or 0 */
	bool propagation_rec;
	bool bind, rec, remount, tmpcopyup, idmap, idmap_rec;
	const char **data; /* the file system's own options, in order, n_data of them */
	size_t n_data;
};

void mount_opts_parse(const struct spec_strings *options, struct mount_opts *ret);
void mount_opts_fini(struct mount_opts *o);

/* Name of the i-th known option, NULL past the last: for `features`. */
const char *mount_opts_name(size_t i);
/* "rshared" to flags for mount_setattr; false when unknown. */
bool mount_propagation_parse(const char *word, uint64_t *flags, bool *rec);
