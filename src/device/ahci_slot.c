/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/ahci_slot.c - command slots: from the command header to the FIS that ends it (AHCI 1.3.1,
 * 4 and 5)
 *
 * Everything in the guest's memory is read once.  blk_done runs wherever the block layer finishes,
 * so it takes only the done list's lock; what it leaves there is ended in the loop's thread.
 */
#include "device/ahci_priv.h"

#include "base/log.h"

#include <errno.h>

#define FIS_H2D     0x27
#define FIS_D2H     0x34
#define FIS_PIO     0x5f
#define FIS_SDB     0xa1
#define FIS_COMMAND 0x80 /* byte 1: the command register was written */
#define FIS_IRQ     0x40
#define CTL_SRST    0x04

#define RX_PIO 0x20u
#define RX_D2H 0x40u
#define RX_SDB 0x58u

#define IS_DHRS BIT(0)
#define IS_PSS  BIT(1)
#define IS_SDBS BIT(3)
#define IS_TFES BIT(30)

#define CMD_FRE    BIT(4)
#define ROOM_LIMIT (1u << 30)

static uint64_t join(uint32_t low, uint32_t high)
{
	return (uint64_t)high << 32 | low;
}

/* --- FISes to the guest --- */

static void post_fis(struct port *p, uint32_t where, const void *fis, size_t len)
{
	/* A receive area outside of memory loses them, as its owner asked for. */
	if ((p->cmd & CMD_FRE) && gmem_write(p->ahci->mem, join(p->fb, p->fbu) + where, fis, len))
		guest_warn("ahci: port %u receives its FISes nowhere", p->index);
}

static void post_d2h(struct port *p, const uint8_t fis[20], uint8_t status, uint8_t error)
{
	uint8_t d2h[20] = {FIS_D2H, FIS_IRQ, status, error};

	memcpy(d2h + 4, fis + 4, 3);
	d2h[7] = fis[7];
	memcpy(d2h + 8, fis + 8, 3);
	d2h[12] = fis[12];
	d2h[13] = fis[13];
	p->tfd = status | (uint32_t)error << 8;
	post_fis(p, RX_D2H, d2h, sizeof(d2h));
}

void ahci_post_signature(struct port *p)
{
	uint8_t fis[20] = {0};

	fis[4] = fis[12] = 1;
	if (p->cdrom) {
		fis[5] = 0x14;
		fis[6] = 0xeb;
	}
	post_d2h(p, fis, ATA_OK, 1);
}

/* --- the scatter list --- */

static void slot_unmap(struct slot *s)
{
	free(s->iov);
	free(s->gpa);
	free(s->own);
	s->iov = NULL;
	s->gpa = NULL;
	s->own = NULL;
	s->n_iov = 0;
	s->room = 0;
}

/* @to_guest: it will be written, so it must not be ROM. */
static bool slot_map(struct slot *s, bool to_guest)
{
	struct gmem *m = s->port->ahci->mem;
	unsigned int n = MIN(s->n_prd, AHCI_PRD_MAX);

	slot_unmap(s);
	if (!n)
		return true;
	s->iov = calloc(n, sizeof(*s->iov));
	s->gpa = calloc(n, sizeof(*s->gpa));
	if (!s->iov || !s->gpa)
		return false;
	for (unsigned int i = 0; i < n && s->room < ROOM_LIMIT; i++) {
		const struct gmem_slot *where;
		uint8_t prd[16];
		uint64_t gpa;
		uint32_t len;
		void *p;

		if (gmem_read(m, s->table + 0x80 + 16 * (uint64_t)i, prd, sizeof(prd)) < 0)
			return false;
		gpa = load_le64(prd) & ~UINT64_C(1);
		len = (load_le32(prd + 12) & 0x3fffff) + 1;
		p = gmem_ptr(m, gpa, len);
		where = gmem_slot(m, gpa);
		if (!p || !where || (to_guest && (where->flags & GMEM_ROM)))
			return false;
		s->gpa[s->n_iov] = gpa;
		s->iov[s->n_iov++] = (struct iovec){p, len};
		s->room += len;
	}
	return true;
}

/* The first @len bytes only. */
static void slot_cut(struct slot *s, uint64_t len)
{
	unsigned int n = 0;

	for (; n < s->n_iov && len; n++) {
		s->iov[n].iov_len = MIN(s->iov[n].iov_len, (size_t)len);
		len -= s->iov[n].iov_len;
	}
	s->n_iov = n;
}

