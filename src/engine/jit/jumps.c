/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/jumps.c - where translated code looks when it leaves its page
 *
 *	rip, code   guest address -> host code: for indirect jumps, and whatever is not known below
 *	page        linear page -> number of the code in it: a direct jump to another page knows the
 *	            number that it was linked for, and need only see that it is still there
 *	ret_*       place on the stack -> host code behind the call
 *
 * None asks whether the target page is still mapped and unchanged.  So an entry must go before that
 * can matter: with its page's translation (jumps_drop_page, or the whole slot), and with a change
 *of its code (jumps_drop_code).
 *
 * An address matches only in its own place, so that an empty entry holds an address that belongs
 * elsewhere: 0, and in place 0 the one below it.  Place 0 is never filled: it is where all look
 * while somebody wants the vCPU to leave.  The same goes for pages: numbers are odd, so that 0 is
 *no page's entry.  An empty return matches the last address there is, and leads out.
 */
#include "engine/jit/jit.h"

static void rets_wipe(struct jumps *j)
{
	for (unsigned int k = 0; k < JUMPS_RETS; k++) {
		j->ret_not[k] = 0;
		j->ret_code[k] = j->leave;
	}
}

void jumps_init(struct jumps *j, uint64_t leave)
{
	j->rip[0] = 1; /* minus it is the last place */
	j->code[0] = leave;
	j->leave = leave;
	rets_wipe(j);
}

void jumps_wipe(struct jumps *j)
{
	if (!j->live)
		return;
	if (j->n_used <= JUMPS_USED) {
		for (unsigned int k = 0; k < j->n_used; k++)
			j->rip[j->used[k]] = 0;
	} else {
		memset(j->rip, 0, sizeof(j->rip));
		j->rip[0] = 1;
	}
	memset(j->pages, 0, sizeof(j->pages));
	memset(j->frames, 0, sizeof(j->frames));
	memset(j->page, 0, sizeof(j->page));
	rets_wipe(j);
	j->n_used = 0;
	j->n_second = 0;
	j->live = false;
}

static uint64_t bit_of(uint64_t page, unsigned int bits, unsigned int *word)
{
	uint64_t h = page * UINT64_C(0x9e3779b97f4a7c15) >> (64 - bits);

	*word = (unsigned int)(h / 64);
	return BIT(h % 64);
}

static uint64_t page_bit(uint64_t lin, unsigned int *word)
{
	return bit_of(lin >> GMEM_PAGE_SHIFT, 17, word);
}

static unsigned int page_place(uint64_t lin)
{
	return (lin & PAGES_MASK) >> GMEM_PAGE_SHIFT;
}

/* The filter may be wrong, and other pages' entries are worth a search. */
void jumps_drop_page(struct jumps *j, uint64_t lin)
{
	bool all = j->n_used > JUMPS_USED;
	unsigned int n = all ? JUMPS_SIZE : j->n_used, word;
	uint64_t bit = page_bit(lin, &word), page = lin >> GMEM_PAGE_SHIFT;

	if (!(j->pages[word] & bit))
		return;
	for (unsigned int k = 0; k < n; k++) {
		unsigned int place = all ? k : j->used[k];
		uint64_t of = -j->rip[place] >> GMEM_PAGE_SHIFT;

		/* Or its last instruction crosses into the page. */
		if (place && (of == page || (j->n_second && of + 1 == page)))
			j->rip[place] = 0;
	}
	j->page[page_place(lin)] = 0;
	for (unsigned int k = 0; k < JUMPS_RETS; k++) {
		if (~j->ret_not[k] >> GMEM_PAGE_SHIFT == page) {
			j->ret_not[k] = 0;
			j->ret_code[k] = j->leave;
		}
	}
}

