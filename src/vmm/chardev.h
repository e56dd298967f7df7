/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/chardev.h - where the machine's serial ports and consoles end: terminal, file, unix socket
 *
 * Output waits in a buffer that the loop empties; a full buffer holds the guest back, nothing is
 * lost.  A socket has one client at a time; without one, output vanishes.
 *
 * On a terminal, input is raw and CHARDEV_ESCAPE (Ctrl-]) calls on_escape instead of going to the
 * guest.
 */
#pragma once

#include "base/err.h"
#include "base/loop.h"
#include "device/chardev.h"
#include "model/vm_desc.h"

#define CHARDEV_ESCAPE 0x1d

struct chardev_backend;
struct fd_table;

struct chardev_config {
	const struct vm_chardev_desc *desc;
	struct loop *loop;
	const struct fd_table *given; /* files that are open already; NULL = none */
	void (*on_escape)(void *opaque);
	void *opaque;
};

/* @ret is NULL for type none. */
must_check int chardev_backend_open(const struct chardev_config *cfg, struct chardev_backend **ret,
				    struct err *e);
/* For a device; NULL when @b is. */
struct chardev *chardev_backend_front(struct chardev_backend *b);
/* Writes out what it can without waiting long, restores the terminal.  NULL is fine. */
void chardev_backend_close(struct chardev_backend *b);
