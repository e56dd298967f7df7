/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/fw_cfg.c - firmware configuration: items, selector and data ports, DMA
 */
#include "device/fw_cfg.h"

#include "base/log.h"

#include <endian.h>
#include <errno.h>

#define KEYS (FW_CFG_FILE_FIRST + FW_CFG_FILE_SLOTS)

#define DMA_ERROR  0x01u
#define DMA_READ   0x02u
#define DMA_SKIP   0x04u
#define DMA_SELECT 0x08u
#define DMA_WRITE  0x10u

/* Zeros given past an item's end in one DMA transfer; more is a mistake, and would only keep us
 * busy. */
#define DMA_PADDING 65536u

struct item {
	uint8_t *data;
	uint32_t len;
	char name[FW_CFG_NAME_SIZE]; /* of files */
};

struct fw_cfg {
	struct device dev;
	struct gmem *mem;
	struct item items[KEYS];
	unsigned int n_files;
	void (*on_select)(void *opaque);
	void *opaque;
	uint8_t select_told; /* on_select was called since the reset */
	uint16_t key;
	uint32_t off;
	uint64_t dma;
};

struct dma_request { /* big-endian, in guest memory */
	uint32_t control, length;
	uint64_t address;
};

/* --- items -------------------------------------------------------------------------------------
 */

static int item_set(struct item *item, const void *data, size_t len)
{
	uint8_t *copy = NULL;

	if (len > INT32_MAX)
		return -EFBIG;
	if (len) {
		copy = malloc(len);
		if (!copy)
			return -ENOMEM;
		memcpy(copy, data, len);
	}
	free(item->data);
	item->data = copy;
	item->len = (uint32_t)len;
	return 0;
}

/* Big-endian: u32 count, then each: u32 size, u16 key, u16 reserved, name. */
static int update_directory(struct fw_cfg *f)
{
	struct strbuf dir = {0};
	uint32_t n = htobe32(f->n_files);
	int r;

	strbuf_add(&dir, &n, sizeof(n));
	for (unsigned int i = 0; i < f->n_files; i++) {
		const struct item *item = &f->items[FW_CFG_FILE_FIRST + i];
		uint32_t size = htobe32(item->len);
		uint16_t head[2] = {htobe16((uint16_t)(FW_CFG_FILE_FIRST + i)), 0};

		strbuf_add(&dir, &size, sizeof(size));
		strbuf_add(&dir, head, sizeof(head));
		strbuf_add(&dir, item->name, sizeof(item->name));
	}
	r = item_set(&f->items[FW_CFG_FILE_DIR], dir.data, dir.len);
	strbuf_fini(&dir);
	return r;
}

int fw_cfg_add(struct fw_cfg *f, uint16_t key, const void *data, size_t len)
{
	if (key >= FW_CFG_FILE_FIRST || key == FW_CFG_FILE_DIR)
		return -EINVAL;
	return item_set(&f->items[key], data, len);
}

int fw_cfg_add_u16(struct fw_cfg *f, uint16_t key, uint16_t value)
{
	return fw_cfg_add(f, key, &value, sizeof(value));
}

int fw_cfg_add_u32(struct fw_cfg *f, uint16_t key, uint32_t value)
{
	return fw_cfg_add(f, key, &value, sizeof(value));
}

int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, size_t len)
{
	unsigned int i = 0;
	int r;

	if (strlen(name) >= FW_CFG_NAME_SIZE)
		return -ENAMETOOLONG;
	while (i < f->n_files && strcmp(f->items[FW_CFG_FILE_FIRST + i].name, name) != 0)
		i++;
	if (i == FW_CFG_FILE_SLOTS)
		return -ENOSPC;
	r = item_set(&f->items[FW_CFG_FILE_FIRST + i], data, len);
	if (r < 0)
		return r;
	if (i == f->n_files) {
		memcpy(f->items[FW_CFG_FILE_FIRST + i].name, name, strlen(name));
		f->n_files++;
	}
	return update_directory(f);
}

void fw_cfg_on_select(struct fw_cfg *f, void (*fn)(void *opaque), void *opaque)
{
	f->on_select = fn;
	f->opaque = opaque;
}

/* --- ports -------------------------------------------------------------------------------------
 */

static void select_key(struct fw_cfg *f, uint16_t key)
{
	/* Sizes are in the directory, so it must be right as well. */
	if ((key == FW_CFG_FILE_DIR || (key >= FW_CFG_FILE_FIRST && key < KEYS)) &&
	    !f->select_told) {
		f->select_told = 1;
		if (f->on_select)
			f->on_select(f->opaque);
	}
	f->key = key;
	f->off = 0;
}

static const struct item *current(const struct fw_cfg *f)
{
	static const struct item none;

	return f->key < KEYS ? &f->items[f->key] : &none;
}

static uint64_t port_read(void *opaque, uint64_t off, unsigned int size)
{
	struct fw_cfg *f = opaque;
	const struct item *item = current(f);

	if (off != 1)
		return UINT64_MAX;
	return f->off < item->len ? item->data[f->off++] : 0;
}

