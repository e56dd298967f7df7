/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/gadget.c - executable memory for gadgets, and their code generator
 *
 * The memory is one memfd mapped twice, writable and executable, so that no mapping is ever both.
 *
 * A gadget is a function gadget(struct cpu *c, void *mem).  It keeps c in RDI and mem in RSI, uses
 * caller-saved registers only, and gives the instruction's operands these host registers:
 *
 *	general, named by ModRM.reg / ModRM.rm / VEX.vvvv    R8 / R9 / R10
 *	general, implicit (RAX, RCX, RDX)                    themselves
 *	vector                                               themselves
 *	memory                                               [RSI]
 *
 * so an instruction needs at most new REX or VEX bits and a new ModRM byte.  SDM vol. 2, chapter 2.
 */
#include "engine/interp/vec_priv.h"

#include <errno.h>
#include <sys/mman.h>

#define ARENA_SIZE (4u << 20)
#define HASH_BITS  15

struct gadget_arena {
	uint8_t *rw;
	const uint8_t *rx;
	uint32_t used;
	struct {
		uint32_t off, len;
	} hash[1 << HASH_BITS]; /* open addressing, len 0 = free */
};

int gadget_arena_new(struct gadget_arena **ret, struct err *e)
{
	struct gadget_arena *a = xnew(struct gadget_arena);
	autoclose int fd = memfd_create("insula-gadgets", MFD_CLOEXEC);
	void *rw, *rx;

	if (fd < 0 || ftruncate(fd, ARENA_SIZE) < 0) {
		free(a);
		return err_set(e, -errno, "memory for vector instructions");
	}
	rw = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	rx = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	a->rw = rw == MAP_FAILED ? NULL : rw;
	a->rx = rx == MAP_FAILED ? NULL : rx;
	if (!a->rw || !a->rx) {
		int r = err_set(e, -errno, "map executable memory for vector instructions");

		gadget_arena_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

void gadget_arena_free(struct gadget_arena *a)
{
	if (!a)
		return;
	if (a->rw)
		munmap(a->rw, ARENA_SIZE);
	if (a->rx)
		munmap((void *)(uintptr_t)a->rx, ARENA_SIZE);
	free(a);
}

void gadget_flush(struct gadget_arena *a)
{
	memset(a->hash, 0, sizeof(a->hash));
	a->used = 0;
}

bool gadget_contains(const struct gadget_arena *a, uintptr_t pc)
{
	return pc - (uintptr_t)a->rx < ARENA_SIZE;
}

gadget_fn *gadget_add(struct gadget_arena *a, const uint8_t *code, unsigned int len)
{
	uint32_t h = 0x811c9dc5, n;

	for (n = 0; n < len; n++)
		h = (h ^ code[n]) * 0x01000193;
	h ^= h >> 15;
	for (n = 0; n < 64; n++, h++) {
		uint32_t slot = h & ((1 << HASH_BITS) - 1), off = a->hash[slot].off;

		if (a->hash[slot].len == len && memcmp(a->rw + off, code, len) == 0)
			return (gadget_fn *)(uintptr_t)(a->rx + off);
		if (a->hash[slot].len)
			continue;
		off = ALIGN_UP(a->used, 32u);
		if (!range_ok(off, len, ARENA_SIZE))
			return NULL;
		memcpy(a->rw + off, code, len);
		a->hash[slot].off = off;
		a->hash[slot].len = len;
		a->used = off + len;
		return (gadget_fn *)(uintptr_t)(a->rx + off);
	}
	return NULL;
}

/* --- emitting --- */

enum host_reg {
	H_RAX = 0,
	H_RCX = 1,
	H_RDX = 2,
	H_RSI = 6,
	H_RDI = 7,
	H_R8 = 8,
	H_R9,
	H_R10,
	H_R11
};

struct emit {
	uint8_t *p;
};

static void byte(struct emit *m, unsigned int b)
{
	*m->p++ = (uint8_t)b;
}

static void bytes(struct emit *m, const char *s, unsigned int n)
{
	memcpy(m->p, s, n);
	m->p += n;
}

/* ModRM for [RDI + off] with @reg in the reg field. */
static void ctx_modrm(struct emit *m, unsigned int reg, size_t off)
{
	byte(m, 0x80 | (reg & 7) << 3 | H_RDI);
	store_le32(m->p, (uint32_t)off);
	m->p += 4;
}

/* MOV between a 64-bit register and the context: @op 8B load, 89 store. */
static void ctx_mov(struct emit *m, unsigned int op, unsigned int reg, size_t off)
{
	byte(m, 0x48 | (reg >> 3) << 2);
	byte(m, op);
	ctx_modrm(m, reg, off);
}

/* MOVUPS: @op 10 load, 11 store. */
static void ctx_movups(struct emit *m, unsigned int op, unsigned int reg, size_t off)
{
	if (reg & 8)
		byte(m, 0x44);
	byte(m, 0x0f);
	byte(m, op);
	ctx_modrm(m, reg, off);
}

/* VMOVUPS xmm: @op 10 load, 11 store. */
static void ctx_vmovups(struct emit *m, unsigned int op, unsigned int reg, size_t off)
{
	byte(m, 0xc5);
	byte(m, 0x78 | (reg & 8 ? 0 : 0x80));
	byte(m, op);
	ctx_modrm(m, reg, off);
}

/* Upper half of a YMM register: VINSERTF128 (@op 18) from, VEXTRACTF128 (19) to the context. */
static void ctx_upper(struct emit *m, unsigned int op, unsigned int reg, size_t off)
{
	byte(m, 0xc4);
	byte(m, 0x63 | (reg & 8 ? 0 : 0x80));
	/* W0, vvvv = the same register for the insert, unused (1111) for the extract, L1, 66 */
	byte(m, op == 0x18 ? (~reg & 15) << 3 | 5 : 0x7d);
	byte(m, op);
	ctx_modrm(m, reg, off);
	byte(m, 1);
}

#define XS(field) (offsetof(struct cpu, xs) + offsetof(struct cpu_xsave, field))

/* --- the instruction itself ---------------------------------------------------------------------
 */

/* What its fields become. */
struct fields {
	unsigned int reg, rm, vvvv; /* numbers for the new encoding */
	bool has_mem, rm_reg, size16, byte_high;
	uint8_t imm_is4;
	bool has_is4;
};

static bool is_vector(ZydisRegisterClass k)
{
	return k == ZYDIS_REGCLASS_XMM || k == ZYDIS_REGCLASS_YMM;
}

static bool is_gpr(ZydisRegisterClass k)
{
	return k == ZYDIS_REGCLASS_GPR8 || k == ZYDIS_REGCLASS_GPR16 || k == ZYDIS_REGCLASS_GPR32 ||
	       k == ZYDIS_REGCLASS_GPR64;
}

/* General-register instructions, where 66 is the operand size. */
static bool has_opsize(const ZydisDecodedInstruction *z)
{
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_POPCNT:
	case ZYDIS_MNEMONIC_LZCNT:
	case ZYDIS_MNEMONIC_TZCNT:
	case ZYDIS_MNEMONIC_CRC32:
	case ZYDIS_MNEMONIC_MOVBE:
	case ZYDIS_MNEMONIC_RDRAND:
	case ZYDIS_MNEMONIC_RDSEED:
		return true;
	default:
		return false;
	}
}

/* VEX.W is ignored outside 64-bit mode where it would select a 64-bit general register. */
static bool vex_w_is_gpr(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops)
{
	for (unsigned int n = 0; n < z->operand_count_visible; n++)
		if (ops[n].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    is_gpr(ZydisRegisterGetClass(ops[n].reg.value)))
			return true;
	if (z->opcode_map == ZYDIS_OPCODE_MAP_0F)
		return z->opcode == 0x6e || z->opcode == 0x2a ||
		       (z->opcode == 0x7e && z->raw.vex.pp == 1);
	/* VPEXTR, VPINSR; VPCMPESTRI and VPCMPESTRM take their lengths from EAX and EDX */
	return z->opcode_map == ZYDIS_OPCODE_MAP_0F3A &&
	       (z->opcode == 0x16 || z->opcode == 0x22 || z->opcode == 0x60 || z->opcode == 0x61);
}

static struct fields fields_of(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops)
{
	struct fields f = {.reg = z->raw.modrm.reg, .rm = z->raw.modrm.rm};

	for (unsigned int n = 0; n < z->operand_count; n++) {
		const ZydisDecodedOperand *o = &ops[n];
		ZydisRegisterClass k;
		unsigned int num;
		bool gpr;

		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			f.has_mem = true;
			f.size16 |= has_opsize(z) && o->size == 16;
			continue;
		}
		if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		k = ZydisRegisterGetClass(o->reg.value);
		gpr = is_gpr(k);
		if (!gpr && !is_vector(k) && k != ZYDIS_REGCLASS_MMX)
			continue;
		num = (unsigned int)ZydisRegisterGetId(o->reg.value);
		f.size16 |= has_opsize(z) && k == ZYDIS_REGCLASS_GPR16;
		if (o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
			f.reg = gpr ? H_R8 : num;
		else if (o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
			f.rm = gpr ? H_R9 : num;
		else if (o->encoding == ZYDIS_OPERAND_ENCODING_NDSNDD)
			f.vvvv = gpr ? H_R10 : num;
		else if (o->encoding == ZYDIS_OPERAND_ENCODING_IS4) {
			f.has_is4 = true;
			f.imm_is4 = (uint8_t)(num << 4 | (z->raw.imm[0].value.u & 15));
		}
	}
	return f;
}

static void emit_vex(struct emit *m, const ZydisDecodedInstruction *z, const struct fields *f,
		     bool clear_w)
{
	unsigned int w = clear_w ? 0 : z->raw.vex.W;

	byte(m, 0xc4);
	byte(m, (f->reg & 8 ? 0 : 0x80) | 0x40 | (!f->has_mem && (f->rm & 8) ? 0 : 0x20) |
		    z->raw.vex.m_mmmm);
	byte(m, w << 7 | (~f->vvvv & 15) << 3 | z->raw.vex.L << 2 | z->raw.vex.pp);
}

static void emit_legacy_prefixes(struct emit *m, const ZydisDecodedInstruction *z,
				 const struct fields *f)
{
	bool mandatory66 = false, wide = z->machine_mode == ZYDIS_MACHINE_MODE_LONG_64 &&
					 (z->attributes & ZYDIS_ATTRIB_HAS_REX) && z->raw.rex.W;
	uint8_t rep = 0;
	unsigned int rex;

	for (unsigned int n = 0; n < z->raw.prefix_count; n++) {
		if (z->raw.prefixes[n].type != ZYDIS_PREFIX_TYPE_MANDATORY)
			continue;
		if (z->raw.prefixes[n].value == 0x66)
			mandatory66 = true;
		else
			rep = z->raw.prefixes[n].value;
	}
	if (mandatory66 || f->size16)
		byte(m, 0x66);
	if (rep)
		byte(m, rep);
	rex = (wide ? 8 : 0) | (f->reg & 8 ? 4 : 0) | (!f->has_mem && (f->rm & 8) ? 1 : 0);
	if (rex)
		byte(m, 0x40 | rex);
}

static void emit_insn(struct emit *m, const ZydisDecodedInstruction *z,
		      const ZydisDecodedOperand *ops, const struct fields *f)
{
	if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
		bool long64 = z->machine_mode == ZYDIS_MACHINE_MODE_LONG_64;

		emit_vex(m, z, f, !long64 && vex_w_is_gpr(z, ops));
	} else {
		emit_legacy_prefixes(m, z, f);
		if (z->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)
			byte(m, 0x0f);
		if (z->opcode_map == ZYDIS_OPCODE_MAP_0F38)
			byte(m, 0x38);
		if (z->opcode_map == ZYDIS_OPCODE_MAP_0F3A)
			byte(m, 0x3a);
	}
	byte(m, z->opcode);
	if (z->attributes & ZYDIS_ATTRIB_HAS_MODRM) {
		if (f->has_mem)
			byte(m, (f->reg & 7) << 3 | H_RSI);
		else
			byte(m, 0xc0 | (f->reg & 7) << 3 | (f->rm & 7));
	}
	if (z->raw.imm[0].size) /* 8 bits, but for EXTRQ and the like, which are not offered */
		byte(m, f->has_is4 ? f->imm_is4 : (unsigned int)(z->raw.imm[0].value.u & 0xff));
}

/* --- operands -----------------------------------------------------------------------------------
 */

static unsigned int host_gpr(const ZydisDecodedOperand *o, unsigned int num)
{
	switch (o->encoding) {
	case ZYDIS_OPERAND_ENCODING_MODRM_REG:
		return H_R8;
	case ZYDIS_OPERAND_ENCODING_MODRM_RM:
		return H_R9;
	case ZYDIS_OPERAND_ENCODING_NDSNDD:
		return H_R10;
	default:
		return num; /* implicit: RAX, RCX, RDX */
	}
}

/* Guest number of a general register operand; @high set for AH..BH. */
static unsigned int gpr_number(const ZydisDecodedOperand *o, bool *high)
{
	ZydisRegister r = o->reg.value;

	*high = r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH;
	if (*high)
		return (unsigned int)(r - ZYDIS_REGISTER_AH);
	return (unsigned int)ZydisRegisterGetId(
	    ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, r));
}

