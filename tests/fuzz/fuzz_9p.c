/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/fuzz_9p.c - 9P messages against a small directory
 *
 * The input is a list of messages: type, length of the body, body.  Bit 7 of the type puts the
 * message in as it is; without it the first number is made a likely fid.  Bit 0 of the first byte
 * of the input makes the share read-only.  Whatever is said, the file beside the share stays as it
 * is.
 */
#include "fuzz.h"
#include "share.h"

#include "virtio/ninep_priv.h"

#include <assert.h>

static void send_message(struct p9_session *s, const uint8_t *msg, size_t len)
{
	static uint8_t in[70000];
	struct iovec out_iov[2] = {{(void *)(uintptr_t)msg, 5},
				   {(void *)(uintptr_t)(msg + 5), len - 5}};
	struct iovec in_iov[2] = {{in, 9}, {in + 9, sizeof(in) - 9}};
	int64_t n = p9_handle(s, out_iov, 2, in_iov, 2);

	assert(n == -1 || (n >= 7 && n <= (int64_t)sizeof(in) && load_le32(in) == n));
}

static void prelude(struct p9_session *s)
{
	static const uint8_t version[] = {21, 0, 0,   0,   100, 0,   0,   0,   0,   1,  0,
					  8,  0, '9', 'P', '2', '0', '0', '0', '.', 'L'};
	static const uint8_t attach[] = {23,  0,   0,   0, 104, 0, 0, 0, 0, 0, 0, 255,
					 255, 255, 255, 0, 0,   0, 0, 0, 0, 0, 0};

	send_message(s, version, sizeof(version));
	send_message(s, attach, sizeof(attach));
}

static struct p9_session *open_session(bool read_only)
{
	struct p9_session *s = NULL;
	int root, proc;

	share_open(&root, &proc);
	if (p9_new(root, proc, read_only, &s) < 0)
		abort();
	return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct p9_session *s;
	uint8_t msg[7 + 255];

	if (!len)
		return 0;
	share_begin();
	s = open_session(*data & 1);
	prelude(s);
	data++;
	len--;
	while (len >= 2) {
		bool raw = data[0] & 0x80;
		size_t n = MIN((size_t)data[1], len - 2);

		store_le32(msg, (uint32_t)(7 + n));
		msg[4] = data[0] & 0x7f;
		msg[5] = msg[6] = 0;
		memcpy(msg + 7, data + 2, n);
		if (!raw) {
			msg[4] &= 0xfe; /* requests are even */
			if (n >= 4)
				store_le32(msg + 7, msg[7] % 4);
			if (n >= 8 && msg[4] == 110)
				store_le32(msg + 11, msg[11] % 4);
		}
		send_message(s, msg, 7 + n);
		data += 2 + n;
		len -= 2 + n;
	}
	p9_free(s);
	share_check_outside();
	return 0;
}
