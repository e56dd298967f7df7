/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/insn.c - instructions that the host executes as they are
 *
 * The same opcode is written with other registers: guest RCX is in R10, guest R10 and R11 are
 * fetched to a scratch register and stored back, the memory operand is at [R11 + RCX] once it is
 * checked.  An instruction that needs more scratch registers than there are is left alone.
 *
 * Nothing of the guest's changes before the one host instruction that does the work, so that a
 * fault of it finds the state before.
 */
#include "engine/jit/jit_priv.h"

/* Where each operand of the instruction at work is. */
struct plain {
	const ZydisDecodedOperand *mem;                  /* NULL = none, or not accessed */
	const ZydisDecodedOperand *reg, *rm, *vvvv, *op; /* register operands by encoding */
	bool high;                                       /* AH to BH: no REX may be needed */
	bool rcx, rcx_write;                             /* guest RCX has to be in host RCX */
	unsigned int n_far;                              /* operands in guest R10 and R11, */
	unsigned int far[2];                             /* which, */
	unsigned int far_host[2];
	bool far_read[2], far_write[2];
	bool sse, avx, x87;
};

static bool is_integer(ZydisMnemonic m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_MOV:
	case ZYDIS_MNEMONIC_MOVZX:
	case ZYDIS_MNEMONIC_MOVSX:
	case ZYDIS_MNEMONIC_MOVSXD:
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_ADC:
	case ZYDIS_MNEMONIC_SUB:
	case ZYDIS_MNEMONIC_SBB:
	case ZYDIS_MNEMONIC_AND:
	case ZYDIS_MNEMONIC_OR:
	case ZYDIS_MNEMONIC_XOR:
	case ZYDIS_MNEMONIC_CMP:
	case ZYDIS_MNEMONIC_TEST:
	case ZYDIS_MNEMONIC_NOT:
	case ZYDIS_MNEMONIC_NEG:
	case ZYDIS_MNEMONIC_INC:
	case ZYDIS_MNEMONIC_DEC:
	case ZYDIS_MNEMONIC_SHL:
	case ZYDIS_MNEMONIC_SHR:
	case ZYDIS_MNEMONIC_SAR:
	case ZYDIS_MNEMONIC_ROL:
	case ZYDIS_MNEMONIC_ROR:
	case ZYDIS_MNEMONIC_RCL:
	case ZYDIS_MNEMONIC_RCR:
	case ZYDIS_MNEMONIC_SHLD:
	case ZYDIS_MNEMONIC_SHRD:
	case ZYDIS_MNEMONIC_MUL:
	case ZYDIS_MNEMONIC_IMUL:
	case ZYDIS_MNEMONIC_DIV:
	case ZYDIS_MNEMONIC_IDIV:
	case ZYDIS_MNEMONIC_CBW:
	case ZYDIS_MNEMONIC_CWDE:
	case ZYDIS_MNEMONIC_CDQE:
	case ZYDIS_MNEMONIC_CWD:
	case ZYDIS_MNEMONIC_CDQ:
	case ZYDIS_MNEMONIC_CQO:
	case ZYDIS_MNEMONIC_XCHG:
	case ZYDIS_MNEMONIC_CMPXCHG:
	case ZYDIS_MNEMONIC_CMPXCHG8B:
	case ZYDIS_MNEMONIC_CMPXCHG16B:
	case ZYDIS_MNEMONIC_XADD:
	case ZYDIS_MNEMONIC_BSWAP:
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
	case ZYDIS_MNEMONIC_BSF:
	case ZYDIS_MNEMONIC_BSR:
	case ZYDIS_MNEMONIC_CMC:
	case ZYDIS_MNEMONIC_CLC:
	case ZYDIS_MNEMONIC_STC:
	case ZYDIS_MNEMONIC_LAHF:
	case ZYDIS_MNEMONIC_SAHF:
	case ZYDIS_MNEMONIC_MFENCE:
	case ZYDIS_MNEMONIC_LFENCE:
	case ZYDIS_MNEMONIC_SFENCE:
	case ZYDIS_MNEMONIC_MOVNTI:
		return true;
	default:
		return false;
	}
}

