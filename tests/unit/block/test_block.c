/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/block/test_block.c - block nodes against a model in memory, their locks and their
 * limits
 */
#include "base/clock.h"
#include "base/exit.h"
#include "block/aio.h"
#include "block/block.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define DISK_SIZE (4u << 20)
#define SECTORS   (DISK_SIZE / 512)

static char dir[] = "/var/tmp/insula-test-XXXXXX";
static uint64_t seed = 42;

static uint64_t rnd(void)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return seed * UINT64_C(0x2545f4914f6cdd1d);
}

static const char *path_of(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void make_file(const char *name, const void *data, size_t len)
{
	int fd = open(path_of(name), O_CREAT | O_TRUNC | O_RDWR, 0600);

	CHECK(fd >= 0);
	CHECK_EQ(pwrite(fd, data, len, 0), len);
	close(fd);
}

static void check_file(const char *name, const void *data, size_t len)
{
	uint8_t *got = malloc(len);
	int fd = open(path_of(name), O_RDONLY);

	CHECK(fd >= 0);
	CHECK_EQ(pread(fd, got, len, 0), len);
	CHECK(memcmp(got, data, len) == 0);
	close(fd);
	free(got);
}

/* --- one request --- */

struct io {
	struct blk_req req;
	struct iovec iov[4];
	atomic_bool over;
	int result;
	uint8_t *buf;
};

static void io_done(struct blk_req *r, int result)
{
	struct io *io = container_of(r, struct io, req);

	CHECK(!io->over);
	io->result = result;
	io->over = true;
}

static void io_start(struct blk *b, struct io *io, enum blk_op op, uint64_t off, uint64_t len)
{
	io->req = (struct blk_req){.op = op, .offset = off, .len = len, .done = io_done};
	io->over = false;
	if (op == BLK_READ || op == BLK_WRITE) {
		io->iov[0] = (struct iovec){io->buf, len};
		io->req.iov = io->iov;
		io->req.n_iov = 1;
	}
	blk_submit(b, &io->req);
}

static int io_wait(struct loop *l, struct io *io)
{
	while (!io->over)
		loop_once(l, 1000);
	return io->result;
}

static int io_run(struct blk *b, struct io *io, enum blk_op op, uint64_t off, uint64_t len)
{
	io_start(b, io, op, off, len);
	CHECK(!io->over); /* never from inside submit */
	return io_wait(b->loop, io);
}

/* --- against the model --- */

#define DEPTH 8

static enum blk_op random_op(void)
{
	static const enum blk_op ops[] = {BLK_READ,  BLK_READ,    BLK_READ,         BLK_WRITE,
					  BLK_WRITE, BLK_DISCARD, BLK_WRITE_ZEROES, BLK_FLUSH};

	return ops[rnd() % ARRAY_SIZE(ops)];
}

/* Splits the buffer in up to four parts; odd ones make the request unaligned for O_DIRECT. */
static void split(struct io *io, uint64_t len)
{
	uint64_t at = 0;
	unsigned int n = 0;

	for (; at < len && n < 4; n++) {
		uint64_t part = n == 3 ? len - at : rnd() % (len - at) + 1;

		if (rnd() % 2 && n < 3)
			part = MIN(ALIGN_UP(part, UINT64_C(512)), len - at);
		io->iov[n] = (struct iovec){io->buf + at, part};
		at += part;
	}
	io->req.n_iov = n;
}

static void start_random(struct blk *b, struct io *io, unsigned int lane, uint8_t *model)
{
	/* Lanes are apart, so that requests in flight at once never overlap. */
	uint64_t lane_sectors = SECTORS / DEPTH;
	uint64_t first = rnd() % lane_sectors;
	uint64_t n = rnd() % MIN(lane_sectors - first, UINT64_C(200)) + 1;
	uint64_t off = (lane * lane_sectors + first) * 512, len = n * 512;
	enum blk_op op = random_op();

	io->req = (struct blk_req){.op = op, .offset = off, .len = len, .done = io_done};
	io->over = false;
	io->req.iov = io->iov;
	if (op == BLK_READ || op == BLK_WRITE)
		split(io, len);
	if (op == BLK_WRITE) {
		for (uint64_t i = 0; i < len; i++)
			io->buf[i] = (uint8_t)(rnd() >> 56);
		memcpy(model + off, io->buf, len);
		io->req.flags = rnd() % 8 == 0 ? BLK_FUA : 0;
	} else if (op == BLK_WRITE_ZEROES || op == BLK_DISCARD) {
		memset(model + off, 0, len);
		io->req.flags = op == BLK_WRITE_ZEROES && rnd() % 2 ? BLK_UNMAP : 0;
	} else if (op == BLK_READ) {
		memset(io->buf, 0x5a, len);
	}
	blk_submit(b, &io->req);
}

static void against_model(struct blk *b, uint8_t *model, unsigned int rounds)
{
	static struct io ios[DEPTH];

	for (unsigned int i = 0; i < DEPTH; i++)
		ios[i].buf = aligned_alloc(4096, 1 << 20);
	for (unsigned int round = 0; round < rounds; round++) {
		for (unsigned int i = 0; i < DEPTH; i++)
			start_random(b, &ios[i], i, model);
		for (unsigned int i = 0; i < DEPTH; i++) {
			struct blk_req *r = &ios[i].req;

			CHECK_EQ(io_wait(b->loop, &ios[i]), 0);
			if (r->op == BLK_READ)
				CHECK(memcmp(ios[i].buf, model + r->offset, r->len) == 0);
		}
	}
	for (unsigned int i = 0; i < DEPTH; i++)
		free(ios[i].buf);
}

static void raw_model(struct loop *l)
{
	uint8_t *model = malloc(DISK_SIZE);
	struct blk_spec spec = {.format = "raw"};
	struct err e = {0};
	struct blk *b;

	for (unsigned int i = 0; i < DISK_SIZE; i++)
		model[i] = (uint8_t)(rnd() >> 56);
	make_file("raw", model, DISK_SIZE);
	spec.path = path_of("raw");
	CHECK_EQ(blk_open(&spec, l, &b, &e), 0);
	CHECK_EQ(blk_info(b)->size, DISK_SIZE);
	against_model(b, model, 150);
	blk_close(b);
	check_file("raw", model, DISK_SIZE);
	free(model);
}

static void cow_model(struct loop *l)
{
	uint8_t *base = malloc(DISK_SIZE), *model = malloc(DISK_SIZE);
	struct blk_spec spec = {.overlay = true, .overlay_dir = dir};
	struct err e = {0};
	struct blk *b;

	for (unsigned int i = 0; i < DISK_SIZE; i++)
		base[i] = (uint8_t)(rnd() >> 56);
	memcpy(model, base, DISK_SIZE);
	make_file("base", base, DISK_SIZE);
	spec.path = path_of("base");
	CHECK_EQ(blk_open(&spec, l, &b, &e), 0);
	CHECK(!blk_info(b)->read_only);
	against_model(b, model, 150);
	blk_close(b);
	check_file("base", base, DISK_SIZE);
	free(base);
	free(model);
}

/* Every second sector in the top: more runs than are in flight at once. */
static void cow_comb(struct loop *l)
{
	uint8_t *model = calloc(1, DISK_SIZE);
	struct blk_spec spec = {.overlay = true, .overlay_dir = dir};
	struct io io = {.buf = aligned_alloc(4096, DISK_SIZE)};
	struct err e = {0};
	struct blk *b;

	memset(model, 0x11, DISK_SIZE);
	make_file("base", model, DISK_SIZE);
	spec.path = path_of("base");
	CHECK_EQ(blk_open(&spec, l, &b, &e), 0);
	memset(io.buf, 0xee, 512);
	for (unsigned int s = 1; s < 1000; s += 2) {
		CHECK_EQ(io_run(b, &io, BLK_WRITE, s * 512, 512), 0);
		memset(model + s * 512, 0xee, 512);
	}
	CHECK_EQ(io_run(b, &io, BLK_READ, 0, DISK_SIZE), 0);
	CHECK(memcmp(io.buf, model, DISK_SIZE) == 0);
	blk_close(b);
	free(io.buf);
	free(model);
}

/* --- limits --- */

static void ranges(struct loop *l)
{
	static uint8_t data[4096];
	struct io io = {.buf = aligned_alloc(4096, 8192)};
	struct blk_spec spec = {0};
	struct err e = {0};
	struct blk *b;

	make_file("small", data, sizeof(data));
	spec.path = path_of("small");
	CHECK_EQ(blk_open(&spec, l, &b, &e), 0);
	CHECK_EQ(io_run(b, &io, BLK_READ, 3584, 512), 0);
	CHECK_EQ(io_run(b, &io, BLK_READ, 0, 0), 0);
	CHECK_EQ(io_run(b, &io, BLK_READ, 4096, 0), 0);
	CHECK_EQ(io_run(b, &io, BLK_READ, 3584, 1024), -EINVAL);
	CHECK_EQ(io_run(b, &io, BLK_READ, 4096, 512), -EINVAL);
	CHECK_EQ(io_run(b, &io, BLK_READ, 1, 512), -EINVAL);
	CHECK_EQ(io_run(b, &io, BLK_READ, 0, 511), -EINVAL);
	CHECK_EQ(io_run(b, &io, BLK_WRITE, UINT64_MAX - 511, 1024), -EINVAL);
	CHECK_EQ(io_run(b, &io, BLK_DISCARD, 0, 4608), -EINVAL);
	/* Somebody cuts the file: an error, not zeroes that were never there. */
	CHECK_EQ(truncate(path_of("small"), 2048), 0);
	CHECK_EQ(io_run(b, &io, BLK_READ, 0, 4096), -EIO);
	blk_close(b);

	make_file("small", data, sizeof(data));
	spec.read_only = true;
	CHECK_EQ(blk_open(&spec, l, &b, &e), 0);
	CHECK(blk_info(b)->read_only && !blk_info(b)->discard);
	CHECK_EQ(io_run(b, &io, BLK_READ, 0, 4096), 0);
	CHECK_EQ(io_run(b, &io, BLK_WRITE, 0, 4096), -EROFS);
	CHECK_EQ(io_run(b, &io, BLK_DISCARD, 0, 4096), -EROFS);
	CHECK_EQ(io_run(b, &io, BLK_WRITE_ZEROES, 0, 4096), -EROFS);
	CHECK_EQ(io_run(b, &io, BLK_FLUSH, 0, 0), 0);
	blk_close(b);
	free(io.buf);
}

static void refused(struct loop *l, const char *path, const char *format, const char *words)
{
	struct blk_spec spec = {.path = path, .format = format};
	struct blk *b = NULL;
	struct err e = {0};

	CHECK(blk_open(&spec, l, &b, &e) < 0);
	CHECK(b == NULL);
	CHECK_EQ(e.exit_code, EXIT_BAD_DISK);
	if (!strstr(e.msg, words))
		fprintf(stderr, "message: %s\n", e.msg);
	CHECK(strstr(e.msg, words));
	spec.overlay = true;
	CHECK(blk_open(&spec, l, &b, &e) < 0);
}

static void bad_disks(struct loop *l)
{
	static uint8_t data[1000];

	refused(l, path_of("none"), "raw", "No such file");
	refused(l, dir, "raw", "directory");
	refused(l, "/dev/null", "raw", "neither a file");
	make_file("odd", data, 1000);
	refused(l, path_of("odd"), "raw", "multiple of 512");
	make_file("odd", data, 0);
	refused(l, path_of("odd"), "raw", "empty");
	make_file("odd", data, 512);
	refused(l, path_of("odd"), "vmdk", "not supported");
	refused(l, path_of("odd"), "qcow2", "no qcow2 image");
	/* A guest may have written that: it chooses nothing. */
	memcpy(data, "QFI\xfb", 4);
	make_file("odd", data, 512);
	memset(data, 0, 4);
	refused(l, path_of("odd"), NULL, "give its format");
	make_file("odd.qcow2", data, 512);
	refused(l, path_of("odd.qcow2"), NULL, "no qcow2 image");
	CHECK_EQ(mkfifo(path_of("fifo"), 0600), 0);
	refused(l, path_of("fifo"), "raw", "neither a file");
}

static int try_open(struct loop *l, const char *name, bool read_only, bool overlay, struct blk **b)
{
	struct blk_spec spec = {.path = path_of(name), .read_only = read_only, .overlay = overlay};
	struct err e = {0};
	int r = blk_open(&spec, l, b, &e);

	if (r < 0)
		CHECK_EQ(e.exit_code, EXIT_DISK_IN_USE);
	return r;
}

static void locks(struct loop *l)
{
	static uint8_t data[4096];
	struct blk *a, *b, *c;

	make_file("lock", data, sizeof(data));
	CHECK_EQ(try_open(l, "lock", false, false, &a), 0);
	CHECK_EQ(try_open(l, "lock", false, false, &b), -EBUSY);
	CHECK_EQ(try_open(l, "lock", true, false, &b), -EBUSY);
	CHECK_EQ(try_open(l, "lock", false, true, &b), -EBUSY);
	blk_close(a);
	CHECK_EQ(try_open(l, "lock", true, false, &a), 0);
	CHECK_EQ(try_open(l, "lock", false, true, &b), 0);
	CHECK_EQ(try_open(l, "lock", false, false, &c), -EBUSY);
	blk_close(a);
	blk_close(b);
	CHECK_EQ(try_open(l, "lock", false, false, &c), 0);
	blk_close(c);
}

/* --- flush and kill --- */

/* The child says after which write its flush was done, and is killed while it goes on. */
static void flush_child(int out)
{
	struct io io = {.buf = aligned_alloc(4096, 65536)};
	struct blk_spec spec = {.path = path_of("killed")};
	struct err e = {0};
	struct loop *l;
	struct blk *b;

	CHECK_EQ(loop_new(&l, &e), 0);
	CHECK_EQ(blk_open(&spec, l, &b, &e), 0);
	for (unsigned int i = 0;; i = (i + 1) % (DISK_SIZE / 65536)) {
		memset(io.buf, (int)(i + 1), 65536);
		CHECK_EQ(io_run(b, &io, BLK_WRITE, i * 65536, 65536), 0);
		CHECK_EQ(io_run(b, &io, BLK_FLUSH, 0, 0), 0);
		if (write(out, &i, sizeof(i)) != sizeof(i))
			_exit(1);
	}
}

static void kill_after_flush(void)
{
	uint8_t *zero = calloc(1, DISK_SIZE), buf[65536];
	unsigned int safe = 0, i;
	int fds[2], fd;
	pid_t pid;

	make_file("killed", zero, DISK_SIZE);
	CHECK_EQ(pipe(fds), 0);
	pid = fork();
	if (pid == 0)
		flush_child(fds[1]);
	close(fds[1]);
	while (safe < 20 && read(fds[0], &safe, sizeof(safe)) == sizeof(safe))
		;
	CHECK_EQ(safe, 20);
	kill(pid, SIGKILL);
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
	while (read(fds[0], &i, sizeof(i)) == sizeof(i))
		safe = i;
	fd = open(path_of("killed"), O_RDONLY);
	for (i = 0; i <= safe; i++) {
		CHECK_EQ(pread(fd, buf, sizeof(buf), i * 65536), sizeof(buf));
		CHECK(buf[0] == i + 1 && memcmp(buf, buf + 1, sizeof(buf) - 1) == 0);
	}
	close(fd);
	close(fds[0]);
	free(zero);
}

/* --- drain --- */

/* Nobody runs the loop: the drainer completes the requests itself. */
static void *drain_thread(void *opaque)
{
	blk_drain(opaque);
	return NULL;
}

static void drain(struct loop *l, bool overlay)
{
	static struct io ios[300];
	struct blk_spec spec = {.path = path_of("raw"), .overlay = overlay, .overlay_dir = dir};
	struct err e = {0};
	struct blk *b;
	pthread_t t;

	CHECK_EQ(blk_open(&spec, l, &b, &e), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(ios); i++) {
		ios[i].buf = aligned_alloc(4096, 4096);
		memset(ios[i].buf, (int)i, 4096);
		io_start(b, &ios[i],
			 i % 3   ? BLK_WRITE
			 : i % 2 ? BLK_READ
				 : BLK_FLUSH,
			 i * 4096, 4096);
	}
	CHECK_EQ(pthread_create(&t, NULL, drain_thread, b), 0);
	pthread_join(t, NULL);
	CHECK_EQ(b->in_flight, 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(ios); i++) {
		CHECK(ios[i].over);
		CHECK_EQ(ios[i].result, 0);
		free(ios[i].buf);
	}
	blk_close(b);
}

/* --- what a ring may be used for --- */

/* A ring's operations pass by seccomp: this one must know its own few, and stay as it is. */
static void ring_is_restricted(struct loop *l)
{
	struct aio *a;
	int fd, mark = dup(0);

	if (aio_uring_new(l, &a, NULL) < 0)
		return;
	/* The lowest descriptor free then was the ring's. */
	fd = mark + 1;
	errno = 0;
	CHECK(syscall(SYS_io_uring_register, fd, IORING_REGISTER_EVENTFD, &mark, 1) < 0);
	CHECK_EQ(errno, EACCES);
	aio_free(a);
	close(mark);
}

/* --- without io_uring --- */

static void forbid_io_uring(void)
{
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);

	CHECK(f);
	CHECK_EQ(seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(io_uring_setup), 0), 0);
	CHECK_EQ(seccomp_load(f), 0);
	seccomp_release(f);
}

