/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/probe.c - which engine "auto" is on this host, for `insula doctor`
 */
#include "vmm/probe.h"

#include "engine/engine.h"
#include "guest/gmem.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>

#define PROBE_MEMORY (UINT64_C(1) << 20)

int probe_print(struct err *e)
{
	struct engine *engine = NULL;
	struct gmem *mem = NULL;
	const char *reason;
	char why[256] = "";
	json_t *o;
	int r = gmem_new(PROBE_MEMORY, PROBE_MEMORY, &mem, e);

	if (r == 0)
		r = engine_new(ENGINE_AUTO, mem, 1, &engine, why, e);
	if (r == 0) {
		/* "name: reason" */
		reason = strstr(why, ": ");
		o = json_pack("{s:s, s:s}", "engine", engine_name(engine), "reason",
			      reason ? reason + 2 : "");
		json_dumpf(o, stdout, JSON_COMPACT);
		putchar('\n');
		json_decref(o);
	}
	engine_free(engine);
	gmem_free(mem);
	return r;
}