/* Does nothing that a guest can see. */
static bool is_nop(const struct tr *t)
{
	switch (t->z->mnemonic) {
	case ZYDIS_MNEMONIC_NOP:
	case ZYDIS_MNEMONIC_ENDBR64:
	case ZYDIS_MNEMONIC_ENDBR32:
	case ZYDIS_MNEMONIC_PREFETCHNTA:
	case ZYDIS_MNEMONIC_PREFETCHT0:
	case ZYDIS_MNEMONIC_PREFETCHT1:
	case ZYDIS_MNEMONIC_PREFETCHT2:
	case ZYDIS_MNEMONIC_PREFETCHW:
		return !(t->z->attributes & ZYDIS_ATTRIB_HAS_LOCK);
	default:
		return false;
	}
}

static bool is_wanted(const struct tr *t)
{
	const struct uop *u = t->u;

	if (u->fn == op_ud || u->fn == op_slow_end || lockstep_is_chance(t))
		return false;
	if (u->fn == op_slow && u->slow == vec_exec)
		return true;
	/* In 32-bit code they leave registers 8 to 15 alone. */
	if (t->z->mnemonic == ZYDIS_MNEMONIC_VZEROUPPER ||
	    t->z->mnemonic == ZYDIS_MNEMONIC_VZEROALL)
		return t->wide;
	return is_integer(t->z->mnemonic) || t->z->meta.category == ZYDIS_CATEGORY_CMOV ||
	       t->z->meta.category == ZYDIS_CATEGORY_SETCC;
}

bool tr_is_gpr(ZydisRegister r)
{
	switch (ZydisRegisterGetClass(r)) {
	case ZYDIS_REGCLASS_GPR8:
	case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64:
		return true;
	default:
		return false;
	}
}

static bool is_high(ZydisRegister r)
{
	return r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH;
}

unsigned int tr_gpr_of(ZydisRegister r)
{
	return (unsigned int)ZydisRegisterGetId(
	    ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, r));
}

static bool writes(const ZydisDecodedOperand *o)
{
	return o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
}

/* Is what the register held before still in it, or part of what is, or looked at? */
static bool reads(const struct tr *t, const ZydisDecodedOperand *o)
{
	return !(o->actions & ZYDIS_OPERAND_ACTION_WRITE) ||
	       (o->actions & ZYDIS_OPERAND_ACTION_MASK_READ) || o->size < 32 ||
	       t->z->mnemonic == ZYDIS_MNEMONIC_BSF || t->z->mnemonic == ZYDIS_MNEMONIC_BSR;
}

static bool note_far(const struct tr *t, struct plain *p, unsigned int g,
		     const ZydisDecodedOperand *o)
{
	unsigned int i = 0;

	while (i < p->n_far && p->far[i] != g)
		i++;
	if (i == 2)
		return false;
	if (i == p->n_far) {
		p->far[i] = g;
		p->n_far++;
	}
	p->far_read[i] |= reads(t, o);
	p->far_write[i] |= writes(o);
	return true;
}

static bool note_gpr(const struct tr *t, struct plain *p, const ZydisDecodedOperand *o)
{
	unsigned int g = tr_gpr_of(o->reg.value);

	switch (o->encoding) {
	case ZYDIS_OPERAND_ENCODING_MODRM_REG:
	case ZYDIS_OPERAND_ENCODING_MODRM_RM:
	case ZYDIS_OPERAND_ENCODING_NDSNDD:
	case ZYDIS_OPERAND_ENCODING_OPCODE:
		p->high |= is_high(o->reg.value);
		return jit_host(g) != HOST_MEM || note_far(t, p, g, o);
	default:
		break;
	}
	if (g == RCX) {
		p->rcx = true;
		p->rcx_write |= writes(o);
		return true;
	}
	return g == RAX || g == RDX || g == RBX;
}

static bool note_register(const struct tr *t, struct plain *p, const ZydisDecodedOperand *o)
{
	switch (ZydisRegisterGetClass(o->reg.value)) {
	case ZYDIS_REGCLASS_GPR8:
	case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64:
		if (!note_gpr(t, p, o))
			return false;
		break;
	case ZYDIS_REGCLASS_X87:
	case ZYDIS_REGCLASS_MMX:
		p->x87 = true;
		break;
	case ZYDIS_REGCLASS_XMM:
		p->sse = true;
		break;
	case ZYDIS_REGCLASS_YMM:
		p->avx = true;
		break;
	case ZYDIS_REGCLASS_FLAGS:
		return true;
	default:
		if (o->reg.value == ZYDIS_REGISTER_MXCSR)
			return true;
		if (o->reg.value >= ZYDIS_REGISTER_X87CONTROL &&
		    o->reg.value <= ZYDIS_REGISTER_X87TAG) {
			p->x87 = true;
			return true;
		}
		return false;
	}
	switch (o->encoding) {
	case ZYDIS_OPERAND_ENCODING_MODRM_REG:
		p->reg = o;
		break;
	case ZYDIS_OPERAND_ENCODING_MODRM_RM:
		p->rm = o;
		break;
	case ZYDIS_OPERAND_ENCODING_NDSNDD:
		p->vvvv = o;
		break;
	case ZYDIS_OPERAND_ENCODING_OPCODE:
		p->op = o;
		break;
	default:
		break;
	}
	return true;
}

