/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model/vm_desc_parse.c - the description of one virtual machine, read from JSON
 *
 * Every object is read through a `struct reader`, which takes keys away from it; what is left at
 * the end is unknown, and an error.  Errors carry the path of the field ("disks[0].path").
 */
#include "model/vm_desc.h"

#include "base/exit.h"
#include "model/machine_record.h"
#include "model/vm_desc_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>

struct reader {
	json_t *o;        /* keys that were read are deleted */
	const char *path; /* "" or "disks[0]." */
	struct err *e;
	int error; /* the first one; later reads do nothing */
};

static void fail(struct reader *r, const char *key, const char *fmt, ...) printf_like(3, 4);

static void fail(struct reader *r, const char *key, const char *fmt, ...)
{
	char what[300];
	va_list ap;

	if (r->error)
		return;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	r->error = err_msg(r->e, -EINVAL, "%s%s: %s", r->path, key, what);
}

/* The value of @key, or NULL when absent; it belongs to the caller. */
static json_t *take(struct reader *r, const char *key)
{
	json_t *v;

	if (r->error)
		return NULL;
	v = json_object_get(r->o, key);
	if (v) {
		json_incref(v);
		json_object_del(r->o, key);
	}
	return v;
}

static void read_end(struct reader *r)
{
	const char *key;
	json_t *v;

	if (r->error)
		return;
	json_object_foreach(r->o, key, v)
	{
		fail(r, key, "unknown key");
		return;
	}
}

static bool read_bool(struct reader *r, const char *key, bool preset)
{
	json_t *v = take(r, key);
	bool b = preset;

	if (v && !json_is_boolean(v))
		fail(r, key, "must be true or false");
	else if (v)
		b = json_is_true(v);
	json_decref(v);
	return b;
}

static uint64_t read_int(struct reader *r, const char *key, uint64_t min, uint64_t max,
			 uint64_t preset)
{
	json_t *v = take(r, key);
	uint64_t n = preset;

	if (v && !json_is_integer(v)) {
		fail(r, key, "must be a whole number");
	} else if (v) {
		json_int_t i = json_integer_value(v);

		if (i < 0 || (uint64_t)i < min || (uint64_t)i > max)
			fail(r, key, "%lld is not between %" PRIu64 " and %" PRIu64, (long long)i,
			     min, max);
		else
			n = (uint64_t)i;
	}
	json_decref(v);
	return n;
}

/* A heap string of 1 (0 if @empty_ok) to @max bytes without NUL, or NULL when absent. */
static char *read_string(struct reader *r, const char *key, size_t max, bool required,
			 bool empty_ok)
{
	json_t *v = take(r, key);
	char *s = NULL;

	if (!v && required) {
		fail(r, key, "is missing");
	} else if (v && !json_is_string(v)) {
		fail(r, key, "must be a string");
	} else if (v && strlen(json_string_value(v)) != json_string_length(v)) {
		fail(r, key, "has a NUL character in it");
	} else if (v && json_string_length(v) > max) {
		fail(r, key, "is %zu bytes long, at most %zu are allowed", json_string_length(v),
		     max);
	} else if (v && !empty_ok && json_string_length(v) == 0) {
		fail(r, key, "is empty");
	} else if (v) {
		s = xstrdup(json_string_value(v));
	}
	json_decref(v);
	return s;
}

#define MAX_PATH 4095

static unsigned int read_word(struct reader *r, const char *key, const char *const *names,
			      unsigned int preset)
{
	autofree char *s = read_string(r, key, 64, false, true);

	if (!s)
		return preset;
	for (unsigned int i = 0; names[i]; i++)
		if (strcmp(s, names[i]) == 0)
			return i;
	fail(r, key, "unknown value '%s'", s);
	return preset;
}

typedef void read_fn(struct reader *r, struct vm_desc *d, size_t i);

/* Each object of the array @key through @fn; returns how many there are. */
static size_t read_array(struct reader *r, struct vm_desc *d, const char *key, size_t max,
			 read_fn *fn)
{
	json_t *v = take(r, key);
	size_t n = 0;

	if (v && !json_is_array(v)) {
		fail(r, key, "must be an array");
	} else if (v && json_array_size(v) > max) {
		fail(r, key, "has %zu entries, at most %zu are allowed", json_array_size(v), max);
	} else if (v) {
		for (; n < json_array_size(v) && !r->error; n++) {
			autofree char *path = xasprintf("%s%s[%zu].", r->path, key, n);
			struct reader sub = {.o = json_array_get(v, n), .path = path, .e = r->e};

			if (!json_is_object(sub.o)) {
				fail(r, key, "entry %zu must be an object", n);
				break;
			}
			fn(&sub, d, n);
			read_end(&sub);
			r->error = sub.error;
		}
	}
	json_decref(v);
	return n;
}

