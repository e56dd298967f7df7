/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/vga_mem.c - the window at A0000h: planes, latches, write modes (VGA Technical Reference,
 * graphics controller)
 */
#include "device/vga_priv.h"

/* Offset from A0000h to offset in the window that is switched on; false = not in it. */
static bool window_offset(const struct vga *v, uint32_t off, uint32_t *ret)
{
	static const struct {
		uint32_t first, size;
	} windows[] = {{0, 0x20000}, {0, 0x10000}, {0x10000, 0x8000}, {0x18000, 0x8000}};
	unsigned int w = v->gc[GC_MISC] >> 2 & 3;

	if (!(v->misc & 2) || off - windows[w].first >= windows[w].size)
		return false;
	*ret = off - windows[w].first;
	return true;
}

/* With the BGA on: 64 KiB of the linear frame buffer. */
static uint8_t *bank_byte(struct vga *v, uint32_t off)
{
	uint64_t at = (uint64_t)v->bga[BGA_BANK] * 0x10000 + off;

	return off < 0x10000 && at < VGA_VRAM_SIZE ? &v->vram[at] : NULL;
}

static bool banked(const struct vga *v)
{
	return vga_bga_on(v) && v->bga[BGA_BPP] != 4;
}

/* The four planes' bytes of a plane address. */
static uint8_t *cell(struct vga *v, uint32_t addr)
{
	return v->vram + 4 * (size_t)(addr & (VGA_PLANE_SIZE - 1));
}

/* Odd addresses in odd planes: text, CGA. */
static bool odd_even(const struct vga *v)
{
	return v->gc[GC_MODE] & 0x10;
}

uint8_t vga_mem_read(struct vga *v, uint32_t off)
{
	const uint8_t *c, *byte;
	uint8_t diff = 0;

	if (banked(v)) {
		byte = bank_byte(v, off);
		return byte ? *byte : 0xff;
	}
	if (!window_offset(v, off, &off))
		return 0xff;
	if (v->seq[SEQ_MODE] & 8) /* chain 4 */
		return cell(v, off & ~3u)[off & 3];
	if (odd_even(v)) {
		c = cell(v, off & ~1u);
		memcpy(v->latch, c, 4);
		return c[(v->gc[GC_READ_MAP] & 2) | (off & 1)];
	}
	memcpy(v->latch, cell(v, off), 4);
	if (!(v->gc[GC_MODE] & 8))
		return v->latch[v->gc[GC_READ_MAP] & 3];
	/* Read mode 1: bits whose colour matches. */
	for (unsigned int p = 0; p < 4; p++)
		if (v->gc[GC_DONT_CARE] >> p & 1)
			diff |= v->latch[p] ^ (v->gc[GC_COMPARE] >> p & 1 ? 0xff : 0);
	return (uint8_t)~diff;
}

static uint8_t rotate(const struct vga *v, uint8_t x)
{
	unsigned int n = v->gc[GC_ROTATE] & 7;

	return (uint8_t)(x >> n | x << (8 - n));
}

static uint8_t logic(const struct vga *v, uint8_t x, uint8_t latch)
{
	switch (v->gc[GC_ROTATE] >> 3 & 3) {
	case 1:
		return x & latch;
	case 2:
		return x | latch;
	case 3:
		return x ^ latch;
	}
	return x;
}

/* What one plane gets. */
static uint8_t plane_value(const struct vga *v, unsigned int p, uint8_t value)
{
	uint8_t mask = v->gc[GC_MASK], x, set = v->gc[GC_SET] >> p & 1 ? 0xff : 0;

	switch (v->gc[GC_MODE] & 3) {
	case 0:
		x = v->gc[GC_ENABLE_SET] >> p & 1 ? set : rotate(v, value);
		break;
	case 1:
		return v->latch[p];
	case 2:
		x = value >> p & 1 ? 0xff : 0;
		break;
	default:
		mask &= rotate(v, value);
		x = set;
		break;
	}
	x = logic(v, x, v->latch[p]);
	return (uint8_t)((x & mask) | (v->latch[p] & ~mask));
}

void vga_mem_write(struct vga *v, uint32_t off, uint8_t value)
{
	uint8_t *c, *byte, planes = v->seq[SEQ_MAP_MASK] & 15;

	if (banked(v)) {
		byte = bank_byte(v, off);
		if (byte)
			*byte = value;
		return;
	}
	if (!window_offset(v, off, &off))
		return;
	if (v->seq[SEQ_MODE] & 8) {
		if (planes >> (off & 3) & 1)
			cell(v, off & ~3u)[off & 3] = value;
		return;
	}
	if (odd_even(v)) {
		planes &= off & 1 ? 0x0a : 0x05;
		off &= ~1u;
	}
	c = cell(v, off);
	for (unsigned int p = 0; p < 4; p++)
		if (planes >> p & 1)
			c[p] = plane_value(v, p, value);
}
