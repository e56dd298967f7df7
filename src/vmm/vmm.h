/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/vmm.h - one machine's process: console, control socket, sandbox, signals, exit status
 */
#pragma once

#include "model/vm_desc.h"

struct vmm_options {
	int ready_fd, parent_fd; /* -1 = none */
	int exit_fd;             /* gets "STATUS REASON WORDS" at the end; -1 = none */
	bool verbose;
};

/* Runs the machine to its end; returns the process's exit status, having said why on stderr. */
int vmm_run(const struct vm_desc *desc, const struct vmm_options *options);
