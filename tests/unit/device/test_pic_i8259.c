/* SPDX-License-Identifier: Apache-2.0 */
#include "device/pic_i8259.h"

#include "fake.h"

static struct fake_lines lines;
static struct pic *p;
static struct bus *b;

static void line(unsigned int n, bool level)
{
	struct irq irq = pic_irq(p, n);

	irq_set(&irq, level);
}

static void init(uint8_t icw4)
{
	for (unsigned int i = 0; i < 16; i++) {
		if (i != 2)
			line(i, false);
	}
	out8(b, 0x20, 0x11);
	out8(b, 0x21, 0x30);
	out8(b, 0x21, 0x04);
	out8(b, 0x21, icw4);
	out8(b, 0xa0, 0x11);
	out8(b, 0xa1, 0x38);
	out8(b, 0xa1, 0x02);
	out8(b, 0xa1, icw4);
}

static void test_basic(void)
{
	init(1);
	out8(b, 0x21, 0xa5);
	CHECK_EQ(in8(b, 0x21), 0xa5);
	out8(b, 0x21, 0);
	line(1, true);
	CHECK(lines.level[0]);
	CHECK(pic_pending(p));
	CHECK_EQ(in8(b, 0x20), 0x02); /* IRR */
	CHECK_EQ(pic_ack(p), 0x31);
	CHECK(!lines.level[0]);
	out8(b, 0x20, 0x0b);
	CHECK_EQ(in8(b, 0x20), 0x02); /* ISR */
	/* Lower priority waits, higher interrupts. */
	line(3, true);
	CHECK(!lines.level[0]);
	line(0, true);
	CHECK(lines.level[0]);
	CHECK_EQ(pic_ack(p), 0x30);
	out8(b, 0x20, 0x20);
	CHECK(!lines.level[0]); /* 1 is still in service */
	out8(b, 0x20, 0x61);
	CHECK(lines.level[0]);
	CHECK_EQ(pic_ack(p), 0x33);
	out8(b, 0x20, 0x20);
	/* An edge counts once. */
	CHECK(!lines.level[0]);
	line(1, false);
	line(1, true);
	CHECK_EQ(pic_ack(p), 0x31);
	out8(b, 0x20, 0x20);
	/* Masked. */
	out8(b, 0x21, 0x80);
	line(7, true);
	CHECK(!lines.level[0]);
	out8(b, 0x21, 0);
	CHECK(lines.level[0]);
	fake_snapshot(&p->dev);
	CHECK_EQ(pic_ack(p), 0x37);
	out8(b, 0x20, 0x20);
}

static void test_cascade(void)
{
	init(1);
	line(8, true);
	line(12, true);
	CHECK(lines.level[0]);
	CHECK_EQ(pic_ack(p), 0x38);
	CHECK(!lines.level[0]);
	out8(b, 0xa0, 0x20);
	CHECK(!lines.level[0]); /* the master still serves its line 2 */
	out8(b, 0x20, 0x20);
	CHECK(lines.level[0]);
	CHECK_EQ(pic_ack(p), 0x3c);
	out8(b, 0xa0, 0x20);
	out8(b, 0x20, 0x20);
}

static void test_spurious(void)
{
	init(1);
	line(3, true);
	CHECK(lines.level[0]);
	line(3, false);
	CHECK(!lines.level[0]);
	CHECK_EQ(pic_ack(p), 0x37);
	out8(b, 0x20, 0x0b);
	CHECK_EQ(in8(b, 0x20), 0); /* nothing in service */
	/* On the slave: masked between request and acknowledge. */
	line(10, true);
	out8(b, 0xa1, 0xff);
	CHECK(!lines.level[0]);
	out8(b, 0xa1, 0);
	CHECK_EQ(pic_ack(p), 0x3a);
}

static void test_level(void)
{
	init(1);
	out8(b, 0x4d0, 0xff);
	out8(b, 0x4d1, 0xff);
	CHECK_EQ(in8(b, 0x4d0), 0xf8); /* not the timer, keyboard, cascade */
	CHECK_EQ(in8(b, 0x4d1), 0xde);
	line(5, true);
	CHECK_EQ(pic_ack(p), 0x35);
	out8(b, 0x20, 0x20);
	CHECK(lines.level[0]); /* still asking */
	CHECK_EQ(pic_ack(p), 0x35);
	line(5, false);
	out8(b, 0x20, 0x20);
	CHECK(!lines.level[0]);
	out8(b, 0x4d0, 0);
	out8(b, 0x4d1, 0);
}

static void test_modes(void)
{
	/* Automatic EOI. */
	init(3);
	line(4, true);
	CHECK_EQ(pic_ack(p), 0x34);
	line(6, true);
	CHECK(lines.level[0]);
	CHECK_EQ(pic_ack(p), 0x36);
	/* Rotation: after an EOI of 4 it comes last. */
	init(1);
	line(4, true);
	CHECK_EQ(pic_ack(p), 0x34);
	out8(b, 0x20, 0xa0);
	line(4, false);
	line(4, true);
	line(5, true);
	CHECK_EQ(pic_ack(p), 0x35);
	out8(b, 0x20, 0x20);
	CHECK_EQ(pic_ack(p), 0x34);
	out8(b, 0x20, 0x20);
	/* Set priority: 2 lowest, so 3 is first. */
	out8(b, 0x20, 0xc2);
	line(0, true);
	line(3, true);
	CHECK_EQ(pic_ack(p), 0x33);
	out8(b, 0x20, 0x20);
	/* Special mask: one in service but masked stops nobody. */
	init(1);
	line(1, true);
	CHECK_EQ(pic_ack(p), 0x31);
	out8(b, 0x21, 0x02);
	out8(b, 0x20, 0x68);
	line(6, true);
	CHECK(lines.level[0]);
	CHECK_EQ(pic_ack(p), 0x36);
	out8(b, 0x20, 0x48);
	/* Poll: a read acknowledges. */
	init(1);
	line(5, true);
	out8(b, 0x20, 0x0c);
	CHECK_EQ(in8(b, 0x20), 0x85);
	CHECK(!lines.level[0]);
	out8(b, 0x20, 0x20);
	out8(b, 0x20, 0x0c);
	CHECK_EQ(in8(b, 0x20), 0x07);
	/* EOI with nothing in service. */
	out8(b, 0x20, 0x20);
	out8(b, 0x20, 0xe0);
}

int main(void)
{
	CHECK_EQ(pic_new(&(struct pic_config){fake_line(&lines, 0)}, &p), 0);
	b = fake_bus(&p->dev);
	test_basic();
	test_cascade();
	test_spurious();
	test_level();
	test_modes();
	device_free(&p->dev);
	bus_free(b);
	return 0;
}
