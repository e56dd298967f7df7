/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/gpu.c - graphics card without 3D: commands, what is seen, the cursor (virtio 1.2, 5.7)
 *
 * The picture is painted from the host's copy of the scanout's resource when somebody looks
 * (display/screen.h), so a flush has nothing to do.  Commands run in vCPU threads, painting and
 * resizing in the loop's, all under the device's lock.
 */
#include "virtio/gpu_priv.h"

#include "base/log.h"

#include <errno.h>

#define QUEUE_SIZE  256
#define CONTROL     0
#define QUEUES      2
#define SCANOUTS    16 /* in an answer, whatever there are */
#define EVENT_SIZE  BIT(0)
#define FLAG_FENCE  BIT(0)
#define WIDTH       1024u
#define HEIGHT      768u
#define SMALLEST    64u
#define CURSOR_SIDE SCREEN_CURSOR

enum {
	GET_DISPLAY_INFO = 0x0100,
	CREATE_2D = 0x0101,
	UNREF = 0x0102,
	SET_SCANOUT = 0x0103,
	FLUSH = 0x0104,
	TRANSFER = 0x0105,
	ATTACH_BACKING = 0x0106,
	DETACH_BACKING = 0x0107,
	UPDATE_CURSOR = 0x0300,
	MOVE_CURSOR = 0x0301,
};

struct head {
	uint32_t type, flags;
	uint64_t fence;
	uint32_t context;
	uint8_t ring, padding[3];
};
_Static_assert(sizeof(struct head) == 24, "5.7.6.7");

/* What follows the head; each command has some of it (5.7.6.8). */
struct create {
	uint32_t id, format, width, height;
};
struct scanout {
	struct gpu_rect rect;
	uint32_t scanout, id;
};
struct flush {
	struct gpu_rect rect;
	uint32_t id, padding;
};
struct transfer {
	struct gpu_rect rect;
	uint64_t offset;
	uint32_t id, padding;
};
struct attach {
	uint32_t id, n;
};
struct cursor {
	uint32_t scanout, x, y, padding, id, hot_x, hot_y, padding2;
};

static struct gpu *from_dev(struct virtio_dev *d)
{
	return container_of(d, struct gpu, dev);
}

static bool get(const struct vq_chain *c, size_t off, void *to, size_t len)
{
	return iov_to_buf(c->out, c->n_out, off, to, len) == len;
}

/* --- commands --- */

static uint32_t display_info(struct gpu *g, const struct vq_chain *c, uint32_t *extra)
{
	uint32_t modes[SCANOUTS * 6] = {0, 0, g->want_width, g->want_height, 1};

	*extra = (uint32_t)iov_from_buf(c->in, c->n_in, sizeof(struct head), modes, sizeof(modes));
	return GPU_OK_DISPLAY_INFO;
}

static uint32_t set_scanout(struct gpu *g, const struct scanout *s)
{
	const struct gpu_resource *r;

	if (s->scanout)
		return GPU_BAD_SCANOUT;
	if (!s->id) {
		g->scanout = 0;
		return GPU_OK;
	}
	r = gpu_find(g, s->id);
	if (!r)
		return GPU_BAD_RESOURCE;
	if (!gpu_contains(r, &s->rect))
		return GPU_BAD_PARAMETER;
	g->scanout = s->id;
	g->view = s->rect;
	return GPU_OK;
}

static uint32_t attach(struct gpu *g, const struct vq_chain *c, const struct attach *a)
{
	struct gpu_resource *r = gpu_find(g, a->id);
	struct gpu_entry *entries;

	if (!r)
		return GPU_BAD_RESOURCE;
	if (!a->n || a->n > GPU_ENTRIES)
		return GPU_BAD_PARAMETER;
	entries = calloc(a->n, sizeof(*entries));
	if (!entries)
		return GPU_OUT_OF_MEMORY;
	if (!get(c, sizeof(struct head) + sizeof(*a), entries, a->n * sizeof(*entries))) {
		free(entries);
		return GPU_BAD_PARAMETER;
	}
	gpu_attach(r, entries, a->n);
	return GPU_OK;
}

static uint32_t unref(struct gpu *g, uint32_t id, bool all)
{
	struct gpu_resource *r = gpu_find(g, id);

	if (!r)
		return GPU_BAD_RESOURCE;
	if (all)
		gpu_destroy(g, r);
	else
		gpu_attach(r, NULL, 0);
	return GPU_OK;
}

static uint32_t transfer(struct gpu *g, const struct transfer *t)
{
	struct gpu_resource *r = gpu_find(g, t->id);

	return r ? gpu_transfer(g, r, &t->rect, t->offset) : GPU_BAD_RESOURCE;
}

static uint32_t flush(struct gpu *g, const struct flush *f)
{
	const struct gpu_resource *r = gpu_find(g, f->id);

	if (!r)
		return GPU_BAD_RESOURCE;
	return gpu_contains(r, &f->rect) ? GPU_OK : GPU_BAD_PARAMETER;
}