static void port_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	if (off == 0 && size == 2)
		select_key(opaque, (uint16_t)value);
}

static const struct bus_ops port_ops = {.read = port_read, .write = port_write, .max = 2};

/* --- DMA ---------------------------------------------------------------------------------------
 */

/* Copies @len bytes of the item to @gpa, zeros after its end. */
static int dma_copy(struct fw_cfg *f, uint64_t gpa, uint32_t len)
{
	static const uint8_t zeros[4096];
	const struct item *item = current(f);
	uint32_t n = f->off < item->len ? MIN(len, item->len - f->off) : 0;
	int r;

	if (len - n > DMA_PADDING)
		return -EFAULT;
	if (n) {
		r = gmem_write(f->mem, gpa, item->data + f->off, n);
		if (r < 0)
			return r;
	}
	f->off += n;
	while (n < len) {
		uint32_t part = MIN(len - n, (uint32_t)sizeof(zeros));

		r = gmem_write(f->mem, gpa + n, zeros, part);
		if (r < 0)
			return r;
		n += part;
	}
	return 0;
}

static int dma_run(struct fw_cfg *f, uint32_t control, uint32_t len, uint64_t gpa)
{
	if (control & DMA_SELECT)
		select_key(f, (uint16_t)(control >> 16));
	if (control & DMA_READ)
		return dma_copy(f, gpa, len);
	if (control & DMA_WRITE)
		return -EACCES;
	if (control & DMA_SKIP)
		f->off += MIN(len, UINT32_MAX - f->off);
	return 0;
}

static void dma_start(struct fw_cfg *f)
{
	struct dma_request req;
	uint32_t done = 0;
	uint64_t at = f->dma;

	f->dma = 0;
	if (gmem_read(f->mem, at, &req, sizeof(req)) < 0) {
		guest_warn("fw_cfg: DMA request at 0x%llx is not in memory",
			   (unsigned long long)at);
		return;
	}
	if (dma_run(f, be32toh(req.control), be32toh(req.length), be64toh(req.address)) < 0)
		done = htobe32(DMA_ERROR);
	/* Where it was read from is memory; a ROM can't be told. */
	if (gmem_write(f->mem, at, &done, sizeof(done)) < 0)
		guest_warn("fw_cfg: DMA request at 0x%llx is read-only", (unsigned long long)at);
}

static uint64_t dma_read(void *opaque, uint64_t off, unsigned int size)
{
	static const char signature[9] = "QEMU CFG";
	uint64_t v = 0;

	memcpy(&v, signature + off, size);
	return v;
}

static void dma_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct fw_cfg *f = opaque;

	if (size != 4)
		return;
	if (off == 0) {
		f->dma = (uint64_t)be32toh((uint32_t)value) << 32;
	} else if (off == 4) {
		f->dma |= be32toh((uint32_t)value);
		dma_start(f);
	}
}

static const struct bus_ops dma_ops = {.read = dma_read, .write = dma_write, .max = 4};

/* --- life --------------------------------------------------------------------------------------
 */

static void fw_cfg_reset(void *opaque)
{
	struct fw_cfg *f = opaque;

	f->key = 0;
	f->off = 0;
	f->dma = 0;
	f->select_told = 0;
}

static void fw_cfg_fini(void *opaque)
{
	struct fw_cfg *f = opaque;

	for (unsigned int i = 0; i < KEYS; i++)
		free(f->items[i].data);
}

static const struct state_field fields[] = {
    STATE_FIELD(struct fw_cfg, key, 1),
    STATE_FIELD(struct fw_cfg, off, 1),
    STATE_FIELD(struct fw_cfg, dma, 1),
    STATE_FIELD(struct fw_cfg, select_told, 1),
};
static const struct state_table state = {
    .name = "fw_cfg", .version = 1, .fields = fields, .n_fields = ARRAY_SIZE(fields)};

int fw_cfg_new(struct gmem *mem, struct fw_cfg **ret)
{
	struct fw_cfg *f = device_alloc(sizeof(*f), "fw_cfg", &state, fw_cfg_reset, fw_cfg_fini);
	int r;

	if (!f)
		return -ENOMEM;
	f->mem = mem;
	device_region(&f->dev, "fw_cfg", BUS_PIO, 0x510, 2, &port_ops);
	device_region(&f->dev, "fw_cfg-dma", BUS_PIO, 0x514, 8, &dma_ops);
	r = fw_cfg_add(f, FW_CFG_SIGNATURE, "QEMU", 4);
	if (r == 0)
		r = fw_cfg_add_u32(f, FW_CFG_ID, 3); /* bit 0 ports, bit 1 DMA */
	if (r == 0)
		r = update_directory(f);
	if (r < 0) {
		device_free(&f->dev);
		return r;
	}
	*ret = f;
	return 0;
}

struct device *fw_cfg_device(struct fw_cfg *f)
{
	return &f->dev;
}
