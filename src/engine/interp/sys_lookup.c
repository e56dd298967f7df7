/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/sys_lookup.c - which system instruction has which handler
 *
 * MONITOR, MWAIT, RSM, UD0-UD2, VMX and SVM are absent: the CPU model hides them, so they raise #UD
 * as every unknown instruction does.
 */
#include "engine/interp/sys.h"

#include <Zydis/Zydis.h>

#define ENDS SLOW_ENDS_BLOCK

struct row {
	uint16_t mnemonic;
	struct slow_handler h;
};

static const struct row rows[] = {
    {ZYDIS_MNEMONIC_IRET, {sys_iret, ENDS}},
    {ZYDIS_MNEMONIC_IRETD, {sys_iret, ENDS}},
    {ZYDIS_MNEMONIC_IRETQ, {sys_iret, ENDS}},
    {ZYDIS_MNEMONIC_INT, {sys_int, ENDS}},
    {ZYDIS_MNEMONIC_INT1, {sys_int1, ENDS}},
    {ZYDIS_MNEMONIC_INT3, {sys_int3, ENDS}},
    {ZYDIS_MNEMONIC_INTO, {sys_into, ENDS}},
    {ZYDIS_MNEMONIC_LDS, {sys_load_far_pointer, ENDS}},
    {ZYDIS_MNEMONIC_LES, {sys_load_far_pointer, ENDS}},
    {ZYDIS_MNEMONIC_LFS, {sys_load_far_pointer, ENDS}},
    {ZYDIS_MNEMONIC_LGS, {sys_load_far_pointer, ENDS}},
    {ZYDIS_MNEMONIC_LSS, {sys_load_far_pointer, ENDS}},
    {ZYDIS_MNEMONIC_PUSHF, {sys_pushf, 0}},
    {ZYDIS_MNEMONIC_PUSHFD, {sys_pushf, 0}},
    {ZYDIS_MNEMONIC_PUSHFQ, {sys_pushf, 0}},
    {ZYDIS_MNEMONIC_POPF, {sys_popf, ENDS}},
    {ZYDIS_MNEMONIC_POPFD, {sys_popf, ENDS}},
    {ZYDIS_MNEMONIC_POPFQ, {sys_popf, ENDS}},
    {ZYDIS_MNEMONIC_CLI, {sys_cli, 0}},
    {ZYDIS_MNEMONIC_STI, {sys_sti, 0}}, /* its shadow stops the block */
    {ZYDIS_MNEMONIC_CLAC, {sys_clac, ENDS}},
    {ZYDIS_MNEMONIC_STAC, {sys_stac, ENDS}},
    {ZYDIS_MNEMONIC_SYSCALL, {sys_syscall, ENDS}},
    {ZYDIS_MNEMONIC_SYSRET, {sys_sysret, ENDS}},
    {ZYDIS_MNEMONIC_SYSENTER, {sys_sysenter, ENDS}},
    {ZYDIS_MNEMONIC_SYSEXIT, {sys_sysexit, ENDS}},
    {ZYDIS_MNEMONIC_SWAPGS, {sys_swapgs, 0}},
    {ZYDIS_MNEMONIC_RDFSBASE, {sys_fsgsbase, 0}},
    {ZYDIS_MNEMONIC_RDGSBASE, {sys_fsgsbase, 0}},
    {ZYDIS_MNEMONIC_WRFSBASE, {sys_fsgsbase, 0}},
    {ZYDIS_MNEMONIC_WRGSBASE, {sys_fsgsbase, 0}},
    {ZYDIS_MNEMONIC_SGDT, {sys_sgdt, 0}},
    {ZYDIS_MNEMONIC_SIDT, {sys_sidt, 0}},
    {ZYDIS_MNEMONIC_LGDT, {sys_lgdt, 0}},
    {ZYDIS_MNEMONIC_LIDT, {sys_lidt, 0}},
    {ZYDIS_MNEMONIC_SLDT, {sys_sldt, 0}},
    {ZYDIS_MNEMONIC_STR, {sys_str, 0}},
    {ZYDIS_MNEMONIC_LLDT, {sys_lldt, 0}},
    {ZYDIS_MNEMONIC_LTR, {sys_ltr, 0}},
    {ZYDIS_MNEMONIC_SMSW, {sys_smsw, 0}},
    {ZYDIS_MNEMONIC_LMSW, {sys_lmsw, ENDS}},
    {ZYDIS_MNEMONIC_LAR, {sys_lar, 0}},
    {ZYDIS_MNEMONIC_LSL, {sys_lsl, 0}},
    {ZYDIS_MNEMONIC_VERR, {sys_verr, 0}},
    {ZYDIS_MNEMONIC_VERW, {sys_verw, 0}},
    {ZYDIS_MNEMONIC_ARPL, {sys_arpl, 0}},
    {ZYDIS_MNEMONIC_CLTS, {sys_clts, ENDS}},
    {ZYDIS_MNEMONIC_INVLPG, {sys_invlpg, ENDS}},
    {ZYDIS_MNEMONIC_INVPCID, {sys_invpcid, ENDS}},
    {ZYDIS_MNEMONIC_WBINVD, {sys_wbinvd, 0}},
    {ZYDIS_MNEMONIC_INVD, {sys_wbinvd, 0}},
    {ZYDIS_MNEMONIC_XGETBV, {sys_xgetbv, 0}},
    {ZYDIS_MNEMONIC_XSETBV, {sys_xsetbv, ENDS}},
    {ZYDIS_MNEMONIC_RDMSR, {sys_rdmsr, 0}},
    {ZYDIS_MNEMONIC_WRMSR, {sys_wrmsr, ENDS}},
    {ZYDIS_MNEMONIC_RDTSC, {sys_rdtsc, 0}},
    {ZYDIS_MNEMONIC_RDTSCP, {sys_rdtscp, 0}},
    {ZYDIS_MNEMONIC_RDPID, {sys_rdpid, 0}},
    {ZYDIS_MNEMONIC_RDPMC, {sys_rdpmc, 0}},
    {ZYDIS_MNEMONIC_CPUID, {sys_cpuid, 0}},
    {ZYDIS_MNEMONIC_HLT, {sys_hlt, ENDS}},
    {ZYDIS_MNEMONIC_VMCALL, {sys_hypercall, ENDS}},
    {ZYDIS_MNEMONIC_VMMCALL, {sys_hypercall, ENDS}},
    {ZYDIS_MNEMONIC_CLFLUSH, {sys_cache_line, 0}},
    {ZYDIS_MNEMONIC_CLFLUSHOPT, {sys_cache_line, 0}},
    {ZYDIS_MNEMONIC_CLWB, {sys_cache_line, 0}},
    {ZYDIS_MNEMONIC_SERIALIZE, {sys_serialize, ENDS}},
};

