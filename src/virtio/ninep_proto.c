/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/ninep_proto.c - 9P messages: little-endian integers and counted strings
 */
#include "virtio/ninep_priv.h"

static const uint8_t *take(struct msg_in *m, size_t n)
{
	static const uint8_t none[8];
	const uint8_t *p = m->p;

	if ((size_t)(m->end - m->p) < n) {
		m->bad = true;
		m->p = m->end;
		return none;
	}
	m->p += n;
	return p;
}

uint8_t get8(struct msg_in *m)
{
	return *take(m, 1);
}

uint16_t get16(struct msg_in *m)
{
	return load_le16(take(m, 2));
}

uint32_t get32(struct msg_in *m)
{
	return load_le32(take(m, 4));
}

uint64_t get64(struct msg_in *m)
{
	return load_le64(take(m, 8));
}

void get_str(struct msg_in *m, char *dst, size_t max)
{
	size_t len = get16(m);

	dst[0] = '\0';
	if (len > (size_t)(m->end - m->p)) {
		m->bad = true;
		m->p = m->end;
		return;
	}
	if (len > max || memchr(m->p, 0, len)) {
		m->bad = true;
	} else {
		memcpy(dst, m->p, len);
		dst[len] = '\0';
	}
	m->p += len;
}

static void put(struct msg_out *m, const void *p, size_t n)
{
	if (m->cap - m->len < n) {
		m->full = true;
		return;
	}
	memcpy(m->buf + m->len, p, n);
	m->len += n;
}

void put8(struct msg_out *m, uint8_t v)
{
	put(m, &v, 1);
}

void put16(struct msg_out *m, uint16_t v)
{
	put(m, &v, 2);
}

void put32(struct msg_out *m, uint32_t v)
{
	put(m, &v, 4);
}

void put64(struct msg_out *m, uint64_t v)
{
	put(m, &v, 8);
}

void put_str(struct msg_out *m, const char *s, size_t len)
{
	put16(m, (uint16_t)len);
	put(m, s, len);
}

void put_qid(struct msg_out *m, const struct p9_qid *q)
{
	put8(m, q->type);
	put32(m, q->version);
	put64(m, q->path);
}
