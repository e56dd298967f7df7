/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/base64.h - bytes as text (RFC 4648, 4)
 */
#pragma once

#include "base/strbuf.h"

void base64_encode(const void *data, size_t len, struct strbuf *out);
/* Appends the bytes; -EINVAL when @text is not base64 with its padding. */
must_check int base64_decode(const char *text, size_t len, struct strbuf *out);
