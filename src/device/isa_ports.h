/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/isa_ports.h - the PC's odd single ports, one small device each
 */
#pragma once

#include "device/chardev.h"
#include "device/device.h"

/* Port 92h: A20 (kept as a bit only: the address line is always on) and fast reset. */
must_check int port92_new(struct request_sink requests, struct device **ret);
/* Ports 80h (POST codes; reads give the last) and EDh (I/O delay). */
must_check int port80_new(struct device **ret);
/* Debug console at @port (0xe9 or 0x402): bytes written go to @chr, reads identify it. */
must_check int debugcon_new(uint16_t port, struct chardev *chr, struct device **ret);
/* isa-debug-exit at @port (0xf4): a write of v asks for REQUEST_EXIT with v << 1 | 1. */
must_check int debug_exit_new(uint16_t port, struct request_sink requests, struct device **ret);
/* pvpanic at 0x505: events panicked (1) and crash loaded (2). */
must_check int pvpanic_new(struct request_sink requests, struct device **ret);
