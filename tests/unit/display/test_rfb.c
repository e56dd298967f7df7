/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/display/test_rfb.c - the protocol byte by byte: versions, password, formats, updates,
 * and what no viewer may say (tests/pc has a viewer that decodes ZRLE)
 */
#include "display/rfb.h"

#include "base/clock.h"
#include "test.h"

#include <errno.h>
#include <nettle/des.h>

static struct timerq timers;
static struct input *input;
static struct screen *screen;
static uint32_t color = 0x102030;
static unsigned int width = 32, height = 16;

static void paint(void *opaque, struct screen *s)
{
	uint32_t row[64];

	screen_size(s, width, height);
	for (unsigned int x = 0; x < width; x++)
		row[x] = x < 16 ? 0x102030 : color;
	for (unsigned int y = 0; y < height; y++)
		screen_row(s, y, row);
}

static int text(void *opaque, struct strbuf *out)
{
	return -ENODATA;
}

static unsigned int wished_width, wished_height;

static void resize(void *opaque, unsigned int w, unsigned int h)
{
	wished_width = w;
	wished_height = h;
}

static const struct screen_ops ops = {.paint = paint, .text = text};
static const struct screen_ops resizable = {.paint = paint, .text = text, .resize = resize};

static struct rfb *start(const char *password)
{
	struct rfb_config cfg = {screen, input, password, "name"};

	return rfb_new(&cfg);
}

static void send_ok(struct rfb *r, const void *p, size_t n)
{
	CHECK_EQ(rfb_receive(r, p, n), 0);
}

/* What it said, @n bytes of it, is @want. */
static void said(struct rfb *r, const void *want, size_t n)
{
	struct strbuf *out = rfb_out(r);

	CHECK(out->len >= n);
	CHECK(memcmp(out->data, want, n) == 0);
	strbuf_consume(out, n);
}

static struct rfb *connected(void)
{
	struct rfb *r = start(NULL);

	said(r, "RFB 003.008\n", 12);
	send_ok(r, "RFB 003.008\n", 12);
	said(r, "\1\1", 2);
	send_ok(r, "\1", 1);
	said(r, "\0\0\0\0", 4);
	send_ok(r, "\1", 1);
	said(r, "\0\x20\0\x10\x20\x18\0\1\0\xff\0\xff\0\xff\x10\x08\0\0\0\0\0\0\0\4name", 28);
	CHECK_EQ(rfb_out(r)->len, 0);
	return r;
}

static void test_update(void)
{
	struct rfb *r = connected();

	CHECK(!rfb_wants_update(r));
	send_ok(r, "\3\0\0\0\0\0\0\x20\0\x10", 10);
	CHECK(rfb_wants_update(r));
	screen_refresh(screen);
	CHECK(rfb_update(r));
	said(r, "\0\0\0\1\0\0\0\0\0\x20\0\x10\0\0\0\0", 16);
	said(r, "\x30\x20\x10\0", 4);
	CHECK_EQ(rfb_out(r)->len, 32 * 16 * 4 - 4);
	strbuf_consume(rfb_out(r), rfb_out(r)->len);

	/* Nothing new: silence, until there is. */
	send_ok(r, "\3\1\0\0\0\0\0\x20\0\x10", 10);
	screen_refresh(screen);
	CHECK(!rfb_update(r) && rfb_out(r)->len == 0);
	color = 0xff8040;
	screen_refresh(screen);
	CHECK(rfb_update(r));
	said(r, "\0\0\0\1\0\x10\0\0\0\x10\0\x10\0\0\0\0\x40\x80\xff\0", 20);
	CHECK(!rfb_wants_update(r));
	strbuf_consume(rfb_out(r), rfb_out(r)->len);

	/* 5-6-5 in 16 bits, big-endian. */
	send_ok(r, "\0\0\0\0\x10\x10\1\1\0\x1f\0\x3f\0\x1f\x0b\5\0\0\0\0", 20);
	send_ok(r, "\3\0\0\0\0\0\0\x20\0\x10", 10);
	CHECK(rfb_update(r));
	said(r, "\0\0\0\1\0\0\0\0\0\x20\0\x10\0\0\0\0\x11\x06", 18);
	rfb_free(r);
	color = 0x102030;
}

