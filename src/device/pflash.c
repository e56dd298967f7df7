/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/pflash.c - parallel NOR flash with Intel's command set
 *
 * One chip of 8 bits: an access of more bytes is served byte by byte, as on a bus of that width.
 */
#include "device/pflash.h"

#include "base/fd.h"
#include "base/log.h"

#include <errno.h>

enum command {
	CMD_PROGRAM_ALT = 0x10,
	CMD_ERASE = 0x20,
	CMD_PROGRAM = 0x40,
	CMD_CLEAR_STATUS = 0x50,
	CMD_LOCK = 0x60,
	CMD_STATUS = 0x70,
	CMD_ID = 0x90,
	CMD_CFI = 0x98,
	CMD_CONFIRM = 0xd0,
	CMD_BUFFER = 0xe8,
	CMD_ARRAY = 0xff,
};

enum status {
	STATUS_SEQUENCE = 0x30, /* both error bits: a wrong sequence of commands */
	STATUS_PROGRAM = 0x10,
	STATUS_READY = 0x80,
};

#define BUFFER_SIZE 64u /* bytes one buffered write takes: CFI says so */

struct pflash {
	struct device dev;
	struct pflash_config cfg;
	uint8_t mode;    /* what reads show: CMD_ARRAY, CMD_STATUS, CMD_ID or CMD_CFI */
	uint8_t command; /* the one whose next byte is awaited; 0 = none */
	uint8_t status;
	uint16_t left;         /* bytes a buffered write still takes */
	uint8_t buffer_filled; /* all of them came: CMD_CONFIRM is awaited */
	uint64_t buffer_base;
	uint8_t buffer[BUFFER_SIZE];
	uint8_t touched[BUFFER_SIZE];
	uint64_t dirty_first, dirty_end; /* changed and not yet on stable storage */
};

/* --- content --- */

static void flush(struct pflash *p)
{
	static struct log_rate rate;
	uint64_t first = p->dirty_first, len = p->dirty_end - p->dirty_first;
	int r = 0;

	if (p->dirty_end == 0)
		return;
	p->dirty_first = p->dirty_end = 0;
	if (p->cfg.changed)
		p->cfg.changed(p->cfg.opaque, first, len);
	if (p->cfg.fd < 0)
		return;
	r = pwrite_full(p->cfg.fd, p->cfg.data + first, len, first);
	if (r == 0 && fdatasync(p->cfg.fd) < 0)
		r = -errno;
	if (r == 0)
		return;
	p->status |= STATUS_PROGRAM;
	if (log_rate_ok(&rate))
		log_warn("UEFI variables: %s", strerror(-r));
}

/* Changes that lie together are one; others are written first, so that their order stays. */
static void touch(struct pflash *p, uint64_t off, uint64_t len)
{
	if (p->dirty_end && off != p->dirty_end)
		flush(p);
	if (p->dirty_end == 0)
		p->dirty_first = off;
	p->dirty_end = off + len;
}

/* Programming only clears bits. */
static void program(struct pflash *p, uint64_t off, uint8_t v)
{
	p->cfg.data[off] &= v;
	p->status |= STATUS_READY;
	touch(p, off, 1);
}

static void erase(struct pflash *p, uint64_t off)
{
	off &= ~(uint64_t)(PFLASH_BLOCK - 1);
	memset(p->cfg.data + off, 0xff, PFLASH_BLOCK);
	p->status |= STATUS_READY;
	touch(p, off, PFLASH_BLOCK);
	flush(p);
}

/* --- reading --- */

/* Common Flash Interface, the query at 10h (JESD68.01, 4.3): one region of equal blocks. */
static uint8_t cfi_byte(const struct pflash *p, uint64_t off)
{
	static const uint8_t head[] = {
	    'Q',  'R',  'Y', 1, 0, 0x31, 0, 0, 0, 0, 0, /* 10h */
	    0x27, 0x36, 0,   0,                         /* 1bh: voltages */
	    4,    7,    10,  0, 4, 4,    4, 0 /* 1fh: times, powers of two */};
	uint32_t blocks = (uint32_t)(p->cfg.size / PFLASH_BLOCK) - 1;

	if (off >= 0x10 && off < 0x10 + sizeof(head))
		return head[off - 0x10];
	switch (off) {
	case 0x27: /* size, a power of two that is at least ours */
		return (uint8_t)(64 - __builtin_clzll(p->cfg.size - 1));
	case 0x2a:
		return 6; /* log2 of BUFFER_SIZE */
	case 0x2c:
		return 1;
	case 0x2d:
		return (uint8_t)blocks;
	case 0x2e:
		return (uint8_t)(blocks >> 8);
	case 0x2f: /* block size in 256 bytes */
		return (uint8_t)(PFLASH_BLOCK >> 8);
	case 0x31: /* the extended table named at 15h */
		return 'P';
	case 0x32:
		return 'R';
	case 0x33:
		return 'I';
	case 0x34:
		return '1';
	case 0x35:
		return '0';
	}
	return 0;
}

static uint8_t read_byte(const struct pflash *p, uint64_t off)
{
	switch (p->mode) {
	case CMD_STATUS:
		return p->status;
	case CMD_ID:
		return (off & 0xff) == 0 ? 0x89 : (off & 0xff) == 1 ? 0x18 : 0;
	case CMD_CFI:
		return cfi_byte(p, off & 0xff);
	}
	return p->cfg.data[off];
}

