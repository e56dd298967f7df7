/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/virtio/test_gpu.c - a driver's pictures on the screen: formats, backings in parts,
 * what is refused, cursor, sizes that a viewer asks for, all of it saved and loaded
 */
#include "driver.h"
#include "test.h"
#include "virtio/gpu.h"

#include <errno.h>

#define RAM     (4u << 20)
#define BACKING 0x100000u
#define REQUEST 0x200000u
#define ANSWER  0x280000u

static struct gmem *mem;
static struct screen *screen;
static struct virtio_dev *gpu;
static struct drv drv;

/* The answer's type. */
static uint32_t send(unsigned int queue, uint32_t type, const uint32_t *words, uint32_t n)
{
	uint32_t head[6] = {type, 1, 77, 0, 5}, answer[102] = {0};
	struct drv_buf b[2] = {{REQUEST, 24 + 4 * n}, {ANSWER, sizeof(answer)}};
	uint16_t id;
	uint32_t len;

	CHECK_EQ(gmem_write(mem, REQUEST, head, sizeof(head)), 0);
	CHECK_EQ(gmem_write(mem, REQUEST + 24, words, 4 * n), 0);
	CHECK(drv_post(&drv, queue, b, 1, 1, 0) >= 0);
	drv_kick(&drv, queue);
	CHECK(drv_used(&drv, queue, &id, &len));
	CHECK_EQ(gmem_read(mem, ANSWER, answer, sizeof(answer)), 0);
	CHECK(len >= 24 && answer[1] == 1 && answer[2] == 77 && answer[4] == 5);
	return answer[0];
}

#define SEND(type, ...)                                                                            \
	({                                                                                         \
		const uint32_t words_[] = {__VA_ARGS__};                                           \
		send((type) >= 0x300, type, words_, ARRAY_SIZE(words_));                           \
	})

static uint32_t pixel(unsigned int x, unsigned int y)
{
	screen_refresh(screen);
	return screen->pixels[y * screen->width + x];
}

static void put(uint64_t at, uint32_t v)
{
	CHECK_EQ(gmem_write(mem, at, &v, 4), 0);
}

static void start(void)
{
	gpu = virtio_gpu_new(mem, screen);
	drv_init(&drv, mem, gpu, 0, 16);
	drv_start(&drv, 0, 16);
}

/* Resource 1 of 8 by 4 pixels, its backing in two parts that lie the other way round. */
static void test_picture(void)
{
	uint32_t info[8];

	CHECK_EQ(SEND(0x100), 0x1101);
	CHECK_EQ(gmem_read(mem, ANSWER + 24, info, 24), 0);
	CHECK(info[2] == 1024 && info[3] == 768 && info[4] == 1);
	CHECK_EQ(SEND(0x101, 1, 2, 8, 4), 0x1100);
	CHECK_EQ(SEND(0x106, 1, 2, BACKING + 0x1000, 0, 40, 0, BACKING, 0, 88, 0), 0x1100);
	put(BACKING + 0x1000, 0xff123456);      /* 0, 0 */
	put(BACKING + 0x1000 + 36, 0x00abcdef); /* 1, 1 */
	put(BACKING, 0x00010203);               /* 2, 1 */
	CHECK_EQ(SEND(0x105, 0, 0, 8, 4, 0, 0, 1, 0), 0x1100);
	CHECK_EQ(SEND(0x103, 0, 0, 8, 4, 0, 1), 0x1100);
	CHECK_EQ(SEND(0x104, 0, 0, 8, 4, 1, 0), 0x1100);
	CHECK(pixel(0, 0) == 0x123456 && screen->width == 8 && screen->height == 4);
	CHECK(pixel(1, 1) == 0xabcdef && pixel(2, 1) == 0x010203);
	/* A part of it, from the middle of the backing. */
	put(BACKING, 0x00ffffff);
	put(BACKING + 0x1000, 0x00ffffff);
	CHECK_EQ(SEND(0x105, 2, 1, 1, 1, 40, 0, 1, 0), 0x1100);
	CHECK(pixel(2, 1) == 0xffffff && pixel(0, 0) == 0x123456);
	/* Another order of bytes. */
	CHECK_EQ(SEND(0x101, 2, 67, 8, 4), 0x1100);
	CHECK_EQ(SEND(0x106, 2, 1, BACKING, 0, 128, 0), 0x1100);
	put(BACKING, 0x00332211);
	CHECK_EQ(SEND(0x105, 0, 0, 8, 4, 0, 0, 2, 0), 0x1100);
	CHECK_EQ(SEND(0x103, 0, 0, 4, 4, 0, 2), 0x1100);
	CHECK(pixel(0, 0) == 0x112233 && screen->width == 4);
}

