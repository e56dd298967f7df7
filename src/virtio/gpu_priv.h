/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/gpu_priv.h - between the graphics card's commands and its resources
 */
#pragma once

#include "base/list.h"
#include "virtio/gpu.h"

/* Answers (5.7.6.7) */
enum {
	GPU_OK = 0x1100,
	GPU_OK_DISPLAY_INFO = 0x1101,
	GPU_UNSPEC = 0x1200,
	GPU_OUT_OF_MEMORY = 0x1201,
	GPU_BAD_SCANOUT = 0x1202,
	GPU_BAD_RESOURCE = 0x1203,
	GPU_BAD_PARAMETER = 0x1205,
};

struct gpu_rect {
	uint32_t x, y, width, height;
};

struct gpu_entry { /* 5.7.6.8, as the guest wrote it */
	uint64_t gpa;
	uint32_t len, padding;
};

/* A picture of the host's, and where the guest's is. */
struct gpu_resource {
	struct list node;
	uint32_t id, format, width, height;
	uint32_t *pixels; /* as the format says */
	struct gpu_entry *backing;
	uint32_t n_backing;
};

struct gpu {
	struct virtio_dev dev;
	struct screen *screen;
	struct list resources;
	unsigned int n_resources;
	uint64_t bytes;
	uint32_t events; /* not cleared by the driver yet */
	uint32_t want_width, want_height;
	uint32_t scanout; /* the resource that is seen; 0 = none */
	struct gpu_rect view;
	/* The cursor: a copy, as its resource may go. */
	uint32_t cursor[SCREEN_CURSOR * SCREEN_CURSOR]; /* ARGB */
	uint32_t cursor_x, cursor_y, hot_x, hot_y;
	bool cursor_shown;
	uint32_t cursor_number; /* counts shapes */
	uint32_t n_saved;       /* resources behind a saved state */
};

/* --- gpu_resource.c: all answer with an enum above --- */
struct gpu_resource *gpu_find(struct gpu *g, uint32_t id);
uint32_t gpu_create(struct gpu *g, uint32_t id, uint32_t format, uint32_t width, uint32_t height);
void gpu_destroy(struct gpu *g, struct gpu_resource *r);
void gpu_destroy_all(struct gpu *g);
/* @entries is taken over. */
void gpu_attach(struct gpu_resource *r, struct gpu_entry *entries, uint32_t n);
/* From the guest's memory, @offset bytes behind the backing's start (5.7.6.8). */
uint32_t gpu_transfer(struct gpu *g, struct gpu_resource *r, const struct gpu_rect *rect,
		      uint64_t offset);
/* @n pixels from @x, @y on, as 0xAARRGGBB; they lie in the picture. */
void gpu_row(const struct gpu_resource *r, uint32_t x, uint32_t y, uint32_t n, uint32_t *out);
bool gpu_contains(const struct gpu_resource *r, const struct gpu_rect *rect);
void gpu_save_resources(struct gpu *g, struct strbuf *out);
must_check int gpu_load_resources(struct gpu *g, const void *data, size_t len, size_t *used,
				  struct err *e);
