/* SPDX-License-Identifier: Apache-2.0 */
#include "device/uart16550.h"

#include "fake.h"

#define PORT 0x3f8
enum { DATA = PORT, IER, IIR, LCR, MCR, LSR, MSR, SCR };

struct backend {
	struct chardev chr;
	char out[256];
	size_t n, room;
	unsigned int resumed;
};

static size_t backend_write(void *opaque, const void *buf, size_t len)
{
	struct backend *b = opaque;
	size_t n = MIN(len, b->room);

	CHECK(b->n + n <= sizeof(b->out));
	memcpy(b->out + b->n, buf, n);
	b->n += n;
	b->room -= n;
	return n;
}

static void backend_resume(void *opaque)
{
	((struct backend *)opaque)->resumed++;
}

static const struct chardev_ops backend_ops = {.write = backend_write, .resume = backend_resume};

static struct fake_clock clk;
static struct fake_lines lines;
static struct backend be = {.room = 1000};
static struct uart16550 *u;
static struct bus *b;

static void test_transmit(void)
{
	CHECK_EQ(in8(b, LSR), 0x60);
	out8(b, IER, 2); /* THRE while empty: at once */
	CHECK(lines.level[4]);
	CHECK_EQ(in8(b, IIR), 0x02);
	CHECK_EQ(in8(b, IIR), 0x01); /* reading it was the answer */
	CHECK(!lines.level[4]);
	out8(b, DATA, 'x');
	CHECK_EQ(be.n, 1);
	CHECK_EQ(be.out[0], 'x');
	CHECK(lines.level[4]);
	CHECK_EQ(in8(b, IIR), 0x02);
	/* Back-pressure: THRE falls until the backend has room. */
	be.room = 0;
	out8(b, DATA, 'y');
	CHECK_EQ(in8(b, LSR) & 0x60, 0);
	CHECK(!lines.level[4]);
	be.room = 1000;
	chardev_writable(&be.chr);
	CHECK_EQ(in8(b, LSR) & 0x60, 0x60);
	CHECK(lines.level[4]);
	CHECK_EQ(be.out[1], 'y');
	out8(b, IER, 0);
	CHECK(!lines.level[4]);
	/* A whole FIFO held back, and one byte more. */
	out8(b, IIR, 1);
	be.room = 0;
	be.n = 0;
	for (unsigned int i = 0; i < 17; i++)
		out8(b, DATA, (uint8_t)('a' + i));
	be.room = 1000;
	chardev_writable(&be.chr);
	CHECK_EQ(be.n, 16);
	CHECK_EQ(be.out[15], 'q');
	out8(b, IIR, 0);
}

static void test_receive(void)
{
	out8(b, IER, 1);
	CHECK_EQ(chardev_receive(&be.chr, "ab", 2), 1); /* no FIFO: one byte */
	CHECK(lines.level[4]);
	CHECK_EQ(in8(b, IIR), 0x04);
	CHECK_EQ(in8(b, LSR), 0x61);
	CHECK_EQ(in8(b, DATA), 'a');
	CHECK_EQ(be.resumed, 1);
	CHECK(!lines.level[4]);
	CHECK_EQ(in8(b, LSR), 0x60);
}

