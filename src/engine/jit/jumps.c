/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/jit/jumps.c - jump caches: guest address -> host code
 *
 * Translated code looks here whenever it jumps out of its page, without asking whether the target
 * page is still mapped and unchanged.  So an entry must go before that can matter: with its page's
 * translation (jumps_drop_page, or the whole slot), and with a change of its code
 * (jumps_drop_code).
 *
 * An address matches only in its own place, so that an empty entry holds an address that belongs
 * elsewhere: 0, and in place 0 the one below it.  Place 0 is never filled: it is where all look
 * while somebody wants the vCPU to leave.
 */
#include "engine/jit/jit.h"

void jumps_init(struct jumps *j)
{
	j->rip[0] = 1; /* minus it is the last place */
}

void jumps_wipe(struct jumps *j)
{
	if (!j->n_used)
		return;
	if (j->n_used <= JUMPS_USED) {
		for (unsigned int k = 0; k < j->n_used; k++)
			j->rip[j->used[k]] = 0;
	} else {
		memset(j->rip, 0, sizeof(j->rip));
		jumps_init(j);
	}
	memset(j->pages, 0, sizeof(j->pages));
	j->n_used = 0;
	j->n_second = 0;
}

static uint64_t page_bit(uint64_t lin, unsigned int *word)
{
	uint64_t h = (lin >> 12) * UINT64_C(0x9e3779b97f4a7c15) >> 50;

	*word = (unsigned int)(h / 64);
	return BIT(h % 64);
}

void jumps_drop_page(struct jumps *j, uint64_t lin)
{
	unsigned int word;
	uint64_t bit = page_bit(lin, &word);

	if (j->pages[word] & bit)
		jumps_wipe(j);
}

void jumps_enter(struct jumps *j, uint64_t rip, uint64_t lin, const struct block *b,
		 const void *code)
{
	uint64_t place = rip & JUMPS_MASK;
	unsigned int word;
	uint64_t bit = page_bit(lin, &word);

	if (!place)
		return;
	if (j->key != b->key) {
		jumps_wipe(j);
		j->key = b->key;
	}
	if (!j->rip[place]) {
		if (j->n_used < JUMPS_USED)
			j->used[j->n_used] = (uint16_t)place;
		if (j->n_used <= JUMPS_USED)
			j->n_used++;
	}
	j->rip[place] = -rip;
	j->code[place] = (uintptr_t)code;
	j->frame[place] = (uint32_t)(b->pa >> GMEM_PAGE_SHIFT);
	j->pages[word] |= bit;
	if (!b->crosses)
		return;
	bit = page_bit(lin + GMEM_PAGE_SIZE, &word);
	j->pages[word] |= bit;
	if (j->n_second < ARRAY_SIZE(j->second))
		j->second[j->n_second] = (uint32_t)(b->pa2 >> GMEM_PAGE_SHIFT);
	if (j->n_second <= ARRAY_SIZE(j->second))
		j->n_second++;
}

static void drop_code(struct jumps *j, uint32_t frame)
{
	bool all = j->n_used > JUMPS_USED;
	unsigned int n = all ? JUMPS_SIZE : j->n_used;
	bool second = j->n_second > ARRAY_SIZE(j->second);

	for (unsigned int k = 0; k < j->n_second && !second; k++)
		second = j->second[k] == frame;
	if (second) {
		jumps_wipe(j);
		return;
	}
	for (unsigned int k = 0; k < n; k++) {
		unsigned int place = all ? k : j->used[k];

		if (j->frame[place] == frame && place)
			j->rip[place] = 0;
	}
}

void jumps_drop_code(struct ivcpu *v, uint64_t pa)
{
	uint32_t frame = (uint32_t)(pa >> GMEM_PAGE_SHIFT);

	drop_code(&v->kernel_jumps, frame);
	for (unsigned int k = 0; k < AS_SLOTS; k++)
		drop_code(&v->as_state[k].slot->jumps, frame);
}

void jumps_wipe_all(struct ivcpu *v)
{
	jumps_wipe(&v->kernel_jumps);
	for (unsigned int k = 0; k < AS_SLOTS; k++)
		jumps_wipe(&v->as_state[k].slot->jumps);
}