static void test_refused(void)
{
	CHECK_EQ(SEND(0x101, 1, 2, 8, 4), 0x1203); /* there is one */
	CHECK_EQ(SEND(0x101, 0, 2, 8, 4), 0x1203);
	CHECK_EQ(SEND(0x101, 9, 5, 8, 4), 0x1205); /* format */
	CHECK_EQ(SEND(0x101, 9, 2, 4097, 4), 0x1205);
	CHECK_EQ(SEND(0x102, 9), 0x1203);
	CHECK_EQ(SEND(0x103, 0, 0, 9, 4, 0, 1), 0x1205); /* past its edge */
	CHECK_EQ(SEND(0x103, 4, 0, 0xffffffff, 4, 0, 1), 0x1205);
	CHECK_EQ(SEND(0x103, 0, 0, 8, 4, 1, 1), 0x1202);       /* no such scanout */
	CHECK_EQ(SEND(0x105, 0, 0, 8, 4, 4, 0, 1, 0), 0x1200); /* past the backing */
	CHECK_EQ(SEND(0x105, 0, 0, 8, 4, 0, 1, 1, 0), 0x1205);
	CHECK_EQ(SEND(0x106, 1, 3, BACKING, 0, 40, 0), 0x1205); /* one entry of three */
	CHECK_EQ(SEND(0x106, 1, 0), 0x1205);
	CHECK_EQ(SEND(0x109), 0x1200);
	for (uint32_t i = 100; i < 104; i++)
		CHECK_EQ(SEND(0x101, i, 1, 4096, 4096), i < 103 ? 0x1100 : 0x1201);
	for (uint32_t i = 100; i < 103; i++)
		CHECK_EQ(SEND(0x102, i), 0x1100);
	CHECK_EQ(SEND(0x106, 1, 1, 0xfffff000, 0xff, 128, 0),
		 0x1100); /* outside of memory: later */
	CHECK_EQ(SEND(0x105, 0, 0, 8, 4, 0, 0, 1, 0), 0x1200);
}

static void test_cursor(void)
{
	CHECK_EQ(SEND(0x101, 3, 1, 64, 64), 0x1100);
	CHECK_EQ(SEND(0x106, 3, 1, BACKING, 0, 16384, 0), 0x1100);
	put(BACKING, 0xffff0000);
	put(BACKING + 4, 0x80ffffff);
	CHECK_EQ(SEND(0x105, 0, 0, 64, 64, 0, 0, 3, 0), 0x1100);
	CHECK_EQ(SEND(0x300, 0, 1, 2, 0, 3, 5, 70, 0), 0x1100);
	CHECK_EQ(SEND(0x102, 3), 0x1100); /* the shape stays */
	CHECK_EQ(pixel(1, 2), 0);
	CHECK(screen->cursor.shown && screen->cursor.hot_x == 5 && screen->cursor.hot_y == 63);
	screen->draw_cursor = true;
	CHECK_EQ(pixel(1, 2), 0xff0000);
	CHECK_EQ(pixel(2, 2), 0x808080);
	CHECK_EQ(SEND(0x301, 0, 0xffffffff, 0, 0, 0, 0, 0, 0), 0x1100); /* partly to the left */
	CHECK_EQ(pixel(0, 0), 0x889099); /* white, half, over 112233h */
	CHECK_EQ(SEND(0x300, 0, 0, 0, 0, 0, 0, 0, 0), 0x1100);
	CHECK(pixel(0, 0) == 0x112233 && !screen->cursor.shown);
	CHECK_EQ(SEND(0x300, 0, 0, 0, 0, 2, 0, 0, 0), 0x1203); /* not 64 by 64 */
	screen->draw_cursor = false;
}

static void test_resize(void)
{
	unsigned int irqs = drv.config_irqs;
	uint32_t info[6], events;

	CHECK_EQ(screen_resize(screen, 1234, 10), 0);
	CHECK_EQ(drv.config_irqs, irqs + 1);
	virtio_config_read(gpu, 0, &events, 4);
	CHECK_EQ(events, 1);
	virtio_config_write(gpu, 4, &events, 4);
	virtio_config_read(gpu, 0, &events, 4);
	CHECK_EQ(events, 0);
	CHECK_EQ(SEND(0x100), 0x1101);
	CHECK_EQ(gmem_read(mem, ANSWER + 24, info, 24), 0);
	CHECK(info[2] == 1234 && info[3] == 64);
}

static void test_saved(void)
{
	struct strbuf state = {0};
	struct err e = {0};
	size_t used;

	virtio_save(gpu, &state);
	gpu->ops->free(gpu);
	CHECK_EQ(screen_resize(screen, 1, 1), -ENOTSUP);
	start();
	CHECK_EQ(pixel(0, 0), 0);
	CHECK_EQ(virtio_load(gpu, state.data, state.len, &used, &e), 0);
	CHECK_EQ(used, state.len);
	CHECK(pixel(0, 0) == 0x112233 && screen->width == 4);
	/* Cut short, it is refused, and the card is as after a reset. */
	CHECK(virtio_load(gpu, state.data, state.len - 1, &used, &e) < 0);
	CHECK(pixel(0, 0) == 0 && screen->width == 1024);
	CHECK_EQ(virtio_load(gpu, state.data, state.len, &used, &e), 0);
	virtio_reset(gpu);
	CHECK(pixel(0, 0) == 0);
	strbuf_fini(&state);
}

int main(void)
{
	CHECK_EQ(gmem_new(RAM, RAM, &mem, NULL), 0);
	screen = screen_new();
	start();
	test_picture();
	test_refused();
	test_cursor();
	test_resize();
	test_saved();
	gpu->ops->free(gpu);
	screen_free(screen);
	gmem_free(mem);
	return 0;
}
