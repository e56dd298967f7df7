/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/tpm_crb.h - a TPM 2.0's command response buffer (TCG PC Client Platform TPM
 * Profile 1.05, 6.5.3)
 *
 * The TPM itself is swtpm's, a process of its own behind a control socket; commands go over a pair
 * of sockets that it is given there.  One locality, no interrupts.  A machine with a TPM cannot be
 * saved: what swtpm holds would not be in its state.
 */
#pragma once

#include "base/loop.h"
#include "device/device.h"

#define TPM_CRB_BASE 0xfed40000u
#define TPM_CRB_SIZE 0x1000u
#define TPM_CONTROL  (TPM_CRB_BASE + 0x40u) /* the control area, as ACPI's TPM2 table names it */

/* @socket: the control socket's path. */
must_check int tpm_crb_new(const char *socket, struct loop *loop, struct device **ret,
			   struct err *e);
