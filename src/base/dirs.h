/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/dirs.h - where Insula keeps what lasts, what a run leaves, and its programs
 *
 * The results are heap strings of the caller's.
 */
#pragma once

#include "base/err.h"

/* $XDG_DATA_HOME/insula; /var/lib/insula for root, ~/.local/share/insula for others. */
char *dirs_data(void);
/* Sockets and files that are gone with the next boot: $INSULA_RUN_DIR, /run/insula for root,
 * $XDG_RUNTIME_DIR/insula or /tmp/insula-UID for others. */
char *dirs_run(void);
/* Makes dirs_run() for its owner alone; in a shared /tmp somebody else may have been first, which
 * is -EPERM. */
must_check int dirs_make_run(char **ret, struct err *e);
/* Deletes @path with all that is in it, without following links; what is not there is fine. */
void dirs_remove(const char *path);
/* A program of ours that people do not call: beside this one, or in ../libexec/insula. */
must_check int dirs_program(const char *name, char **ret, struct err *e);

/* The disk that a machine with its files in @dir writes to: the link "disk" says which file it is,
 * once it is not the first one, disk.raw, any more. */
char *dirs_machine_disk(const char *dir);
