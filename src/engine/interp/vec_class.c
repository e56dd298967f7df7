/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/vec_class.c - what an instruction of the vector unit is: feature, legality, operand
 *
 * From Zydis' description of the instruction; only what that does not know is listed here.
 */
#include "engine/interp/vec_priv.h"

/* --- CPU model ----------------------------------------------------------------------------------
 */

static const struct {
	uint8_t feature;
	uint32_t leaf;
	uint8_t reg, bit; /* reg 0-3 = EAX, EBX, ECX, EDX */
} feature_bits[] = {
    {VF_FPU, 1, 3, 0},      {VF_MMX, 1, 3, 23},
    {VF_FXSR, 1, 3, 24},    {VF_SSE, 1, 3, 25},
    {VF_SSE2, 1, 3, 26},    {VF_SSE3, 1, 2, 0},
    {VF_PCLMUL, 1, 2, 1},   {VF_SSSE3, 1, 2, 9},
    {VF_FMA, 1, 2, 12},     {VF_SSE41, 1, 2, 19},
    {VF_SSE42, 1, 2, 20},   {VF_MOVBE, 1, 2, 22},
    {VF_POPCNT, 1, 2, 23},  {VF_AES, 1, 2, 25},
    {VF_XSAVE, 1, 2, 26},   {VF_AVX, 1, 2, 28},
    {VF_F16C, 1, 2, 29},    {VF_RDRAND, 1, 2, 30},
    {VF_BMI1, 7, 1, 3},     {VF_AVX2, 7, 1, 5},
    {VF_BMI2, 7, 1, 8},     {VF_RDSEED, 7, 1, 18},
    {VF_ADX, 7, 1, 19},     {VF_SHA, 7, 1, 29},
    {VF_GFNI, 7, 2, 8},     {VF_VAES, 7, 2, 9},
    {VF_VPCLMUL, 7, 2, 10}, {VF_LZCNT, 0x80000001, 2, 5},
};

uint64_t vec_features(const struct cpu_model *m)
{
	uint64_t f = BIT(VF_ALWAYS);
	uint32_t r[4];

	for (unsigned int n = 0; n < ARRAY_SIZE(feature_bits); n++) {
		cpu_model_query(m, 0, 0, 0, feature_bits[n].leaf, 0, r);
		if (r[feature_bits[n].reg] >> feature_bits[n].bit & 1)
			f |= BIT(feature_bits[n].feature);
	}
	if (f & BIT(VF_XSAVE)) {
		cpu_model_query(m, 0, 0, 0, 13, 1, r);
		f |= r[0] & 1 ? BIT(VF_XSAVEOPT) : 0;
		f |= r[0] & 2 ? BIT(VF_XSAVEC) : 0;
	}
	return f;
}

