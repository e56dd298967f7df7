/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/x86/cpuid.c - the CPU model of our own engines (SDM vol. 2, CPUID; AMD APM vol. 3, app. E)
 *
 * User-visible instructions are shown when the host has them, since the host's own instruction
 * executes them.  System features are emulated and shown on every host.
 */
#include "engine/x86/cpuid.h"

#include "base/clock.h"
#include "engine/x86/cpu.h"

#include <assert.h>
#include <cpuid.h>
#include <pthread.h>
#include <time.h>
#include <x86intrin.h>

struct host_regs {
	uint32_t r[4];
};

static struct host_regs host_cpuid(uint32_t function, uint32_t index)
{
	struct host_regs h = {{0}};
	uint32_t max = __get_cpuid_max(function & 0x80000000, NULL);

	if (function <= max)
		__cpuid_count(function, index, h.r[0], h.r[1], h.r[2], h.r[3]);
	return h;
}

static enum cpu_vendor host_vendor(void)
{
	struct host_regs h = host_cpuid(0, 0);

	/* "Auth" and "Hygo": Hygon documents AMD's behaviour. */
	return h.r[CPUID_EBX] == 0x68747541 || h.r[CPUID_EBX] == 0x6f677948 ? VENDOR_AMD
									    : VENDOR_INTEL;
}

/*
 * Programs choose code by the model too (__builtin_cpu_is, function clones for an architecture), so
 * one that has AVX-512, which guests do not, stands for its client sibling without it: Skylake.
 */
#define SKYLAKE_CLIENT UINT32_C(0x506e3)

uint32_t cpuid_signature(void)
{
	if (host_vendor() == VENDOR_INTEL && (host_cpuid(7, 0).r[CPUID_EBX] & BIT(16)))
		return SKYLAKE_CLIENT;
	return host_cpuid(1, 0).r[CPUID_EAX] & 0x0fff0fff;
}

/* --- TSC frequency --- */

static uint32_t tsc_khz_value;

/* One pair of both clocks, from the narrowest of some readings. */
static void clock_pair(uint64_t *tsc, uint64_t *ns)
{
	uint64_t best = UINT64_MAX;

	for (unsigned int i = 0; i < 32; i++) {
		uint64_t t0 = __rdtsc(), now, t1;
		struct timespec ts;

		clock_gettime(CLOCK_MONOTONIC, &ts);
		t1 = __rdtsc();
		now = (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
		if (t1 - t0 < best) {
			best = t1 - t0;
			*tsc = t0 + best / 2;
			*ns = now;
		}
	}
}

static void tsc_khz_measure(void)
{
	struct host_regs h = host_cpuid(0x15, 0);
	struct timespec wait = {.tv_nsec = 20 * (long)NSEC_PER_MSEC};
	uint64_t tsc0 = 0, tsc1 = 0, ns0 = 0, ns1 = 0;

	if (h.r[CPUID_EAX] && h.r[CPUID_EBX] && h.r[CPUID_ECX]) {
		tsc_khz_value =
		    (uint32_t)(muldiv64(h.r[CPUID_ECX], h.r[CPUID_EBX], h.r[CPUID_EAX]) / 1000);
		return;
	}
	clock_pair(&tsc0, &ns0);
	while (nanosleep(&wait, &wait) < 0)
		;
	clock_pair(&tsc1, &ns1);
	tsc_khz_value = (uint32_t)muldiv64(tsc1 - tsc0, 1000000, ns1 - ns0);
}

uint32_t host_tsc_khz(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, tsc_khz_measure);
	return tsc_khz_value;
}

/* --- features --- */

#define F1_EDX_EMULATED                                                                            \
	(BIT(0) /* FPU */ | BIT(1) /* VME */ | BIT(2) /* DE */ | BIT(3) /* PSE */ |                \
	 BIT(4) /* TSC */ | BIT(5) /* MSR */ | BIT(6) /* PAE */ | BIT(7) /* MCE */ |               \
	 BIT(8) /* CX8 */ | BIT(9) /* APIC */ | BIT(11) /* SEP */ | BIT(12) /* MTRR */ |           \
	 BIT(13) /* PGE */ | BIT(14) /* MCA */ | BIT(15) /* CMOV */ | BIT(16) /* PAT */ |          \
	 BIT(17) /* PSE36 */ | BIT(19) /* CLFSH */ | BIT(23) /* MMX */ | BIT(24) /* FXSR */ |      \
	 BIT(25) /* SSE */ | BIT(26) /* SSE2 */)
