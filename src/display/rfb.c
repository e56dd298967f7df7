/* SPDX-License-Identifier: Apache-2.0 */
/*
 * display/rfb.c - one viewer's side of the RFB protocol (RFC 6143)
 *
 *	version -> security -> [VeNCrypt -> TLS] -> [VNC challenge] -> client init -> messages
 */
#include "display/rfb_priv.h"

#include <errno.h>
#include <nettle/des.h>
#include <nettle/memops.h>
#include <sys/random.h>

#define RFB_IN_MAX   8192u
#define CUT_TEXT_MAX (256u << 10)
#define CHALLENGE    16u

enum state {
	WANT_VERSION,
	WANT_SECURITY,
	WANT_VENCRYPT, /* its version */
	WANT_SUBTYPE,
	WANT_TLS, /* rfb_secured */
	WANT_RESPONSE,
	WANT_INIT,
	WANT_MESSAGE,
	DROPPED,
};
enum security { SECURITY_NONE = 1, SECURITY_VNC = 2, SECURITY_VENCRYPT = 19 };
enum subtype { X509_NONE = 260, X509_VNC = 261 };
enum message {
	SET_PIXEL_FORMAT = 0,
	SET_ENCODINGS = 2,
	UPDATE_REQUEST = 3,
	KEY_EVENT = 4,
	POINTER_EVENT = 5,
	CLIENT_CUT_TEXT = 6,
	SET_DESKTOP_SIZE = 251,
};
enum encoding {
	ENC_RAW = 0,
	ENC_HEXTILE = 5,
	ENC_ZRLE = 16,
	ENC_DESKTOP_SIZE = -223,
	ENC_CURSOR = -239,
	ENC_EXTENDED_SIZE = -308
};
/* Why a size is told, and how it went (the rfbproto document, 7.8.2) */
enum reason { REASON_SERVER = 0, REASON_VIEWER = 1 };
enum { SIZE_PROHIBITED = 1, SIZE_INVALID = 3, SIZE_FORWARDED = 4 };

struct rfb {
	struct rfb_config cfg;
	enum state state;
	unsigned int minor; /* version 3.x */
	uint8_t challenge[CHALLENGE];
	struct strbuf in, out;
	uint32_t skip; /* bytes of a message that nobody reads */
	struct rfb_format format;
	z_stream z;
	enum encoding encoding;
	bool resizes, extended, cursors, secured;
	bool answer_size; /* an ExtendedDesktopSize is due: reason and status */
	uint16_t reason, status;
	uint32_t cursor;            /* number of the shape that the viewer has; 0 = none */
	unsigned int width, height; /* as the viewer knows them */
	bool wants;
	uint32_t seen; /* refresh number; tiles that changed later are news */
};

static const struct rfb_format native = {
    .bits = 32, .max = {255, 255, 255}, .shift = {16, 8, 0}, .cpixel = 3, .cpixel_at = 0};

struct rfb *rfb_new(const struct rfb_config *cfg)
{
	struct rfb *r = xnew(struct rfb);

	r->cfg = *cfg;
	r->format = native;
	if (deflateInit(&r->z, 3) != Z_OK)
		abort(); /* no memory */
	strbuf_puts(&r->out, "RFB 003.008\n");
	return r;
}

void rfb_free(struct rfb *r)
{
	if (!r)
		return;
	deflateEnd(&r->z);
	strbuf_fini(&r->in);
	strbuf_fini(&r->out);
	free(r);
}

struct strbuf *rfb_out(struct rfb *r)
{
	return &r->out;
}

