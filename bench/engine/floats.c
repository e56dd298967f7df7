/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench/engine/floats.c - packed and scalar SSE2, x87
 */
#include "rows.h"

#include <emmintrin.h>
#include <string.h>

static double m_a[MATMUL_SIDE][MATMUL_SIDE] __attribute__((aligned(64)));
static double m_b[MATMUL_SIDE][MATMUL_SIDE] __attribute__((aligned(64)));
static double m_c[MATMUL_SIDE][MATMUL_SIDE] __attribute__((aligned(64)));

static uint64_t double_bits(double d)
{
	uint64_t u;

	memcpy(&u, &d, sizeof(u));
	return u;
}

static void matmul_fill(void)
{
	uint32_t state = 1;

	for (int i = 0; i < MATMUL_SIDE; i++) {
		for (int j = 0; j < MATMUL_SIDE; j++) {
			m_a[i][j] = (double)rand_next(&state) / (1 << 24);
			m_b[i][j] = (double)rand_next(&state) / (1 << 24);
		}
	}
}

/* Two columns an instruction: what a compiler makes of the plain loop with SSE2. */
__attribute__((noipa)) static void matmul(void)
{
	memset(m_c, 0, sizeof(m_c));
	for (int i = 0; i < MATMUL_SIDE; i++) {
		for (int k = 0; k < MATMUL_SIDE; k++) {
			__m128d x = _mm_set1_pd(m_a[i][k]);

			for (int j = 0; j < MATMUL_SIDE; j += 2) {
				__m128d y = _mm_mul_pd(x, _mm_load_pd(&m_b[k][j]));

				_mm_store_pd(&m_c[i][j], _mm_add_pd(_mm_load_pd(&m_c[i][j]), y));
			}
		}
	}
}

uint64_t row_matmul(uint64_t n)
{
	uint64_t sum = 0;

	if (m_a[0][0] == 0)
		matmul_fill();
	for (; n; n--)
		matmul();
	for (int i = 0; i < MATMUL_SIDE; i++)
		sum = sum * 31 + double_bits(m_c[i][MATMUL_SIDE - 1 - i]);
	return sum;
}

static double fp_items[FPSUM_ITEMS];

__attribute__((noipa)) static double fp_add(const double *p, int n)
{
	double sum = 0;

	for (int i = 0; i < n; i++)
		sum += p[i];
	return sum;
}

uint64_t row_fpsum(uint64_t n)
{
	uint32_t state = 1;
	double sum = 0;

	if (fp_items[0] == 0) {
		for (int i = 0; i < FPSUM_ITEMS; i++)
			fp_items[i] = (double)rand_next(&state) / 3;
	}
	for (; n; n--)
		sum = fp_add(fp_items, FPSUM_ITEMS);
	return double_bits(sum);
}

__attribute__((noipa)) static long double x87_loop(int steps)
{
	long double x = 1, y = 0;

	for (int i = 0; i < steps; i++) {
		y += x;
		x = x * 0.999L + 0.25L;
	}
	return y;
}

uint64_t row_x87(uint64_t n)
{
	long double y = 0;

	for (; n; n--)
		y = x87_loop(X87_STEPS);
	return double_bits((double)y);
}
