/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/ahci.c - the AHCI controller: registers, ports, interrupts, life (AHCI 1.3.1, 3)
 */
#include "device/ahci_priv.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>

#define BAR_SIZE  4096u
#define PORT_BASE 0x100u
#define PORT_SIZE 0x80u

enum { HBA_CAP = 0x00, HBA_GHC = 0x04, HBA_IS = 0x08, HBA_PI = 0x0c, HBA_VS = 0x10 };
#define GHC_HR BIT(0)
#define GHC_IE BIT(1)
#define GHC_AE BIT(31)

/* Six ports, 32 slots, queueing, 64-bit addresses, 3 Gbit/s, AHCI only. */
#define CAP_VALUE                                                                                  \
	(uint32_t)((AHCI_PORTS - 1) | 31u << 8 | BIT(18) | 2u << 20 | BIT(24) | BIT(30) | BIT(31))

enum {
	PX_CLB = 0x00,
	PX_CLBU = 0x04,
	PX_FB = 0x08,
	PX_FBU = 0x0c,
	PX_IS = 0x10,
	PX_IE = 0x14,
	PX_CMD = 0x18,
	PX_TFD = 0x20,
	PX_SIG = 0x24,
	PX_SSTS = 0x28,
	PX_SCTL = 0x2c,
	PX_SERR = 0x30,
	PX_SACT = 0x34,
	PX_CI = 0x38,
};
#define CMD_ST       BIT(0)
#define CMD_CLO      BIT(3)
#define CMD_FRE      BIT(4)
#define CMD_FR       BIT(14)
#define CMD_CR       BIT(15)
#define CMD_WRITABLE 0xff000017u
#define IE_MASK      0xfdc000ffu
#define IS_PCS       BIT(6)
#define SSTS_ACTIVE  0x123u /* device there, 3 Gbit/s, active */

static struct ahci *from_pci(struct pci_dev *d)
{
	return container_of(d, struct ahci, pci);
}

/* --- interrupts --- */

static void update_irq(struct ahci *a)
{
	for (unsigned int i = 0; i < AHCI_PORTS; i++)
		if (a->port[i].is & a->port[i].ie)
			a->is |= 1u << i;
	pci_set_intx(&a->pci, (a->ghc & GHC_IE) && a->is);
}

void ahci_port_irq(struct port *p, uint32_t bits)
{
	p->is |= bits;
	update_irq(p->ahci);
}

/* --- resets --- */

static void port_link_up(struct port *p)
{
	p->ssts = p->present ? SSTS_ACTIVE : 0;
	p->tfd = p->present ? ATA_OK | 0x0100 : 0x7f;
	p->sig = !p->present ? UINT32_MAX : p->cdrom ? 0xeb140101 : 0x00000101;
}

/* COMRESET. */
static void port_reset_link(struct port *p)
{
	ahci_stop(p);
	p->soft_reset = 0;
	p->multiple = 0;
	p->serr = 0;
	if (p->cdrom)
		atapi_reset(p);
	port_link_up(p);
}

static void port_reset(struct port *p)
{
	p->clb = p->clbu = p->fb = p->fbu = p->is = p->ie = p->sctl = p->sact = p->ci = 0;
	p->cmd = 0x6; /* spun up, powered: fixed */
	port_reset_link(p);
}

static void controller_reset(struct ahci *a)
{
	a->is = 0;
	a->ghc = (uint32_t)GHC_AE;
	for (unsigned int i = 0; i < AHCI_PORTS; i++)
		port_reset(&a->port[i]);
	update_irq(a);
}

/* --- a port's registers --- */

