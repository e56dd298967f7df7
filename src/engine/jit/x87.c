/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/x87.c - x87 state out of the host's registers
 *
 * The host's FIP, FDP and FOP name the translated instruction.  Which of them an instruction sets
 * differs between processors, so that only what differs from what was loaded is replaced: FIP by
 * the instruction's guest address, FDP by the last operand's, FOP by the guest's opcode.  0 is what
 * FNINIT sets.
 */
#include "engine/jit/jit_priv.h"

/* The guest's bytes of @u. */
static const uint8_t *raw_of(const struct uop *u)
{
	return jit_block_of(u)->raw + (u->off - jit_block_of(u)->u[0].off);
}

/* FOP of the x87 instruction at @p, behind its prefixes. */
static uint16_t opcode_at(const uint8_t *p)
{
	while ((*p & 0xf8) != 0xd8)
		p++;
	return (uint16_t)((p[0] & 7) << 8 | p[1]);
}

static void pointers(struct ivcpu *v, const struct cpu_xsave *host)
{
	struct cpu_xsave *xs = &v->c.xs;
	const struct uop *u = jit_uop_at(v->jit, (uintptr_t)host->fip);

	if (host->fdp != xs->fdp)
		xs->fdp = host->fdp ? v->jx.fdp : 0;
	if (host->fop != xs->fop)
		xs->fop = host->fop && u ? opcode_at(raw_of(u)) : host->fop;
	if (u)
		xs->fip = (v->jx.x87_page + u->off) & v->rip_mask;
	else if (!host->fip)
		xs->fip = 0;
}

void jit_sync(struct ivcpu *v)
{
	struct cpu_xsave *xs = &v->c.xs;
	const struct cpu_xsave *host = (const struct cpu_xsave *)v->jx.fx;

	if (!v->jit || v->jx.x87_out)
		return;
	__asm__ volatile("fxsave64 %0; fninit" : "=m"(v->jx.fx)::"memory");
	xs->fcw = host->fcw;
	xs->fsw = host->fsw;
	xs->ftw = host->ftw;
	pointers(v, host);
	memcpy(xs->st, host->st, sizeof(xs->st));
	v->jx.x87_out = 1;
}
