/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/path.h - paths below a container's root file system, which its contents may fight
 *
 * Everything goes through openat2 with RESOLVE_IN_ROOT: no symbolic link, absolute or with dots,
 * and no exchange of a directory in between leads out of @root.  What is found is held by
 * descriptor and used by descriptor; no path is looked up twice.
 */
#pragma once

#include "base/err.h"

#include <sys/stat.h>

/* O_CLOEXEC is added.  Returns a descriptor or -errno; magic links are refused. */
must_check int path_open(int root, const char *path, int flags);

enum path_kind { PATH_DIR, PATH_FILE };

/* An O_PATH descriptor of @path below @root; made if it is not there (0755 or 0644), with the
 * directories on its way, through links that lead nowhere yet. */
must_check int path_make(int root, const char *path, enum path_kind kind);

/* O_PATH descriptor of the directory that holds @path's last part, made if it is not there; @name
 * gets that part, to be freed.  -EINVAL for paths that end in "." or "..", and for "/". */
must_check int path_make_parent(int root, const char *path, char **name);

/* Whether a part of it is "." or "..". */
bool path_has_dots(const char *path);

/* The host's procfs, opened by path and checked to be one, from its root. */
must_check int path_open_proc(struct err *e);
/* Reads or writes below such a procfs, whatever is mounted over its parts. */
must_check int path_open_in_proc(int proc, const char *path, int flags);
must_check int path_write_in_proc(int proc, const char *path, const char *text);