static bool survey(const struct tr *t, struct plain *p)
{
	for (unsigned int i = 0; i < t->z->operand_count; i++) {
		const ZydisDecodedOperand *o = &t->ops[i];

		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			if (p->mem || o->visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT ||
			    o->mem.type != ZYDIS_MEMOP_TYPE_MEM || o->size > 256 || !o->size)
				return false;
			if (!t->wide && !t->u->flat)
				return false;
			p->mem = o;
		} else if (o->type == ZYDIS_OPERAND_TYPE_REGISTER) {
			if (!note_register(t, p, o))
				return false;
		} else if (o->type != ZYDIS_OPERAND_TYPE_IMMEDIATE) {
			return false;
		}
		if (!t->wide && o->encoding == ZYDIS_OPERAND_ENCODING_IS4)
			return false; /* its top bit would count */
	}
	/* W has no meaning for general registers in 32-bit code, but would have in 64-bit code. */
	if (!t->wide && t->z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && t->z->raw.vex.W)
		return false;
	p->x87 |= t->z->meta.category == ZYDIS_CATEGORY_X87_ALU ||
		  t->z->meta.category == ZYDIS_CATEGORY_MMX;
	/* MXCSR is enough to need. */
	p->sse |=
	    t->z->meta.isa_ext >= ZYDIS_ISA_EXT_SSE && t->z->meta.isa_ext <= ZYDIS_ISA_EXT_SSSE3;
	if (t->z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && (p->sse || p->avx))
		p->avx = true;
	p->avx |= t->z->mnemonic == ZYDIS_MNEMONIC_VZEROUPPER ||
		  t->z->mnemonic == ZYDIS_MNEMONIC_VZEROALL;
	if (p->high) { /* RCX in its own place, so that no REX is needed */
		p->rcx = p->rcx_write = true;
		if (p->n_far)
			return false;
	}
	/* A bit string: the register also says where in memory. */
	if (p->mem && p->reg && t->z->meta.category == ZYDIS_CATEGORY_BITBYTE &&
	    t->z->mnemonic != ZYDIS_MNEMONIC_BSF && t->z->mnemonic != ZYDIS_MNEMONIC_BSR &&
	    t->z->mnemonic >= ZYDIS_MNEMONIC_BT && t->z->mnemonic <= ZYDIS_MNEMONIC_BTS)
		return false;
	return p->n_far + p->rcx <= (p->mem ? 1u : 2u) &&
	       !(p->mem && p->high && p->rcx_write && p->reg &&
		 tr_gpr_of(p->reg->reg.value) == RCX);
}

/* --- state that comes when it is needed --- */

static void need(struct tr *t, bool *ready, int32_t out, uint32_t stub)
{
	uint8_t *in;

	if (*ready)
		return;
	t->t1 = -1;
	emit_load8(&t->e, HOST_T0, rm_gs(out));
	in = emit_jrcxz(&t->e);
	/* LEA R11, behind the jump: MOV ECX and JMP are 10 bytes. */
	emit8(&t->e, 0x4c);
	emit8(&t->e, 0x8d);
	emit8(&t->e, 0x1d);
	emit32(&t->e, 10);
	emit_mov_imm32(&t->e, HOST_T0, jit_uop_code(t->j, t->u));
	emit_jmp(&t->e, stub);
	emit_here(&t->e, in);
	*ready = true;
}

static void need_state(struct tr *t, const struct plain *p)
{
	if (p->x87 && !t->x87_ready) {
		need(t, &t->x87_ready, GS(jx.x87_out), t->j->load_x87);
		emit_load(&t->e, HOST_T1, rm_gs(GS(page_rip)));
		emit_store(&t->e, HOST_T1, rm_gs(GS(jx.x87_page)));
	}
	if (p->avx) {
		need(t, &t->avx_ready, GS(jx.avx_out), t->j->load_avx);
		t->sse_ready = true;
	} else if (p->sse) {
		need(t, &t->sse_ready, GS(jx.sse_out), t->j->load_sse);
	}
}

