/* SPDX-License-Identifier: Apache-2.0 */
/*
 * display/rfb.h - one viewer's side of the RFB protocol (RFC 6143), bytes in and bytes out
 *
 * Versions 3.3, 3.7 and 3.8; security None and VNC (DES), inside TLS by VeNCrypt 0.2 (X509None,
 * X509Vnc: the rfbproto document, 7.2.3); encodings Raw, Hextile and ZRLE; pseudo-encoding
 * DesktopSize, ExtendedDesktopSize with the viewer's SetDesktopSize, and Cursor.  True colour in 8,
 * 16 and 32 bits.  The viewer's words are hostile: all of them are checked, and nothing is kept
 * beyond RFB_IN_MAX.
 */
#pragma once

#include "display/input.h"
#include "display/screen.h"

#define RFB_PASSWORD 8u         /* bytes of one, at most */
#define RFB_OUT_MAX  (4u << 20) /* no update is added to more than this */

struct rfb;

struct rfb_config {
	struct screen *screen;
	struct input *input;
	const char *password; /* NULL = none asked for */
	const char *name;     /* of the desktop */
	const char *origin;   /* of pages that may connect besides this server's own; NULL = none */
	bool tls;             /* nothing but versions is said outside TLS */
};

/* The texts must outlive it. */
struct rfb *rfb_new(const struct rfb_config *cfg);
void rfb_free(struct rfb *r);
/* What the viewer sent; -EPROTO: it is no viewer, or not one that may look: drop it when rfb_out is
 * sent. */
must_check int rfb_receive(struct rfb *r, const void *data, size_t len);
/* The viewer has asked for TLS: when rfb_out is taken, all that follows is inside it. */
bool rfb_wants_tls(const struct rfb *r);
/* TLS stands around all that is said from now on. */
void rfb_secured(struct rfb *r);
/* The caller takes bytes from its front. */
struct strbuf *rfb_out(struct rfb *r);
/* The viewer waits for what changes: after screen_refresh, rfb_update. */
bool rfb_wants_update(const struct rfb *r);
/* Adds an update to rfb_out if there is anything new; true if so. */
bool rfb_update(struct rfb *r);
/* The viewer looks, and draws no cursor itself. */
bool rfb_needs_cursor(const struct rfb *r);
