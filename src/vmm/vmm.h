/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/vmm.h - one machine's process: console, control socket, sandbox, signals, exit status
 */
#pragma once

#include "model/vm_desc.h"

struct fd_table;
struct machine_region;

/* What a fork has of its parent (vmm_fork.c): memory where the parent had it, state of CPUs and
 * devices, files.  The walls stand already. */
struct vmm_parent {
	const struct machine_region *regions;
	unsigned int n_regions;
	const void *state;
	size_t state_len;
	const struct fd_table *given;
};

struct vmm_options {
	int ready_fd, parent_fd; /* -1 = none */
	int exit_fd;             /* gets "STATUS REASON WORDS" at the end; -1 = none */
	bool verbose;
	const char *restore; /* snapshot to go on from; NULL = none */
	/* In a child that fork made of a running machine: what it takes over; NULL = no child. */
	const struct vmm_parent *parent;
};

/* Runs the machine to its end; returns the process's exit status, having said why on stderr. */
int vmm_run(struct vm_desc *desc, const struct vmm_options *options);
