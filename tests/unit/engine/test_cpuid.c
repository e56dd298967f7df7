/* SPDX-License-Identifier: Apache-2.0 */
#include <cpuid.h>

#include "engine/x86/cpu.h"
#include "engine/x86/cpuid.h"
#include "test.h"

static struct cpu_model model;

static uint32_t ask(uint32_t apic, uint64_t cr4, uint64_t xcr0, uint32_t fn, uint32_t index,
		    enum cpuid_reg reg)
{
	uint32_t out[4];

	cpu_model_query(&model, apic, cr4, xcr0, fn, index, out);
	return out[reg];
}

static void test_dynamic(void)
{
	CHECK_EQ(ask(3, 0, 1, 1, 0, CPUID_EBX) >> 24, 3);
	CHECK(!(ask(0, 0, 1, 1, 0, CPUID_ECX) & BIT(27)));
	CHECK(ask(0, CR4_OSXSAVE, 1, 1, 0, CPUID_ECX) & BIT(27));
	CHECK_EQ(ask(2, 0, 1, 0xb, 0, CPUID_EDX), 2);
	CHECK_EQ(ask(2, 0, 1, 0xb, 1, CPUID_EBX), 5);
	CHECK_EQ(ask(2, 0, 1, 0xb, 1, CPUID_EAX), 3);
	CHECK_EQ(ask(2, 0, 1, 0xb, 7, CPUID_ECX), 7);
	if (cpu_model_has(&model, 1, CPUID_ECX, 28)) {
		CHECK_EQ(ask(0, 0, 1, 0xd, 0, CPUID_EBX), 576);
		CHECK_EQ(ask(0, 0, 7, 0xd, 0, CPUID_EBX), 832);
		CHECK_EQ(ask(0, 0, 7, 0xd, 0, CPUID_ECX), 832);
		CHECK_EQ(ask(0, 0, 7, 0xd, 2, CPUID_EBX), 576);
	}
}

static void test_hidden(void)
{
	CHECK(!cpu_model_has(&model, 1, CPUID_ECX, 3));          /* MONITOR */
	CHECK(!cpu_model_has(&model, 1, CPUID_ECX, 5));          /* VMX */
	CHECK(!cpu_model_has(&model, 7, CPUID_EBX, 16));         /* AVX-512F */
	CHECK(!cpu_model_has(&model, 7, CPUID_EBX, 4));          /* HLE */
	CHECK(!cpu_model_has(&model, 7, CPUID_EBX, 11));         /* RTM */
	CHECK(!cpu_model_has(&model, 7, CPUID_ECX, 3));          /* PKU */
	CHECK(!cpu_model_has(&model, 7, CPUID_ECX, 16));         /* LA57 */
	CHECK(!cpu_model_has(&model, 0x80000001, CPUID_ECX, 2)); /* SVM */
	CHECK(cpu_model_has(&model, 1, CPUID_ECX, 31));
	CHECK(cpu_model_has(&model, 0x80000001, CPUID_EDX, 29));
}

/* stress-ng's clones for AVX-512 models ran on the model alone, and ended with SIGILL. */
static void test_model_without_avx512(void)
{
	unsigned int a, b = 0, c, d, a1, b1, c1, d1;

	__get_cpuid(1, &a1, &b1, &c1, &d1);
	__get_cpuid_count(7, 0, &a, &b, &c, &d);
	if (model.vendor == VENDOR_INTEL && b >> 16 & 1)
		CHECK_EQ(ask(0, 0, 1, 1, 0, CPUID_EAX), 0x506e3);
	else
		CHECK_EQ(ask(0, 0, 1, 1, 0, CPUID_EAX), a1 & 0x0fff0fff);
}

static void test_ranges(void)
{
	uint32_t max = ask(0, 0, 1, 0, 0, CPUID_EAX);

	CHECK_EQ(ask(0, 0, 1, 0x40000000, 0, CPUID_EBX), 0x4b4d564b);
	CHECK_EQ(ask(0, 0, 1, 0x40000010, 0, CPUID_EAX), model.tsc_khz);
	CHECK_EQ(ask(0, 0, 1, 0x40000077, 0, CPUID_EAX), 0);
	CHECK_EQ(ask(0, 0, 1, 0x80000008, 0, CPUID_EAX), 0x3028);
	CHECK_EQ(ask(0, 0, 1, 7, 5, CPUID_EBX), 0);
	/* Above the maximum: Intel repeats the last leaf, AMD answers 0. */
	if (model.vendor == VENDOR_INTEL)
		CHECK_EQ(ask(4, 0, 1, max + 1, 0, CPUID_EDX), ask(4, 0, 1, max, 0, CPUID_EDX));
	else
		CHECK_EQ(ask(4, 0, 1, 0x7fffffff, 0, CPUID_EAX), 0);
}

int main(void)
{
	cpu_model_soft(&model, 5);
	CHECK(model.tsc_khz > 100000 && model.tsc_khz < 10000000);
	test_dynamic();
	test_hidden();
	test_model_without_avx512();
	test_ranges();
	cpu_model_soft(&model, 1);
	CHECK(!cpu_model_has(&model, 1, CPUID_EDX, 28)); /* HTT */
	cpu_model_soft(&model, 64);
	CHECK_EQ(ask(63, 0, 1, 0xb, 1, CPUID_EAX), 6);
	return 0;
}
