/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/pool.h - disks in insulad's storage pools
 */
#pragma once

#include "base/err.h"

#include <jansson.h>

/* @body as pool.disk.create takes it, taken over; *@ret is the caller's. */
must_check int pool_disk_create(const char *pool, json_t *body, json_t **ret, struct err *e);
must_check int pool_disk_delete(const char *pool, const char *name, struct err *e);
/* Where it is, or would be; the caller's. */
must_check int pool_disk_path(const char *pool, const char *name, char **ret, struct err *e);
