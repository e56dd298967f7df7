/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/console.h - console and named byte streams (virtio 1.2, 5.3)
 */
#pragma once

#include "device/chardev.h"
#include "virtio/virtio.h"

#define VIRTIO_CONSOLE_PORTS    8
#define VIRTIO_CONSOLE_NAME_MAX 64

struct virtio_console_port {
	const char *name;    /* /dev/virtio-ports/NAME in a Linux guest; NULL = none */
	bool console;        /* hvc<n> in a Linux guest */
	struct chardev *chr; /* NULL: what the guest writes vanishes */
};

/* @ports[0] is the port of drivers that know only one.  @n from 1 to VIRTIO_CONSOLE_PORTS. */
struct virtio_dev *virtio_console_new(struct gmem *mem, const struct virtio_console_port *ports,
				      unsigned int n);
/* The terminal behind the console ports has another size.  Takes the device's lock. */
void virtio_console_resize(struct virtio_dev *d, uint16_t cols, uint16_t rows);
