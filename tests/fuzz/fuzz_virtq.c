/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/fuzz_virtq.c - virtqueues and the devices behind them, with ring memory from the input
 *
 *	byte 0       device: echo, entropy, balloon, disk, net, console, SCSI; bit 7: at the end a
 *saved state with one bit changed byte 1       log2 of the queue size (mod 8) bytes 2-9    features
 *	byte 10      how many kicks (mod 8), spread over the queues
 *	byte 11      bytes of guest data that follow the heads, in units of 8
 *	12-13        available index
 *	14-29        the ring's first heads, a byte each
 *	then         the guest data, at DATA; and descriptors, 8 bytes each:
 *	             u24 address, u8 its upper bits, u16 length, u8 flags, u8 next
 *
 * Every queue gets the same rings.  An indirect table may lie in the guest data.
 *
 * Nothing may crash, hang or be written outside guest memory; a broken device must work after
 *reset.
 */
#include "fuzz.h"

#include "block/block.h"
#include "virtio/balloon.h"
#include "virtio/blk.h"
#include "virtio/console.h"
#include "virtio/net.h"
#include "virtio/rng.h"
#include "virtio/scsi.h"

#include <assert.h>
#include <fcntl.h>

#define RAM        (1u << 20)
#define RING       0x1000u
#define RING_BYTES 0x1000u /* a queue: 2 KiB of descriptors, 1 KiB each of avail and used */
#define RINGS      8
#define DATA       0x10000u
#define HEAD_LEN   30

static struct gmem *mem;
static struct loop *loop;
enum { ECHO, RNG, BALLOON, BLK, NET, CONSOLE, SCSI, DEVICES };

static struct virtio_dev *devices[DEVICES];
static struct virtio_dev echo;

static void echo_kick(struct virtio_dev *d, struct vq *q)
{
	struct vq_chain c;

	while (vq_pop(q, &c)) {
		uint8_t buf[256];
		size_t n = iov_to_buf(c.out, c.n_out, 0, buf, sizeof(buf));

		assert(c.n_out + c.n_in <= VQ_CHAIN_MAX);
		n = iov_from_buf(c.in, c.n_in, 0, buf, n);
		vq_push(q, &c, (uint32_t)n);
	}
	vq_notify(q);
}

static const struct virtio_ops echo_ops = {.name = "echo", .id = 63, .kick = echo_kick};

static void notify(void *opaque, struct vq *q)
{
}

static struct blk *open_disk(void)
{
	char path[] = "/var/tmp/insula-fuzz-XXXXXX";
	int fd = mkstemp(path);
	struct blk_spec spec = {.path = path, .overlay = true};
	struct blk *b = NULL;

	if (fd < 0 || ftruncate(fd, 1 << 20) < 0 || blk_open(&spec, loop, &b, NULL) < 0)
		abort();
	unlink(path);
	close(fd);
	return b;
}

/* --- what net and console are connected to ------------------------------------------------------
 */

static struct net net;
static struct chardev chrs[2];

static void net_take(struct net *n, const void *frame, size_t len)
{
	const uint8_t *p = frame;

	assert(len <= NET_FRAME_MAX);
	/* Every byte is there. */
	for (size_t i = 0; i < len; i += 64)
		(void)*(const volatile uint8_t *)(p + i);
}

static void net_room(struct net *n)
{
}

static const struct net_ops net_ops = {.name = "fuzz", .send = net_take, .rx_ready = net_room};

/* Half of what comes: the rest waits for room. */
static size_t chr_take(void *backend, const void *buf, size_t len)
{
	return len - len / 2;
}

static const struct chardev_ops chr_ops = {.write = chr_take};

/* The host's side of the device does something. */
static void host_step(struct virtio_dev *d, const uint8_t *data, size_t len)
{
	if (d == devices[BALLOON]) {
		struct balloon_stats stats;

		balloon_stats(d, &stats);
	}
	if (d == devices[NET])
		(void)net.rx(net.rx_opaque, data, MIN(len, (size_t)1514));
	if (d == devices[CONSOLE]) {
		for (unsigned int i = 0; i < 2; i++) {
			(void)chardev_receive(&chrs[i], data, len);
			chardev_writable(&chrs[i]);
		}
	}
}

