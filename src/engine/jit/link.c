/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/link.c - jumps that know where they lead
 *
 * Code that leaves by a jump whose target it does not know says so (jit.pending).  When the
 * interpreter's next way into translated code is that target, the jump is aimed at it.
 */
#include "engine/jit/jit_priv.h"

/* Number of the code that is in @b's page now; 0 = there is none left. */
static uint32_t page_number(struct jit *j, const struct block *b)
{
	uint32_t frame = (uint32_t)(b->pa >> GMEM_PAGE_SHIFT);
	struct jit_page *p = &j->pages[frame % JIT_PAGES];

	if (p->number && p->frame == frame && p->gen == b->gen)
		return p->number;
	if (j->next_number >= JIT_NUMBERS)
		return 0;
	*p = (struct jit_page){.frame = frame, .gen = b->gen, .number = j->next_number};
	j->next_number += 2;
	return p->number;
}

/* The jump @l of @from led to @to. */
static void link_up(struct ivcpu *v, struct jit_code *from, struct jit_link *l, struct jit_code *to,
		    uint32_t number)
{
	struct jit *j = jit_of(v);
	bool crosses = to->b->crosses;

	switch (l->kind) {
	case LINK_NEAR:
		/* Its second page may change or go: by the jump cache, which knows. */
		emit_aim(j->rw, l->at, crosses ? jit_detour(v, from, l) : to->body);
		break;
	case LINK_FAR:
		if (crosses || !number)
			return;
		number = -number;
		memcpy(j->rw + l->number_at, &number, sizeof(number));
		emit_aim(j->rw, l->at, to->body);
		break;
	case LINK_RETURN:
		if (crosses)
			return;
		emit_aim(j->rw, l->at, to->start);
		break;
	}
	l->used = true;
}

static struct jumps *jumps_of(struct ivcpu *v)
{
	if (v->tlb_set == TLB_USER)
		return &v->as_slot->jumps;
	return v->tlb_set == TLB_SUPER ? &v->kernel_jumps : &v->ac_jumps;
}

void jit_note_entry(struct ivcpu *v, struct block *b)
{
	struct jit *j = jit_of(v);
	struct jit_code *c = b->code;
	uint64_t rip = (v->page_rip + b->u[0].off) & v->rip_mask;
	uint64_t lin = v->mode == MODE_LONG ? rip : (uint32_t)(v->c.seg[SEG_CS].base + rip);
	struct jit_code *from = j->pending.from;
	struct jumps *jumps = jumps_of(v);
	struct jit_link *l;
	uint32_t number;

	if (!from && likely(jumps_has(jumps, rip, b, j->rx + c->start)))
		return;
	number = page_number(j, b);
	jumps_enter(jumps, rip, lin, b, j->rx + c->start, number);
	if (!from)
		return;
	j->pending.from = NULL;
	l = &from->link[j->pending.link];
	if (j->pending.rip == rip && from->b->key == b->key && !from->b->dead &&
	    *from->b->word == from->b->gen &&
	    (l->kind == LINK_FAR || (from->b->pa ^ b->pa) >> GMEM_PAGE_SHIFT == 0) &&
	    (l->to & 0xfff) == b->u[0].off)
		link_up(v, from, l, c, number);
}

void jit_unlink(struct ivcpu *v, struct block *b)
{
	struct jit_code *c = b->code;

	if (!c)
		return;
	for (unsigned int i = 0; i < c->n_links; i++) {
		struct jit_link *l = &c->link[i];
		uint32_t none = JIT_NO_NUMBER;

		if (l->used && l->kind == LINK_FAR)
			memcpy(jit_of(v)->rw + l->number_at, &none, sizeof(none));
		else if (l->used)
			emit_aim(jit_of(v)->rw, l->at, l->cold);
		l->used = false;
	}
}