static uint64_t pflash_read(void *opaque, uint64_t off, unsigned int size)
{
	const struct pflash *p = opaque;
	uint64_t v = 0;

	for (unsigned int i = 0; i < size; i++)
		v |= (uint64_t)read_byte(p, off + i) << (8 * i);
	return v;
}

/* --- writing --- */

static void bad_sequence(struct pflash *p)
{
	p->command = 0;
	p->status |= STATUS_SEQUENCE;
	p->mode = CMD_STATUS;
}

static void first_cycle(struct pflash *p, uint64_t off, uint8_t v)
{
	switch (v) {
	case CMD_PROGRAM:
	case CMD_PROGRAM_ALT:
	case CMD_ERASE:
	case CMD_LOCK:
		p->command = v;
		p->mode = CMD_STATUS;
		break;
	case CMD_BUFFER:
		p->command = v;
		p->left = 0;
		p->buffer_filled = 0;
		memset(p->touched, 0, sizeof(p->touched));
		p->mode = CMD_STATUS;
		break;
	case CMD_CLEAR_STATUS:
		/* The ready bit, too, until the next operation: OVMF knows flash by a status of
		 * zero, as QEMU's has it. */
		p->status = 0;
		p->mode = CMD_ARRAY;
		break;
	case CMD_STATUS:
	case CMD_ID:
	case CMD_CFI:
		p->mode = v;
		break;
	case CMD_ARRAY:
		flush(p);
		p->mode = CMD_ARRAY;
		break;
	default: /* reserved: reads as the array */
		p->mode = CMD_ARRAY;
		break;
	}
}

static void buffer_end(struct pflash *p, uint8_t v)
{
	p->command = 0;
	if (v != CMD_CONFIRM) {
		bad_sequence(p);
		return;
	}
	for (unsigned int i = 0; i < BUFFER_SIZE; i++)
		if (p->touched[i])
			program(p, p->buffer_base + i, p->buffer[i]);
}

/* Count, data, confirmation. */
static void buffer_cycle(struct pflash *p, uint64_t off, uint8_t v)
{
	if (p->buffer_filled) {
		buffer_end(p, v);
	} else if (p->left == 0) {
		if (v >= BUFFER_SIZE) {
			bad_sequence(p);
			return;
		}
		p->left = (uint16_t)(v + 1);
		p->buffer_base = off & ~(uint64_t)(BUFFER_SIZE - 1);
	} else if ((off & ~(uint64_t)(BUFFER_SIZE - 1)) != p->buffer_base) {
		bad_sequence(p);
	} else {
		p->buffer[off % BUFFER_SIZE] = v;
		p->touched[off % BUFFER_SIZE] = 1;
		p->buffer_filled = --p->left == 0;
	}
}

static void write_byte(struct pflash *p, uint64_t off, uint8_t v)
{
	uint8_t command = p->command;

	switch (command) {
	case 0:
		first_cycle(p, off, v);
		return;
	case CMD_BUFFER:
		buffer_cycle(p, off, v);
		return;
	}
	p->command = 0;
	if (command == CMD_PROGRAM || command == CMD_PROGRAM_ALT)
		program(p, off, v);
	else if (command == CMD_ERASE && v == CMD_CONFIRM)
		erase(p, off);
	else if (command == CMD_LOCK && (v == 0x01 || v == CMD_CONFIRM))
		; /* blocks are never locked */
	else
		bad_sequence(p);
}

static void pflash_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	for (unsigned int i = 0; i < size; i++)
		write_byte(opaque, off + i, (uint8_t)(value >> (8 * i)));
}

static const struct bus_ops ops = {.read = pflash_read, .write = pflash_write};

/* --- life --- */

static void pflash_reset(void *opaque)
{
	struct pflash *p = opaque;

	flush(p);
	p->mode = CMD_ARRAY;
	p->command = 0;
	p->status = STATUS_READY;
	p->left = 0;
	p->buffer_filled = 0;
	p->buffer_base = 0;
}

static void pflash_fini(void *opaque)
{
	flush(opaque);
}

static int pflash_loaded(void *opaque, struct err *e)
{
	struct pflash *p = opaque;

	p->dirty_first = p->dirty_end = 0;
	if (p->buffer_base >= p->cfg.size || p->buffer_base % BUFFER_SIZE || p->left > BUFFER_SIZE)
		return err_msg(e, -EINVAL, "pflash: a write buffer outside the flash");
	return 0;
}

static const struct state_field fields[] = {
    STATE_FIELD(struct pflash, mode, 1),          STATE_FIELD(struct pflash, command, 1),
    STATE_FIELD(struct pflash, status, 1),        STATE_FIELD(struct pflash, left, 1),
    STATE_FIELD(struct pflash, buffer_filled, 1), STATE_FIELD(struct pflash, buffer_base, 1),
    STATE_ARRAY(struct pflash, buffer, 1),        STATE_ARRAY(struct pflash, touched, 1),
};
static const struct state_table state = {
    .name = "pflash",
    .version = 1,
    .fields = fields,
    .n_fields = ARRAY_SIZE(fields),
    .loaded = pflash_loaded,
};

int pflash_new(const struct pflash_config *cfg, struct device **ret)
{
	struct pflash *p;

	if (!cfg->size || cfg->size % PFLASH_BLOCK)
		return -EINVAL;
	p = device_alloc(sizeof(*p), "pflash", &state, pflash_reset, pflash_fini);
	if (!p)
		return -ENOMEM;
	p->cfg = *cfg;
	device_region(&p->dev, "pflash", BUS_MMIO, cfg->gpa, cfg->size, &ops);
	pflash_reset(p);
	*ret = &p->dev;
	return 0;
}
