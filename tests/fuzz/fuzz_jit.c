/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/fuzz_jit.c - any bytes as code on the translator, and the interpreter as its judge
 *
 * Both get the same input, exit by exit: exits, state and memory must be the same.  Where they are
 * not, the interpreter runs once more; if it differs from itself, the guest saw time or chance, and
 * nothing is known.
 */
#include "cpu_case.h"

#include "base/strbuf.h"

static struct cpu_case interp, jit;

struct seen {
	struct vm_exit x;
	struct cpu c;
};

/* What can be seen after an exit. */
static struct seen look(struct cpu_case *c)
{
	struct seen s = {.x = c->vm.x};

	engine_get_state(c->vm.v[0], &s.c);
	if (!s.x.write)
		s.x.data = 0;
	/* In the middle of an instruction no interrupt comes: its shadow means nothing. */
	if (s.x.reason == EXIT_IO || s.x.reason == EXIT_MMIO || s.x.reason == EXIT_MSR ||
	    s.x.reason == EXIT_CR8)
		s.c.int_shadow = 0;
	return s;
}

static bool states_equal(const struct cpu *a, const struct cpu *b, FILE *tell)
{
	autostrbuf struct strbuf sa = {0}, sb = {0}, text = {0};
	bool equal;

	state_save(&cpu_state_table, a, &sa);
	state_save(&cpu_state_table, b, &sb);
	equal = sa.len == sb.len && memcmp(sa.data, sb.data, sa.len) == 0;
	if (equal || !tell)
		return equal;
	cpu_dump(a, &text);
	strbuf_printf(&text, "\ntranslator:\n");
	cpu_dump(b, &text);
	fprintf(tell, "interpreter:\n%s\n", text.data);
	for (size_t k = 0; k < sizeof(a->xs); k++) {
		uint8_t xa = ((const uint8_t *)&a->xs)[k], xb = ((const uint8_t *)&b->xs)[k];

		if (xa != xb)
			fprintf(tell, "xs+%zu: %02x, %02x\n", k, xa, xb);
	}
	return false;
}

static bool exits_equal(const struct vm_exit *a, const struct vm_exit *b)
{
	return a->reason == b->reason && a->write == b->write && a->size == b->size &&
	       a->port == b->port && a->msr == b->msr && a->gpa == b->gpa && a->data == b->data;
}

static bool memory_equal(const struct cpu_case *a, const struct cpu_case *b, FILE *tell)
{
	const uint8_t *pa = gmem_ptr(a->vm.mem, 0, CPU_CASE_RAM);
	const uint8_t *pb = gmem_ptr(b->vm.mem, 0, CPU_CASE_RAM);
	unsigned int k = 0;

	if (memcmp(pa, pb, CPU_CASE_RAM) == 0)
		return true;
	while (pa[k] == pb[k])
		k++;
	if (tell)
		fprintf(tell, "memory at %#x: %02x, %02x\n", k, pa[k], pb[k]);
	return false;
}

static bool seen_equal(const struct seen *a, const struct seen *b, FILE *tell)
{
	if (!exits_equal(&a->x, &b->x)) {
		if (tell)
			fprintf(stderr,
				"exit %d (gpa %#" PRIx64 " data %#" PRIx64 "), %d (gpa %#" PRIx64
				" data %#" PRIx64 ")\n",
				a->x.reason, a->x.gpa, a->x.data, b->x.reason, b->x.gpa, b->x.data);
		(void)states_equal(&a->c, &b->c, tell);
		return false;
	}
	if (tell)
		fprintf(tell, "exit %d\n", a->x.reason);
	return states_equal(&a->c, &b->c, tell);
}

/* Both from the same input; true when they were equal as far as they came. */
static bool compare(struct cpu_case *a, struct cpu_case *b, const uint8_t *data, size_t size,
		    FILE *tell)
{
	bool equal = true;

	if (!cpu_case_begin(a, data, size) || !cpu_case_begin(b, data, size))
		return true;
	for (;;) {
		bool on_a = cpu_case_run(a), on_b = cpu_case_run(b);
		struct seen sa, sb;

		if (a->late || b->late)
			break;
		sa = look(a);
		sb = look(b);
		equal = seen_equal(&sa, &sb, tell);
		if (!equal || !on_a || !on_b) {
			equal = equal && memory_equal(a, b, tell);
			break;
		}
		cpu_case_serve(a);
		cpu_case_serve(b);
	}
	cpu_case_end(a);
	cpu_case_end(b);
	return equal;
}

/* OF of a rotate by an immediate is undefined, and on some hosts other than by CL, which is what
 * the interpreter does: the input has rotates by CL instead (D2, D3 for C0, C1). */
static void no_rotates_by_immediate(uint8_t *p, size_t len)
{
	for (size_t k = 0; k + 1 < len; k++) {
		if ((p[k] & 0xfe) == 0xc0 && (p[k + 1] & 0x38) < 0x20)
			p[k] |= 0x12;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	static struct cpu_case again;
	static uint8_t data[8192];
	char *text = NULL;
	size_t len = 0;
	FILE *tell;
	bool equal;

	if (!interp.vm.mem) {
		interp.undisturbed = again.undisturbed = jit.undisturbed = true;
		cpu_case_new(&interp, ENGINE_INTERP);
		cpu_case_new(&again, ENGINE_INTERP);
		cpu_case_new(&jit, ENGINE_JIT);
	}
	size = MIN(size, sizeof(data));
	memcpy(data, input, size);
	if (size > sizeof(struct cpu_start))
		no_rotates_by_immediate(data + sizeof(struct cpu_start),
					size - sizeof(struct cpu_start));
	tell = open_memstream(&text, &len);
	CHECK(tell);
	equal = compare(&interp, &jit, data, size, tell);
	fclose(tell);
	if (!equal && compare(&interp, &again, data, size, NULL)) {
		fprintf(stderr, "%s", text);
		abort();
	}
	free(text);
	return 0;
}
