/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/agent_proto.c - frames between insula on the host and insula-agent in the guest
 */
#include "codec/agent_proto.h"

#include <assert.h>
#include <errno.h>

void agent_frame_put(struct strbuf *out, enum agent_frame type, const void *payload, size_t len)
{
	uint8_t head[AGENT_HEADER_BYTES];

	assert(len <= AGENT_MAX_PAYLOAD);
	head[0] = (uint8_t)type;
	store_le32(head + 1, (uint32_t)len);
	strbuf_add(out, head, sizeof(head));
	if (len)
		strbuf_add(out, payload, len);
}

int agent_frame_get(const struct strbuf *in, enum agent_frame *type, const uint8_t **payload,
		    size_t *len, size_t *used)
{
	const uint8_t *p = (const uint8_t *)in->data;
	uint32_t n;

	if (in->len < AGENT_HEADER_BYTES)
		return 0;
	n = load_le32(p + 1);
	if (n > AGENT_MAX_PAYLOAD)
		return -EPROTO;
	if (in->len - AGENT_HEADER_BYTES < n)
		return 0;
	*type = p[0];
	*payload = p + AGENT_HEADER_BYTES;
	*len = n;
	*used = AGENT_HEADER_BYTES + n;
	return 1;
}
