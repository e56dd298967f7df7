/* SPDX-License-Identifier: Apache-2.0 */
#include "device/lapic.h"

#include "fake.h"

static struct fake_clock clk;
static struct lapic *l;

static uint64_t tsc(void *opaque)
{
	return clk.now * 2;
}

static uint32_t get(uint32_t off)
{
	uint64_t v = 0;

	CHECK(lapic_mmio(l, LAPIC_DEFAULT_BASE + off, 4, false, &v));
	return (uint32_t)v;
}

static void set(uint32_t off, uint32_t value)
{
	uint64_t v = value;

	CHECK(lapic_mmio(l, LAPIC_DEFAULT_BASE + off, 4, true, &v));
}

/* Takes the timer's interrupt if it is there. */
static bool fired(void)
{
	if (lapic_pending(l) != 0xec)
		return false;
	CHECK_EQ(lapic_ack(l), 0xec);
	set(0xb0, 0);
	return true;
}

static void test_one_shot(void)
{
	set(0x320, 0xec);
	set(0x3e0, 0xb); /* by 1 */
	set(0x380, 1000000);
	CHECK_EQ(get(0x390), 1000000);
	fake_clock_run(&clk, 400000);
	CHECK_EQ(get(0x390), 600000);
	set(0x3e0, 0x0); /* by 2: the rest takes twice as long */
	CHECK_EQ(get(0x390), 600000);
	fake_clock_run(&clk, 1199999);
	CHECK(!fired());
	fake_clock_run(&clk, 1);
	CHECK(fired());
	CHECK_EQ(get(0x390), 0);
	CHECK_EQ(get(0x380), 1000000);
	fake_clock_run(&clk, NSEC_PER_SEC);
	CHECK(!fired());
	/* To periodic with the count at 0: stays there. */
	set(0x320, 0x200ec);
	CHECK_EQ(get(0x390), 0);
	/* Stopped by 0. */
	set(0x380, 1000);
	set(0x380, 0);
	fake_clock_run(&clk, NSEC_PER_SEC);
	CHECK(!fired());
}

static void test_periodic(void)
{
	unsigned int n = 0;

	set(0x3e0, 0xb);
	set(0x320, 0x200ec);
	set(0x380, 1000000);
	for (unsigned int i = 0; i < 1000; i++) {
		fake_clock_run(&clk, NSEC_PER_MSEC);
		n += fired();
	}
	CHECK_EQ(n, 1000);
	/* Late by a hundred periods: one interrupt. */
	clk.now += 100 * NSEC_PER_MSEC;
	timerq_run(&clk.q);
	CHECK(fired());
	CHECK(!fired());
	/* Mode changes keep the count. */
	fake_clock_run(&clk, 600000);
	set(0x320, 0xec);
	CHECK_EQ(get(0x390), 400000);
	fake_clock_run(&clk, NSEC_PER_SEC);
	CHECK(fired());
	CHECK_EQ(get(0x390), 0);
	/* Masked: it runs, but nobody hears. */
	set(0x320, 0x300ec);
	set(0x380, 1000000);
	fake_clock_run(&clk, 10 * NSEC_PER_MSEC);
	CHECK(!fired());
	/* Absurdly fast. */
	set(0x320, 0x200ec);
	set(0x380, 1);
	CHECK(fake_clock_run(&clk, NSEC_PER_SEC) <= NSEC_PER_SEC / LAPIC_MIN_PERIOD_NS + 1);
	set(0x380, 0);
	fired();
}

static void test_deadline(void)
{
	uint64_t v;

	set(0x320, 0x400ec);
	CHECK_EQ(get(0x390), 0);
	set(0x380, 1000); /* no effect in this mode */
	CHECK_EQ(get(0x380), 0);
	CHECK(lapic_wrmsr(l, MSR_TSC_DEADLINE, tsc(NULL) + 2000000));
	fake_clock_run(&clk, 999999);
	CHECK(!fired());
	CHECK(lapic_rdmsr(l, MSR_TSC_DEADLINE, &v));
	CHECK(v != 0);
	fake_clock_run(&clk, 10);
	CHECK(fired());
	CHECK(lapic_rdmsr(l, MSR_TSC_DEADLINE, &v));
	CHECK_EQ(v, 0);
	/* In the past: at once.  0: off.  Far away: never, without a wrap. */
	CHECK(lapic_wrmsr(l, MSR_TSC_DEADLINE, 1));
	CHECK(fired());
	CHECK(lapic_wrmsr(l, MSR_TSC_DEADLINE, tsc(NULL) + 2000));
	CHECK(lapic_wrmsr(l, MSR_TSC_DEADLINE, 0));
	fake_clock_run(&clk, NSEC_PER_SEC);
	CHECK(!fired());
	CHECK(lapic_wrmsr(l, MSR_TSC_DEADLINE, UINT64_MAX));
	fake_clock_run(&clk, NSEC_PER_SEC);
	CHECK(!fired());
	/* Leaving the mode disarms. */
	CHECK(lapic_wrmsr(l, MSR_TSC_DEADLINE, tsc(NULL) + 2000));
	set(0x320, 0xec);
	fake_clock_run(&clk, NSEC_PER_SEC);
	CHECK(!fired());
	CHECK(lapic_wrmsr(l, MSR_TSC_DEADLINE, tsc(NULL) + 2000));
	CHECK(lapic_rdmsr(l, MSR_TSC_DEADLINE, &v));
	CHECK_EQ(v, 0);
}

static void test_state(void)
{
	autostrbuf struct strbuf s = {0};
	size_t used;

	set(0x320, 0x200ec);
	set(0x380, 1000000);
	fake_clock_run(&clk, 300000);
	state_save(&lapic_state_table, l, &s);
	lapic_reset(l);
	fake_clock_run(&clk, 100000);
	CHECK_EQ(state_load(&lapic_state_table, l, s.data, s.len, &used, NULL), 0);
	CHECK_EQ(get(0x390), 600000);
	fake_clock_run(&clk, 600000);
	CHECK(fired());
}

int main(void)
{
	struct apic_bus *apics;

	fake_clock_init(&clk);
	CHECK_EQ(apic_bus_new(1, &apics), 0);
	CHECK_EQ(lapic_new(&(struct lapic_config){.bus = apics,
						  .timers = &clk.q,
						  .tsc_hz = 2 * NSEC_PER_SEC,
						  .guest_tsc = tsc},
			   &l),
		 0);
	set(0xf0, 0x1ff);
	test_one_shot();
	test_periodic();
	test_deadline();
	test_state();
	lapic_free(l);
	apic_bus_free(apics);
	return 0;
}
