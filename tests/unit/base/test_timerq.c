/* SPDX-License-Identifier: Apache-2.0 */
#include "base/timerq.h"
#include "test.h"

static uint64_t fake_now;
static uint64_t rearmed;
static char order[16];

static uint64_t now(void *opaque)
{
	return fake_now;
}

static void rearm(void *opaque, uint64_t deadline)
{
	rearmed = deadline;
}

static void fire(void *opaque)
{
	strcat(order, opaque);
}

static struct timer periodic;

static void again(void *opaque)
{
	strcat(order, "p");
	if (strlen(order) < 4)
		timer_set(&periodic, fake_now); /* due at once: must not starve or be lost */
}

int main(void)
{
	struct timerq q;
	struct timer a, b, c;

	timerq_init(&q, now, rearm, NULL);
	timer_init(&a, &q, fire, (void *)"a");
	timer_init(&b, &q, fire, (void *)"b");
	timer_init(&c, &q, fire, (void *)"c");
	CHECK_EQ(timerq_next(&q), TIMER_NEVER);
	timer_set(&b, 20);
	CHECK_EQ(rearmed, 20);
	timer_set(&c, 30);
	CHECK_EQ(rearmed, 20); /* later than what is armed: the driver is left asleep */
	timer_set(&a, 10);
	CHECK_EQ(rearmed, 10);
	fake_now = 9;
	timerq_run(&q);
	CHECK_STR(order, "");
	fake_now = 20;
	timerq_run(&q);
	CHECK_STR(order, "ab");
	timer_cancel(&c);
	timer_cancel(&c);
	fake_now = 100;
	timerq_run(&q);
	CHECK_STR(order, "ab");
	CHECK_EQ(timerq_next(&q), TIMER_NEVER);

	/* A clock ahead of the driver's: deadlines are on the one, waking on the other. */
	order[0] = '\0';
	timer_set(&a, 150);
	timerq_set_offset(&q, 1000);
	CHECK_EQ(timerq_now(&q), 1100);
	CHECK_EQ(timerq_next(&q), 150); /* what was armed stays where it was */
	timer_set(&b, 1120);
	CHECK_EQ(rearmed, 120);
	CHECK_EQ(timerq_next(&q), 120);
	timer_set(&c, 50); /* from before the driver's clock began */
	CHECK_EQ(timerq_next(&q), 0);
	fake_now = 120;
	timerq_run(&q);
	CHECK_STR(order, "cb");
	timerq_set_offset(&q, -100);
	CHECK_EQ(timerq_next(&q), 150);
	fake_now = 150;
	timerq_run(&q);
	CHECK_STR(order, "cba");
	timerq_set_offset(&q, 0);
	fake_now = 100;

	order[0] = '\0';
	timer_init(&periodic, &q, again, NULL);
	timer_set(&periodic, 100);
	timerq_run(&q);
	CHECK_STR(order, "pppp");
	timerq_fini(&q);
	return 0;
}
