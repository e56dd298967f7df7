/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/block/test_qcow2_qemu.c - our images in QEMU's hands and QEMU's in ours
 *
 *	test_qcow2_qemu [OPERATIONS]
 *
 * Random operations on an image in a file, with qemu-io taking turns; at each change of hands
 * `qemu-img check` must find nothing, not even a leak, and `qemu-img compare` no difference from a
 * model.  Then every kind of image that qemu-img makes is read and written by us, and the other
 *way.
 */
#include "qcow2_test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_SIZE (12u << 20)
#define N_SAVED  3

static char dir[64];
static struct loop *l;

static int printf_like(1, 2) run(const char *fmt, ...)
{
	char cmd[1024];
	va_list ap;
	int status, n = snprintf(cmd, sizeof(cmd), "cd %s && { ", dir);

	va_start(ap, fmt);
	n += vsnprintf(cmd + n, sizeof(cmd) - (size_t)n, fmt, ap);
	va_end(ap);
	snprintf(cmd + n, sizeof(cmd) - (size_t)n, "; } >out 2>&1");
	status = system(cmd);
	if (status != 0) {
		fprintf(stderr, "%s: status %d\n", cmd, status);
		snprintf(cmd, sizeof(cmd), "cat %s/out >&2", dir);
		(void)!system(cmd);
	}
	return status;
}