/* The object @key as a reader, false when absent.  End with close_object. */
static bool open_object(struct reader *r, const char *key, struct reader *sub, char *path,
			size_t size)
{
	json_t *v = take(r, key);

	if (!v)
		return false;
	if (!json_is_object(v)) {
		fail(r, key, "must be an object");
		json_decref(v);
		return false;
	}
	snprintf(path, size, "%s%s.", r->path, key);
	*sub = (struct reader){.o = v, .path = path, .e = r->e};
	return true;
}

static void close_object(struct reader *r, struct reader *sub)
{
	read_end(sub);
	r->error = sub->error;
	json_decref(sub->o);
}

/* --- parts --- */

static void read_rate_words(struct reader *r, const char *const words[2], struct vm_rate ret[2])
{
	for (unsigned int i = 0; i < 2; i++) {
		autofree char *burst = xasprintf("%s_burst", words[i]);

		ret[i].rate = read_int(r, words[i], 0, VM_RATE_MAX, 0);
		ret[i].burst = read_int(r, burst, 0, VM_RATE_MAX, 0);
		if (ret[i].burst && !ret[i].rate)
			fail(r, burst, "needs %s", words[i]);
	}
}

static void read_rate(struct reader *r, const char *const words[2], struct vm_rate ret[2])
{
	struct reader sub;
	char path[64];

	if (!open_object(r, "rate", &sub, path, sizeof(path)))
		return;
	read_rate_words(&sub, words, ret);
	close_object(r, &sub);
}

int vm_desc_read_rate(json_t *o, const char *const words[2], struct vm_rate ret[2], struct err *e)
{
	struct reader r = {.o = o, .path = "rate.", .e = e};
	struct vm_rate rate[2] = {{0}};

	if (!json_is_object(o))
		return err_msg(e, -EINVAL, "rate: must be an object");
	read_rate_words(&r, words, rate);
	read_end(&r);
	if (r.error == 0)
		memcpy(ret, rate, sizeof(rate));
	return r.error;
}

/* Slot 0 is the host bridge's, 31 the LPC bridge's. */
static void read_slot(struct reader *r, unsigned int *slot, bool *removed)
{
	*slot = (unsigned int)read_int(r, "slot", 1, 30, 0);
	*removed = read_bool(r, "removed", false);
}

static void read_disk(struct reader *r, struct vm_desc *d, size_t i)
{
	struct vm_disk *k = &d->disks[i];
	autofree char *serial = NULL;

	read_slot(r, &k->slot, &k->removed);
	k->cdrom = read_bool(r, "cdrom", false);
	k->path = read_string(r, "path", MAX_PATH, !k->cdrom && !k->removed, false);
	k->format = read_string(r, "format", 32, false, false);
	if (!k->format)
		k->format = xstrdup("auto");
	k->bus = (enum vm_disk_bus)read_word(r, "bus", vm_disk_bus_names,
					     k->cdrom ? VM_DISK_AHCI : VM_DISK_VIRTIO);
	if (k->cdrom && k->bus != VM_DISK_AHCI)
		fail(r, "bus", "must be ahci for a CD-ROM drive");
	k->read_only = read_bool(r, "readonly", k->cdrom);
	if (k->cdrom && !k->read_only)
		fail(r, "readonly", "must be true for a CD-ROM drive");
	k->overlay = read_bool(r, "overlay", false);
	if (k->read_only && k->overlay)
		fail(r, "overlay", "cannot be true on a read-only disk");
	serial = read_string(r, "serial", sizeof(k->serial) - 1, false, true);
	if (serial)
		strcpy(k->serial, serial);
	read_rate(r, vm_disk_rate_words, k->rate);
	if ((k->slot || k->removed) && k->bus == VM_DISK_AHCI)
		fail(r, "slot", "is not for a disk on AHCI");
}