/* --- writing it --- */

static unsigned int host_of(const struct tr *t, const struct plain *p, ZydisRegister r)
{
	unsigned int g, h;

	if (!tr_is_gpr(r))
		return (unsigned int)ZydisRegisterGetId(r);
	if (is_high(r))
		return 4u + (unsigned int)(r - ZYDIS_REGISTER_AH);
	g = tr_gpr_of(r);
	if (g == RCX && p->high)
		return RCX;
	h = jit_host(g);
	if (h != HOST_MEM)
		return h;
	return p->far[0] == g ? p->far_host[0] : p->far_host[1];
}

/* Offset of the first byte behind opcode, ModRM, SIB and displacement. */
static unsigned int tail_at(const ZydisDecodedInstruction *z)
{
	if (z->raw.disp.size)
		return z->raw.disp.offset + z->raw.disp.size / 8u;
	if (z->attributes & ZYDIS_ATTRIB_HAS_SIB)
		return z->raw.sib.offset + 1u;
	if (z->attributes & ZYDIS_ATTRIB_HAS_MODRM)
		return z->raw.modrm.offset + 1u;
	return z->raw.imm[0].size ? z->raw.imm[0].offset : z->length;
}

static void emit_tail(struct tr *t, unsigned int from)
{
	for (unsigned int i = from; i < t->z->length; i++)
		emit8(&t->e, t->raw[i]);
}

static struct form form_of(const struct tr *t, const struct plain *p)
{
	const ZydisDecodedInstruction *z = t->z;
	bool lock = z->attributes & ZYDIS_ATTRIB_HAS_LOCK;
	struct form f = {.map = (uint8_t)z->opcode_map, .opcode = z->opcode};

	if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
		f.vex = true;
		f.w = z->raw.vex.W;
		f.l = z->raw.vex.L;
		f.pp = z->raw.vex.pp;
		f.vvvv = p->vvvv ? (uint8_t)host_of(t, p, p->vvvv->reg.value) : 0;
		return f;
	}
	/* Of each once, the last of F2 and F3. */
	if (t->i->prefixes & PFX_OPSIZE)
		f.prefix[f.n_prefix++] = 0x66;
	if (lock)
		f.prefix[f.n_prefix++] = 0xf0;
	else if (t->i->prefixes & (PFX_REP | PFX_REPNE))
		f.prefix[f.n_prefix++] = t->i->prefixes & PFX_REP ? 0xf3 : 0xf2;
	f.rex = z->attributes & ZYDIS_ATTRIB_HAS_REX;
	f.w = f.rex && z->raw.rex.W;
	if (z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && z->opcode == 0x82)
		f.opcode = 0x80; /* its alias in 32-bit code */
	return f;
}

/* MOV between the accumulator and an absolute address: with ModRM instead. */
static bool is_moffs(const struct tr *t)
{
	return t->z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && t->z->opcode >= 0xa0 &&
	       t->z->opcode <= 0xa3 && t->z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;
}

static void write_insn(struct tr *t, const struct plain *p, struct rm mem)
{
	struct form f = form_of(t, p);
	unsigned int reg, op;
	struct rm rm = mem;

	if (is_moffs(t)) {
		f.opcode = (uint8_t)(0x88 | (~t->z->opcode & 2) | (t->z->opcode & 1));
		emit_insn(&t->e, &f, RAX, &rm);
		return;
	}
	if (p->op && t->z->opcode >= 0x40 && t->z->opcode <= 0x4f && !t->wide) {
		f.opcode = 0xff;
		rm = rm_reg(host_of(t, p, p->op->reg.value));
		emit_insn(&t->e, &f, t->z->opcode >> 3 & 1, &rm);
		return;
	}
	if (!(t->z->attributes & ZYDIS_ATTRIB_HAS_MODRM)) {
		op = p->op ? host_of(t, p, p->op->reg.value) : 0;
		if (f.vex) { /* VZEROUPPER, VZEROALL */
			emit_tail(t, 0);
			return;
		}
		for (unsigned int i = 0; i < f.n_prefix; i++)
			emit8(&t->e, f.prefix[i]);
		if (f.rex || op & 8)
			emit8(&t->e, 0x40u | (f.w ? 8u : 0) | (op & 8 ? 1u : 0));
		if (f.map)
			emit8(&t->e, 0x0f);
		emit8(&t->e, p->op ? (t->z->opcode & ~7u) | (op & 7) : t->z->opcode);
		emit_tail(t, tail_at(t->z));
		return;
	}
	reg = p->reg ? host_of(t, p, p->reg->reg.value) : t->z->raw.modrm.reg;
	if (!p->mem)
		rm = rm_reg(p->rm ? host_of(t, p, p->rm->reg.value) : t->z->raw.modrm.rm);
	emit_insn(&t->e, &f, reg, &rm);
	emit_tail(t, tail_at(t->z));
}

