/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/fuzz_gpu.c - virtio's graphics card: commands that are nearly right, with a viewer who
 * looks and asks for sizes, and saved states with a byte changed
 *
 * Checked besides memory errors: every command is answered, the host's memory is bounded, a picture
 * has a size, and after all that a reset card works.
 */
#include "fuzz.h"
#include "test.h"
#include "virtio/driver.h"
#include "virtio/gpu.h"

#define RAM       (1u << 20)
#define REQUEST   0x40000u
#define ANSWER    0x48000u
#define STEPS_MAX 120

static struct gmem *mem;
static struct screen *screen;
static struct virtio_dev *gpu;
static struct drv drv;

static uint32_t word(struct fuzz_input *in, unsigned int bytes)
{
	uint32_t v = 0;

	fuzz_bytes(in, &v, bytes);
	return v;
}

static uint32_t send(unsigned int queue, uint32_t type, const uint32_t *words, uint32_t n)
{
	uint32_t head[6] = {type, type & 1}, answer[6];
	struct drv_buf b[2] = {{REQUEST, 24 + 4 * n}, {ANSWER, 408}};
	uint16_t id;
	uint32_t len;

	CHECK_EQ(gmem_write(mem, REQUEST, head, sizeof(head)), 0);
	CHECK_EQ(gmem_write(mem, REQUEST + 24, words, 4 * n), 0);
	CHECK(drv_post(&drv, queue, b, 1, 1, 0) >= 0);
	drv_kick(&drv, queue);
	CHECK(drv_used(&drv, queue, &id, &len));
	CHECK_EQ(gmem_read(mem, ANSWER, answer, sizeof(answer)), 0);
	CHECK((answer[0] >= 0x1100 && answer[0] < 0x1103) ||
	      (answer[0] >= 0x1200 && answer[0] < 0x1206));
	return answer[0];
}

static void command(struct fuzz_input *in)
{
	static const uint32_t formats[] = {1, 2, 3, 4, 67, 68, 121, 134};
	uint8_t what = fuzz_u8(in), how = fuzz_u8(in);
	uint32_t id = how & 7, side = how & 64 ? word(in, 2) : how & 32 ? 64 : fuzz_u8(in);
	uint32_t w[16] = {0};

	switch (what % 9) {
	case 0:
	case 1:
		send(0, 0x101, (uint32_t[]){id, formats[how >> 3 & 7], side, word(in, 1)}, 4);
		break;
	case 2:
		w[0] = id;
		w[1] = fuzz_u8(in) & 7;
		for (unsigned int i = 0; i < 3; i++) {
			w[2 + 4 * i] = word(in, 3) & ~0xffu;
			w[4 + 4 * i] = word(in, how & 128 ? 4 : 2);
		}
		send(0, 0x106, w, 14);
		break;
	case 3:
		send(0, 0x105,
		     (uint32_t[]){word(in, 1), word(in, 1), side, word(in, 1), word(in, 2),
				  how >> 7, id, 0},
		     8);
		break;
	case 4:
		send(0, 0x103, (uint32_t[]){word(in, 1), 0, side, word(in, 1), how >> 7, id}, 6);
		break;
	case 5:
		send(0, how & 8 ? 0x102 : 0x107, (uint32_t[]){id}, 1);
		break;
	case 6:
		send(1, 0x300 | (how >> 3 & 1),
		     (uint32_t[]){0, word(in, 4), word(in, 2), 0, id, side, side, 0}, 8);
		break;
	case 7:
		fuzz_bytes(in, w, sizeof(w));
		send(how & 1, 0x100 + (how >> 1 & 15), w, 1 + (how >> 5));
		break;
	default:
		screen->draw_cursor = how & 1;
		if (how & 2)
			CHECK_EQ(screen_resize(screen, side, word(in, 2)), 0);
		screen_refresh(screen);
		CHECK(screen->width && screen->height);
	}
}

/* Its own state, a byte changed: refused or not, it answers. */
static void damaged_state(struct fuzz_input *in)
{
	struct strbuf state = {0};
	struct err e = {0};
	size_t used;

	virtio_save(gpu, &state);
	state.data[word(in, 3) % state.len] ^= (char)fuzz_u8(in);
	if (virtio_load(gpu, state.data, state.len, &used, &e) < 0)
		CHECK(e.msg[0]);
	else
		screen_refresh(screen);
	strbuf_fini(&state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};

	if (!mem) {
		CHECK_EQ(gmem_new(RAM, RAM, &mem, NULL), 0);
		screen = screen_new();
		gpu = virtio_gpu_new(mem, screen);
		drv_init(&drv, mem, gpu, 0, 16);
	}
	drv_start(&drv, 0, 16);
	for (unsigned int i = 0; i < STEPS_MAX && in.len; i++)
		command(&in);
	damaged_state(&in);
	drv_start(&drv, 0, 16);
	CHECK_EQ(send(0, 0x101, (uint32_t[]){1, 1, 64, 64}, 4), 0x1100);
	return 0;
}
