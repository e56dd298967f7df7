/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/rtc_mc146818.h - clock and CMOS memory (Motorola MC146818, as in PCs)
 *
 * The time is the host's plus an offset that moves when the guest sets the clock.  Periodic ticks
 * that fell behind are left out.  CMOS bytes of the firmware's convention (memory size and such)
 * are the board's to write.
 */
#pragma once

#include "device/device.h"

#define RTC_CENTURY 0x32

struct rtc_config {
	struct irq irq; /* IRQ 8 */
	struct timerq *timers;
	bool local_time;                /* the guest keeps local time (Windows) */
	uint64_t (*wall)(void *opaque); /* ns since 1970; NULL = clock_wall */
	void *opaque;
};

struct rtc {
	struct device dev;
	struct rtc_config cfg;
	struct timer periodic, update;
	uint8_t cmos[128];
	uint8_t index;        /* port 70h, bit 7 = NMI off */
	int64_t offset;       /* RTC time = host time + this, ns */
	uint64_t held;        /* RTC time while SET stops it, ns */
	uint64_t last_second; /* of the last update interrupt */
	uint64_t period_due;
	uint8_t irq_level;
	uint8_t disconnected; /* by the HPET */
};

must_check int rtc_new(const struct rtc_config *cfg, struct rtc **ret);
/* For the board, before the machine runs. */
void rtc_set_cmos(struct rtc *r, unsigned int index, uint8_t value);
bool rtc_nmi_disabled(struct rtc *r);
/* The HPET in legacy mode takes IRQ 8 away. */
void rtc_disconnect(void *rtc, bool off);
