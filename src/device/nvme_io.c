/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/nvme_io.c - the NVM command set: read, write, flush, deallocate, write zeroes (NVM Express
 * 1.4, 6)
 */
#include "device/nvme_priv.h"

#include <errno.h>

enum { FLUSH = 0x00, WRITE = 0x01, READ = 0x02, WRITE_ZEROES = 0x08, DATASET = 0x09 };

#define CDW12_FUA        BIT(30)
#define CDW12_DEALLOCATE BIT(25)
#define CDW11_DEALLOCATE BIT(2)

static bool range_of(const struct nvme_cmd *c, uint64_t *offset, uint64_t *len)
{
	const struct blk_info *info = blk_info(c->n->blk);
	uint64_t blocks = info->size / info->block_size;
	uint64_t slba = (uint64_t)c->sqe.cdw11 << 32 | c->sqe.cdw10;
	uint64_t n = (c->sqe.cdw12 & 0xffff) + 1;

	if (!range_ok(slba, n, blocks))
		return false;
	*offset = slba * info->block_size;
	*len = n * info->block_size;
	return true;
}

static enum nvme_status start(struct nvme_cmd *c, enum blk_op op, uint64_t offset, uint64_t len,
			      unsigned int flags)
{
	/* With the cache turned off every write is on stable storage. */
	if (op != BLK_READ && op != BLK_FLUSH && op != BLK_DISCARD &&
	    !(c->n->feature[FEATURE_WRITE_CACHE] & 1))
		flags |= BLK_FUA;
	c->req = (struct blk_req){
	    .op = op,
	    .flags = flags,
	    .offset = offset,
	    .len = len,
	    .iov = c->iov,
	    .n_iov = c->n_iov,
	};
	nvme_submit(c);
	return NVME_PENDING;
}

static enum nvme_status move(struct nvme_cmd *c, enum blk_op op)
{
	uint64_t offset, len;

	if (!range_of(c, &offset, &len))
		return NVME_LBA_RANGE;
	if (op == BLK_WRITE && blk_info(c->n->blk)->read_only)
		return NVME_READ_ONLY;
	if (len > (uint64_t)NVME_PAGE << NVME_MDTS)
		return NVME_BAD_FIELD;
	if (!nvme_map(c, len, op == BLK_READ))
		return NVME_BAD_PRP;
	return start(c, op, offset, len,
		     op == BLK_WRITE && (c->sqe.cdw12 & CDW12_FUA) ? BLK_FUA : 0);
}

static enum nvme_status write_zeroes(struct nvme_cmd *c)
{
	uint64_t offset, len;
	unsigned int flags = (c->sqe.cdw12 & CDW12_DEALLOCATE ? BLK_UNMAP : 0) |
			     (c->sqe.cdw12 & CDW12_FUA ? BLK_FUA : 0);

	if (!range_of(c, &offset, &len))
		return NVME_LBA_RANGE;
	if (blk_info(c->n->blk)->read_only)
		return NVME_READ_ONLY;
	return start(c, BLK_WRITE_ZEROES, offset, len, flags);
}

/* The next range that has blocks (6.7); NVME_OK when none is left. */
static enum nvme_status next_range(struct nvme_cmd *c)
{
	const struct blk_info *info = blk_info(c->n->blk);

	while (c->range < c->n_ranges) {
		const uint8_t *r = c->ranges + 16 * (size_t)c->range++;
		uint64_t n = load_le32(r + 4), slba = load_le64(r + 8);

		if (!range_ok(slba, n, info->size / info->block_size))
			return NVME_LBA_RANGE;
		if (n)
			return start(c, BLK_DISCARD, slba * info->block_size, n * info->block_size,
				     0);
	}
	return NVME_OK;
}

static enum nvme_status dataset(struct nvme_cmd *c)
{
	uint32_t n = (c->sqe.cdw10 & 0xff) + 1;

	if (!(c->sqe.cdw11 & CDW11_DEALLOCATE)) /* hints how it will be used */
		return NVME_OK;
	if (blk_info(c->n->blk)->read_only)
		return NVME_READ_ONLY;
	c->ranges = calloc(n, 16);
	if (!c->ranges)
		return NVME_INTERNAL;
	if (!nvme_copy_in(c, c->ranges, 16 * n))
		return NVME_BAD_PRP;
	c->range = 0;
	c->n_ranges = n;
	return next_range(c);
}

enum nvme_status nvme_io(struct nvme_cmd *c)
{
	const struct blk_info *info = blk_info(c->n->blk);

	if (c->sqe.nsid != 1 && !(c->sqe.opcode == FLUSH && c->sqe.nsid == UINT32_MAX))
		return NVME_BAD_NAMESPACE;
	switch (c->sqe.opcode) {
	case FLUSH:
		return start(c, BLK_FLUSH, 0, 0, 0);
	case WRITE:
		return move(c, BLK_WRITE);
	case READ:
		return move(c, BLK_READ);
	case WRITE_ZEROES:
		return info->write_zeroes ? write_zeroes(c) : NVME_BAD_OPCODE;
	case DATASET:
		return info->discard ? dataset(c) : NVME_BAD_OPCODE;
	}
	return NVME_BAD_OPCODE;
}

enum nvme_status nvme_io_done(struct nvme_cmd *c)
{
	bool read = c->req.op == BLK_READ;

	nvme_unmap(c, read);
	if (c->result < 0)
		return read ? NVME_READ_ERROR : NVME_WRITE_FAULT;
	/* The block layer knows FUA of writes only. */
	if (c->req.op == BLK_WRITE_ZEROES && (c->req.flags & BLK_FUA))
		return start(c, BLK_FLUSH, 0, 0, 0);
	return c->ranges ? next_range(c) : NVME_OK;
}
