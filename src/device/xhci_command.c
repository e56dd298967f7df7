/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/xhci_command.c - the command ring: slots, addresses, endpoints (xHCI 1.1, 4.6)
 *
 * Contexts are in the guest's memory: they are read when a command names them, and what changes is
 * written back; in between only our own copy of states and dequeue pointers counts.
 */
#include "device/xhci_priv.h"

#define CONTEXT   32u  /* bytes of one */
#define PER_KICK  256u /* commands at most: a ring that leads to itself ends */
#define BSR       BIT(9)
#define DECONFIG  BIT(9)
#define EP_CYCLE  BIT(0) /* in the dequeue pointer's word */
#define FIRST_TWO 3u     /* add flags: slot and endpoint 1 */

/* --- contexts (6.2) --- */

static bool read_words(const struct xhci *x, uint64_t gpa, uint32_t *words, unsigned int n)
{
	return gmem_read(x->mem, gpa, words, 4u * n) == 0;
}

static bool write_words(struct xhci *x, uint64_t gpa, const uint32_t *words, unsigned int n)
{
	return gmem_write(x->mem, gpa, words, 4u * n) == 0;
}

static void put_slot(struct xhci *x, unsigned int n)
{
	struct xhci_slot *s = &x->slot[n];
	uint32_t word;

	if (!s->context || !read_words(x, s->context + 12, &word, 1))
		return;
	/* The address is the slot's number: nobody sees it but us. */
	word = (uint32_t)s->state << 27 | (s->state >= SLOT_ADDRESSED ? n : 0);
	(void)write_words(x, s->context + 12, &word, 1);
}

void xhci_put_endpoint(struct xhci *x, unsigned int slot, unsigned int ep)
{
	struct xhci_slot *s = &x->slot[slot];
	uint64_t gpa = s->context + CONTEXT * ep;
	uint32_t words[4];

	if (!s->context || !read_words(x, gpa, words, 4))
		return;
	words[0] = (words[0] & ~7u) | s->ep_state[ep];
	words[2] = (uint32_t)s->ep_dequeue[ep] | s->ep_cycle[ep];
	words[3] = (uint32_t)(s->ep_dequeue[ep] >> 32);
	(void)write_words(x, gpa, words, 4);
}

/* From the input context at @in to the output context. */
static bool copy_context(struct xhci *x, uint64_t in, const struct xhci_slot *s, unsigned int n)
{
	uint32_t words[CONTEXT / 4];

	return read_words(x, in + CONTEXT * (n + 1u), words, CONTEXT / 4) &&
	       write_words(x, s->context + CONTEXT * n, words, CONTEXT / 4);
}

static bool enable_endpoint(struct xhci *x, uint64_t in, unsigned int slot, unsigned int ep)
{
	struct xhci_slot *s = &x->slot[slot];
	uint32_t words[4];

	if (!read_words(x, in + CONTEXT * (ep + 1u), words, 4) || !copy_context(x, in, s, ep))
		return false;
	s->ep_state[ep] = EP_RUNNING;
	s->ep_dequeue[ep] = (words[2] & ~15u) | (uint64_t)words[3] << 32;
	s->ep_cycle[ep] = words[2] & EP_CYCLE;
	s->polled &= ep != XHCI_INTERRUPT;
	xhci_put_endpoint(x, slot, ep);
	return true;
}

static void disable_endpoint(struct xhci *x, unsigned int slot, unsigned int ep)
{
	struct xhci_slot *s = &x->slot[slot];

	if (s->ep_state[ep] == EP_DISABLED)
		return;
	s->ep_state[ep] = EP_DISABLED;
	s->polled &= ep != XHCI_INTERRUPT;
	xhci_put_endpoint(x, slot, ep);
}

static void disable_functions(struct xhci *x, unsigned int slot)
{
	for (unsigned int ep = XHCI_CONTROL + 1; ep <= XHCI_EPS; ep++)
		disable_endpoint(x, slot, ep);
}

/* --- slots --- */

static int enable_slot(struct xhci *x, unsigned int *ret)
{
	for (unsigned int i = 1; i <= MIN(XHCI_SLOTS, x->config); i++)
		if (!x->slot[i].enabled) {
			x->slot[i] = (struct xhci_slot){.enabled = true};
			*ret = i;
			return CC_SUCCESS;
		}
	return CC_NO_SLOTS;
}

