/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/tables_priv.h - tables that others read and write with theirs, the lock held
 */
#pragma once

#include "store/store_priv.h"

/* label_table.c: replaces the labels of a machine, within its caller's transaction. */
must_check int label_table_write(struct store *s, const char *uuid, const json_t *labels,
				 struct err *e);
/* Fills in the labels of @rows, which have none yet. */
must_check int label_table_read(struct store *s, struct machine_record *rows, size_t n,
				struct err *e);
