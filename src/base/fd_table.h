/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/fd_table.h - files and sockets that somebody else opened for us, by their paths
 *
 * A process behind walls cannot open what it is to use: who starts it passes descriptors along.
 */
#pragma once

#include "base/err.h"

struct fd_table_entry {
	char *path;
	int fd;    /* owned */
	int owner; /* of several users of the table: whose it is, -1 = everybody's */
};

struct fd_table {
	struct fd_table_entry *entry;
	unsigned int n, room;
};

/* Takes @fd over. */
void fd_table_add(struct fd_table *t, const char *path, int owner, int fd);
/* Another descriptor for the same open file, the caller's; -1 if @path is not in @t, which may be
 * NULL. */
int fd_table_find(const struct fd_table *t, const char *path);
/* The same, else by open(): -1 with errno. */
int fd_table_open(const struct fd_table *t, const char *path, int flags);
void fd_table_fini(struct fd_table *t);
