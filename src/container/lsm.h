/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/lsm.h - AppArmor profile and SELinux label of the program that is started next
 */
#pragma once

#include "container/spec.h"

/* Whether the kernel has it switched on. */
bool lsm_have_selinux(void);

/* @proc is a procfs of the host (container/path.h): the label goes to the kernel, not into a file
 * that the container laid there (CVE-2019-16884, CVE-2019-19921, CVE-2025-52881).  Labels that the
 * configuration wants and the kernel has not are an error. */
must_check int lsm_apply(const struct spec_process *p, int proc, struct err *e);