/* By the host's own instructions. */
#define F1_ECX_HOST                                                                                \
	(BIT(0) /* SSE3 */ | BIT(1) /* PCLMUL */ | BIT(9) /* SSSE3 */ | BIT(12) /* FMA */ |        \
	 BIT(13) /* CX16 */ | BIT(19) /* SSE4.1 */ | BIT(20) /* SSE4.2 */ | BIT(22) /* MOVBE */ |  \
	 BIT(23) /* POPCNT */ | BIT(25) /* AES */ | BIT(26) /* XSAVE */ | BIT(28) /* AVX */ |      \
	 BIT(29) /* F16C */ | BIT(30) /* RDRAND */)
#define F1_ECX_EMULATED                                                                            \
	(BIT(17) /* PCID */ | BIT(21) /* x2APIC */ | BIT(24) /* TSC deadline */ |                  \
	 BIT(31) /* hypervisor */)
#define F7_EBX_HOST                                                                                \
	(BIT(3) /* BMI1 */ | BIT(5) /* AVX2 */ | BIT(6) /* FDP_EXCPTN_ONLY */ |                    \
	 BIT(8) /* BMI2 */ | BIT(13) /* zero FCS/FDS */ | BIT(18) /* RDSEED */ |                   \
	 BIT(19) /* ADX */ | BIT(29) /* SHA */)
#define F7_EBX_EMULATED                                                                            \
	(BIT(0) /* FSGSBASE */ | BIT(1) /* TSC_ADJUST */ | BIT(7) /* SMEP */ | BIT(9) /* ERMS */ | \
	 BIT(10) /* INVPCID */ | BIT(20) /* SMAP */ | BIT(23) /* CLFLUSHOPT */ |                   \
	 BIT(24) /* CLWB */)
#define F7_ECX_HOST     (BIT(8) /* GFNI */ | BIT(9) /* VAES */ | BIT(10) /* VPCLMULQDQ */)
#define F7_ECX_EMULATED (BIT(2) /* UMIP */ | BIT(22) /* RDPID */)
#define F7_EDX_EMULATED BIT(4) /* FSRM */
/* Intel: plain storage MSRs that make kernels choose the free mitigations (docs/cpu-model.md). */
#define F7_EDX_INTEL                                                                               \
	(BIT(14) /* SERIALIZE */ | BIT(26) /* IBRS, IBPB */ | BIT(29) /* ARCH_CAPABILITIES */)
#define FX1_ECX_HOST (BIT(0) /* LAHF */ | BIT(5) /* LZCNT */ | BIT(8) /* PREFETCHW */)
#define FX1_EDX_EMULATED                                                                           \
	(BIT(11) /* SYSCALL */ | BIT(20) /* NX */ | BIT(26) /* 1G pages */ |                       \
	 BIT(27) /* RDTSCP */ | BIT(29) /* LM */)
/* AMD repeats these bits of 01H:EDX. */
#define FX1_EDX_REPEATED UINT32_C(0x0183f3ff)

static void leaf_add(struct cpu_model *m, uint32_t function, uint32_t index, bool indexed,
		     uint32_t eax, uint32_t ebx, uint32_t ecx, uint32_t edx)
{
	assert(m->n_leaves < CPUID_MAX_LEAVES);
	m->leaf[m->n_leaves++] = (struct cpuid_leaf){function, index, indexed, eax, ebx, ecx, edx};
}

/* Smallest n with 2^n >= x. */
static unsigned int log2_ceil(unsigned int x)
{
	unsigned int n = 0;

	while ((1u << n) < x)
		n++;
	return n;
}

