/* SPDX-License-Identifier: Apache-2.0 */
/*
 * display/input.h - what a person does: keys and a pointer, on their way to the guest's devices
 *
 * Keys are X keysyms, as RFB names them; they become scan codes of set 2 of a US keyboard.  They
 * wait here until the keyboard takes them, at most INPUT_QUEUE of them, each INPUT_GAP after the
 * one before, so that programs that look rarely miss nothing.
 *
 * Threads: the loop's.
 */
#pragma once

#include "base/err.h"
#include "base/timerq.h"

#define INPUT_QUEUE 4096u
#define INPUT_CODES 8u     /* bytes of one key at most */
#define INPUT_RANGE 32767u /* of a tablet's places, from 0 */

struct input_ops {
	/* All of @codes or nothing: false = no room yet. */
	bool (*key)(void *opaque, const uint8_t *codes, size_t n);
	/* @buttons: bit 0 left, 1 right, 2 middle; @dz > 0: the wheel turned towards the person. */
	void (*mouse)(void *opaque, int dx, int dy, int dz, unsigned int buttons);
};

/* A keyboard and a tablet on USB.  They get what is done while the guest listens to them; else the
 * others do. */
struct input_usb_ops {
	bool (*has_keyboard)(void *opaque);
	/* @usage of HID's keyboard page; false = no room yet. */
	bool (*key)(void *opaque, uint8_t usage, bool down);
	bool (*has_tablet)(void *opaque);
	/* As mouse above, but for @x and @y, which say where: 0 to INPUT_RANGE. */
	void (*move)(void *opaque, unsigned int x, unsigned int y, int dz, unsigned int buttons);
};

struct input;

struct input *input_new(struct timerq *timers);
void input_free(struct input *in);
/* The devices; NULL ops = none. */
void input_attach(struct input *in, const struct input_ops *ops, void *opaque);
void input_attach_usb(struct input *in, const struct input_usb_ops *ops, void *opaque);

/* -ENOENT: no such key on this keyboard; -ENOBUFS: the queue is full. */
int input_key(struct input *in, uint32_t keysym, bool down);
/* The pointer is at @x, @y of a picture of @width by @height; @buttons as RFB: bit 0 left, 1
 * middle, 2 right, 3 and 4 wheel. */
void input_pointer(struct input *in, unsigned int x, unsigned int y, unsigned int width,
		   unsigned int height, unsigned int buttons);

/* Presses and releases what gives @text (UTF-8 of a US keyboard's characters, \n, \t); nothing is
 * typed when one cannot be. */
must_check int input_type(struct input *in, const char *text, struct err *e);
/* "ctrl-alt-del", "f12", "a": presses all in order, releases them in reverse. */
must_check int input_chord(struct input *in, const char *names, struct err *e);

/* keymap.c */
struct keymap_key {
	uint8_t code;  /* of set 2 */
	bool extended; /* E0h before it */
	bool shift;    /* the character is on its upper half */
};
/* False = not on this keyboard. */
bool keymap_find(uint32_t keysym, struct keymap_key *ret);
/* HID's usage of the key with this code of set 2; 0 = none. */
uint8_t keymap_usage(const struct keymap_key *k);
/* The keysym of a key's name ("ctrl", "f12", "enter", "a"); 0 = none. */
uint32_t keymap_name(const char *name, size_t len);
