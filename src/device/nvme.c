/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/nvme.c - the NVMe controller: registers, doorbells, life (NVM Express 1.4, 3 and 7)
 *
 *	BAR 0    0000h registers   1000h doorbells   2000h MSI-X table   3000h pending bits
 */
#include "device/nvme_priv.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>

#define BAR_SIZE   0x4000u
#define DOORBELLS  0x1000u
#define MSIX_TABLE 0x2000u
#define MSIX_PBA   0x3000u

enum {
	CAP = 0x00,
	VS = 0x08,
	INTMS = 0x0c,
	INTMC = 0x10,
	CC = 0x14,
	CSTS = 0x1c,
	AQA = 0x24,
	ASQ = 0x28,
	ACQ = 0x30,
};
/* Queues in one piece, ready within 500 ms, NVM commands, pages of 4 KiB. */
#define CAP_VALUE (BIT(37) | UINT64_C(1) << 24 | BIT(16) | (NVME_ENTRIES - 1))
#define CC_EN     BIT(0)
#define CC_SHN    0xc000u
#define CSTS_RDY  BIT(0)
#define CSTS_CFS  BIT(1)
#define CSTS_SHST 0xcu

static struct nvme *from_pci(struct pci_dev *d)
{
	return container_of(d, struct nvme, pci);
}

/* 7.3.2: everything but the registers of the admin queue. */
static void controller_reset(struct nvme *n)
{
	nvme_quiesce(n, true);
	memset(n->sq, 0, sizeof(n->sq));
	memset(n->cq, 0, sizeof(n->cq));
	memset(n->feature, 0, sizeof(n->feature));
	n->feature[FEATURE_WRITE_CACHE] = 1;
	n->feature[FEATURE_QUEUES] = (NVME_IO_QUEUES - 1) << 16 | (NVME_IO_QUEUES - 1);
	n->n_events = 0;
	n->intms = n->csts = 0;
	nvme_update_intx(n);
}

static void enable(struct nvme *n)
{
	uint32_t sq = (n->aqa & 0xfff) + 1, cq = (n->aqa >> 16 & 0xfff) + 1;

	/* CSS, MPS, AMS: the NVM command set, pages of 4 KiB, round robin. */
	if ((n->cc & 0x3ff0) || sq < 2 || cq < 2) {
		guest_warn("nvme: enabled with CC %#x, AQA %#x", n->cc, n->aqa);
		n->csts = (uint32_t)CSTS_CFS;
		return;
	}
	n->sq[0] = (struct nvme_sq){.base = n->asq, .size = sq};
	n->cq[0] = (struct nvme_cq){.base = n->acq, .size = cq, .interrupts = true, .phase = true};
	n->csts = (uint32_t)CSTS_RDY;
}

/* What was written is on stable storage before the shutdown is over. */
static void shut_down(struct nvme *n)
{
	struct nvme_cmd *c = nvme_take_cmd(n, NVME_NO_QUEUE);

	if (!c) {
		nvme_quiesce(n, false);
		c = nvme_take_cmd(n, NVME_NO_QUEUE);
	}
	n->csts = (n->csts & ~CSTS_SHST) | 1u << 2;
	c->req = (struct blk_req){.op = BLK_FLUSH};
	nvme_submit(c);
}

static void write_cc(struct nvme *n, uint32_t v)
{
	uint32_t was = n->cc;

	n->cc = v & 0xfffff1;
	if ((was & CC_EN) && !(v & CC_EN))
		controller_reset(n);
	else if (!(was & CC_EN) && (v & CC_EN))
		enable(n);
	if ((v & CC_SHN) && !(was & CC_SHN))
		shut_down(n);
	else if (!(v & CC_SHN))
		n->csts &= ~CSTS_SHST;
}

/* --- doorbells (3.1.24) --- */

static void ring(struct nvme *n, unsigned int number, uint32_t v)
{
	unsigned int id = number / 2;
	bool completion = number & 1;
	uint32_t size = completion ? n->cq[id].size : n->sq[id].size;

	v &= 0xffff;
	if (!size || v >= size) {
		guest_warn("nvme: %u in the doorbell of %s %u", v,
			   completion ? "completion queue" : "submission queue", id);
		return;
	}
	if (completion) {
		n->cq[id].head = v;
		nvme_update_intx(n);
	} else {
		n->sq[id].tail = v;
	}
	nvme_process(n);
}

/* --- registers --- */