static uint32_t port_read(const struct port *p, unsigned int off)
{
	switch (off) {
	case PX_CLB:
		return p->clb;
	case PX_CLBU:
		return p->clbu;
	case PX_FB:
		return p->fb;
	case PX_FBU:
		return p->fbu;
	case PX_IS:
		return p->is;
	case PX_IE:
		return p->ie;
	case PX_CMD:
		return p->cmd;
	case PX_TFD:
		return p->tfd;
	case PX_SIG:
		return p->sig;
	case PX_SSTS:
		return p->ssts;
	case PX_SCTL:
		return p->sctl;
	case PX_SERR:
		return p->serr;
	case PX_SACT:
		return p->sact;
	case PX_CI:
		return p->ci;
	}
	return 0;
}

static void write_cmd(struct port *p, uint32_t v)
{
	uint32_t was = p->cmd;

	p->cmd = (v & CMD_WRITABLE & ~(uint32_t)CMD_CLO) | 0x6;
	if (v & CMD_CLO)
		p->tfd &= ~(uint32_t)(ATA_BSY | ATA_DRQ);
	if ((was & CMD_ST) && !(p->cmd & CMD_ST)) {
		ahci_stop(p);
		p->ci = p->sact = 0;
		p->tfd &= ~(uint32_t)(ATA_BSY | ATA_DRQ);
	}
	if (p->cmd & CMD_FRE)
		p->cmd |= (uint32_t)CMD_FR;
	if (p->cmd & CMD_ST)
		p->cmd |= (uint32_t)CMD_CR;
	if (!(was & CMD_FRE) && (p->cmd & CMD_FRE) && p->present)
		ahci_post_signature(p);
	p->cmd = (p->cmd & ~0x1f00u); /* no slot is the current one */
}

static void write_sctl(struct port *p, uint32_t v)
{
	bool was = (p->sctl & 15) == 1;

	p->sctl = v & 0xfff;
	if ((v & 15) == 1) {
		ahci_stop(p);
		p->ssts = 0;
		p->tfd = 0x7f;
	} else if (was) {
		port_reset_link(p);
		if (p->present && (p->cmd & CMD_FRE))
			ahci_post_signature(p);
	} else if ((v & 15) == 4) {
		p->ssts = 4; /* off-line */
	}
}

static void port_write(struct port *p, unsigned int off, uint32_t v)
{
	switch (off) {
	case PX_CLB:
		p->clb = v & ~0x3ffu;
		break;
	case PX_CLBU:
		p->clbu = v;
		break;
	case PX_FB:
		p->fb = v & ~0xffu;
		break;
	case PX_FBU:
		p->fbu = v;
		break;
	case PX_IS:
		p->is &= ~v;
		break;
	case PX_IE:
		p->ie = v & IE_MASK;
		break;
	case PX_CMD:
		write_cmd(p, v);
		break;
	case PX_SCTL:
		write_sctl(p, v);
		break;
	case PX_SERR:
		p->serr &= ~v;
		break;
	case PX_SACT:
		if (p->cmd & CMD_ST)
			p->sact |= v;
		break;
	case PX_CI:
		if ((p->cmd & CMD_ST) && p->present) {
			v &= ~p->ci;
			p->ci |= v;
			ahci_start(p, v);
		}
		break;
	}
	update_irq(p->ahci);
}

/* --- the controller's --- */

static uint64_t bar_read(void *opaque, uint64_t off, unsigned int size)
{
	struct ahci *a = opaque;

	if (off >= PORT_BASE && off < PORT_BASE + AHCI_PORTS * PORT_SIZE)
		return port_read(&a->port[(off - PORT_BASE) / PORT_SIZE], off % PORT_SIZE);
	switch (off) {
	case HBA_CAP:
		return CAP_VALUE;
	case HBA_GHC:
		return a->ghc;
	case HBA_IS:
		return a->is;
	case HBA_PI:
		return (1u << AHCI_PORTS) - 1;
	case HBA_VS:
		return 0x00010301;
	}
	return 0;
}

