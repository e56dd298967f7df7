/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/codec/test_agent_proto.c - frames whole, in pieces, empty, largest, and too large
 */
#include "codec/agent_proto.h"
#include "test.h"

#include <errno.h>

static void round_trip(size_t len)
{
	autofree uint8_t *data = calloc(1, len + 1);
	autostrbuf struct strbuf b = {0};
	const uint8_t *payload;
	enum agent_frame type;
	size_t got, used;

	memset(data, 0x5a, len);
	agent_frame_put(&b, AGENT_STDOUT, data, len);
	agent_frame_put(&b, AGENT_PING, NULL, 0);
	CHECK_EQ(agent_frame_get(&b, &type, &payload, &got, &used), 1);
	CHECK_EQ(type, AGENT_STDOUT);
	CHECK_EQ(got, len);
	CHECK(memcmp(payload, data, len) == 0);
	strbuf_consume(&b, used);
	CHECK_EQ(agent_frame_get(&b, &type, &payload, &got, &used), 1);
	CHECK_EQ(type, AGENT_PING);
	CHECK_EQ(got, 0);
	strbuf_consume(&b, used);
	CHECK_EQ(b.len, 0);
}

static void in_pieces(void)
{
	autostrbuf struct strbuf whole = {0}, part = {0};
	const uint8_t *payload;
	enum agent_frame type;
	size_t got, used;

	agent_frame_put(&whole, AGENT_EXEC, "{}", 2);
	for (size_t i = 0; i < whole.len; i++) {
		CHECK_EQ(agent_frame_get(&part, &type, &payload, &got, &used), 0);
		strbuf_putc(&part, whole.data[i]);
	}
	CHECK_EQ(agent_frame_get(&part, &type, &payload, &got, &used), 1);
	CHECK_EQ(used, whole.len);
}

static void too_large(void)
{
	uint8_t head[AGENT_HEADER_BYTES] = {AGENT_STDIN};
	autostrbuf struct strbuf b = {0};
	const uint8_t *payload;
	enum agent_frame type;
	size_t got, used;

	store_le32(head + 1, AGENT_MAX_PAYLOAD + 1);
	strbuf_add(&b, head, sizeof(head));
	CHECK(agent_frame_get(&b, &type, &payload, &got, &used) == -EPROTO);
}

int main(void)
{
	round_trip(0);
	round_trip(1);
	round_trip(AGENT_MAX_PAYLOAD);
	in_pieces();
	too_large();
	return 0;
}
