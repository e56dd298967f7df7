/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/agent_proto.h - frames between insula on the host and insula-agent in the guest
 *
 *	u8 type | u32 length, little-endian | payload of at most AGENT_MAX_PAYLOAD bytes
 *
 * One connection carries one command (EXEC first) or one request (SIGNAL, SHUTDOWN, PING).  Signals
 * travel on a connection of their own, so that they never wait behind standard input.
 * docs/agent.md describes the payloads.
 */
#pragma once

#include "base/strbuf.h"

#define AGENT_PORT         1024 /* vsock */
#define AGENT_SERIAL_NAME  "org.insula.agent.0"
#define AGENT_MAX_PAYLOAD  65536
#define AGENT_HEADER_BYTES 5

enum agent_frame {
	/* host to guest */
	AGENT_EXEC = 1,  /* json {argv, env, workdir, user, tty, rows, cols} */
	AGENT_STDIN = 2, /* bytes */
	AGENT_STDIN_EOF = 3,
	AGENT_WINSIZE = 4,  /* u16 rows, u16 columns */
	AGENT_SIGNAL = 5,   /* u8 signal, or u8 signal and u32 pid on a connection of its own */
	AGENT_SHUTDOWN = 6, /* json {mode: "poweroff"|"reboot"} */
	AGENT_PING = 7,
	/* guest to host */
	AGENT_STARTED = 16, /* json {pid} */
	AGENT_STDOUT = 17,
	AGENT_STDERR = 18,
	AGENT_EXIT = 19,    /* json {code} or {signal} */
	AGENT_ERROR = 20,   /* json {errno, message} */
	AGENT_PONG = 21,    /* json {version, hostname, uptime, time} */
	AGENT_GOODBYE = 22, /* json {mode}: the guest is going down on purpose */
};

/* Appends a whole frame; @len <= AGENT_MAX_PAYLOAD. */
void agent_frame_put(struct strbuf *out, enum agent_frame type, const void *payload, size_t len);

/* Looks for a whole frame at the front of @in.  Returns 1 and its parts (@payload points into @in;
 * consume *@used bytes once done with it), 0 when bytes are missing, -EPROTO on a bad length. */
must_check int agent_frame_get(const struct strbuf *in, enum agent_frame *type,
			       const uint8_t **payload, size_t *len, size_t *used);
