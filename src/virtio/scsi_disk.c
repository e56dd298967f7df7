/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/scsi_disk.c - a disk's commands (SPC-4, SBC-3)
 */
#include "virtio/scsi_priv.h"

enum {
	TEST_UNIT_READY = 0x00,
	REQUEST_SENSE = 0x03,
	READ_6 = 0x08,
	WRITE_6 = 0x0a,
	INQUIRY = 0x12,
	MODE_SENSE_6 = 0x1a,
	START_STOP = 0x1b,
	PREVENT_REMOVAL = 0x1e,
	READ_CAPACITY_10 = 0x25,
	READ_10 = 0x28,
	WRITE_10 = 0x2a,
	VERIFY_10 = 0x2f,
	SYNC_CACHE_10 = 0x35,
	UNMAP = 0x42,
	MODE_SENSE_10 = 0x5a,
	READ_16 = 0x88,
	WRITE_16 = 0x8a,
	VERIFY_16 = 0x8f,
	SYNC_CACHE_16 = 0x91,
	SERVICE_IN_16 = 0x9e,
	REPORT_LUNS = 0xa0,
	READ_12 = 0xa8,
	WRITE_12 = 0xaa,
};

#define READ_CAPACITY_16 0x10 /* service action */
#define FUA              0x08 /* in byte 1 */
#define UNMAP_BLOCKS_MAX 0x400000u

static uint32_t get_be(const uint8_t *p, unsigned int n)
{
	uint32_t v = 0;

	while (n--)
		v = v << 8 | *p++;
	return v;
}

static uint64_t get_be64(const uint8_t *p)
{
	return (uint64_t)get_be(p, 4) << 32 | get_be(p + 4, 4);
}

static void put_be(uint8_t *p, unsigned int n, uint64_t v)
{
	while (n--) {
		p[n] = (uint8_t)v;
		v >>= 8;
	}
}

void scsi_put_sense(enum scsi_sense sense, uint8_t out[SCSI_SENSE_LEN])
{
	memset(out, 0, SCSI_SENSE_LEN);
	out[0] = 0x70;
	out[2] = (uint8_t)(sense >> 16);
	out[7] = SCSI_SENSE_LEN - 8;
	out[12] = (uint8_t)(sense >> 8);
	out[13] = (uint8_t)sense;
}

static enum scsi_next error(struct scsi_command *c, enum scsi_sense sense)
{
	c->sense = sense;
	return SCSI_ERROR;
}

/* @len bytes of c->data, or as many as the guest allows. */
static enum scsi_next answer(struct scsi_command *c, uint32_t len, uint32_t allowed)
{
	c->len = MIN(len, allowed);
	return SCSI_DONE;
}

/* --- who it is (SPC-4, 6.6 and 7.8) --- */

static void put_text(uint8_t *at, const char *text, size_t len)
{
	memset(at, ' ', len);
	memcpy(at, text, MIN(strlen(text), len));
}

static uint32_t vital_page(const struct blk_info *info, const char *serial, uint8_t page,
			   uint8_t *d)
{
	static const uint8_t pages[] = {0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2};

	d[1] = page;
	switch (page) {
	case 0x00:
		memcpy(d + 4, pages, sizeof(pages));
		d[3] = sizeof(pages);
		break;
	case 0x80:
		put_text(d + 4, serial, 20);
		d[3] = 20;
		break;
	case 0x83: /* a T10 vendor identification, ASCII, of the unit */
		d[3] = 4 + 28;
		d[4] = 2;
		d[5] = 1;
		d[7] = 28;
		put_text(d + 8, "INSULA", 8);
		put_text(d + 16, serial, 20);
		break;
	case 0xb0: /* limits: one range an UNMAP */
		d[3] = 60;
		put_be(d + 20, 4, info->discard ? UNMAP_BLOCKS_MAX : 0);
		put_be(d + 24, 4, info->discard ? 1 : 0);
		break;
	case 0xb1: /* it does not turn */
		d[3] = 60;
		put_be(d + 4, 2, 1);
		break;
	case 0xb2:
		d[3] = 4;
		d[5] = info->discard ? 0x80 : 0;
		d[6] = info->discard ? 2 : 0; /* thin */
		break;
	default:
		return 0;
	}
	return d[3] + 4u;
}

static enum scsi_next inquiry(const struct blk_info *info, const char *serial,
			      struct scsi_command *c)
{
	uint32_t allowed = get_be(c->cdb + 3, 2), n;

	if (c->cdb[1] & 1) {
		n = vital_page(info, serial, c->cdb[2], c->data);
		return n ? answer(c, n, allowed) : error(c, SENSE_BAD_FIELD);
	}
	if (c->cdb[2])
		return error(c, SENSE_BAD_FIELD);
	c->data[0] = c->other_lun ? 0x7f : 0;
	c->data[2] = 6; /* SPC-4 */
	c->data[3] = 2;
	c->data[4] = 36 - 5;
	c->data[7] = 2; /* command queuing */
	put_text(c->data + 8, "INSULA", 8);
	put_text(c->data + 16, "Disk", 16);
	put_text(c->data + 32, "1", 4);
	return answer(c, 36, allowed);
}

/* --- how it is --- */

static enum scsi_next capacity_10(const struct blk_info *info, struct scsi_command *c)
{
	uint64_t last = info->size / info->block_size - 1;

	put_be(c->data, 4, MIN(last, (uint64_t)UINT32_MAX));
	put_be(c->data + 4, 4, info->block_size);
	return answer(c, 8, 8);
}

