/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/rtc_mc146818.c - clock and CMOS memory (Motorola MC146818A data sheet)
 *
 * The time registers are computed when read and turned into an offset when written.  Timers run
 * only while their interrupt is enabled.
 */
#include "device/rtc_mc146818.h"

#include "base/clock.h"

#include <errno.h>
#include <time.h>

enum {
	REG_SECONDS = 0,
	REG_SECONDS_ALARM = 1,
	REG_MINUTES = 2,
	REG_MINUTES_ALARM = 3,
	REG_HOURS = 4,
	REG_HOURS_ALARM = 5,
	REG_WEEKDAY = 6,
	REG_DAY = 7,
	REG_MONTH = 8,
	REG_YEAR = 9,
	REG_A = 10,
	REG_B = 11,
	REG_C = 12,
	REG_D = 13,
};

#define A_UIP  0x80
#define A_DV   0x70 /* divider; 2 = running from 32768 Hz */
#define A_RS   0x0f
#define B_SET  0x80
#define B_PIE  0x40
#define B_AIE  0x20
#define B_UIE  0x10
#define B_DM   0x04 /* binary, not BCD */
#define B_24   0x02
#define C_IRQF 0x80
#define C_PF   0x40
#define C_AF   0x20
#define C_UF   0x10
#define D_VRT  0x80

/* Update-in-progress is seen this long before the second changes. */
#define UIP_NS UINT64_C(244000)

static uint64_t now_ns(const struct rtc *r)
{
	return timerq_now(r->periodic.q);
}

static uint64_t wall_ns(const struct rtc *r)
{
	return r->cfg.wall ? r->cfg.wall(r->cfg.opaque) : clock_wall();
}

static bool stopped(const struct rtc *r)
{
	return (r->cmos[REG_B] & B_SET) || (r->cmos[REG_A] & A_DV) > 0x20;
}

static uint64_t rtc_ns(const struct rtc *r)
{
	return stopped(r) ? r->held : wall_ns(r) + (uint64_t)r->offset;
}

static uint8_t encode(const struct rtc *r, unsigned int v)
{
	return (uint8_t)(r->cmos[REG_B] & B_DM ? v : (v / 10 % 10) << 4 | v % 10);
}

static unsigned int decode(const struct rtc *r, uint8_t v)
{
	return r->cmos[REG_B] & B_DM ? v : (v >> 4) * 10u + (v & 15);
}

static uint8_t encode_hour(const struct rtc *r, unsigned int hour)
{
	uint8_t pm = hour >= 12 ? 0x80 : 0;

	if (r->cmos[REG_B] & B_24)
		return encode(r, hour);
	return encode(r, hour % 12 ? hour % 12 : 12) | pm;
}

static unsigned int decode_hour(const struct rtc *r, uint8_t v)
{
	unsigned int hour;

	if (r->cmos[REG_B] & B_24)
		return decode(r, v);
	hour = decode(r, v & 0x7f) % 12;
	return v & 0x80 ? hour + 12 : hour;
}

/* The time registers from the clock. */
static void fill_time(struct rtc *r)
{
	time_t t = (time_t)(rtc_ns(r) / NSEC_PER_SEC);
	struct tm tm = {0};

	gmtime_r(&t, &tm);
	r->cmos[REG_SECONDS] = encode(r, (unsigned int)tm.tm_sec % 60);
	r->cmos[REG_MINUTES] = encode(r, (unsigned int)tm.tm_min);
	r->cmos[REG_HOURS] = encode_hour(r, (unsigned int)tm.tm_hour);
	r->cmos[REG_WEEKDAY] = encode(r, (unsigned int)tm.tm_wday + 1);
	r->cmos[REG_DAY] = encode(r, (unsigned int)tm.tm_mday);
	r->cmos[REG_MONTH] = encode(r, (unsigned int)tm.tm_mon + 1);
	r->cmos[REG_YEAR] = encode(r, (unsigned int)(tm.tm_year + 1900) % 100);
	/* Firmware and Linux take the century as BCD whatever register B says. */
	r->cmos[RTC_CENTURY] =
	    (uint8_t)(((tm.tm_year + 1900) / 1000 % 10) << 4 | (tm.tm_year + 1900) / 100 % 10);
}

/* The clock from the time registers; nonsense is normalised by timegm. */
static uint64_t parse_time(const struct rtc *r)
{
	uint8_t century = r->cmos[RTC_CENTURY];
	unsigned int year = decode(r, r->cmos[REG_YEAR]) % 100;
	struct tm tm = {
	    .tm_sec = (int)decode(r, r->cmos[REG_SECONDS]),
	    .tm_min = (int)decode(r, r->cmos[REG_MINUTES]),
	    .tm_hour = (int)decode_hour(r, r->cmos[REG_HOURS]),
	    .tm_mday = (int)decode(r, r->cmos[REG_DAY]),
	    .tm_mon = (int)decode(r, r->cmos[REG_MONTH]) - 1,
	};
	time_t t;

	tm.tm_year = (int)(((century >> 4) * 10u + (century & 15)) * 100 + year) - 1900;
	t = timegm(&tm);
	return t < 0 ? 0 : (uint64_t)t * NSEC_PER_SEC;
}