static const char *path_of(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static struct blk *open_disk(const char *name, const char *format, bool read_only)
{
	struct blk_spec spec = {.path = path_of(name), .format = format, .read_only = read_only};
	struct blk *b = NULL;
	struct err e = {0};
	int r = blk_open(&spec, l, &b, &e);

	if (r < 0)
		fprintf(stderr, "%s\n", e.msg);
	CHECK_EQ(r, 0);
	return b;
}

static void store(const char *name, const void *data, size_t len)
{
	int fd = open(path_of(name), O_CREAT | O_TRUNC | O_RDWR, 0600);

	CHECK(fd >= 0);
	CHECK_EQ(write(fd, data, len), len);
	close(fd);
}

/* --- random operations --- */

struct model {
	uint8_t *data;
	uint64_t size, cluster;
	struct {
		uint8_t *data;
		uint64_t size;
		bool have;
	} saved[N_SAVED];
	uint8_t *buf;
	bool backing;
};

static void qemu_turn(struct model *m)
{
	store("model", m->data, m->size);
	CHECK_EQ(run("qemu-img check -q -f qcow2 a.qcow2"), 0);
	CHECK_EQ(run("qemu-img compare -q -f qcow2 -F raw a.qcow2 model"), 0);
	for (unsigned int i = 0; i < 3; i++) {
		uint64_t off = test_random() % m->size & ~UINT64_C(511);
		uint64_t len = MIN((test_random() % 200000 & ~UINT64_C(511)) + 512, m->size - off);
		int byte = (int)(test_random() % 255 + 1), zero = test_random() % 4 == 0;

		memset(m->data + off, zero ? 0 : byte, len);
		if (zero)
			CHECK_EQ(run("qemu-io -f qcow2 -c 'write -z %s %llu %llu' a.qcow2",
				     test_random() % 2 ? "-u" : "", (unsigned long long)off,
				     (unsigned long long)len),
				 0);
		else
			CHECK_EQ(run("qemu-io -f qcow2 -c 'write -P %d %llu %llu' a.qcow2", byte,
				     (unsigned long long)off, (unsigned long long)len),
				 0);
	}
	CHECK_EQ(run("qemu-img check -q -f qcow2 a.qcow2"), 0);
}

static void write_op(struct model *m, struct blk *b)
{
	uint64_t off = test_random() % (m->size / 512) * 512;
	uint64_t room =
	    MIN(m->size - off, test_random() % 16 ? UINT64_C(70000) : UINT64_C(2000000));
	uint64_t len = (test_random() % (room / 512 + 1)) * 512, from, to;
	unsigned int kind = (unsigned int)(test_random() % 8);

	switch (kind) {
	case 0:
		CHECK_EQ(test_io(b, BLK_DISCARD, 0, off, NULL, len), 0);
		from = ALIGN_UP(off, m->cluster);
		to = off + len == m->size ? m->size : ALIGN_DOWN(off + len, m->cluster);
		if (from < to && len)
			memset(m->data + from, 0, to - from);
		break;
	case 1:
		CHECK_EQ(
		    test_io(b, BLK_WRITE_ZEROES, test_random() % 2 ? BLK_UNMAP : 0, off, NULL, len),
		    0);
		memset(m->data + off, 0, len);
		break;
	case 2:
		CHECK_EQ(test_io(b, BLK_READ, 0, off, m->buf, len), 0);
		CHECK(memcmp(m->buf, m->data + off, len) == 0);
		break;
	default:
		for (uint64_t i = 0; i < len; i += 8)
			store_le64(m->data + off + i, test_random());
		memcpy(m->buf, m->data + off, len);
		CHECK_EQ(test_io(b, BLK_WRITE, 0, off, m->buf, len), 0);
	}
}

static void snapshot_op(struct model *m, struct blk *b)
{
	unsigned int i = (unsigned int)(test_random() % N_SAVED);
	char name[] = {(char)('a' + i), '\0'};
	struct err e = {0};
	int r;

	if (!m->saved[i].have) {
		r = qcow2_snapshot_create(b, name, &e);
		memcpy(m->saved[i].data, m->data, m->size);
		m->saved[i].size = m->size;
		m->saved[i].have = true;
	} else if (test_random() % 2) {
		r = qcow2_snapshot_apply(b, name, &e);
		memcpy(m->data, m->saved[i].data, m->saved[i].size);
		m->size = m->saved[i].size;
	} else {
		r = qcow2_snapshot_delete(b, name, &e);
		m->saved[i].have = false;
	}
	if (r < 0)
		fprintf(stderr, "%s\n", e.msg);
	CHECK_EQ(r, 0);
	CHECK_EQ(blk_info(b)->size, m->size);
	test_check(b, false);
}

static void resize_op(struct model *m, struct blk *b)
{
	uint64_t size = MIN(m->size + test_random() % 1000 * 512, (uint64_t)MAX_SIZE);
	struct err e = {0};
	bool snapshots = false;

	for (unsigned int i = 0; i < N_SAVED; i++)
		snapshots = snapshots || m->saved[i].have;
	if (test_random() % 2 && !snapshots && m->size > 2u << 20) {
		size = m->size - test_random() % 1000 * 512;
		/* There may be no data behind the new end. */
		if (size < m->size && qcow2_resize(b, size, true, &e) < 0) {
			CHECK_EQ(e.code, -ENOTEMPTY);
			CHECK_EQ(test_io(b, BLK_DISCARD, 0, size, NULL, m->size - size), 0);
			CHECK_EQ(test_io(b, BLK_WRITE_ZEROES, 0, size, NULL, m->size - size), 0);
			e = (struct err){0};
		}
	}
	if (qcow2_resize(b, size, true, &e) < 0)
		fprintf(stderr, "%s\n", e.msg);
	CHECK_EQ(blk_info(b)->size, size);
	if (size > m->size)
		memset(m->data + m->size, 0, size - m->size);
	m->size = size;
}

static void operations(unsigned int n, const char *options, uint64_t cluster, bool backing)
{
	struct model m = {.size = 4u << 20, .cluster = cluster, .backing = backing};
	struct blk *b;

	m.data = calloc(1, MAX_SIZE);
	m.buf = aligned_alloc(4096, MAX_SIZE);
	for (unsigned int i = 0; i < N_SAVED; i++)
		m.saved[i].data = malloc(MAX_SIZE);
	if (backing) {
		for (uint64_t i = 0; i < 3u << 20; i += 8)
			store_le64(m.data + i, test_random());
		store("base", m.data, 3u << 20);
	}
	CHECK_EQ(run("qemu-img create -q -f qcow2 -o %s %s a.qcow2 4M", options,
		     backing ? "-b base -F raw" : ""),
		 0);
	b = open_disk("a.qcow2", NULL, false);
	for (unsigned int i = 0; i < n; i++) {
		unsigned int kind = (unsigned int)(test_random() % 400);

		if (kind < 30)
			CHECK_EQ(test_io(b, BLK_FLUSH, 0, 0, NULL, 0), 0);
		else if (kind < 40)
			snapshot_op(&m, b);
		else if (kind < 45)
			resize_op(&m, b);
		else if (kind < 48 || i == n - 1) {
			blk_close(b);
			qemu_turn(&m);
			b = open_disk("a.qcow2", NULL, false);
		} else
			write_op(&m, b);
	}
	blk_close(b);
	qemu_turn(&m);
	for (unsigned int i = 0; i < N_SAVED; i++) {
		if (!m.saved[i].have)
			continue;
		store("model", m.saved[i].data, m.saved[i].size);
		/* As long as the disk is now, whatever the snapshot's was. */
		CHECK_EQ(run("rm -f b; qemu-img convert -q -l %c -O raw a.qcow2 b && "
			     "cmp -n %llu b model",
			     'a' + (int)i, (unsigned long long)MIN(m.size, m.saved[i].size)),
			 0);
	}
	printf("%s%s: %u operations\n", options, backing ? ", backing file" : "", n);
	for (unsigned int i = 0; i < N_SAVED; i++)
		free(m.saved[i].data);
	free(m.data);
	free(m.buf);
}

/* --- every kind --- */

#define KIND_SIZE (2u << 20)

static void pattern(uint8_t *data)
{
	for (uint64_t i = 0; i < KIND_SIZE; i++)
		data[i] = (i >> 16) % 3 == 0 ? 0 : (uint8_t)(i >> 9) ^ (uint8_t)(i * i >> 20);
}

/* QEMU made it and wrote to it; we read, write; QEMU looks at it again. */
static void kind(const char *options, bool packed)
{
	uint8_t *data = malloc(KIND_SIZE), *got = malloc(KIND_SIZE);
	struct blk *b;

	pattern(data);
	store("model", data, KIND_SIZE);
	CHECK_EQ(run("rm -f k.qcow2; qemu-img convert -q -f raw -O qcow2 %s -o %s model k.qcow2",
		     packed ? "-c" : "", options),
		 0);
	b = open_disk("k.qcow2", NULL, false);
	CHECK_EQ(test_io(b, BLK_READ, 0, 0, got, KIND_SIZE), 0);
	CHECK(memcmp(got, data, KIND_SIZE) == 0);
	test_check(b, false);
	for (unsigned int i = 0; i < 40; i++) {
		uint64_t off = test_random() % (KIND_SIZE / 512 - 64) * 512;

		memset(data + off, (int)i, 64 * 512);
		CHECK_EQ(test_io(b, BLK_WRITE, 0, off, data + off, 64 * 512), 0);
	}
	CHECK_EQ(test_io(b, BLK_DISCARD, 0, 0, NULL, 1u << 20), 0);
	blk_close(b);
	CHECK_EQ(run("qemu-img check -q -f qcow2 k.qcow2"), 0);
	b = open_disk("k.qcow2", NULL, true);
	CHECK_EQ(test_io(b, BLK_READ, 0, 0, got, KIND_SIZE), 0);
	blk_close(b);
	CHECK(memcmp(got + (2u << 20) / 2, data + (2u << 20) / 2, KIND_SIZE / 2) == 0);
	store("model", got, KIND_SIZE);
	CHECK_EQ(run("qemu-img compare -q -f qcow2 -F raw k.qcow2 model"), 0);
	free(data);
	free(got);
}

/* We make it, with compressed clusters; QEMU reads it. */
static void ours(struct qcow2_options o)
{
	uint64_t cs = BIT(o.cluster_bits);
	uint8_t *data = malloc(KIND_SIZE);
	struct blk *file, *b;
	struct err e = {0};
	int fd = open(path_of("o.qcow2"), O_CREAT | O_TRUNC | O_RDWR, 0600);

	o.size = KIND_SIZE;
	pattern(data);
	CHECK_EQ(raw_file_new(fd, "o", false, false, l, &file, &e), 0);
	CHECK_EQ(qcow2_create(file, &o, &e), 0);
	blk_close(file);
	CHECK_EQ(run("qemu-img check -q -f qcow2 o.qcow2"), 0);
	b = open_disk("o.qcow2", NULL, false);
	for (uint64_t off = 0; off < KIND_SIZE; off += cs) {
		uint64_t len = MIN(cs, KIND_SIZE - off);
		int r = off / cs % 3 ? qcow2_write_packed(b, off, data + off, len) : -E2BIG;

		if (r == -E2BIG)
			r = test_io(b, BLK_WRITE, 0, off, data + off, len);
		CHECK_EQ(r, 0);
	}
	test_check(b, false);
	blk_close(b);
	store("model", data, KIND_SIZE);
	CHECK_EQ(run("qemu-img check -q -f qcow2 o.qcow2"), 0);
	CHECK_EQ(run("qemu-img compare -q -f qcow2 -F raw o.qcow2 model"), 0);
	free(data);
}

static void kinds(void)
{
	char text[128];

	for (unsigned int bits = 9; bits <= 21; bits++) {
		for (unsigned int version = 2; version <= 3; version++) {
			struct qcow2_options o = {
			    .version = version, .cluster_bits = bits, .refcount_order = 4};

			snprintf(text, sizeof(text), "cluster_size=%u,compat=%s", 1u << bits,
				 version == 2 ? "0.10" : "1.1");
			kind(text, bits % 2);
			ours(o);
		}
	}
	for (int order = 0; order <= 6; order++) {
		struct qcow2_options o = {
		    .version = 3, .cluster_bits = 12, .refcount_order = order};

		snprintf(text, sizeof(text), "cluster_size=4096,refcount_bits=%d", 1 << order);
		kind(text, false);
		if (order > 2) /* else too narrow for clusters that many share */
			kind(text, true);
		ours(o);
		o.compression = QCOW2_ZSTD;
		ours(o);
	}
	kind("compression_type=zstd", true);
	kind("compression_type=zstd,cluster_size=2M", true);
	kind("lazy_refcounts=on", false);
}

/* --- marks in the header --- */

static void refused(const char *words)
{
	struct blk_spec spec = {.path = path_of("x.qcow2")};
	struct blk *b = NULL;
	struct err e = {0};

	CHECK(blk_open(&spec, l, &b, &e) < 0);
	if (!strstr(e.msg, words))
		fprintf(stderr, "%s\n", e.msg);
	CHECK(strstr(e.msg, words));
}

static void marks(void)
{
	struct qcow2_bitmap map;
	struct err e = {0};
	uint8_t buf[512] = {0};
	struct blk *b;

	/* A QEMU that died with lazy refcounts: counted anew when opened. */
	CHECK_EQ(run("rm -f x.qcow2; qemu-img create -q -f qcow2 -o lazy_refcounts=on x.qcow2 8M"),
		 0);
	(void)run("qemu-io -f qcow2 -c 'write -P 7 0 1M' -c flush -c abort x.qcow2 || true");
	b = open_disk("x.qcow2", NULL, false);
	CHECK_EQ(test_io(b, BLK_READ, 0, 4096, buf, 512), 0);
	CHECK_EQ(buf[0], 7);
	blk_close(b);
	CHECK_EQ(run("qemu-img check -q -f qcow2 x.qcow2"), 0);
	CHECK_EQ(run("! qemu-img info x.qcow2 | grep -q 'dirty'"), 0);

	/* A bitmap: read, whole after a write of ours, and not to be trusted then. */
	CHECK_EQ(run("rm -f x.qcow2; qemu-img create -q -f qcow2 x.qcow2 8M && "
		     "qemu-img bitmap -f qcow2 --add -g 64k x.qcow2 map && "
		     "qemu-io -f qcow2 -c 'write 1M 128k' x.qcow2"),
		 0);
	b = open_disk("x.qcow2", NULL, true);
	CHECK_EQ(qcow2_bitmap_get(b, 0, &map, &e), 0);
	CHECK_STR(map.name, "map");
	CHECK(!map.in_use && map.automatic);
	CHECK_EQ(map.dirty, 128 << 10);
	CHECK_EQ(map.granularity, 64 << 10);
	free(map.name);
	blk_close(b);
	b = open_disk("x.qcow2", NULL, false);
	CHECK_EQ(test_io(b, BLK_WRITE, 0, 0, buf, 512), 0);
	test_check(b, false);
	blk_close(b);
	CHECK_EQ(run("qemu-img check -q -f qcow2 x.qcow2"), 0);
	CHECK_EQ(run("qemu-img info x.qcow2 | grep -q 'in-use'"), 0);

	CHECK_EQ(run("rm -f x.qcow2; qemu-img create -q -f qcow2 -o extended_l2=on x.qcow2 8M"), 0);
	refused("subclusters");
	CHECK_EQ(run("rm -f x.qcow2; qemu-img create -q -f qcow2 -o data_file=d x.qcow2 8M"), 0);
	refused("data file");
	CHECK_EQ(run("rm -f x.qcow2; qemu-img create -q -f qcow2 x.qcow2 8M && "
		     "printf '\\2' | dd of=x.qcow2 bs=1 seek=35 conv=notrunc status=none"),
		 0);
	refused("encrypted");

	/* Chains: of four, with itself in it, of a missing file. */
	CHECK_EQ(run("rm -f x.qcow2 c?.qcow2; qemu-img create -q -f qcow2 c1.qcow2 8M && "
		     "qemu-io -f qcow2 -c 'write -P 1 0 64k' c1.qcow2 && "
		     "qemu-img create -q -f qcow2 -b c1.qcow2 -F qcow2 c2.qcow2 && "
		     "qemu-img create -q -f qcow2 -b c2.qcow2 -F qcow2 c3.qcow2 16M && "
		     "qemu-io -f qcow2 -c 'write -P 3 64k 64k' c3.qcow2 && "
		     "qemu-img create -q -f qcow2 -b c3.qcow2 -F qcow2 x.qcow2"),
		 0);
	b = open_disk("x.qcow2", NULL, false);
	CHECK_EQ(test_io(b, BLK_READ, 0, 0, buf, 512), 0);
	CHECK_EQ(buf[0], 1);
	CHECK_EQ(test_io(b, BLK_READ, 0, 65536, buf, 512), 0);
	CHECK_EQ(buf[0], 3);
	CHECK_EQ(test_io(b, BLK_WRITE, 0, 1024, buf, 512), 0);
	blk_close(b);
	CHECK_EQ(run("qemu-io -f qcow2 -c 'read -P 1 0 1024' -c 'read -P 3 1024 512' "
		     "-c 'read -P 1 1536 60k' x.qcow2"),
		 0);
	CHECK_EQ(run("qemu-img rebase -u -f qcow2 -b x.qcow2 -F qcow2 c1.qcow2"), 0);
	refused("its own backing file");
	CHECK_EQ(run("qemu-img rebase -u -f qcow2 -b none.qcow2 -F qcow2 c1.qcow2"), 0);
	refused("none.qcow2");
}

int main(int argc, char **argv)
{
	unsigned int n = argc > 1 ? (unsigned int)strtoul(argv[1], NULL, 10) : 2000;
	const char *tmp = getenv("TMPDIR");
	struct err e = {0};
	char cmd[128];

	if (system("qemu-img --version >/dev/null 2>&1 && qemu-io --version >/dev/null 2>&1") != 0)
		return TEST_SKIP;
	snprintf(dir, sizeof(dir), "%s/insula-qcow2-XXXXXX", tmp ? tmp : "/var/tmp");
	CHECK(mkdtemp(dir));
	CHECK_EQ(loop_new(&l, &e), 0);
	operations(n, "compat=1.1", 65536, false);
	operations(n, "compat=0.10,cluster_size=4096", 4096, false);
	operations(n, "cluster_size=512,refcount_bits=64", 512, false);
	operations(n, "cluster_size=4096,refcount_bits=8", 4096, true);
	operations(n, "cluster_size=2M,lazy_refcounts=on", 2u << 20, true);
	kinds();
	marks();
	loop_free(l);
	snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
	CHECK_EQ(system(cmd), 0);
	return 0;
}
