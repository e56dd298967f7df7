/* SPDX-License-Identifier: Apache-2.0 */
#include "device/i8042.h"

#include "fake.h"

static struct fake_lines lines;
static struct fake_requests req;
static struct i8042 *k;
static struct bus *b;

static uint8_t command(uint8_t v)
{
	out8(b, 0x64, v);
	CHECK_EQ(in8(b, 0x64) & 1, 1);
	return in8(b, 0x60);
}

/* Reads all there is and compares. */
static void expect(bool aux, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		CHECK_EQ(in8(b, 0x64) & 0x21, aux ? 0x21 : 0x01);
		CHECK_EQ(in8(b, 0x60), bytes[i]);
	}
	CHECK_EQ(in8(b, 0x64) & 1, 0);
}

#define EXPECT(aux, ...)                                                                           \
	expect(aux, (const uint8_t[]){__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__}))

static void mouse(uint8_t v)
{
	out8(b, 0x64, 0xd4);
	out8(b, 0x60, v);
}

static void test_controller(void)
{
	CHECK_EQ(in8(b, 0x64), 0x14);
	CHECK_EQ(command(0xaa), 0x55);
	CHECK_EQ(command(0xab), 0x00);
	CHECK_EQ(command(0xa9), 0x00);
	CHECK_EQ(command(0x20), 0x65);
	out8(b, 0x64, 0x60);
	CHECK_EQ(in8(b, 0x64) & 8, 8);
	out8(b, 0x60, 0x03);
	CHECK_EQ(command(0x20), 0x03);
	out8(b, 0x64, 0xa7);
	CHECK_EQ(command(0x20), 0x23);
	out8(b, 0x64, 0xa8);
	CHECK_EQ(command(0x20), 0x03);
	/* What a driver does to find the mouse port: a byte through its output, with interrupt. */
	lines.rises[12] = 0;
	out8(b, 0x64, 0xd3);
	out8(b, 0x60, 0x5a);
	CHECK_EQ(lines.rises[12], 1);
	EXPECT(true, 0x5a);
	/* Also while the port is off: Linux tries that first and waits long for the byte. */
	out8(b, 0x64, 0xa7);
	out8(b, 0x64, 0xd3);
	out8(b, 0x60, 0xa5);
	EXPECT(true, 0xa5);
	out8(b, 0x64, 0xa8);
	out8(b, 0x64, 0x65);
	out8(b, 0x60, 0x77);
	CHECK_EQ(command(0x25), 0x77);
	CHECK_EQ(command(0xd0) & 3, 3);
	out8(b, 0x64, 0xdd);
	CHECK_EQ(command(0xd0) & 3, 1);
	out8(b, 0x64, 0xd1);
	out8(b, 0x60, 0xdf);
	CHECK_EQ(command(0xd0) & 3, 3);
	CHECK_EQ(req.n, 0);
	out8(b, 0x64, 0xff);
	CHECK_EQ(req.n, 0);
	out8(b, 0x64, 0xfe);
	CHECK_EQ(req.n, 1);
	CHECK_EQ(req.what, REQUEST_RESET);
	out8(b, 0x64, 0xd1);
	out8(b, 0x60, 0xde);
	CHECK_EQ(req.n, 2);
	out8(b, 0x64, 0xd1);
	out8(b, 0x60, 0xdf);
}

