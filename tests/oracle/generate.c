/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/oracle/generate.c - random instructions a user program may execute, aimed at the window
 *
 * Bytes are drawn by opcode map, decoded, and kept when Zydis knows them and they are repeatable:
 * nothing that reads clocks, identity or the kernel's tables, makes system calls, or may hang.
 */
#include "oracle.h"

const char *const family_names[FAM_COUNT] = {
    "all", "int", "string", "branch", "bmi", "x87", "mmx", "sse", "avx", "state",
};

void generator_init(struct generator *g, uint64_t seed)
{
	*g = (struct generator){.seed = seed, .max_insns = 3, .compat_percent = 20};
	ZydisDecoderInit(&g->dec64, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	ZydisDecoderInit(&g->dec32, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
}

/* --- bytes --- */

static unsigned int put_prefixes(struct rng *r, bool compat, uint8_t *p, bool sse, bool string)
{
	static const uint8_t segs[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
	unsigned int n = 0;

	if (rng_chance(r, 6))
		p[n++] = segs[rng_below(r, compat ? 4 : 6)];
	if (rng_chance(r, 4))
		p[n++] = 0x67;
	if (!sse && rng_chance(r, 4))
		p[n++] = 0xf0;
	if (sse ? rng_chance(r, 40) : rng_chance(r, 20))
		p[n++] = 0x66;
	if (rng_chance(r, sse ? 40 : string ? 60 : 8))
		p[n++] = rng_chance(r, 50) ? 0xf2 : 0xf3;
	if (!compat && rng_chance(r, 55))
		p[n++] = 0x40 | (rng_next(r) & 15);
	return n;
}

enum shape { SHAPE_ONE, SHAPE_0F, SHAPE_SSE, SHAPE_0F38, SHAPE_0F3A, SHAPE_VEX, SHAPE_X87 };

static enum shape pick_shape(struct rng *r, enum family f)
{
	static const uint8_t any[] = {SHAPE_ONE, SHAPE_ONE, SHAPE_ONE, SHAPE_0F,   SHAPE_0F,
				      SHAPE_SSE, SHAPE_SSE, SHAPE_SSE, SHAPE_0F38, SHAPE_0F3A,
				      SHAPE_VEX, SHAPE_VEX, SHAPE_VEX, SHAPE_X87,  SHAPE_X87};
	static const uint8_t ints[] = {SHAPE_ONE, SHAPE_ONE, SHAPE_0F};
	static const uint8_t sse[] = {SHAPE_SSE, SHAPE_SSE, SHAPE_0F38, SHAPE_0F3A};
	static const uint8_t bmi[] = {SHAPE_SSE, SHAPE_0F38, SHAPE_VEX};

	switch (f) {
	case FAM_INT:
	case FAM_BRANCH:
		return ints[rng_below(r, ARRAY_SIZE(ints))];
	case FAM_BMI:
		return bmi[rng_below(r, ARRAY_SIZE(bmi))];
	case FAM_X87:
		return SHAPE_X87;
	case FAM_MMX:
	case FAM_SSE:
		return sse[rng_below(r, ARRAY_SIZE(sse))];
	case FAM_AVX:
		return SHAPE_VEX;
	case FAM_STATE:
		return rng_chance(r, 50) ? SHAPE_X87 : SHAPE_0F;
	default:
		return any[rng_below(r, ARRAY_SIZE(any))];
	}
}

static unsigned int put_vex(struct rng *r, uint8_t *p)
{
	unsigned int map = 1 + rng_below(r, 3);
	uint64_t x = rng_next(r);

	if (map == 1 && (x & 0x300)) {
		p[0] = 0xc5;
		p[1] = (uint8_t)x;
		p[2] = (uint8_t)(x >> 16);
		return 3;
	}
	p[0] = 0xc4;
	p[1] = (uint8_t)((x & 0xe0) | map);
	p[2] = (uint8_t)(x >> 16);
	p[3] = (uint8_t)(x >> 24);
	return 4;
}

/* A prefix and an opcode; the rest of @p is random. */
static void put_random(struct rng *r, bool compat, enum family f, uint8_t p[16])
{
	static const uint8_t strings[] = {0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab,
					  0xac, 0xad, 0xae, 0xaf, 0x6c, 0x6f};
	enum shape s = f == FAM_STRING ? SHAPE_ONE : pick_shape(r, f);
	unsigned int n = 0;

	for (unsigned int k = 0; k < 16; k += 8)
		store_le64(p + k, rng_next(r));
	if (s == SHAPE_VEX) {
		n = rng_chance(r, 5) ? put_prefixes(r, true, p, false, false) : 0;
		n += put_vex(r, p + n);
	} else {
		n = put_prefixes(r, compat, p, s != SHAPE_ONE && s != SHAPE_X87, f == FAM_STRING);
		if (s == SHAPE_X87)
			p[n++] = 0xd8 | (uint8_t)rng_below(r, 8);
		else if (s != SHAPE_ONE)
			p[n++] = 0x0f;
		if (s == SHAPE_0F38)
			p[n++] = 0x38;
		if (s == SHAPE_0F3A)
			p[n++] = 0x3a;
		if (s == SHAPE_SSE) {
			static const uint8_t ranges[] = {0x10, 0x20, 0x50, 0x60, 0x70,
							 0xc0, 0xd0, 0xe0, 0xf0};

			p[n] = ranges[rng_below(r, ARRAY_SIZE(ranges))] | (p[n] & 15);
		}
		if (f == FAM_STRING)
			p[n] = strings[rng_below(r, ARRAY_SIZE(strings))];
		if (s != SHAPE_X87)
			n++;
	}
	if (n < 16 && rng_chance(r, 45))
		p[n] |= 0xc0; /* registers */
}

/* --- what is kept --- */

static bool ext_allowed(const ZydisDecodedInstruction *z)
{
	switch (z->meta.isa_ext) {
	case ZYDIS_ISA_EXT_BASE:
	case ZYDIS_ISA_EXT_LONGMODE:
	case ZYDIS_ISA_EXT_X87:
	case ZYDIS_ISA_EXT_MMX:
	case ZYDIS_ISA_EXT_SSE:
	case ZYDIS_ISA_EXT_SSE2:
	case ZYDIS_ISA_EXT_SSE3:
	case ZYDIS_ISA_EXT_SSSE3:
	case ZYDIS_ISA_EXT_SSE4:
	case ZYDIS_ISA_EXT_AES:
	case ZYDIS_ISA_EXT_PCLMULQDQ:
	case ZYDIS_ISA_EXT_SHA:
	case ZYDIS_ISA_EXT_GFNI:
	case ZYDIS_ISA_EXT_AVX:
	case ZYDIS_ISA_EXT_AVX2:
	case ZYDIS_ISA_EXT_AVX2GATHER:
	case ZYDIS_ISA_EXT_AVXAES:
	case ZYDIS_ISA_EXT_FMA:
	case ZYDIS_ISA_EXT_F16C:
	case ZYDIS_ISA_EXT_BMI1:
	case ZYDIS_ISA_EXT_BMI2:
	case ZYDIS_ISA_EXT_ADOX_ADCX:
	case ZYDIS_ISA_EXT_LZCNT:
	case ZYDIS_ISA_EXT_MOVBE:
	case ZYDIS_ISA_EXT_VAES:
	case ZYDIS_ISA_EXT_VPCLMULQDQ:
	case ZYDIS_ISA_EXT_PAUSE:
		return true;
	default:
		return false;
	}
}

/* Results that depend on time, the kernel, or which CPU this is; and what could leave the window.
 */
static bool mnemonic_allowed(const ZydisDecodedInstruction *z)
{
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_SYSCALL:
	case ZYDIS_MNEMONIC_SYSENTER:
	case ZYDIS_MNEMONIC_SYSEXIT:
	case ZYDIS_MNEMONIC_SYSRET:
	case ZYDIS_MNEMONIC_CPUID:
	case ZYDIS_MNEMONIC_RDTSC:
	case ZYDIS_MNEMONIC_RDPMC:
	case ZYDIS_MNEMONIC_SGDT:
	case ZYDIS_MNEMONIC_SIDT:
	case ZYDIS_MNEMONIC_SLDT:
	case ZYDIS_MNEMONIC_STR:
	case ZYDIS_MNEMONIC_SMSW:
	case ZYDIS_MNEMONIC_LAR:
	case ZYDIS_MNEMONIC_LSL:
	case ZYDIS_MNEMONIC_VERR:
	case ZYDIS_MNEMONIC_VERW:
	case ZYDIS_MNEMONIC_ARPL:
	case ZYDIS_MNEMONIC_LDS:
	case ZYDIS_MNEMONIC_LES:
	case ZYDIS_MNEMONIC_LFS:
	case ZYDIS_MNEMONIC_LGS:
	case ZYDIS_MNEMONIC_LSS:
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
	case ZYDIS_MNEMONIC_INT1:
	case ZYDIS_MNEMONIC_MONITOR:
	case ZYDIS_MNEMONIC_MWAIT:
	case ZYDIS_MNEMONIC_RSM:
		return false;
	case ZYDIS_MNEMONIC_INT:
		return z->raw.imm[0].value.u < 32;
	default:
		break;
	}
	if (z->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
		return false;
	return true;
}

static bool writes_segment(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *o)
{
	for (unsigned int n = 0; n < z->operand_count_visible; n++)
		if (o[n].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    ZydisRegisterGetClass(o[n].reg.value) == ZYDIS_REGCLASS_SEGMENT &&
		    (o[n].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			return true;
	return false;
}

static bool is_branch(const ZydisDecodedInstruction *z)
{
	return z->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE;
}

static bool is_string(const ZydisDecodedInstruction *z)
{
	return z->meta.category == ZYDIS_CATEGORY_STRINGOP ||
	       z->meta.category == ZYDIS_CATEGORY_IOSTRINGOP;
}

static enum family family_of(const ZydisDecodedInstruction *z)
{
	switch (z->meta.isa_ext) {
	case ZYDIS_ISA_EXT_BASE:
	case ZYDIS_ISA_EXT_LONGMODE:
	case ZYDIS_ISA_EXT_PAUSE:
		if (is_string(z))
			return FAM_STRING;
		return is_branch(z) ? FAM_BRANCH : FAM_INT;
	case ZYDIS_ISA_EXT_X87:
		return FAM_X87;
	case ZYDIS_ISA_EXT_MMX:
		return FAM_MMX;
	case ZYDIS_ISA_EXT_BMI1:
	case ZYDIS_ISA_EXT_BMI2:
	case ZYDIS_ISA_EXT_ADOX_ADCX:
	case ZYDIS_ISA_EXT_LZCNT:
	case ZYDIS_ISA_EXT_MOVBE:
		return FAM_BMI;
	default:
		break;
	}
	if (z->mnemonic == ZYDIS_MNEMONIC_CRC32 || z->mnemonic == ZYDIS_MNEMONIC_POPCNT)
		return FAM_BMI;
	return z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ? FAM_AVX : FAM_SSE;
}

static bool is_state(const ZydisDecodedInstruction *z)
{
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64:
	case ZYDIS_MNEMONIC_FXRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR64:
	case ZYDIS_MNEMONIC_FNSAVE:
	case ZYDIS_MNEMONIC_FRSTOR:
	case ZYDIS_MNEMONIC_FNSTENV:
	case ZYDIS_MNEMONIC_FLDENV:
	case ZYDIS_MNEMONIC_LDMXCSR:
	case ZYDIS_MNEMONIC_STMXCSR:
		return true;
	default:
		return false;
	}
}

static bool family_fits(enum family want, const ZydisDecodedInstruction *z)
{
	return want == FAM_ALL || want == family_of(z) || (want == FAM_STATE && is_state(z));
}

/* --- aiming --- */

static uint64_t gpr_value(const struct testcase *c, ZydisRegister reg)
{
	ZydisRegister big = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);

	return c->in.gpr[ZydisRegisterGetId(big)];
}

static void gpr_aim(struct testcase *c, ZydisRegister reg, uint64_t x)
{
	ZydisRegister big = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);

	c->in.gpr[ZydisRegisterGetId(big)] = c->compat ? (uint32_t)x : x;
}

static uint64_t pick_target(struct rng *r, unsigned int size, bool aligned)
{
	uint64_t a;
	uint32_t k = rng_below(r, 100);

	if (k < 55)
		a = DATA + rng_below(r, 480);
	else if (k < 85)
		a = DATA + 0xf80 + rng_below(r, 256);
	else if (k < 94)
		a = DATA + DATA_SIZE - size - rng_below(r, 64);
	else if (k < 98) /* into the guard page */
		a = DATA + DATA_SIZE - size + rng_below(r, size + 1);
	else
		a = DATA - rng_below(r, 16);
	if (aligned || rng_chance(r, 60))
		a &= ~(uint64_t)(size > 32   ? 63
				 : size > 16 ? 31
				 : size > 8  ? 15
				 : size > 4  ? 7
					     : 3);
	return a;
}

static uint64_t seg_base(const ZydisDecodedOperand *o)
{
	return o->mem.segment == ZYDIS_REGISTER_FS   ? FS_BASE
	       : o->mem.segment == ZYDIS_REGISTER_GS ? GS_BASE
						     : 0;
}

/* Small indices, so that gathers stay about the window. */
static void tame_vsib(struct rng *r, struct testcase *c, ZydisRegister index)
{
	unsigned int n = (unsigned int)ZydisRegisterGetId(index);
	bool wide = rng_chance(r, 50);

	for (unsigned int half = 0; half < 2; half++) {
		uint8_t *p = half ? c->in.xs.ymmh[n] : c->in.xs.xmm[n];

		for (unsigned int k = 0; k < 16; k += wide ? 8 : 4) {
			int64_t x = (int64_t)rng_below(r, 40) - 8;

			if (wide)
				store_le64(p + k, (uint64_t)x);
			else
				store_le32(p + k, (uint32_t)x);
		}
	}
}

/* Lets the memory operand @o of the instruction at @p meet the window. */
static void aim_operand(struct rng *r, struct testcase *c, const ZydisDecodedInstruction *z,
			const ZydisDecodedOperand *o, uint8_t *p, uint64_t rip)
{
	unsigned int size = o->size / 8;
	bool locked = (z->attributes & ZYDIS_ATTRIB_HAS_LOCK) || z->mnemonic == ZYDIS_MNEMONIC_XCHG;
	uint64_t want = pick_target(r, size ? size : 1, locked) - seg_base(o);
	uint64_t rest = (uint64_t)o->mem.disp.value;
	const uint8_t disp_size = z->raw.disp.size / 8;

	if (o->mem.type == ZYDIS_MEMOP_TYPE_VSIB) {
		tame_vsib(r, c, o->mem.index);
	} else if (o->mem.index != ZYDIS_REGISTER_NONE) {
		if (o->mem.index == o->mem.base)
			return;
		if (rng_chance(r, 80))
			gpr_aim(c, o->mem.index, rng_below(r, 1000));
		rest += gpr_value(c, o->mem.index) * o->mem.scale;
	}
	if (o->mem.base == ZYDIS_REGISTER_RIP || o->mem.base == ZYDIS_REGISTER_EIP) {
		store_le32(p + z->raw.disp.offset, (uint32_t)(want - rip - z->length));
	} else if (o->mem.base != ZYDIS_REGISTER_NONE) {
		gpr_aim(c, o->mem.base, want - rest);
	} else if (disp_size >= 4) {
		want -= rest - (uint64_t)o->mem.disp.value;
		memcpy(p + z->raw.disp.offset, &want, disp_size);
	}
}

/* Operands no ModRM byte shows: strings, stack, XLAT, MASKMOV; and counts that would take long. */
static void aim_implicit(struct rng *r, struct testcase *c, const ZydisDecodedInstruction *z,
			 const ZydisDecodedOperand *o)
{
	if (is_string(z) || z->mnemonic == ZYDIS_MNEMONIC_MASKMOVQ ||
	    z->mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU || z->mnemonic == ZYDIS_MNEMONIC_VMASKMOVDQU) {
		gpr_aim(c, ZYDIS_REGISTER_RSI, pick_target(r, 32, false));
		gpr_aim(c, ZYDIS_REGISTER_RDI, pick_target(r, 32, false));
		if (rng_chance(r, 95))
			gpr_aim(c, ZYDIS_REGISTER_RCX, rng_below(r, 40));
	}
	if (z->mnemonic == ZYDIS_MNEMONIC_XLAT)
		gpr_aim(c, ZYDIS_REGISTER_RBX, DATA + rng_below(r, 512));
	if (z->meta.category == ZYDIS_CATEGORY_RET || z->mnemonic == ZYDIS_MNEMONIC_LEAVE)
		gpr_aim(c, ZYDIS_REGISTER_RBP, DATA + 0x900 + rng_below(r, 64) * 8);
	/* bit offsets reach far: keep most of them near */
	if (z->meta.category == ZYDIS_CATEGORY_BITBYTE && z->operand_count_visible == 2 &&
	    o[1].type == ZYDIS_OPERAND_TYPE_REGISTER && o[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
	    rng_chance(r, 95)) {
		uint64_t x = gpr_value(c, o[1].reg.value);

		gpr_aim(c, o[1].reg.value, (uint64_t)((int64_t)(x << 53) >> 53));
	}
}

/* --- one instruction --- */

/* The window is small: a direct branch must leave the code just made (a few instructions: there are
 * none in longer runs), or it may never end. */
static bool branch_is_safe(const ZydisDecodedInstruction *z)
{
	if (!is_branch(z) || !z->raw.imm[0].is_relative)
		return true;
	return z->raw.imm[0].value.s > 96 || z->raw.imm[0].value.s < -192;
}

static bool wanted(enum family f, const ZydisDecodedInstruction *z, const ZydisDecodedOperand *o)
{
	return family_fits(f, z) && ext_allowed(z) && mnemonic_allowed(z) &&
	       !writes_segment(z, o) && branch_is_safe(z);
}

/* Instructions after the first find registers changed: they may use memory only RIP-relative. */
static bool fits_later(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *o)
{
	for (unsigned int n = 0; n < z->operand_count; n++)
		if (o[n].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    (o[n].visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN ||
		     o[n].mem.base != ZYDIS_REGISTER_RIP))
			return false;
	return !(z->attributes & ZYDIS_ATTRIB_HAS_LOCK) && !is_branch(z);
}

static bool is_rotate(const ZydisDecodedInstruction *z)
{
	return z->mnemonic == ZYDIS_MNEMONIC_ROL || z->mnemonic == ZYDIS_MNEMONIC_ROR ||
	       z->mnemonic == ZYDIS_MNEMONIC_RCL || z->mnemonic == ZYDIS_MNEMONIC_RCR;
}

static void aim(struct rng *r, struct testcase *c, const ZydisDecodedInstruction *z,
		const ZydisDecodedOperand *o, uint8_t *p, uint64_t rip)
{
	aim_implicit(r, c, z, o);
	for (unsigned int n = 0; n < z->operand_count; n++)
		if (o[n].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    o[n].visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN && rng_chance(r, 97))
			aim_operand(r, c, z, &o[n], p, rip);
	/* which of a dot product's steps raise is not modelled once exceptions are unmasked */
	if (z->mnemonic == ZYDIS_MNEMONIC_DPPS || z->mnemonic == ZYDIS_MNEMONIC_DPPD ||
	    z->mnemonic == ZYDIS_MNEMONIC_VDPPS || z->mnemonic == ZYDIS_MNEMONIC_VDPPD)
		c->in.xs.mxcsr |= 0x1f80;
	/* the host stores 80 bits as 64 and 16 */
	if (z->meta.isa_ext == ZYDIS_ISA_EXT_X87 && z->operand_count &&
	    o[0].type == ZYDIS_OPERAND_TYPE_MEMORY && o[0].size == 80)
		c->torn = true;
	/* the host's microcode leaves frames of nested ENTERs half made when they fault */
	if (z->mnemonic == ZYDIS_MNEMONIC_ENTER) {
		c->torn = true;
		c->in.rflags &= ~(uint64_t)FL_AC;
	}
	/* OF of rotates by an immediate above 1 is undefined, and other than by CL on some hosts */
	if (is_rotate(z) && (z->opcode == 0xc0 || z->opcode == 0xc1))
		c->unsure_flags |= FL_OF;
	/* 64-bit hosts' programs cannot execute these: they are written out, undefined flags differ
	 */
	if (z->meta.category == ZYDIS_CATEGORY_DECIMAL && z->cpu_flags)
		c->unsure_flags |= z->cpu_flags->undefined;
	/* POPF and the like would trace */
	if (z->meta.category == ZYDIS_CATEGORY_POP || z->mnemonic == ZYDIS_MNEMONIC_POPF ||
	    z->mnemonic == ZYDIS_MNEMONIC_POPFD || z->mnemonic == ZYDIS_MNEMONIC_POPFQ) {
		uint64_t off = c->in.gpr[RSP] - DATA;

		if (off < DATA_SIZE)
			c->data[(off + 1) & (DATA_SIZE - 1)] &= 0xfe;
	}
}

static unsigned int make_insn(const struct generator *g, struct rng *r, struct testcase *c,
			      unsigned int at, bool first)
{
	const ZydisDecoder *d = c->compat ? &g->dec32 : &g->dec64;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction z;
	/* what follows may be anything: few of some families can */
	enum family family = first || g->runs ? g->family : FAM_ALL;
	uint8_t p[16];

	for (unsigned int tries = 0; tries < 10000; tries++) {
		if (g->fixed) {
			memcpy(p, g->fixed, MIN(g->fixed_len, 15u));
			if (ZYAN_FAILED(ZydisDecoderDecodeFull(d, p, g->fixed_len, &z, o)))
				return 0;
		} else {
			put_random(r, c->compat, family, p);
			if (ZYAN_FAILED(ZydisDecoderDecodeFull(d, p, 15, &z, o)) ||
			    !wanted(family, &z, o) || (!first && !fits_later(&z, o)))
				continue;
		}
		aim(r, c, &z, o, p, CODE + c->code_off + at);
		memcpy(c->code + at, p, z.length);
		return z.length;
	}
	return 0;
}

/* How many instructions, in how many of which nothing may go wrong early. */
static unsigned int run_length(const struct generator *g, struct rng *r, struct testcase *c)
{
	if (!g->runs)
		return rng_chance(r, 75) ? 1 : 1 + rng_below(r, g->max_insns);
	if (rng_chance(r, 80)) {
		c->in.xs.mxcsr |= 0x1f80;
		c->in.xs.fcw |= 0x3f;
		c->in.xs.fsw &= 0x7f00;
	}
	return 1 + rng_below(r, g->max_insns);
}

void generate_case(const struct generator *g, uint64_t index, struct testcase *c)
{
	unsigned int count;
	struct rng r;

	rng_seed(&r, g->seed, index);
	c->index = index;
	c->skipped = c->torn = false;
	c->unsure_flags = 0;
	c->compat = rng_chance(&r, g->compat_percent);
	c->code_off = (uint16_t)(0x400 + rng_below(&r, 0x800));
	c->code_len = 0;
	random_state(&r, c);
	count = run_length(g, &r, c);
	/* nothing may use flags that are unsure */
	for (unsigned int n = 0; n < count && !c->unsure_flags && c->code_len + 15 <= CASE_CODE_MAX;
	     n++)
		c->code_len += (uint16_t)make_insn(g, &r, c, c->code_len, !g->runs && n == 0);
	if (rng_chance(&r, 2)) /* the end of the code is on the next, missing page */
		c->code_off = (uint16_t)(CODE_SIZE - rng_below(&r, c->code_len + 1u));
	else if (rng_chance(&r, 5)) /* over the end of the first page */
		c->code_off = (uint16_t)(CODE_SIZE / 2 - rng_below(&r, c->code_len + 1u));
	c->in.rip = CODE + c->code_off;
}
