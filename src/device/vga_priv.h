/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/vga_priv.h - between the parts of the VGA: registers, window, painting
 *
 * Video memory is kept as four bytes a plane address: plane p of address a is vram[4 * a + p].
 */
#pragma once

#include "device/vga.h"

#define VGA_PLANE_SIZE 0x10000u
#define VGA_WINDOW     0xa0000u

enum { SEQ_RESET, SEQ_CLOCK, SEQ_MAP_MASK, SEQ_FONT, SEQ_MODE, SEQ_N };
enum {
	GC_SET,
	GC_ENABLE_SET,
	GC_COMPARE,
	GC_ROTATE,
	GC_READ_MAP,
	GC_MODE,
	GC_MISC,
	GC_DONT_CARE,
	GC_MASK,
	GC_N
};
enum {
	CRT_H_END = 0x01,
	CRT_OVERFLOW = 0x07,
	CRT_MAX_SCAN = 0x09,
	CRT_CURSOR_START = 0x0a,
	CRT_CURSOR_END = 0x0b,
	CRT_START_HIGH = 0x0c,
	CRT_START_LOW = 0x0d,
	CRT_CURSOR_HIGH = 0x0e,
	CRT_CURSOR_LOW = 0x0f,
	CRT_V_SYNC_END = 0x11,
	CRT_V_END = 0x12,
	CRT_OFFSET = 0x13,
	CRT_MODE = 0x17,
	CRT_LINE_COMPARE = 0x18,
	CRT_N = 0x19,
};
enum { ATT_MODE = 0x10, ATT_PLANES = 0x12, ATT_COLOR = 0x14, ATT_N = 0x15 };
enum {
	BGA_ID,
	BGA_XRES,
	BGA_YRES,
	BGA_BPP,
	BGA_ENABLE,
	BGA_BANK,
	BGA_VIRT_WIDTH,
	BGA_VIRT_HEIGHT,
	BGA_X_OFFSET,
	BGA_Y_OFFSET,
	BGA_VRAM_64K,
	BGA_N
};

#define BGA_ENABLED  0x01
#define BGA_GET_CAPS 0x02
#define BGA_8BIT_DAC 0x20
#define BGA_LFB      0x40
#define BGA_NO_CLEAR 0x80

struct vga {
	struct pci_dev pci;
	struct vga_config cfg;
	uint8_t *vram;
	struct bus_region legacy[4]; /* VGA ports, BGA index and data, window */
	struct bus *legacy_bus;

	uint8_t misc, feature, seq_index, gc_index, crt_index, att_index;
	uint8_t att_data; /* the next write to 3C0h is data */
	uint8_t seq[SEQ_N], gc[GC_N], crt[CRT_N], att[ATT_N];
	uint8_t dac_mask, dac_read, dac_write, dac_step, dac_reading;
	uint8_t dac[768];
	uint8_t latch[4];
	uint16_t bga_index;
	uint16_t bga[BGA_N];
};

/* vga_regs.c */
uint8_t vga_port_read(struct vga *v, unsigned int port);
void vga_port_write(struct vga *v, unsigned int port, uint8_t value);
uint16_t vga_bga_read(const struct vga *v);
void vga_bga_write(struct vga *v, uint16_t value);
void vga_regs_reset(struct vga *v);
/* Could a guest have written what was loaded? */
bool vga_regs_check(const struct vga *v);
static inline bool vga_bga_on(const struct vga *v)
{
	return v->bga[BGA_ENABLE] & BGA_ENABLED;
}

/* vga_mem.c: @off from A0000h. */
uint8_t vga_mem_read(struct vga *v, uint32_t off);
void vga_mem_write(struct vga *v, uint32_t off, uint8_t value);

/* vga_paint.c */
extern const struct screen_ops vga_screen_ops;
