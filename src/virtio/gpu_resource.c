/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/gpu_resource.c - pictures that the guest makes on the host, and how its bytes come there
 */
#include "virtio/gpu_priv.h"

#include <errno.h>

/* 5.7.6.8: bytes in memory, so B8G8R8X8 is our own 0x00RRGGBB. */
enum {
	B8G8R8A8 = 1,
	B8G8R8X8 = 2,
	A8R8G8B8 = 3,
	X8R8G8B8 = 4,
	R8G8B8A8 = 67,
	X8B8G8R8 = 68,
	A8B8G8R8 = 121,
	R8G8B8X8 = 134,
};

static bool is_format(uint32_t f)
{
	return (f >= B8G8R8A8 && f <= X8R8G8B8) || f == R8G8B8A8 || f == X8B8G8R8 ||
	       f == A8B8G8R8 || f == R8G8B8X8;
}

static uint32_t convert(uint32_t format, uint32_t v)
{
	switch (format) {
	case A8R8G8B8:
	case X8R8G8B8:
		return __builtin_bswap32(v);
	case R8G8B8A8:
	case R8G8B8X8:
		return (v & 0xff00ff00) | (v & 0xff) << 16 | (v >> 16 & 0xff);
	case X8B8G8R8:
	case A8B8G8R8:
		return v >> 8 | v << 24;
	}
	return v;
}

static uint64_t bytes_of(uint32_t width, uint32_t height)
{
	return (uint64_t)width * height * 4;
}

struct gpu_resource *gpu_find(struct gpu *g, uint32_t id)
{
	struct list *pos;

	list_for_each(pos, &g->resources)
	{
		struct gpu_resource *r = container_of(pos, struct gpu_resource, node);

		if (r->id == id)
			return r;
	}
	return NULL;
}

uint32_t gpu_create(struct gpu *g, uint32_t id, uint32_t format, uint32_t width, uint32_t height)
{
	struct gpu_resource *r;

	if (!id || gpu_find(g, id))
		return GPU_BAD_RESOURCE;
	if (!is_format(format) || !width || !height || width > SCREEN_MAX || height > SCREEN_MAX)
		return GPU_BAD_PARAMETER;
	if (g->n_resources == GPU_RESOURCES || bytes_of(width, height) > GPU_BYTES_MAX - g->bytes)
		return GPU_OUT_OF_MEMORY;
	r = xnew(struct gpu_resource);
	r->pixels = calloc((size_t)width * height, sizeof(*r->pixels));
	if (!r->pixels) {
		free(r);
		return GPU_OUT_OF_MEMORY;
	}
	r->id = id;
	r->format = format;
	r->width = width;
	r->height = height;
	list_append(&g->resources, &r->node);
	g->n_resources++;
	g->bytes += bytes_of(width, height);
	return GPU_OK;
}

void gpu_destroy(struct gpu *g, struct gpu_resource *r)
{
	if (g->scanout == r->id)
		g->scanout = 0;
	list_remove(&r->node);
	g->n_resources--;
	g->bytes -= bytes_of(r->width, r->height);
	free(r->pixels);
	free(r->backing);
	free(r);
}

void gpu_destroy_all(struct gpu *g)
{
	struct list *pos, *tmp;

	list_for_each_safe(pos, tmp, &g->resources)
	    gpu_destroy(g, container_of(pos, struct gpu_resource, node));
}

void gpu_attach(struct gpu_resource *r, struct gpu_entry *entries, uint32_t n)
{
	free(r->backing);
	r->backing = entries;
	r->n_backing = n;
}

bool gpu_contains(const struct gpu_resource *r, const struct gpu_rect *rect)
{
	return rect->width && rect->height && range_ok(rect->x, rect->width, r->width) &&
	       range_ok(rect->y, rect->height, r->height);
}

/* --- the guest's bytes --- */

/* A place in the backing that goes forward. */
struct cursor {
	const struct gpu_resource *r;
	uint32_t entry;
	uint64_t start; /* of that entry, in bytes of the whole */
};