static void bar_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct ahci *a = opaque;
	uint32_t v = (uint32_t)value;

	if (off >= PORT_BASE && off < PORT_BASE + AHCI_PORTS * PORT_SIZE) {
		port_write(&a->port[(off - PORT_BASE) / PORT_SIZE], off % PORT_SIZE, v);
		return;
	}
	if (off == HBA_GHC && (v & GHC_HR))
		controller_reset(a);
	else if (off == HBA_GHC)
		a->ghc = (uint32_t)(GHC_AE | (v & GHC_IE));
	else if (off == HBA_IS)
		a->is &= ~v;
	update_irq(a);
}

static const struct bus_ops bar_ops = {.read = bar_read, .write = bar_write, .min = 4, .max = 4};

/* --- life --- */

static void ahci_reset(struct pci_dev *d)
{
	controller_reset(from_pci(d));
}

static void ahci_free(struct pci_dev *d)
{
	struct ahci *a = from_pci(d);

	for (unsigned int i = 0; i < AHCI_PORTS; i++) {
		ahci_stop(&a->port[i]);
		if (a->port[i].blk)
			blk_close(a->port[i].blk);
	}
	loop_unpost(a->loop, &a->finish);
	pthread_mutex_destroy(&a->done_lock);
	pci_dev_fini(d);
	free(a);
}

/* --- saved state --- */

#define PORT_FIELD(n, member)                                                                      \
	{                                                                                          \
		.name = "port" #n "." #member, .offset = offsetof(struct ahci, port[n].member),    \
		.size = sizeof(((struct port *)0)->member), .count = 1, .since = 1,                \
		.is_bool = STATE_IS_BOOL(((struct port *)0)->member)                               \
	}
#define PORT_FIELDS(n)                                                                             \
	PORT_FIELD(n, clb), PORT_FIELD(n, clbu), PORT_FIELD(n, fb), PORT_FIELD(n, fbu),            \
	    PORT_FIELD(n, is), PORT_FIELD(n, ie), PORT_FIELD(n, cmd), PORT_FIELD(n, tfd),          \
	    PORT_FIELD(n, sig), PORT_FIELD(n, ssts), PORT_FIELD(n, sctl), PORT_FIELD(n, serr),     \
	    PORT_FIELD(n, sact), PORT_FIELD(n, ci), PORT_FIELD(n, soft_reset),                     \
	    PORT_FIELD(n, multiple), PORT_FIELD(n, error_tag), PORT_FIELD(n, sense_key),           \
	    PORT_FIELD(n, asc), PORT_FIELD(n, ascq), PORT_FIELD(n, attention),                     \
	    PORT_FIELD(n, event), PORT_FIELD(n, locked), PORT_FIELD(n, ejected),                   \
	    PORT_FIELD(n, asked)

static const struct state_field ahci_fields[] = {
    STATE_FIELD(struct ahci, ghc, 1),
    STATE_FIELD(struct ahci, is, 1),
    PORT_FIELDS(0),
    PORT_FIELDS(1),
    PORT_FIELDS(2),
    PORT_FIELDS(3),
    PORT_FIELDS(4),
    PORT_FIELDS(5),
};
_Static_assert(AHCI_PORTS == 6, "every port is saved");

static int ahci_loaded(void *opaque, struct err *e)
{
	struct ahci *a = opaque;

	for (unsigned int i = 0; i < AHCI_PORTS; i++) {
		struct port *p = &a->port[i];

		if (!p->present && (p->ssts || p->sig != UINT32_MAX))
			return err_msg(e, -EINVAL, "ahci: port %u was saved with a drive", i);
	}
	update_irq(a);
	return 0;
}

static const struct state_table ahci_table = {
    .name = "ahci",
    .version = 1,
    .fields = ahci_fields,
    .n_fields = ARRAY_SIZE(ahci_fields),
    .loaded = ahci_loaded,
};

static void ahci_save(struct pci_dev *d, struct strbuf *out)
{
	struct ahci *a = from_pci(d);

	ahci_quiesce(a);
	pthread_mutex_lock(&d->lock);
	state_save(&ahci_table, a, out);
	pthread_mutex_unlock(&d->lock);
}

