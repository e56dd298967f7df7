/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/ata.c - a disk's commands (ATA8-ACS; queued ones: SATA 3.0, 13.6)
 */
#include "device/ahci_priv.h"

#include <errno.h>
#include <stdio.h>

enum {
	CMD_NOP = 0x00,
	CMD_TRIM = 0x06,
	CMD_RECALIBRATE = 0x10,
	CMD_READ_PIO = 0x20,
	CMD_READ_PIO_EXT = 0x24,
	CMD_READ_DMA_EXT = 0x25,
	CMD_READ_MAX_EXT = 0x27,
	CMD_READ_MULTIPLE_EXT = 0x29,
	CMD_READ_LOG_EXT = 0x2f,
	CMD_WRITE_PIO = 0x30,
	CMD_WRITE_PIO_EXT = 0x34,
	CMD_WRITE_DMA_EXT = 0x35,
	CMD_WRITE_MULTIPLE_EXT = 0x39,
	CMD_WRITE_DMA_FUA_EXT = 0x3d,
	CMD_VERIFY = 0x40,
	CMD_VERIFY_EXT = 0x42,
	CMD_READ_QUEUED = 0x60,
	CMD_WRITE_QUEUED = 0x61,
	CMD_INIT_PARAMS = 0x91,
	CMD_READ_MULTIPLE = 0xc4,
	CMD_WRITE_MULTIPLE = 0xc5,
	CMD_SET_MULTIPLE = 0xc6,
	CMD_READ_DMA = 0xc8,
	CMD_WRITE_DMA = 0xca,
	CMD_STANDBY_NOW = 0xe0,
	CMD_IDLE_NOW = 0xe1,
	CMD_STANDBY = 0xe2,
	CMD_IDLE = 0xe3,
	CMD_CHECK_POWER = 0xe5,
	CMD_SLEEP = 0xe6,
	CMD_FLUSH = 0xe7,
	CMD_FLUSH_EXT = 0xea,
	CMD_IDENTIFY = 0xec,
	CMD_SET_FEATURES = 0xef,
	CMD_READ_MAX = 0xf8,
};

#define LBA28_MAX   UINT64_C(0x0fffffff)
#define LOG_NCQ     0x10
#define TRIM_BLOCKS 64u /* of 512 bytes, 64 ranges each, in one command */

static uint64_t disk_sectors(const struct port *p)
{
	return blk_info(p->blk)->size / SECTOR;
}

static void fail(struct slot *s, uint8_t error)
{
	slot_end(s, ATA_FAIL, error);
}

static void ok(struct slot *s)
{
	slot_end(s, ATA_OK, 0);
}

/* --- identify --- */

static void put16(uint8_t *id, unsigned int word, uint16_t v)
{
	store_le16(id + 2 * word, v);
}

void ata_text(uint8_t *at, const char *text, unsigned int len)
{
	size_t n = strlen(text);

	for (unsigned int i = 0; i < len; i++)
		at[i ^ 1] = i < n ? (uint8_t)text[i] : ' ';
}

