/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model/domain_xml.c - machines as libvirt's domain XML
 */
#include "model/domain_xml.h"

#include "codec/xml.h"
#include "model/machine_record.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define NAMESPACE "urn:insula:domain:1"
#define VNC_FIRST 5900

struct domain {
	struct machine_config *c;
	struct strbuf *warnings;
	struct err *e;
	bool has_interface;
};

static void warn(struct domain *d, const struct xml_node *n, const char *why)
{
	strbuf_printf(d->warnings, "line %u: <%.64s> %s\n", n->line, n->name, why);
}

static int fail(struct domain *d, const struct xml_node *n, const char *why)
{
	return err_msg(d->e, -EINVAL, "line %u: <%.64s>: %s", n->line, n->name, why);
}

static bool is(const char *a, const char *b)
{
	return a && strcmp(a, b) == 0;
}

static void set_text(char **member, const char *text)
{
	free(*member);
	*member = text && text[0] ? xstrdup(text) : NULL;
}

static bool listed(const char *name, const char *const *names)
{
	for (; *names; names++) {
		if (strcmp(name, *names) == 0)
			return true;
	}
	return false;
}

/* --- numbers --- */

static bool parse_u64(const char *text, uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, 10);
	return isdigit((unsigned char)text[0]) && !*end && !errno;
}

/* KiB unless a unit is given. */
static int read_memory(struct domain *d, struct xml_node *n)
{
	static const struct {
		const char *name;
		uint64_t bytes;
	} units[] = {{"b", 1},
		     {"bytes", 1},
		     {"KB", 1000},
		     {"k", 1u << 10},
		     {"KiB", 1u << 10},
		     {"MB", 1000000},
		     {"M", 1u << 20},
		     {"MiB", 1u << 20},
		     {"GB", 1000000000},
		     {"G", 1u << 30},
		     {"GiB", 1u << 30},
		     {"T", UINT64_C(1) << 40},
		     {"TiB", UINT64_C(1) << 40}};
	const char *unit = xml_attr(n, "unit");
	uint64_t bytes = 1u << 10, value;
	bool known = !unit;

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (is(unit, units[i].name)) {
			bytes = units[i].bytes;
			known = true;
		}
	}
	if (!known || !parse_u64(xml_text(n), &value) || value > VM_DESC_MAX_MEMORY / bytes ||
	    value * bytes < MACHINE_MIN_MEMORY)
		return fail(d, n, "is no amount of memory that a machine can have");
	d->c->memory = ALIGN_UP(value * bytes, UINT64_C(1) << 20);
	return 0;
}

static int read_cpus(struct domain *d, struct xml_node *n)
{
	uint64_t value;

	if (!parse_u64(xml_text(n), &value) || value < 1 || value > VM_DESC_MAX_CPUS)
		return fail(d, n, "is not a number of CPUs from 1 to 64");
	d->c->cpus = (unsigned int)value;
	return 0;
}

/* --- os --- */

static void add_boot(struct machine_config *c, const char *word)
{
	char *old = c->boot;

	c->boot = old ? xasprintf("%s,%s", old, word) : xstrdup(word);
	free(old);
}

static int read_boot(struct domain *d, struct xml_node *n)
{
	static const char *const theirs[] = {"hd", "cdrom", "network"};
	static const char *const ours[] = {"disk", "cdrom", "network"};

	for (size_t i = 0; i < ARRAY_SIZE(theirs); i++) {
		if (is(xml_attr(n, "dev"), theirs[i])) {
			add_boot(d->c, ours[i]);
			return 0;
		}
	}
	return fail(d, n, "boots from what is not hd, cdrom or network");
}

static int read_type(struct domain *d, struct xml_node *n)
{
	const char *arch = xml_attr(n, "arch"), *machine = xml_attr(n, "machine");

	if (strcmp(xml_text(n), "hvm") != 0)
		return fail(d, n, "is not hvm");
	if (arch && strcmp(arch, "x86_64") != 0 && strcmp(arch, "i686") != 0)
		return fail(d, n, "is of an architecture other than x86_64");
	set_text(&d->c->board, is(machine, "micro") ? "micro" : "q35");
	if (machine && !strstr(machine, "q35") && strcmp(machine, "micro") != 0)
		warn(d, n, "becomes a Q35 machine");
	return 0;
}