static int ahci_load(struct pci_dev *d, const void *data, size_t len, size_t *used, struct err *e)
{
	return state_load(&ahci_table, from_pci(d), data, len, used, e);
}

static const struct pci_ops ahci_ops = {
    .reset = ahci_reset, .free = ahci_free, .save = ahci_save, .load = ahci_load};

static void port_init(struct ahci *a, unsigned int n)
{
	struct port *p = &a->port[n];

	p->ahci = a;
	p->index = (uint8_t)n;
	for (unsigned int i = 0; i < AHCI_SLOTS; i++) {
		p->slot[i].port = p;
		p->slot[i].number = (uint8_t)i;
		list_init(&p->slot[i].node);
	}
	port_reset(p);
}

int ahci_new(struct gmem *mem, struct loop *loop, struct pci_dev **ret)
{
	struct ahci *a = calloc(1, sizeof(*a));
	struct pci_dev *d;

	if (!a)
		return -ENOMEM;
	d = &a->pci;
	a->mem = mem;
	a->loop = loop;
	pthread_mutex_init(&a->done_lock, NULL);
	list_init(&a->done);
	loop_work_init(&a->finish, ahci_finish_work, a);
	pci_dev_init(d, &ahci_ops, "ahci", 0x8086, 0x2922, 0x01060102, 0x1af4, 0x1100);
	d->config[PCI_INTERRUPT_PIN] = 1;
	d->config[0x90] = 0x40; /* MAP: the ports are AHCI's */
	pci_add_bar(d, 5, BAR_SIZE, false, false, false, &bar_ops, a);
	for (unsigned int i = 0; i < AHCI_PORTS; i++)
		port_init(a, i);
	a->ghc = (uint32_t)GHC_AE;
	*ret = d;
	return 0;
}

static struct port *add_drive(struct pci_dev *d, unsigned int port, struct blk *blk)
{
	struct port *p = &from_pci(d)->port[port];

	p->present = true;
	p->blk = blk;
	snprintf(p->serial, sizeof(p->serial), "INSULA%u", port);
	return p;
}

void ahci_add_disk(struct pci_dev *d, unsigned int port, struct blk *blk, const char *serial)
{
	struct port *p = add_drive(d, port, blk);

	if (serial)
		snprintf(p->serial, sizeof(p->serial), "%.20s", serial);
	port_link_up(p);
}

void ahci_add_cdrom(struct pci_dev *d, unsigned int port, struct blk *blk)
{
	struct port *p = add_drive(d, port, blk);

	p->cdrom = true;
	port_link_up(p);
}

int ahci_change_disc(struct pci_dev *d, unsigned int port, struct blk *blk, bool force,
		     struct err *e)
{
	struct port *p = port < AHCI_PORTS ? &from_pci(d)->port[port] : NULL;
	struct blk *old = NULL;
	int r = 0;

	pthread_mutex_lock(&d->lock);
	if (!p || !p->cdrom) {
		r = err_msg(e, -ENODEV, "there is no CD-ROM drive %u", port);
	} else if (p->locked && !force) {
		p->asked = p->event = true;
		r = err_msg(e, -EBUSY, "the guest has locked drive %u: it was asked to open it",
			    port);
	} else {
		if (p->blk)
			blk_drain(p->blk);
		old = p->blk;
		p->blk = blk;
		p->locked = p->asked = false;
		p->ejected = !blk;
		p->attention = p->event = true;
	}
	pthread_mutex_unlock(&d->lock);
	/* Requests that were in flight are in the done list, and need the disc no more. */
	if (old)
		blk_close(old);
	return r;
}

struct blk *ahci_exchange(struct pci_dev *d, unsigned int port, struct blk *blk)
{
	struct port *p = &from_pci(d)->port[port];
	struct blk *old = p->blk;

	pthread_mutex_lock(&d->lock);
	p->blk = blk;
	pthread_mutex_unlock(&d->lock);
	return old;
}