static void identify_disk(const struct port *p, uint8_t id[512])
{
	const struct blk_info *info = blk_info(p->blk);
	uint64_t n = disk_sectors(p), n28 = MIN(n, LBA28_MAX);
	uint64_t cylinders = MIN(MAX(n / (16 * 63), UINT64_C(1)), UINT64_C(16383));

	put16(id, 0, 0x0040);
	put16(id, 1, (uint16_t)cylinders);
	put16(id, 3, 16);
	put16(id, 6, 63);
	ata_text(id + 20, p->serial, 20);
	ata_text(id + 46, "1.0", 8);
	ata_text(id + 54, "Insula disk", 40);
	put16(id, 47, 0x8010);
	put16(id, 49, 0x0f00); /* LBA, DMA, IORDY */
	put16(id, 50, 0x4000);
	put16(id, 53, 7);
	put16(id, 59, (uint16_t)(p->multiple ? 0x100 | p->multiple : 0));
	store_le32(id + 120, (uint32_t)n28);
	put16(id, 63, 0x0407);
	put16(id, 64, 3); /* PIO 3 and 4 */
	for (unsigned int w = 65; w <= 68; w++)
		put16(id, w, 120);
	put16(id, 69, info->discard ? 0x0020 : 0); /* trimmed sectors: any content */
	put16(id, 75, AHCI_SLOTS - 1);
	put16(id, 76, 0x0106); /* queueing, 3 and 1.5 Gbit/s */
	put16(id, 80, 0x01f0); /* ATA-4 to ATA8-ACS */
	put16(id, 82, 0x4020); /* NOP, write cache */
	put16(id, 83, 0x7400); /* flush, 48 bits */
	put16(id, 84, 0x4040); /* FUA */
	put16(id, 85, 0x4020);
	put16(id, 86, 0x3400);
	put16(id, 87, 0x4040);
	put16(id, 88, 0x203f); /* Ultra DMA 5 */
	put16(id, 93, 0);
	store_le64(id + 200, n);
	put16(id, 105, info->discard ? TRIM_BLOCKS : 0);
	put16(id, 106, 0x6003); /* 4096 bytes a physical sector */
	put16(id, 169, info->discard ? 1 : 0);
	put16(id, 217, 1); /* it does not turn */
	put16(id, 222, 0x1020);
}

void ata_identify_packet(struct port *p, uint8_t id[512])
{
	put16(id, 0, 0x85c0); /* ATAPI, CD-ROM, removable, 12-byte packets, DRQ within 50 us */
	ata_text(id + 20, p->serial, 20);
	ata_text(id + 46, "1.0", 8);
	ata_text(id + 54, "Insula CD-ROM", 40);
	put16(id, 49, 0x0f00);
	put16(id, 53, 7);
	put16(id, 63, 0x0407);
	put16(id, 64, 3);
	for (unsigned int w = 65; w <= 68; w++)
		put16(id, w, 120);
	put16(id, 76, 0x0006);
	put16(id, 80, 0x00f0);
	put16(id, 82, 0x4210); /* NOP, device reset, packet */
	put16(id, 83, 0x4000);
	put16(id, 84, 0x4000);
	put16(id, 85, 0x4210);
	put16(id, 87, 0x4000);
	put16(id, 88, 0x203f);
}

static void identify(struct slot *s)
{
	uint8_t id[512] = {0};

	identify_disk(s->port, id);
	s->pio = true;
	if (slot_copy_out(s, id, sizeof(id)))
		ok(s);
	else
		fail(s, ATA_ABRT);
}

/* --- reads and writes --- */

static uint64_t lba28(const uint8_t *fis)
{
	return fis[4] | (uint64_t)fis[5] << 8 | (uint64_t)fis[6] << 16 |
	       (uint64_t)(fis[7] & 15) << 24;
}

static uint64_t lba48(const uint8_t *fis)
{
	return fis[4] | (uint64_t)fis[5] << 8 | (uint64_t)fis[6] << 16 | (uint64_t)fis[8] << 24 |
	       (uint64_t)fis[9] << 32 | (uint64_t)fis[10] << 40;
}

struct transfer {
	bool write, ext, pio, fua, verify;
};

static void transfer(struct slot *s, uint64_t lba, uint32_t count, const struct transfer *t)
{
	if (lba >= disk_sectors(s->port) || count > disk_sectors(s->port) - lba) {
		fail(s, ATA_IDNF);
		return;
	}
	if (t->verify) {
		ok(s);
		return;
	}
	s->pio = t->pio && !t->write;
	if (!slot_transfer(s, t->write ? BLK_WRITE : BLK_READ, lba * SECTOR,
			   (uint64_t)count * SECTOR, t->fua ? BLK_FUA : 0))
		fail(s, ATA_ABRT);
}

