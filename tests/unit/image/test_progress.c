/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/image/test_progress.c - fractions only grow, times are learned, jobs nest
 */
#include "image/progress.h"
#include "test.h"

static double last;
static unsigned int shown;

static void show(void *opaque, const struct progress_event *ev)
{
	CHECK(ev->fraction >= last);
	CHECK(ev->fraction <= 1);
	CHECK(ev->seconds_left >= 0);
	last = ev->fraction;
	shown++;
}

static const struct progress_step steps[] = {
    {"a", "first", 10}, {"b", "second", 20}, {"c", "third", 30}};

int main(void)
{
	char path[] = "/tmp/insula-test-XXXXXX";
	struct progress p = {.show = show};
	int fd = mkstemp(path);

	CHECK(fd >= 0);
	close(fd);
	CHECK(progress_begin(&p, "job", path, steps, ARRAY_SIZE(steps)));
	CHECK(!progress_begin(&p, "inner", path, steps, 1));
	progress_enter(&p, "a");
	progress_tick(&p);
	progress_enter(&p, "b");
	CHECK(last > 0);
	progress_enter(&p, "nowhere");
	progress_enter(&p, "c");
	progress_tick(&p);
	progress_end(&p, true);
	CHECK_EQ(last * 10, 10);
	CHECK(shown >= 5);
	progress_tick(&p); /* after the end: nothing */

	/* The steps took no time, so the next estimate is small. */
	last = 0;
	CHECK(progress_begin(&p, "job", path, steps, ARRAY_SIZE(steps)));
	CHECK(p.seconds[0] < 1 && p.seconds[2] < 1);
	progress_enter(&p, "a");
	progress_end(&p, false);
	CHECK(last < 1);
	unlink(path);
	return 0;
}
