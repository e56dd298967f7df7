/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/ops_string.c - MOVS, STOS, LODS, CMPS, SCAS, INS, OUTS and their REP forms
 *
 * Registers are right after every element, so that a fault, an exit or a kick can come between any
 * two: the instruction is then simply started again.  MOVS and STOS forward over plain RAM go by
 * whole pieces of pages; LODS, CMPS and SCAS by element.
 */
#include "engine/interp/hot.h"

#include <Zydis/Zydis.h>

struct str {
	unsigned int size; /* of an element */
	unsigned int asz;
	bool rep, back;
};

static struct str str_begin(struct ivcpu *v, const struct x86_insn *i)
{
	/* ECX as count clears the upper half of RCX, whatever happens then, but for INS and OUTS */
	if ((i->prefixes & (PFX_REP | PFX_REPNE)) && i->addrsize == 4 && i->opcode >= 0xa4)
		v->c.gpr[RCX] = (uint32_t)v->c.gpr[RCX];
	return (struct str){.size = i->opsize,
			    .asz = i->addrsize,
			    .rep = i->prefixes & (PFX_REP | PFX_REPNE),
			    .back = v->c.rflags & FL_DF};
}

static uint64_t str_reg(const struct ivcpu *v, const struct str *s, unsigned int r)
{
	return gpr_get(v, r, s->asz, true);
}

/* Index register @r moves by @n elements. */
static void str_advance(struct ivcpu *v, const struct str *s, unsigned int r, uint64_t n)
{
	uint64_t by = n * s->size;

	gpr_set(v, r, s->asz, true, v->c.gpr[r] + (s->back ? -by : by));
}

/* @n elements are done; true when the instruction goes on. */
static bool str_done(struct ivcpu *v, const struct str *s, uint64_t n)
{
	uint64_t left;

	if (!s->rep)
		return false;
	left = str_reg(v, s, RCX) - n;
	gpr_set(v, RCX, s->asz, true, left);
	replay_commit(v);
	if (!left)
		return false;
	/* Between two elements: leave for a kick, a trap flag, or code that we wrote over. */
	if (v->kicked || v->kick || (v->c.rflags & FL_TF) || v->data_bp) {
		v->next_rip = v->c.rip;
		v->stop = true;
		return false;
	}
	return true;
}

static bool str_empty(const struct ivcpu *v, const struct str *s)
{
	return s->rep && str_reg(v, s, RCX) == 0;
}

/* Elements from @off in @seg that one linear run holds: no limit or wrap in the way. */
static uint64_t bulk_room(const struct ivcpu *v, const struct str *s, unsigned int seg,
			  uint64_t off, uint64_t *lin)
{
	const struct cpu_segment *d = &v->c.seg[seg];
	uint64_t room;

	if (v->slow_data || s->back || (v->c.rflags & FL_TF)) /* TF: a trap after each element */
		return 0;
	if (v->mode == MODE_LONG) {
		*lin = seg >= SEG_FS ? d->base + off : off;
		if ((uint64_t)((int64_t)(*lin << 16) >> 16) != *lin)
			return 0;
	} else {
		if (d->limit != UINT32_MAX ||
		    (d->attr & (SEG_UNUSABLE | SEG_P | SEG_CODE | SEG_CONFORM | SEG_WRITE)) !=
			(SEG_P | SEG_WRITE))
			return 0;
		*lin = (uint32_t)(d->base + off);
	}
	room = 0x1000 - (*lin & 0xfff);
	if (s->asz == 2)
		room = MIN(room, 0x10000 - off);
	else if (s->asz == 4)
		room = MIN(room, BIT(32) - off);
	return room / s->size;
}

/* Ascending copy, element by element where the destination reads what was just written. */
static void bulk_copy(uint8_t *to, const uint8_t *from, size_t bytes, unsigned int size)
{
	if (to <= from || to >= from + bytes) {
		memmove(to, from, bytes);
		return;
	}
	for (size_t k = 0; k < bytes; k += size) {
		uint64_t x = 0;

		memcpy(&x, from + k, size);
		memcpy(to + k, &x, size);
	}
}

