/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/nvme_queue.c - submission and completion queues (NVM Express 1.4, 4.1, 4.6, 7.2)
 *
 * A command is taken from its queue only when one of ours is free for it and its completion queue
 * has room for the answer.  blk_done runs wherever the block layer finishes, so it takes only the
 * done list's lock; what it leaves there is ended in the loop's thread.
 */
#include "device/nvme_priv.h"

#include "base/log.h"

#define CSTS_CFS BIT(1)

void nvme_update_intx(struct nvme *n)
{
	bool level = false;

	for (unsigned int i = 0; i < NVME_QUEUES; i++)
		level |= n->cq[i].size && n->cq[i].interrupts && n->cq[i].head != n->cq[i].tail;
	pci_set_intx(&n->pci, level && !(n->intms & 1));
}

static void fail(struct nvme *n, const char *what)
{
	guest_warn("nvme: %s is not in memory: the controller stops", what);
	n->csts |= (uint32_t)CSTS_CFS;
}

/* --- completions --- */

/* The entry's last word has the phase, by which the driver sees that it is there. */
static void post(struct nvme *n, struct nvme_cq *q, const struct nvme_cmd *c, uint16_t status,
		 uint32_t dw0)
{
	uint64_t gpa = q->base + 16 * (uint64_t)q->tail;
	uint8_t entry[16] = {0};

	store_le32(entry, dw0);
	store_le16(entry + 8, (uint16_t)n->sq[c->sqid].head);
	store_le16(entry + 10, c->sqid);
	store_le16(entry + 12, c->sqe.cid);
	store_le16(entry + 14, (uint16_t)(status << 1 | q->phase));
	if (gmem_write(n->mem, gpa, entry, 12) < 0) {
		fail(n, "a completion queue");
		return;
	}
	__atomic_thread_fence(__ATOMIC_RELEASE);
	if (gmem_write(n->mem, gpa + 12, entry + 12, 4) < 0) {
		fail(n, "a completion queue");
		return;
	}
	if (++q->tail == q->size) {
		q->tail = 0;
		q->phase = !q->phase;
	}
	if (q->interrupts)
		pci_msix_notify(&n->pci, q->vector);
}

static void release(struct nvme_cmd *c)
{
	nvme_unmap(c, false);
	free(c->ranges);
	c->ranges = NULL;
	c->busy = false;
}

void nvme_complete(struct nvme_cmd *c, enum nvme_status status, uint32_t dw0)
{
	struct nvme *n = c->n;
	struct nvme_cq *q = &n->cq[n->sq[c->sqid].cqid];

	q->pledged--;
	post(n, q, c, (uint16_t)status, dw0);
	release(c);
	nvme_update_intx(n);
}

static void blk_done(struct blk_req *r, int result)
{
	struct nvme_cmd *c = container_of(r, struct nvme_cmd, req);
	struct nvme *n = c->n;
	bool first;

	c->result = result;
	pthread_mutex_lock(&n->done_lock);
	first = list_empty(&n->done);
	list_append(&n->done, &c->node);
	pthread_mutex_unlock(&n->done_lock);
	if (first)
		loop_post(n->loop, &n->finish);
}

void nvme_submit(struct nvme_cmd *c)
{
	c->req.done = blk_done;
	blk_submit(c->n->blk, &c->req);
}

static struct nvme_cmd *take_done(struct nvme *n)
{
	struct nvme_cmd *c = NULL;

	pthread_mutex_lock(&n->done_lock);
	if (!list_empty(&n->done)) {
		c = container_of(n->done.next, struct nvme_cmd, node);
		list_remove(&c->node);
	}
	pthread_mutex_unlock(&n->done_lock);
	return c;
}

static void finish(struct nvme *n)
{
	struct nvme_cmd *c;

	while ((c = take_done(n)) != NULL) {
		enum nvme_status status;

		if (c->sqid == NVME_NO_QUEUE) { /* the shutdown's flush: 3.1.6, SHST */
			n->csts = (n->csts & ~0xcu) | 2u << 2;
			release(c);
			continue;
		}
		status = nvme_io_done(c);
		if (status != NVME_PENDING)
			nvme_complete(c, status, 0);
	}
}

void nvme_finish_work(void *opaque)
{
	struct nvme *n = opaque;

	pthread_mutex_lock(&n->pci.lock);
	finish(n);
	nvme_process(n);
	pthread_mutex_unlock(&n->pci.lock);
}

void nvme_quiesce(struct nvme *n, bool forget)
{
	do {
		blk_drain(n->blk);
		if (forget)
			for (struct nvme_cmd *c; (c = take_done(n)) != NULL;) {
				nvme_unmap(c, c->req.op == BLK_READ);
				release(c);
			}
		else
			finish(n);
	} while (n->blk->in_flight);
}

/* --- submissions --- */

struct nvme_cmd *nvme_take_cmd(struct nvme *n, uint16_t sqid)
{
	for (unsigned int i = 0; i < NVME_IN_FLIGHT; i++) {
		struct nvme_cmd *c = &n->cmd[i];

		if (c->busy)
			continue;
		c->busy = true;
		c->sqid = sqid;
		return c;
	}
	return NULL;
}

/* One entry is always left free: a full ring would look like an empty one. */
static bool has_room(const struct nvme_cq *q)
{
	return (q->tail + q->size - q->head) % q->size + q->pledged + 1 < q->size;
}

/* False: nothing was taken. */
static bool take_one(struct nvme *n, uint16_t sqid)
{
	struct nvme_sq *q = &n->sq[sqid];
	struct nvme_cq *cq = &n->cq[q->cqid];
	enum nvme_status status;
	struct nvme_cmd *c;
	uint32_t dw0 = 0;

	if (!q->size || q->head == q->tail || !has_room(cq) || (n->csts & CSTS_CFS))
		return false;
	c = nvme_take_cmd(n, sqid);
	if (!c)
		return false;
	if (gmem_read(n->mem, q->base + 64 * (uint64_t)q->head, &c->sqe, sizeof(c->sqe)) < 0) {
		release(c);
		fail(n, "a submission queue");
		return false;
	}
	q->head = (q->head + 1) % q->size;
	cq->pledged++;
	/* Fused operations and scatter lists are not offered (Identify, FUSES and SGLS). */
	if (c->sqe.flags)
		status = NVME_BAD_FIELD;
	else
		status = sqid ? nvme_io(c) : nvme_admin(c, &dw0);
	if (status != NVME_PENDING)
		nvme_complete(c, status, dw0);
	return true;
}

/* Round robin, one command a queue; ends, as what the doorbells promised is finite. */
void nvme_process(struct nvme *n)
{
	bool more = true;

	while (more && (n->csts & 1) && pci_dma_enabled(&n->pci)) {
		more = false;
		for (uint16_t i = 0; i < NVME_QUEUES; i++)
			more |= take_one(n, i);
	}
}