static void load_gpr(struct emit *m, const ZydisDecodedOperand *o)
{
	bool high;
	unsigned int num = gpr_number(o, &high);

	/* AH..BH: the byte wanted comes to the bottom; only CRC32 reads one */
	ctx_mov(m, 0x8b, host_gpr(o, num), offsetof(struct cpu, gpr) + num * 8 + (high ? 1 : 0));
}

/* Whole registers come last: XMM2 and YMM2 may both be operands. */
static void load_operands(struct emit *m, const ZydisDecodedInstruction *z,
			  const ZydisDecodedOperand *ops, bool fx)
{
	bool vex = z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;

	for (unsigned int n = 0; n < 2u * z->operand_count; n++) {
		bool upper = n >= z->operand_count;
		const ZydisDecodedOperand *o = &ops[n % z->operand_count];
		ZydisRegisterClass k;
		unsigned int num;

		if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		k = ZydisRegisterGetClass(o->reg.value);
		num = (unsigned int)ZydisRegisterGetId(o->reg.value);
		if (is_gpr(k) && !upper) {
			load_gpr(m, o);
		} else if (is_vector(k) && !fx && upper == (k == ZYDIS_REGCLASS_YMM)) {
			if (vex)
				ctx_vmovups(m, 0x10, num, XS(xmm) + num * 16);
			else
				ctx_movups(m, 0x10, num, XS(xmm) + num * 16);
			if (upper)
				ctx_upper(m, 0x18, num, XS(ymmh) + num * 16);
		}
	}
}