static void read_publish(struct reader *r, struct vm_net *n, size_t i)
{
	static const char *const protos[] = {"tcp", "udp", NULL};
	struct vm_publish *p = &n->publish[i];
	autofree char *addr = NULL;
	uint8_t raw[16];

	p->udp = read_word(r, "proto", protos, 0) == 1;
	addr = read_string(r, "host_addr", sizeof(p->host_addr) - 1, false, true);
	if (addr && addr[0] && inet_pton(AF_INET, addr, raw) != 1 &&
	    inet_pton(AF_INET6, addr, raw) != 1)
		fail(r, "host_addr", "'%s' is not an IP address", addr);
	else if (addr)
		strcpy(p->host_addr, addr);
	p->host_port = (uint16_t)read_int(r, "host_port", 1, 65535, 0);
	p->guest_port = (uint16_t)read_int(r, "guest_port", 1, 65535, 0);
	if (!p->host_port)
		fail(r, "host_port", "is missing");
	if (!p->guest_port)
		fail(r, "guest_port", "is missing");
}

static void read_publish_row(struct reader *r, struct vm_desc *d, size_t i)
{
	read_publish(r, &d->nets[d->n_nets], i);
}

static void read_net(struct reader *r, struct vm_desc *d, size_t i)
{
	static const char *const types[] = {"user", NULL};
	struct vm_net *n = &d->nets[i];
	autofree char *mac = NULL;

	read_word(r, "type", types, 0);
	mac = read_string(r, "mac", 17, false, false);
	if (mac && !vm_mac_parse(mac, n->mac))
		fail(r, "mac", "'%s' is not a unicast address like 52:54:00:12:34:56", mac);
	n->has_mac = mac != NULL;
	n->model = (enum vm_net_model)read_word(r, "model", vm_net_model_names, VM_NET_VIRTIO);
	n->hostname = read_string(r, "hostname", 253, false, false);
	n->restrict_host = read_bool(r, "restrict", false);
	read_rate(r, vm_net_rate_words, n->rate);
	read_slot(r, &n->slot, &n->removed);
	n->publish = xcalloc(VM_DESC_MAX_PUBLISH, sizeof(*n->publish));
	d->n_nets = i;
	n->n_publish = read_array(r, d, "publish", VM_DESC_MAX_PUBLISH, read_publish_row);
}

static void read_share(struct reader *r, struct vm_desc *d, size_t i)
{
	struct vm_share *s = &d->shares[i];

	s->type = (enum vm_share_type)read_word(r, "type", vm_share_names, VM_SHARE_FS);
	s->path = read_string(r, "path", MAX_PATH, true, false);
	s->tag = read_string(r, "tag", 36, true, false);
	s->read_only = read_bool(r, "readonly", false);
	for (size_t k = 0; k < i && !r->error; k++)
		if (strcmp(d->shares[k].tag, s->tag) == 0)
			fail(r, "tag", "'%s' is used twice", s->tag);
}

static void read_chardev(struct reader *r, const char *key, struct vm_chardev_desc *c)
{
	struct reader sub;
	char path[64];

	c->type = VM_CHARDEV_NONE;
	if (!open_object(r, key, &sub, path, sizeof(path)))
		return;
	c->type = (enum vm_chardev)read_word(&sub, "type", vm_chardev_names, VM_CHARDEV_NONE);
	c->path = read_string(&sub, "path", MAX_PATH,
			      c->type == VM_CHARDEV_FILE || c->type == VM_CHARDEV_SOCKET, false);
	if (c->path && c->type == VM_CHARDEV_SOCKET && strlen(c->path) > 107)
		fail(&sub, "path", "'%s' is too long for a socket", c->path);
	c->log = read_string(&sub, "log", MAX_PATH, false, false);
	if (c->log && c->type != VM_CHARDEV_SOCKET)
		fail(&sub, "log", "is for sockets");
	close_object(r, &sub);
}

static bool boots_from(const struct vm_desc *d, unsigned int kind)
{
	for (unsigned int i = 0; i < d->n_boot; i++)
		if (d->boot[i] == kind)
			return true;
	return false;
}

/* An array of different words; absent: cdrom, disk, network. */
static void read_boot(struct reader *r, struct vm_desc *d)
{
	static const enum vm_boot preset[] = {VM_BOOT_CDROM, VM_BOOT_DISK, VM_BOOT_NETWORK};
	json_t *v = take(r, "boot"), *word;
	size_t i;

	if (!v) {
		memcpy(d->boot, preset, sizeof(preset));
		d->n_boot = VM_BOOT_KINDS;
		return;
	}
	if (!json_is_array(v))
		fail(r, "boot", "must be an array");
	json_array_foreach(v, i, word)
	{
		unsigned int k = 0;

		while (vm_boot_names[k] &&
		       (!json_is_string(word) || strcmp(json_string_value(word), vm_boot_names[k])))
			k++;
		if (!vm_boot_names[k] || boots_from(d, k)) {
			fail(r, "boot", "entry %zu is not one of disk, cdrom, network, or is twice",
			     i);
			break;
		}
		d->boot[d->n_boot++] = (enum vm_boot)k;
	}
	json_decref(v);
}

