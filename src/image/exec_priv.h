/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image/exec_priv.h - between exec.c and exec_confine.c
 */
#pragma once

#include "image/exec.h"

/* In the child, before the program. */
void exec_confine(const struct exec *x);