static const struct {
	uint16_t set; /* ZydisISASet */
	uint8_t feature;
} set_features[] = {
    {ZYDIS_ISA_SET_X87, VF_FPU},
    {ZYDIS_ISA_SET_FCMOV, VF_FPU},
    {ZYDIS_ISA_SET_SSE3X87, VF_SSE3},
    {ZYDIS_ISA_SET_PENTIUMMMX, VF_MMX},
    {ZYDIS_ISA_SET_FXSAVE, VF_FXSR},
    {ZYDIS_ISA_SET_FXSAVE64, VF_FXSR},
    {ZYDIS_ISA_SET_SSE, VF_SSE},
    {ZYDIS_ISA_SET_SSEMXCSR, VF_SSE},
    {ZYDIS_ISA_SET_SSE2, VF_SSE2},
    {ZYDIS_ISA_SET_SSE2MMX, VF_SSE2},
    {ZYDIS_ISA_SET_SSE3, VF_SSE3},
    {ZYDIS_ISA_SET_SSSE3, VF_SSSE3},
    {ZYDIS_ISA_SET_SSSE3MMX, VF_SSSE3},
    {ZYDIS_ISA_SET_SSE4, VF_SSE41},
    {ZYDIS_ISA_SET_SSE42, VF_SSE42},
    {ZYDIS_ISA_SET_POPCNT, VF_POPCNT},
    {ZYDIS_ISA_SET_AES, VF_AES},
    {ZYDIS_ISA_SET_PCLMULQDQ, VF_PCLMUL},
    {ZYDIS_ISA_SET_SHA, VF_SHA},
    {ZYDIS_ISA_SET_GFNI, VF_GFNI},
    {ZYDIS_ISA_SET_AVX_GFNI, VF_GFNI},
    {ZYDIS_ISA_SET_AVX, VF_AVX},
    {ZYDIS_ISA_SET_AVXAES, VF_AES},
    {ZYDIS_ISA_SET_AVX2, VF_AVX2},
    {ZYDIS_ISA_SET_AVX2GATHER, VF_AVX2},
    {ZYDIS_ISA_SET_FMA, VF_FMA},
    {ZYDIS_ISA_SET_F16C, VF_F16C},
    {ZYDIS_ISA_SET_VAES, VF_VAES},
    {ZYDIS_ISA_SET_VPCLMULQDQ, VF_VPCLMUL},
    {ZYDIS_ISA_SET_BMI1, VF_BMI1},
    {ZYDIS_ISA_SET_BMI2, VF_BMI2},
    {ZYDIS_ISA_SET_ADOX_ADCX, VF_ADX},
    {ZYDIS_ISA_SET_MOVBE, VF_MOVBE},
    {ZYDIS_ISA_SET_LZCNT, VF_LZCNT},
    {ZYDIS_ISA_SET_RDRAND, VF_RDRAND},
    {ZYDIS_ISA_SET_RDSEED, VF_RDSEED},
    {ZYDIS_ISA_SET_XSAVE, VF_XSAVE},
    {ZYDIS_ISA_SET_XSAVEOPT, VF_XSAVEOPT},
    {ZYDIS_ISA_SET_XSAVEC, VF_XSAVEC},
};

/* FISTTP is SSE3's, but an x87 instruction all the same. */
static bool is_x87(const ZydisDecodedInstruction *z)
{
	return z->meta.isa_ext == ZYDIS_ISA_EXT_X87 || z->mnemonic == ZYDIS_MNEMONIC_FISTTP;
}

enum vec_feature vec_feature_of(const ZydisDecodedInstruction *z)
{
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_TZCNT: /* without BMI1 and LZCNT, BSF and BSR: so the host does too */
	case ZYDIS_MNEMONIC_LZCNT:
		return VF_ALWAYS;
	case ZYDIS_MNEMONIC_FWAIT:
		return VF_ALWAYS;
	case ZYDIS_MNEMONIC_XGETBV: /* control registers, fences: not of this unit */
	case ZYDIS_MNEMONIC_XSETBV:
	case ZYDIS_MNEMONIC_PAUSE:
	case ZYDIS_MNEMONIC_LFENCE:
	case ZYDIS_MNEMONIC_MFENCE:
	case ZYDIS_MNEMONIC_SFENCE:
	case ZYDIS_MNEMONIC_CLFLUSH:
		return VF_NEVER;
	default:
		break;
	}
	if (z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
	    z->encoding != ZYDIS_INSTRUCTION_ENCODING_VEX)
		return VF_NEVER;
	if (is_x87(z))
		return z->mnemonic == ZYDIS_MNEMONIC_FISTTP ? VF_SSE3 : VF_FPU;
	for (unsigned int n = 0; n < ARRAY_SIZE(set_features); n++)
		if (set_features[n].set == z->meta.isa_set)
			return set_features[n].feature;
	return VF_NEVER;
}

/* --- special handlers --- */

