/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/client_start.h - the connection to insulad, which is started when nobody listens
 */
#pragma once

#include "base/err.h"

/* A connected socket. */
must_check int client_connect(struct err *e);
