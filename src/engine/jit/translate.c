/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/translate.c - a block of the interpreter to host code
 *
 *	start:	r11 = guest address    page_rip from it          <- jumps from other pages
 *	body:	instruction after instruction                    <- jumps inside the page
 *
 * and in another part of the memory, so that what runs is close together:
 *
 *	cold:	the second copy, if there is one (group.c)
 *		misses and exits: mov ecx, which uop; jmp stub
 */
#include "engine/jit/jit_priv.h"

struct cold *tr_cold(struct tr *t, uint32_t stub, uint32_t code, int undo, int link)
{
	if (t->n_cold == ARRAY_SIZE(t->cold)) {
		t->full = true;
		t->n_cold--;
	}
	t->cold[t->n_cold] = (struct cold){.at = emit_at(&t->e) - 4,
					   .to = stub,
					   .code = code,
					   .undo = (int16_t)undo,
					   .link = (int16_t)link,
					   .other = -1};
	if (t->flags_spent)
		t->cold[t->n_cold].flags = t->flags;
	return &t->cold[t->n_cold++];
}

void tr_cold_exit(struct tr *t, const struct uop *u)
{
	(void)tr_cold(t, t->j->exit, jit_uop_code(t->j, u), 0, -1);
}

static void write_cold(struct tr *t)
{
	t->flags.of = FLAGS_UNKNOWN;
	t->flags_spent = false;
	/* Some adds to the list. */
	for (unsigned int i = 0; i < t->n_cold && !t->e.overflow; i++) {
		const struct cold *c = &t->cold[i];

		if (c->other >= 0 && c->flags.of == FLAGS_UNKNOWN) {
			emit_aim(t->e.start, c->at, t->at[1][c->other]);
			continue;
		}
		emit_aim(t->e.start, c->at, emit_at(&t->e));
		tr_make_flags(&t->e, &c->flags);
		if (c->other >= 0) {
			emit_jmp(&t->e, t->at[1][c->other]);
			continue;
		}
		if (c->home_size) {
			tr_away(t, c);
			continue;
		}
		if (c->link >= 0)
			t->link[c->link].cold = emit_at(&t->e);
		if (c->undo)
			emit_op(&t->e, t->wide, 0x8d, RSP, rm_base(RSP, c->undo));
		if (c->ea.mem)
			emit_op(&t->e, t->wide, 0x8d, HOST_T1, c->ea);
		if (c->back) { /* LEA R11, [RIP + rel32] */
			emit8(&t->e, 0x4c);
			emit8(&t->e, 0x8d);
			emit8(&t->e, 0x1d);
			emit32(&t->e, c->back - (emit_at(&t->e) + 4));
		}
		if (c->look_up)
			jit_jump_cached(t->v, &t->e, t->jumps, t->wide, c->pop);
		emit_mov_imm32(&t->e, HOST_T0, c->code);
		emit_jmp(&t->e, c->to);
	}
}

/* The interpreter's handler, from the middle of the block. */
static void call_handler(struct tr *t)
{
	tr_flags_again(t);
	/* LEA R11, behind MOV ECX and JMP */
	emit8(&t->e, 0x4c);
	emit8(&t->e, 0x8d);
	emit8(&t->e, 0x1d);
	emit32(&t->e, 10);
	emit_mov_imm32(&t->e, HOST_T0, jit_uop_code(t->j, t->u));
	emit_jmp(&t->e, t->j->call);
	t->sse_ready = t->avx_ready = t->x87_ready = false;
}

/* False = the rest of the block is the interpreter's. */
static bool translate_insn(struct tr *t, bool *ends)
{
	*ends = false;
	if (tr_flow(t, ends))
		return true;
	*ends = false;
	if (tr_system(t, ends) || tr_plain(t) || tr_string(t))
		return true;
	if (t->u->fn == op_slow) {
		call_handler(t);
		return true;
	}
	if (t->u->fn == op_slow_end) {
		emit_mov_imm32(&t->e, HOST_T0, jit_uop_code(t->j, t->u));
		emit_jmp(&t->e, t->j->call_end);
		*ends = true;
		return true;
	}
	emit_jmp(&t->e, 0);
	tr_cold_exit(t, t->u);
	return false;
}

bool tr_decode(struct tr *t)
{
	const struct block *b = t->b;
	struct tr_insn *i = &t->j->insns[t->k];

	t->u = &b->u[t->k];
	t->raw = b->raw + (t->u->off - b->u[0].off);
	if (t->k == t->n_decoded) {
		if (insn_decode_zydis(t->raw, t->u->len, b->key & 3, &i->i, &i->z, i->ops) < 0)
			return false;
		t->n_decoded++;
	}
	t->z = &i->z;
	t->ops = i->ops;
	t->i = &i->i;
	return true;
}

