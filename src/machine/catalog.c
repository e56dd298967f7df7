/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/catalog.c - the table of device models: from the description's entries to PCI functions
 *
 * The one place that names virtio device types.  Each row plugs every device of its kind that the
 * description asks for; slots are given in the table's order, so a description always makes the
 * same machine.
 */
#include "base/exit.h"
#include "base/fd_table.h"
#include "block/block.h"
#include "device/ahci.h"
#include "device/e1000.h"
#include "device/nvme.h"
#include "device/vga.h"
#include "machine/machine_priv.h"
#include "net/net.h"
#include "virtio/balloon.h"
#include "virtio/blk.h"
#include "virtio/console.h"
#include "virtio/fs.h"
#include "virtio/net.h"
#include "virtio/ninep.h"
#include "virtio/pci.h"
#include "virtio/rng.h"
#include "virtio/vsock.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

struct plugger {
	struct machine *m;
	const struct fd_table *given;
	unsigned int slot; /* the next one */
	unsigned int own;  /* instead of that, of the card being plugged; 0 = none */
};

static unsigned int slot_now(const struct plugger *p)
{
	return p->own ? p->own : p->slot;
}

/* A card whose slot the description names, or 0, is plugged next.  A removed one leaves its slot
 * empty: false. */
static bool take_slot(struct plugger *p, unsigned int slot, bool removed)
{
	p->own = slot;
	if (removed && !slot)
		p->slot++;
	return !removed;
}

/* Both take the device over, also on failure. */
static int plug_pci(struct plugger *p, struct pci_dev *d, struct err *e)
{
	int r;

	if (slot_now(p) >= MACHINE_SLOT_END)
		r = err_msg(e, -ENOSPC, "too many devices: all PCI slots are taken");
	else
		r = pci_plug(p->m->pci, d, slot_now(p) << 3, e);
	if (r < 0)
		d->ops->free(d);
	else if (!p->own)
		p->slot++;
	p->own = 0;
	return r;
}

static int plug(struct plugger *p, struct virtio_dev *d, struct err *e)
{
	struct pci_dev *pci;
	int r = virtio_pci_new(d, &pci, e);

	if (r < 0) {
		d->ops->free(d);
		return r;
	}
	return plug_pci(p, pci, e);
}

/* The function that is plugged in next. */
static void add_boot_device(struct plugger *p, enum vm_boot kind, const char *type,
			    const char *unit)
{
	autofree char *path = xasprintf("/pci@i0cf8/%s@%x/%s", type, slot_now(p), unit);

	machine_add_boot_device(p->m, kind, path);
}

/* blk_open names the disk itself.  A drive without a disc: NULL. */
static int open_disk(struct plugger *p, const struct vm_disk *k, struct blk **ret, struct err *e)
{
	struct blk_spec spec = {
	    .path = k->path,
	    .format = k->format,
	    .read_only = k->read_only,
	    .overlay = k->overlay,
	    .given = p->given,
	};

	int r;

	*ret = NULL;
	r = k->path ? blk_open(&spec, p->m->cfg.loop, ret, e) : 0;
	if (r == 0 && *ret)
		machine_limit_disk(*ret, k->rate);
	return r;
}

static int add_drive(struct plugger *p, struct pci_dev *ahci, unsigned int port,
		     const struct vm_disk *k, struct err *e)
{
	struct machine *m = p->m;
	struct blk *blk;
	char path[64];
	int r;

	if (port == AHCI_PORTS)
		return err_msg(e, -ENOSPC, "more than %d disks on AHCI", AHCI_PORTS);
	r = open_disk(p, k, &blk, e);
	if (r < 0)
		return r;
	if (k->cdrom) {
		ahci_add_cdrom(ahci, port, blk);
	} else {
		ahci_add_disk(ahci, port, blk, k->serial[0] ? k->serial : NULL);
		m->disks[k - m->desc->disks] = (struct machine_disk){.blk = blk, .port = port};
	}
	snprintf(path, sizeof(path), "/pci@i0cf8/pci8086,2922@1f,2/drive@%x/disk@0", port);
	machine_add_boot_device(m, k->cdrom ? VM_BOOT_CDROM : VM_BOOT_DISK, path);
	return 0;
}

/* Disks and CD-ROM drives on the SATA controller, which is there when one of them is. */
static int plug_ahci(struct plugger *p, struct err *e)
{
	const struct vm_desc *desc = p->m->desc;
	struct pci_dev *ahci = NULL;
	unsigned int port = 0;
	int r = 0;

	for (size_t i = 0; i < desc->n_disks && r == 0; i++) {
		if (desc->disks[i].bus != VM_DISK_AHCI)
			continue;
		if (!ahci)
			r = ahci_new(p->m->mem, p->m->cfg.loop, &ahci);
		if (r == 0)
			r = add_drive(p, ahci, port++, &desc->disks[i], e);
	}
	if (!ahci)
		return r < 0 ? err_set(e, r, "make the SATA controller") : 0;
	if (r == 0)
		r = pci_plug(p->m->pci, ahci, AHCI_DEVFN, e);
	if (r < 0) {
		ahci->ops->free(ahci);
		return err_exit(e, r, e && e->exit_code ? e->exit_code : EXIT_BAD_DISK);
	}
	p->m->ahci = ahci;
	return 0;
}

