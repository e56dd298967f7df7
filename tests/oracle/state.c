/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/oracle/state.c - random numbers and random machine states, with values that matter
 */
#include "oracle.h"

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

void rng_seed(struct rng *r, uint64_t seed, uint64_t stream)
{
	r->s[0] = mix(seed * UINT64_C(0x9e3779b97f4a7c15) + stream);
	r->s[1] = mix(r->s[0] + stream * UINT64_C(0xda942042e4dd58b5) + 1) | 1;
}

/* xorshift128+ */
uint64_t rng_next(struct rng *r)
{
	uint64_t a = r->s[0], b = r->s[1];

	r->s[0] = b;
	a ^= a << 23;
	r->s[1] = a ^ b ^ a >> 17 ^ b >> 26;
	return r->s[1] + b;
}

static const uint64_t edge[] = {
    0,
    1,
    2,
    3,
    7,
    8,
    0xf,
    0x10,
    0x1f,
    0x20,
    0x3f,
    0x40,
    0x7f,
    0x80,
    0x81,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x10000,
    0x7fffffff,
    0x80000000,
    0x80000001,
    0xffffffff,
    0x100000000,
    0x7fffffffffffffff,
    0x8000000000000000,
    0x8000000000000001,
    0xfffffffffffffffe,
    0xffffffffffffffff,
    0xffffffff80000000,
    0xffffffff00000000,
    0x5555555555555555,
    0x00007fffffffffff,
    0x0000800000000000,
    0xffff800000000000,
};

static const uint64_t doubles[] = {
    0x0000000000000000, 0x8000000000000000, 0x3ff0000000000000, 0xbff0000000000000,
    0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000, 0x7ff0000000000001,
    0xfff8000000000001, 0x0000000000000001, 0x000fffffffffffff, 0x0010000000000000,
    0x7fefffffffffffff, 0x41dfffffffc00000, 0xc1e0000000000000, 0x41e0000000000000,
    0x43e0000000000000, 0xc3e0000000000000, 0x3fe0000000000000, 0x4008000000000000,
    0x3ff8000000000000, 0x36a0000000000000, 0x380fffffffffffff, 0x47efffffe0000000,
};

static const uint32_t floats[] = {
    0x00000000, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001,
    0xffc00001, 0x00000001, 0x007fffff, 0x00800000, 0x7f7fffff, 0x4f000000, 0xcf000000, 0x5f000000,
    0x3f000000, 0x40400000, 0x3fc00000, 0x33800000, 0x387fe000, 0x477ff000,
};

static uint64_t random_u64(struct rng *r)
{
	uint64_t x = rng_next(r);

	switch (rng_below(r, 8)) {
	case 0:
	case 1:
		return edge[rng_below(r, ARRAY_SIZE(edge))];
	case 2:
		return x & 0xff;
	case 3:
		return (uint64_t)(int64_t)(int8_t)x;
	case 4:
		return (uint32_t)x;
	case 5:
		return DATA + (x & (DATA_SIZE - 1));
	default:
		return x;
	}
}

static uint64_t random_double(struct rng *r)
{
	uint64_t x = rng_next(r);

	switch (rng_below(r, 4)) {
	case 0:
		return doubles[rng_below(r, ARRAY_SIZE(doubles))];
	case 1: /* moderate exponent, few bits */
		return (x & 0x800f000000000000) | (UINT64_C(0x3f8) + (x >> 52 & 0xf)) << 52;
	case 2: /* moderate exponent */
		return (x & 0x800fffffffffffff) | (UINT64_C(0x3e0) + (x >> 52 & 0x3f)) << 52;
	default:
		return x;
	}
}

static uint32_t random_float(struct rng *r)
{
	uint32_t x = (uint32_t)rng_next(r);

	switch (rng_below(r, 4)) {
	case 0:
		return floats[rng_below(r, ARRAY_SIZE(floats))];
	case 1:
		return (x & 0x80700000) | (0x78u + (x >> 23 & 0xf)) << 23;
	case 2:
		return (x & 0x807fffff) | (0x60u + (x >> 23 & 0x3f)) << 23;
	default:
		return x;
	}
}

/* 16 bytes as one kind of thing. */
static void random_vector(struct rng *r, uint8_t out[16])
{
	unsigned int kind = rng_below(r, 8);

	for (unsigned int n = 0; n < 2; n++) {
		uint64_t x;

		if (kind < 3)
			x = random_double(r);
		else if (kind < 6)
			x = (uint64_t)random_float(r) << 32 | random_float(r);
		else if (kind == 6)
			x = random_u64(r);
		else
			x = rng_next(r);
		store_le64(out + 8 * n, x);
	}
}

