/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/fd_table.c - files and sockets that somebody else opened for us, by their paths
 */
#include "base/fd_table.h"

#include <fcntl.h>

void fd_table_add(struct fd_table *t, const char *path, int owner, int fd)
{
	if (t->n == t->room) {
		struct fd_table_entry *more;

		t->room = t->room ? 2 * t->room : 16;
		more = xcalloc(t->room, sizeof(*more));
		if (t->n)
			memcpy(more, t->entry, t->n * sizeof(*more));
		free(t->entry);
		t->entry = more;
	}
	t->entry[t->n++] = (struct fd_table_entry){.path = xstrdup(path), .fd = fd, .owner = owner};
}

int fd_table_find(const struct fd_table *t, const char *path)
{
	for (unsigned int i = 0; t && i < t->n; i++)
		if (strcmp(t->entry[i].path, path) == 0)
			return fcntl(t->entry[i].fd, F_DUPFD_CLOEXEC, 3);
	return -1;
}

int fd_table_open(const struct fd_table *t, const char *path, int flags)
{
	int fd = fd_table_find(t, path);

	return fd >= 0 ? fd : open(path, flags);
}

void fd_table_fini(struct fd_table *t)
{
	while (t->n) {
		t->n--;
		free(t->entry[t->n].path);
		close_p(&t->entry[t->n].fd);
	}
	free(t->entry);
	*t = (struct fd_table){0};
}
