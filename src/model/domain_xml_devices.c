/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model/domain_xml_devices.c - libvirt's domain XML: <devices> read
 */
#include "model/domain_xml_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define VNC_FIRST 5900

/* --- limits --- */

/* Attributes and children of libvirt's are numbers as text; what is too large is refused with the
 * rest of the configuration. */
static int read_rate(struct domain *d, struct xml_node *n, const char *text, uint64_t unit,
		     uint64_t *ret)
{
	uint64_t value;

	if (!text)
		return 0;
	if (!domain_u64(text, &value) || value > (uint64_t)VM_RATE_MAX / unit)
		return domain_fail(d, n, "has a number that is no limit");
	*ret = value * unit;
	return 0;
}

int domain_read_iotune(struct domain *d, struct xml_node *iotune, struct vm_rate rate[2])
{
	const struct {
		const char *name;
		uint64_t *value;
	} words[] = {{"total_bytes_sec", &rate[VM_RATE_BYTES].rate},
		     {"total_bytes_sec_max", &rate[VM_RATE_BYTES].burst},
		     {"total_iops_sec", &rate[VM_RATE_OPS].rate},
		     {"total_iops_sec_max", &rate[VM_RATE_OPS].burst}};
	int r = 0;

	for (struct xml_node *n = iotune->child; n && r == 0; n = n->next) {
		size_t i = 0;

		while (i < ARRAY_SIZE(words) && !domain_is(n->name, words[i].name))
			i++;
		if (i == ARRAY_SIZE(words))
			domain_warn(d, n, "is left out: reads and writes have one limit");
		else
			r = read_rate(d, n, xml_text(n), 1, words[i].value);
	}
	return r;
}

/* KiB a second. */
static int read_bandwidth(struct domain *d, struct xml_node *n, struct vm_rate rate[2])
{
	static const char *const names[] = {"inbound", "outbound"};
	int r = 0;

	for (unsigned int i = 0; i < 2 && r == 0; i++) {
		struct xml_node *k = xml_child(n, names[i]);

		r = k ? read_rate(d, k, xml_attr(k, "average"), 1024, &rate[i].rate) : 0;
		if (r == 0 && k && rate[i].rate)
			r = read_rate(d, k, xml_attr(k, "burst"), 1024, &rate[i].burst);
		if (xml_attr(k, "peak") || xml_attr(k, "floor"))
			domain_warn(d, k, "keeps its average and burst alone");
	}
	return r;
}

/* --- disks --- */

static int read_disk(struct domain *d, struct xml_node *n)
{
	static const char *const known[] = {"source", "target", "driver", "readonly", "address",
					    "alias",  "boot",   "serial", "iotune",   NULL};
	struct xml_node *source = xml_child(n, "source");
	const char *format = xml_attr(xml_child(n, "driver"), "type");
	const char *bus = xml_attr(xml_child(n, "target"), "bus");
	const char *path = xml_attr(source, "file"), *device = xml_attr(n, "device");
	struct machine_disk *disk = &d->c->disks[d->c->n_disks];

	if (d->c->n_disks == MACHINE_MAX_DEVS - 1)
		return domain_fail(d, n, "is one too many: 7 can be");
	if (!path)
		path = xml_attr(source, "dev");
	if (device && !domain_is(device, "disk") && !domain_is(device, "cdrom")) {
		domain_warn(d, n, "is neither disk nor cdrom, and left out");
		return 0;
	}
	disk->cdrom = domain_is(device, "cdrom");
	if (source && !path)
		return domain_fail(d, n, "has a source that is neither a file nor a block device");
	if (!path && !disk->cdrom)
		return domain_fail(d, n, "has no source");
	if (format && !domain_is(format, "raw") && !domain_is(format, "qcow2"))
		return domain_fail(d, n, "is of a format that is not raw or qcow2");
	disk->format = domain_is(format, "qcow2") ? "qcow2"
		       : format || disk->cdrom    ? "raw"
						  : "auto";
	disk->read_only = disk->cdrom || xml_child(n, "readonly");
	disk->bus = !disk->cdrom && domain_is(bus, "nvme")              ? "nvme"
		    : disk->cdrom || (bus && !domain_is(bus, "virtio")) ? "ahci"
									: "virtio";
	if (bus && !domain_is(bus, "virtio") && !domain_is(bus, "sata") &&
	    strcmp(disk->bus, "nvme") != 0)
		domain_warn(d, n, "is put on SATA");
	domain_set_text(&disk->path, path);
	if (strlen(xml_text(xml_child(n, "serial"))) > 20)
		return domain_fail(d, xml_child(n, "serial"), "is longer than 20 bytes");
	domain_set_text(&disk->serial, xml_text(xml_child(n, "serial")));
	if (xml_child(n, "iotune") && domain_read_iotune(d, xml_child(n, "iotune"), disk->rate) < 0)
		return -EINVAL;
	d->c->n_disks++;
	for (const struct xml_node *k = n->child; k; k = k->next) {
		if (!domain_listed(k->name, known))
			domain_warn(d, k, "is left out");
	}
	return 0;
}