static uint32_t control(struct gpu *g, const struct vq_chain *c, uint32_t type, uint32_t *extra)
{
	union {
		struct create create;
		struct scanout scanout;
		struct flush flush;
		struct transfer transfer;
		struct attach attach;
		uint32_t id;
	} u = {0};

	(void)get(c, sizeof(struct head), &u, sizeof(u)); /* what is missing is zero */
	switch (type) {
	case GET_DISPLAY_INFO:
		return display_info(g, c, extra);
	case CREATE_2D:
		return gpu_create(g, u.create.id, u.create.format, u.create.width, u.create.height);
	case UNREF:
		return unref(g, u.id, true);
	case SET_SCANOUT:
		return set_scanout(g, &u.scanout);
	case FLUSH:
		return flush(g, &u.flush);
	case TRANSFER:
		return transfer(g, &u.transfer);
	case ATTACH_BACKING:
		return attach(g, c, &u.attach);
	case DETACH_BACKING:
		return unref(g, u.id, false);
	}
	return GPU_UNSPEC;
}

/* --- the cursor --- */

static uint32_t update_cursor(struct gpu *g, const struct cursor *u)
{
	const struct gpu_resource *r = u->id ? gpu_find(g, u->id) : NULL;

	g->cursor_shown = u->id != 0;
	g->cursor_number++;
	if (!u->id)
		return GPU_OK;
	if (!r || r->width != CURSOR_SIDE || r->height != CURSOR_SIDE) {
		g->cursor_shown = false;
		return GPU_BAD_RESOURCE;
	}
	for (uint32_t y = 0; y < CURSOR_SIDE; y++)
		gpu_row(r, 0, y, CURSOR_SIDE, g->cursor + CURSOR_SIDE * y);
	g->hot_x = MIN(u->hot_x, CURSOR_SIDE - 1);
	g->hot_y = MIN(u->hot_y, CURSOR_SIDE - 1);
	return GPU_OK;
}

static uint32_t cursor(struct gpu *g, const struct vq_chain *c, uint32_t type)
{
	struct cursor u;

	if ((type != UPDATE_CURSOR && type != MOVE_CURSOR) ||
	    !get(c, sizeof(struct head), &u, sizeof(u)))
		return GPU_UNSPEC;
	if (u.scanout)
		return GPU_BAD_SCANOUT;
	g->cursor_x = u.x;
	g->cursor_y = u.y;
	return type == UPDATE_CURSOR ? update_cursor(g, &u) : GPU_OK;
}

/* --- the device --- */

static void gpu_kick(struct virtio_dev *d, struct vq *q)
{
	struct gpu *g = from_dev(d);
	struct vq_chain c;

	while (vq_pop(q, &c)) {
		struct head h = {0}, answer = {0};
		uint32_t extra = 0;

		if (!get(&c, 0, &h, sizeof(h))) {
			virtio_broken(d, "graphics command without a head");
			break;
		}
		answer.type =
		    q->index == CONTROL ? control(g, &c, h.type, &extra) : cursor(g, &c, h.type);
		if (h.flags & FLAG_FENCE) {
			answer.flags = FLAG_FENCE;
			answer.fence = h.fence;
			answer.context = h.context;
		}
		/* Cursor commands need not have room for an answer. */
		vq_push(q, &c,
			(uint32_t)iov_from_buf(c.in, c.n_in, 0, &answer, sizeof(answer)) + extra);
	}
	vq_notify(q);
}

static void gpu_config_read(struct virtio_dev *d, uint32_t off, void *buf, uint32_t len)
{
	const uint32_t config[4] = {from_dev(d)->events, 0, 1, 0};

	memcpy(buf, (const uint8_t *)config + off, len);
}

/* events_clear */
static void gpu_config_write(struct virtio_dev *d, uint32_t off, const void *buf, uint32_t len)
{
	if (off == 4 && len == 4)
		from_dev(d)->events &= ~load_le32(buf);
}

static void gpu_reset(struct virtio_dev *d)
{
	struct gpu *g = from_dev(d);

	gpu_destroy_all(g);
	g->events = g->scanout = 0;
	g->cursor_shown = false;
	g->cursor_number++;
}

static void gpu_free(struct virtio_dev *d)
{
	struct gpu *g = from_dev(d);

	if (g->screen)
		screen_attach(g->screen, NULL, NULL);
	gpu_destroy_all(g);
	virtio_fini(d);
	free(g);
}

/* --- what is seen --- */

/* Left of the picture or above it are negative numbers. */
static int place(uint32_t at)
{
	return MAX(-(int)SCREEN_MAX, MIN((int)SCREEN_MAX, (int32_t)at));
}

