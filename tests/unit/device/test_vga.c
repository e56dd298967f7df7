/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/device/test_vga.c - planes and write modes, text as text and as pixels, mode 13h,
 * linear modes, and registers with nonsense in them
 */
#include "device/vga.h"

#include "fake.h"

#include <errno.h>
#include <stdlib.h>

static struct bus *bus;
static struct pci_bus *pci;
static struct pci_dev *vga;
static struct screen *screen;
static struct fake_clock clock_;
static uint8_t *vram;

static void no_msi(void *opaque, uint64_t addr, uint32_t data)
{
}

static void start(void)
{
	struct vga_config cfg;

	fake_clock_init(&clock_);
	screen = screen_new();
	vram = calloc(1, VGA_VRAM_SIZE);
	CHECK(vram);
	cfg = (struct vga_config){.vram = vram, .timers = &clock_.q, .screen = screen};
	CHECK_EQ(bus_new(&bus), 0);
	CHECK_EQ(pci_bus_new(bus, (struct irq){0}, (struct msi_sink){no_msi, NULL}, &pci), 0);
	CHECK_EQ(vga_new(&cfg, &vga), 0);
	CHECK_EQ(pci_plug(pci, vga, 8, NULL), 0);
	vga_attach_legacy(vga, bus);
}

static void stop(void)
{
	pci_bus_free(pci);
	bus_free(bus);
	screen_free(screen);
	free(vram);
	timerq_fini(&clock_.q);
}

static void out(uint16_t port, unsigned int v)
{
	bus_write(bus, BUS_PIO, port, 1, v);
}

static void indexed(uint16_t port, unsigned int index, unsigned int v)
{
	out(port, index);
	out(port + 1, v);
}

static void attribute(unsigned int index, unsigned int v)
{
	bus_read(bus, BUS_PIO, 0x3da, 1);
	out(0x3c0, index);
	out(0x3c0, v);
}

static void bga(unsigned int index, unsigned int v)
{
	bus_write(bus, BUS_PIO, 0x1ce, 2, index);
	bus_write(bus, BUS_PIO, 0x1cf, 2, v);
}

static unsigned int bga_get(unsigned int index)
{
	bus_write(bus, BUS_PIO, 0x1ce, 2, index);
	return (unsigned int)bus_read(bus, BUS_PIO, 0x1cf, 2);
}

static void poke(uint32_t gpa, uint8_t v)
{
	bus_write(bus, BUS_MMIO, gpa, 1, v);
}

static uint8_t peek(uint32_t gpa)
{
	return (uint8_t)bus_read(bus, BUS_MMIO, gpa, 1);
}

static void common(unsigned int h_end, unsigned int lines, unsigned int max_scan)
{
	out(0x3c2, 0x67);
	indexed(0x3d4, 0x11, 0);
	indexed(0x3d4, 1, h_end);
	indexed(0x3d4, 7, (lines - 1) >> 8 << 1 | 0x10);
	indexed(0x3d4, 0x12, (lines - 1) & 255);
	indexed(0x3d4, 9, max_scan | 0x40);
	indexed(0x3d4, 0x18, 0xff);
	for (unsigned int i = 0; i < 16; i++)
		attribute(i, i);
	out(0x3c8, 0);
	for (unsigned int i = 0; i < 768; i++)
		out(0x3c9, i / 3 * 4);
	bus_read(bus, BUS_PIO, 0x3da, 1);
	out(0x3c0, 0x20);
}

/* 80 x 25, as mode 3. */
static void text_mode(void)
{
	common(79, 400, 15);
	indexed(0x3c4, 2, 3);
	indexed(0x3c4, 4, 2);
	indexed(0x3ce, 5, 0x10);
	indexed(0x3ce, 6, 0x0e);
	indexed(0x3ce, 8, 0xff);
	indexed(0x3d4, 0x13, 40);
	indexed(0x3d4, 0x17, 0xa3);
	indexed(0x3d4, 0x0a, 0x20); /* no cursor */
}

