/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model/machine_describe.c - from what a person says to the description that insula-vmm reads, and
 * to the configuration that the agent reads
 */
#include "model/machine_config.h"

#include <stdio.h>
#include <time.h>

static void set_optional(json_t *o, const char *key, const char *value)
{
	if (value)
		json_object_set_new(o, key, json_string(value));
}

/* Images are raw; a machine goes on in overlays of its disk after a snapshot. */
static const char *root_format(const char *path)
{
	size_t n = strlen(path);

	return n > 6 && strcmp(path + n - 6, ".qcow2") == 0 ? "qcow2" : "raw";
}

static void set_rate(json_t *o, const struct vm_rate rate[2], const char *const words[2])
{
	json_t *v = vm_rate_format(rate, words);

	if (v)
		json_object_set_new(o, "rate", v);
}

char *machine_disk_serial(const struct machine_config *c, size_t i)
{
	return c->disks[i].serial ? xstrdup(c->disks[i].serial) : xasprintf("disk%zu", i);
}

json_t *machine_describe_disk(const struct machine_config *c, size_t i)
{
	const struct machine_disk *d = &c->disks[i];
	autofree char *serial = machine_disk_serial(c, i);
	json_t *o = json_pack("{s:s, s:s, s:b, s:b, s:s}", "format", d->format, "bus", d->bus,
			      "readonly", d->read_only, "cdrom", d->cdrom, "serial", serial);

	set_optional(o, "path", d->path);
	set_rate(o, d->rate, vm_disk_rate_words);
	return o;
}

json_t *machine_describe_nic(const struct machine_nic *n)
{
	char mac[18];
	json_t *o;

	vm_mac_format(n->mac, mac);
	o = json_pack("{s:s, s:s, s:s}", "type", "user", "mac", mac, "model", n->model);
	set_rate(o, n->rate, vm_net_rate_words);
	return o;
}

static json_t *describe_disks(const struct machine_config *c, const struct machine_place *p)
{
	json_t *disks = json_array();

	if (p->root) {
		json_t *o = json_pack("{s:s, s:s, s:b, s:b, s:s}", "path", p->root, "format",
				      root_format(p->root), "readonly", 0, "overlay",
				      !p->root_private, "serial", "root");

		set_rate(o, c->root_rate, vm_disk_rate_words);
		json_array_append_new(disks, o);
	}
	for (size_t i = 0; i < c->n_disks; i++)
		json_array_append_new(disks, machine_describe_disk(c, i));
	return disks;
}

static json_t *describe_net(const struct machine_config *c, const char *name)
{
	json_t *publish = json_array(), *net;

	for (size_t i = 0; i < c->n_publish; i++) {
		const struct machine_publish *p = &c->publish[i];

		json_array_append_new(publish, json_pack("{s:s, s:s, s:i, s:i}", "proto",
							 p->udp ? "udp" : "tcp", "host_addr",
							 p->address, "host_port", (int)p->host,
							 "guest_port", (int)p->guest));
	}
	net = json_pack("{s:s, s:o}", "type", "user", "publish", publish);
	set_optional(net, "model", c->net_model);
	set_optional(net, "hostname", name);
	set_rate(net, c->net_rate, vm_net_rate_words);
	return net;
}

static json_t *describe_nets(const struct machine_config *c, const char *name)
{
	json_t *nets = json_array();

	if (c->net)
		json_array_append_new(nets, describe_net(c, name));
	for (size_t i = 0; i < c->n_nics; i++)
		json_array_append_new(nets, machine_describe_nic(&c->nics[i]));
	return nets;
}

static json_t *describe_shares(const struct machine_config *c)
{
	json_t *shares = json_array();

	for (size_t i = 0; i < c->n_shares; i++) {
		autofree char *tag = xasprintf("share%zu", i);

		json_array_append_new(shares,
				      json_pack("{s:s, s:s, s:b}", "path", c->shares[i].host, "tag",
						tag, "readonly", c->shares[i].read_only));
	}
	return shares;
}