static const struct {
	uint16_t mnemonic;
	slow_fn *fn;
} specials[] = {
    {ZYDIS_MNEMONIC_LDMXCSR, vec_ldmxcsr},       {ZYDIS_MNEMONIC_STMXCSR, vec_stmxcsr},
    {ZYDIS_MNEMONIC_VLDMXCSR, vec_vldmxcsr},     {ZYDIS_MNEMONIC_VSTMXCSR, vec_vstmxcsr},
    {ZYDIS_MNEMONIC_FXSAVE, vec_fxsave},         {ZYDIS_MNEMONIC_FXSAVE64, vec_fxsave},
    {ZYDIS_MNEMONIC_FXRSTOR, vec_fxrstor},       {ZYDIS_MNEMONIC_FXRSTOR64, vec_fxrstor},
    {ZYDIS_MNEMONIC_XSAVE, vec_xsave},           {ZYDIS_MNEMONIC_XSAVE64, vec_xsave},
    {ZYDIS_MNEMONIC_XSAVEOPT, vec_xsaveopt},     {ZYDIS_MNEMONIC_XSAVEOPT64, vec_xsaveopt},
    {ZYDIS_MNEMONIC_XSAVEC, vec_xsavec},         {ZYDIS_MNEMONIC_XSAVEC64, vec_xsavec},
    {ZYDIS_MNEMONIC_XRSTOR, vec_xrstor},         {ZYDIS_MNEMONIC_XRSTOR64, vec_xrstor},
    {ZYDIS_MNEMONIC_FWAIT, vec_fwait},           {ZYDIS_MNEMONIC_FNSTENV, vec_fnstenv},
    {ZYDIS_MNEMONIC_FNSAVE, vec_fnsave},         {ZYDIS_MNEMONIC_FLDENV, vec_fldenv},
    {ZYDIS_MNEMONIC_FRSTOR, vec_frstor},         {ZYDIS_MNEMONIC_VZEROALL, vec_vzero},
    {ZYDIS_MNEMONIC_VZEROUPPER, vec_vzero},      {ZYDIS_MNEMONIC_MASKMOVQ, vec_maskmovq},
    {ZYDIS_MNEMONIC_MASKMOVDQU, vec_maskmovdqu}, {ZYDIS_MNEMONIC_VMASKMOVDQU, vec_vmaskmovdqu},
    {ZYDIS_MNEMONIC_VMASKMOVPS, vec_vmaskmov},   {ZYDIS_MNEMONIC_VMASKMOVPD, vec_vmaskmov},
    {ZYDIS_MNEMONIC_VPMASKMOVD, vec_vmaskmov},   {ZYDIS_MNEMONIC_VPMASKMOVQ, vec_vmaskmov},
    {ZYDIS_MNEMONIC_VGATHERDPS, vec_gather},     {ZYDIS_MNEMONIC_VGATHERDPD, vec_gather},
    {ZYDIS_MNEMONIC_VGATHERQPS, vec_gather},     {ZYDIS_MNEMONIC_VGATHERQPD, vec_gather},
    {ZYDIS_MNEMONIC_VPGATHERDD, vec_gather},     {ZYDIS_MNEMONIC_VPGATHERDQ, vec_gather},
    {ZYDIS_MNEMONIC_VPGATHERQD, vec_gather},     {ZYDIS_MNEMONIC_VPGATHERQQ, vec_gather},
};

slow_fn *vec_special(const ZydisDecodedInstruction *z)
{
	for (unsigned int n = 0; n < ARRAY_SIZE(specials); n++)
		if (specials[n].mnemonic == z->mnemonic)
			return specials[n].fn;
	return NULL;
}

/* --- classification --- */

static bool uses_class(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
		       ZydisRegisterClass k)
{
	for (unsigned int n = 0; n < z->operand_count; n++)
		if (ops[n].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    ZydisRegisterGetClass(ops[n].reg.value) == k)
			return true;
	return false;
}

/* CVTSD2SI and the like, which name no vector register when their source is memory. */
static bool is_float_to_gpr(const ZydisDecodedInstruction *z)
{
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_CVTSS2SI:
	case ZYDIS_MNEMONIC_CVTSD2SI:
	case ZYDIS_MNEMONIC_CVTTSS2SI:
	case ZYDIS_MNEMONIC_CVTTSD2SI:
	case ZYDIS_MNEMONIC_VCVTSS2SI:
	case ZYDIS_MNEMONIC_VCVTSD2SI:
	case ZYDIS_MNEMONIC_VCVTTSS2SI:
	case ZYDIS_MNEMONIC_VCVTTSD2SI:
		return true;
	default:
		return false;
	}
}

/* May it raise a SIMD floating-point exception?  Some that cannot may be taken for ones that can.
 */
static bool uses_mxcsr(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops)
{
	switch (z->meta.exception_class) {
	case ZYDIS_EXCEPTION_CLASS_SSE2:
	case ZYDIS_EXCEPTION_CLASS_SSE3:
	case ZYDIS_EXCEPTION_CLASS_AVX2:
	case ZYDIS_EXCEPTION_CLASS_AVX3:
	case ZYDIS_EXCEPTION_CLASS_AVX11:
		return true;
	default:
		break;
	}
	for (unsigned int n = 0; n < z->operand_count; n++)
		if (ops[n].element_type == ZYDIS_ELEMENT_TYPE_FLOAT16 ||
		    ops[n].element_type == ZYDIS_ELEMENT_TYPE_FLOAT32 ||
		    ops[n].element_type == ZYDIS_ELEMENT_TYPE_FLOAT64)
			return true;
	return false;
}