static void add_vendor(struct cpu_model *m, uint32_t function, uint32_t max)
{
	if (m->vendor == VENDOR_AMD)
		leaf_add(m, function, 0, false, max, 0x68747541, 0x444d4163, 0x69746e65);
	else if (function == 0)
		leaf_add(m, function, 0, false, max, 0x756e6547, 0x6c65746e, 0x49656e69);
	else
		leaf_add(m, function, 0, false, max, 0, 0, 0);
}

static uint32_t feature_1_ecx(void)
{
	uint32_t ecx = host_cpuid(1, 0).r[CPUID_ECX] & F1_ECX_HOST;

	/* What needs the YMM state goes with XSAVE and AVX. */
	if (!(ecx & BIT(26)))
		ecx &= ~(uint32_t)BIT(28);
	if (!(ecx & BIT(28)))
		ecx &= ~(uint32_t)(BIT(12) | BIT(29));
	return ecx | F1_ECX_EMULATED;
}

static bool model_has_avx(void)
{
	return feature_1_ecx() & BIT(28);
}

static void add_features(struct cpu_model *m)
{
	bool htt = m->n_cpus > 1;
	uint32_t edx = F1_EDX_EMULATED | (htt ? BIT(28) : 0);
	/* CLFLUSH lines of 64 bytes; APIC ids rounded up to a power of two. */
	uint32_t ebx = 8 << 8 | (htt ? (1u << log2_ceil(m->n_cpus)) << 16 : 0);
	uint32_t f7 = host_cpuid(7, 0).r[CPUID_EBX] & F7_EBX_HOST;
	uint32_t f7c = host_cpuid(7, 0).r[CPUID_ECX] & F7_ECX_HOST;
	bool intel = m->vendor == VENDOR_INTEL;

	leaf_add(m, 1, 0, false, cpuid_signature(), ebx, feature_1_ecx(), edx);
	if (!model_has_avx()) {
		f7 &= ~(uint32_t)BIT(5);
		f7c = 0;
	}
	leaf_add(m, 7, 0, true, intel ? 2 : 0, f7 | F7_EBX_EMULATED, f7c | F7_ECX_EMULATED,
		 F7_EDX_EMULATED | (intel ? F7_EDX_INTEL : 0));
	if (intel)
		leaf_add(m, 7, 2, true, 0, 0, 0, BIT(4) /* BHI_CTRL */);
	leaf_add(m, 0x80000001, 0, false, intel ? 0 : cpuid_signature(), 0,
		 (host_cpuid(0x80000001, 0).r[CPUID_ECX] & FX1_ECX_HOST) |
		     (!intel && htt ? BIT(1) /* CMP_LEGACY */ : 0),
		 FX1_EDX_EMULATED | (intel ? 0 : edx & FX1_EDX_REPEATED));
}

/* --- the other leaves --------------------------------------------------------------------------
 */

struct cache {
	uint8_t type, level; /* 1 data, 2 instruction, 3 unified */
	uint32_t ways, sets;
};

/* A plain hierarchy; code sizes its copies by it, so it is much like a real server's. */
static const struct cache caches[] = {
    {1, 1, 8, 64},     /* 32 KiB */
    {2, 1, 8, 64},     /* 32 KiB */
    {3, 2, 16, 1024},  /* 1 MiB */
    {3, 3, 16, 16384}, /* 16 MiB, shared */
};

static void add_caches_intel(struct cpu_model *m)
{
	uint32_t cores = (1u << log2_ceil(m->n_cpus)) - 1;

	leaf_add(m, 2, 0, false, 0x00feff01, 0, 0, 0); /* "see leaf 4" */
	for (unsigned int i = 0; i < ARRAY_SIZE(caches); i++) {
		const struct cache *c = &caches[i];
		uint32_t share = c->level == 3 ? cores : 0;

		leaf_add(m, 4, i, true,
			 c->type | (uint32_t)c->level << 5 | BIT(8) | share << 14 | cores << 26,
			 63 | (c->ways - 1) << 22, c->sets - 1, 0);
	}
}

static void add_caches_amd(struct cpu_model *m)
{
	leaf_add(m, 0x80000005, 0, false, 0xff40ff40, 0xff40ff40, 32u << 24 | 8 << 16 | 1 << 8 | 64,
		 32u << 24 | 8 << 16 | 1 << 8 | 64);
	leaf_add(m, 0x80000006, 0, false, 0, 0x42004200, 1024u << 16 | 8 << 12 | 1 << 8 | 64,
		 32u << 18 | 8 << 12 | 1 << 8 | 64);
}

