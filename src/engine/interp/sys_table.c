/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/sys_table.c - descriptor-table registers and selector tests (SDM vol. 2)
 */
#include "engine/interp/sys.h"

static void require_umip(struct ivcpu *v)
{
	if ((v->c.cr4 & CR4_UMIP) && v->cpl > 0)
		raise_gp(v, 0);
}

static void require_protected(struct ivcpu *v)
{
	if (!is_protected(v))
		raise_ud(v);
}

/* --- GDTR, IDTR ---------------------------------------------------------------------------------
 */

static void store_table(struct ivcpu *v, const struct x86_insn *i, const struct cpu_table *t)
{
	unsigned int size = v->mode == MODE_LONG ? 8 : 4;
	uint8_t buf[10];

	require_umip(v);
	store_le16(buf, t->limit);
	store_le64(buf + 2, t->base);
	lin_write(v, insn_lin(v, i, 2 + size, ACC_WRITE), buf, 2 + size);
}

static void load_table(struct ivcpu *v, const struct x86_insn *i, struct cpu_table *t)
{
	unsigned int size = v->mode == MODE_LONG ? 8 : 4;
	struct cpu_table new = {0};
	uint8_t buf[10] = {0};

	require_cpl0(v);
	lin_read(v, insn_lin(v, i, 2 + size, ACC_READ), buf, 2 + size);
	new.limit = load_le16(buf);
	new.base = size == 8 ? load_le64(buf + 2) : load_le32(buf + 2);
	if (size == 4 && i->opsize == 2)
		new.base &= 0xffffff;
	if (!canonical(new.base))
		raise_gp(v, 0);
	*t = new;
}

void sys_sgdt(struct ivcpu *v, const struct x86_insn *i)
{
	store_table(v, i, &v->c.gdtr);
}

void sys_sidt(struct ivcpu *v, const struct x86_insn *i)
{
	store_table(v, i, &v->c.idtr);
}

void sys_lgdt(struct ivcpu *v, const struct x86_insn *i)
{
	load_table(v, i, &v->c.gdtr);
}

void sys_lidt(struct ivcpu *v, const struct x86_insn *i)
{
	load_table(v, i, &v->c.idtr);
}

/* --- LDTR, TR -----------------------------------------------------------------------------------
 */

/* SLDT, STR, SMSW: 16 bits to memory, the whole operand size to a register. */
static void store_word(struct ivcpu *v, const struct x86_insn *i, uint64_t x)
{
	if (i->mod == 3)
		gpr_set(v, i->rm, i->opsize, true, x);
	else
		rm_set(v, i, 2, (uint16_t)x);
}

void sys_sldt(struct ivcpu *v, const struct x86_insn *i)
{
	require_protected(v);
	require_umip(v);
	store_word(v, i, v->c.ldtr.sel);
}

void sys_str(struct ivcpu *v, const struct x86_insn *i)
{
	require_protected(v);
	require_umip(v);
	store_word(v, i, v->c.tr.sel);
}

void sys_lldt(struct ivcpu *v, const struct x86_insn *i)
{
	require_protected(v);
	require_cpl0(v);
	ldtr_load(v, (uint16_t)rm_get(v, i, 2), VEC_GP);
}

void sys_ltr(struct ivcpu *v, const struct x86_insn *i)
{
	struct cpu_segment tr;
	struct desc d;
	unsigned int type;
	uint16_t sel;

	require_protected(v);
	require_cpl0(v);
	sel = (uint16_t)rm_get(v, i, 2);
	if (SEL_NULL(sel))
		raise_gp(v, 0);
	if ((sel & SEL_LDT) || !desc_read(v, sel, &d) || !desc_is_system(&d))
		raise_gp(v, SEL_ERR(sel));
	type = desc_type(&d);
	if (type != DESC_TSS32 && (type != DESC_TSS16 || is_long(v)))
		raise_gp(v, SEL_ERR(sel));
	if (!(desc_attr(&d) & SEG_P))
		raise_fault_error(v, VEC_NP, SEL_ERR(sel));
	if (is_long(v))
		desc_read_high(v, sel, &d);
	tr = desc_system_segment(v, &d, sel);
	tr.attr |= DESC_BUSY;
	sys_st(v, d.lin + 5, 1, ((d.raw >> 40) & 0xff) | DESC_BUSY);
	v->c.tr = tr;
}

