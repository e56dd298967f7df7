/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/userns.h - ids of user namespaces (user_namespaces(7))
 */
#pragma once

#include "container/spec.h"

/* Writes the maps of the new user namespace that @pid is in: directly with the capability for it or
 * where only our own id is mapped, else through newuidmap and newgidmap. */
must_check int userns_map(pid_t pid, int proc, const struct spec_id_maps *uids,
			  const struct spec_id_maps *gids, struct err *e);
/* A descriptor of a new user namespace with these maps. */
must_check int userns_make(const struct spec_id_maps *uids, const struct spec_id_maps *gids,
			   struct err *e);
/* Whether this process is root in the first user namespace. */
bool userns_is_host_root(void);
