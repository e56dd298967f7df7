/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image/exec.h - runs the programs that make images: mmdebstrap, apt-get, tar, mke2fs, depmod
 */
#pragma once

#include "base/err.h"
#include "base/strbuf.h"
#include "image/progress.h"

struct exec {
	const char *const *argv; /* ends with NULL; argv[0] is looked up in PATH and the sbin's */
	/* Each line of the program's output, both streams; may be NULL. */
	void (*line)(void *opaque, const char *text);
	void *opaque;
	struct strbuf *out; /* if set, standard output is collected here instead */
	struct progress *progress;
	const char
	    *tmp_dir; /* for temporary files of the program, so that they go with it; or NULL */
	/* As root where the host allows it: namespaces, so that nothing it starts or mounts
	 * outlives insula, not even one killed with SIGKILL. */
	bool contain;
	/* Limits on memory and descriptors; files may be read in and below @read_dir, changed in
	 * and below @write_dir, where the kernel has Landlock. */
	bool confine;
	const char *read_dir, *write_dir;
};

/* Waits for it, ticking the progress; ends it when cancelled (-EINTR).  A failure quotes the
 * program's last line of complaint. */
must_check int exec_run(const struct exec *x, struct err *e);
/* The same for a shell script with arguments $1..., as the root user of a user namespace with
 * subordinate ids where we are not root: file ownership is right in both cases. */
must_check int exec_script_as_root(const char *script, const char *const *args, struct progress *p,
				   struct err *e);
/* Deletes a tree, whoever of our subordinate ids owns its files. */
void exec_remove_tree(const char *path);
bool exec_have(const char *program);