static void add_topology(struct cpu_model *m)
{
	static const uint32_t functions[] = {0xb, 0x1f};
	unsigned int bits = log2_ceil(m->n_cpus);

	for (unsigned int i = 0; i < ARRAY_SIZE(functions); i++) {
		if (functions[i] == 0x1f && m->vendor != VENDOR_INTEL)
			continue;
		leaf_add(m, functions[i], 0, true, 0, 1, 1 << 8 | 0, 0);
		leaf_add(m, functions[i], 1, true, bits, m->n_cpus, 2 << 8 | 1, 0);
	}
}

static void add_xsave(struct cpu_model *m)
{
	bool avx = model_has_avx();

	if (!(feature_1_ecx() & BIT(26)))
		return;
	leaf_add(m, 0xd, 0, true, avx ? XSTATE_ALL : XSTATE_X87 | XSTATE_SSE, 576,
		 avx ? XSAVE_AREA_SIZE : 576, 0);
	/* XSAVEOPT, XSAVEC */
	leaf_add(m, 0xd, 1, true, host_cpuid(0xd, 1).r[CPUID_EAX] & 3, 0, 0, 0);
	if (avx)
		leaf_add(m, 0xd, 2, true, 256, 576, 0, 0);
}

static void add_brand(struct cpu_model *m)
{
	char text[48] = "Insula Software CPU";

	for (unsigned int i = 0; i < 3; i++)
		leaf_add(m, 0x80000002 + i, 0, false, load_le32(text + i * 16),
			 load_le32(text + i * 16 + 4), load_le32(text + i * 16 + 8),
			 load_le32(text + i * 16 + 12));
}

static void add_extended(struct cpu_model *m)
{
	bool amd = m->vendor == VENDOR_AMD;
	/* AMD: IBPB, SSB_NO, BTC_NO. */
	uint32_t ebx = amd ? BIT(12) | BIT(26) | BIT(29) : 0;
	uint32_t ecx = amd ? log2_ceil(m->n_cpus) << 12 | (m->n_cpus - 1) : 0;

	add_vendor(m, 0x80000000, amd ? 0x80000021 : 0x80000008);
	add_brand(m);
	if (amd)
		add_caches_amd(m);
	else
		leaf_add(m, 0x80000006, 0, false, 0, 0, 1024u << 16 | 8 << 12 | 64, 0);
	leaf_add(m, 0x80000007, 0, false, 0, 0, 0, BIT(8)); /* invariant TSC */
	leaf_add(m, 0x80000008, 0, false, CPU_LINEAR_BITS << 8 | CPU_PHYS_BITS, ebx, ecx, 0);
	if (amd) /* LFENCE serializes, null selectors clear, automatic IBRS, SRSO_NO; TSA_*_NO */
		leaf_add(m, 0x80000021, 0, false, BIT(2) | BIT(6) | BIT(8) | BIT(29), 0,
			 BIT(1) | BIT(2), 0);
}

#define KVM_CLOCKSOURCE        BIT(0)
#define KVM_NOP_IO_DELAY       BIT(1)
#define KVM_CLOCKSOURCE2       BIT(3)
#define KVM_CLOCKSOURCE_STABLE BIT(24)

static void add_hypervisor(struct cpu_model *m)
{
	leaf_add(m, 0x40000000, 0, false, 0x40000010, 0x4b4d564b, 0x564b4d56, 0x4d);
	leaf_add(m, 0x40000001, 0, false,
		 KVM_CLOCKSOURCE | KVM_NOP_IO_DELAY | KVM_CLOCKSOURCE2 | KVM_CLOCKSOURCE_STABLE, 0,
		 0, 0);
	leaf_add(m, 0x40000010, 0, false, m->tsc_khz, CPU_LAPIC_KHZ, 0, 0);
}

/*
 * The crystal is the local APIC timer's clock: TSC = crystal * ebx / eax.  Linux multiplies crystal
 * kHz by ebx in 32 bits, so ebx must be small: the best fraction (last convergent of the continued
 * fraction) whose numerator is; its error is below a millionth.
 */