/* The first encoding of the list that we have; tiles of one and of two colours. */
static void test_hextile(void)
{
	struct rfb *r = connected();

	color = 0xff8040;
	send_ok(r, "\2\0\0\3\0\0\0\7\0\0\0\5\0\0\0\x10", 16);
	send_ok(r, "\3\0\0\0\0\0\0\x20\0\x10", 10);
	screen_refresh(screen);
	CHECK(rfb_update(r));
	said(r, "\0\0\0\1\0\0\0\0\0\x20\0\x10\0\0\0\5", 16);
	said(r, "\2\x30\x20\x10\0\2\x40\x80\xff\0", 10);
	CHECK_EQ(rfb_out(r)->len, 0);
	width = 20; /* a tile of 4 pixels, of which one is another */
	color = 0x102030;
	screen_refresh(screen);
	send_ok(r, "\2\0\0\2\0\0\0\5\xff\xff\xff\x21", 12);
	send_ok(r, "\3\0\0\0\0\0\0\x20\0\x10", 10);
	CHECK(rfb_update(r));
	said(r, "\0\0\0\2\0\0\0\0\0\x14\0\x10\xff\xff\xff\x21", 16);
	said(r, "\0\0\0\0\0\x14\0\x10\0\0\0\5\2\x30\x20\x10\0\2\x30\x20\x10\0", 22);
	CHECK_EQ(rfb_out(r)->len, 0);
	width = 32;
	rfb_free(r);
}

/* ExtendedDesktopSize: told at once, asked for, refused, and when the size changes. */
static void test_desktop_size(void)
{
	static const uint8_t ask[] = {251, 0, 0x01, 0x00, 0x00, 0x80, 1,    0,    0, 0, 0, 7,
				      0,   0, 0,    0,    0x01, 0x00, 0x00, 0x80, 0, 0, 0, 0};
	struct rfb *r = connected();

	send_ok(r, "\2\0\0\1\xff\xff\xfe\xcc", 8);
	send_ok(r, "\3\1\0\0\0\0\0\x20\0\x10", 10);
	screen_refresh(screen);
	CHECK(rfb_update(r));
	said(r, "\0\0\0\2\0\0\0\0\0\x20\0\x10\xff\xff\xfe\xcc\1\0\0\0", 20);
	said(r, "\0\0\0\1\0\0\0\0\0\x20\0\x10\0\0\0\0", 16);
	strbuf_consume(rfb_out(r), rfb_out(r)->len);
	for (unsigned int can = 0; can < 2; can++) {
		screen_attach(screen, can ? &resizable : &ops, NULL);
		send_ok(r, ask, sizeof(ask));
		send_ok(r, "\3\1\0\0\0\0\0\x20\0\x10", 10);
		screen_refresh(screen);
		CHECK(rfb_update(r));
		said(r, can ? "\0\0\0\1\0\1\0\4\0\x20\0\x10" : "\0\0\0\1\0\1\0\1\0\x20\0\x10", 12);
		strbuf_consume(rfb_out(r), rfb_out(r)->len);
	}
	CHECK(wished_width == 256 && wished_height == 128);
	width = 20; /* the guest did something of its own */
	send_ok(r, "\3\1\0\0\0\0\0\x20\0\x10", 10);
	screen_refresh(screen);
	CHECK(rfb_update(r));
	said(r, "\0\0\0\2\0\0\0\0\0\x14\0\x10\xff\xff\xfe\xcc", 16);
	width = 32;
	screen_attach(screen, &ops, NULL);
	rfb_free(r);
}

