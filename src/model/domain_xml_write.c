/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model/domain_xml_write.c - machines as libvirt's domain XML: writing
 */
#include "model/domain_xml_priv.h"

#include <inttypes.h>
#include <stdio.h>

void domain_put(struct strbuf *out, const char *before, const char *text, const char *after)
{
	if (!text)
		return;
	strbuf_puts(out, before);
	xml_escape(text, out);
	strbuf_puts(out, after);
}

static void put_boot(const struct machine_config *c, struct strbuf *out)
{
	autofree char *copy = xstrdup(c->boot ? c->boot : "");
	char *save = NULL;

	for (char *o = strtok_r(copy, ",", &save); o; o = strtok_r(NULL, ",", &save)) {
		if (strcmp(o, "menu") == 0)
			strbuf_puts(out, "    <bootmenu enable='yes'/>\n");
		else
			domain_put(out, "    <boot dev='", strcmp(o, "disk") == 0 ? "hd" : o,
				   "'/>\n");
	}
}

static void put_os(const struct machine_config *c, struct strbuf *out)
{
	strbuf_printf(out, "  <os%s>\n    <type arch='x86_64' machine='%s'>hvm</type>\n",
		      domain_is(c->firmware, "uefi") ? " firmware='efi'" : "", c->board);
	domain_put(out, "    <kernel>", c->kernel, "</kernel>\n");
	domain_put(out, "    <initrd>", c->initrd, "</initrd>\n");
	domain_put(out, "    <cmdline>", c->append, "</cmdline>\n");
	put_boot(c, out);
	strbuf_puts(out, "  </os>\n");
}

static void put_number(struct strbuf *out, const char *name, uint64_t n)
{
	if (n)
		strbuf_printf(out, "        <%s>%" PRIu64 "</%s>\n", name, n, name);
}

static void put_iotune(const struct vm_rate rate[2], struct strbuf *out)
{
	if (!rate[VM_RATE_BYTES].rate && !rate[VM_RATE_OPS].rate)
		return;
	strbuf_puts(out, "      <iotune>\n");
	put_number(out, "total_bytes_sec", rate[VM_RATE_BYTES].rate);
	put_number(out, "total_iops_sec", rate[VM_RATE_OPS].rate);
	put_number(out, "total_bytes_sec_max", rate[VM_RATE_BYTES].burst);
	put_number(out, "total_iops_sec_max", rate[VM_RATE_OPS].burst);
	strbuf_puts(out, "      </iotune>\n");
}

struct letters {
	unsigned int vd, sd, nvme;
};

static void put_target(const struct machine_disk *d, struct letters *n, struct strbuf *out)
{
	if (domain_is(d->bus, "nvme"))
		strbuf_printf(out, "      <target dev='nvme%un1' bus='nvme'/>\n", n->nvme++);
	else if (domain_is(d->bus, "virtio"))
		strbuf_printf(out, "      <target dev='vd%c' bus='virtio'/>\n",
			      (char)('a' + n->vd++));
	else
		strbuf_printf(out, "      <target dev='sd%c' bus='sata'/>\n",
			      (char)('a' + n->sd++));
}

static void put_disk(const struct machine_disk *d, struct letters *n, struct strbuf *out)
{
	strbuf_printf(out, "    <disk type='file' device='%s'>\n", d->cdrom ? "cdrom" : "disk");
	if (strcmp(d->format, "auto") != 0)
		strbuf_printf(out, "      <driver name='insula' type='%s'/>\n", d->format);
	domain_put(out, "      <source file='", d->path, "'/>\n");
	put_target(d, n, out);
	domain_put(out, "      <serial>", d->serial, "</serial>\n");
	put_iotune(d->rate, out);
	if (d->read_only)
		strbuf_puts(out, "      <readonly/>\n");
	strbuf_puts(out, "    </disk>\n");
}

/* --- networks, shares --- */

static uint64_t kib(uint64_t bytes)
{
	return (bytes + 1023) / 1024;
}

static void put_bandwidth(const struct vm_rate rate[2], struct strbuf *out)
{
	static const char *const names[] = {"inbound", "outbound"};

	if (!rate[VM_RATE_IN].rate && !rate[VM_RATE_OUT].rate)
		return;
	strbuf_puts(out, "      <bandwidth>\n");
	for (unsigned int i = 0; i < 2; i++) {
		if (!rate[i].rate)
			continue;
		strbuf_printf(out, "        <%s average='%" PRIu64 "'", names[i],
			      kib(rate[i].rate));
		if (rate[i].burst)
			strbuf_printf(out, " burst='%" PRIu64 "'", kib(rate[i].burst));
		strbuf_puts(out, "/>\n");
	}
	strbuf_puts(out, "      </bandwidth>\n");
}