static uint8_t alignment(const ZydisDecodedInstruction *z, unsigned int size)
{
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_MOVUPS:
	case ZYDIS_MNEMONIC_MOVUPD:
	case ZYDIS_MNEMONIC_MOVDQU:
	case ZYDIS_MNEMONIC_LDDQU:
	case ZYDIS_MNEMONIC_PCMPESTRI:
	case ZYDIS_MNEMONIC_PCMPESTRM:
	case ZYDIS_MNEMONIC_PCMPISTRI:
	case ZYDIS_MNEMONIC_PCMPISTRM:
		return 0;
	case ZYDIS_MNEMONIC_VMOVAPS:
	case ZYDIS_MNEMONIC_VMOVAPD:
	case ZYDIS_MNEMONIC_VMOVDQA:
	case ZYDIS_MNEMONIC_VMOVNTPS:
	case ZYDIS_MNEMONIC_VMOVNTPD:
	case ZYDIS_MNEMONIC_VMOVNTDQ:
	case ZYDIS_MNEMONIC_VMOVNTDQA:
		return (uint8_t)size;
	default:
		return z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY && size == 16 ? 16 : 0;
	}
}

/* x87 instructions that do not look at pending exceptions first. */
static bool x87_no_wait(const ZydisDecodedInstruction *z)
{
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_FNINIT:
	case ZYDIS_MNEMONIC_FNCLEX:
	case ZYDIS_MNEMONIC_FNSTSW:
	case ZYDIS_MNEMONIC_FNSTCW:
	case ZYDIS_MNEMONIC_FENI8087_NOP:
	case ZYDIS_MNEMONIC_FDISI8087_NOP:
	case ZYDIS_MNEMONIC_FSETPM287_NOP:
		return true;
	default:
		return false;
	}
}

void vec_classify(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
		  struct vec_op *op)
{
	bool x87 = is_x87(z);
	bool mmx = uses_class(z, ops, ZYDIS_REGCLASS_MMX) || z->mnemonic == ZYDIS_MNEMONIC_EMMS;
	bool xmm = uses_class(z, ops, ZYDIS_REGCLASS_XMM) ||
		   uses_class(z, ops, ZYDIS_REGCLASS_YMM) || is_float_to_gpr(z);
	bool vex = z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;

	op->flags = 0;
	op->size = op->align = 0;
	op->fop = 0;
	if (x87)
		op->check = CHECK_X87;
	else if (xmm)
		op->check = vex ? CHECK_AVX : CHECK_SSE;
	else if (mmx)
		op->check = CHECK_MMX;
	else
		op->check = vex ? CHECK_VEX_GPR : CHECK_NONE;
	if (x87 || mmx)
		op->flags |= VOP_FX | (x87 && x87_no_wait(z) ? 0 : VOP_WAIT);
	if (mmx)
		op->flags |= VOP_MMX;
	if (x87) {
		op->flags |= VOP_X87_PTR;
		op->fop = (uint16_t)((z->opcode & 7) << 8 | z->raw.modrm.mod << 6 |
				     z->raw.modrm.reg << 3 | z->raw.modrm.rm);
	}
	if ((xmm || mmx) && uses_mxcsr(z, ops) && z->meta.category != ZYDIS_CATEGORY_DATAXFER)
		op->flags |= VOP_MXCSR;
	if (xmm && vex)
		op->flags |= VOP_UPPER;
	for (unsigned int n = 0; n < z->operand_count; n++) {
		if (ops[n].type != ZYDIS_OPERAND_TYPE_MEMORY)
			continue;
		op->size = (uint8_t)(ops[n].size / 8);
		op->align = alignment(z, op->size);
		if (ops[n].actions & ZYDIS_OPERAND_ACTION_MASK_READ)
			op->flags |= VOP_READ;
		if (ops[n].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
			op->flags |= VOP_WRITE;
	}
	if ((op->flags & VOP_WRITE) && (op->flags & VOP_FX))
		op->flags |= VOP_STATE_STORE;
}