static enum scsi_next capacity_16(const struct blk_info *info, struct scsi_command *c)
{
	if ((c->cdb[1] & 31) != READ_CAPACITY_16)
		return error(c, SENSE_BAD_FIELD);
	put_be(c->data, 8, info->size / info->block_size - 1);
	put_be(c->data + 8, 4, info->block_size);
	c->data[13] = info->block_size == 512 ? 3 : 0; /* better aligned to 4 KiB */
	c->data[14] = info->discard ? 0x80 : 0;
	return answer(c, 32, get_be(c->cdb + 10, 4));
}

/* The caching page: there is a write cache. */
static enum scsi_next mode_sense(const struct blk_info *info, struct scsi_command *c, bool ten)
{
	uint8_t page = c->cdb[2] & 0x3f, *d = c->data;
	uint32_t head = ten ? 8 : 4, n = head;

	if (page != 0x08 && page != 0x3f)
		return error(c, SENSE_BAD_FIELD);
	d[n] = 0x08;
	d[n + 1] = 18;
	d[n + 2] = (c->cdb[2] >> 6) == 1 ? 0 : 4; /* WCE, not to be changed */
	n += 20;
	put_be(d, ten ? 2 : 1, n - (ten ? 2 : 1));
	d[ten ? 3 : 2] = (uint8_t)((info->read_only ? 0x80 : 0) | 0x10); /* knows FUA */
	return answer(c, n, ten ? get_be(c->cdb + 7, 2) : c->cdb[4]);
}

static enum scsi_next report_luns(struct scsi_command *c)
{
	put_be(c->data, 4, 8);
	return answer(c, 16, get_be(c->cdb + 6, 4));
}

static enum scsi_next request_sense(struct scsi_command *c)
{
	scsi_put_sense(0, c->data); /* all that went wrong was told at once */
	return answer(c, SCSI_SENSE_LEN, c->cdb[4]);
}

/* --- reading and writing --- */

static enum scsi_next range(const struct blk_info *info, struct scsi_command *c, enum blk_op op,
			    uint64_t lba, uint64_t n)
{
	uint64_t blocks = info->size / info->block_size;

	if (!range_ok(lba, n, blocks))
		return error(c, SENSE_BAD_LBA);
	if (op != BLK_READ && op != BLK_FLUSH && info->read_only)
		return error(c, SENSE_READ_ONLY);
	if (!n && op != BLK_FLUSH)
		return answer(c, 0, 0);
	c->req.op = op;
	c->req.offset = lba * info->block_size;
	c->req.len = n * info->block_size;
	return SCSI_BLOCK;
}

static enum scsi_next read_write(const struct blk_info *info, struct scsi_command *c)
{
	const uint8_t *cdb = c->cdb;
	bool write = (cdb[0] & 0x0f) == 0x0a;
	uint64_t lba;
	uint32_t n;

	switch (cdb[0]) {
	case READ_6:
	case WRITE_6:
		lba = get_be(cdb + 1, 3) & 0x1fffff;
		n = cdb[4] ? cdb[4] : 256;
		break;
	case READ_10:
	case WRITE_10:
		lba = get_be(cdb + 2, 4);
		n = get_be(cdb + 7, 2);
		break;
	case READ_12:
	case WRITE_12:
		lba = get_be(cdb + 2, 4);
		n = get_be(cdb + 6, 4);
		break;
	default:
		lba = get_be64(cdb + 2);
		n = get_be(cdb + 10, 4);
	}
	if (write && cdb[0] != WRITE_6 && (cdb[1] & FUA))
		c->req.flags = BLK_FUA;
	return range(info, c, write ? BLK_WRITE : BLK_READ, lba, n);
}

/* One range (the limits say so), or none. */
static enum scsi_next unmap(const struct blk_info *info, struct scsi_command *c)
{
	uint32_t list = get_be(c->cdb + 7, 2), n;

	if (!info->discard || (c->cdb[1] & 1))
		return error(c, SENSE_BAD_FIELD);
	if (list < 24 || c->list_len < 24 || get_be(c->list + 2, 2) < 16)
		return list && list < 8 ? error(c, SENSE_BAD_FIELD) : answer(c, 0, 0);
	n = get_be(c->list + 16, 4);
	if (get_be(c->list + 2, 2) > 16 || n > UNMAP_BLOCKS_MAX)
		return error(c, SENSE_BAD_LIST);
	return range(info, c, BLK_DISCARD, get_be64(c->list + 8), n);
}

enum scsi_next scsi_disk_command(const struct blk_info *info, const char *serial,
				 struct scsi_command *c)
{
	if (c->other_lun && c->cdb[0] != INQUIRY && c->cdb[0] != REPORT_LUNS)
		return error(c, SENSE_BAD_LUN);
	switch (c->cdb[0]) {
	case TEST_UNIT_READY:
	case START_STOP:
	case PREVENT_REMOVAL:
	case VERIFY_10:
	case VERIFY_16:
		return answer(c, 0, 0);
	case REQUEST_SENSE:
		return request_sense(c);
	case INQUIRY:
		return inquiry(info, serial, c);
	case MODE_SENSE_6:
	case MODE_SENSE_10:
		return mode_sense(info, c, c->cdb[0] == MODE_SENSE_10);
	case READ_CAPACITY_10:
		return capacity_10(info, c);
	case SERVICE_IN_16:
		return capacity_16(info, c);
	case REPORT_LUNS:
		return report_luns(c);
	case READ_6:
	case READ_10:
	case READ_12:
	case READ_16:
	case WRITE_6:
	case WRITE_10:
	case WRITE_12:
	case WRITE_16:
		return read_write(info, c);
	case SYNC_CACHE_10:
	case SYNC_CACHE_16:
		return range(info, c, BLK_FLUSH, 0, 0);
	case UNMAP:
		return unmap(info, c);
	}
	return error(c, SENSE_BAD_OPCODE);
}
