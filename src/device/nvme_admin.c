/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/nvme_admin.c - the admin command set: queues, Identify, log pages, features (NVM Express
 * 1.4, 5)
 */
#include "device/nvme_priv.h"

#include <stdio.h>

enum {
	DELETE_SQ = 0x00,
	CREATE_SQ = 0x01,
	GET_LOG = 0x02,
	DELETE_CQ = 0x04,
	CREATE_CQ = 0x05,
	IDENTIFY = 0x06,
	ABORT = 0x08,
	SET_FEATURES = 0x09,
	GET_FEATURES = 0x0a,
	EVENT_REQUEST = 0x0c,
};

#define IDENTIFY_SIZE 4096u
#define LOG_SIZE      512u

/* --- queues (5.3 to 5.6) --- */

struct queue_words {
	unsigned int id;
	uint32_t size;
	bool contiguous;
};

static struct queue_words queue_words(const struct nvme_sqe *s)
{
	return (struct queue_words){s->cdw10 & 0xffff, (s->cdw10 >> 16) + 1, s->cdw11 & 1};
}

static enum nvme_status check_queue(const struct nvme_sqe *s, const struct queue_words *w,
				    uint32_t there)
{
	if (!w->id || w->id >= NVME_QUEUES || there)
		return NVME_BAD_QID;
	if (w->size < 2 || w->size > NVME_ENTRIES)
		return NVME_BAD_QUEUE_SIZE;
	/* CAP.CQR: in one piece. */
	if (!w->contiguous || s->prp1 % NVME_PAGE)
		return NVME_BAD_FIELD;
	return NVME_OK;
}

static enum nvme_status create_cq(struct nvme *n, const struct nvme_sqe *s)
{
	struct queue_words w = queue_words(s);
	enum nvme_status status = check_queue(s, &w, w.id < NVME_QUEUES ? n->cq[w.id].size : 0);

	if (status != NVME_OK)
		return status;
	if (s->cdw11 >> 16 >= NVME_VECTORS)
		return NVME_BAD_VECTOR;
	n->cq[w.id] = (struct nvme_cq){
	    .base = s->prp1,
	    .size = w.size,
	    .vector = (uint16_t)(s->cdw11 >> 16),
	    .interrupts = s->cdw11 & 2,
	    .phase = true,
	};
	return NVME_OK;
}

static enum nvme_status create_sq(struct nvme *n, const struct nvme_sqe *s)
{
	struct queue_words w = queue_words(s);
	unsigned int cqid = s->cdw11 >> 16;
	enum nvme_status status = check_queue(s, &w, w.id < NVME_QUEUES ? n->sq[w.id].size : 0);

	if (status != NVME_OK)
		return status;
	if (!cqid || cqid >= NVME_QUEUES || !n->cq[cqid].size)
		return NVME_BAD_CQ;
	n->sq[w.id] = (struct nvme_sq){.base = s->prp1, .size = w.size, .cqid = (uint16_t)cqid};
	return NVME_OK;
}

static enum nvme_status delete_sq(struct nvme *n, const struct nvme_sqe *s)
{
	unsigned int id = s->cdw10 & 0xffff;

	if (!id || id >= NVME_QUEUES || !n->sq[id].size)
		return NVME_BAD_QID;
	nvme_quiesce(n, false);
	n->sq[id] = (struct nvme_sq){0};
	return NVME_OK;
}

static enum nvme_status delete_cq(struct nvme *n, const struct nvme_sqe *s)
{
	unsigned int id = s->cdw10 & 0xffff;

	if (!id || id >= NVME_QUEUES || !n->cq[id].size)
		return NVME_BAD_QID;
	for (unsigned int i = 1; i < NVME_QUEUES; i++)
		if (n->sq[i].size && n->sq[i].cqid == id)
			return NVME_QUEUE_DELETION;
	n->cq[id] = (struct nvme_cq){0};
	nvme_update_intx(n);
	return NVME_OK;
}

/* --- Identify (5.15) --- */

static void put_text(uint8_t *at, const char *text, size_t len)
{
	memset(at, ' ', len);
	memcpy(at, text, MIN(strlen(text), len));
}

static void identify_controller(const struct nvme *n, uint8_t *d)
{
	const struct blk_info *info = blk_info(n->blk);

	memcpy(d, n->pci.config + PCI_VENDOR_ID, 2);
	memcpy(d + 2, n->pci.config + PCI_SUB_VENDOR_ID, 2);
	put_text(d + 4, n->serial, 20);
	put_text(d + 24, "Insula NVMe", 40);
	put_text(d + 64, "1", 8);
	d[77] = NVME_MDTS;
	store_le32(d + 80, 0x00010400);
	d[111] = 1; /* an I/O controller */
	d[259] = NVME_EVENTS - 1;
	d[260] = 0x03;            /* one firmware slot, not to be written */
	store_le16(d + 266, 343); /* too warm, in kelvins */
	store_le16(d + 268, 353);
	d[512] = 0x66;
	d[513] = 0x44;
	store_le32(d + 516, 1); /* namespaces */
	store_le16(d + 520, (uint16_t)((info->discard ? 4 : 0) | (info->write_zeroes ? 8 : 0)));
	d[525] = 1; /* a volatile write cache */
	snprintf((char *)d + 768, 256, "nqn.2026-01.org.insula:nvme:%s", n->serial);
}

