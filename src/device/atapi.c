/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/atapi.c - a CD-ROM drive's commands (SPC-3, MMC-5), with data discs of one track
 */
#include "device/ahci_priv.h"

#include <errno.h>

enum { CMD_PACKET = 0xa0, CMD_IDENTIFY_PACKET = 0xa1, CMD_DEVICE_RESET = 0x08 };
enum {
	CMD_IDENTIFY_DEVICE = 0xec,
	CMD_SET_FEATURES = 0xef,
	CMD_IDLE_NOW = 0xe1,
	CMD_STANDBY_NOW = 0xe0
};

enum {
	OP_TEST_UNIT_READY = 0x00,
	OP_REQUEST_SENSE = 0x03,
	OP_INQUIRY = 0x12,
	OP_START_STOP = 0x1b,
	OP_PREVENT_REMOVAL = 0x1e,
	OP_READ_FORMAT_CAPACITIES = 0x23,
	OP_READ_CAPACITY = 0x25,
	OP_READ_10 = 0x28,
	OP_SEEK = 0x2b,
	OP_READ_TOC = 0x43,
	OP_GET_CONFIGURATION = 0x46,
	OP_GET_EVENT = 0x4a,
	OP_READ_DISC_INFO = 0x51,
	OP_MODE_SENSE_10 = 0x5a,
	OP_READ_12 = 0xa8,
	OP_MECHANISM_STATUS = 0xbd,
	OP_READ_CD = 0xbe,
};

enum {
	SENSE_NONE = 0,
	SENSE_NOT_READY = 2,
	SENSE_MEDIUM = 3,
	SENSE_ILLEGAL = 5,
	SENSE_ATTENTION = 6
};
#define ASC_BAD_COMMAND 0x20
#define ASC_BAD_ADDRESS 0x21
#define ASC_BAD_FIELD   0x24
#define ASC_CHANGED     0x28
#define ASC_NO_DISC     0x3a
#define ASC_LOCKED      0x53
#define ASC_READ_ERROR  0x11

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void put_be32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

static void put_be16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* --- ends --- */

static void end_packet(struct slot *s, uint8_t status, uint8_t error)
{
	s->fis[12] = 3; /* interrupt reason: command done, to the host */
	slot_end(s, status, error);
}

static void good(struct slot *s)
{
	s->port->sense_key = s->port->asc = s->port->ascq = 0;
	end_packet(s, ATA_OK, 0);
}

static void check(struct slot *s, uint8_t key, uint8_t asc)
{
	s->port->sense_key = key;
	s->port->asc = asc;
	s->port->ascq = 0;
	s->transferred = 0;
	end_packet(s, ATA_FAIL, (uint8_t)(key << 4 | (key == SENSE_ILLEGAL ? ATA_ABRT : 0)));
}

/* @len of @data, cut to what the packet allows. */
static void reply(struct slot *s, const void *data, uint32_t len, uint32_t allowed)
{
	if (slot_copy_out(s, data, MIN(len, allowed)))
		good(s);
	else
		check(s, SENSE_ILLEGAL, ASC_BAD_FIELD);
}

/* An open tray keeps its disc, which nobody reads until it is closed. */
static bool has_disc(const struct port *p)
{
	return p->blk && !p->ejected;
}

static uint64_t disc_sectors(const struct port *p)
{
	/* 33 bits of bytes are the most that 32-bit sectors of 2 KiB ever need; more is cut off. */
	return has_disc(p) ? MIN(blk_info(p->blk)->size / CD_SECTOR, (uint64_t)UINT32_MAX) : 0;
}

/* False, with the command ended: no disc, or a new one that the guest was not told of. */
static bool need_disc(struct slot *s)
{
	struct port *p = s->port;

	if (!has_disc(p)) {
		p->attention = false;
		check(s, SENSE_NOT_READY, ASC_NO_DISC);
		return false;
	}
	if (p->attention) {
		p->attention = false;
		check(s, SENSE_ATTENTION, ASC_CHANGED);
		return false;
	}
	return true;
}

/* --- what the drive is --- */

static void inquiry(struct slot *s)
{
	uint8_t d[36] = {0x05, 0x80, 0x05, 0x32, 31};

	if (s->packet[1] & 1) {
		check(s, SENSE_ILLEGAL, ASC_BAD_FIELD);
		return;
	}
	memcpy(d + 8, "Insula  ", 8);
	memcpy(d + 16, "CD-ROM          ", 16);
	memcpy(d + 32, "1.0 ", 4);
	reply(s, d, sizeof(d), be16(s->packet + 3));
}

static void request_sense(struct slot *s)
{
	struct port *p = s->port;
	uint8_t d[18] = {0x70, 0, p->sense_key, 0, 0, 0, 0, 10};

	d[12] = p->asc;
	d[13] = p->ascq;
	reply(s, d, sizeof(d), s->packet[4]);
}

