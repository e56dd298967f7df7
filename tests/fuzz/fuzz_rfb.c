/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/fuzz_rfb.c - what viewers and browsers say: RFB, WebSocket frames, and one in the
 * other
 *
 * The first byte chooses; the rest is cut into pieces.  Checked: an update begins with its message
 * type, a viewer that was refused stays refused, and buffers stay within what one message needs.
 */
#include "fuzz.h"

#include "base/timerq.h"
#include "display/rfb.h"
#include "display/websocket.h"
#include "test.h"

#include <errno.h>

static struct timerq timers;
static struct screen *screen;
static struct input *input;
static unsigned int frame;

static void paint(void *opaque, struct screen *s)
{
	uint32_t row[96];

	screen_size(s, frame & 8 ? 96 : 64, 40);
	for (unsigned int y = 0; y < s->height; y++) {
		for (unsigned int x = 0; x < s->width; x++)
			row[x] = (x * y * frame) & (frame & 1 ? 0xffffff : 0x0f0f00);
		screen_row(s, y, row);
	}
}

static int text(void *opaque, struct strbuf *out)
{
	return -ENODATA;
}

static const struct screen_ops ops = {paint, text};

static const char hello[] = "RFB 003.008\n\1\1";
static const char http[] = "GET / HTTP/1.1\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

static void look(struct rfb *r)
{
	struct strbuf *out = rfb_out(r);
	size_t before = out->len;

	frame++;
	screen_refresh(screen);
	if (rfb_update(r))
		CHECK(out->len > before + 4 && out->data[before] == 0);
	CHECK(out->len <= RFB_OUT_MAX + (1u << 20));
	if (frame & 1)
		strbuf_consume(out, out->len);
}

static int feed(struct rfb *r, struct websocket *w, const void *p, size_t n)
{
	struct strbuf data = {0}, reply = {0};
	int ret;

	if (!w)
		return rfb_receive(r, p, n);
	ret = websocket_receive(w, p, n, &data, &reply);
	CHECK(data.len <= w->in.len + n + 65536 && reply.len <= n + 65536 + 512);
	if (data.len && rfb_receive(r, data.data, data.len) < 0)
		ret = -EPROTO;
	strbuf_fini(&data);
	strbuf_fini(&reply);
	return ret;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	struct websocket ws = {0};
	uint8_t how = fuzz_u8(&in);
	struct rfb_config cfg = {.password = how & 4 ? "secret" : NULL, .name = "fuzz"};
	struct websocket *w = how & 1 ? &ws : NULL;
	struct rfb *r;
	int ret = 0;

	if (!screen) {
		timerq_init(&timers, NULL, NULL, NULL);
		screen = screen_new();
		screen_attach(screen, &ops, NULL);
		input = input_new(&timers);
	}
	input_attach(input, NULL, NULL);
	cfg.screen = screen;
	cfg.input = input;
	r = rfb_new(&cfg);
	if (how & 2) { /* past the beginning */
		if (w)
			CHECK_EQ(feed(r, w, http, sizeof(http) - 1), 0);
		CHECK(rfb_receive(r, hello, sizeof(hello) - 1) == (how & 4 ? -EPROTO : 0));
		ret = how & 4 ? -EPROTO : 0;
	}
	while (in.len) {
		uint8_t piece[64];
		size_t n = fuzz_u8(&in) % sizeof(piece) + 1;

		fuzz_bytes(&in, piece, n);
		/* Messages of a viewer are rare among random bytes. */
		if (n > 10 && !w && (piece[1] & 1))
			piece[0] &= 7;
		if (ret < 0)
			CHECK(rfb_receive(r, piece, n) < 0 || w);
		else
			ret = feed(r, w, piece, n);
		look(r);
	}
	rfb_free(r);
	websocket_fini(&ws);
	return 0;
}