static int read_os(struct domain *d, struct xml_node *os)
{
	bool uefi = is(xml_attr(os, "firmware"), "efi");
	int r = 0;

	for (struct xml_node *n = os->child; n && r == 0; n = n->next) {
		if (is(n->name, "type"))
			r = read_type(d, n);
		else if (is(n->name, "kernel"))
			set_text(&d->c->kernel, xml_text(n));
		else if (is(n->name, "initrd"))
			set_text(&d->c->initrd, xml_text(n));
		else if (is(n->name, "cmdline"))
			set_text(&d->c->append, xml_text(n));
		else if (is(n->name, "boot"))
			r = read_boot(d, n);
		else if (is(n->name, "bootmenu") && is(xml_attr(n, "enable"), "yes"))
			add_boot(d->c, "menu");
		else if (is(n->name, "loader"))
			uefi = uefi || is(xml_attr(n, "type"), "pflash");
		else if (!is(n->name, "bootmenu"))
			warn(d, n, "is left out");
	}
	if (r == 0 && !d->c->kernel)
		set_text(&d->c->firmware, uefi ? "uefi" : "bios");
	return r;
}

/* --- devices --- */

static int read_disk(struct domain *d, struct xml_node *n)
{
	static const char *const known[] = {"source", "target", "driver", "readonly", "address",
					    "alias",  "boot",   "serial", NULL};
	struct xml_node *source = xml_child(n, "source");
	const char *format = xml_attr(xml_child(n, "driver"), "type");
	const char *bus = xml_attr(xml_child(n, "target"), "bus");
	const char *path = xml_attr(source, "file"), *device = xml_attr(n, "device");
	struct machine_disk *disk = &d->c->disks[d->c->n_disks];

	if (d->c->n_disks == MACHINE_MAX_DEVS - 1)
		return fail(d, n, "is one too many: 7 can be");
	if (!path)
		path = xml_attr(source, "dev");
	if (device && !is(device, "disk") && !is(device, "cdrom")) {
		warn(d, n, "is neither disk nor cdrom, and left out");
		return 0;
	}
	disk->cdrom = is(device, "cdrom");
	if (source && !path)
		return fail(d, n, "has a source that is neither a file nor a block device");
	if (!path && !disk->cdrom)
		return fail(d, n, "has no source");
	if (format && !is(format, "raw") && !is(format, "qcow2"))
		return fail(d, n, "is of a format that is not raw or qcow2");
	disk->format = is(format, "qcow2") ? "qcow2" : format || disk->cdrom ? "raw" : "auto";
	disk->read_only = disk->cdrom || xml_child(n, "readonly");
	disk->bus = disk->cdrom || (bus && !is(bus, "virtio")) ? "ahci" : "virtio";
	if (bus && !is(bus, "virtio") && !is(bus, "sata"))
		warn(d, n, "is put on SATA");
	set_text(&disk->path, path);
	d->c->n_disks++;
	for (const struct xml_node *k = n->child; k; k = k->next) {
		if (!listed(k->name, known))
			warn(d, k, "is left out");
	}
	return 0;
}

static int read_graphics(struct domain *d, struct xml_node *n)
{
	const char *port = xml_attr(n, "port"), *address = xml_attr(n, "listen");
	const char *socket = xml_attr(n, "socket"), *password = xml_attr(n, "passwd");
	uint64_t number = VNC_FIRST;

	if (!is(xml_attr(n, "type"), "vnc")) {
		warn(d, n, "is not VNC, and left out");
		return 0;
	}
	free(d->c->vnc);
	d->c->vnc = NULL;
	if (!address)
		address = xml_attr(xml_child(n, "listen"), "address");
	if (port && strcmp(port, "-1") != 0 && (!parse_u64(port, &number) || number > 65535))
		return fail(d, n, "has a port that is none");
	if (!port || is(port, "-1"))
		warn(d, n, "gets port 5900: none is looked for");
	d->c->vnc = socket ? xasprintf("unix:%s", socket)
			   : xasprintf("%s:%" PRIu64, address ? address : "127.0.0.1", number);
	set_text(&d->c->vnc_password, password);
	return 0;
}