static int read_graphics(struct domain *d, struct xml_node *n)
{
	const char *port = xml_attr(n, "port"), *address = xml_attr(n, "listen");
	const char *socket = xml_attr(n, "socket"), *password = xml_attr(n, "passwd");
	uint64_t number = VNC_FIRST;

	if (!domain_is(xml_attr(n, "type"), "vnc")) {
		domain_warn(d, n, "is not VNC, and left out");
		return 0;
	}
	free(d->c->vnc);
	d->c->vnc = NULL;
	if (!address)
		address = xml_attr(xml_child(n, "listen"), "address");
	if (port && strcmp(port, "-1") != 0 && (!domain_u64(port, &number) || number > 65535))
		return domain_fail(d, n, "has a port that is none");
	if (!port || domain_is(port, "-1"))
		domain_warn(d, n, "gets port 5900: none is looked for");
	d->c->vnc = socket ? xasprintf("unix:%s", socket)
			   : xasprintf("%s:%" PRIu64, address ? address : "127.0.0.1", number);
	domain_set_text(&d->c->vnc_password, password);
	return 0;
}

/* --- networks --- */

/* As of libvirt's user-mode network by passt. */
static int read_forward(struct domain *d, struct xml_node *n)
{
	const char *address = xml_attr(n, "address"), *proto = xml_attr(n, "proto");

	for (struct xml_node *k = n->child; k; k = k->next) {
		struct machine_publish *p = &d->c->publish[d->c->n_publish];
		const char *start = xml_attr(k, "start"), *to = xml_attr(k, "to");
		uint64_t host, guest;

		if (!domain_is(k->name, "range") || xml_attr(k, "end") || xml_attr(k, "exclude")) {
			domain_warn(d, k, "is not one port, and left out");
			continue;
		}
		if (d->c->n_publish == ARRAY_SIZE(d->c->publish))
			return domain_fail(d, k, "is one port too many");
		if (!start || !domain_u64(start, &host) || !domain_u64(to ? to : start, &guest) ||
		    host > 65535 || guest > 65535)
			return domain_fail(d, k, "is no port");
		*p = (struct machine_publish){
		    .address = xstrdup(address ? address : "127.0.0.1"),
		    .host = (unsigned int)host,
		    .guest = (unsigned int)guest,
		    .udp = domain_is(proto, "udp"),
		};
		d->c->n_publish++;
	}
	return 0;
}

static const char *card_of(struct domain *d, struct xml_node *n)
{
	const char *model = xml_attr(xml_child(n, "model"), "type");

	if (domain_is(model, "e1000"))
		return "e1000";
	if (model && !domain_is(model, "virtio"))
		domain_warn(d, n, "gets a virtio card");
	return "virtio";
}

static int read_first_interface(struct domain *d, struct xml_node *n)
{
	int r = 0;

	d->has_interface = true;
	d->c->net_model = card_of(d, n);
	if (xml_child(n, "bandwidth"))
		r = read_bandwidth(d, xml_child(n, "bandwidth"), d->c->net_rate);
	for (struct xml_node *k = n->child; k && r == 0; k = k->next)
		if (domain_is(k->name, "portForward"))
			r = read_forward(d, k);
	return r;
}

static int read_nic(struct domain *d, struct xml_node *n)
{
	const char *mac = xml_attr(xml_child(n, "mac"), "address");
	struct machine_nic *nic = &d->c->nics[d->c->n_nics];

	if (d->c->n_nics == ARRAY_SIZE(d->c->nics))
		return domain_fail(d, n, "is one too many: 8 can be");
	if (!mac || !vm_mac_parse(mac, nic->mac)) {
		domain_warn(d, n, "is not the first and has no address, and is left out");
		return 0;
	}
	nic->model = card_of(d, n);
	d->c->n_nics++;
	return xml_child(n, "bandwidth") ? read_bandwidth(d, xml_child(n, "bandwidth"), nic->rate)
					 : 0;
}

static int read_interface(struct domain *d, struct xml_node *n)
{
	if (!domain_is(xml_attr(n, "type"), "user"))
		domain_warn(d, n, "becomes a user-mode network");
	return d->has_interface ? read_nic(d, n) : read_first_interface(d, n);
}

/* --- shares --- */

static int read_filesystem(struct domain *d, struct xml_node *n)
{
	const char *host = xml_attr(xml_child(n, "source"), "dir");
	const char *guest = xml_attr(xml_child(n, "target"), "dir");
	struct machine_share *s = &d->c->shares[d->c->n_shares];

	if (!host || !guest || host[0] != '/' || guest[0] != '/') {
		domain_warn(d, n, "is left out: its target is no path of the guest");
		return 0;
	}
	if (d->c->n_shares == MACHINE_MAX_DEVS)
		return domain_fail(d, n, "is one too many: 8 can be");
	domain_set_text(&s->host, host);
	domain_set_text(&s->guest, guest);
	s->read_only = xml_child(n, "readonly") != NULL;
	if (!d->c->n_shares++)
		d->share = n;
	return 0;
}

int domain_read_devices(struct domain *d, struct xml_node *devices)
{
	/* What every machine of ours has, or no guest misses. */
	static const char *const passed[] = {"emulator", "controller", "serial", "console",
					     "input",    "memballoon", "rng",    "video",
					     "channel",  NULL};
	int r = 0;

	for (struct xml_node *n = devices->child; n && r == 0; n = n->next) {
		if (domain_is(n->name, "disk")) {
			r = read_disk(d, n);
		} else if (domain_is(n->name, "graphics")) {
			r = read_graphics(d, n);
		} else if (domain_is(n->name, "interface")) {
			r = read_interface(d, n);
		} else if (domain_is(n->name, "filesystem")) {
			r = read_filesystem(d, n);
		} else if (!domain_listed(n->name, passed)) {
			domain_warn(d, n, "is left out");
		}
	}
	return r;
}