/* "unix:PATH" or "ADDRESS:PORT", as display/rfb_server.h takes it. */
static void check_vnc(struct reader *r, const char *vnc)
{
	const char *colon = strrchr(vnc, ':');
	char *end;
	unsigned long port;

	if (strncmp(vnc, "unix:", 5) == 0) {
		if (!vnc[5] || strlen(vnc + 5) > 107)
			fail(r, "vnc", "'%.200s': a socket's path has 1 to 107 bytes", vnc);
		return;
	}
	port = colon ? strtoul(colon + 1, &end, 10) : 0;
	if (port < 1 || port > 65535 || *end || colon == vnc)
		fail(r, "vnc", "'%.200s' is neither unix:PATH nor ADDRESS:PORT", vnc);
}

static void read_display(struct reader *r, struct vm_desc *d)
{
	struct reader sub;
	char path[64];

	d->display.vga = d->firmware != NULL;
	if (!open_object(r, "display", &sub, path, sizeof(path)))
		return;
	d->display.vga = read_bool(&sub, "vga", true);
	if (d->firmware && !d->display.vga)
		fail(&sub, "vga", "must be true with firmware");
	if (d->machine == VM_MACHINE_MICRO && d->display.vga)
		fail(&sub, "vga", "needs machine q35");
	d->display.text = read_bool(&sub, "text", false);
	if (d->display.text && !d->display.vga)
		fail(&sub, "text", "needs vga");
	d->display.vnc = read_string(&sub, "vnc", 200, false, false);
	if (d->display.vnc)
		check_vnc(&sub, d->display.vnc);
	if (d->display.vnc && !d->display.vga)
		fail(&sub, "vnc", "needs vga");
	d->display.password = read_string(&sub, "password", 8, false, false);
	d->display.tls = read_string(&sub, "tls", MAX_PATH, false, false);
	close_object(r, &sub);
}

/* A kernel, or firmware that finds one. */
static void read_start(struct reader *r, struct vm_desc *d)
{
	d->firmware = read_string(r, "firmware", MAX_PATH, false, false);
	d->nvram = read_string(r, "nvram", MAX_PATH, false, false);
	d->kernel = read_string(r, "kernel", MAX_PATH, !d->firmware, false);
	d->initrd = read_string(r, "initrd", MAX_PATH, false, false);
	d->append = read_string(r, "append", VM_DESC_MAX_APPEND, false, true);
	if (d->firmware && (d->kernel || d->initrd || d->append))
		fail(r, "firmware", "and kernel, initrd or append exclude each other");
	if (d->firmware && d->machine != VM_MACHINE_Q35)
		fail(r, "firmware", "needs machine q35");
	if (d->nvram && !d->firmware)
		fail(r, "nvram", "needs firmware");
	if (!d->append && !d->firmware)
		d->append = xstrdup("");
	read_boot(r, d);
	d->boot_menu = read_bool(r, "boot_menu", false);
	read_display(r, d);
}

static void read_vsock(struct reader *r, struct vm_desc *d)
{
	struct reader sub;
	char path[64];

	if (!open_object(r, "vsock", &sub, path, sizeof(path)))
		return;
	d->vsock_cid = read_int(&sub, "cid", 3, UINT32_MAX - 1, 3);
	d->vsock_socket = read_string(&sub, "socket", 96, true, false);
	close_object(r, &sub);
}