/* Frees RCX. */
static struct rm folded(struct tr *t, struct rm rm)
{
	emit_lea(&t->e, HOST_T1, rm);
	return rm_base(HOST_T1, 0);
}

static struct rm operand_in_memory(struct tr *t, const struct plain *p)
{
	bool lock =
	    (t->z->attributes & ZYDIS_ATTRIB_HAS_LOCK) || (t->z->mnemonic == ZYDIS_MNEMONIC_XCHG);
	struct rm rm = tr_operand(t, p->mem->size / 8u, writes(p->mem), lock);

	if (p->high) {
		emit_lea(&t->e, HOST_T0, rm);
		return rm_base(HOST_T0, 0);
	}
	if (rm.index == HOST_T0 && (p->n_far || p->rcx))
		return folded(t, rm);
	return rm;
}

static bool do_lea(struct tr *t)
{
	unsigned int g = tr_gpr_of(t->ops[0].reg.value), h = jit_host(g);
	struct form f = {.opcode = 0x89, .w = t->z->operand_width == 64};
	struct rm rm;

	if (t->i->addrsize == 8 && t->z->operand_width >= 32 && h != HOST_MEM) {
		tr_lea(t, f.w, h);
		return true;
	}
	tr_address(t, true);
	if (t->z->operand_width == 16) {
		f.prefix[0] = 0x66;
		f.n_prefix = 1;
	}
	if (h == HOST_MEM) {
		if (t->z->operand_width == 16)
			emit_load(&t->e, HOST_T0, rm_gs(GS_GPR(g)));
		rm = rm_reg(HOST_T0);
		emit_insn(&t->e, &f, HOST_T1, &rm);
		emit_store(&t->e, HOST_T0, rm_gs(GS_GPR(g)));
	} else {
		rm = rm_reg(h);
		emit_insn(&t->e, &f, HOST_T1, &rm);
	}
	return true;
}

bool tr_is_plain(const struct tr *t)
{
	struct plain p = {0};

	if (is_nop(t) || t->z->mnemonic == ZYDIS_MNEMONIC_LEA)
		return true;
	return is_wanted(t) && survey(t, &p);
}

bool tr_plain(struct tr *t)
{
	struct plain p = {0};
	struct rm mem = {0};
	bool held;

	if (is_nop(t)) {
		t->t1_kept = true;
		return true;
	}
	if (t->z->mnemonic == ZYDIS_MNEMONIC_LEA && t->u->fn != op_ud)
		return t->i->addrsize > 2 && do_lea(t);
	if (!is_wanted(t) || !survey(t, &p))
		return false;
	need_state(t, &p);
	if (p.mem)
		mem = operand_in_memory(t, &p);
	t->t1_kept = p.mem ? tr_in_group(t, &t->of[t->k].operand) : p.n_far == 0;
	held = p.mem && p.high; /* the address is in RCX */
	for (unsigned int i = 0; i < p.n_far; i++) {
		p.far_host[i] = p.mem || i == 1 ? HOST_T0 : HOST_T1;
		if (p.far_read[i])
			emit_load(&t->e, p.far_host[i], rm_gs(GS_GPR(p.far[i])));
	}
	if (p.rcx && !held)
		emit_mov(&t->e, RCX, R10);
	write_insn(t, &p, mem);
	if (t->z->meta.category == ZYDIS_CATEGORY_X87_ALU &&
	    p.mem) { /* FDP: now that nothing can keep it from being executed */
		tr_address(t, true);
		emit_store(&t->e, HOST_T1, rm_gs(GS(jx.fdp)));
		t->t1_kept = false;
	}
	for (unsigned int i = 0; i < p.n_far; i++) {
		if (p.far_write[i])
			emit_store(&t->e, p.far_host[i], rm_gs(GS_GPR(p.far[i])));
	}
	if (p.rcx_write && !held)
		emit_mov(&t->e, R10, RCX);
	return true;
}