/* --- interrupts --------------------------------------------------------------------------------
 */

static void update_irq(struct rtc *r)
{
	uint8_t enabled = r->cmos[REG_B] & (B_PIE | B_AIE | B_UIE);

	/* Flags and enables sit at the same bits. */
	if (r->cmos[REG_C] & enabled)
		r->cmos[REG_C] |= C_IRQF;
	else
		r->cmos[REG_C] &= (uint8_t)~C_IRQF;
	r->irq_level = (r->cmos[REG_C] & C_IRQF) != 0;
	irq_set(&r->cfg.irq, r->irq_level && !r->disconnected);
}

/* In ns; 0 = off.  Rates 1 and 2 repeat 8 and 9. */
static uint64_t periodic_ns(const struct rtc *r)
{
	unsigned int rs = r->cmos[REG_A] & A_RS;

	if (rs == 0 || (r->cmos[REG_A] & A_DV) != 0x20)
		return 0;
	if (rs <= 2)
		rs += 7;
	return (UINT64_C(1) << (rs - 1)) * NSEC_PER_SEC / 32768;
}

static void arm_periodic(struct rtc *r)
{
	uint64_t period = periodic_ns(r), now = now_ns(r);

	if (!period || !(r->cmos[REG_B] & B_PIE)) {
		r->period_due = TIMER_NEVER;
	} else {
		/* Ticks lie on multiples of the period, whenever the guest looks. */
		r->period_due = (now / period + 1) * period;
	}
	timer_set(&r->periodic, r->period_due);
}

static void arm_update(struct rtc *r)
{
	uint64_t left;

	if (stopped(r) || !(r->cmos[REG_B] & (B_UIE | B_AIE))) {
		timer_cancel(&r->update);
		return;
	}
	left = NSEC_PER_SEC - rtc_ns(r) % NSEC_PER_SEC;
	timer_set(&r->update, now_ns(r) + left);
}

static void on_periodic(void *opaque)
{
	struct rtc *r = opaque;

	device_lock(&r->dev);
	if (now_ns(r) >= r->period_due) {
		r->cmos[REG_C] |= C_PF;
		update_irq(r);
	}
	arm_periodic(r);
	device_unlock(&r->dev);
}

/* Values from C0h up match anything. */
static bool alarm_matches(struct rtc *r)
{
	static const uint8_t regs[3] = {REG_SECONDS, REG_MINUTES, REG_HOURS};

	fill_time(r);
	for (unsigned int i = 0; i < 3; i++) {
		uint8_t alarm = r->cmos[regs[i] + 1];

		if (alarm < 0xc0 && alarm != r->cmos[regs[i]])
			return false;
	}
	return true;
}

static void on_update(void *opaque)
{
	struct rtc *r = opaque;
	uint64_t second;

	device_lock(&r->dev);
	second = rtc_ns(r) / NSEC_PER_SEC;
	if (!stopped(r) && second != r->last_second) {
		r->last_second = second;
		r->cmos[REG_C] |= C_UF;
		if (alarm_matches(r))
			r->cmos[REG_C] |= C_AF;
		update_irq(r);
	}
	arm_update(r);
	device_unlock(&r->dev);
}

/* --- registers ---------------------------------------------------------------------------------
 */

static bool is_time(unsigned int index)
{
	return index == RTC_CENTURY || (index <= REG_YEAR && index != REG_SECONDS_ALARM &&
					index != REG_MINUTES_ALARM && index != REG_HOURS_ALARM);
}

/* Registers A or B may stop and start the clock. */
static void write_control(struct rtc *r, unsigned int index, uint8_t v)
{
	bool was_stopped = stopped(r);
	uint64_t time = rtc_ns(r);

	if (!was_stopped)
		fill_time(r);
	if (index == REG_A)
		r->cmos[REG_A] = v & (uint8_t)~A_UIP;
	else
		r->cmos[REG_B] = v & B_SET ? v & (uint8_t)~B_UIE : v;
	if (stopped(r) && !was_stopped) {
		r->held = time;
	} else if (!stopped(r) && was_stopped) {
		r->offset = (int64_t)(r->held - wall_ns(r));
		r->last_second = r->held / NSEC_PER_SEC;
	} else if (!stopped(r) && !(r->cmos[REG_B] & B_UIE) && !(r->cmos[REG_B] & B_AIE)) {
		r->last_second = time / NSEC_PER_SEC;
	}
	arm_periodic(r);
	arm_update(r);
	update_irq(r);
}

static void write_time(struct rtc *r, unsigned int index, uint8_t v)
{
	uint64_t part = rtc_ns(r) % NSEC_PER_SEC, time;

	/* While stopped the registers are as written, field after field. */
	if (!stopped(r))
		fill_time(r);
	r->cmos[index] = v;
	time = parse_time(r);
	if (stopped(r)) {
		r->held = time;
		return;
	}
	r->offset = (int64_t)(time + part - wall_ns(r));
	arm_update(r);
}