/* A shape for who draws it; none while the picture has it. */
static void test_cursor(void)
{
	static uint32_t pixels[SCREEN_CURSOR * SCREEN_CURSOR] = {0xff112233};
	struct screen_cursor c = {.pixels = pixels, .number = 5, .shown = true, .hot_x = 3};
	struct rfb *r = connected();

	CHECK(rfb_needs_cursor(r));
	screen_refresh(screen);
	screen_set_cursor(screen, &c);
	send_ok(r, "\2\0\0\1\xff\xff\xff\x11\3\0\0\0\0\0\0\x20\0\x10", 18);
	CHECK(!rfb_needs_cursor(r));
	CHECK(rfb_update(r));
	said(r, "\0\0\0\2\0\3\0\0\0\x40\0\x40\xff\xff\xff\x11\x33\x22\x11\0", 20);
	strbuf_consume(rfb_out(r), 64 * 64 * 4 - 4);
	said(r, "\x80\0", 2);
	strbuf_consume(rfb_out(r), rfb_out(r)->len);
	screen->draw_cursor = true;
	send_ok(r, "\3\1\0\0\0\0\0\x20\0\x10", 10);
	CHECK(rfb_update(r));
	said(r, "\0\0\0\1\0\0\0\0\0\0\0\0\xff\xff\xff\x11", 16);
	screen->draw_cursor = false;
	c.shown = false;
	screen_set_cursor(screen, &c);
	rfb_free(r);
}

static struct rfb *start_tls(const char *password)
{
	struct rfb_config cfg = {
	    .screen = screen, .input = input, .password = password, .name = "name", .tls = true};
	struct rfb *r = rfb_new(&cfg);

	said(r, "RFB 003.008\n", 12);
	return r;
}

static void test_vencrypt(void)
{
	struct rfb *r = start_tls(NULL);

	send_ok(r, "RFB 003.008\n", 12);
	said(r, "\1\x13", 2);
	send_ok(r, "\x13", 1);
	said(r, "\0\2", 2);
	send_ok(r, "\0\2", 2);
	said(r, "\0\1\0\0\1\4", 6);
	CHECK(!rfb_wants_tls(r));
	send_ok(r, "\0\0\1\4", 4);
	said(r, "\1", 1);
	CHECK(rfb_wants_tls(r) && rfb_out(r)->len == 0);
	rfb_secured(r);
	said(r, "\0\0\0\0", 4);
	send_ok(r, "\1", 1);
	rfb_free(r);

	/* Inside https nothing is offered but what there is without TLS. */
	r = start_tls("secret");
	rfb_secured(r);
	send_ok(r, "RFB 003.008\n", 12);
	said(r, "\1\2", 2);
	rfb_free(r);

	/* With a password the challenge comes inside. */
	r = start_tls("secret");
	send_ok(r, "RFB 003.007\n\x13\0\2\0\0\1\5", 19);
	CHECK(rfb_wants_tls(r));
	strbuf_consume(rfb_out(r), rfb_out(r)->len);
	rfb_secured(r);
	CHECK_EQ(rfb_out(r)->len, 16);
	rfb_free(r);
}

static void test_vencrypt_refusals(void)
{
	static const struct {
		const char *says;
		size_t n;
	} bad[] = {
	    {"RFB 003.003\n", 12},
	    {"RFB 003.008\n\1", 13},
	    {"RFB 003.008\n\2", 13},
	    {"RFB 003.008\n\x13\0\1", 15},
	    {"RFB 003.008\n\x13\0\2\0\0\1\1", 19},
	    {"RFB 003.008\n\x13\0\2\0\0\1\5", 19},
	    /* words in the clear that would be taken for encrypted ones */
	    {"RFB 003.008\n\x13\0\2\0\0\1\4\1", 20},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct rfb *r = start_tls(NULL);

		CHECK_EQ(rfb_receive(r, bad[i].says, bad[i].n), -EPROTO);
		CHECK_EQ(rfb_receive(r, "\1", 1), -EPROTO);
		CHECK(!rfb_wants_tls(r));
		rfb_free(r);
	}
}

/* Viewers that know resizing are told, others see as much as they know of. */
static void test_resize(void)
{
	struct rfb *r = connected(), *old = connected();

	send_ok(r, "\2\0\0\1\xff\xff\xff\x21", 8);
	send_ok(r, "\3\0\0\0\0\0\0\x20\0\x10", 10);
	send_ok(old, "\3\0\0\0\0\0\0\x20\0\x10", 10);
	width = 48;
	screen_refresh(screen);
	CHECK(rfb_update(r) && rfb_update(old));
	said(r, "\0\0\0\2\0\0\0\0\0\x30\0\x10\xff\xff\xff\x21", 16);
	said(r, "\0\0\0\0\0\x30\0\x10\0\0\0\0", 12);
	CHECK_EQ(rfb_out(r)->len, 48 * 16 * 4);
	said(old, "\0\0\0\1\0\0\0\0\0\x20\0\x10\0\0\0\0", 16);
	CHECK_EQ(rfb_out(old)->len, 32 * 16 * 4);
	width = 32;
	screen_refresh(screen);
	rfb_free(r);
	rfb_free(old);
}