#define NOT_MINE ((struct slow_handler){0})

/* Mnemonics shared with ordinary instructions: told apart by opcode. */
static struct slow_handler by_opcode(const struct x86_insn *i)
{
	unsigned int reg = (i->modrm >> 3) & 7;

	if (i->map == 1) {
		switch (i->opcode) {
		case 0x20:
			return (struct slow_handler){sys_mov_from_cr, 0};
		case 0x21:
			return (struct slow_handler){sys_mov_from_dr, 0};
		case 0x22:
			return (struct slow_handler){sys_mov_to_cr, ENDS};
		case 0x23:
			return (struct slow_handler){sys_mov_to_dr, ENDS};
		case 0xa0:
		case 0xa8:
			return (struct slow_handler){sys_push_seg, 0};
		case 0xa1:
		case 0xa9:
			return (struct slow_handler){sys_pop_seg, ENDS};
		}
		return NOT_MINE;
	}
	switch (i->opcode) {
	case 0x06:
	case 0x0e:
	case 0x16:
	case 0x1e:
		return (struct slow_handler){sys_push_seg, 0};
	case 0x07:
	case 0x17:
	case 0x1f:
		return (struct slow_handler){sys_pop_seg, ENDS};
	case 0x8c:
		return (struct slow_handler){sys_mov_from_seg, 0};
	case 0x8e:
		return (struct slow_handler){sys_mov_to_seg, ENDS};
	case 0x9a:
		return (struct slow_handler){sys_call_far, ENDS};
	case 0xea:
		return (struct slow_handler){sys_jmp_far, ENDS};
	case 0xca:
	case 0xcb:
		return (struct slow_handler){sys_ret_far, ENDS};
	case 0xff:
		if (reg == 3)
			return (struct slow_handler){sys_call_far, ENDS};
		if (reg == 5)
			return (struct slow_handler){sys_jmp_far, ENDS};
	}
	return NOT_MINE;
}

struct slow_handler sys_lookup(const struct ivcpu *v, const struct x86_insn *i)
{
	if (i->prefixes & PFX_LOCK) /* AMD's LOCK MOV CR0 = CR8 is hidden */
		return NOT_MINE;
	switch (i->mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
	case ZYDIS_MNEMONIC_PUSH:
	case ZYDIS_MNEMONIC_POP:
	case ZYDIS_MNEMONIC_CALL:
	case ZYDIS_MNEMONIC_JMP:
	case ZYDIS_MNEMONIC_RET:
		if (i->encoding != INSN_LEGACY || i->map > 1)
			return NOT_MINE;
		return by_opcode(i);
	}
	for (unsigned int k = 0; k < ARRAY_SIZE(rows); k++) {
		if (rows[k].mnemonic == i->mnemonic)
			return rows[k].h;
	}
	return NOT_MINE;
}