static void told_dirty(struct slot *s)
{
	for (unsigned int i = 0; i < s->n_iov; i++)
		gmem_dirty(s->port->ahci->mem, s->gpa[i], s->iov[i].iov_len);
}

static bool slot_copy(struct slot *s, void *data, uint32_t len, bool to_guest)
{
	uint8_t *p = data;

	if (!slot_map(s, to_guest))
		return false;
	slot_cut(s, MIN(len, s->room));
	for (unsigned int i = 0; i < s->n_iov; i++) {
		if (to_guest)
			memcpy(s->iov[i].iov_base, p, s->iov[i].iov_len);
		else
			memcpy(p, s->iov[i].iov_base, s->iov[i].iov_len);
		p += s->iov[i].iov_len;
	}
	s->transferred = (uint32_t)(p - (uint8_t *)data);
	if (to_guest)
		told_dirty(s);
	s->n_iov = 0; /* told already */
	return true;
}

bool slot_copy_out(struct slot *s, const void *data, uint32_t len)
{
	return slot_copy(s, (void *)(uintptr_t)data, len, true);
}

bool slot_copy_in(struct slot *s, void *data, uint32_t len)
{
	return slot_copy(s, data, len, false) && s->transferred == len;
}

/* --- requests to the medium --- */

static void blk_done(struct blk_req *r, int result)
{
	struct slot *s = container_of(r, struct slot, req);
	struct ahci *a = s->port->ahci;
	bool first;

	s->result = result;
	pthread_mutex_lock(&a->done_lock);
	first = list_empty(&a->done);
	list_append(&a->done, &s->node);
	pthread_mutex_unlock(&a->done_lock);
	if (first)
		loop_post(a->loop, &a->finish);
}

void slot_submit(struct slot *s)
{
	s->busy = true;
	s->req.done = blk_done;
	blk_submit(s->port->blk, &s->req);
}

bool slot_transfer(struct slot *s, enum blk_op op, uint64_t offset, uint64_t len,
		   unsigned int flags)
{
	if (len > AHCI_BYTES_MAX || !slot_map(s, op == BLK_READ) || s->room < len)
		return false;
	slot_cut(s, len);
	s->write = op == BLK_WRITE;
	s->transferred = (uint32_t)len;
	s->req = (struct blk_req){
	    .op = op,
	    .flags = flags,
	    .offset = offset,
	    .len = len,
	    .iov = s->iov,
	    .n_iov = s->n_iov,
	};
	slot_submit(s);
	return true;
}

/* --- the end --- */

static void end_queued(struct slot *s, uint8_t status, uint8_t error)
{
	struct port *p = s->port;
	uint32_t bit = 1u << s->number;
	uint8_t sdb[8] = {FIS_SDB, FIS_IRQ, status & 0x77, error};

	if (!(status & ATA_ERR)) {
		store_le32(sdb + 4, bit);
		p->sact &= ~bit;
	} else {
		p->error_tag = s->number;
	}
	p->tfd = (p->tfd & ATA_BSY) | (status & 0x77) | (uint32_t)error << 8;
	post_fis(p, RX_SDB, sdb, sizeof(sdb));
	ahci_port_irq(p, (uint32_t)(IS_SDBS | (status & ATA_ERR ? IS_TFES : 0)));
}

/* A PIO read ends with the setup of its last block, any other command with the registers. */
static void end_plain(struct slot *s, uint8_t status, uint8_t error)
{
	struct port *p = s->port;
	uint8_t pio[20] = {FIS_PIO, FIS_IRQ | 0x20, status};

	if (!(status & ATA_ERR))
		p->ci &= ~(1u << s->number);
	if (s->pio && !(status & ATA_ERR)) {
		memcpy(pio + 4, s->fis + 4, 10);
		pio[15] = status;
		store_le16(pio + 16, (uint16_t)s->transferred);
		p->tfd = status;
		post_fis(p, RX_PIO, pio, sizeof(pio));
		ahci_port_irq(p, (uint32_t)IS_PSS);
		return;
	}
	post_d2h(p, s->fis, status, error);
	ahci_port_irq(p, (uint32_t)(IS_DHRS | (status & ATA_ERR ? IS_TFES : 0)));
}