static void test_password(void)
{
	struct rfb *r = start("secret");
	/* "secret" with the bits of each byte mirrored. */
	static const uint8_t key[8] = {0xce, 0xa6, 0xc6, 0x4e, 0xa6, 0x2e};
	uint8_t answer[16];
	struct des_ctx des;

	strbuf_consume(rfb_out(r), 12);
	send_ok(r, "RFB 003.008\n\2", 13);
	said(r, "\1\2", 2);
	CHECK_EQ(rfb_out(r)->len, 16);
	des_set_key(&des, key);
	des_encrypt(&des, 16, answer, (uint8_t *)rfb_out(r)->data);
	strbuf_consume(rfb_out(r), 16);
	send_ok(r, answer, 16);
	said(r, "\0\0\0\0", 4);
	rfb_free(r);

	r = start("secret");
	strbuf_consume(rfb_out(r), 12);
	send_ok(r, "RFB 003.003\n", 12);
	said(r, "\0\0\0\2", 4);
	CHECK_EQ(rfb_receive(r, answer, 16), -EPROTO); /* of another challenge */
	CHECK_EQ(rfb_receive(r, "\1", 1), -EPROTO);    /* and it stays out */
	rfb_free(r);

	r = start("secret");
	strbuf_consume(rfb_out(r), 12);
	CHECK_EQ(rfb_receive(r, "RFB 003.008\n\1", 13), -EPROTO); /* without a password */
	rfb_free(r);
}

static void refused(const void *p, size_t n)
{
	struct rfb *r = connected();

	CHECK_EQ(rfb_receive(r, p, n), -EPROTO);
	CHECK(!rfb_wants_update(r));
	rfb_free(r);
}

static void test_refusals(void)
{
	struct rfb *r = start(NULL);
	char cut[8 + 1000] = "\6\0\0\0\0\0\3\xe8";

	CHECK_EQ(rfb_receive(r, "GET / HTTP/1", 12), -EPROTO);
	rfb_free(r);
	refused("\7", 1);
	refused("\0\0\0\0\x18\x18\0\1\0\xff\0\xff\0\xff\x10\x08\0\0\0\0", 20); /* 24 bits */
	refused("\0\0\0\0\x20\x18\0\0\0\xff\0\xff\0\xff\x10\x08\0\0\0\0", 20); /* colour map */
	refused("\0\0\0\0\x20\x18\0\1\0\xff\0\xff\0\xff\x10\x20\0\0\0\0", 20); /* shift of 32 */
	refused("\0\0\0\0\x20\x18\0\1\xff\xff\0\xff\0\xff\x18\x08\0\0\0\0", 20);
	refused("\2\0\xff\xff", 4);             /* more encodings than there are */
	refused("\6\0\0\0\x7f\xff\xff\xff", 8); /* a clipboard of 2 GiB */

	/* A clipboard in pieces is passed over, and what follows is heard. */
	r = connected();
	for (size_t i = 0; i < sizeof(cut); i++)
		send_ok(r, cut + i, 1);
	CHECK(!rfb_wants_update(r));
	send_ok(r, "\3\1\0\0\0\0\0\x20\0\x10", 10);
	CHECK(rfb_wants_update(r));
	rfb_free(r);
}

int main(void)
{
	timerq_init(&timers, NULL, NULL, NULL);
	input = input_new(&timers);
	screen = screen_new();
	screen_attach(screen, &ops, NULL);
	test_update();
	test_hextile();
	test_desktop_size();
	test_cursor();
	test_vencrypt();
	test_vencrypt_refusals();
	test_resize();
	test_password();
	test_refusals();
	screen_free(screen);
	input_free(input);
	timerq_fini(&timers);
	return 0;
}
