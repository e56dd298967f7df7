/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/share.h - the small directory that the share servers are fuzzed with
 */
#pragma once

/* Before each input: a fresh tree now and then, since the messages change it. */
void share_begin(void);
/* The directory to share, and /proc/self/fd: the server's to close. */
void share_open(int *root, int *proc);
/* The file beside the share is as it was. */
void share_check_outside(void);