static void paint(void *opaque, struct screen *s)
{
	static const uint32_t black[SCREEN_MAX];
	uint32_t row[SCREEN_MAX];
	struct gpu *g = opaque;
	const struct gpu_resource *r;
	struct screen_cursor cursor = {.pixels = g->cursor};

	virtio_lock(&g->dev);
	cursor.number = g->cursor_number;
	cursor.shown = g->cursor_shown;
	cursor.x = place(g->cursor_x);
	cursor.y = place(g->cursor_y);
	cursor.hot_x = g->hot_x;
	cursor.hot_y = g->hot_y;
	screen_set_cursor(s, &cursor);
	r = g->scanout ? gpu_find(g, g->scanout) : NULL;
	screen_size(s, r ? g->view.width : WIDTH, r ? g->view.height : HEIGHT);
	for (uint32_t y = 0; y < s->height; y++) {
		if (r)
			gpu_row(r, g->view.x, g->view.y + y, g->view.width, row);
		for (uint32_t x = 0; r && x < g->view.width; x++)
			row[x] &= 0xffffff;
		screen_row(s, y, r ? row : black);
	}
	virtio_unlock(&g->dev);
}

static int text(void *opaque, struct strbuf *out)
{
	return -ENODATA;
}

static void resize(void *opaque, unsigned int width, unsigned int height)
{
	struct gpu *g = opaque;

	virtio_lock(&g->dev);
	g->want_width = MAX(SMALLEST, MIN(width, SCREEN_MAX));
	g->want_height = MAX(SMALLEST, MIN(height, SCREEN_MAX));
	g->events |= (uint32_t)EVENT_SIZE;
	virtio_config_changed(&g->dev);
	virtio_unlock(&g->dev);
}

static const struct screen_ops screen_ops = {.paint = paint, .text = text, .resize = resize};

/* --- saved state --- */

static const struct state_field gpu_fields[] = {
    STATE_FIELD(struct gpu, events, 1),      STATE_FIELD(struct gpu, want_width, 1),
    STATE_FIELD(struct gpu, want_height, 1), STATE_FIELD(struct gpu, scanout, 1),
    STATE_FIELD(struct gpu, view.x, 1),      STATE_FIELD(struct gpu, view.y, 1),
    STATE_FIELD(struct gpu, view.width, 1),  STATE_FIELD(struct gpu, view.height, 1),
    STATE_ARRAY(struct gpu, cursor, 1),      STATE_FIELD(struct gpu, cursor_x, 1),
    STATE_FIELD(struct gpu, cursor_y, 1),    STATE_FIELD(struct gpu, hot_x, 1),
    STATE_FIELD(struct gpu, hot_y, 1),       STATE_FIELD(struct gpu, cursor_shown, 1),
    STATE_FIELD(struct gpu, n_saved, 1),
};

static const struct state_table gpu_table = {
    .name = "virtio-gpu",
    .version = 1,
    .fields = gpu_fields,
    .n_fields = ARRAY_SIZE(gpu_fields),
};

static void gpu_save(struct virtio_dev *d, struct strbuf *out)
{
	struct gpu *g = from_dev(d);

	g->n_saved = g->n_resources;
	state_save(&gpu_table, g, out);
	gpu_save_resources(g, out);
}

static int check_loaded(struct gpu *g, struct err *e)
{
	const struct gpu_resource *r = g->scanout ? gpu_find(g, g->scanout) : NULL;

	if (g->scanout && (!r || !gpu_contains(r, &g->view)))
		return err_msg(e, -EINVAL, "saved scanout shows what is not there");
	if (g->hot_x >= CURSOR_SIDE || g->hot_y >= CURSOR_SIDE)
		return err_msg(e, -EINVAL, "saved cursor points outside of itself");
	return 0;
}

static int gpu_load(struct virtio_dev *d, const void *data, size_t len, size_t *used, struct err *e)
{
	struct gpu *g = from_dev(d);
	size_t fields, resources, at;
	uint32_t shown;
	int r = state_load(&gpu_table, g, data, len, &fields, e);

	shown = g->scanout; /* destroying what was there forgets it */
	at = r == 0 ? fields : 0;
	if (r == 0)
		r = gpu_load_resources(g, (const char *)data + at, len - at, &resources, e);
	g->scanout = shown;
	if (r == 0)
		r = check_loaded(g, e);
	if (r < 0) {
		gpu_reset(d);
		return r;
	}
	g->cursor_number++;
	*used = at + resources;
	return 0;
}

static const struct virtio_ops gpu_ops = {
    .name = "virtio-gpu",
    .id = 16,
    .kick = gpu_kick,
    .config_read = gpu_config_read,
    .config_write = gpu_config_write,
    .reset = gpu_reset,
    .free = gpu_free,
    .save = gpu_save,
    .load = gpu_load,
};

struct virtio_dev *virtio_gpu_new(struct gmem *mem, struct screen *screen)
{
	struct gpu *g = xnew(struct gpu);

	virtio_init(&g->dev, &gpu_ops, mem, QUEUES, QUEUE_SIZE, 0, 16);
	g->screen = screen;
	list_init(&g->resources);
	g->want_width = WIDTH;
	g->want_height = HEIGHT;
	if (screen)
		screen_attach(screen, &screen_ops, g);
	return &g->dev;
}
