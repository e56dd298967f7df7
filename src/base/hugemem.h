/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/hugemem.h - memory in 2 MiB pages, where the host can
 *
 * What is looked at all over - guest RAM, translated code, the tables that lead to it - costs the
 * host's TLB less that way.
 */
#pragma once

#include <stddef.h>

#define HUGE_PAGE ((size_t)2 << 20) /* bytes */

/* Address space of @size bytes at a multiple of HUGE_PAGE, not accessible yet: to be mapped over,
 * and to be unmapped by munmap.  NULL = none left, errno says why. */
void *huge_reserve(size_t size);

/* @size bytes of zeroes, sparse, in huge pages as it is touched where the host gives them;
 * likewise. */
void *huge_table(size_t size);

/* The same for what often stays short: small pages for the first HUGE_PAGE bytes. */
void *huge_table_late(size_t size);

/* Gives [@p, @p + @size) of any readable mapping, shared ones too, huge pages now: zeroed ones
 * where there were none.  Best effort: hosts before Linux 6.1 do nothing. */
void huge_now(void *p, size_t size);