static void test_fifo(void)
{
	out8(b, IIR, 0x87); /* on, trigger at 8 */
	CHECK_EQ(in8(b, IIR), 0xc1);
	CHECK_EQ(chardev_receive(&be.chr, "1234567", 7), 7);
	CHECK(!lines.level[4]);
	CHECK_EQ(in8(b, LSR), 0x61);
	/* Four character times later. */
	fake_clock_run(&clk, NSEC_PER_SEC);
	CHECK(lines.level[4]);
	CHECK_EQ(in8(b, IIR), 0xcc);
	CHECK_EQ(in8(b, DATA), '1');
	CHECK(!lines.level[4]);
	CHECK_EQ(chardev_receive(&be.chr, "89", 2), 2);
	CHECK(lines.level[4]);
	CHECK_EQ(in8(b, IIR), 0xc4);
	fake_snapshot(&u->dev);
	CHECK_EQ(in8(b, IIR), 0xc4);
	CHECK_EQ(in8(b, DATA), '2');
	CHECK(!lines.level[4]);
	/* Full at 16: the rest waits, and is asked for when all is read. */
	be.resumed = 0;
	CHECK_EQ(chardev_receive(&be.chr, "0123456789", 10), 9);
	for (unsigned int i = 0; i < 15; i++)
		in8(b, DATA);
	CHECK_EQ(be.resumed, 0);
	in8(b, DATA);
	CHECK_EQ(be.resumed, 1);
	CHECK_EQ(in8(b, DATA), 0);
	/* A break goes with its byte. */
	out8(b, IER, 4);
	chardev_receive(&be.chr, "k", 1);
	chardev_line_break(&be.chr);
	CHECK_EQ(in8(b, LSR), 0xe1);
	CHECK(!lines.level[4]);
	CHECK_EQ(in8(b, DATA), 'k');
	CHECK(lines.level[4]);
	CHECK_EQ(in8(b, IIR), 0xc6);
	CHECK_EQ(in8(b, LSR), 0xf9);
	CHECK(!lines.level[4]);
	CHECK_EQ(in8(b, LSR), 0x61);
	out8(b, IIR, 0x03);
	CHECK_EQ(in8(b, LSR), 0x60);
	out8(b, IIR, 0);
}

static void test_loopback(void)
{
	out8(b, MCR, 0x10);
	in8(b, MSR);
	be.n = 0;
	out8(b, DATA, 0x5a);
	CHECK_EQ(be.n, 0);
	CHECK_EQ(in8(b, LSR), 0x61);
	CHECK_EQ(in8(b, DATA), 0x5a);
	/* Each output comes back as an input; RI's delta is its fall. */
	out8(b, MCR, 0x1f);
	CHECK_EQ(in8(b, MSR), 0xfb);
	out8(b, MCR, 0x10);
	CHECK_EQ(in8(b, MSR), 0x0f);
	CHECK_EQ(in8(b, MSR), 0x00);
	/* Overrun without a FIFO: the later byte stays. */
	out8(b, DATA, 1);
	out8(b, DATA, 2);
	CHECK_EQ(in8(b, LSR), 0x63);
	CHECK_EQ(in8(b, DATA), 2);
	CHECK_EQ(chardev_receive(&be.chr, "z", 1), 0);
	be.resumed = 0;
	out8(b, MCR, 0x03);
	CHECK_EQ(be.resumed, 1);
	CHECK_EQ(in8(b, MSR) & 0xf0, 0xb0);
}

static void test_registers(void)
{
	out8(b, LCR, 0x83);
	out8(b, DATA, 0);
	out8(b, IER, 0); /* divisor 0 divides nothing */
	CHECK_EQ(in8(b, DATA), 0);
	out8(b, LCR, 0x03);
	out8(b, IIR, 0xc1);
	chardev_receive(&be.chr, "t", 1);
	fake_clock_run(&clk, NSEC_PER_SEC);
	out8(b, SCR, 0xa5);
	CHECK_EQ(in8(b, SCR), 0xa5);
	CHECK_EQ(in8(b, LCR), 0x03);
	out8(b, IER, 0xff);
	CHECK_EQ(in8(b, IER), 0x0f);
	/* A saved FIFO that does not fit is refused. */
	u->rx_n = UART_FIFO + 1;
	struct strbuf s = {0};
	size_t used;

	device_save(&u->dev, &s);
	u->rx_n = 0;
	CHECK(device_load(&u->dev, s.data, s.len, &used, NULL) < 0);
	CHECK_EQ(in8(b, LSR), 0x60);
	strbuf_fini(&s);
}

int main(void)
{
	fake_clock_init(&clk);
	be.chr = (struct chardev){.ops = &backend_ops, .backend = &be};
	CHECK_EQ(uart16550_new(&(struct uart16550_config){.name = "com1",
							  .port = PORT,
							  .irq = fake_line(&lines, 4),
							  .timers = &clk.q,
							  .chr = &be.chr},
			       &u),
		 0);
	b = fake_bus(&u->dev);
	test_transmit();
	test_receive();
	test_fifo();
	test_loopback();
	test_registers();
	device_free(&u->dev);
	bus_free(b);
	return 0;
}