static void setup(void)
{
	static const uint8_t mac[] = {2, 0, 0, 0, 0, 1};
	const struct virtio_console_port ports[] = {{.console = true, .chr = &chrs[0]},
						    {.name = "port", .chr = &chrs[1]}};

	if (mem)
		return;
	if (loop_new(&loop, NULL) < 0 || gmem_new(RAM, RAM, &mem, NULL) < 0)
		abort();
	virtio_init(&echo, &echo_ops, mem, 2, 128, 0, 0);
	devices[ECHO] = &echo;
	devices[RNG] = virtio_rng_new(mem);
	devices[BALLOON] = virtio_balloon_new(mem);
	if (virtio_blk_new(mem, open_disk(), "fuzz", &devices[BLK], NULL) < 0)
		abort();
	net = (struct net){.ops = &net_ops, .mtu = 9000, .big_tcp = true};
	devices[NET] = virtio_net_new(mem, loop, &net, mac);
	chrs[0] = chrs[1] = (struct chardev){.ops = &chr_ops};
	devices[CONSOLE] = virtio_console_new(mem, ports, 2);
	if (virtio_scsi_new(mem, open_disk(), "fuzz", &devices[SCSI], NULL) < 0)
		abort();
	for (unsigned int i = 0; i < DEVICES; i++)
		devices[i]->transport.notify = notify;
}

static void start(struct virtio_dev *d, uint64_t features, uint16_t size)
{
	virtio_set_status(d, 0);
	d->features = (features & d->features_offered) | VIRTIO_F_VERSION_1;
	virtio_set_status(d, 1 | 2 | VIRTIO_STATUS_FEATURES_OK);
	for (unsigned int i = 0; i < d->n_queues; i++) {
		struct vq *q = &d->q[i];

		q->size = MIN(size, q->size_max);
		q->desc = RING + i * RING_BYTES;
		q->avail = q->desc + 0x800;
		q->used = q->desc + 0xc00;
		virtio_enable_queue(d, i);
		assert(q->enabled);
	}
}

static void put_desc(uint64_t at, const uint8_t *p)
{
	struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags, next;
	} d = {
	    .addr = load_le32(p) & 0xffffff, .len = load_le16(p + 4), .flags = p[6], .next = p[7]};

	if (p[3])
		d.addr |= (uint64_t)p[3] << 56;
	memcpy(gmem_ptr(mem, at, sizeof(d)), &d, sizeof(d));
}

/* The input as memory; @data has at least HEAD_LEN bytes. */
static void fill_memory(const uint8_t *data, size_t len)
{
	size_t n = MIN((size_t)data[11] * 8, len - HEAD_LEN);
	const uint8_t *desc = data + HEAD_LEN + n;
	size_t n_desc = MIN((len - HEAD_LEN - n) / 8, (size_t)128);

	memset(gmem_ptr(mem, RING, RINGS * RING_BYTES), 0, RINGS * RING_BYTES);
	memcpy(gmem_ptr(mem, DATA, n), data + HEAD_LEN, n);
	for (unsigned int q = 0; q < RINGS; q++) {
		uint64_t at = RING + q * RING_BYTES;
		uint8_t *avail = gmem_ptr(mem, at + 0x800, 64);

		memcpy(avail + 2, data + 12, 2);
		for (unsigned int i = 0; i < 16; i++)
			avail[4 + 2 * i] = data[14 + i];
		for (size_t i = 0; i < n_desc; i++)
			put_desc(at + i * 16, desc + i * 8);
	}
}

/* A reset device serves one good, empty look at its queues. */
static void after_reset(struct virtio_dev *d)
{
	memset(gmem_ptr(mem, RING, RINGS * RING_BYTES), 0, RINGS * RING_BYTES);
	start(d, 0, 16);
	virtio_set_status(d, d->status | VIRTIO_STATUS_DRIVER_OK);
	assert(virtio_ready(d));
	virtio_kick(d, 0);
	assert(virtio_ready(d));
	virtio_set_status(d, 0);
}

/* Saved, changed in one place, and taken back or refused. */
static void restore(struct virtio_dev *d, const uint8_t *data)
{
	autostrbuf struct strbuf saved = {0};
	size_t used;

	virtio_save(d, &saved);
	saved.data[load_le16(data + 12) % saved.len] ^= (char)data[14];
	if (virtio_load(d, saved.data, saved.len, &used, NULL) == 0) {
		assert(used <= saved.len);
		for (unsigned int i = 0; i < d->n_queues; i++)
			virtio_kick(d, i);
		host_step(d, data, HEAD_LEN);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct virtio_dev *d;
	unsigned int kicks;

	setup();
	if (len < HEAD_LEN)
		return 0;
	d = devices[data[0] % DEVICES];
	kicks = data[10] % 8;
	virtio_lock(d);
	start(d, load_le64(data + 2), (uint16_t)(1u << data[1] % 8));
	fill_memory(data, len);
	virtio_set_status(d, d->status | VIRTIO_STATUS_DRIVER_OK);
	for (unsigned int i = 0; i < kicks; i++) {
		virtio_kick(d, i % d->n_queues);
		host_step(d, data + HEAD_LEN, len - HEAD_LEN);
		if (i % 2)
			loop_once(loop, 0);
	}
	if (data[0] & 0x80)
		restore(d, data);
	virtio_set_status(d, 0);
	after_reset(d);
	virtio_unlock(d);
	loop_once(loop, 0);
	return 0;
}
