/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/virtio/test_scsi.c - a driver's view of the SCSI disk: who it is, reads and writes of
 * all sizes of command, trim, what is refused and with which sense, hostile requests, saved and
 * loaded
 */
#include "driver.h"
#include "test.h"
#include "virtio/scsi.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define RAM     (4u << 20)
#define REQUEST 0x100000u
#define ANSWER  0x110000u
#define DATA    0x120000u
#define BLOCKS  2048u

static struct loop *loop;
static struct gmem *mem;
static struct virtio_dev *scsi;
static struct drv drv;
static char path[] = "/tmp/insula-scsi-XXXXXX";
static uint8_t answer[108];

static void start(bool read_only)
{
	struct blk_spec spec = {.path = path, .format = "raw", .read_only = read_only};
	struct err e = {0};
	struct blk *b;

	CHECK_EQ(blk_open(&spec, loop, &b, &e), 0);
	CHECK_EQ(virtio_scsi_new(mem, b, "SERIAL", &scsi, &e), 0);
	drv_init(&drv, mem, scsi, 0, 16);
	drv_start(&drv, 0, 16);
}

/* Sends @cdb to @lun with @len bytes at DATA; returns the status, and response << 8. */
static unsigned int command(const uint8_t *cdb, unsigned int cdb_len, uint32_t len, bool out,
			    unsigned int lun)
{
	uint8_t head[51] = {1, 0, (uint8_t)(0x40 | lun >> 8), (uint8_t)lun};
	struct drv_buf b[3];
	unsigned int n_out = 1, n = 0;
	uint16_t id;
	uint32_t used;

	memcpy(head + 19, cdb, cdb_len);
	CHECK_EQ(gmem_write(mem, REQUEST, head, sizeof(head)), 0);
	b[n++] = (struct drv_buf){REQUEST, sizeof(head)};
	if (out && len) {
		b[n++] = (struct drv_buf){DATA, len};
		n_out++;
	}
	b[n++] = (struct drv_buf){ANSWER, sizeof(answer)};
	if (!out && len)
		b[n++] = (struct drv_buf){DATA, len};
	CHECK(drv_post(&drv, 2, b, n_out, n - n_out, 0) >= 0);
	drv_kick(&drv, 2);
	while (!drv_used(&drv, 2, &id, &used))
		loop_once(loop, 100);
	CHECK_EQ(gmem_read(mem, ANSWER, answer, sizeof(answer)), 0);
	return answer[10] | (unsigned int)answer[11] << 8;
}

#define CDB(len, out, ...)                                                                         \
	({                                                                                         \
		const uint8_t cdb_[] = {__VA_ARGS__};                                              \
		command(cdb_, sizeof(cdb_), len, out, 0);                                          \
	})

static uint32_t sense(void)
{
	return (uint32_t)answer[14] << 16 | (uint32_t)answer[24] << 8 | answer[25];
}

