/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/text_view.h - a text screen on a terminal: `--display text`
 *
 * Lines that changed are written again; keys typed go to the guest's keyboard.  A screen that shows
 * graphics is told by its size.
 */
#pragma once

#include "base/loop.h"
#include "device/chardev.h"
#include "display/input.h"
#include "display/screen.h"

struct text_view;

/* All of them outlive the view; @chr is the terminal. */
struct text_view *text_view_new(struct loop *l, struct chardev *chr, struct screen *s,
				struct input *in);
void text_view_free(struct text_view *v);
