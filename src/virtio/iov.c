/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/iov.c - copying in and out of scattered buffers, and slices of them
 */
#include "virtio/virtio.h"

/* Buffers are guest memory: a driver may write them meanwhile, so plain copies, each byte once. */
static size_t iov_copy(const struct iovec *iov, unsigned int n, size_t off, char *buf, size_t len,
		       bool to_buf)
{
	size_t done = 0;

	for (unsigned int i = 0; i < n && done < len; i++) {
		size_t part;
		char *base;

		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		part = MIN(iov[i].iov_len - off, len - done);
		base = (char *)iov[i].iov_base + off;
		if (to_buf)
			memcpy(buf + done, base, part);
		else
			memcpy(base, buf + done, part);
		done += part;
		off = 0;
	}
	return done;
}

size_t iov_to_buf(const struct iovec *iov, unsigned int n, size_t off, void *buf, size_t len)
{
	return iov_copy(iov, n, off, buf, len, true);
}

size_t iov_from_buf(const struct iovec *iov, unsigned int n, size_t off, const void *buf,
		    size_t len)
{
	return iov_copy(iov, n, off, (char *)(uintptr_t)buf, len, false);
}

unsigned int iov_slice(struct iovec *dst, unsigned int max, const struct iovec *src, unsigned int n,
		       size_t off, size_t len)
{
	unsigned int k = 0;

	for (unsigned int i = 0; i < n && len && k < max; i++) {
		size_t part;

		if (off >= src[i].iov_len) {
			off -= src[i].iov_len;
			continue;
		}
		part = MIN(src[i].iov_len - off, len);
		dst[k++] = (struct iovec){(char *)src[i].iov_base + off, part};
		len -= part;
		off = 0;
	}
	return k;
}

size_t iov_len(const struct iovec *iov, unsigned int n)
{
	size_t len = 0;

	for (unsigned int i = 0; i < n; i++)
		len += iov[i].iov_len;
	return len;
}