/* A piece of REP MOVS; elements done, 0 = take the slow way. */
static uint64_t movs_bulk(struct ivcpu *v, const struct str *s, unsigned int seg)
{
	uint64_t from, to, n = str_reg(v, s, RCX), pa;
	uint8_t *src, *dst;

	n = MIN(n, bulk_room(v, s, seg, str_reg(v, s, RSI), &from));
	if (n)
		n = MIN(n, bulk_room(v, s, SEG_ES, str_reg(v, s, RDI), &to));
	if (n < 2)
		return 0;
	src = bulk_host(v, from, ACC_READ, &pa);
	dst = bulk_host(v, to, ACC_WRITE, &pa);
	if (!src || !dst)
		return 0;
	bulk_copy(dst, src, n * s->size, s->size);
	if (pa != BULK_PLAIN)
		page_was_written(v, pa, (unsigned int)n * s->size);
	return n;
}

static void h_movs(struct ivcpu *v, const struct x86_insn *i)
{
	struct str s = str_begin(v, i);
	uint64_t n;

	if (str_empty(v, &s))
		return;
	do {
		n = s.rep ? movs_bulk(v, &s, i->seg) : 0;
		if (!n) {
			uint64_t from =
			    seg_linear(v, i->seg, str_reg(v, &s, RSI), s.size, ACC_READ);
			uint64_t x = lin_ld(v, from, s.size);
			uint64_t to = seg_linear(v, SEG_ES, str_reg(v, &s, RDI), s.size, ACC_WRITE);

			lin_st(v, to, s.size, x);
			n = 1;
		}
		str_advance(v, &s, RSI, n);
		str_advance(v, &s, RDI, n);
	} while (str_done(v, &s, n));
}

static void bulk_fill(uint8_t *to, uint64_t x, uint64_t n, unsigned int size)
{
	switch (size) {
	case 1:
		memset(to, (int)(x & 0xff), n);
		break;
	case 2:
		for (uint64_t k = 0; k < n; k++)
			((u16_ua *)to)[k] = (uint16_t)x;
		break;
	case 4:
		for (uint64_t k = 0; k < n; k++)
			((u32_ua *)to)[k] = (uint32_t)x;
		break;
	default:
		for (uint64_t k = 0; k < n; k++)
			((u64_ua *)to)[k] = x;
		break;
	}
}

static uint64_t stos_bulk(struct ivcpu *v, const struct str *s)
{
	uint64_t to, n = str_reg(v, s, RCX), pa, x = v->c.gpr[RAX];
	uint8_t *dst;

	n = MIN(n, bulk_room(v, s, SEG_ES, str_reg(v, s, RDI), &to));
	if (n < 2)
		return 0;
	dst = bulk_host(v, to, ACC_WRITE, &pa);
	if (!dst)
		return 0;
	bulk_fill(dst, x, n, s->size);
	if (pa != BULK_PLAIN)
		page_was_written(v, pa, (unsigned int)n * s->size);
	return n;
}

static void h_stos(struct ivcpu *v, const struct x86_insn *i)
{
	struct str s = str_begin(v, i);
	uint64_t n;

	if (str_empty(v, &s))
		return;
	do {
		n = s.rep ? stos_bulk(v, &s) : 0;
		if (!n) {
			lin_st(v, seg_linear(v, SEG_ES, str_reg(v, &s, RDI), s.size, ACC_WRITE),
			       s.size, v->c.gpr[RAX]);
			n = 1;
		}
		str_advance(v, &s, RDI, n);
	} while (str_done(v, &s, n));
}

static void h_lods(struct ivcpu *v, const struct x86_insn *i)
{
	struct str s = str_begin(v, i);

	if (str_empty(v, &s))
		return;
	do {
		uint64_t from = seg_linear(v, i->seg, str_reg(v, &s, RSI), s.size, ACC_READ);

		gpr_set(v, RAX, s.size, true, lin_ld(v, from, s.size));
		str_advance(v, &s, RSI, 1);
	} while (str_done(v, &s, 1));
}

/* RFLAGS after CMP a, b. */
static uint64_t compare(struct ivcpu *v, uint64_t a, uint64_t b, unsigned int size)
{
	uint32_t f;

	switch (size) {
	case 1:
		__asm__("cmpb %b2, %b1\n\tlahf\n\tseto %%al" : "=&a"(f) : "q"(a), "q"(b));
		break;
	case 2:
		__asm__("cmpw %w2, %w1\n\tlahf\n\tseto %%al" : "=&a"(f) : "q"(a), "q"(b));
		break;
	case 4:
		__asm__("cmpl %k2, %k1\n\tlahf\n\tseto %%al" : "=&a"(f) : "q"(a), "q"(b));
		break;
	default:
		__asm__("cmpq %2, %1\n\tlahf\n\tseto %%al" : "=&a"(f) : "q"(a), "q"(b));
		break;
	}
	return (v->c.rflags & ~(uint64_t)FL_ARITH) | flags_from_af((uint16_t)f);
}

