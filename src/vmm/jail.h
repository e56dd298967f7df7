/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/jail.h - a file system of our own for insula-vmm: what it may still reach, and nothing else
 *
 * Where the host does not let us have one (a container, no user namespaces), Landlock alone stands
 * between the process and the host's files.
 */
#pragma once

#include "base/err.h"
#include "model/vm_desc.h"

/* While the process has one thread: a mount namespace of our own, in a user namespace if we are not
 * root.  False if there is none; then jail_enter must not be called. */
must_check bool jail_prepare(void);

/* Everything is open: the root becomes an empty, read-only directory with the name server files and
 * the directories of our sockets at their places.  Counts for every thread. */
must_check int jail_enter(const struct vm_desc *d, struct err *e);