static bool is_written(const ZydisDecodedOperand *o)
{
	return o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
}

/* ModRM.reg last: MULX with both destinations the same keeps the high half there. */
static void store_operands(struct emit *m, const ZydisDecodedInstruction *z,
			   const ZydisDecodedOperand *ops, bool fx)
{
	bool vex = z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX, high;

	for (unsigned int n = z->operand_count; n-- > 0;) {
		const ZydisDecodedOperand *o = &ops[n];
		ZydisRegisterClass k;
		unsigned int num;

		if (o->type != ZYDIS_OPERAND_TYPE_REGISTER || !is_written(o))
			continue;
		k = ZydisRegisterGetClass(o->reg.value);
		num = (unsigned int)ZydisRegisterGetId(o->reg.value);
		if (is_gpr(k)) {
			num = gpr_number(o, &high);
			ctx_mov(m, 0x89, host_gpr(o, num), offsetof(struct cpu, gpr) + num * 8);
		} else if (is_vector(k) && !fx) {
			if (vex) {
				ctx_vmovups(m, 0x11, num, XS(xmm) + num * 16);
				ctx_upper(m, 0x19, num, XS(ymmh) + num * 16);
			} else {
				ctx_movups(m, 0x11, num, XS(xmm) + num * 16);
			}
		}
	}
}