static unsigned int get16(const uint8_t *p)
{
	return (unsigned int)p[0] << 8 | p[1];
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

/* --- the beginning --- */

static int refuse(struct rfb *r, const char *why)
{
	rfb_put32(&r->out, (uint32_t)strlen(why));
	strbuf_puts(&r->out, why);
	return -EPROTO;
}

static void send_challenge(struct rfb *r)
{
	if (getrandom(r->challenge, CHALLENGE, 0) != CHALLENGE)
		abort();
	strbuf_add(&r->out, r->challenge, CHALLENGE);
	r->state = WANT_RESPONSE;
}

/* The one that is offered. */
static enum security security_type(const struct rfb *r)
{
	if (r->cfg.tls && !r->secured)
		return SECURITY_VENCRYPT;
	return r->cfg.password ? SECURITY_VNC : SECURITY_NONE;
}

/* "RFB 003.00x\n"; 3.3 has the server choose, and other numbers count as 3.3. */
static int take_version(struct rfb *r, const uint8_t *p)
{
	enum security type = security_type(r);

	if (memcmp(p, "RFB 003.00", 10) != 0 || p[11] != '\n')
		return -EPROTO;
	r->minor = p[10] == '7' || p[10] == '8' ? p[10] - '0' : 3;
	if (r->minor == 3 && type == SECURITY_VENCRYPT) {
		rfb_put32(&r->out, 0);
		return refuse(r, "this server asks for TLS");
	}
	if (r->minor == 3) {
		rfb_put32(&r->out, type);
		if (type == SECURITY_VNC)
			send_challenge(r);
		else
			r->state = WANT_INIT;
		return 0;
	}
	strbuf_putc(&r->out, 1);
	strbuf_putc(&r->out, (char)type);
	r->state = WANT_SECURITY;
	return 0;
}

static int take_security(struct rfb *r, const uint8_t *p)
{
	enum security type = security_type(r);

	if (*p != type) {
		rfb_put32(&r->out, 1);
		return r->minor == 8 ? refuse(r, "this security type was not offered") : -EPROTO;
	}
	if (type == SECURITY_VENCRYPT) {
		strbuf_add(&r->out, "\0\2", 2);
		r->state = WANT_VENCRYPT;
		return 0;
	}
	if (type == SECURITY_VNC) {
		send_challenge(r);
		return 0;
	}
	if (r->minor == 8)
		rfb_put32(&r->out, 0);
	r->state = WANT_INIT;
	return 0;
}

static enum subtype subtype(const struct rfb *r)
{
	return r->cfg.password ? X509_VNC : X509_NONE;
}

static int take_vencrypt(struct rfb *r, const uint8_t *p)
{
	bool known = p[0] == 0 && p[1] == 2;

	strbuf_putc(&r->out, !known);
	if (!known)
		return -EPROTO;
	strbuf_putc(&r->out, 1);
	rfb_put32(&r->out, subtype(r));
	r->state = WANT_SUBTYPE;
	return 0;
}

static int take_subtype(struct rfb *r, const uint8_t *p)
{
	bool offered = get32(p) == subtype(r);

	strbuf_putc(&r->out, offered);
	r->state = WANT_TLS;
	return offered ? 0 : -EPROTO;
}

/* What came in the clear behind the choice could be anybody's. */
static int take_clear(struct rfb *r, const uint8_t *p)
{
	return -EPROTO;
}

bool rfb_wants_tls(const struct rfb *r)
{
	return r->state == WANT_TLS;
}

void rfb_secured(struct rfb *r)
{
	r->secured = true;
	if (r->state != WANT_TLS)
		return;
	if (r->cfg.password) {
		send_challenge(r);
		return;
	}
	rfb_put32(&r->out, 0);
	r->state = WANT_INIT;
}

/* The challenge, encrypted with the password; the bits of each of its bytes are mirrored (7.2.2).
 */
static int take_response(struct rfb *r, const uint8_t *p)
{
	uint8_t key[DES_KEY_SIZE] = {0}, want[CHALLENGE];
	struct des_ctx des;

	for (size_t i = 0; i < sizeof(key) && r->cfg.password[i]; i++)
		for (unsigned int bit = 0; bit < 8; bit++)
			key[i] |= (uint8_t)(((uint8_t)r->cfg.password[i] >> bit & 1) << (7 - bit));
	des_set_key(&des, key);
	des_encrypt(&des, CHALLENGE, want, r->challenge);
	if (!memeql_sec(want, p, CHALLENGE)) {
		rfb_put32(&r->out, 1);
		return r->minor == 8 ? refuse(r, "wrong password") : -EPROTO;
	}
	rfb_put32(&r->out, 0);
	r->state = WANT_INIT;
	return 0;
}

static void put_format(const struct rfb_format *f, struct strbuf *out)
{
	const uint8_t head[4] = {f->bits, 24, f->big_endian, 1};

	strbuf_add(out, head, sizeof(head));
	for (unsigned int i = 0; i < 3; i++)
		rfb_put16(out, f->max[i]);
	strbuf_add(out, f->shift, 3);
	strbuf_add(out, "\0\0\0", 3);
}

static int take_init(struct rfb *r, const uint8_t *p)
{
	const char *name = r->cfg.name;

	/* Shared or not: all viewers see the same. */
	screen_refresh(r->cfg.screen);
	r->width = r->cfg.screen->width;
	r->height = r->cfg.screen->height;
	rfb_put16(&r->out, r->width);
	rfb_put16(&r->out, r->height);
	put_format(&native, &r->out);
	rfb_put32(&r->out, (uint32_t)strlen(name));
	strbuf_puts(&r->out, name);
	r->state = WANT_MESSAGE;
	return 0;
}

/* --- messages --- */

/* Short pixels of ZRLE: the three bytes that hold the colours, when three do (7.7.5). */
static void find_cpixel(struct rfb_format *f)
{
	uint32_t mask = 0;

	f->cpixel = f->bits / 8;
	f->cpixel_at = 0;
	if (f->bits != 32)
		return;
	for (unsigned int i = 0; i < 3; i++)
		mask |= (uint32_t)f->max[i] << f->shift[i];
	if (!(mask & 0xff000000)) {
		f->cpixel = 3;
		f->cpixel_at = f->big_endian ? 1 : 0;
	} else if (!(mask & 0xff)) {
		f->cpixel = 3;
		f->cpixel_at = f->big_endian ? 0 : 1;
	}
}

static int set_format(struct rfb *r, const uint8_t *p)
{
	struct rfb_format f = {.bits = p[4], .big_endian = p[6]};

	/* Colour maps went with the screens that had them. */
	if ((f.bits != 8 && f.bits != 16 && f.bits != 32) || !p[7])
		return -EPROTO;
	for (unsigned int i = 0; i < 3; i++) {
		f.max[i] = (uint16_t)get16(p + 8 + 2 * i);
		f.shift[i] = p[14 + i];
		if (f.shift[i] >= f.bits || (uint64_t)f.max[i] << f.shift[i] >= UINT64_C(1)
										    << f.bits)
			return -EPROTO;
	}
	find_cpixel(&f);
	/* A depth above 24 means whole pixels. */
	if (p[5] > 24) {
		f.cpixel = f.bits / 8;
		f.cpixel_at = 0;
	}
	r->format = f;
	r->seen = 0;
	return 0;
}

static void set_encodings(struct rfb *r, const uint8_t *p, unsigned int n)
{
	bool chosen = false;

	r->encoding = ENC_RAW;
	r->resizes = r->extended = r->cursors = false;
	r->cursor = 0;
	for (unsigned int i = 0; i < n; i++) {
		int32_t e = (int32_t)get32(p + 4 * i);

		/* The first one that we know is what the viewer likes best. */
		if (!chosen && (e == ENC_RAW || e == ENC_HEXTILE || e == ENC_ZRLE)) {
			r->encoding = (enum encoding)e;
			chosen = true;
		}
		r->resizes |= e == ENC_DESKTOP_SIZE;
		r->extended |= e == ENC_EXTENDED_SIZE;
		r->cursors |= e == ENC_CURSOR;
	}
	if (r->extended && !r->answer_size) {
		r->answer_size = true;
		r->reason = REASON_SERVER;
		r->status = 0;
	}
}

/* How many bytes the message at @p has, from the @len that are there; 0 = not known yet. */
static size_t message_size(const uint8_t *p, size_t len)
{
	switch (p[0]) {
	case SET_PIXEL_FORMAT:
		return 20;
	case SET_ENCODINGS:
		return len < 4 ? 0 : 4 + 4 * (size_t)get16(p + 2);
	case UPDATE_REQUEST:
		return 10;
	case KEY_EVENT:
		return 8;
	case POINTER_EVENT:
		return 6;
	case CLIENT_CUT_TEXT:
		return 8;
	case SET_DESKTOP_SIZE:
		return len < 8 ? 0 : 8 + 16 * (size_t)p[6];
	}
	return SIZE_MAX; /* not a message */
}

/* One screen that fills the desktop is what we have. */
static void set_desktop_size(struct rfb *r, const uint8_t *p)
{
	unsigned int width = get16(p + 2), height = get16(p + 4);

	r->answer_size = r->extended;
	r->reason = REASON_VIEWER;
	if (p[6] != 1 || !width || !height || width > SCREEN_MAX || height > SCREEN_MAX)
		r->status = SIZE_INVALID;
	else if (screen_resize(r->cfg.screen, width, height) < 0)
		r->status = SIZE_PROHIBITED;
	else
		r->status = SIZE_FORWARDED; /* the guest will say */
}

static int take_message(struct rfb *r, const uint8_t *p)
{
	switch (p[0]) {
	case SET_PIXEL_FORMAT:
		return set_format(r, p);
	case SET_ENCODINGS:
		set_encodings(r, p + 4, get16(p + 2));
		return 0;
	case UPDATE_REQUEST:
		r->wants = true;
		if (!p[1]) /* all of it, whatever was seen */
			r->seen = 0;
		return 0;
	case KEY_EVENT:
		/* Keys that no keyboard of ours has are nobody's fault. */
		(void)input_key(r->cfg.input, get32(p + 4), p[1] != 0);
		return 0;
	case POINTER_EVENT:
		input_pointer(r->cfg.input, get16(p + 2), get16(p + 4), r->width, r->height, p[1]);
		return 0;
	case SET_DESKTOP_SIZE:
		set_desktop_size(r, p);
		return 0;
	}
	r->skip = get32(p + 4); /* the clipboard */
	return r->skip > CUT_TEXT_MAX ? -EPROTO : 0;
}

/* What is complete at the front of r->in; bytes taken, 0 = more are needed. */
static int take(struct rfb *r, size_t *used)
{
	static const struct {
		size_t size;
		int (*take)(struct rfb *r, const uint8_t *p);
	} steps[] = {
	    [WANT_VERSION] = {12, take_version},  [WANT_SECURITY] = {1, take_security},
	    [WANT_VENCRYPT] = {2, take_vencrypt}, [WANT_SUBTYPE] = {4, take_subtype},
	    [WANT_TLS] = {1, take_clear},         [WANT_RESPONSE] = {CHALLENGE, take_response},
	    [WANT_INIT] = {1, take_init},
	};
	const uint8_t *p = (const uint8_t *)r->in.data;
	size_t size;

	*used = 0;
	if (r->state == WANT_MESSAGE) {
		size = message_size(p, r->in.len);
		if (size > RFB_IN_MAX)
			return -EPROTO;
		if (!size || r->in.len < size)
			return 0;
		*used = size;
		return take_message(r, p);
	}
	size = steps[r->state].size;
	if (r->in.len < size)
		return 0;
	*used = size;
	return steps[r->state].take(r, p);
}

int rfb_receive(struct rfb *r, const void *data, size_t len)
{
	const uint8_t *p = data;
	int ret = 0;

	while (r->state != DROPPED && (len || r->in.len)) {
		size_t n = MIN((size_t)r->skip, len), used = 0;

		r->skip -= (uint32_t)n;
		p += n;
		len -= n;
		n = r->skip ? 0 : MIN(len, (size_t)RFB_IN_MAX - r->in.len);
		strbuf_add(&r->in, p, n);
		p += n;
		len -= n;
		if (r->in.len && !r->skip)
			ret = take(r, &used);
		if (ret < 0) {
			r->state = DROPPED;
			return ret;
		}
		if (!used && !len)
			break;
		strbuf_consume(&r->in, used);
		/* Of what came after a clipboard's head, the clipboard is the first. */
		n = MIN((size_t)r->skip, r->in.len);
		strbuf_consume(&r->in, n);
		r->skip -= (uint32_t)n;
	}
	return r->state == DROPPED ? -EPROTO : 0;
}

/* --- updates --- */

bool rfb_wants_update(const struct rfb *r)
{
	return r->state == WANT_MESSAGE && r->wants && r->out.len < RFB_OUT_MAX;
}

static bool is_news(const struct rfb *r, unsigned int tx, unsigned int ty)
{
	const struct screen *s = r->cfg.screen;

	return s->tiles[ty * s->tiles_x + tx] > r->seen;
}

static void put_head(struct rfb *r, unsigned int x, unsigned int y, unsigned int width,
		     unsigned int height, enum encoding encoding)
{
	rfb_put16(&r->out, x);
	rfb_put16(&r->out, y);
	rfb_put16(&r->out, width);
	rfb_put16(&r->out, height);
	rfb_put32(&r->out, (uint32_t)encoding);
}

static void put_rect(struct rfb *r, const struct rfb_rect *rect)
{
	put_head(r, rect->x, rect->y, rect->width, rect->height, r->encoding);
	if (r->encoding == ENC_ZRLE)
		rfb_encode_zrle(r->cfg.screen, &r->format, rect, &r->z, &r->out);
	else if (r->encoding == ENC_HEXTILE)
		rfb_encode_hextile(r->cfg.screen, &r->format, rect, &r->out);
	else
		rfb_encode_raw(r->cfg.screen, &r->format, rect, &r->out);
}

/* Rows of tiles, each in runs of news; returns how many rectangles were put. */
static unsigned int put_news(struct rfb *r)
{
	const struct screen *s = r->cfg.screen;
	unsigned int width = MIN(r->width, s->width), height = MIN(r->height, s->height), n = 0;

	for (unsigned int y = 0; y < height; y += SCREEN_TILE) {
		for (unsigned int x = 0; x < width;) {
			struct rfb_rect rect = {x, y, 0, MIN(SCREEN_TILE, height - y)};

			while (x < width && is_news(r, x / SCREEN_TILE, y / SCREEN_TILE))
				x += SCREEN_TILE;
			if (x == rect.x) {
				x += SCREEN_TILE;
				continue;
			}
			rect.width = MIN(x, width) - rect.x;
			put_rect(r, &rect);
			n++;
		}
	}
	return n;
}

static bool any_news(const struct rfb *r)
{
	const struct screen *s = r->cfg.screen;

	for (unsigned int i = 0; i < s->tiles_x * s->tiles_y; i++)
		if (s->tiles[i] > r->seen)
			return true;
	return false;
}

/* Everything at once, when all of it is news: one rectangle compresses best. */
static bool all_news(const struct rfb *r)
{
	return r->seen == 0 && r->width == r->cfg.screen->width &&
	       r->height == r->cfg.screen->height;
}

bool rfb_needs_cursor(const struct rfb *r)
{
	return r->state == WANT_MESSAGE && !r->cursors;
}

/* The shape that the viewer should have: none while the picture has it. */
static uint32_t cursor_wanted(const struct rfb *r)
{
	const struct screen *s = r->cfg.screen;

	return r->cursors && s->cursor.shown && !s->draw_cursor ? s->cursor.number : 0;
}

/* Pixels, then a bit for each that is to be seen (RFC 6143, 7.8.1). */
static void put_cursor(struct rfb *r, uint32_t number)
{
	const struct screen_cursor *c = &r->cfg.screen->cursor;
	unsigned int side = number ? SCREEN_CURSOR : 0, len;
	uint8_t pixel[4];

	put_head(r, number ? c->hot_x : 0, number ? c->hot_y : 0, side, side, ENC_CURSOR);
	for (unsigned int i = 0; i < side * side; i++) {
		len = rfb_pixel(&r->format, c->pixels[i] & 0xffffff, pixel);
		strbuf_add(&r->out, pixel, len);
	}
	for (unsigned int i = 0; i < side * side; i += 8) {
		uint8_t mask = 0;

		for (unsigned int bit = 0; bit < 8; bit++)
			mask |= (uint8_t)((c->pixels[i + bit] >> 31) << (7 - bit));
		strbuf_putc(&r->out, (char)mask);
	}
	r->cursor = number;
}

static void put_extended_size(struct rfb *r)
{
	put_head(r, r->reason, r->status, r->width, r->height, ENC_EXTENDED_SIZE);
	rfb_put32(&r->out, 1u << 24); /* one screen, number 1, all of the desktop */
	rfb_put32(&r->out, 1);
	rfb_put32(&r->out, 0);
	rfb_put16(&r->out, r->width);
	rfb_put16(&r->out, r->height);
	rfb_put32(&r->out, 0);
	r->answer_size = false;
	r->reason = r->status = 0;
}

bool rfb_update(struct rfb *r)
{
	const struct screen *s = r->cfg.screen;
	bool resize =
	    (r->resizes || r->extended) && (r->width != s->width || r->height != s->height);
	size_t head = r->out.len;
	unsigned int n = 0;

	if (!rfb_wants_update(r) || !s->width ||
	    (!resize && !any_news(r) && !r->answer_size && cursor_wanted(r) == r->cursor))
		return false;
	rfb_put32(&r->out, 0); /* FramebufferUpdate; the count is filled in at the end */
	if (resize) {
		r->width = s->width;
		r->height = s->height;
		r->seen = 0;
		if (!r->extended) {
			put_head(r, 0, 0, r->width, r->height, ENC_DESKTOP_SIZE);
			n++;
		}
	}
	if (r->extended && (resize || r->answer_size)) {
		put_extended_size(r);
		n++;
	}
	if (cursor_wanted(r) != r->cursor) {
		put_cursor(r, cursor_wanted(r));
		n++;
	}
	if (all_news(r)) {
		put_rect(r, &(struct rfb_rect){0, 0, r->width, r->height});
		n++;
	} else {
		n += put_news(r);
	}
	r->out.data[head + 2] = (char)(n >> 8);
	r->out.data[head + 3] = (char)n;
	r->seen = s->refresh;
	r->wants = false;
	return true;
}