static void enter_jump(struct jumps *j, uint64_t rip, const struct block *b, const void *code)
{
	uint64_t place = rip & JUMPS_MASK;

	if (!place)
		return;
	if (!j->rip[place]) {
		if (j->n_used < JUMPS_USED)
			j->used[j->n_used] = (uint16_t)place;
		if (j->n_used <= JUMPS_USED)
			j->n_used++;
	}
	j->rip[place] = -rip;
	j->code[place] = (uintptr_t)code;
	j->frame[place] = (uint32_t)(b->pa >> GMEM_PAGE_SHIFT);
}

static void enter_page(struct jumps *j, uint64_t rip, const struct block *b, uint32_t number)
{
	unsigned int place = page_place(rip);

	if (!place || !number)
		return;
	j->page[place] = number - (rip & ~(uint64_t)(GMEM_PAGE_SIZE - 1));
	j->page_frame[place] = (uint32_t)(b->pa >> GMEM_PAGE_SHIFT);
}

bool jumps_has(const struct jumps *j, uint64_t rip, const struct block *b, const void *code)
{
	uint64_t place = rip & JUMPS_MASK;

	return place && j->rip[place] == -rip && j->code[place] == (uintptr_t)code &&
	       j->key == b->key;
}

void jumps_enter(struct jumps *j, uint64_t rip, uint64_t lin, const struct block *b,
		 const void *code, uint32_t number)
{
	unsigned int word;
	uint64_t bit;

	if (j->key != b->key) {
		jumps_wipe(j);
		j->key = b->key;
	}
	j->live = true;
	enter_jump(j, rip, b, code);
	enter_page(j, rip, b, number);
	bit = page_bit(lin, &word);
	j->pages[word] |= bit;
	bit = bit_of(b->pa >> GMEM_PAGE_SHIFT, 14, &word);
	j->frames[word] |= bit;
	if (!b->crosses)
		return;
	bit = page_bit(lin + GMEM_PAGE_SIZE, &word);
	j->pages[word] |= bit;
	if (j->n_second < ARRAY_SIZE(j->second))
		j->second[j->n_second] = (uint32_t)(b->pa2 >> GMEM_PAGE_SHIFT);
	if (j->n_second <= ARRAY_SIZE(j->second))
		j->n_second++;
}

/* Blocks that cross into the frame were not entered for it. */
static bool is_second(const struct jumps *j, uint32_t frame)
{
	if (j->n_second > ARRAY_SIZE(j->second))
		return true;
	for (unsigned int k = 0; k < j->n_second; k++) {
		if (j->second[k] == frame)
			return true;
	}
	return false;
}

static void drop_code(struct jumps *j, uint32_t frame)
{
	bool all = j->n_used > JUMPS_USED;
	unsigned int n = all ? JUMPS_SIZE : j->n_used, word;
	uint64_t bit = bit_of(frame, 14, &word);

	if (is_second(j, frame)) {
		jumps_wipe(j);
		return;
	}
	if (!(j->frames[word] & bit))
		return;
	for (unsigned int k = 0; k < n; k++) {
		unsigned int place = all ? k : j->used[k];

		if (j->frame[place] == frame && place)
			j->rip[place] = 0;
	}
	for (unsigned int k = 1; k < JUMPS_PAGES; k++) {
		if (j->page_frame[k] == frame)
			j->page[k] = 0;
	}
	rets_wipe(j);
}

void jumps_drop_code(struct ivcpu *v, uint64_t pa)
{
	uint32_t frame = (uint32_t)(pa >> GMEM_PAGE_SHIFT);

	drop_code(&v->kernel_jumps, frame);
	drop_code(&v->ac_jumps, frame);
	for (unsigned int k = 0; k < AS_SLOTS; k++)
		drop_code(&v->as_state[k].slot->jumps, frame);
}

void jumps_wipe_all(struct ivcpu *v)
{
	jumps_wipe(&v->kernel_jumps);
	jumps_wipe(&v->ac_jumps);
	for (unsigned int k = 0; k < AS_SLOTS; k++)
		jumps_wipe(&v->as_state[k].slot->jumps);
}