static void test_identity(void)
{
	uint8_t d[64];

	CHECK_EQ(CDB(36, false, 0x12, 0, 0, 0, 36, 0), 0);
	CHECK_EQ(gmem_read(mem, DATA, d, 36), 0);
	CHECK(d[0] == 0 && memcmp(d + 8, "INSULA  Disk", 12) == 0);
	CHECK_EQ(load_le32(answer + 4), 0); /* residual */
	CHECK_EQ(CDB(64, false, 0x12, 1, 0x80, 0, 64, 0), 0);
	CHECK_EQ(gmem_read(mem, DATA, d, 24), 0);
	CHECK(d[1] == 0x80 && memcmp(d + 4, "SERIAL", 6) == 0);
	CHECK_EQ(load_le32(answer + 4), 64 - 24);
	CHECK_EQ(CDB(8, false, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0);
	CHECK_EQ(gmem_read(mem, DATA, d, 8), 0);
	CHECK(d[2] == 7 && d[3] == 0xff && d[6] == 2);
	CHECK_EQ(CDB(32, false, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0), 0);
	CHECK_EQ(gmem_read(mem, DATA, d, 16), 0);
	CHECK(d[6] == 7 && d[7] == 0xff && d[10] == 2);
	CHECK_EQ(CDB(64, false, 0x1a, 0, 8, 0, 64, 0), 0);
	CHECK_EQ(gmem_read(mem, DATA, d, 24), 0);
	CHECK(d[0] == 23 && d[4] == 8 && (d[6] & 4));
	/* Another LUN is not there, and says so. */
	CHECK_EQ(command((const uint8_t[]){0x12, 0, 0, 0, 36, 0}, 6, 36, false, 1), 0);
	CHECK_EQ(gmem_read(mem, DATA, d, 1), 0);
	CHECK_EQ(d[0], 0x7f);
	CHECK_EQ(command((const uint8_t[]){0, 0, 0, 0, 0, 0}, 6, 0, false, 1), 2);
	CHECK_EQ(sense(), 0x052500);
}

static void fill(uint8_t value, uint32_t len)
{
	uint8_t bytes[4096];

	memset(bytes, value, sizeof(bytes));
	CHECK_EQ(gmem_write(mem, DATA, bytes, len), 0);
}

static uint8_t disk_byte(uint64_t block)
{
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint8_t b = 0;

	CHECK_EQ(pread(fd, &b, 1, (off_t)block * 512), 1);
	return b;
}

static void test_io(void)
{
	uint8_t d;

	fill(1, 1024);
	CHECK_EQ(CDB(1024, true, 0x2a, 8, 0, 0, 0, 5, 0, 0, 2, 0), 0); /* FUA */
	CHECK(disk_byte(5) == 1 && disk_byte(6) == 1 && disk_byte(7) == 0);
	fill(2, 512);
	CHECK_EQ(CDB(512, true, 0x0a, 0, 0, 9, 1, 0), 0);
	fill(3, 512);
	CHECK_EQ(CDB(512, true, 0xaa, 0, 0, 0, 0, 10, 0, 0, 0, 1, 0, 0), 0);
	fill(4, 512);
	CHECK_EQ(CDB(512, true, 0x8a, 0, 0, 0, 0, 0, 0, 0, 7, 0xff, 0, 0, 0, 1, 0, 0), 0);
	CHECK_EQ(CDB(0, true, 0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0);
	CHECK(disk_byte(9) == 2 && disk_byte(10) == 3 && disk_byte(BLOCKS - 1) == 4);
	fill(0, 1024);
	CHECK_EQ(CDB(1024, false, 0x28, 0, 0, 0, 0, 9, 0, 0, 2, 0), 0);
	CHECK_EQ(gmem_read(mem, DATA + 512, &d, 1), 0);
	CHECK_EQ(d, 3);
	/* Past the end, by one; with the largest numbers; less room than data. */
	CHECK_EQ(CDB(1024, false, 0x28, 0, 0, 0, 7, 0xff, 0, 0, 2, 0), 2);
	CHECK_EQ(sense(), 0x052100);
	CHECK_EQ(CDB(512, false, 0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		     0xff, 0xff, 0xff, 0, 0),
		 2);
	CHECK_EQ(CDB(512, false, 0x28, 0, 0, 0, 0, 0, 0, 0, 2, 0), 0x100);
	CHECK_EQ(CDB(0, false, 0xff, 0), 2);
	CHECK_EQ(sense(), 0x052000);
}

/* One range; then two, which the limits exclude. */
static void test_unmap(void)
{
	uint8_t list[40] = {0, 38, 0, 16, [8 + 7] = 5, [8 + 11] = 1};

	CHECK_EQ(gmem_write(mem, DATA, list, 24), 0);
	CHECK_EQ(CDB(24, true, 0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0), 0);
	CHECK(disk_byte(5) == 0 && disk_byte(6) == 1);
	list[3] = 32;
	CHECK_EQ(gmem_write(mem, DATA, list, 40), 0);
	CHECK_EQ(CDB(40, true, 0x42, 0, 0, 0, 0, 0, 0, 0, 40, 0), 2);
	CHECK_EQ(sense(), 0x052600);
}

static void test_saved(void)
{
	struct strbuf state = {0};
	struct err e = {0};
	uint32_t size = 18;
	size_t used;

	virtio_config_write(scsi, 20, &size, 4);
	virtio_save(scsi, &state);
	scsi->ops->free(scsi);
	start(true);
	CHECK_EQ(virtio_load(scsi, state.data, state.len, &used, &e), 0);
	virtio_config_read(scsi, 20, &size, 4);
	CHECK_EQ(size, 18);
	strbuf_fini(&state);
	/* Read-only, after a reset. */
	drv_start(&drv, 0, 16);
	fill(9, 512);
	CHECK_EQ(CDB(512, true, 0x2a, 0, 0, 0, 0, 5, 0, 0, 1, 0), 2);
	CHECK_EQ(sense(), 0x072700);
}

/* Too short to be a request: the device stands still until a reset. */
static void test_hostile(void)
{
	struct drv_buf b[2] = {{REQUEST, 20}, {ANSWER, 108}};

	CHECK(drv_post(&drv, 2, b, 1, 1, 0) >= 0);
	drv_kick(&drv, 2);
	CHECK(scsi->status & VIRTIO_STATUS_NEEDS_RESET);
	drv_start(&drv, 0, 16);
	CHECK_EQ(CDB(0, false, 0, 0, 0, 0, 0, 0), 0);
}

int main(void)
{
	int fd = mkstemp(path);

	CHECK(fd >= 0 && ftruncate(fd, BLOCKS * 512) == 0);
	close(fd);
	CHECK_EQ(loop_new(&loop, NULL), 0);
	CHECK_EQ(gmem_new(RAM, RAM, &mem, NULL), 0);
	start(false);
	test_identity();
	test_io();
	test_unmap();
	test_saved();
	test_hostile();
	scsi->ops->free(scsi);
	unlink(path);
	loop_free(loop);
	gmem_free(mem);
	return 0;
}
