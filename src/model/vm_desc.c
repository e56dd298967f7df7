/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model/vm_desc.c - the description of one virtual machine: lifetime and the JSON form written
 */
#include "model/vm_desc.h"

#include "model/vm_desc_priv.h"

#include <jansson.h>
#include <stdio.h>

const char *const vm_machine_names[] = {"q35", "micro", NULL};
const char *const vm_engine_names[] = {"auto",   "kvm",          "soft", "jit",
				       "interp", "jit-lockstep", NULL};
const char *const vm_chardev_names[] = {"none", "stdio", "file", "socket", NULL};
const char *const vm_share_names[] = {"virtiofs", "9p", NULL};
const char *const vm_disk_bus_names[] = {"virtio", "ahci", "nvme", NULL};
const char *const vm_net_model_names[] = {"virtio", "e1000", NULL};
const char *const vm_boot_names[] = {"disk", "cdrom", "network", NULL};
const char *const vm_on_reboot_names[] = {"restart", "exit", NULL};

const char *const vm_disk_rate_words[2] = {"bytes", "ops"};
const char *const vm_net_rate_words[2] = {"in", "out"};

json_t *vm_rate_format(const struct vm_rate rate[2], const char *const words[2])
{
	json_t *o = NULL;

	for (unsigned int i = 0; i < 2; i++) {
		autofree char *burst = xasprintf("%s_burst", words[i]);

		if (!rate[i].rate)
			continue;
		if (!o)
			o = json_object();
		json_object_set_new(o, words[i], json_integer((json_int_t)rate[i].rate));
		if (rate[i].burst)
			json_object_set_new(o, burst, json_integer((json_int_t)rate[i].burst));
	}
	return o;
}

void vm_disk_fini(struct vm_disk *k)
{
	free(k->path);
	free(k->format);
	*k = (struct vm_disk){0};
}

void vm_net_fini(struct vm_net *n)
{
	free(n->hostname);
	free(n->publish);
	*n = (struct vm_net){0};
}

void vm_desc_fini(struct vm_desc *d)
{
	size_t i;

	free(d->name);
	free(d->uuid);
	free(d->kernel);
	free(d->initrd);
	free(d->append);
	free(d->firmware);
	free(d->nvram);
	free(d->display.vnc);
	free(d->display.password);
	free(d->display.tls);
	free(d->vsock_socket);
	free(d->serial.path);
	free(d->serial.log);
	free(d->console.path);
	free(d->console.log);
	free(d->firmware_log.path);
	free(d->firmware_log.log);
	free(d->control);
	for (i = 0; i < VM_DESC_MAX_DEVS; i++) {
		vm_disk_fini(&d->disks[i]);
		vm_net_fini(&d->nets[i]);
		free(d->shares[i].path);
		free(d->shares[i].tag);
	}
	*d = (struct vm_desc){0};
}

void vm_mac_derive(const char *name, size_t index, uint8_t mac[6])
{
	uint32_t hash = 2166136261u;

	for (const char *s = name; *s; s++)
		hash = (hash ^ (uint8_t)*s) * 16777619u;
	memcpy(mac, "\x52\x54\x00", 3);
	mac[3] = (uint8_t)(hash >> 16);
	mac[4] = (uint8_t)(hash >> 8);
	mac[5] = (uint8_t)(hash + index);
}

void vm_mac_format(const uint8_t mac[6], char out[18])
{
	snprintf(out, 18, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
		 mac[5]);
}

bool vm_mac_parse(const char *s, uint8_t mac[6])
{
	for (unsigned int i = 0; i < 6; i++, s += 3) {
		unsigned int v;
		int used = 0;

		if (strspn(s, "0123456789abcdefABCDEF") != 2 ||
		    sscanf(s, "%2x%n", &v, &used) != 1 || used != 2)
			return false;
		if (s[2] != (i < 5 ? ':' : '\0'))
			return false;
		mac[i] = (uint8_t)v;
	}
	return !(mac[0] & 1);
}

/* --- writing: jansson takes over every new reference --- */

/* Paths are bytes, JSON is UTF-8: what cannot be written was refused when it was read. */
static void put_string(json_t *o, const char *key, const char *s)
{
	if (s)
		json_object_set_new(o, key, json_string(s));
}

static void put_rate(json_t *o, const struct vm_rate rate[2], const char *const words[2])
{
	json_t *v = vm_rate_format(rate, words);

	if (v)
		json_object_set_new(o, "rate", v);
}

static void put_slot(json_t *o, unsigned int slot, bool removed)
{
	if (slot)
		json_object_set_new(o, "slot", json_integer(slot));
	if (removed)
		json_object_set_new(o, "removed", json_true());
}

static json_t *format_disks(const struct vm_desc *d)
{
	json_t *a = json_array();

	for (size_t i = 0; i < d->n_disks; i++) {
		json_t *o = json_object();

		put_string(o, "path", d->disks[i].path);
		put_string(o, "format", d->disks[i].format);
		put_string(o, "bus", vm_disk_bus_names[d->disks[i].bus]);
		json_object_set_new(o, "cdrom", json_boolean(d->disks[i].cdrom));
		json_object_set_new(o, "readonly", json_boolean(d->disks[i].read_only));
		json_object_set_new(o, "overlay", json_boolean(d->disks[i].overlay));
		if (d->disks[i].serial[0])
			put_string(o, "serial", d->disks[i].serial);
		put_rate(o, d->disks[i].rate, vm_disk_rate_words);
		put_slot(o, d->disks[i].slot, d->disks[i].removed);
		json_array_append_new(a, o);
	}
	return a;
}