static void read_name(struct reader *r, struct vm_desc *d)
{
	static const char ok[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

	d->name = read_string(r, "name", 63, false, false);
	if (!d->name)
		d->name = xstrdup("vm");
	if (strspn(d->name, ok) != strlen(d->name) || d->name[0] == '.' || d->name[0] == '-')
		fail(r, "name", "'%s' may hold letters, digits, '.', '_' and '-' only", d->name);
}

static void read_uuid(struct reader *r, struct vm_desc *d)
{
	d->uuid = read_string(r, "uuid", MACHINE_UUID_LEN, false, false);
	if (d->uuid && !machine_uuid_is(d->uuid))
		fail(r, "uuid", "'%s' is not one", d->uuid);
}

static void read_memory(struct reader *r, struct vm_desc *d)
{
	d->memory =
	    read_int(r, "memory", VM_DESC_MIN_MEMORY, VM_DESC_MAX_MEMORY, UINT64_C(512) << 20);
	if (r->error && r->e && strncmp(r->e->msg, "memory: ", 8) == 0)
		r->e->exit_code = EXIT_BAD_MEMORY;
	else if (d->memory % (1u << 20))
		fail(r, "memory", "%" PRIu64 " is not a whole number of MiB", d->memory);
}

static void read_machine(struct reader *r, struct vm_desc *d)
{
	static const char *const crash[] = {"exit", NULL};

	if (read_int(r, "version", 0, UINT32_MAX, VM_DESC_VERSION) != VM_DESC_VERSION)
		fail(r, "version", "only %d is known", VM_DESC_VERSION);
	read_name(r, d);
	read_uuid(r, d);
	d->machine = (enum vm_machine)read_word(r, "machine", vm_machine_names, VM_MACHINE_Q35);
	d->engine = (enum vm_engine)read_word(r, "engine", vm_engine_names, VM_ENGINE_AUTO);
	d->cpus = (unsigned int)read_int(r, "cpus", 1, VM_DESC_MAX_CPUS, 1);
	read_memory(r, d);
	read_start(r, d);
	d->n_disks = read_array(r, d, "disks", VM_DESC_MAX_DEVS, read_disk);
	d->n_nets = read_array(r, d, "nets", VM_DESC_MAX_DEVS, read_net);
	d->n_shares = read_array(r, d, "shares", VM_DESC_MAX_DEVS, read_share);
	read_vsock(r, d);
	read_chardev(r, "serial", &d->serial);
	read_chardev(r, "console", &d->console);
	read_chardev(r, "firmware_log", &d->firmware_log);
	if (d->firmware_log.type == VM_CHARDEV_STDIO)
		fail(r, "firmware_log", "cannot be stdio");
	if (d->serial.type == VM_CHARDEV_STDIO && d->console.type == VM_CHARDEV_STDIO)
		fail(r, "console", "serial uses stdio already");
	if (d->display.text &&
	    (d->serial.type == VM_CHARDEV_STDIO || d->console.type == VM_CHARDEV_STDIO))
		fail(r, "display", "text needs stdio, which serial or console uses");
	d->control = read_string(r, "control", 107, false, false);
	d->rng = read_bool(r, "rng", true);
	d->balloon = read_bool(r, "balloon", true);
	d->sandbox = read_bool(r, "sandbox", true);
	d->test_devices = read_bool(r, "test_devices", false);
	d->on_reboot =
	    (enum vm_on_reboot)read_word(r, "on_reboot", vm_on_reboot_names, VM_REBOOT_RESTART);
	read_word(r, "on_crash", crash, 0);
	read_end(r);
}

static int read_one(json_t *o, const char *path, struct vm_desc *d, size_t i, read_fn *fn,
		    struct err *e)
{
	struct reader r = {.o = o, .path = path, .e = e};

	if (!json_is_object(o))
		return err_msg(e, -EINVAL, "%s must be an object", path);
	fn(&r, d, i);
	read_end(&r);
	return r.error;
}

int vm_desc_read_disk(json_t *o, struct vm_desc *d, size_t i, struct err *e)
{
	int r = read_one(o, "disk: ", d, i, read_disk, e);

	if (r < 0)
		vm_disk_fini(&d->disks[i]);
	return r;
}

int vm_desc_read_net(json_t *o, struct vm_desc *d, size_t i, struct err *e)
{
	size_t n = d->n_nets;
	int r = read_one(o, "net: ", d, i, read_net, e);

	d->n_nets = n;
	if (r < 0)
		vm_net_fini(&d->nets[i]);
	return r;
}

int vm_desc_parse(const char *text, size_t len, struct vm_desc *ret, struct err *e)
{
	struct reader r = {.path = "", .e = e};
	json_error_t je;

	if (len > VM_DESC_MAX_TEXT)
		return err_msg(e, -EFBIG, "the description is longer than %u bytes",
			       VM_DESC_MAX_TEXT);
	r.o = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &je);
	if (!r.o)
		return err_msg(e, -EINVAL, "the description is not JSON: line %d: %s", je.line,
			       je.text);
	if (json_is_object(r.o))
		read_machine(&r, ret);
	else
		r.error = err_msg(e, -EINVAL, "the description is not a JSON object");
	json_decref(r.o);
	if (r.error)
		vm_desc_fini(ret);
	return r.error;
}