/* @len bytes at @offset of the backing; false: they are not there. */
static bool read_backing(const struct gpu *g, struct cursor *c, uint64_t offset, uint8_t *to,
			 size_t len)
{
	const struct gpu_resource *r = c->r;

	while (len) {
		const struct gpu_entry *e;
		uint64_t at;
		size_t n;

		while (c->entry < r->n_backing && offset - c->start >= r->backing[c->entry].len)
			c->start += r->backing[c->entry++].len;
		if (c->entry == r->n_backing)
			return false;
		e = &r->backing[c->entry];
		at = offset - c->start;
		n = MIN(len, (size_t)(e->len - at));
		if (gmem_read(g->dev.mem, e->gpa + at, to, n) < 0)
			return false;
		to += n;
		offset += n;
		len -= n;
	}
	return true;
}

uint32_t gpu_transfer(struct gpu *g, struct gpu_resource *r, const struct gpu_rect *rect,
		      uint64_t offset)
{
	struct cursor c = {.r = r};
	uint64_t stride = (uint64_t)r->width * 4;

	if (!gpu_contains(r, rect) || offset > bytes_of(r->width, r->height))
		return GPU_BAD_PARAMETER;
	for (uint32_t y = 0; y < rect->height; y++) {
		uint32_t *row = r->pixels + (size_t)(rect->y + y) * r->width + rect->x;

		if (!read_backing(g, &c, offset + y * stride, (uint8_t *)row, rect->width * 4u))
			return GPU_UNSPEC;
	}
	return GPU_OK;
}

void gpu_row(const struct gpu_resource *r, uint32_t x, uint32_t y, uint32_t n, uint32_t *out)
{
	const uint32_t *row = r->pixels + (size_t)y * r->width + x;

	for (uint32_t i = 0; i < n; i++)
		out[i] = convert(r->format, row[i]);
}

/* --- saved state: a record, the backing, the pixels --- */

struct record {
	uint32_t id, format, width, height, n_backing;
};

static const struct state_field record_fields[] = {
    STATE_FIELD(struct record, id, 1),        STATE_FIELD(struct record, format, 1),
    STATE_FIELD(struct record, width, 1),     STATE_FIELD(struct record, height, 1),
    STATE_FIELD(struct record, n_backing, 1),
};

static const struct state_table record_table = {
    .name = "gpu-resource",
    .version = 1,
    .fields = record_fields,
    .n_fields = ARRAY_SIZE(record_fields),
};

void gpu_save_resources(struct gpu *g, struct strbuf *out)
{
	struct list *pos;

	list_for_each(pos, &g->resources)
	{
		struct gpu_resource *r = container_of(pos, struct gpu_resource, node);
		struct record record = {r->id, r->format, r->width, r->height, r->n_backing};

		state_save(&record_table, &record, out);
		strbuf_add(out, r->backing, r->n_backing * sizeof(*r->backing));
		strbuf_add(out, r->pixels, bytes_of(r->width, r->height));
	}
}

static int load_resource(struct gpu *g, const char *data, size_t len, size_t *used, struct err *e)
{
	struct record record;
	struct gpu_resource *r;
	size_t at, backing, pixels;
	int ret = state_load(&record_table, &record, data, len, &at, e);

	if (ret < 0)
		return ret;
	backing = record.n_backing * sizeof(struct gpu_entry);
	if (record.n_backing > GPU_ENTRIES ||
	    gpu_create(g, record.id, record.format, record.width, record.height) != GPU_OK)
		return err_msg(e, -EINVAL, "saved resource %u cannot be", record.id);
	r = gpu_find(g, record.id);
	pixels = bytes_of(r->width, r->height);
	if (!range_ok(at, backing + pixels, len))
		return err_msg(e, -EINVAL, "saved resource %u is cut short", record.id);
	if (backing) {
		gpu_attach(r, xcalloc(record.n_backing, sizeof(*r->backing)), record.n_backing);
		memcpy(r->backing, data + at, backing);
	}
	memcpy(r->pixels, data + at + backing, pixels);
	*used = at + backing + pixels;
	return 0;
}

int gpu_load_resources(struct gpu *g, const void *data, size_t len, size_t *used, struct err *e)
{
	size_t at = 0, n = 0;
	int r = 0;

	gpu_destroy_all(g);
	for (uint32_t i = 0; i < g->n_saved && r == 0; i++) {
		r = load_resource(g, (const char *)data + at, len - at, &n, e);
		at += n;
	}
	if (r == 0)
		*used = at;
	return r;
}