/* One copy of the code; @at: where each instruction is. */
static bool translate_all(struct tr *t, uint32_t *at)
{
	struct block *b = t->b;
	bool ends = false;

	t->sse_ready = t->avx_ready = t->x87_ready = false;
	t->t1 = -1;
	t->flags.of = FLAGS_UNKNOWN;
	t->flags_spent = false;
	for (t->k = 0; t->k < b->n && !ends; t->k++) {
		if (!tr_decode(t))
			return false;
		tr_flags_before(t);
		at[t->k] = emit_at(&t->e);
		t->t1_kept = false;
		if (!translate_insn(t, &ends)) {
			for (unsigned int i = t->k + 1; i <= b->n; i++)
				at[i] = UINT32_MAX;
			return t->k > 0;
		}
		if (!t->t1_kept)
			t->t1 = -1;
		tr_flags_behind(t);
	}
	tr_flags_again(t);
	at[b->n] = emit_at(&t->e);
	if (!ends && (b->u[b->n].fn == op_fall || b->crosses)) {
		tr_goto(t, b->u[b->n].off, &b->u[b->n], false);
	} else if (!ends) {
		emit_jmp(&t->e, 0);
		tr_cold_exit(t, &b->u[b->n]);
	}
	return true;
}

/* From now on to the cold part. */
static void go_cold(struct tr *t)
{
	struct jit *j = t->j;

	t->c->end = emit_at(&t->e);
	t->c->cold = j->cold_used;
	t->e.p = j->rw + j->cold_used;
	t->e.end = j->rw + JIT_CODE_SIZE;
}

/* With groups, and once more without; or without only. */
static bool translate_copies(struct tr *t)
{
	t->grouped = t->wide && tr_find_groups(t);
	if (!t->grouped) {
		if (!translate_all(t, t->at[1]))
			return false;
		go_cold(t);
		return true;
	}
	if (!translate_all(t, t->at[0]))
		return false;
	t->c->first = t->at[0];
	t->grouped = false;
	go_cold(t);
	if (!translate_all(t, t->at[1]))
		return false;
	return true;
}

/* What stays known of the code, behind its jit_code; bytes. */
static size_t settle(struct tr *t)
{
	struct jit_code *c = t->c;
	size_t n = t->b->n + 1u, head = sizeof(*c) + n * sizeof(uint32_t);

	memcpy(c->at, t->at[1], n * sizeof(uint32_t));
	if (c->first) {
		c->first = c->at + n;
		memcpy(c->first, t->at[0], n * sizeof(uint32_t));
		head += n * sizeof(uint32_t);
	}
	c->link = (struct jit_link *)((uint8_t *)c + ALIGN_UP(head, 8u));
	c->n_links = t->n_links;
	memcpy(c->link, t->link, t->n_links * sizeof(t->link[0]));
	return ALIGN_UP(head, 8u) + ALIGN_UP(t->n_links * sizeof(t->link[0]), 8u);
}

/* 64-bit code, and 32-bit code on flat segments. */
static bool can_translate(const struct ivcpu *v, const struct block *b)
{
	enum insn_bits bits = b->key & 3;

	if (b->key & (KEY_STEP | KEY_CPL_1_2))
		return false;
	if (bits == INSN_64)
		return true;
	return bits == INSN_32 && (b->key & KEY_FLAT) && (b->key & KEY_CS_FLAT) &&
	       v->stack_bits == 32 && (v->mode == MODE_COMPAT || v->mode == MODE_PROT);
}

int32_t jit_jumps_offset(const struct ivcpu *v)
{
	if (v->block_key & KEY_CS_BASE) /* its entries are by offset in CS */
		return 0;
	if (v->tlb_set == TLB_SUPER)
		return GS(kernel_jumps);
	if (v->tlb_set == TLB_USER)
		return (int32_t)(ivcpu_slot_offset() + offsetof(struct as_slot, jumps));
	return GS(ac_jumps);
}

struct jit_code *jit_translate(struct ivcpu *v, struct block *b)
{
	struct jit *j = v->jit;
	struct tr t = {.v = v,
		       .j = j,
		       .b = b,
		       .wide = (b->key & 3) == INSN_64,
		       .jumps = jit_jumps_offset(v),
		       .c = (struct jit_code *)(j->meta + j->meta_used)};
	struct jit_code *c = t.c;

	if (!can_translate(v, b))
		return NULL;
	t.e = (struct emit){
	    .start = j->rw, .p = j->rw + ALIGN_UP(j->used, 16u), .end = j->rw + JIT_COLD_START};
	*c = (struct jit_code){.b = b, .start = emit_at(&t.e)};
	emit_op(&t.e, t.wide, 0x8d, HOST_T1, rm_base(HOST_T1, -(int32_t)b->u[0].off));
	emit_store(&t.e, HOST_T1, rm_gs(GS(page_rip)));
	c->body = emit_at(&t.e);
	if (!translate_copies(&t))
		return NULL;
	write_cold(&t);
	if (t.e.overflow || t.full)
		return NULL;
	c->cold_end = emit_at(&t.e);
	j->used = c->end;
	j->cold_used = c->cold_end;
	j->meta_used += settle(&t);
	return c;
}
