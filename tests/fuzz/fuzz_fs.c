/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/fuzz_fs.c - FUSE requests against a small directory
 *
 * The input is a list of requests: opcode, object, length of the arguments, arguments.  Bit 7 of
 * the opcode puts the arguments in as they are; without it a handle in front of them is made one
 * that exists.  Bit 0 of the first byte of the input makes the share read-only.  Whatever is said,
 * the file beside the share stays as it is.
 */
#include "fuzz.h"
#include "share.h"

#include "virtio/fs_priv.h"

#include <assert.h>
#include <fcntl.h>

static void send_request(struct fs_session *s, const uint8_t *msg, size_t len)
{
	static uint8_t in[70000];
	struct iovec out_iov[2] = {{(void *)(uintptr_t)msg, 5},
				   {(void *)(uintptr_t)(msg + 5), len - 5}};
	struct iovec in_iov[2] = {{in, 9}, {in + 9, sizeof(in) - 9}};
	int64_t n = fs_handle(s, out_iov, 2, in_iov, 2);

	assert(n == 0 || (n >= 16 && n <= (int64_t)sizeof(in) && load_le32(in) == n));
}

static void request(struct fs_session *s, uint32_t opcode, uint64_t node, const void *arg,
		    size_t arg_len)
{
	uint8_t msg[sizeof(struct fuse_in_header) + 300];
	struct fuse_in_header h = {.opcode = opcode,
				   .nodeid = node,
				   .uid = geteuid(),
				   .gid = getegid(),
				   .len = (uint32_t)(sizeof(h) + arg_len)};

	memcpy(msg, &h, sizeof(h));
	memcpy(msg + sizeof(h), arg, arg_len);
	send_request(s, msg, h.len);
}

/* Nodes 2 to 5 are what the tree holds; handles 0 and 1 a file and a directory. */
static void prelude(struct fs_session *s)
{
	struct fuse_init_in init = {.major = 7, .minor = 36};
	struct fuse_open_in open_in = {.flags = s->tree.read_only ? O_RDONLY : O_RDWR};

	request(s, FUSE_INIT, 0, &init, sizeof(init));
	request(s, FUSE_LOOKUP, 1, "a", 2);
	request(s, FUSE_LOOKUP, 1, "b", 2);
	request(s, FUSE_LOOKUP, 2, "c", 2);
	request(s, FUSE_LOOKUP, 1, "l", 2);
	request(s, FUSE_OPEN, 3, &open_in, sizeof(open_in));
	request(s, FUSE_OPENDIR, 2, &open_in, sizeof(open_in));
}

static struct fs_session *open_session(bool read_only)
{
	struct fs_session *s = NULL;
	int root, proc;

	share_open(&root, &proc);
	if (fs_new(root, proc, read_only, &s) < 0)
		abort();
	return s;
}

/* Noise hardly ever ends in a name: put a few small letters there. */
static void add_names(uint8_t *arg, size_t n, uint8_t seed)
{
	static const char names[] = "abcl";

	if (n < 4)
		return;
	arg[n - 4] = (uint8_t)names[seed % 4];
	arg[n - 3] = 0;
	arg[n - 2] = (uint8_t)names[seed / 4 % 4];
	arg[n - 1] = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fs_session *s;

	if (!len)
		return 0;
	share_begin();
	s = open_session(*data & 1);
	prelude(s);
	data++;
	len--;
	while (len >= 3) {
		size_t n = MIN((size_t)data[2] % 128, len - 3);
		uint8_t arg[128];

		memcpy(arg, data + 3, n);
		if (!(data[0] & 0x80)) {
			if (n >= 8)
				store_le64(arg, arg[0] % 6);
			add_names(arg, n, data[1]);
		}
		request(s, data[0] & 0x3f, data[1] % 8, arg, n);
		data += 3 + n;
		len -= 3 + n;
	}
	fs_free(s);
	share_check_outside();
	return 0;
}