static uint32_t reg_read(const struct nvme *n, unsigned int off)
{
	switch (off) {
	case CAP:
		return (uint32_t)CAP_VALUE;
	case CAP + 4:
		return (uint32_t)(CAP_VALUE >> 32);
	case VS:
		return 0x00010400;
	case INTMS:
	case INTMC:
		return n->intms;
	case CC:
		return n->cc;
	case CSTS:
		return n->csts;
	case AQA:
		return n->aqa;
	case ASQ:
		return (uint32_t)n->asq;
	case ASQ + 4:
		return (uint32_t)(n->asq >> 32);
	case ACQ:
		return (uint32_t)n->acq;
	case ACQ + 4:
		return (uint32_t)(n->acq >> 32);
	}
	return 0;
}

static void set_half(uint64_t *reg, bool high, uint32_t v)
{
	unsigned int shift = high ? 32 : 0;

	*reg = (*reg & ~(UINT64_C(0xffffffff) << shift)) | (uint64_t)v << shift;
	*reg &= ~(uint64_t)(NVME_PAGE - 1);
}

static void reg_write(struct nvme *n, unsigned int off, uint32_t v)
{
	switch (off) {
	case INTMS:
		n->intms |= v;
		break;
	case INTMC:
		n->intms &= ~v;
		break;
	case CC:
		write_cc(n, v);
		break;
	case AQA:
		n->aqa = v & 0x0fff0fff;
		break;
	case ASQ:
	case ASQ + 4:
		set_half(&n->asq, off == ASQ + 4, v);
		break;
	case ACQ:
	case ACQ + 4:
		set_half(&n->acq, off == ACQ + 4, v);
		break;
	}
	nvme_update_intx(n);
}

static uint64_t bar_read(void *opaque, uint64_t off, unsigned int size)
{
	struct nvme *n = opaque;

	if (off >= MSIX_TABLE)
		return pci_msix_read(&n->pci, off & 0xfff, size, off >= MSIX_PBA);
	if (size == 8)
		return reg_read(n, (unsigned int)off) | (uint64_t)reg_read(n, (unsigned int)off + 4)
							    << 32;
	return reg_read(n, (unsigned int)off);
}

static void bar_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct nvme *n = opaque;

	if (off >= MSIX_TABLE) {
		if (off < MSIX_PBA)
			pci_msix_write(&n->pci, off - MSIX_TABLE, size, value);
		return;
	}
	if (off >= DOORBELLS) {
		if ((off - DOORBELLS) / 4 < 2 * NVME_QUEUES)
			ring(n, (unsigned int)(off - DOORBELLS) / 4, (uint32_t)value);
		return;
	}
	reg_write(n, (unsigned int)off, (uint32_t)value);
	if (size == 8)
		reg_write(n, (unsigned int)off + 4, (uint32_t)(value >> 32));
}

static const struct bus_ops bar_ops = {.read = bar_read, .write = bar_write, .min = 4, .max = 8};

/* --- life --- */

static void nvme_reset(struct pci_dev *d)
{
	struct nvme *n = from_pci(d);

	controller_reset(n);
	n->cc = n->aqa = 0;
	n->asq = n->acq = 0;
}

static void nvme_free(struct pci_dev *d)
{
	struct nvme *n = from_pci(d);

	if (n->blk) {
		nvme_quiesce(n, true);
		blk_close(n->blk);
	}
	loop_unpost(n->loop, &n->finish);
	pthread_mutex_destroy(&n->done_lock);
	pci_dev_fini(d);
	free(n);
}

struct blk *nvme_exchange(struct pci_dev *d, struct blk *blk)
{
	struct nvme *n = from_pci(d);
	struct blk *old = n->blk;

	pthread_mutex_lock(&d->lock);
	n->blk = blk;
	pthread_mutex_unlock(&d->lock);
	return old;
}

/* --- saved state --- */

#define QUEUE_FIELD(kind, n, member)                                                               \
	{                                                                                          \
		.name = #kind #n "." #member, .offset = offsetof(struct nvme, kind[n].member),     \
		.size = sizeof(((struct nvme *)0)->kind[n].member), .count = 1, .since = 1,        \
		.is_bool = STATE_IS_BOOL(((struct nvme *)0)->kind[n].member)                       \
	}
#define QUEUE_FIELDS(n)                                                                            \
	QUEUE_FIELD(sq, n, base), QUEUE_FIELD(sq, n, size), QUEUE_FIELD(sq, n, head),              \
	    QUEUE_FIELD(sq, n, tail), QUEUE_FIELD(sq, n, cqid), QUEUE_FIELD(cq, n, base),          \
	    QUEUE_FIELD(cq, n, size), QUEUE_FIELD(cq, n, head), QUEUE_FIELD(cq, n, tail),          \
	    QUEUE_FIELD(cq, n, vector), QUEUE_FIELD(cq, n, phase), QUEUE_FIELD(cq, n, interrupts)