void xhci_disable_slot(struct xhci *x, unsigned int slot)
{
	for (unsigned int ep = XHCI_CONTROL; ep <= XHCI_EPS; ep++)
		disable_endpoint(x, slot, ep);
	x->slot[slot].state = SLOT_ENABLED;
	put_slot(x, slot);
	x->slot[slot] = (struct xhci_slot){0};
}

static bool is_taken(const struct xhci *x, unsigned int port, unsigned int but)
{
	for (unsigned int i = 1; i <= XHCI_SLOTS; i++)
		if (i != but && x->slot[i].enabled && x->slot[i].port == port)
			return true;
	return false;
}

static int address_device(struct xhci *x, unsigned int slot, uint64_t in, bool block)
{
	struct xhci_slot *s = &x->slot[slot];
	uint32_t flags[2], words[2];
	uint64_t context;
	unsigned int port;

	if (!read_words(x, in, flags, 2) || !read_words(x, in + CONTEXT, words, 2) ||
	    gmem_read(x->mem, x->dcbaap + 8u * slot, &context, 8) < 0)
		return CC_TRB;
	port = words[1] >> 16 & 0xff;
	if (flags[0] || flags[1] != FIRST_TWO || !xhci_device(x, port) || is_taken(x, port, slot))
		return CC_PARAMETER;
	if (s->state >= SLOT_ADDRESSED || (s->state == SLOT_DEFAULT && block))
		return CC_CONTEXT_STATE;
	s->port = (uint8_t)port;
	s->context = context & ~UINT64_C(63);
	if (!copy_context(x, in, s, 0) || !enable_endpoint(x, in, slot, XHCI_CONTROL))
		return CC_TRB;
	s->state = block ? SLOT_DEFAULT : SLOT_ADDRESSED;
	put_slot(x, slot);
	return CC_SUCCESS;
}

static int configure(struct xhci *x, unsigned int slot, uint64_t in, bool deconfigure)
{
	struct xhci_slot *s = &x->slot[slot];
	uint32_t flags[2], word, last;

	if (s->state < SLOT_ADDRESSED)
		return CC_CONTEXT_STATE;
	if (deconfigure) {
		disable_functions(x, slot);
		s->state = SLOT_ADDRESSED;
		put_slot(x, slot);
		return CC_SUCCESS;
	}
	if (!read_words(x, in, flags, 2) || !read_words(x, in + CONTEXT, &word, 1))
		return CC_TRB;
	if ((flags[0] & FIRST_TWO) || (flags[1] & FIRST_TWO) != 1)
		return CC_PARAMETER;
	for (unsigned int ep = XHCI_CONTROL + 1; ep <= XHCI_EPS; ep++) {
		if (flags[0] >> ep & 1)
			disable_endpoint(x, slot, ep);
		if ((flags[1] >> ep & 1) && !enable_endpoint(x, in, slot, ep))
			return CC_TRB;
	}
	s->state = SLOT_CONFIGURED;
	last = word & 0xf8000000; /* context entries */
	if (read_words(x, s->context, &word, 1)) {
		word = (word & 0x07ffffff) | last;
		(void)write_words(x, s->context, &word, 1);
	}
	put_slot(x, slot);
	return CC_SUCCESS;
}

/* Packet sizes and latencies are the guest's own affair: kept for it, and no more. */
static int evaluate(struct xhci *x, unsigned int slot, uint64_t in)
{
	struct xhci_slot *s = &x->slot[slot];
	uint32_t flags[2], words[4], ours[4];

	if (s->state < SLOT_DEFAULT)
		return CC_CONTEXT_STATE;
	if (!read_words(x, in, flags, 2))
		return CC_TRB;
	if (flags[0] || (flags[1] & ~FIRST_TWO))
		return CC_PARAMETER;
	if (flags[1] & 1) {
		if (!read_words(x, in + CONTEXT, words, 4) || !read_words(x, s->context, ours, 4))
			return CC_TRB;
		ours[1] = (ours[1] & ~0xffffu) | (words[1] & 0xffff);
		ours[2] = (ours[2] & ~0xffc00000u) | (words[2] & 0xffc00000u);
		(void)write_words(x, s->context, ours, 4);
	}
	if (flags[1] & 2) {
		if (!read_words(x, in + 2u * CONTEXT, words, 2) ||
		    !read_words(x, s->context + CONTEXT, ours, 2))
			return CC_TRB;
		ours[1] = (ours[1] & 0xffff) | (words[1] & 0xffff0000);
		(void)write_words(x, s->context + CONTEXT, ours, 2);
	}
	return CC_SUCCESS;
}

