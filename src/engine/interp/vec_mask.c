/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/vec_mask.c - instructions whose mask decides what memory is touched
 *
 * MASKMOVQ, MASKMOVDQU, VMASKMOV, VPMASKMOV, VGATHER, VPGATHER.  SDM vol. 2.
 */
#include "engine/interp/vec_priv.h"

/* --- bytes to [RDI] --- */

/*
 * The processor works on 8 bytes at a time, the high half first, and looks at all the memory of a
 * half, whatever its mask; only the alignment of MASKMOVDQU's low one does not count when its mask
 * is zero.
 */
static void mask_probe(struct ivcpu *v, uint64_t lin, const uint8_t *mask, unsigned int n)
{
	uint64_t low = load_le64(mask) & UINT64_C(0x8080808080808080);

	if (n == 16) {
		vec_check_ac(v, lin + 8, 8);
		lin_probe(v, lin + 8, 8, ACC_WRITE);
	}
	if (n == 8 || low)
		vec_check_ac(v, lin, 8);
	lin_probe(v, lin, 8, ACC_WRITE);
}

static void mask_store(struct ivcpu *v, const struct x86_insn *i, const uint8_t *data,
		       const uint8_t *mask, unsigned int n)
{
	unsigned int seg = i->prefixes & PFX_SEG ? i->seg : SEG_DS;
	uint64_t off = v->c.gpr[RDI], lin;

	if (i->addrsize < 8)
		off &= i->addrsize == 4 ? 0xffffffff : 0xffff;
	lin = seg_linear(v, seg, off, n, ACC_WRITE);
	mask_probe(v, lin, mask, n);
	for (unsigned int k = 0; k < n; k++)
		if (mask[k] & 0x80)
			lin_st8(v, lin + k, data[k]);
}

void vec_maskmovq(struct ivcpu *v, const struct x86_insn *i)
{
	struct cpu_xsave *xs = &v->c.xs;
	uint8_t data[8], mask[8];

	vec_check(v, CHECK_MMX);
	x87_wait(v);
	/* MMX registers are physical, cpu_xsave's stack is by ST number */
	memcpy(data, xs->st[((i->reg & 7) - (xs->fsw >> 11)) & 7], 8);
	memcpy(mask, xs->st[((i->rm & 7) - (xs->fsw >> 11)) & 7], 8);
	mmx_enter(&v->c);
	mask_store(v, i, data, mask, 8);
}

void vec_maskmovdqu(struct ivcpu *v, const struct x86_insn *i)
{
	vec_check(v, CHECK_SSE);
	mask_store(v, i, v->c.xs.xmm[i->reg], v->c.xs.xmm[i->rm], 16);
}

void vec_vmaskmovdqu(struct ivcpu *v, const struct x86_insn *i)
{
	vec_check(v, CHECK_AVX);
	mask_store(v, i, v->c.xs.xmm[i->reg], v->c.xs.xmm[i->rm], 16);
}

/* --- YMM registers as arrays --- */

static void ymm_get(struct cpu_xsave *xs, unsigned int reg, uint8_t buf[32])
{
	memcpy(buf, xs->xmm[reg], 16);
	memcpy(buf + 16, xs->ymmh[reg], 16);
}

static void ymm_set(struct cpu_xsave *xs, unsigned int reg, const uint8_t buf[32])
{
	memcpy(xs->xmm[reg], buf, 16);
	memcpy(xs->ymmh[reg], buf + 16, 16);
}

/* --- VMASKMOV, VPMASKMOV --- */

static bool element_on(const uint8_t *mask, unsigned int k, unsigned int size)
{
	return mask[k * size + size - 1] & 0x80;
}

/*
 * All of a store's faults.  One on the second of two pages is reported for the last byte of the
 * last element stored.
 */
static void mask_elements_probe(struct ivcpu *v, const struct x86_insn *i, const uint8_t *mask,
				unsigned int size, unsigned int len)
{
	uint64_t base = insn_ea(v, i), first = 0, last = 0;
	bool any = false;

	for (unsigned int k = 0; k < len / size; k++) {
		uint64_t lin;

		if (!element_on(mask, k, size))
			continue;
		lin = seg_linear_any(v, i->seg, base + k * size, size, ACC_WRITE);
		first = any ? first : lin;
		last = lin + size - 1;
		any = true;
	}
	if (!any)
		return;
	lin_probe(v, first, 1, ACC_WRITE);
	lin_probe(v, last, 1, ACC_WRITE);
}