static void put_net(const struct machine_config *c, struct strbuf *out)
{
	strbuf_printf(out, "    <interface type='user'>\n      <model type='%s'/>\n", c->net_model);
	put_bandwidth(c->net_rate, out);
	for (size_t i = 0; i < c->n_publish; i++) {
		const struct machine_publish *p = &c->publish[i];

		strbuf_printf(out, "      <portForward proto='%s'", p->udp ? "udp" : "tcp");
		domain_put(out, " address='", p->address, "'>\n");
		strbuf_printf(out, "        <range start='%u' to='%u'/>\n      </portForward>\n",
			      p->host, p->guest);
	}
	strbuf_puts(out, "    </interface>\n");
}

static void put_nic(const struct machine_nic *n, struct strbuf *out)
{
	char mac[18];

	vm_mac_format(n->mac, mac);
	strbuf_printf(out,
		      "    <interface type='user'>\n      <mac address='%s'/>\n"
		      "      <model type='%s'/>\n",
		      mac, n->model);
	put_bandwidth(n->rate, out);
	strbuf_puts(out, "    </interface>\n");
}

static void put_share(const struct machine_share *s, struct strbuf *out)
{
	strbuf_puts(out, "    <filesystem type='mount'>\n      <driver type='virtiofs'/>\n");
	domain_put(out, "      <source dir='", s->host, "'/>\n");
	domain_put(out, "      <target dir='", s->guest, "'/>\n");
	if (s->read_only)
		strbuf_puts(out, "      <readonly/>\n");
	strbuf_puts(out, "    </filesystem>\n");
}

/* --- limits --- */

static void put_limits(const struct machine_limits *l, struct strbuf *out)
{
	if (l->memory)
		strbuf_printf(out,
			      "  <memtune>\n    <hard_limit unit='bytes'>%" PRIu64
			      "</hard_limit>\n  </memtune>\n",
			      l->memory);
	if (!l->cpu_percent && !l->cpu_weight)
		return;
	strbuf_puts(out, "  <cputune>\n");
	if (l->cpu_weight)
		strbuf_printf(out, "    <shares>%" PRIi64 "</shares>\n",
			      l->cpu_weight * 1024 / 100);
	if (l->cpu_percent)
		strbuf_printf(out,
			      "    <global_period>100000</global_period>\n"
			      "    <global_quota>%" PRIi64 "</global_quota>\n",
			      l->cpu_percent * 1000);
	strbuf_puts(out, "  </cputune>\n");
}

static void put_graphics(const struct machine_config *c, struct strbuf *out)
{
	autofree char *address = xstrdup(c->vnc ? c->vnc : "");
	char *colon = strrchr(address, ':');

	if (!c->vnc)
		return;
	if (strncmp(address, "unix:", 5) == 0) {
		domain_put(out, "    <graphics type='vnc' socket='", address + 5, "'/>\n");
		return;
	}
	if (colon)
		*colon++ = '\0';
	domain_put(out, "    <graphics type='vnc' port='", colon ? colon : "5900", "'");
	domain_put(out, " listen='", address, "'/>\n");
}

static void put_devices(const struct machine_config *c, struct strbuf *out)
{
	struct letters n = {0};

	strbuf_puts(out, "  <devices>\n");
	for (size_t i = 0; i < c->n_disks; i++)
		put_disk(&c->disks[i], &n, out);
	if (c->net)
		put_net(c, out);
	for (size_t i = 0; i < c->n_nics; i++)
		put_nic(&c->nics[i], out);
	for (size_t i = 0; i < c->n_shares; i++)
		put_share(&c->shares[i], out);
	strbuf_puts(out, "    <serial type='pty'/>\n    <console type='pty'/>\n");
	put_graphics(c, out);
	strbuf_puts(out, "  </devices>\n");
}

void domain_xml_format(const struct machine_config *c, const char *name, const char *uuid,
		       struct strbuf *out)
{
	strbuf_puts(out, "<domain type='insula'>\n");
	domain_put(out, "  <name>", name, "</name>\n");
	domain_put(out, "  <uuid>", uuid, "</uuid>\n");
	strbuf_puts(out,
		    "  <metadata>\n    <insula:machine xmlns:insula='" DOMAIN_NAMESPACE "'>\n");
	domain_put(out, "      <insula:image>", c->image, "</insula:image>\n");
	domain_put(out, "      <insula:engine>", c->engine, "</insula:engine>\n");
	if (c->root_rate[0].rate || c->root_rate[1].rate) {
		strbuf_puts(out, "      <insula:root>\n");
		put_iotune(c->root_rate, out);
		strbuf_puts(out, "      </insula:root>\n");
	}
	strbuf_printf(out,
		      "    </insula:machine>\n  </metadata>\n  <memory unit='KiB'>%" PRIu64
		      "</memory>\n  <vcpu>%u</vcpu>\n",
		      c->memory >> 10, c->cpus);
	put_limits(&c->limits, out);
	put_os(c, out);
	put_devices(c, out);
	strbuf_puts(out, "</domain>\n");
}