void slot_end(struct slot *s, uint8_t status, uint8_t error)
{
	struct port *p = s->port;
	uint8_t count[4];

	if (!s->write)
		told_dirty(s);
	slot_unmap(s);
	s->busy = false;
	/* Queued commands leave the byte count alone (5.4.1). */
	store_le32(count, s->transferred);
	if (!s->ncq && gmem_write(p->ahci->mem, join(p->clb, p->clbu) + 32u * s->number + 4, count,
				  sizeof(count)))
		guest_warn("ahci: port %u has its command list nowhere", p->index);
	if (s->ncq)
		end_queued(s, status, error);
	else
		end_plain(s, status, error);
}

static struct slot *take_done(struct ahci *a)
{
	struct slot *s = NULL;

	pthread_mutex_lock(&a->done_lock);
	if (!list_empty(&a->done)) {
		s = container_of(a->done.next, struct slot, node);
		list_remove(&s->node);
	}
	pthread_mutex_unlock(&a->done_lock);
	return s;
}

void ahci_finish_work(void *opaque)
{
	struct ahci *a = opaque;
	struct slot *s;

	pthread_mutex_lock(&a->pci.lock);
	while ((s = take_done(a)) != NULL) {
		if (s->port->cdrom)
			atapi_done(s);
		else
			ata_done(s);
	}
	pthread_mutex_unlock(&a->pci.lock);
}

/* A command's end may be the next one's beginning. */
void ahci_quiesce(struct ahci *a)
{
	bool busy;

	do {
		busy = false;
		for (unsigned int i = 0; i < AHCI_PORTS; i++)
			if (a->port[i].blk)
				blk_drain(a->port[i].blk);
		ahci_finish_work(a);
		for (unsigned int i = 0; i < AHCI_PORTS; i++)
			for (unsigned int k = 0; k < AHCI_SLOTS; k++)
				busy |= a->port[i].slot[k].busy;
	} while (busy);
}

/* Requests of other ports that are done meanwhile stay in the list. */
static void forget_done(struct port *p)
{
	struct ahci *a = p->ahci;

	pthread_mutex_lock(&a->done_lock);
	for (unsigned int i = 0; i < AHCI_SLOTS; i++)
		if (p->slot[i].busy)
			list_remove(&p->slot[i].node);
	pthread_mutex_unlock(&a->done_lock);
}

void ahci_stop(struct port *p)
{
	if (p->blk)
		blk_drain(p->blk);
	forget_done(p);
	for (unsigned int i = 0; i < AHCI_SLOTS; i++) {
		struct slot *s = &p->slot[i];

		if (s->busy && !s->write)
			told_dirty(s);
		s->busy = false;
		slot_unmap(s);
	}
}

/* --- the start --- */

/* Software reset: SRST on, then off; the second one answers with the signature. */
static void control_fis(struct slot *s)
{
	struct port *p = s->port;
	bool srst = s->fis[15] & CTL_SRST;

	p->ci &= ~(1u << s->number);
	if (p->soft_reset && !srst) {
		if (p->cdrom)
			atapi_reset(p);
		ahci_post_signature(p);
		ahci_port_irq(p, (uint32_t)IS_DHRS);
	}
	p->soft_reset = srst;
}

/* False: what the guest says is not to be read. */
static bool read_command(struct slot *s)
{
	struct port *p = s->port;
	struct gmem *m = p->ahci->mem;
	uint8_t head[32];

	if (gmem_read(m, join(p->clb, p->clbu) + 32u * s->number, head, sizeof(head)) < 0)
		return false;
	s->table = join(load_le32(head + 8) & ~0x7fu, load_le32(head + 12));
	s->n_prd = load_le16(head + 2);
	s->atapi = head[0] & 0x20;
	s->ncq = s->write = s->pio = false;
	s->transferred = 0;
	return gmem_read(m, s->table, s->fis, sizeof(s->fis)) == 0 &&
	       gmem_read(m, s->table + 0x40, s->packet, sizeof(s->packet)) == 0;
}

static void start_one(struct slot *s)
{
	struct port *p = s->port;

	if (!read_command(s)) {
		memset(s->fis, 0, sizeof(s->fis));
		slot_end(s, ATA_FAIL, ATA_ABRT);
		return;
	}
	if (s->fis[0] != FIS_H2D) {
		slot_end(s, ATA_FAIL, ATA_ABRT);
		return;
	}
	if (!(s->fis[1] & FIS_COMMAND)) {
		control_fis(s);
		return;
	}
	if (p->cdrom)
		atapi_command(s);
	else
		ata_command(s);
}

void ahci_start(struct port *p, uint32_t slots)
{
	for (unsigned int i = 0; i < AHCI_SLOTS; i++)
		if ((slots >> i & 1) && !p->slot[i].busy)
			start_one(&p->slot[i]);
}