static void identify_namespace(const struct nvme *n, uint8_t *d)
{
	const struct blk_info *info = blk_info(n->blk);
	uint64_t blocks = info->size / info->block_size;

	store_le64(d, blocks);
	store_le64(d + 8, blocks);
	store_le64(d + 16, blocks);
	d[99] = info->read_only;
	d[128 + 2] = (uint8_t)__builtin_ctz(info->block_size);
}

static enum nvme_status identify(struct nvme_cmd *c)
{
	const struct nvme_sqe *s = &c->sqe;
	uint8_t data[IDENTIFY_SIZE] = {0};

	switch (s->cdw10 & 0xff) {
	case 0x00:
		if (s->nsid == 1)
			identify_namespace(c->n, data);
		else if (s->nsid != UINT32_MAX)
			return NVME_BAD_NAMESPACE;
		break;
	case 0x01:
		identify_controller(c->n, data);
		break;
	case 0x02: /* namespaces with numbers above this one */
		if (s->nsid >= UINT32_MAX - 1)
			return NVME_BAD_NAMESPACE;
		data[0] = s->nsid == 0;
		break;
	case 0x03: /* names for the namespace: it has none that is the world's only one */
		if (s->nsid != 1)
			return NVME_BAD_NAMESPACE;
		break;
	default:
		return NVME_BAD_FIELD;
	}
	return nvme_copy_out(c, data, sizeof(data)) ? NVME_OK : NVME_BAD_PRP;
}

/* --- log pages (5.14) --- */

static enum nvme_status get_log(struct nvme_cmd *c)
{
	uint8_t data[LOG_SIZE] = {0};
	uint64_t len = (((uint64_t)(c->sqe.cdw11 & 0xffff) << 16 | c->sqe.cdw10 >> 16) + 1) * 4;

	switch (c->sqe.cdw10 & 0xff) {
	case 0x01: /* errors: none is noted */
		break;
	case 0x02:                         /* health */
		store_le16(data + 1, 300); /* kelvins */
		data[3] = 100;             /* spare, per cent */
		data[4] = 10;
		break;
	case 0x03: /* firmware */
		data[0] = 1;
		put_text(data + 8, "1", 8);
		break;
	default:
		return NVME_BAD_LOG;
	}
	if (c->sqe.cdw12 || c->sqe.cdw13)
		return NVME_BAD_FIELD; /* LPA: no offsets */
	return nvme_copy_out(c, data, (uint32_t)MIN(len, sizeof(data))) ? NVME_OK : NVME_BAD_PRP;
}

/* --- features (5.21) --- */

/* Numbers 1 to 0xb but LBA ranges; what has no effect here is kept and told back. */
static bool has_feature(uint32_t id)
{
	return id >= 0x01 && id < NVME_FEATURES && id != 0x03;
}

static enum nvme_status set_features(struct nvme *n, const struct nvme_sqe *s, uint32_t *dw0)
{
	uint32_t id = s->cdw10 & 0xff;

	if (!has_feature(id) || (s->cdw10 >> 31)) /* nothing is saved */
		return NVME_BAD_FIELD;
	if (id == FEATURE_QUEUES)
		*dw0 = n->feature[id];
	else
		n->feature[id] = s->cdw11;
	return NVME_OK;
}

static enum nvme_status get_features(const struct nvme *n, const struct nvme_sqe *s, uint32_t *dw0)
{
	uint32_t id = s->cdw10 & 0xff;

	if (!has_feature(id) || (s->cdw10 >> 8 & 7) > 1) /* SEL: current or default */
		return NVME_BAD_FIELD;
	*dw0 = n->feature[id];
	return NVME_OK;
}

/* It waits for something to tell, and there never is. */
static enum nvme_status event_request(struct nvme_cmd *c)
{
	if (c->n->n_events == NVME_EVENTS)
		return NVME_TOO_MANY_EVENTS;
	c->n->n_events++;
	c->n->cq[0].pledged--;
	c->busy = false;
	return NVME_PENDING;
}

enum nvme_status nvme_admin(struct nvme_cmd *c, uint32_t *dw0)
{
	struct nvme *n = c->n;

	switch (c->sqe.opcode) {
	case DELETE_SQ:
		return delete_sq(n, &c->sqe);
	case CREATE_SQ:
		return create_sq(n, &c->sqe);
	case GET_LOG:
		return get_log(c);
	case DELETE_CQ:
		return delete_cq(n, &c->sqe);
	case CREATE_CQ:
		return create_cq(n, &c->sqe);
	case IDENTIFY:
		return identify(c);
	case ABORT:
		*dw0 = 1; /* too late: it runs */
		return NVME_OK;
	case SET_FEATURES:
		return set_features(n, &c->sqe, dw0);
	case GET_FEATURES:
		return get_features(n, &c->sqe, dw0);
	case EVENT_REQUEST:
		return event_request(c);
	}
	return NVME_BAD_OPCODE;
}