/* Core, profile list with CD-ROM (8) and DVD-ROM (10h), removable medium, reading. */
static void get_configuration(struct slot *s)
{
	const struct port *p = s->port;
	bool dvd = disc_sectors(p) > 450000, none = !has_disc(p);
	uint8_t d[40] = {0};

	put_be32(d, sizeof(d) - 4);
	put_be16(d + 6, none ? 0 : dvd ? 0x10 : 0x08);
	d[10] = 0x03; /* profile list: persistent, current */
	d[11] = 8;
	put_be16(d + 12, 0x10);
	d[14] = dvd;
	put_be16(d + 16, 0x08);
	d[18] = !none && !dvd;
	put_be16(d + 20, 0x0001); /* core */
	d[22] = 0x0b;
	d[23] = 8;
	put_be32(d + 24, 7); /* Serial ATA */
	d[28] = 1;
	put_be16(d + 32, 0x0003); /* removable medium: tray, can be locked and ejected */
	d[34] = 0x03;
	d[35] = 4;
	d[36] = 0x29;
	reply(s, d, sizeof(d), be16(s->packet + 7));
}

static void mode_sense(struct slot *s)
{
	uint8_t d[28] = {0};

	if ((s->packet[2] & 0x3f) != 0x2a && (s->packet[2] & 0x3f) != 0x3f) {
		check(s, SENSE_ILLEGAL, ASC_BAD_FIELD);
		return;
	}
	put_be16(d, sizeof(d) - 2);
	d[2] = has_disc(s->port) ? 0x01 : 0x70;
	d[8] = 0x2a; /* capabilities */
	d[9] = 18;
	d[10] = 0x3b; /* reads CD-R, CD-RW, DVD-ROM, DVD-R */
	d[14] = (uint8_t)(0x29 | (s->port->locked ? 2 : 0));
	put_be16(d + 16, 706); /* speeds, in 1000 bytes a second */
	put_be16(d + 22, 706);
	reply(s, d, sizeof(d), be16(s->packet + 7));
}

static void mechanism_status(struct slot *s)
{
	uint8_t d[8] = {0};

	d[1] = s->port->ejected ? 0x10 : 0;
	reply(s, d, sizeof(d), be16(s->packet + 8));
}

/* --- the disc --- */

static void read_capacity(struct slot *s)
{
	uint8_t d[8];

	if (!need_disc(s))
		return;
	put_be32(d, (uint32_t)disc_sectors(s->port) - 1);
	put_be32(d + 4, CD_SECTOR);
	reply(s, d, sizeof(d), sizeof(d));
}

static void format_capacities(struct slot *s)
{
	uint8_t d[12] = {0, 0, 0, 8};

	put_be32(d + 4, (uint32_t)disc_sectors(s->port));
	put_be32(d + 8, CD_SECTOR);
	d[8] = has_disc(s->port) ? 2 : 3;
	reply(s, d, sizeof(d), be16(s->packet + 7));
}

static void put_position(uint8_t *p, bool msf, uint32_t lba)
{
	if (!msf) {
		put_be32(p, lba);
		return;
	}
	lba += 150;
	p[0] = 0;
	p[1] = (uint8_t)(lba / (75 * 60));
	p[2] = (uint8_t)(lba / 75 % 60);
	p[3] = (uint8_t)(lba % 75);
}

/* One data track, and the lead-out. */
static void read_toc(struct slot *s)
{
	bool msf = s->packet[1] & 2;
	unsigned int format = s->packet[2] & 15 ? s->packet[2] & 15u : s->packet[9] >> 6;
	uint16_t allowed = be16(s->packet + 7);
	uint8_t d[20] = {0, 18, 1, 1, 0, 0x14, 1};
	uint8_t session[12] = {0, 10, 1, 1, 0, 0x14, 1};

	if (!need_disc(s))
		return;
	switch (format) {
	case 0:
		put_position(d + 8, msf, 0);
		d[13] = 0x14;
		d[14] = 0xaa;
		put_position(d + 16, msf, (uint32_t)disc_sectors(s->port));
		if (s->packet[6] > 1 && s->packet[6] != 0xaa)
			check(s, SENSE_ILLEGAL, ASC_BAD_FIELD);
		else
			reply(s, d, sizeof(d), allowed);
		break;
	case 1:
		put_position(session + 8, msf, 0);
		reply(s, session, sizeof(session), allowed);
		break;
	default:
		check(s, SENSE_ILLEGAL, ASC_BAD_FIELD);
		break;
	}
}

static void disc_info(struct slot *s)
{
	uint8_t d[34] = {0, 32, 0x0e, 1, 1, 1, 1, 0x20};

	if (need_disc(s))
		reply(s, d, sizeof(d), be16(s->packet + 7));
}

/* Medium events, polled: what happened since the last time. */
static void get_event(struct slot *s)
{
	struct port *p = s->port;
	uint8_t d[8] = {0, 6, 0x04, 0x10};

	if (!(s->packet[1] & 1)) {
		check(s, SENSE_ILLEGAL, ASC_BAD_FIELD);
		return;
	}
	if (!(s->packet[4] & 0x10)) { /* none of those asked for is known */
		d[1] = 2;
		d[2] = 0x80;
		reply(s, d, 4, be16(s->packet + 7));
		return;
	}
	d[4] = !p->event     ? 0
	       : p->asked    ? 1
	       : has_disc(p) ? 2
			     : 3; /* none, button, new disc, removed */
	d[5] = (uint8_t)((has_disc(p) ? 2 : 0) | (p->ejected ? 1 : 0));
	p->event = p->asked = false;
	reply(s, d, sizeof(d), be16(s->packet + 7));
}