static const struct state_field nvme_fields[] = {
    STATE_FIELD(struct nvme, intms, 1),
    STATE_FIELD(struct nvme, cc, 1),
    STATE_FIELD(struct nvme, csts, 1),
    STATE_FIELD(struct nvme, aqa, 1),
    STATE_FIELD(struct nvme, asq, 1),
    STATE_FIELD(struct nvme, acq, 1),
    STATE_ARRAY(struct nvme, feature, 1),
    STATE_FIELD(struct nvme, n_events, 1),
    QUEUE_FIELDS(0),
    QUEUE_FIELDS(1),
    QUEUE_FIELDS(2),
    QUEUE_FIELDS(3),
    QUEUE_FIELDS(4),
    QUEUE_FIELDS(5),
    QUEUE_FIELDS(6),
    QUEUE_FIELDS(7),
    QUEUE_FIELDS(8),
};
_Static_assert(NVME_QUEUES == 9, "every queue is saved");

static bool is_sane(const struct nvme *n, unsigned int i)
{
	const uint32_t most = i ? NVME_ENTRIES : 4096;
	const struct nvme_sq *sq = &n->sq[i];
	const struct nvme_cq *cq = &n->cq[i];

	if (sq->size && (sq->size < 2 || sq->size > most || sq->head >= sq->size ||
			 sq->tail >= sq->size || sq->cqid >= NVME_QUEUES || !n->cq[sq->cqid].size))
		return false;
	return !cq->size || (cq->size >= 2 && cq->size <= most && cq->head < cq->size &&
			     cq->tail < cq->size && cq->vector < NVME_VECTORS);
}

/* What waited in the queues is looked at once more. */
static int nvme_loaded(void *opaque, struct err *e)
{
	struct nvme *n = opaque;

	for (unsigned int i = 0; i < NVME_QUEUES; i++) {
		n->cq[i].pledged = 0;
		if (!is_sane(n, i))
			return err_msg(e, -EINVAL,
				       "nvme: queue %u was saved with impossible values", i);
	}
	if (n->n_events > NVME_EVENTS)
		return err_msg(e, -EINVAL, "nvme: %u event requests were saved", n->n_events);
	nvme_update_intx(n);
	loop_post(n->loop, &n->finish);
	return 0;
}

static const struct state_table nvme_table = {
    .name = "nvme",
    .version = 1,
    .fields = nvme_fields,
    .n_fields = ARRAY_SIZE(nvme_fields),
    .loaded = nvme_loaded,
};

static void nvme_save(struct pci_dev *d, struct strbuf *out)
{
	struct nvme *n = from_pci(d);

	pthread_mutex_lock(&d->lock);
	nvme_quiesce(n, false);
	state_save(&nvme_table, n, out);
	pthread_mutex_unlock(&d->lock);
}

/* A queue that is refused must not be worked on. */
static int nvme_load(struct pci_dev *d, const void *data, size_t len, size_t *used, struct err *e)
{
	struct nvme *n = from_pci(d);
	int r;

	nvme_quiesce(n, true);
	r = state_load(&nvme_table, n, data, len, used, e);
	if (r < 0)
		controller_reset(n);
	return r;
}

static const struct pci_ops nvme_ops = {
    .reset = nvme_reset, .free = nvme_free, .save = nvme_save, .load = nvme_load};

int nvme_new(struct gmem *mem, struct loop *loop, struct blk *blk, const char *serial,
	     struct pci_dev **ret, struct err *e)
{
	struct nvme *n = xnew(struct nvme);
	struct pci_dev *d = &n->pci;
	int r;

	n->mem = mem;
	n->loop = loop;
	snprintf(n->serial, sizeof(n->serial), "%.20s", serial);
	pthread_mutex_init(&n->done_lock, NULL);
	list_init(&n->done);
	loop_work_init(&n->finish, nvme_finish_work, n);
	for (unsigned int i = 0; i < NVME_IN_FLIGHT; i++) {
		n->cmd[i].n = n;
		list_init(&n->cmd[i].node);
	}
	pci_dev_init(d, &nvme_ops, "nvme", 0x1b36, 0x0010, 0x01080202, 0x1af4, 0x1100);
	d->config[PCI_INTERRUPT_PIN] = 1;
	pci_add_bar(d, 0, BAR_SIZE, false, true, false, &bar_ops, n);
	r = pci_add_msix(d, NVME_VECTORS, 0, MSIX_TABLE, MSIX_PBA);
	if (r < 0) {
		nvme_free(d);
		return err_set(e, r, "make an NVMe disk");
	}
	n->blk = blk;
	controller_reset(n);
	*ret = d;
	return 0;
}