static void test_keyboard(void)
{
	static const uint8_t a_down[] = {0x1c}, a_up[] = {0xf0, 0x1c},
			     right_ctrl[] = {0xe0, 0xf0, 0x14};
	uint8_t flood[I8042_QUEUE];

	lines.rises[1] = 0;
	out8(b, 0x60, 0xff);
	EXPECT(false, 0xfa, 0xaa);
	CHECK_EQ(lines.rises[1], 2);
	out8(b, 0x60, 0xf2);
	EXPECT(false, 0xfa, 0xab, 0x83);
	out8(b, 0x60, 0xed);
	EXPECT(false, 0xfa);
	out8(b, 0x60, 0x07);
	EXPECT(false, 0xfa);
	CHECK_EQ(k->kbd_leds, 7);
	out8(b, 0x60, 0xf0);
	out8(b, 0x60, 0x00);
	EXPECT(false, 0xfa, 0xfa, 0x02);
	out8(b, 0x60, 0xee);
	EXPECT(false, 0xee);
	out8(b, 0x60, 0x01);
	EXPECT(false, 0xfe);
	/* Set 2 as it is; translated to set 1; off. */
	i8042_key(k, a_down, 1);
	i8042_key(k, a_up, 2);
	EXPECT(false, 0x1c, 0xf0, 0x1c);
	out8(b, 0x64, 0x60);
	out8(b, 0x60, 0x43);
	i8042_key(k, a_down, 1);
	i8042_key(k, a_up, 2);
	i8042_key(k, right_ctrl, 3);
	fake_snapshot(&k->dev);
	EXPECT(false, 0x1e, 0x9e, 0xe0, 0x9d);
	out8(b, 0x60, 0xf2);
	EXPECT(false, 0xfa, 0xab, 0x41);
	out8(b, 0x60, 0xf5);
	EXPECT(false, 0xfa);
	i8042_key(k, a_down, 1);
	CHECK_EQ(in8(b, 0x64) & 1, 0);
	out8(b, 0x60, 0xf4);
	EXPECT(false, 0xfa);
	/* Disabled by the controller: kept until enabled. */
	out8(b, 0x64, 0xad);
	i8042_key(k, a_down, 1);
	CHECK_EQ(in8(b, 0x64) & 1, 0);
	out8(b, 0x64, 0xae);
	EXPECT(false, 0x1e);
	/* Full: whole keys are dropped. */
	memset(flood, 0x1c, sizeof(flood));
	CHECK(i8042_key(k, flood, sizeof(flood)));
	CHECK(!i8042_key(k, flood, sizeof(flood)));
	for (unsigned int i = 0; i < I8042_QUEUE; i++)
		CHECK_EQ(in8(b, 0x60), 0x1e);
	CHECK_EQ(in8(b, 0x64) & 1, 0);
}

static void test_mouse(void)
{
	mouse(0xff);
	EXPECT(true, 0xfa, 0xaa, 0x00);
	mouse(0xf2);
	EXPECT(true, 0xfa, 0x00);
	i8042_mouse(k, 1, 1, 0, 0); /* not enabled */
	CHECK_EQ(in8(b, 0x64) & 1, 0);
	mouse(0xf4);
	EXPECT(true, 0xfa);
	i8042_mouse(k, 5, -3, 0, 1);
	EXPECT(true, 0x29, 0x05, 0xfd);
	i8042_mouse(k, 100000, -100000, 0, 0);
	EXPECT(true, 0x28, 0xff, 0x01);
	mouse(0xe9);
	EXPECT(true, 0xfa, 0x20, 0x02, 0x64);
	for (unsigned int i = 0; i < 3; i++) {
		mouse(0xf3);
		EXPECT(true, 0xfa);
		mouse((const uint8_t[]){200, 100, 80}[i]);
		EXPECT(true, 0xfa);
	}
	mouse(0xf2);
	EXPECT(true, 0xfa, 0x03);
	i8042_mouse(k, 0, 0, -1, 0);
	EXPECT(true, 0x08, 0x00, 0x00, 0xff);
	mouse(0xee);
	EXPECT(true, 0xfa);
	mouse(0x12);
	EXPECT(true, 0x12);
	mouse(0xec);
	EXPECT(true, 0xfa);
	mouse(0x00);
	EXPECT(true, 0xfe);
	for (unsigned int i = 0; i < 100; i++)
		i8042_mouse(k, 1, 1, 1, 7);
	/* Every command with every byte. */
	for (unsigned int i = 0; i < 256; i++) {
		out8(b, 0x64, (uint8_t)i);
		out8(b, 0x60, (uint8_t)i);
		mouse((uint8_t)i);
		out8(b, 0x60, (uint8_t)i);
		in8(b, 0x60);
	}
}

int main(void)
{
	CHECK_EQ(i8042_new(&(struct i8042_config){.kbd = fake_line(&lines, 1),
						  .mouse = fake_line(&lines, 12),
						  .requests = fake_sink(&req)},
			   &k),
		 0);
	b = fake_bus(&k->dev);
	test_controller();
	test_keyboard();
	test_mouse();
	device_free(&k->dev);
	bus_free(b);
	return 0;
}
