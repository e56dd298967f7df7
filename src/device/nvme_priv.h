/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/nvme_priv.h - between the NVMe controller's registers, queues, admin and I/O commands
 */
#pragma once

#include "device/nvme.h"

#define NVME_PAGE      4096u
#define NVME_QUEUES    (NVME_IO_QUEUES + 1) /* number 0 is the admin queue */
#define NVME_VECTORS   NVME_QUEUES
#define NVME_IN_FLIGHT 128u /* commands that are being done */
#define NVME_MDTS      7u   /* 2^7 pages a command at most */
#define NVME_RANGES    256u /* of a Dataset Management command */
#define NVME_EVENTS    4u   /* Asynchronous Event Requests that wait */
#define NVME_FEATURES  12u
#define NVME_NO_QUEUE  0xffffu

/* Status: type << 8 | code, DNR as bit 14 (4.6.1) */
enum nvme_status {
	NVME_OK = 0x000,
	NVME_BAD_OPCODE = 0x4001,
	NVME_BAD_FIELD = 0x4002,
	NVME_DATA_ERROR = 0x0004, /* data transfer */
	NVME_INTERNAL = 0x0006,
	NVME_BAD_NAMESPACE = 0x400b,
	NVME_BAD_PRP = 0x4013,
	NVME_LBA_RANGE = 0x4080,
	NVME_BAD_CQ = 0x4100,
	NVME_BAD_QID = 0x4101,
	NVME_BAD_QUEUE_SIZE = 0x4102,
	NVME_TOO_MANY_EVENTS = 0x4105,
	NVME_BAD_VECTOR = 0x4108,
	NVME_BAD_LOG = 0x4109,
	NVME_QUEUE_DELETION = 0x410c,
	NVME_READ_ONLY = 0x4182,
	NVME_WRITE_FAULT = 0x0280,
	NVME_READ_ERROR = 0x0281,
	NVME_PENDING = 0xffff, /* not over: a request is in flight */
};

/* A submission queue entry (4.2), read once. */
struct nvme_sqe {
	uint8_t opcode, flags;
	uint16_t cid;
	uint32_t nsid, cdw2, cdw3;
	uint64_t mptr, prp1, prp2;
	uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};
_Static_assert(sizeof(struct nvme_sqe) == 64, "4.2");

struct nvme;

struct nvme_cmd {
	struct nvme *n;
	bool busy;
	uint16_t sqid; /* NVME_NO_QUEUE: the flush of a shutdown */
	struct nvme_sqe sqe;
	struct list node; /* of the done list */
	struct blk_req req;
	int result;
	/* The guest's memory; made for commands that move data. */
	struct iovec *iov;
	uint64_t *gpa;
	unsigned int n_iov;
	/* Dataset Management: what is still to be deallocated. */
	uint8_t *ranges;
	unsigned int range, n_ranges;
};

struct nvme_sq {
	uint64_t base; /* gpa */
	uint32_t size; /* entries; 0 = there is no such queue */
	uint32_t head, tail;
	uint16_t cqid;
};

struct nvme_cq {
	uint64_t base;
	uint32_t size, head, tail;
	uint32_t pledged; /* entries that commands in flight will need */
	uint16_t vector;
	bool phase, interrupts;
};

struct nvme {
	struct pci_dev pci;
	struct gmem *mem;
	struct loop *loop;
	struct blk *blk;
	char serial[21];
	/* registers (3.1) */
	uint32_t intms, cc, csts, aqa;
	uint64_t asq, acq;
	uint32_t feature[NVME_FEATURES];
	struct nvme_sq sq[NVME_QUEUES];
	struct nvme_cq cq[NVME_QUEUES];
	unsigned int n_events; /* Asynchronous Event Requests; nothing of ours answers them */
	struct nvme_cmd cmd[NVME_IN_FLIGHT];
	pthread_mutex_t done_lock;
	struct list done;
	struct loop_work finish;
};

enum { FEATURE_WRITE_CACHE = 0x06, FEATURE_QUEUES = 0x07 };

/* --- nvme_queue.c --- */

/* Takes up what the doorbells of all queues promise, as far as there is room. */
void nvme_process(struct nvme *n);
/* The command is over: an entry in its completion queue. */
void nvme_complete(struct nvme_cmd *c, enum nvme_status status, uint32_t dw0);
void nvme_update_intx(struct nvme *n);
void nvme_finish_work(void *nvme);
/* Waits for what is in flight; then ends it as usual, or forgets it. */
void nvme_quiesce(struct nvme *n, bool forget);
void nvme_submit(struct nvme_cmd *c); /* c->req is filled in */
/* A free one; NULL = none. */
struct nvme_cmd *nvme_take_cmd(struct nvme *n, uint16_t sqid);

/* --- nvme_prp.c --- */

/* The guest's memory of @len bytes as the PRPs say (4.3); @to_guest: it must not be ROM. */
must_check bool nvme_map(struct nvme_cmd *c, uint64_t len, bool to_guest);
/* @written: by us. */
void nvme_unmap(struct nvme_cmd *c, bool written);
must_check bool nvme_copy_out(struct nvme_cmd *c, const void *data, uint32_t len);
must_check bool nvme_copy_in(struct nvme_cmd *c, void *data, uint32_t len);

/* --- nvme_admin.c, nvme_io.c --- */
enum nvme_status nvme_admin(struct nvme_cmd *c, uint32_t *dw0);
enum nvme_status nvme_io(struct nvme_cmd *c);
/* A request is done: NVME_PENDING if another one follows. */
enum nvme_status nvme_io_done(struct nvme_cmd *c);