static int read_devices(struct domain *d, struct xml_node *devices)
{
	/* What every machine of ours has, or no guest misses. */
	static const char *const passed[] = {"emulator", "controller", "serial", "console",
					     "input",    "memballoon", "rng",    "video",
					     "channel",  NULL};
	int r = 0;

	for (struct xml_node *n = devices->child; n && r == 0; n = n->next) {
		if (is(n->name, "disk")) {
			r = read_disk(d, n);
		} else if (is(n->name, "graphics")) {
			r = read_graphics(d, n);
		} else if (is(n->name, "interface")) {
			if (d->has_interface)
				warn(d, n, "is a second one, and left out");
			else if (!is(xml_attr(n, "type"), "user"))
				warn(d, n, "becomes a user-mode network");
			d->has_interface = true;
		} else if (!listed(n->name, passed)) {
			warn(d, n, "is left out");
		}
	}
	return r;
}

/* --- metadata of ours --- */

static int read_metadata(struct domain *d, struct xml_node *metadata)
{
	for (struct xml_node *n = metadata->child; n; n = n->next) {
		if (is(n->name, "insula:machine") && is(xml_attr(n, "xmlns:insula"), NAMESPACE)) {
			set_text(&d->c->image, xml_text(xml_child(n, "insula:image")));
			if (xml_child(n, "insula:engine"))
				set_text(&d->c->engine, xml_text(xml_child(n, "insula:engine")));
		}
	}
	return 0;
}

/* --- the whole --- */

static int read_domain(struct domain *d, struct xml_node *root)
{
	static const char *const passed[] = {
	    "name",     "uuid", "currentMemory", "title",       "description",
	    "features", "cpu",  "clock",         "on_poweroff", "on_reboot",
	    "on_crash", "pm",   "resource",      "seclabel",    NULL};
	int r = 0;

	if (strcmp(root->name, "domain") != 0)
		return fail(d, root, "is no domain");
	for (struct xml_node *n = root->child; n && r == 0; n = n->next) {
		if (is(n->name, "memory"))
			r = read_memory(d, n);
		else if (is(n->name, "vcpu"))
			r = read_cpus(d, n);
		else if (is(n->name, "os"))
			r = read_os(d, n);
		else if (is(n->name, "devices"))
			r = read_devices(d, n);
		else if (is(n->name, "metadata"))
			r = read_metadata(d, n);
		else if (!listed(n->name, passed))
			warn(d, n, "is left out");
	}
	d->c->net = d->has_interface;
	if (d->c->image) { /* its own kernel starts it */
		set_text(&d->c->firmware, NULL);
		set_text(&d->c->boot, NULL);
	}
	if (!d->c->firmware)
		set_text(&d->c->boot, NULL);
	return r;
}

int domain_xml_parse(const char *text, size_t len, struct machine_config *ret, char **name,
		     char uuid[37], struct strbuf *warnings, struct err *e)
{
	struct domain d = {.c = ret, .warnings = warnings, .e = e};
	struct xml_node *root;
	const char *id;
	json_t *o;
	int r = xml_parse(text, len, &root, e);

	if (r < 0)
		return r;
	machine_config_init(ret);
	r = read_domain(&d, root);
	id = xml_text(xml_child(root, "uuid"));
	if (r == 0 && id[0] && !machine_uuid_is(id))
		r = err_msg(e, -EINVAL, "<uuid>: '%.64s' is none", id);
	if (r == 0)
		r = machine_name_check(xml_text(xml_child(root, "name")), e);
	if (r == 0) {
		/* The same rules as for JSON. */
		o = machine_config_format(ret);
		machine_config_fini(ret);
		r = machine_config_parse(o, ret, e);
		json_decref(o);
	} else {
		machine_config_fini(ret);
	}
	if (r == 0) {
		*name = xstrdup(xml_text(xml_child(root, "name")));
		snprintf(uuid, 37, "%s", id);
		for (char *p = uuid; *p; p++)
			*p = (char)tolower((unsigned char)*p);
	}
	xml_free(root);
	return r;
}

