/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/rng.c - entropy device (virtio 1.2, 5.4)
 *
 * One queue: the driver posts writable buffers, we fill their beginning from the host's generator,
 * which never runs dry.  At most FILL_MAX bytes a buffer, whatever its size: the time spent for a
 * guest stays bounded, and the driver asks again for more.
 */
#include "virtio/rng.h"

#include "base/log.h"

#include <sys/random.h>

#define QUEUE_SIZE 64
#define FILL_MAX   4096

static void rng_kick(struct virtio_dev *d, struct vq *q)
{
	uint8_t bytes[FILL_MAX];
	struct vq_chain c;

	while (vq_pop(q, &c)) {
		size_t want = MIN(c.in_len, sizeof(bytes));
		ssize_t n;

		if (!want) {
			virtio_broken(d, "entropy request without room for an answer");
			break;
		}
		n = getrandom(bytes, want, 0);
		/* Only a signal can cut it short, and then some bytes are there; zero is legal too.
		 */
		if (n < 0)
			n = 0;
		iov_from_buf(c.in, c.n_in, 0, bytes, (size_t)n);
		vq_push(q, &c, (uint32_t)n);
	}
	explicit_bzero(bytes, sizeof(bytes));
	vq_notify(q);
}

static void rng_free(struct virtio_dev *d)
{
	virtio_fini(d);
	free(d);
}

static const struct virtio_ops rng_ops = {
    .name = "virtio-rng",
    .id = 4,
    .kick = rng_kick,
    .free = rng_free,
};

struct virtio_dev *virtio_rng_new(struct gmem *mem)
{
	struct virtio_dev *d = xnew(struct virtio_dev);

	virtio_init(d, &rng_ops, mem, 1, QUEUE_SIZE, 0, 0);
	return d;
}