void vec_vmaskmov(struct ivcpu *v, const struct x86_insn *i)
{
	/* PS: 2C load, 2E store; PD: 2D, 2F; VPMASKMOV: 8C load, 8E store, size by W */
	bool store = i->opcode == 0x8c ? false : i->opcode >= 0x2e;
	unsigned int size = (i->opcode & 0x80 ? i->prefixes & PFX_REXW : i->opcode & 1) ? 8 : 4;
	unsigned int len = i->vex_l ? 32 : 16, n = len / size, k;
	uint8_t mask[32], data[32] = {0};
	uint64_t base;

	vec_check(v, CHECK_AVX);
	ymm_get(&v->c.xs, i->vvvv, mask);
	/* each element is accessed on its own, those masked off not at all; no alignment checks */
	base = insn_ea(v, i);
	if (!store) {
		for (k = 0; k < n; k++)
			if (element_on(mask, k, size)) {
				uint64_t lin =
				    seg_linear_any(v, i->seg, base + k * size, size, ACC_READ);

				lin_read_any(v, lin, data + k * size, size);
			}
		ymm_set(&v->c.xs, i->reg, data);
		return;
	}
	ymm_get(&v->c.xs, i->reg, data);
	mask_elements_probe(v, i, mask, size, len);
	for (k = 0; k < n; k++)
		if (element_on(mask, k, size)) {
			lin_write_any(v,
				      seg_linear_any(v, i->seg, base + k * size, size, ACC_WRITE),
				      data + k * size, size);
		}
}

/* --- gathers --- */

static uint64_t gather_lin(struct ivcpu *v, const struct x86_insn *i, const struct gather *g,
			   unsigned int k)
{
	uint64_t off = (uint64_t)i->disp;
	int64_t index = g->index_size == 4 ? (int32_t)load_le32(g->index + k * 4)
					   : (int64_t)load_le64(g->index + k * 8);

	if (i->base != REG_NONE)
		off += v->c.gpr[i->base];
	off += (uint64_t)index * i->scale;
	if (i->addrsize == 4)
		off &= 0xffffffff;
	return seg_linear_any(v, i->seg, off, g->size, ACC_READ);
}

static void gather_loads(struct ivcpu *v, const struct x86_insn *i, struct gather *g)
{
	for (unsigned int k = 0; k < g->n; k++) {
		if (!element_on(g->mask, k, g->size))
			continue;
		lin_read_any(v, gather_lin(v, i, g, k), g->data + k * g->size, g->size);
		memset(g->mask + k * g->size, 0, g->size);
		g->loaded = true;
	}
}

/* VSIB's index register: a SIB index of 4 is a register too. */
static unsigned int vsib_index(const struct x86_insn *i)
{
	unsigned int index = i->raw[i->modrm_off + 1] >> 3 & 7;

	if (i->bits == INSN_64 && !(i->raw[i->opcode_off - 2] & 0x40))
		index |= 8;
	return index;
}

/*
 * At the end, what is above the last element is zero, and so is the mask.  After a fault the
 * elements before it are in the destination and gone from the mask, whose other elements have
 * become all ones or zeroes.
 */
static void gather_commit(struct ivcpu *v, const struct x86_insn *i, struct gather *g, bool all)
{
	unsigned int len = g->n * g->size, mask_len = i->vex_l ? 32 : 16;

	if (all)
		memset(g->data + len, 0, 32 - len);
	else if (g->loaded)
		memset(g->data + mask_len, 0, 32 - mask_len);
	for (unsigned int k = 0; k < mask_len / g->size; k++)
		memset(g->mask + k * g->size, element_on(g->mask, k, g->size) ? 0xff : 0, g->size);
	memset(g->mask + mask_len, 0, 32 - mask_len);
	if (all)
		memset(g->mask, 0, 32);
	ymm_set(&v->c.xs, i->reg, g->data);
	ymm_set(&v->c.xs, i->vvvv, g->mask);
}

void vec_gather(struct ivcpu *v, const struct x86_insn *i)
{
	/* 90 and 92 have 32-bit indices, 91 and 93 64-bit ones; W gives the element */
	struct gather *g = &vec_of(v)->gather; /* not a local: it must outlive a longjmp */
	unsigned int index = vsib_index(i);
	sigjmp_buf here, *outer = v->fault_jmp;

	vec_check(v, CHECK_AVX);
	if (i->reg == i->vvvv || i->reg == index || i->vvvv == index)
		raise_ud(v);
	g->loaded = false;
	g->size = i->prefixes & PFX_REXW ? 8 : 4;
	g->index_size = i->opcode & 1 ? 8 : 4;
	g->n = (i->vex_l ? 32 : 16) / MAX(g->size, g->index_size);
	ymm_get(&v->c.xs, i->reg, g->data);
	ymm_get(&v->c.xs, i->vvvv, g->mask);
	ymm_get(&v->c.xs, index, g->index);
	if (sigsetjmp(here, 0) == 0) {
		v->fault_jmp = &here;
		gather_loads(v, i, g);
		v->fault_jmp = outer;
		gather_commit(v, i, g, true);
		return;
	}
	v->fault_jmp = outer;
	if (!v->fault.is_exit) /* an exit starts the instruction again with its answers logged */
		gather_commit(v, i, g, false);
	siglongjmp(*outer, 1);
}
