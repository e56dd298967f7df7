/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/cpio.h - writes the "newc" cpio format of Linux initramfs archives
 *
 * An archive is any number of cpio_* entries and one cpio_end.  Archives may follow one another;
 * later entries replace earlier ones of the same name.
 * (Linux documentation: driver-api/early-userspace/buffer-format)
 */
#pragma once

#include "base/strbuf.h"

struct cpio {
	struct strbuf *out;
	uint32_t inode;
};

/* Names are relative, without a leading slash; parents must come first. */
void cpio_dir(struct cpio *c, const char *name, uint32_t mode);
void cpio_file(struct cpio *c, const char *name, uint32_t mode, const void *data, uint32_t len);
void cpio_link(struct cpio *c, const char *name, const char *target);
void cpio_chardev(struct cpio *c, const char *name, uint32_t mode, uint32_t major, uint32_t minor);
/* Trailer, and zeroes up to a multiple of 512. */
void cpio_end(struct cpio *c);