static void plain_transfer(struct slot *s, const struct transfer *t)
{
	const uint8_t *f = s->fis;
	uint32_t count = t->ext ? load_le16(f + 12) : f[12];

	if (!count)
		count = t->ext ? 65536 : 256;
	/* Addresses by cylinder and head died with disks smaller than any image. */
	if (!(f[7] & 0x40))
		fail(s, ATA_ABRT);
	else
		transfer(s, t->ext ? lba48(f) : lba28(f), count, t);
}

/* The count is in the features, the tag must be the slot. */
static void queued_transfer(struct slot *s, bool write)
{
	struct port *p = s->port;
	const uint8_t *f = s->fis;
	struct transfer t = {.write = write, .fua = f[7] & 0x80};
	uint32_t count = f[3] | (uint32_t)f[11] << 8;

	s->ncq = true;
	p->ci &= ~(1u << s->number);
	p->sact |= 1u << s->number;
	if (f[12] >> 3 != s->number)
		fail(s, ATA_ABRT);
	else
		transfer(s, lba48(f), count ? count : 65536, &t);
}

static void flush(struct slot *s)
{
	s->req = (struct blk_req){.op = BLK_FLUSH};
	slot_submit(s);
}

/* --- TRIM: ranges of 48-bit address and 16-bit count, one after the other --- */

static bool next_range(struct slot *s)
{
	uint32_t *at = &s->transferred, len = load_le16(s->fis + 12) * SECTOR;

	while (*at + 8 <= len) {
		uint64_t v = load_le64(s->own + *at), lba = v & (BIT(48) - 1), n = v >> 48;

		*at += 8;
		if (n && range_ok(lba, n, disk_sectors(s->port))) {
			s->req = (struct blk_req){
			    .op = BLK_DISCARD, .offset = lba * SECTOR, .len = n * SECTOR};
			slot_submit(s);
			return true;
		}
		if (n)
			break; /* outside the disk: the rest is not looked at */
	}
	return false;
}

static void trim(struct slot *s)
{
	uint16_t blocks = load_le16(s->fis + 12);
	uint8_t *ranges;

	if (!(s->fis[3] & 1) || !blk_info(s->port->blk)->discard || blocks == 0 ||
	    blocks > TRIM_BLOCKS) {
		fail(s, ATA_ABRT);
		return;
	}
	ranges = malloc(blocks * SECTOR);
	if (!ranges || !slot_copy_in(s, ranges, blocks * SECTOR)) {
		free(ranges);
		fail(s, ATA_ABRT);
		return;
	}
	s->own = ranges;
	s->write = true;
	s->transferred = 0;
	if (!next_range(s))
		ok(s);
}

/* --- the rest --- */

static void read_max(struct slot *s, bool ext)
{
	uint64_t last = disk_sectors(s->port) - 1;
	uint8_t *f = s->fis;

	if (!ext)
		last = MIN(last, LBA28_MAX);
	for (unsigned int i = 0; i < 3; i++) {
		f[4 + i] = (uint8_t)(last >> (8 * i));
		f[8 + i] = ext ? (uint8_t)(last >> (24 + 8 * i)) : 0;
	}
	if (!ext)
		f[7] = (uint8_t)((f[7] & 0xf0) | (last >> 24 & 15));
	ok(s);
}

/* Which queued command failed, and how. */
static void read_log(struct slot *s)
{
	uint8_t page[512] = {0}, sum = 0;

	if (s->fis[4] != LOG_NCQ || load_le16(s->fis + 12) != 1) {
		fail(s, ATA_ABRT);
		return;
	}
	page[0] = s->port->error_tag;
	page[2] = ATA_FAIL;
	page[3] = ATA_ABRT;
	for (unsigned int i = 0; i < 511; i++)
		sum = (uint8_t)(sum + page[i]);
	page[511] = (uint8_t)-sum;
	s->pio = true;
	if (slot_copy_out(s, page, sizeof(page)))
		ok(s);
	else
		fail(s, ATA_ABRT);
}

static void set_multiple(struct slot *s)
{
	uint8_t n = s->fis[12];

	if (n > 16 || (n & (n - 1))) {
		fail(s, ATA_ABRT);
		return;
	}
	s->port->multiple = n;
	ok(s);
}