/* --- writing --- */

static void put(struct strbuf *out, const char *before, const char *text, const char *after)
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
			put(out, "    <boot dev='", strcmp(o, "disk") == 0 ? "hd" : o, "'/>\n");
	}
}

static void put_os(const struct machine_config *c, struct strbuf *out)
{
	strbuf_printf(out, "  <os%s>\n    <type arch='x86_64' machine='%s'>hvm</type>\n",
		      is(c->firmware, "uefi") ? " firmware='efi'" : "", c->board);
	put(out, "    <kernel>", c->kernel, "</kernel>\n");
	put(out, "    <initrd>", c->initrd, "</initrd>\n");
	put(out, "    <cmdline>", c->append, "</cmdline>\n");
	put_boot(c, out);
	strbuf_puts(out, "  </os>\n");
}

static void put_disk(const struct machine_disk *d, unsigned int n[2], struct strbuf *out)
{
	bool virtio = is(d->bus, "virtio");

	strbuf_printf(out, "    <disk type='file' device='%s'>\n", d->cdrom ? "cdrom" : "disk");
	if (strcmp(d->format, "auto") != 0)
		strbuf_printf(out, "      <driver name='insula' type='%s'/>\n", d->format);
	put(out, "      <source file='", d->path, "'/>\n");
	strbuf_printf(out, "      <target dev='%cd%c' bus='%s'/>\n", virtio ? 'v' : 's',
		      (char)('a' + n[virtio]++), virtio ? "virtio" : "sata");
	if (d->read_only)
		strbuf_puts(out, "      <readonly/>\n");
	strbuf_puts(out, "    </disk>\n");
}

static void put_graphics(const struct machine_config *c, struct strbuf *out)
{
	autofree char *address = xstrdup(c->vnc ? c->vnc : "");
	char *colon = strrchr(address, ':');

	if (!c->vnc)
		return;
	if (strncmp(address, "unix:", 5) == 0) {
		put(out, "    <graphics type='vnc' socket='", address + 5, "'/>\n");
		return;
	}
	if (colon)
		*colon++ = '\0';
	put(out, "    <graphics type='vnc' port='", colon ? colon : "5900", "'");
	put(out, " listen='", address, "'/>\n");
}

static void put_devices(const struct machine_config *c, struct strbuf *out)
{
	unsigned int n[2] = {0, 0};

	strbuf_puts(out, "  <devices>\n");
	for (size_t i = 0; i < c->n_disks; i++)
		put_disk(&c->disks[i], n, out);
	if (c->net)
		strbuf_puts(out, "    <interface type='user'>\n      <model type='virtio'/>\n"
				 "    </interface>\n");
	strbuf_puts(out, "    <serial type='pty'/>\n    <console type='pty'/>\n");
	put_graphics(c, out);
	strbuf_puts(out, "  </devices>\n");
}

void domain_xml_format(const struct machine_config *c, const char *name, const char *uuid,
		       struct strbuf *out)
{
	strbuf_puts(out, "<domain type='insula'>\n");
	put(out, "  <name>", name, "</name>\n");
	put(out, "  <uuid>", uuid, "</uuid>\n");
	strbuf_puts(out, "  <metadata>\n    <insula:machine xmlns:insula='" NAMESPACE "'>\n");
	put(out, "      <insula:image>", c->image, "</insula:image>\n");
	put(out, "      <insula:engine>", c->engine, "</insula:engine>\n");
	strbuf_printf(out,
		      "    </insula:machine>\n  </metadata>\n  <memory unit='KiB'>%" PRIu64
		      "</memory>\n  <vcpu>%u</vcpu>\n",
		      c->memory >> 10, c->cpus);
	put_os(c, out);
	put_devices(c, out);
	strbuf_puts(out, "</domain>\n");
}
