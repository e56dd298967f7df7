/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/lockstep_report.c - all that is known about a difference
 */
#include "engine/jit/lockstep_priv.h"

#include "base/log.h"
#include "base/strbuf.h"

#include <inttypes.h>
#include <stdio.h>

static void add_insn(struct strbuf *s, ZydisMachineMode mode, ZydisStackWidth width, uint64_t at,
		     const uint8_t *raw, size_t size, unsigned int *len)
{
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction z;
	ZydisFormatter f;
	ZydisDecoder d;
	char text[128] = "?";

	*len = 1;
	ZydisDecoderInit(&d, mode, width);
	ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
	if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, raw, size, &z, ops))) {
		*len = z.length;
		ZydisFormatterFormatInstruction(&f, &z, ops, z.operand_count_visible, text,
						sizeof(text), at, NULL);
	}
	strbuf_printf(s, "  %16" PRIx64 "  ", at);
	for (unsigned int k = 0; k < INSN_MAX_LEN; k++)
		strbuf_printf(s, k < *len ? "%02x" : "  ", raw[k < *len ? k : 0]);
	strbuf_printf(s, " %s\n", text);
}

/* What the interpreter executed, the last it can tell. */
static void add_path(struct strbuf *s, const struct ivcpu *v)
{
	const struct lockstep *l = v->lockstep;
	unsigned int from = l->n_steps > 48 ? l->n_steps - 48 : 0, len;
	bool wide = v->bits == INSN_64;

	for (unsigned int k = from; k < l->n_steps; k++) {
		const struct lockstep_insn *i = &l->path[k % LOCKSTEP_PATH];

		add_insn(s, wide ? ZYDIS_MACHINE_MODE_LONG_64 : ZYDIS_MACHINE_MODE_LEGACY_32,
			 wide ? ZYDIS_STACK_WIDTH_64 : ZYDIS_STACK_WIDTH_32, i->rip, i->raw, i->len,
			 &len);
	}
}

/* The guest's block and the host's code for it. */
static void add_block(struct strbuf *s, const struct ivcpu *v, const struct block *b)
{
	const struct jit *j = v->jit;
	bool wide = v->bits == INSN_64;
	unsigned int len;

	strbuf_puts(s, "the block:\n");
	for (unsigned int k = 0; k < b->n; k++)
		add_insn(s, wide ? ZYDIS_MACHINE_MODE_LONG_64 : ZYDIS_MACHINE_MODE_LEGACY_32,
			 wide ? ZYDIS_STACK_WIDTH_64 : ZYDIS_STACK_WIDTH_32,
			 v->lockstep->page_rip + b->u[k].off, b->raw + (b->u[k].off - b->u[0].off),
			 b->u[k].len, &len);
	strbuf_puts(s, "its code, without what seldom runs:\n");
	for (uint32_t at = b->code->start; at < b->code->end; at += len)
		add_insn(s, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64, at, j->rw + at,
			 b->code->end - at, &len);
}

static void add_vectors(struct strbuf *s, const struct cpu *a, const struct cpu *b)
{
	const uint8_t *x = (const uint8_t *)&a->xs, *y = (const uint8_t *)&b->xs;

	for (size_t k = 0; k < sizeof(a->xs); k++) {
		if (x[k] != y[k])
			strbuf_printf(s, "XSAVE area, byte %zu: code %02x, interpreter %02x\n", k,
				      x[k], y[k]);
	}
}

static void add_pages(struct strbuf *s, const struct lockstep *l)
{
	for (unsigned int k = 0; k < l->n_pages; k++) {
		const struct lockstep_page *p = &l->page[k];
		unsigned int told = 0;

		for (unsigned int i = 0; i < GMEM_PAGE_SIZE && told < 16; i++) {
			if (p->code[i] == p->interp[i])
				continue;
			strbuf_printf(s,
				      "memory at %#" PRIx64 " (physical %#" PRIx64
				      "): was %02x, code %02x, interpreter %02x\n",
				      p->lin + i, p->pa + i, p->before[i], p->code[i],
				      p->interp[i]);
			told++;
		}
	}
}

static void log_lines(char *text)
{
	for (char *save, *line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save))
		log_error("lock-step: %s", line);
}

void lockstep_report(const struct ivcpu *v, const struct block *b, uint32_t at,
		     struct vm_exit *exit)
{
	const struct lockstep *l = v->lockstep;
	autostrbuf struct strbuf s = {0};

	strbuf_printf(&s,
		      "code at %#x, entered at %#" PRIx64 ", came to %#" PRIx64
		      " after %u jumps; the interpreter %s after %u instructions\n",
		      at, l->start.rip, l->code.rip, l->budget, l->ended, l->n_steps);
	if (l->stray)
		strbuf_printf(&s, "page that code did not touch: %#" PRIx64 "\n", l->stray_lin);
	strbuf_puts(&s, "state before:\n");
	cpu_dump(&l->start, &s);
	strbuf_puts(&s, "what the interpreter executed:\n");
	add_path(&s, v);
	strbuf_puts(&s, "state that code left:\n");
	cpu_dump(&l->code, &s);
	strbuf_puts(&s, "state of the interpreter when it was there last:\n");
	cpu_dump(&l->interp, &s);
	add_vectors(&s, &l->code, &l->interp);
	add_pages(&s, l);
	if (b->code)
		add_block(&s, v, b);
	log_lines(s.data);
	*exit = (struct vm_exit){.reason = EXIT_ERROR};
	snprintf(exit->err, sizeof(exit->err),
		 "lock-step: translated code entered at %#" PRIx64
		 " does other than the interpreter, see the log",
		 l->start.rip);
}
