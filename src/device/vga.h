/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/vga.h - a VGA with Bochs' extensions (PCI 1234:1111; IBM VGA Technical Reference; QEMU's
 * standard-vga and the BGA interface as documented there)
 *
 *	3B0h-3DFh, A0000h-BFFFFh   VGA: text, planar and 256-colour modes
 *	1CEh, 1CFh                 BGA ("VBE DISPI"): linear modes of any size, 8 to 32 bits
 *	BAR 0                      frame buffer, 16 MiB; memory of the guest's where the board can
 *	BAR 2                      +400h the ports 3C0h-3DFh, +500h the BGA registers
 *
 * Left out: the monochrome timings, the attribute controller's blinking (screens stay still), pixel
 * panning by single pixels, 9 dots a character (text is 8 wide).
 */
#pragma once

#include "bus/pci.h"
#include "display/screen.h"

#include "base/timerq.h"

#define VGA_VRAM_SIZE (16u << 20)

struct vga_config {
	uint8_t *vram;         /* VGA_VRAM_SIZE, the caller's, zeroed */
	struct timerq *timers; /* for its clock */
	struct screen *screen; /* attached to; may be NULL */
	/* BAR 0 moved: vga_vram_place says where to; may be NULL. */
	void (*moved)(void *opaque);
	void *opaque;
};

must_check int vga_new(const struct vga_config *cfg, struct pci_dev **ret);
/* The ports and the window below 1 MiB, once plugged; they go with the device. */
void vga_attach_legacy(struct pci_dev *d, struct bus *b);
/* Where the guest sees the frame buffer; false = nowhere, or something else is in the way. */
bool vga_vram_place(struct pci_dev *d, uint64_t *gpa);