static void everything(void)
{
	struct err e = {0};
	struct loop *l;

	CHECK_EQ(loop_new(&l, &e), 0);
	raw_model(l);
	cow_model(l);
	cow_comb(l);
	ranges(l);
	locks(l);
	drain(l, false);
	drain(l, true);
	kill_after_flush();
	loop_free(l);
}

/* Requests above the limit wait, in their order, and a drain lets them go; the clock may say that
 * they took longer, never that they were faster. */
static void limits(struct loop *l)
{
	struct blk_limits slow = {.ops = 100, .ops_burst = 1}, none = {0};
	struct blk_limits narrow = {.bytes = 4 << 20, .bytes_burst = 4096};
	struct blk_spec spec = {.path = path_of("limits"), .format = "raw"};
	static uint8_t zeroes[65536], buf[65536];
	struct io io[12] = {{.result = 0}}, flush = {.result = 0};
	struct err e = {0};
	struct blk *b;
	uint64_t start;

	make_file("limits", zeroes, sizeof(zeroes));
	CHECK_EQ(blk_open(&spec, l, &b, &e), 0);
	blk_limit(b, &slow);
	start = clock_now();
	for (unsigned int i = 0; i < 12; i++) {
		io[i].buf = buf;
		io_start(b, &io[i], BLK_READ, 0, 512);
	}
	for (unsigned int i = 0; i < 12; i++) {
		CHECK_EQ(io_wait(l, &io[i]), 0);
		CHECK(i == 11 || !io[11].over);
	}
	CHECK(clock_now() - start >= 100 * NSEC_PER_MSEC);
	blk_limit(b, &narrow);
	start = clock_now();
	for (unsigned int i = 0; i < 8; i++)
		CHECK_EQ(io_run(b, &io[0], BLK_WRITE, 0, 65536), 0);
	CHECK(clock_now() - start >= 100 * NSEC_PER_MSEC);
	/* One a second: what waits goes at a drain, or when the limit goes. */
	slow.ops = 1;
	blk_limit(b, &slow);
	for (unsigned int i = 0; i < 12; i++)
		io_start(b, &io[i], BLK_READ, 0, 512);
	CHECK_EQ(io_run(b, &flush, BLK_FLUSH, 0, 0), 0); /* a flush passes them */
	CHECK(!io[11].over);
	blk_drain(b);
	for (unsigned int i = 0; i < 12; i++)
		CHECK(io[i].over);
	for (unsigned int i = 0; i < 3; i++)
		io_start(b, &io[i], BLK_READ, 0, 512);
	blk_limit(b, &none);
	for (unsigned int i = 0; i < 3; i++)
		CHECK_EQ(io_wait(l, &io[i]), 0);
	blk_close(b);
}

int main(void)
{
	struct err e = {0};
	struct loop *l;
	char cmd[128];
	int status;
	pid_t pid;

	CHECK(mkdtemp(dir));
	CHECK_EQ(loop_new(&l, &e), 0);
	bad_disks(l);
	ring_is_restricted(l);
	limits(l);
	loop_free(l);
	everything();
	pid = fork();
	if (pid == 0) {
		forbid_io_uring();
		everything();
		exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
	CHECK_EQ(system(cmd), 0);
	CHECK_EQ(status, 0);
	return 0;
}