void sys_smsw(struct ivcpu *v, const struct x86_insn *i)
{
	require_umip(v);
	store_word(v, i, v->c.cr0);
}

/* --- LAR, LSL, VERR, VERW, ARPL ------------------------------------------------------------------
 */

static void set_zf(struct ivcpu *v, bool on)
{
	v->c.rflags = (v->c.rflags & ~(uint64_t)FL_ZF) | (on ? FL_ZF : 0);
}

/* May the current level, with the selector's RPL, see this segment at all? */
static bool visible(struct ivcpu *v, uint16_t sel, struct desc *d)
{
	uint32_t attr;

	if (SEL_NULL(sel) || !desc_read(v, sel, d))
		return false;
	attr = desc_attr(d);
	if ((attr & (SEG_S | SEG_CODE | SEG_CONFORM)) == (SEG_S | SEG_CODE | SEG_CONFORM))
		return true;
	return v->cpl <= SEG_DPL(attr) && SEL_RPL(sel) <= SEG_DPL(attr);
}

void sys_lar(struct ivcpu *v, const struct x86_insn *i)
{
	/* Types valid for LAR: TSS, LDT, call and task gates; in long mode 2, 9, 11, 12. */
	const uint32_t legacy = 0x1a3e, longm = 0x1a04;
	struct desc d;
	uint16_t sel;
	bool ok;

	require_protected(v);
	sel = (uint16_t)rm_get(v, i, 2);
	ok = visible(v, sel, &d);
	if (ok && desc_is_system(&d))
		ok = ((is_long(v) ? longm : legacy) >> desc_type(&d)) & 1;
	if (ok)
		gpr_set(v, i->reg, i->opsize, true, (d.raw >> 32) & 0x00ffff00);
	set_zf(v, ok);
}

void sys_lsl(struct ivcpu *v, const struct x86_insn *i)
{
	/* As LAR, without the gates. */
	const uint32_t legacy = 0x0a0e, longm = 0x0a04;
	struct desc d;
	uint16_t sel;
	bool ok;

	require_protected(v);
	sel = (uint16_t)rm_get(v, i, 2);
	ok = visible(v, sel, &d);
	if (ok && desc_is_system(&d))
		ok = ((is_long(v) ? longm : legacy) >> desc_type(&d)) & 1;
	if (ok)
		gpr_set(v, i->reg, i->opsize, true, desc_segment(&d, sel).limit);
	set_zf(v, ok);
}

static void verify(struct ivcpu *v, const struct x86_insn *i, bool write)
{
	struct desc d;
	uint32_t attr;
	uint16_t sel;
	bool ok;

	require_protected(v);
	sel = (uint16_t)rm_get(v, i, 2);
	ok = visible(v, sel, &d) && !desc_is_system(&d);
	if (ok) {
		attr = desc_attr(&d) & (SEG_CODE | SEG_WRITE);
		/* The same bit means writable for data, readable for code. */
		ok = write ? attr == SEG_WRITE : attr != SEG_CODE;
	}
	set_zf(v, ok);
}

void sys_verr(struct ivcpu *v, const struct x86_insn *i)
{
	verify(v, i, false);
}

void sys_verw(struct ivcpu *v, const struct x86_insn *i)
{
	verify(v, i, true);
}

void sys_arpl(struct ivcpu *v, const struct x86_insn *i)
{
	uint16_t dst, src;
	bool lower;

	require_protected(v);
	dst = (uint16_t)rm_get(v, i, 2);
	src = (uint16_t)gpr_get(v, i->reg, 2, true);
	lower = SEL_RPL(dst) < SEL_RPL(src);
	if (lower)
		rm_set(v, i, 2, (dst & ~3u) | SEL_RPL(src));
	set_zf(v, lower);
}