static void start_stop(struct slot *s)
{
	struct port *p = s->port;
	bool eject = (s->packet[4] & 3) == 2, load = (s->packet[4] & 3) == 3;

	if (eject && p->locked) {
		check(s, SENSE_ILLEGAL, ASC_LOCKED);
		return;
	}
	if ((eject || load) && p->ejected != eject) {
		p->ejected = eject;
		p->event = true;
		p->attention = load && p->blk;
	}
	good(s);
}

static void read_sectors(struct slot *s, uint32_t lba, uint32_t count)
{
	struct port *p = s->port;

	if (!need_disc(s))
		return;
	if (lba > disc_sectors(p) || count > disc_sectors(p) - lba) {
		check(s, SENSE_ILLEGAL, ASC_BAD_ADDRESS);
		return;
	}
	if (count == 0)
		good(s);
	else if (!slot_transfer(s, BLK_READ, (uint64_t)lba * CD_SECTOR, (uint64_t)count * CD_SECTOR,
				0))
		check(s, SENSE_ILLEGAL, ASC_BAD_FIELD);
}

/* Of all that READ CD can give, the user data. */
static void read_cd(struct slot *s)
{
	const uint8_t *c = s->packet;

	if ((c[9] & 0xf8) == 0)
		good(s);
	else if ((c[9] & 0xf8) != 0x10)
		check(s, SENSE_ILLEGAL, ASC_BAD_FIELD);
	else
		read_sectors(s, be32(c + 2), be32(c + 5) & 0xffffff);
}

static void packet(struct slot *s)
{
	const uint8_t *c = s->packet;

	switch (c[0]) {
	case OP_TEST_UNIT_READY:
		if (need_disc(s))
			good(s);
		break;
	case OP_REQUEST_SENSE:
		request_sense(s);
		break;
	case OP_INQUIRY:
		inquiry(s);
		break;
	case OP_START_STOP:
		start_stop(s);
		break;
	case OP_PREVENT_REMOVAL:
		s->port->locked = c[4] & 1;
		good(s);
		break;
	case OP_READ_FORMAT_CAPACITIES:
		format_capacities(s);
		break;
	case OP_READ_CAPACITY:
		read_capacity(s);
		break;
	case OP_READ_10:
		read_sectors(s, be32(c + 2), be16(c + 7));
		break;
	case OP_READ_12:
		read_sectors(s, be32(c + 2), be32(c + 6));
		break;
	case OP_SEEK:
		if (need_disc(s))
			good(s);
		break;
	case OP_READ_TOC:
		read_toc(s);
		break;
	case OP_GET_CONFIGURATION:
		get_configuration(s);
		break;
	case OP_GET_EVENT:
		get_event(s);
		break;
	case OP_READ_DISC_INFO:
		disc_info(s);
		break;
	case OP_MODE_SENSE_10:
		mode_sense(s);
		break;
	case OP_MECHANISM_STATUS:
		mechanism_status(s);
		break;
	case OP_READ_CD:
		read_cd(s);
		break;
	default:
		check(s, SENSE_ILLEGAL, ASC_BAD_COMMAND);
		break;
	}
}

/* --- for the controller --- */

void atapi_command(struct slot *s)
{
	uint8_t id[512] = {0};

	switch (s->fis[2]) {
	case CMD_PACKET:
		packet(s);
		break;
	case CMD_IDENTIFY_PACKET:
		ata_identify_packet(s->port, id);
		s->pio = true;
		if (slot_copy_out(s, id, sizeof(id)))
			slot_end(s, ATA_OK, 0);
		else
			slot_end(s, ATA_FAIL, ATA_ABRT);
		break;
	case CMD_SET_FEATURES:
	case CMD_IDLE_NOW:
	case CMD_STANDBY_NOW:
		slot_end(s, ATA_OK, 0);
		break;
	case CMD_DEVICE_RESET:
	case CMD_IDENTIFY_DEVICE: /* refused with the signature: it is no disk */
		s->fis[4] = s->fis[12] = 1;
		s->fis[5] = 0x14;
		s->fis[6] = 0xeb;
		if (s->fis[2] == CMD_DEVICE_RESET)
			slot_end(s, ATA_OK, 0);
		else
			slot_end(s, ATA_FAIL, ATA_ABRT);
		break;
	default:
		slot_end(s, ATA_FAIL, ATA_ABRT);
		break;
	}
}

void atapi_done(struct slot *s)
{
	if (s->result == 0)
		good(s);
	else
		check(s, SENSE_MEDIUM, ASC_READ_ERROR);
}

void atapi_reset(struct port *p)
{
	p->sense_key = p->asc = p->ascq = 0;
	p->locked = p->asked = false;
}
