/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/probe.h - which engine "auto" is on this host, for `insula doctor`
 */
#pragma once

#include "base/err.h"

/* Prints {"engine": "...", "reason": "..."} to standard output. */
must_check int probe_print(struct err *e);
