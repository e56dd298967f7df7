/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/sandbox.h - the walls around insula-vmm, put up in stages (docs/vmm.md has a table)
 *
 *	sandbox_enter    before anything is opened: no new privileges, not dumpable, namespaces
 *	sandbox_opened   everything is open: a file system of our own, Landlock, no capabilities
 *	sandbox_run      before guest code: system calls by seccomp, every thread
 *	sandbox_vcpu     in each vCPU's thread: a narrower list
 *	sandbox_forked   in a process that fork made of one behind all these: no signals to that one
 */
#pragma once

#include "base/err.h"
#include "model/vm_desc.h"

must_check int sandbox_enter(bool *jail, struct err *e);
/* @jail as sandbox_enter said. */
must_check int sandbox_opened(const struct vm_desc *d, bool jail, struct err *e);
must_check int sandbox_run(struct err *e);
must_check int sandbox_vcpu(struct err *e);
must_check int sandbox_forked(struct err *e);

/* What libslirp reads again when it changed, NULL at the end: one file for root, who could read
 * more than name servers in the directory. */
const char *const *sandbox_resolver_files(void);
/* Drops all capabilities and enters @ruleset (-1 = none).  The kernel keeps both by thread, so
 * first in all other threads there are, by way of /proc. */
must_check int sandbox_other_threads(int ruleset, struct err *e);
must_check int sandbox_this_thread(int ruleset, struct err *e);