static uint8_t read_reg(struct rtc *r, unsigned int index)
{
	uint8_t v;

	if (is_time(index)) {
		if (!stopped(r))
			fill_time(r);
		return r->cmos[index];
	}
	switch (index) {
	case REG_A:
		v = r->cmos[REG_A];
		if (!stopped(r) && rtc_ns(r) % NSEC_PER_SEC >= NSEC_PER_SEC - UIP_NS)
			v |= A_UIP;
		return v;
	case REG_C:
		v = r->cmos[REG_C];
		r->cmos[REG_C] = 0;
		update_irq(r);
		return v;
	case REG_D:
		return D_VRT;
	default:
		return r->cmos[index];
	}
}

static void write_reg(struct rtc *r, unsigned int index, uint8_t v)
{
	if (is_time(index))
		write_time(r, index, v);
	else if (index == REG_A || index == REG_B)
		write_control(r, index, v);
	else if (index != REG_C && index != REG_D)
		r->cmos[index] = v;
}

static uint64_t rtc_read(void *opaque, uint64_t off, unsigned int size)
{
	struct rtc *r = opaque;

	return off == 0 ? 0xff : read_reg(r, r->index & 0x7f);
}

static void rtc_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct rtc *r = opaque;

	if (off == 0)
		r->index = (uint8_t)value;
	else
		write_reg(r, r->index & 0x7f, (uint8_t)value);
}

static const struct bus_ops rtc_ops = {.read = rtc_read, .write = rtc_write, .max = 1};

/* --- for the board -----------------------------------------------------------------------------
 */

void rtc_set_cmos(struct rtc *r, unsigned int index, uint8_t value)
{
	device_lock(&r->dev);
	if (index > REG_D && index < sizeof(r->cmos) && index != RTC_CENTURY)
		r->cmos[index] = value;
	device_unlock(&r->dev);
}

bool rtc_nmi_disabled(struct rtc *r)
{
	return __atomic_load_n(&r->index, __ATOMIC_RELAXED) & 0x80;
}

void rtc_disconnect(void *rtc, bool off)
{
	struct rtc *r = rtc;

	device_lock(&r->dev);
	r->disconnected = off;
	update_irq(r);
	device_unlock(&r->dev);
}

/* The battery keeps time, memory and rates; a reset clears enables and flags. */
static void rtc_reset(void *opaque)
{
	struct rtc *r = opaque;

	r->cmos[REG_B] &= (uint8_t) ~(B_PIE | B_AIE | B_UIE);
	r->cmos[REG_C] = 0;
	r->index = 0;
	r->disconnected = 0;
	arm_periodic(r);
	arm_update(r);
	update_irq(r);
}

static int rtc_loaded(void *opaque, struct err *e)
{
	struct rtc *r = opaque;

	arm_periodic(r);
	arm_update(r);
	update_irq(r);
	return 0;
}

static const struct state_field rtc_fields[] = {
    STATE_ARRAY(struct rtc, cmos, 1),        STATE_FIELD(struct rtc, index, 1),
    STATE_FIELD(struct rtc, offset, 1),      STATE_FIELD(struct rtc, held, 1),
    STATE_FIELD(struct rtc, last_second, 1), STATE_FIELD(struct rtc, disconnected, 1),
};

static const struct state_table rtc_state = {
    .name = "rtc_mc146818",
    .version = 1,
    .fields = rtc_fields,
    .n_fields = ARRAY_SIZE(rtc_fields),
    .loaded = rtc_loaded,
};

static void rtc_fini(void *opaque)
{
	struct rtc *r = opaque;

	timer_cancel(&r->periodic);
	timer_cancel(&r->update);
}

/* Seconds east of Greenwich, as the host's zone says now. */
static int64_t zone_offset(uint64_t wall)
{
	time_t t = (time_t)(wall / NSEC_PER_SEC);
	struct tm tm = {0};

	localtime_r(&t, &tm);
	return tm.tm_gmtoff;
}

int rtc_new(const struct rtc_config *cfg, struct rtc **ret)
{
	struct rtc *r = device_alloc(sizeof(*r), "rtc", &rtc_state, rtc_reset, rtc_fini);

	if (!r)
		return -ENOMEM;
	r->cfg = *cfg;
	timer_init(&r->periodic, cfg->timers, on_periodic, r);
	timer_init(&r->update, cfg->timers, on_update, r);
	if (cfg->local_time)
		r->offset = zone_offset(wall_ns(r)) * (int64_t)NSEC_PER_SEC;
	r->cmos[REG_A] = 0x26; /* 32768 Hz, 1024 ticks a second */
	r->cmos[REG_B] = B_24;
	device_region(&r->dev, "rtc", BUS_PIO, 0x70, 2, &rtc_ops);
	fill_time(r);
	rtc_reset(r);
	*ret = r;
	return 0;
}
