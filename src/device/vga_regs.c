/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/vga_regs.c - the VGA's ports (VGA Technical Reference) and the BGA's registers
 */
#include "device/vga_priv.h"

#include "base/clock.h"

#define BGA_ID_MAX  0xb0c5
#define BGA_ID_MASK 0xfff0
#define FRAME_NS    (NSEC_PER_SEC / 60)
#define FRAME_LINES 449u
#define SHOWN_LINES 400u

static const uint8_t seq_mask[SEQ_N] = {0x03, 0x3d, 0x0f, 0x3f, 0x0e};
static const uint8_t gc_mask[GC_N] = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff};

/* Bits 0 (nothing is shown now) and 3 (vertical retrace) follow the clock: programs wait for them.
 */
static uint8_t input_status(struct vga *v)
{
	uint64_t in_frame = timerq_now(v->cfg.timers) % FRAME_NS;
	uint64_t line = in_frame * FRAME_LINES / FRAME_NS;
	uint64_t in_line = in_frame * FRAME_LINES % FRAME_NS;

	v->att_data = 0;
	if (line >= SHOWN_LINES + 12)
		return line < SHOWN_LINES + 14 ? 0x09 : 0x01;
	return line >= SHOWN_LINES || in_line >= FRAME_NS / 5 * 4 ? 0x01 : 0x00;
}

/* --- palette --- */

static uint8_t dac_get(struct vga *v)
{
	uint8_t x = v->dac[v->dac_read * 3 + v->dac_step];

	if (++v->dac_step == 3) {
		v->dac_step = 0;
		v->dac_read++;
	}
	return x;
}

static void dac_put(struct vga *v, uint8_t x)
{
	v->dac[v->dac_write * 3 + v->dac_step] =
	    v->bga[BGA_ENABLE] & BGA_8BIT_DAC ? x : (uint8_t)(x & 0x3f);
	if (++v->dac_step == 3) {
		v->dac_step = 0;
		v->dac_write++;
	}
}

/* --- ports --- */

/* The CRT controller is at 3Dxh in colour, at 3Bxh in monochrome. */
static unsigned int normalize(const struct vga *v, unsigned int port)
{
	bool mono = port >= 0x3b0 && port <= 0x3bf;
	bool crt = mono || port >= 0x3d0;

	if (!crt)
		return port;
	if (mono == (v->misc & 1))
		return 0;
	return mono ? port + 0x20 : port;
}

uint8_t vga_port_read(struct vga *v, unsigned int port)
{
	switch (normalize(v, port)) {
	case 0x3c0:
		return v->att_index;
	case 0x3c1:
		return (v->att_index & 31) < ATT_N ? v->att[v->att_index & 31] : 0;
	case 0x3c2:
		return 0x10; /* a colour monitor is there */
	case 0x3c4:
		return v->seq_index;
	case 0x3c5:
		return v->seq_index < SEQ_N ? v->seq[v->seq_index] : 0;
	case 0x3c6:
		return v->dac_mask;
	case 0x3c7:
		return v->dac_reading ? 3 : 0;
	case 0x3c8:
		return v->dac_write;
	case 0x3c9:
		return dac_get(v);
	case 0x3ca:
		return v->feature;
	case 0x3cc:
		return v->misc;
	case 0x3ce:
		return v->gc_index;
	case 0x3cf:
		return v->gc_index < GC_N ? v->gc[v->gc_index] : 0;
	case 0x3d4:
		return v->crt_index;
	case 0x3d5:
		return v->crt_index < CRT_N ? v->crt[v->crt_index] : 0;
	case 0x3da:
		return input_status(v);
	}
	return 0xff;
}

/* Index and data take turns; with bit 5 off the palette is the CPU's and the screen is dark. */
static void att_write(struct vga *v, uint8_t x)
{
	unsigned int n = v->att_index & 31;

	if (!v->att_data)
		v->att_index = x & 0x3f;
	else if (n < 16)
		v->att[n] = x & 0x3f;
	else if (n < ATT_N)
		v->att[n] = x;
	v->att_data ^= 1;
}

/* Registers 0-7 are locked by bit 7 of 11h, but for line compare's bit in 7. */
static void crt_write(struct vga *v, uint8_t x)
{
	unsigned int n = v->crt_index;

	if (n >= CRT_N)
		return;
	if (n < 8 && (v->crt[CRT_V_SYNC_END] & 0x80)) {
		if (n == CRT_OVERFLOW)
			v->crt[n] = (uint8_t)((v->crt[n] & ~0x10) | (x & 0x10));
		return;
	}
	v->crt[n] = x;
}

void vga_port_write(struct vga *v, unsigned int port, uint8_t x)
{
	switch (normalize(v, port)) {
	case 0x3c0:
		att_write(v, x);
		break;
	case 0x3c2:
		v->misc = x;
		break;
	case 0x3c4:
		v->seq_index = x & 7;
		break;
	case 0x3c5:
		if (v->seq_index < SEQ_N)
			v->seq[v->seq_index] = x & seq_mask[v->seq_index];
		break;
	case 0x3c6:
		v->dac_mask = x;
		break;
	case 0x3c7:
		v->dac_read = x;
		v->dac_step = 0;
		v->dac_reading = 1;
		break;
	case 0x3c8:
		v->dac_write = x;
		v->dac_step = 0;
		v->dac_reading = 0;
		break;
	case 0x3c9:
		dac_put(v, x);
		break;
	case 0x3ce:
		v->gc_index = x & 15;
		break;
	case 0x3cf:
		if (v->gc_index < GC_N)
			v->gc[v->gc_index] = x & gc_mask[v->gc_index];
		break;
	case 0x3d4:
		v->crt_index = x;
		break;
	case 0x3d5:
		crt_write(v, x);
		break;
	case 0x3da:
		v->feature = x & 0x10;
		break;
	}
}