/* Transfer modes and caches: all the same to us. */
static void set_features(struct slot *s)
{
	static const uint8_t known[] = {0x02, 0x03, 0x05, 0x10, 0x55, 0x66,
					0x82, 0x85, 0x90, 0xaa, 0xcc};

	if (memchr(known, s->fis[3], sizeof(known)))
		ok(s);
	else
		fail(s, ATA_ABRT);
}

static const struct {
	uint8_t command;
	struct transfer how;
} transfers[] = {
    {CMD_READ_DMA_EXT, {.ext = true}},
    {CMD_WRITE_DMA_EXT, {.ext = true, .write = true}},
    {CMD_WRITE_DMA_FUA_EXT, {.ext = true, .write = true, .fua = true}},
    {CMD_READ_DMA, {.ext = false}},
    {CMD_READ_DMA + 1, {.ext = false}},
    {CMD_WRITE_DMA, {.write = true}},
    {CMD_WRITE_DMA + 1, {.write = true}},
    {CMD_READ_PIO, {.pio = true}},
    {CMD_READ_PIO + 1, {.pio = true}},
    {CMD_READ_PIO_EXT, {.pio = true, .ext = true}},
    {CMD_READ_MULTIPLE, {.pio = true}},
    {CMD_READ_MULTIPLE_EXT, {.pio = true, .ext = true}},
    {CMD_WRITE_PIO, {.pio = true, .write = true}},
    {CMD_WRITE_PIO + 1, {.pio = true, .write = true}},
    {CMD_WRITE_PIO_EXT, {.pio = true, .ext = true, .write = true}},
    {CMD_WRITE_MULTIPLE, {.pio = true, .write = true}},
    {CMD_WRITE_MULTIPLE_EXT, {.pio = true, .ext = true, .write = true}},
    {CMD_VERIFY, {.verify = true}},
    {CMD_VERIFY + 1, {.verify = true}},
    {CMD_VERIFY_EXT, {.verify = true, .ext = true}},
};

static void other_command(struct slot *s)
{
	switch (s->fis[2]) {
	case CMD_IDENTIFY:
		identify(s);
		break;
	case CMD_READ_QUEUED:
	case CMD_WRITE_QUEUED:
		queued_transfer(s, s->fis[2] == CMD_WRITE_QUEUED);
		break;
	case CMD_FLUSH:
	case CMD_FLUSH_EXT:
		flush(s);
		break;
	case CMD_TRIM:
		trim(s);
		break;
	case CMD_READ_MAX:
	case CMD_READ_MAX_EXT:
		read_max(s, s->fis[2] == CMD_READ_MAX_EXT);
		break;
	case CMD_READ_LOG_EXT:
		read_log(s);
		break;
	case CMD_SET_MULTIPLE:
		set_multiple(s);
		break;
	case CMD_SET_FEATURES:
		set_features(s);
		break;
	case CMD_CHECK_POWER:
		s->fis[12] = 0xff; /* active */
		ok(s);
		break;
	case CMD_RECALIBRATE:
	case CMD_INIT_PARAMS:
	case CMD_STANDBY_NOW:
	case CMD_IDLE_NOW:
	case CMD_STANDBY:
	case CMD_IDLE:
	case CMD_SLEEP:
		ok(s);
		break;
	default:
		fail(s, ATA_ABRT);
		break;
	}
}

void ata_command(struct slot *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(transfers); i++) {
		if (transfers[i].command == s->fis[2]) {
			plain_transfer(s, &transfers[i].how);
			return;
		}
	}
	other_command(s);
}

void ata_done(struct slot *s)
{
	if (s->result == 0 && s->own && next_range(s))
		return;
	if (s->own)
		s->transferred = 0;
	if (s->result == 0)
		ok(s);
	else
		fail(s, s->req.op == BLK_READ ? ATA_UNC : ATA_ABRT);
}