static void test_text(void)
{
	static const char hello[] = "Hi\xdb|";
	struct strbuf t = {0};

	start();
	CHECK_EQ(screen_text(screen, &t), -ENODATA); /* dark */
	text_mode();
	for (unsigned int i = 0; i < 4; i++) {
		poke(0xb8000 + 2 * i, (uint8_t)hello[i]);
		poke(0xb8001 + 2 * i, 0x1e);
	}
	CHECK(peek(0xb8000) == 'H' && peek(0xb8001) == 0x1e && peek(0xa0000) == 0xff);
	CHECK_EQ(screen_text(screen, &t), 0);
	CHECK(strncmp(t.data, "Hi\xe2\x96\x88|\n\n\n", 9) == 0);
	/* The font's first line of 'H' in plane 2, and a screen of that. */
	vram[4 * ('H' * 32) + 2] = 0x81;
	screen_refresh(screen);
	CHECK(screen->width == 640 && screen->height == 400);
	CHECK_EQ(screen->pixels[0], screen->pixels[7]);
	CHECK(screen->pixels[0] != screen->pixels[1] && screen->pixels[1] == screen->pixels[6]);
	/* The second page: start address 2048 cells on. */
	indexed(0x3d4, 0x0c, 0x08);
	poke(0xb8000 + 4096, 'P');
	strbuf_consume(&t, t.len);
	CHECK_EQ(screen_text(screen, &t), 0);
	CHECK_EQ(t.data[0], 'P');
	strbuf_fini(&t);
	stop();
}

/* Write modes on 640 x 480 in planes. */
static void test_planes(void)
{
	start();
	common(79, 480, 0);
	indexed(0x3c4, 4, 6);
	indexed(0x3c4, 2, 15);
	indexed(0x3ce, 5, 0);
	indexed(0x3ce, 6, 5);
	indexed(0x3ce, 8, 0xff);
	indexed(0x3d4, 0x13, 40);
	indexed(0x3d4, 0x17, 0xe3);
	attribute(0x12, 15);
	bus_read(bus, BUS_PIO, 0x3da, 1);
	out(0x3c0, 0x20);

	indexed(0x3c4, 2, 5); /* planes 0 and 2 */
	poke(0xa0000, 0xf0);
	indexed(0x3ce, 4, 0);
	CHECK_EQ(peek(0xa0000), 0xf0);
	indexed(0x3ce, 4, 1);
	CHECK_EQ(peek(0xa0000), 0x00);
	screen_refresh(screen);
	CHECK(screen->width == 640 && screen->height == 480);
	CHECK_EQ(screen->pixels[0], screen->pixels[3]);
	CHECK(screen->pixels[3] != screen->pixels[4]);

	indexed(0x3c4, 2, 15);
	indexed(0x3ce, 5, 2); /* write mode 2: a colour, by mask */
	indexed(0x3ce, 8, 0x01);
	peek(0xa0000); /* latches */
	poke(0xa0000, 0x0a);
	CHECK(vram[0] == 0xf0 && vram[1] == 0x01 && vram[2] == 0xf0 && vram[3] == 0x01);
	indexed(0x3ce, 5, 1); /* write mode 1: latches */
	peek(0xa0000);
	poke(0xa0100, 0x55);
	CHECK(vram[0x400] == 0xf0 && vram[0x403] == 0x01);
	indexed(0x3ce, 5, 3); /* write mode 3: set/reset by mask and data */
	indexed(0x3ce, 0, 15);
	indexed(0x3ce, 8, 0x3c);
	peek(0xa0200);
	poke(0xa0200, 0x0f);
	CHECK_EQ(vram[0x800], 0x0c);
	indexed(0x3ce, 5, 8); /* read mode 1: where all planes compare */
	indexed(0x3ce, 2, 15);
	indexed(0x3ce, 7, 15);
	CHECK_EQ(peek(0xa0200), 0x0c);
	indexed(0x3ce, 5, 0); /* rotate by 4, XOR with the latch, set/reset of plane 3 */
	indexed(0x3ce, 0, 8);
	indexed(0x3ce, 1, 8);
	indexed(0x3ce, 8, 0xff);
	indexed(0x3ce, 3, 0x18 | 4);
	peek(0xa0200);
	poke(0xa0200, 0x12);
	CHECK(vram[0x800] == (0x0c ^ 0x21) && vram[0x803] == (0x0c ^ 0xff));
	stop();
}

static void test_mode_13h(void)
{
	start();
	common(79, 400, 1);
	indexed(0x3c4, 2, 15);
	indexed(0x3c4, 4, 0x0e);
	indexed(0x3ce, 5, 0x40);
	indexed(0x3ce, 6, 5);
	indexed(0x3ce, 8, 0xff);
	indexed(0x3d4, 0x13, 40);
	indexed(0x3d4, 0x14, 0x40);
	indexed(0x3d4, 0x17, 0xa3);
	poke(0xa0000 + 320 + 5, 63);
	CHECK_EQ(peek(0xa0000 + 325), 63);
	screen_refresh(screen);
	CHECK(screen->width == 320 && screen->height == 200);
	CHECK_EQ(screen->pixels[325], 0xf3f3f3);
	CHECK_EQ(screen->pixels[324], 0);
	stop();
}