static int reset_device(struct xhci *x, unsigned int slot)
{
	struct xhci_slot *s = &x->slot[slot];

	if (s->state < SLOT_ADDRESSED)
		return CC_CONTEXT_STATE;
	disable_functions(x, slot);
	s->state = SLOT_DEFAULT;
	put_slot(x, slot);
	return CC_SUCCESS;
}

/* --- endpoints --- */

static int reset_endpoint(struct xhci *x, unsigned int slot, unsigned int ep)
{
	struct xhci_slot *s = &x->slot[slot];

	if (s->ep_state[ep] != EP_HALTED)
		return s->ep_state[ep] ? CC_CONTEXT_STATE : CC_EP_DISABLED;
	s->ep_state[ep] = EP_STOPPED;
	xhci_put_endpoint(x, slot, ep);
	return CC_SUCCESS;
}

static int stop_endpoint(struct xhci *x, unsigned int slot, unsigned int ep)
{
	struct xhci_slot *s = &x->slot[slot];

	if (s->ep_state[ep] != EP_RUNNING)
		return s->ep_state[ep] ? CC_CONTEXT_STATE : CC_EP_DISABLED;
	xhci_stop_transfer(x, slot, ep);
	s->ep_state[ep] = EP_STOPPED;
	xhci_put_endpoint(x, slot, ep);
	return CC_SUCCESS;
}

static int set_dequeue(struct xhci *x, unsigned int slot, unsigned int ep, uint64_t parameter)
{
	struct xhci_slot *s = &x->slot[slot];

	if (s->ep_state[ep] != EP_STOPPED && s->ep_state[ep] != EP_ERROR)
		return s->ep_state[ep] ? CC_CONTEXT_STATE : CC_EP_DISABLED;
	s->ep_state[ep] = EP_STOPPED;
	s->ep_dequeue[ep] = parameter & ~UINT64_C(15);
	s->ep_cycle[ep] = parameter & EP_CYCLE;
	xhci_put_endpoint(x, slot, ep);
	return CC_SUCCESS;
}

/* --- the ring --- */

static int endpoint_command(struct xhci *x, const struct xhci_trb *t, unsigned int slot)
{
	unsigned int ep = t->control >> 16 & 0x1f;

	if (!ep)
		return CC_TRB;
	switch (xhci_trb_type(t)) {
	case TRB_RESET_EP:
		return reset_endpoint(x, slot, ep);
	case TRB_STOP_EP:
		return stop_endpoint(x, slot, ep);
	}
	return set_dequeue(x, slot, ep, t->parameter);
}

static int slot_command(struct xhci *x, const struct xhci_trb *t, unsigned int slot)
{
	uint64_t in = t->parameter & ~UINT64_C(15);

	if (!slot || slot > XHCI_SLOTS || !x->slot[slot].enabled)
		return CC_SLOT_DISABLED;
	switch (xhci_trb_type(t)) {
	case TRB_DISABLE_SLOT:
		xhci_disable_slot(x, slot);
		return CC_SUCCESS;
	case TRB_ADDRESS_DEVICE:
		return address_device(x, slot, in, t->control & BSR);
	case TRB_CONFIGURE_EP:
		return configure(x, slot, in, t->control & DECONFIG);
	case TRB_EVALUATE:
		return evaluate(x, slot, in);
	case TRB_RESET_DEVICE:
		return reset_device(x, slot);
	case TRB_RESET_EP:
	case TRB_STOP_EP:
	case TRB_SET_DEQUEUE:
		return endpoint_command(x, t, slot);
	}
	return CC_TRB;
}

static void run_command(struct xhci *x, const struct xhci_trb *t)
{
	unsigned int slot = t->control >> 24;
	int code;

	if (xhci_trb_type(t) == TRB_NOOP_COMMAND)
		code = CC_SUCCESS;
	else if (xhci_trb_type(t) == TRB_ENABLE_SLOT)
		code = enable_slot(x, &slot);
	else
		code = slot_command(x, t, slot);
	xhci_event(x, t->gpa, (uint32_t)code << 24, slot << 24 | TRB_COMMAND_EVENT << 10);
}

void xhci_run_commands(struct xhci *x)
{
	struct xhci_trb t;

	for (unsigned int i = 0;
	     i < PER_KICK && x->command_running && xhci_ring_next(x, &x->command, &t); i++)
		run_command(x, &t);
}
