/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/virtio/share_dir.h - a host directory to share, and one request at a time to its
 * device
 */
#pragma once

#include "virtio/driver.h"

/* --- the host's side --- */

extern char share_base[]; /* holds "share", and what lies beside it */

/* Makes both, and sets the umask to 077. */
void share_make(void);
void share_remove(void);
/* The path of @name below the base; good until the next call but one. */
const char *host(const char *name);
void host_file(const char *name, const char *text);
/* share/many/file0 to file199, empty; the directory is there. */
void host_many_files(void);
/* "share", and /proc/self/fd: what a server is given. */
void host_open_share(int *root, int *proc);
/* The directory share/flip turns into a symlink to the base and back, as fast as it can. */
void race_start(void);
void race_stop(void);
/* In a process of its own, for limits that cannot be raised again: its wait status. */
int run_child(void (*part)(void));

/* --- the driver's side --- */

struct share_drv {
	struct drv v;
	unsigned int qi;            /* the queue of requests */
	uint32_t head;              /* an answer's header, which gets a buffer of its own */
	uint64_t out_size, in_size; /* of the buffers */
	uint64_t out, in;
};

void share_drv_init(struct share_drv *s, struct gmem *m, struct virtio_dev *d, uint64_t features);
/* The answer's length; @in_len bytes have room behind its header, none at all without @reply. */
uint32_t share_drv_call(struct share_drv *s, unsigned int qi, const uint8_t *request, size_t len,
			uint8_t *reply, uint32_t in_len);
/* Resets, @rounds times, with requests under way: the last one, of @len bytes. */
void share_drv_storm(struct share_drv *s, unsigned int rounds, size_t len);
/* A message that is none breaks the device. */
void share_drv_break(struct share_drv *s);