/* --- BGA --- */

uint16_t vga_bga_read(const struct vga *v)
{
	/* Limits, while the caller asks for them. */
	if (v->bga[BGA_ENABLE] & BGA_GET_CAPS) {
		switch (v->bga_index) {
		case BGA_XRES:
		case BGA_YRES:
			return SCREEN_MAX;
		case BGA_BPP:
			return 32;
		}
	}
	if (v->bga_index == BGA_VRAM_64K)
		return VGA_VRAM_SIZE >> 16;
	return v->bga_index < BGA_N ? v->bga[v->bga_index] : 0;
}

static unsigned int bytes_per_pixel(const struct vga *v)
{
	return (v->bga[BGA_BPP] + 7u) / 8;
}

/* Lines that fit: 4 bits a pixel are planes of half a byte each. */
static void fit_virtual(struct vga *v)
{
	uint32_t width = MAX(v->bga[BGA_VIRT_WIDTH], v->bga[BGA_XRES]), line;

	line = v->bga[BGA_BPP] == 4 ? width / 2 : width * bytes_per_pixel(v);
	v->bga[BGA_VIRT_WIDTH] = (uint16_t)width;
	v->bga[BGA_VIRT_HEIGHT] = (uint16_t)MIN(line ? VGA_VRAM_SIZE / line : 0, 0xffffu);
}

static void bga_enable(struct vga *v, uint16_t value)
{
	bool was = vga_bga_on(v);

	v->bga[BGA_ENABLE] = value;
	if (!vga_bga_on(v) || was)
		return;
	v->bga[BGA_VIRT_WIDTH] = v->bga[BGA_XRES];
	v->bga[BGA_X_OFFSET] = v->bga[BGA_Y_OFFSET] = v->bga[BGA_BANK] = 0;
	fit_virtual(v);
	if (!(value & BGA_NO_CLEAR))
		memset(v->vram, 0,
		       MIN((size_t)v->bga[BGA_VIRT_WIDTH] * v->bga[BGA_YRES] *
			       MAX(bytes_per_pixel(v), 1u),
			   (size_t)VGA_VRAM_SIZE));
}

static void bga_set_bpp(struct vga *v, uint16_t value)
{
	if (value == 0)
		value = 8;
	if (value == 4 || value == 8 || value == 15 || value == 16 || value == 24 || value == 32)
		v->bga[BGA_BPP] = value;
}

void vga_bga_write(struct vga *v, uint16_t value)
{
	switch (v->bga_index) {
	case BGA_ID:
		if ((value & BGA_ID_MASK) == (BGA_ID_MAX & BGA_ID_MASK) && value <= BGA_ID_MAX)
			v->bga[BGA_ID] = value;
		break;
	case BGA_XRES:
		if (value <= SCREEN_MAX)
			v->bga[BGA_XRES] = value & ~7;
		break;
	case BGA_YRES:
		if (value <= SCREEN_MAX)
			v->bga[BGA_YRES] = value;
		break;
	case BGA_BPP:
		bga_set_bpp(v, value);
		break;
	case BGA_ENABLE:
		bga_enable(v, value);
		break;
	case BGA_VIRT_WIDTH:
		v->bga[BGA_VIRT_WIDTH] = value & ~7;
		fit_virtual(v);
		break;
	case BGA_BANK:
	case BGA_X_OFFSET:
	case BGA_Y_OFFSET:
		v->bga[v->bga_index] = value;
		break;
	}
}

void vga_regs_reset(struct vga *v)
{
	v->misc = v->feature = v->seq_index = v->gc_index = v->crt_index = v->att_index = 0;
	v->att_data = v->dac_read = v->dac_write = v->dac_step = v->dac_reading = 0;
	v->dac_mask = 0xff;
	memset(v->seq, 0, sizeof(v->seq));
	memset(v->gc, 0, sizeof(v->gc));
	memset(v->crt, 0, sizeof(v->crt));
	memset(v->att, 0, sizeof(v->att));
	memset(v->dac, 0, sizeof(v->dac));
	memset(v->latch, 0, sizeof(v->latch));
	memset(v->bga, 0, sizeof(v->bga));
	v->bga_index = 0;
	v->bga[BGA_ID] = BGA_ID_MAX;
	v->bga[BGA_BPP] = 8;
}

bool vga_regs_check(const struct vga *v)
{
	unsigned int bpp = v->bga[BGA_BPP];

	for (unsigned int i = 0; i < SEQ_N; i++)
		if (v->seq[i] & ~seq_mask[i])
			return false;
	for (unsigned int i = 0; i < GC_N; i++)
		if (v->gc[i] & ~gc_mask[i])
			return false;
	for (unsigned int i = 0; i < 16; i++)
		if (v->att[i] > 0x3f)
			return false;
	if (v->dac_step > 2 || v->att_data > 1 || v->bga[BGA_XRES] > SCREEN_MAX ||
	    v->bga[BGA_YRES] > SCREEN_MAX)
		return false;
	return bpp == 4 || bpp == 8 || bpp == 15 || bpp == 16 || bpp == 24 || bpp == 32;
}