static void test_linear(void)
{
	uint64_t gpa;

	start();
	CHECK_EQ(bga_get(0), 0xb0c5);
	CHECK_EQ(bga_get(10), VGA_VRAM_SIZE >> 16);
	bga(4, 0);
	bga(1, 64);
	bga(2, 32);
	bga(3, 32);
	bga(4, 0x41);
	store_le32(vram, 0xff123456);
	store_le32(vram + 64 * 4, 0x00abcdef);
	screen_refresh(screen);
	CHECK(screen->width == 64 && screen->height == 32);
	CHECK(screen->pixels[0] == 0x123456 && screen->pixels[64] == 0xabcdef);
	bga(9, 1); /* y offset */
	screen_refresh(screen);
	CHECK_EQ(screen->pixels[0], 0xabcdef);
	bga(5, 0); /* bank 0 through the window */
	CHECK(peek(0xa0000) == 0x56 && peek(0xa0003) == 0xff);
	bga(5, 0xffff);
	CHECK_EQ(peek(0xa0000), 0xff); /* past the end */
	poke(0xa0000, 1);
	bga(9, 0xffff); /* a picture outside of memory is black */
	screen_refresh(screen);
	CHECK_EQ(screen->pixels[0], 0);
	bga(3, 16);
	bga(9, 0);
	store_le16(vram, 0xf81f);
	screen_refresh(screen);
	CHECK_EQ(screen->pixels[0], 0xff00ff);
	bga(1, 0xffff); /* refused */
	CHECK_EQ(bga_get(1), 64);
	bga(3, 17);
	CHECK_EQ(bga_get(3), 16);

	/* The BARs: frame buffer by the device, registers in memory. */
	pci_config_write(pci, 8, PCI_BAR0, 4, 0xe0000000);
	pci_config_write(pci, 8, PCI_BAR0 + 8, 4, 0xf0000000);
	CHECK(!vga_vram_place(vga, &gpa));
	pci_config_write(pci, 8, PCI_COMMAND, 2, 3);
	CHECK(vga_vram_place(vga, &gpa) && gpa == 0xe0000000);
	bus_write(bus, BUS_MMIO, 0xe0000010, 8, 0x1122334455667788);
	CHECK_EQ(load_le64(vram + 16), 0x1122334455667788);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0xe0000014, 4), 0x11223344);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0xf0000502, 2), 64);
	bus_write(bus, BUS_MMIO, 0xf0000400 + 0xc, 1, 0);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0xf0000400 + 0xc, 1), bus_read(bus, BUS_PIO, 0x3cc, 1));
	stop();
}

/* Programs wait for both. */
static void test_retrace(void)
{
	unsigned int seen = 0;

	start();
	out(0x3c2, 1);
	for (unsigned int i = 0; i < 20000; i++) {
		clock_.now += 1000;
		seen |= 1u << bus_read(bus, BUS_PIO, 0x3da, 1);
	}
	CHECK_EQ(seen, 1 << 0 | 1 << 1 | 1 << 9);
	CHECK_EQ(bus_read(bus, BUS_PIO, 0x3ba, 1), 0xff); /* monochrome's place */
	stop();
}

/* Whatever is in the registers: a picture of some size, and no access outside of the memory. */
static void test_nonsense(void)
{
	start();
	srand(1);
	for (unsigned int i = 0; i < 3000; i++) {
		out(0x3c0 + (unsigned int)rand() % 0x20, (unsigned int)rand());
		indexed(0x3c4, (unsigned int)rand() % 5, (unsigned int)rand());
		indexed(0x3ce, (unsigned int)rand() % 9, (unsigned int)rand());
		indexed(0x3d4, (unsigned int)rand() % 25, (unsigned int)rand());
		attribute((unsigned int)rand() % 0x15 | 0x20, (unsigned int)rand());
		bga((unsigned int)rand() % 11, (unsigned int)rand());
		bga(4, (unsigned int)rand() % 4 ? 0 : 0x41);
		poke(0xa0000 + (unsigned int)rand() % 0x20000, (uint8_t)rand());
		peek(0xa0000 + (unsigned int)rand() % 0x20000);
		if (i % 30 == 0) {
			struct strbuf t = {0};

			screen_refresh(screen);
			CHECK(screen->width && screen->height && screen->width <= SCREEN_MAX);
			(void)screen_text(screen, &t);
			strbuf_fini(&t);
		}
	}
	stop();
}

int main(void)
{
	test_text();
	test_planes();
	test_mode_13h();
	test_linear();
	test_retrace();
	test_nonsense();
	return 0;
}
