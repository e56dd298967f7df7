/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/engine/engine_choice.h - which software engine a test is about
 *
 * Tests of guest programs run once for each: ENGINE=jit in the environment chooses the translator,
 * which then translates all code when it first runs, ENGINE=jit-lockstep likewise with each stay in
 * code checked.  Otherwise it is the interpreter.
 */
#pragma once

#include "engine/engine.h"
#include "test.h"

#include <errno.h>

static inline enum engine_kind engine_chosen(void)
{
	const char *name = getenv("ENGINE");

	if (!name || strcmp(name, "interp") == 0)
		return ENGINE_INTERP;
	if (strcmp(name, "jit-lockstep") == 0)
		return ENGINE_LOCKSTEP;
	CHECK(strcmp(name, "jit") == 0);
	return ENGINE_JIT;
}

/* Skips the test where this host has no translator. */
static inline struct engine *engine_for_test(enum engine_kind kind, struct gmem *mem,
					     unsigned int n_cpus)
{
	struct engine *en = NULL;
	struct err e = {0};
	char why[256];
	int r = engine_new(kind, mem, n_cpus, &en, why, &e);

	if (r == -ENOSYS && kind != ENGINE_INTERP) {
		fprintf(stderr, "skipped: %s\n", e.msg);
		exit(77);
	}
	CHECK_EQ(r, 0);
	engine_set_heat(en, 1);
	return en;
}