static json_t *format_publish(const struct vm_net *n)
{
	json_t *a = json_array();

	for (size_t i = 0; i < n->n_publish; i++) {
		json_t *o = json_object();

		put_string(o, "proto", n->publish[i].udp ? "udp" : "tcp");
		put_string(o, "host_addr", n->publish[i].host_addr);
		json_object_set_new(o, "host_port", json_integer(n->publish[i].host_port));
		json_object_set_new(o, "guest_port", json_integer(n->publish[i].guest_port));
		json_array_append_new(a, o);
	}
	return a;
}

static json_t *format_nets(const struct vm_desc *d)
{
	json_t *a = json_array();

	for (size_t i = 0; i < d->n_nets; i++) {
		const struct vm_net *n = &d->nets[i];
		json_t *o = json_object();
		char mac[18];

		put_string(o, "type", "user");
		if (n->has_mac) {
			vm_mac_format(n->mac, mac);
			put_string(o, "mac", mac);
		}
		put_string(o, "model", vm_net_model_names[n->model]);
		put_string(o, "hostname", n->hostname);
		if (n->restrict_host)
			json_object_set_new(o, "restrict", json_true());
		json_object_set_new(o, "publish", format_publish(n));
		put_rate(o, n->rate, vm_net_rate_words);
		put_slot(o, n->slot, n->removed);
		json_array_append_new(a, o);
	}
	return a;
}

static json_t *format_shares(const struct vm_desc *d)
{
	json_t *a = json_array();

	for (size_t i = 0; i < d->n_shares; i++) {
		json_t *o = json_object();

		put_string(o, "type", vm_share_names[d->shares[i].type]);
		put_string(o, "path", d->shares[i].path);
		put_string(o, "tag", d->shares[i].tag);
		json_object_set_new(o, "readonly", json_boolean(d->shares[i].read_only));
		json_array_append_new(a, o);
	}
	return a;
}

static json_t *format_boot(const struct vm_desc *d)
{
	json_t *a = json_array();

	for (unsigned int i = 0; i < d->n_boot; i++)
		json_array_append_new(a, json_string(vm_boot_names[d->boot[i]]));
	return a;
}

static json_t *format_display(const struct vm_display *d)
{
	json_t *o = json_object();

	json_object_set_new(o, "vga", json_boolean(d->vga));
	json_object_set_new(o, "text", json_boolean(d->text));
	put_string(o, "vnc", d->vnc);
	put_string(o, "password", d->password);
	put_string(o, "tls", d->tls);
	return o;
}

static json_t *format_chardev(const struct vm_chardev_desc *c)
{
	json_t *o = json_object();

	put_string(o, "type", vm_chardev_names[c->type]);
	put_string(o, "path", c->path);
	put_string(o, "log", c->log);
	return o;
}

void vm_desc_format(const struct vm_desc *d, struct strbuf *out)
{
	json_t *o = json_object();
	char *text;

	json_object_set_new(o, "version", json_integer(VM_DESC_VERSION));
	put_string(o, "name", d->name);
	put_string(o, "uuid", d->uuid);
	put_string(o, "machine", vm_machine_names[d->machine]);
	put_string(o, "engine", vm_engine_names[d->engine]);
	json_object_set_new(o, "cpus", json_integer(d->cpus));
	json_object_set_new(o, "memory", json_integer((json_int_t)d->memory));
	put_string(o, "kernel", d->kernel);
	put_string(o, "initrd", d->initrd);
	put_string(o, "append", d->append);
	put_string(o, "firmware", d->firmware);
	put_string(o, "nvram", d->nvram);
	json_object_set_new(o, "boot", format_boot(d));
	json_object_set_new(o, "boot_menu", json_boolean(d->boot_menu));
	json_object_set_new(o, "display", format_display(&d->display));
	json_object_set_new(o, "disks", format_disks(d));
	json_object_set_new(o, "nets", format_nets(d));
	json_object_set_new(o, "shares", format_shares(d));
	if (d->vsock_cid) {
		json_t *v = json_object();

		json_object_set_new(v, "cid", json_integer((json_int_t)d->vsock_cid));
		put_string(v, "socket", d->vsock_socket);
		json_object_set_new(o, "vsock", v);
	}
	json_object_set_new(o, "serial", format_chardev(&d->serial));
	json_object_set_new(o, "console", format_chardev(&d->console));
	json_object_set_new(o, "firmware_log", format_chardev(&d->firmware_log));
	put_string(o, "control", d->control);
	json_object_set_new(o, "rng", json_boolean(d->rng));
	json_object_set_new(o, "balloon", json_boolean(d->balloon));
	json_object_set_new(o, "sandbox", json_boolean(d->sandbox));
	if (d->test_devices)
		json_object_set_new(o, "test_devices", json_true());
	put_string(o, "on_reboot", vm_on_reboot_names[d->on_reboot]);
	put_string(o, "on_crash", "exit");
	text = json_dumps(o, JSON_INDENT(2));
	json_decref(o);
	if (!text)
		abort();
	strbuf_puts(out, text);
	strbuf_putc(out, '\n');
	free(text);
}
