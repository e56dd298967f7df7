/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/fuzz_interp.c - any bytes as code on the interpreter
 *
 * Nothing may fault, hang, or leave a CPU state that no processor has.
 */
#include "cpu_case.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct cpu_case c;

	if (!c.vm.mem)
		cpu_case_new(&c, ENGINE_INTERP);
	if (!cpu_case_begin(&c, data, size))
		return 0;
	while (cpu_case_run(&c))
		cpu_case_serve(&c);
	cpu_case_end(&c);
	return 0;
}