static int plug_disk(struct plugger *p, const struct vm_disk *k, struct err *e)
{
	struct machine_disk *at = &p->m->disks[k - p->m->desc->disks];
	unsigned int slot = slot_now(p);
	struct virtio_dev *d;
	struct blk *blk;
	int r;

	r = open_disk(p, k, &blk, e);
	if (r < 0)
		return r;
	r = virtio_blk_new(p->m->mem, blk, k->serial[0] ? k->serial : NULL, &d, e);
	if (r < 0) {
		blk_close(blk);
		return err_wrap(e, r, "disk '%s'", k->path);
	}
	add_boot_device(p, VM_BOOT_DISK, "scsi", "disk@0,0");
	r = plug(p, d, e);
	if (r < 0)
		return err_wrap(e, r, "disk '%s'", k->path);
	*at = (struct machine_disk){.blk = blk, .virtio = d, .slot = slot};
	return 0;
}

static int plug_nvme(struct plugger *p, const struct vm_disk *k, struct err *e)
{
	autofree char *serial = xasprintf("INSULA%u", p->slot);
	struct pci_dev *d;
	struct blk *blk;
	int r;

	r = open_disk(p, k, &blk, e);
	if (r < 0)
		return r;
	r = nvme_new(p->m->mem, p->m->cfg.loop, blk, k->serial[0] ? k->serial : serial, &d, e);
	if (r < 0) {
		blk_close(blk);
		return err_wrap(e, r, "disk '%s'", k->path);
	}
	/* Firmware knows NVMe by the name of the first one there was. */
	add_boot_device(p, VM_BOOT_DISK, "pci8086,5845", "namespace@1,0");
	r = plug_pci(p, d, e);
	if (r < 0)
		return err_wrap(e, r, "disk '%s'", k->path);
	p->m->disks[k - p->m->desc->disks].nvme = blk;
	return 0;
}

static int plug_disks(struct plugger *p, struct err *e)
{
	const struct vm_desc *desc = p->m->desc;

	for (size_t i = 0; i < desc->n_disks; i++) {
		const struct vm_disk *k = &desc->disks[i];
		int r = 0;

		if (k->bus == VM_DISK_AHCI)
			continue;
		if (!take_slot(p, k->slot, k->removed))
			p->m->disks[i].slot = k->slot ? k->slot : p->slot - 1;
		else
			r = k->bus == VM_DISK_NVME ? plug_nvme(p, k, e) : plug_disk(p, k, e);
		if (r < 0)
			return err_exit(e, r, e && e->exit_code ? e->exit_code : EXIT_BAD_DISK);
	}
	return 0;
}

static int plug_net(struct plugger *p, size_t index, struct err *e)
{
	const struct vm_net *n = &p->m->desc->nets[index];
	struct net_publish publish[VM_DESC_MAX_PUBLISH];
	struct net_user_spec spec = {
	    .hostname = n->hostname,
	    .publish = publish,
	    .n_publish = n->n_publish,
	    .restrict_host = n->restrict_host,
	};
	struct machine_net at;
	struct virtio_dev *d;
	struct net *net;
	uint8_t mac[6];
	int r;

	for (size_t i = 0; i < n->n_publish; i++) {
		publish[i].udp = n->publish[i].udp;
		publish[i].host_port = n->publish[i].host_port;
		publish[i].guest_port = n->publish[i].guest_port;
		memcpy(publish[i].host_addr, n->publish[i].host_addr, sizeof(publish[i].host_addr));
	}
	if (n->has_mac)
		memcpy(mac, n->mac, sizeof(mac));
	else
		vm_mac_derive(p->m->desc->name, index, mac);
	r = net_user_open(&spec, p->m->cfg.loop, &net, e);
	if (r < 0)
		return r;
	net = net_rate_new(net, p->m->cfg.loop);
	machine_limit_net(net, n->rate);
	at = (struct machine_net){.slot = slot_now(p), .net = net};
	add_boot_device(p, VM_BOOT_NETWORK, "ethernet", "ethernet-phy@0");
	if (n->model == VM_NET_E1000)
		r = plug_pci(p, e1000_new(p->m->mem, p->m->cfg.loop, net, mac), e);
	else if ((d = virtio_net_new(p->m->mem, p->m->cfg.loop, net, mac)))
		r = plug(p, d, e);
	else
		r = err_set(e, -ENOMEM, "make a network card");
	if (r == 0)
		p->m->nets[index] = at;
	return r;
}

static int plug_nets(struct plugger *p, struct err *e)
{
	for (size_t i = 0; i < p->m->desc->n_nets; i++) {
		const struct vm_net *n = &p->m->desc->nets[i];
		int r = 0;

		if (take_slot(p, n->slot, n->removed))
			r = plug_net(p, i, e);
		else
			p->m->nets[i].slot = n->slot ? n->slot : p->slot - 1;
		if (r < 0)
			return err_wrap(e, r, "network");
	}
	return 0;
}