static void random_st(struct rng *r, uint8_t out[16])
{
	uint64_t m = rng_next(r);
	uint16_t e = (uint16_t)rng_next(r);

	memset(out, 0, 16);
	switch (rng_below(r, 8)) {
	case 0: /* zero, denormal, infinity, NaN, and unsupported forms */
		e = (e & 0x8000) | (rng_chance(r, 50) ? 0 : 0x7fff);
		m = rng_chance(r, 50) ? 0 : m;
		m |= rng_chance(r, 70) && (e & 0x7fff) ? BIT(63) : 0;
		break;
	case 1:
		m = edge[rng_below(r, ARRAY_SIZE(edge))];
		break;
	case 2: /* an integer */
		e = (e & 0x8000) | (0x3fff + (e & 0x3f));
		m = (m & UINT64_C(0xff00000000000000)) | BIT(63);
		break;
	case 3:
	case 4: /* around one */
		e = (e & 0x8000) | (0x3ff8 + (e & 0xf));
		m |= BIT(63);
		break;
	case 5: /* what MMX leaves */
		e = 0xffff;
		break;
	default:
		m |= BIT(63);
		break;
	}
	store_le64(out, m);
	store_le16(out + 8, e);
}

static void random_x87(struct rng *r, struct cpu_xsave *xs)
{
	uint16_t pending;

	xs->fcw = 0x37f;
	if (rng_chance(r, 40))
		xs->fcw = (uint16_t)(0x7f | (rng_below(r, 4) << 8) | (rng_below(r, 4) << 10));
	if (rng_chance(r, 15))
		xs->fcw &= (uint16_t)(rng_next(r) | 0xffc0);
	xs->fsw = (uint16_t)(rng_next(r) & 0x7f00);
	if (rng_chance(r, 20))
		xs->fsw |= rng_next(r) & 0x7f;
	pending = xs->fsw & ~xs->fcw & 0x3f;
	if (pending && rng_chance(r, 70)) { /* few cases shall end at once with #MF */
		xs->fsw &= (uint16_t)~pending;
		pending = 0;
	}
	if (pending)
		xs->fsw |= 0x8080;
	xs->ftw = rng_chance(r, 50) ? 0xff : (uint8_t)rng_next(r);
	if (rng_chance(r, 20)) {
		xs->fop = (uint16_t)(rng_next(r) & 0x7ff);
		xs->fip = rng_next(r) & 0xffffffff;
		xs->fdp = rng_next(r) & 0xffffffff;
	}
	for (unsigned int n = 0; n < 8; n++)
		random_st(r, xs->st[n]);
}

static void random_xstate(struct rng *r, struct cpu_xsave *xs)
{
	memset(xs, 0, sizeof(*xs));
	random_x87(r, xs);
	xs->mxcsr = 0x1f80;
	if (rng_chance(r, 40))
		xs->mxcsr = 0x1f80 | (uint32_t)(rng_next(r) & 0xe07f);
	if (rng_chance(r, 10)) /* unmasked */
		xs->mxcsr &= (uint32_t)(rng_next(r) | 0xe07f);
	for (unsigned int n = 0; n < 16; n++) {
		random_vector(r, xs->xmm[n]);
		random_vector(r, xs->ymmh[n]);
	}
	xs->mxcsr_mask = 0xffff;
	xs->xstate_bv = XSTATE_ALL;
}

static void random_memory(struct rng *r, uint8_t *p, unsigned int len)
{
	for (unsigned int n = 0; n < len; n += 16) {
		if (rng_chance(r, 20)) {
			random_st(r, p + n);
			store_le64(p + n + 8, load_le64(p + n + 8) | random_u64(r) << 16);
		} else {
			random_vector(r, p + n);
		}
	}
}

void random_state(struct rng *r, struct testcase *c)
{
	struct machine *m = &c->in;
	uint64_t f = rng_next(r);

	for (unsigned int n = 0; n < 16; n++) {
		m->gpr[n] = random_u64(r);
		if (c->compat)
			m->gpr[n] = n < 8 ? (uint32_t)m->gpr[n] : 0;
	}
	m->gpr[RSP] = DATA + 0x800 + (f >> 32 & 0x7f8);
	m->rflags = FL_ONE | FL_IF | (f & FL_ARITH);
	if (rng_chance(r, 15))
		m->rflags |= FL_DF;
	if (rng_chance(r, 3))
		m->rflags |= FL_AC;
	random_xstate(r, &m->xs);
	/* where operands are aimed at: both ends and the page boundary */
	memset(c->data, (int)(f >> 56), DATA_SIZE);
	random_memory(r, c->data, 512);
	random_memory(r, c->data + 0xf80, 256);
	random_memory(r, c->data + DATA_SIZE - 256, 256);
}