static void describe_boot(json_t *d, const struct machine_config *c)
{
	autofree char *copy = xstrdup(c->boot);
	json_t *order = json_array();
	char *save = NULL;

	for (char *o = strtok_r(copy, ",", &save); o; o = strtok_r(NULL, ",", &save)) {
		if (strcmp(o, "menu") == 0)
			json_object_set_new(d, "boot_menu", json_true());
		else
			json_array_append_new(order, json_string(o));
	}
	if (json_array_size(order))
		json_object_set_new(d, "boot", order);
	else
		json_decref(order);
}

static void describe_display(json_t *d, const struct machine_config *c)
{
	json_t *o;

	if (!c->vnc && !c->text_screen)
		return;
	o = json_pack("{s:b, s:b}", "vga", 1, "text", c->text_screen);
	set_optional(o, "vnc", c->vnc);
	set_optional(o, "password", c->vnc_password);
	set_optional(o, "tls", c->vnc_tls);
	json_object_set_new(d, "display", o);
	/* The terminal is the screen's then. */
	if (c->text_screen)
		json_object_set_new(d, "serial", json_pack("{s:s}", "type", "none"));
}

/* The serial console: ours to be, or a socket whose output is kept as well. */
static json_t *describe_serial(const struct machine_place *p)
{
	json_t *o = json_pack("{s:s}", "type", p->console ? "socket" : "stdio");

	set_optional(o, "path", p->console);
	set_optional(o, "log", p->console_log);
	return o;
}

static char *command_line(const struct machine_config *c, const struct machine_place *p)
{
	if (!p->agent)
		return xstrdup(c->append ? c->append : "console=ttyS0 panic=-1");
	return xasprintf("console=ttyS0 panic=-1 random.trust_cpu=on%s%s%s",
			 p->verbose ? "" : " quiet", c->append ? " " : "",
			 c->append ? c->append : "");
}

json_t *machine_describe(const struct machine_config *c, const struct machine_place *p)
{
	autofree char *append = command_line(c, p);
	json_t *d = json_pack(
	    "{s:i, s:s, s:s, s:s, s:i, s:I, s:o, s:o, s:o, s:s, s:b, s:b, s:s}", "version", 1,
	    "name", p->name ? p->name : "insula", "machine", c->board, "engine", c->engine, "cpus",
	    (int)c->cpus, "memory", (json_int_t)c->memory, "disks", describe_disks(c, p), "shares",
	    describe_shares(c), "serial", describe_serial(p), "control", p->control, "rng", 1,
	    "balloon", 1, "on_reboot", p->restart ? "restart" : "exit");

	set_optional(d, "uuid", p->uuid);
	if (c->firmware) {
		json_object_set_new(d, "firmware", json_string(c->firmware));
		set_optional(d, "nvram", p->nvram);
	} else {
		json_object_set_new(d, "kernel", json_string(p->kernel));
		json_object_set_new(d, "append", json_string(append));
		set_optional(d, "initrd", p->initrd);
	}
	if (c->boot)
		describe_boot(d, c);
	describe_display(d, c);
	if (c->net || c->n_nics)
		json_object_set_new(d, "nets", describe_nets(c, p->name));
	if (p->agent)
		json_object_set_new(d, "vsock",
				    json_pack("{s:i, s:s}", "cid", 3, "socket", p->vsock));
	return d;
}

char *machine_agent_config(const struct machine_config *c, const char *name)
{
	json_t *shares = json_array(), *o;
	char *text;

	for (size_t i = 0; i < c->n_shares; i++) {
		autofree char *tag = xasprintf("share%zu", i);

		json_array_append_new(shares, json_pack("{s:s, s:s, s:b}", "tag", tag, "path",
							c->shares[i].guest, "readonly",
							c->shares[i].read_only));
	}
	o = json_pack("{s:i, s:s, s:I, s:o}", "version", 1, "hostname", name ? name : "insula",
		      "time", (json_int_t)time(NULL), "shares", shares);
	if (c->net)
		json_object_set_new(o, "net",
				    json_pack("{s:s, s:i, s:s, s:[s]}", "address", "10.0.2.15",
					      "prefix", 24, "gateway", "10.0.2.2", "dns",
					      "10.0.2.3"));
	text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	return text;
}