static int plug_console(struct plugger *p, struct err *e)
{
	struct virtio_console_port port = {.console = true, .chr = p->m->cfg.console};
	struct virtio_dev *d;

	if (p->m->desc->console.type == VM_CHARDEV_NONE)
		return 0;
	d = virtio_console_new(p->m->mem, &port, 1);
	return d ? plug(p, d, e) : err_set(e, -ENOMEM, "make the console");
}

static int plug_vsock(struct plugger *p, struct err *e)
{
	struct virtio_dev *d;
	int r;

	if (!p->m->desc->vsock_cid)
		return 0;
	r = virtio_vsock_new(p->m->mem, p->m->cfg.loop, p->m->desc->vsock_cid,
			     p->m->desc->vsock_socket,
			     fd_table_find(p->m->cfg.given, p->m->desc->vsock_socket), &d, e);
	if (r < 0)
		return err_wrap(e, r, "vsock");
	return plug(p, d, e);
}

static int new_share(struct gmem *mem, const struct vm_share *s, struct virtio_dev **ret,
		     struct err *e)
{
	struct virtio_fs_spec fs = {.path = s->path, .tag = s->tag, .read_only = s->read_only};
	struct virtio_9p_spec ninep = {.path = s->path, .tag = s->tag, .read_only = s->read_only};

	return s->type == VM_SHARE_9P ? virtio_9p_new(mem, &ninep, ret, e)
				      : virtio_fs_new(mem, &fs, ret, e);
}

static int plug_shares(struct plugger *p, struct err *e)
{
	for (size_t i = 0; i < p->m->desc->n_shares; i++) {
		struct virtio_dev *d;
		int r = new_share(p->m->mem, &p->m->desc->shares[i], &d, e);

		if (r == 0)
			r = plug(p, d, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int plug_rng(struct plugger *p, struct err *e)
{
	struct virtio_dev *d;

	if (!p->m->desc->rng)
		return 0;
	d = virtio_rng_new(p->m->mem);
	return d ? plug(p, d, e) : err_set(e, -ENOMEM, "make the entropy device");
}

static int plug_balloon(struct plugger *p, struct err *e)
{
	struct virtio_dev *d;
	int r;

	if (!p->m->desc->balloon)
		return 0;
	d = virtio_balloon_new(p->m->mem);
	if (!d)
		return err_set(e, -ENOMEM, "make the balloon");
	r = plug(p, d, e);
	if (r == 0)
		p->m->balloon = d;
	return r;
}

static int plug_vga(struct plugger *p, struct err *e)
{
	struct machine *m = p->m;
	struct vga_config cfg = {
	    .timers = loop_timers(m->cfg.loop),
	    .screen = m->cfg.screen,
	    .moved = machine_map_changed,
	    .opaque = m,
	};
	struct pci_dev *d;
	int r;

	if (!m->desc->display.vga)
		return 0;
	m->vram = mmap(NULL, VGA_VRAM_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m->vram == MAP_FAILED) {
		m->vram = NULL;
		return err_set(e, -errno, "video memory");
	}
	r = gmem_add_view(m->mem, VGA_VRAM_SIZE, m->vram, &m->vram_slot, e);
	if (r < 0)
		return r;
	cfg.vram = m->vram;
	r = vga_new(&cfg, &d);
	if (r < 0)
		return err_set(e, r, "make the VGA");
	r = plug_pci(p, d, e);
	if (r < 0)
		return r;
	m->vga = d;
	vga_attach_legacy(d, m->bus);
	return 0;
}

static const struct {
	const char *name;
	int (*plug)(struct plugger *p, struct err *e);
} models[] = {
    {"vga", plug_vga},
    {"ahci", plug_ahci},
    {"disks", plug_disks},
    {"virtio-net", plug_nets},
    {"virtio-console", plug_console},
    {"shares", plug_shares},
    {"virtio-vsock", plug_vsock},
    {"virtio-rng", plug_rng},
    {"virtio-balloon", plug_balloon},
};

int catalog_plug(struct machine *m, struct err *e)
{
	struct plugger p = {.m = m, .given = m->cfg.given, .slot = 1};

	for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
		int r = models[i].plug(&p, e);

		if (r < 0)
			return r;
	}
	return 0;
}

int catalog_plug_card(struct machine *m, enum machine_card kind, unsigned int i, unsigned int slot,
		      const struct fd_table *given, struct err *e)
{
	struct plugger p = {.m = m, .given = given, .own = slot};
	const struct vm_disk *k = &m->desc->disks[i];

	if (kind == MACHINE_CARD_NET)
		return plug_net(&p, i, e);
	if (k->bus != VM_DISK_VIRTIO)
		return err_msg(e, -ENOTSUP,
			       "disk '%s': only virtio disks come while the machine runs", k->path);
	return plug_disk(&p, k, e);
}