/* --- flags --------------------------------------------------------------------------------------
 */

static void emit_load_flags(struct emit *m)
{
	bytes(m, "\x44\x8b", 2); /* mov r11d, [rdi + rflags] */
	ctx_modrm(m, H_R11, offsetof(struct cpu, rflags));
	bytes(m, "\x41\x81\xe3\xd5\x08\0\0", 7); /* and r11d, FL_ARITH */
	bytes(m, "\x41\x53\x9d", 3);             /* push r11; popf */
}

/* Right after the instruction: flags to R11. */
static void emit_take_flags(struct emit *m)
{
	bytes(m, "\x9c\x41\x5b", 3); /* pushf; pop r11 */
}

static void emit_store_flags(struct emit *m)
{
	bytes(m, "\x41\x81\xe3\xd5\x08\0\0", 7); /* and r11d, FL_ARITH */
	byte(m, 0x81);                           /* and dword [rdi + rflags], ~FL_ARITH */
	ctx_modrm(m, 4, offsetof(struct cpu, rflags));
	store_le32(m->p, ~FL_ARITH);
	m->p += 4;
	bytes(m, "\x44\x09", 2); /* or [rdi + rflags], r11d */
	ctx_modrm(m, H_R11, offsetof(struct cpu, rflags));
}

unsigned int gadget_make(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
			 uint16_t flags, uint8_t *code)
{
	struct emit m = {code};
	struct fields f = fields_of(z, ops);
	const ZydisAccessedFlags *af = z->cpu_flags;
	uint32_t sure = af ? (af->modified | af->set_0 | af->set_1) & FL_ARITH : 0;
	uint32_t written = af ? sure | (af->undefined & FL_ARITH) : 0;
	uint32_t tested = af ? af->tested & FL_ARITH : 0;
	bool fx = flags & VOP_FX;

	if (fx) { /* fxrstor64 [rdi + xs] */
		bytes(&m, "\x48\x0f\xae", 3);
		ctx_modrm(&m, 1, offsetof(struct cpu, xs));
	} else if (flags & VOP_MXCSR) { /* ldmxcsr */
		bytes(&m, "\x0f\xae", 2);
		ctx_modrm(&m, 2, XS(mxcsr));
	}
	load_operands(&m, z, ops, fx);
	if (tested || (written && sure != FL_ARITH))
		emit_load_flags(&m);
	emit_insn(&m, z, ops, &f);
	if (written)
		emit_take_flags(&m);
	if (fx) { /* fxsave64 [rdi + xs]; fninit */
		bytes(&m, "\x48\x0f\xae", 3);
		ctx_modrm(&m, 0, offsetof(struct cpu, xs));
		bytes(&m, "\xdb\xe3", 2);
	} else if (flags & VOP_MXCSR) { /* stmxcsr */
		bytes(&m, "\x0f\xae", 2);
		ctx_modrm(&m, 3, XS(mxcsr));
	}
	store_operands(&m, z, ops, fx);
	if (written)
		emit_store_flags(&m);
	if (flags & VOP_UPPER)
		bytes(&m, "\xc5\xf8\x77", 3); /* vzeroupper */
	byte(&m, 0xc3);
	return (unsigned int)(m.p - code);
}