static void add_tsc_ratio(struct cpu_model *m)
{
	uint64_t a = m->tsc_khz, b = CPU_LAPIC_KHZ, num = 1, num_old = 0, den = 0, den_old = 1;

	while (b) {
		uint64_t q = a / b, rest = a % b, n = q * num + num_old, d = q * den + den_old;

		if (n > UINT32_MAX / CPU_LAPIC_KHZ)
			break;
		num_old = num;
		num = n;
		den_old = den;
		den = d;
		a = b;
		b = rest;
	}
	leaf_add(m, 0x15, 0, false, (uint32_t)den, (uint32_t)num, CPU_LAPIC_KHZ * 1000u, 0);
}

void cpu_model_soft(struct cpu_model *m, unsigned int n_cpus)
{
	uint32_t mhz;

	*m = (struct cpu_model){
	    .n_cpus = n_cpus, .tsc_khz = host_tsc_khz(), .vendor = host_vendor()};
	mhz = (m->tsc_khz + 500) / 1000;
	add_vendor(m, 0, m->vendor == VENDOR_INTEL ? 0x1f : 0x16);
	add_features(m);
	if (m->vendor == VENDOR_INTEL)
		add_caches_intel(m);
	leaf_add(m, 6, 0, false, BIT(2) /* ARAT */, 0, 0, 0);
	add_topology(m);
	add_xsave(m);
	add_tsc_ratio(m);
	leaf_add(m, 0x16, 0, false, mhz, mhz, 100, 0);
	add_extended(m);
	add_hypervisor(m);
}

/* --- answers --- */

static const struct cpuid_leaf *leaf_find(const struct cpu_model *m, uint32_t function,
					  uint32_t index)
{
	for (unsigned int i = 0; i < m->n_leaves; i++) {
		const struct cpuid_leaf *l = &m->leaf[i];

		if (l->function == function && (!l->indexed || l->index == index))
			return l;
	}
	return NULL;
}

bool cpu_model_has(const struct cpu_model *m, uint32_t function, enum cpuid_reg reg,
		   unsigned int bit)
{
	const struct cpuid_leaf *l = leaf_find(m, function, 0);
	uint32_t x;

	if (!l)
		return false;
	x = reg == CPUID_EAX   ? l->eax
	    : reg == CPUID_EBX ? l->ebx
	    : reg == CPUID_ECX ? l->ecx
			       : l->edx;
	return x & BIT(bit);
}

/* Intel answers a function above the maximum with the highest basic leaf. */
static uint32_t function_clip(const struct cpu_model *m, uint32_t function)
{
	uint32_t max_basic = m->leaf[0].eax;
	const struct cpuid_leaf *ext = leaf_find(m, 0x80000000, 0);

	if (m->vendor != VENDOR_INTEL || function >> 28 == 4)
		return function;
	if (function < 0x80000000 ? function > max_basic : ext && function > ext->eax)
		return max_basic;
	return function;
}

void cpu_model_query(const struct cpu_model *m, uint32_t apic_id, uint64_t cr4, uint64_t xcr0,
		     uint32_t function, uint32_t index, uint32_t out[4])
{
	const struct cpuid_leaf *l;

	function = function_clip(m, function);
	l = leaf_find(m, function, index);
	memset(out, 0, 4 * sizeof(out[0]));
	if (l) {
		out[0] = l->eax;
		out[1] = l->ebx;
		out[2] = l->ecx;
		out[3] = l->edx;
	}
	switch (function) {
	case 1:
		out[1] |= apic_id << 24;
		if (cr4 & CR4_OSXSAVE)
			out[2] |= BIT(27);
		break;
	case 0xb:
	case 0x1f:
		if (leaf_find(m, function, 0)) {
			if (!l)
				out[2] = index & 0xff;
			out[3] = apic_id;
		}
		break;
	case 0xd:
		/* With AVX right after SSE, the compacted form is no smaller. */
		if (index < 2 && l)
			out[1] = xcr0 & XSTATE_AVX ? XSAVE_AREA_SIZE : 576;
		break;
	}
}
