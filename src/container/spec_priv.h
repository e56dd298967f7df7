/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/spec_priv.h - readers shared by the parts of the configuration's parser
 */
#pragma once

#include "container/spec.h"

void spec_read_strings(const struct json_reader *r, const char *key, struct spec_strings *ret);
/* An object of strings. */
void spec_read_pairs(const struct json_reader *r, const char *key, struct spec_pairs *ret);
void spec_read_opt(const struct json_reader *r, const char *key, int64_t min, int64_t max,
		   struct spec_opt *ret);
void spec_read_opt_u64(const struct json_reader *r, const char *key, struct spec_opt_u64 *ret);
uint32_t spec_read_u32(const struct json_reader *r, const char *key, uint32_t preset);
void spec_read_id_maps(const struct json_reader *r, const char *key, struct spec_id_maps *ret);

void spec_read_process(const struct json_reader *r, struct spec_process *ret);
void spec_read_linux(const struct json_reader *r, struct spec *ret);
void spec_fini_linux(struct spec *s);
void spec_read_resources(const struct json_reader *r, struct spec_resources *ret);
void spec_read_seccomp(const struct json_reader *r, struct spec_seccomp *ret);
void spec_seccomp_fini(struct spec_seccomp *s);
