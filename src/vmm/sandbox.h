/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/sandbox.h - the walls around insula-vmm, put up in stages (docs/vmm.md has a table)
 *
 *	sandbox_enter    before anything is opened: no new privileges, not dumpable, limits
 *	sandbox_opened   everything is open: no capabilities, file system by Landlock
 *	sandbox_run      before guest code: system calls by seccomp, every thread
 *	sandbox_vcpu     in each vCPU's thread: a narrower list
 */
#pragma once

#include "base/err.h"
#include "model/vm_desc.h"

must_check int sandbox_enter(struct err *e);
must_check int sandbox_opened(const struct vm_desc *d, struct err *e);
must_check int sandbox_run(struct err *e);
must_check int sandbox_vcpu(struct err *e);

/* Of the calling thread only, as the kernel has it. */
must_check int sandbox_drop_capabilities(struct err *e);