/* Does REPE or REPNE end by these flags?  Flags are committed at the end only: a fault in a later
 * element shows those from before. */
static bool str_found(const struct x86_insn *i, const struct str *s, uint64_t flags)
{
	bool equal = flags & FL_ZF;

	return s->rep && (i->prefixes & PFX_REPNE ? equal : !equal);
}

static void h_cmps(struct ivcpu *v, const struct x86_insn *i)
{
	struct str s = str_begin(v, i);
	uint64_t flags;
	bool found, more;

	if (str_empty(v, &s))
		return;
	do {
		/* the processor reads [RDI] first, as CR2 shows when both fault */
		uint64_t to = seg_linear(v, SEG_ES, str_reg(v, &s, RDI), s.size, ACC_READ);
		uint64_t b = lin_ld(v, to, s.size);
		uint64_t from = seg_linear(v, i->seg, str_reg(v, &s, RSI), s.size, ACC_READ);

		flags = compare(v, lin_ld(v, from, s.size), b, s.size);
		str_advance(v, &s, RSI, 1);
		str_advance(v, &s, RDI, 1);
		found = str_found(i, &s, flags);
		if (found) {
			gpr_set(v, RCX, s.asz, true, str_reg(v, &s, RCX) - 1);
			break;
		}
		more = str_done(v, &s, 1);
	} while (more);
	v->c.rflags = flags;
}

static void h_scas(struct ivcpu *v, const struct x86_insn *i)
{
	struct str s = str_begin(v, i);
	uint64_t flags;
	bool more;

	if (str_empty(v, &s))
		return;
	do {
		uint64_t to = seg_linear(v, SEG_ES, str_reg(v, &s, RDI), s.size, ACC_READ);

		flags = compare(v, v->c.gpr[RAX], lin_ld(v, to, s.size), s.size);
		str_advance(v, &s, RDI, 1);
		if (str_found(i, &s, flags)) {
			gpr_set(v, RCX, s.asz, true, str_reg(v, &s, RCX) - 1);
			break;
		}
		more = str_done(v, &s, 1);
	} while (more);
	v->c.rflags = flags;
}

/* The destination is checked before the port is read: a port's answer must not get lost. */
static void h_ins(struct ivcpu *v, const struct x86_insn *i)
{
	struct str s = str_begin(v, i);
	uint16_t port = (uint16_t)v->c.gpr[RDX];

	io_check(v, port, s.size);
	if (str_empty(v, &s))
		return;
	do {
		uint64_t to = seg_linear(v, SEG_ES, str_reg(v, &s, RDI), s.size, ACC_WRITE);

		lin_probe(v, to, s.size, ACC_WRITE);
		lin_st(v, to, s.size, exit_io_read(v, port, s.size));
		str_advance(v, &s, RDI, 1);
	} while (str_done(v, &s, 1));
}

static void h_outs(struct ivcpu *v, const struct x86_insn *i)
{
	struct str s = str_begin(v, i);
	uint16_t port = (uint16_t)v->c.gpr[RDX];

	io_check(v, port, s.size);
	if (str_empty(v, &s))
		return;
	do {
		uint64_t from = seg_linear(v, i->seg, str_reg(v, &s, RSI), s.size, ACC_READ);

		exit_io_write(v, port, s.size, lin_ld(v, from, s.size));
		str_advance(v, &s, RSI, 1);
	} while (str_done(v, &s, 1));
}

struct slow_handler string_lookup(const struct ivcpu *v, const struct x86_insn *i)
{
	struct slow_handler h = {0};

	if (i->encoding != INSN_LEGACY || i->map != 0)
		return h;
	switch (i->opcode) {
	case 0xa4:
	case 0xa5:
		h.fn = h_movs;
		break;
	case 0xaa:
	case 0xab:
		h.fn = h_stos;
		break;
	case 0xac:
	case 0xad:
		h.fn = h_lods;
		break;
	case 0xa6:
	case 0xa7:
		h.fn = h_cmps;
		break;
	case 0xae:
	case 0xaf:
		h.fn = h_scas;
		break;
	case 0x6c:
	case 0x6d:
		h.fn = h_ins;
		break;
	case 0x6e:
	case 0x6f:
		h.fn = h_outs;
		break;
	}
	return h;
}
