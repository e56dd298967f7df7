/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/oracle/compare.c - are two outcomes the same, and if not, in what
 *
 * All is compared but what docs/oracle.md lists under "Not compared".
 */
#include "engine/x86/insn.h"
#include "oracle.h"

#include <inttypes.h>

static const char *const gpr_names[16] = {
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15",
};

#define FLAGS_SEEN (FL_ARITH | FL_TF | FL_DF | FL_NT | FL_AC | FL_ID)

static bool differ(FILE *out, const char *what, uint64_t native, uint64_t interp)
{
	if (native == interp)
		return false;
	if (out)
		fprintf(out, "  %-8s native %016" PRIx64 "  interpreter %016" PRIx64 "\n", what,
			native, interp);
	return true;
}

static bool differ_bytes(FILE *out, const char *what, unsigned int n, const uint8_t *a,
			 const uint8_t *b, unsigned int len)
{
	if (memcmp(a, b, len) == 0)
		return false;
	if (!out)
		return true;
	fprintf(out, "  %s%u\n    native      ", what, n);
	for (unsigned int k = len; k-- > 0;)
		fprintf(out, "%02x", a[k]);
	fprintf(out, "\n    interpreter ");
	for (unsigned int k = len; k-- > 0;)
		fprintf(out, "%02x", b[k]);
	fprintf(out, "\n");
	return true;
}

/* Of #XM for overflow or underflow, whether the result would also have been inexact. */
static uint32_t mxcsr_unsure(const struct outcome *n)
{
	uint32_t mxcsr = n->m.xs.mxcsr;

	return n->vector == VEC_XM && (mxcsr & ~(mxcsr >> 7) & 0x18) ? 0x20 : 0;
}

static bool xstate_differs(const struct outcome *n, const struct cpu_xsave *b, FILE *out)
{
	const struct cpu_xsave *a = &n->m.xs;
	uint32_t unsure = mxcsr_unsure(n);
	bool d = false;

	d |= differ(out, "fcw", a->fcw, b->fcw);
	d |= differ(out, "fsw", a->fsw, b->fsw);
	d |= differ(out, "ftw", a->ftw, b->ftw);
	d |= differ(out, "fop", a->fop, b->fop);
	d |= differ(out, "fip", a->fip, b->fip);
	d |= differ(out, "fdp", a->fdp, b->fdp);
	d |= differ(out, "mxcsr", a->mxcsr | unsure, b->mxcsr | unsure);
	for (unsigned int k = 0; k < 8; k++)
		d |= differ_bytes(out, "st", k, a->st[k], b->st[k], 10);
	for (unsigned int k = 0; k < 16; k++) {
		d |= differ_bytes(out, "xmm", k, a->xmm[k], b->xmm[k], 16);
		d |= differ_bytes(out, "ymmh", k, a->ymmh[k], b->ymmh[k], 16);
	}
	return d;
}

static bool memory_differs(const uint8_t *a, const uint8_t *b, FILE *out)
{
	unsigned int shown = 0;

	if (memcmp(a, b, DATA_SIZE) == 0)
		return false;
	for (unsigned int n = 0; out && n < DATA_SIZE && shown < 4; n += 16)
		if (memcmp(a + n, b + n, 16) != 0) {
			differ_bytes(out, "data+", n, a + n, b + n, 16);
			shown++;
		}
	return true;
}

bool outcome_equal(const struct testcase *c, const struct outcome *i, FILE *out)
{
	const struct outcome *n = &c->native;
	uint64_t mask = c->compat ? 0xffffffff : ~UINT64_C(0);
	uint64_t seen = FLAGS_SEEN & ~c->unsure_flags;
	bool d = false;

	d |= differ(out, "vector", n->vector, i->vector);
	if (d)
		return false;
	for (unsigned int k = 0; k < (c->compat ? 8u : 16u); k++)
		d |= differ(out, gpr_names[k], n->m.gpr[k] & mask, i->m.gpr[k] & mask);
	d |= differ(out, "rip", n->m.rip & mask, i->m.rip & mask);
	d |= differ(out, "rflags", n->m.rflags & seen, i->m.rflags & seen);
	/* Linux says "protection violation" for all addresses not a program's. */
	if (n->vector != VEC_PF || n->cr2 < UINT64_C(0x7ffffffff000))
		d |= differ(out, "error", n->error, i->error);
	if (n->vector == VEC_PF)
		d |= differ(out, "cr2", n->cr2, i->cr2);
	d |= xstate_differs(n, &i->m.xs, out);
	if (!c->torn || n->vector == VEC_BP)
		d |= memory_differs(n->data, i->data, out);
	return !d;
}

void case_print(const struct testcase *c, uint64_t seed, FILE *out)
{
	enum insn_bits bits = c->compat ? INSN_32 : INSN_64;
	unsigned int at = 0;
	char text[128];

	fprintf(out, "case: --seed %" PRIu64 " --start %" PRIu64 " --count 1   (%s)\n", seed,
		c->index, c->compat ? "32-bit" : "64-bit");
	while (at < c->code_len) {
		struct x86_insn i;
		unsigned int len = c->code_len - at;

		if (insn_decode(c->code + at, MIN(len, 15u), bits, &i) < 0) {
			fprintf(out, "  (not decoded)\n");
			break;
		}
		insn_format(&i, c->in.rip + at, text, sizeof(text));
		fprintf(out, "  %" PRIx64 "  ", c->in.rip + at);
		for (unsigned int n = 0; n < i.len; n++)
			fprintf(out, "%02x", c->code[at + n]);
		fprintf(out, "  %s\n", text);
		at += i.len;
	}
	fprintf(out, "  native end: vector %u error %x cr2 %" PRIx64 " rip %" PRIx64 "\n",
		c->native.vector, c->native.error, c->native.cr2, c->native.m.rip);
	fprintf(out, "  in:");
	for (unsigned int n = 0; n < 16; n++)
		fprintf(out, " %s=%" PRIx64, gpr_names[n], c->in.gpr[n]);
	fprintf(out, " rflags=%" PRIx64 " mxcsr=%x fcw=%x fsw=%x ftw=%x\n", c->in.rflags,
		c->in.xs.mxcsr, c->in.xs.fcw, c->in.xs.fsw, c->in.xs.ftw);
}
