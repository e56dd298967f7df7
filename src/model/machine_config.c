/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model/machine_config.c - what a person says about a machine: reading, writing and checking it
 */
#include "model/machine_config.h"

#include "codec/json_read.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>

const struct machine_field machine_config_fields[] = {
    {"image", "string", "what `insula image` knows: deb:SUITE[+PACKAGE...], a path, an ID"},
    {"isolation", "string", "vm (default), or container: of an image of a registry"},
    {"command", "array", "of a container: words instead of the image's"},
    {"env", "array", "of a container: variables, NAME=value"},
    {"workdir", "string", "of a container: where its command starts"},
    {"user", "string", "of a container: who runs its command, USER[:GROUP]"},
    {"tty", "boolean", "of a container: its command has a terminal, the console"},
    {"engine", "string", "auto (default), kvm, soft, jit or interp"},
    {"board", "string", "q35 (default) or micro"},
    {"cpus", "integer", "virtual CPUs, 1 to 64 (default 1)"},
    {"memory", "integer", "bytes of guest memory (default 1 GiB)"},
    {"kernel", "string", "absolute path of a Linux kernel"},
    {"initrd", "string", "absolute path of its initial RAM disk, without an image"},
    {"append", "string", "kernel command line"},
    {"firmware", "string", "bios, uefi or the absolute path of a file, instead of a kernel"},
    {"boot", "string", "what firmware tries: cdrom, disk, network, menu; comma-separated"},
    {"vnc", "string", "show the screen at ADDRESS:PORT or unix:PATH"},
    {"vnc_password", "string", "of 1 to 8 bytes"},
    {"gpu", "string", "the screen's card: vga (default) or virtio"},
    {"vnc_origin", "string",
     "pages of this origin, such as https://HOST, may connect by WebSocket"},
    {"vnc_tls", "string",
     "absolute path of a certificate and its key (PEM): speak TLS with viewers"},
    {"usb", "string",
     "what is on USB: auto (default; a tablet if there is a screen), none, tablet, keyboard or "
     "both"},
    {"net", "string", "user (default) or none"},
    {"net_model", "string", "the card: virtio (default) or e1000"},
    {"net_rate", "object", "{in, in_burst, out, out_burst}: bytes a second to and from the guest"},
    {"nics", "array", "{mac, model, rate}: further cards, each with a user network of its own"},
    {"disks", "array",
     "{path, format, bus, cdrom, readonly, serial, rate}, at most 7; rate: {bytes, bytes_burst, "
     "ops, ops_burst} a second"},
    {"root_rate", "object", "the rate of the image's disk, likewise"},
    {"publish", "array", "{proto, address, host, guest}: ports passed to the guest"},
    {"shares", "array", "{host, guest, readonly}: directories of the host shown in the guest"},
    {"limits", "object", "{cpu_percent, cpu_weight, memory}: of the host's resources"},
    {NULL, NULL, NULL},
};

static const char *const engines[] = {"auto", "kvm", "soft", "jit", "interp", NULL};
static const char *const boards[] = {"q35", "micro", NULL};
static const char *const nets[] = {"user", "none", NULL};
static const char *const formats[] = {"auto", "raw", "qcow2", NULL};
static const char *const buses[] = {"virtio", "ahci", "nvme", "scsi", NULL};
static const char *const cards[] = {"virtio", "e1000", NULL};
static const char *const usb_words[] = {"auto", "none", "tablet", "keyboard", "both", NULL};
static const char *const gpus[] = {"vga", "virtio", NULL};
static const char *const protocols[] = {"tcp", "udp", NULL};

void machine_config_init(struct machine_config *c)
{
	*c = (struct machine_config){
	    .engine = xstrdup(engines[0]),
	    .board = xstrdup(boards[0]),
	    .cpus = 1,
	    .memory = MACHINE_DEFAULT_MEMORY,
	    .usb = usb_words[0],
	    .gpu = gpus[0],
	    .net = true,
	    .net_model = cards[0],
	};
}

void machine_config_fini(struct machine_config *c)
{
	free(c->image);
	free(c->engine);
	free(c->board);
	free(c->kernel);
	free(c->initrd);
	free(c->append);
	free(c->firmware);
	free(c->boot);
	free(c->vnc);
	free(c->vnc_password);
	free(c->vnc_tls);
	free(c->vnc_origin);
	/* One past the count may be half read. */
	for (size_t i = 0; i < MACHINE_MAX_DEVS; i++) {
		free(c->disks[i].path);
		free(c->disks[i].serial);
		free(c->shares[i].host);
		free(c->shares[i].guest);
	}
	for (size_t i = 0; i < ARRAY_SIZE(c->publish); i++)
		free(c->publish[i].address);
	machine_container_fini(&c->container);
	memset(c, 0, sizeof(*c));
}

int machine_name_check(const char *name, struct err *e)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < strlen(name); i++) {
		if (!isalnum((unsigned char)name[i]) && (i == 0 || !name[i + 1] || name[i] != '-'))
			n = 0;
	}
	if (n < 1 || n > 63)
		return err_msg(e, -EINVAL,
			       "'%.80s' is no name: letters, digits and inner '-', at most 63",
			       name);
	return 0;
}

/* --- reading --- */

static void check_keys(const struct json_reader *r, const char *const *known)
{
	const char *key;
	json_t *v;

	json_object_foreach(r->value, key, v)
	{
		size_t i = 0;

		while (known[i] && strcmp(known[i], key) != 0)
			i++;
		if (!known[i])
			json_fail(r, key, "unknown key");
	}
}

static char *copy_string(const struct json_reader *r, const char *key)
{
	const char *s = json_read_string(r, key);

	if (s && !*s)
		json_fail(r, key, "is empty");
	return s ? xstrdup(s) : NULL;
}

/* The daemon has another working directory than its clients. */
static char *copy_path(const struct json_reader *r, const char *key)
{
	char *s = copy_string(r, key);

	if (s && s[0] != '/')
		json_fail(r, key, "'%s' is not an absolute path", s);
	return s;
}

static char *copy_word(const struct json_reader *r, const char *key, const char *const *words)
{
	int i = json_read_word(r, key, words);

	return xstrdup(words[i < 0 ? 0 : i]);
}

static void read_rate(const struct json_reader *r, const char *key, const char *const words[2],
		      struct vm_rate ret[2])
{
	struct json_reader o;
	char burst[2][16];

	if (!json_read_object(r, key, &o))
		return;
	for (unsigned int i = 0; i < 2; i++)
		snprintf(burst[i], sizeof(burst[i]), "%s_burst", words[i]);
	check_keys(&o, (const char *const[]){words[0], burst[0], words[1], burst[1], NULL});
	for (unsigned int i = 0; i < 2; i++) {
		int64_t rate = 0, most = 0;

		json_read_int(&o, words[i], 0, VM_RATE_MAX, &rate);
		json_read_int(&o, burst[i], 0, VM_RATE_MAX, &most);
		if (most && !rate)
			json_fail(&o, burst[i], "needs %s", words[i]);
		ret[i] = (struct vm_rate){(uint64_t)rate, (uint64_t)most};
	}
}

/* What the guest reads as the disk's serial number: 20 bytes at most. */
static char *read_serial(const struct json_reader *r)
{
	char *s = copy_string(r, "serial");

	if (s && strlen(s) > 20)
		json_fail(r, "serial", "is longer than 20 bytes");
	return s;
}

static void read_disks(const struct json_reader *r, struct machine_config *c)
{
	static const char *const keys[] = {"path",     "format", "bus",  "cdrom",
					   "readonly", "serial", "rate", NULL};
	struct json_reader array, o;
	size_t n = json_read_array(r, "disks", MACHINE_MAX_DEVS - 1, &array);

	for (size_t i = 0; i < n && !r->doc->error; i++) {
		struct machine_disk *d = &c->disks[c->n_disks++];
		int word;

		json_read_entry(&array, i, &o);
		if (!json_is_object(o.value)) {
			json_fail(&o, NULL, "must be an object");
			return;
		}
		check_keys(&o, keys);
		d->path = copy_path(&o, "path");
		word = json_read_word(&o, "format", formats);
		d->format = formats[word < 0 ? 0 : word];
		d->cdrom = json_read_bool(&o, "cdrom", false);
		d->read_only = json_read_bool(&o, "readonly", d->cdrom);
		word = json_read_word(&o, "bus", buses);
		d->bus = buses[d->cdrom ? 1 : word < 0 ? 0 : word];
		d->serial = read_serial(&o);
		read_rate(&o, "rate", vm_disk_rate_words, d->rate);
		if (!d->path && !d->cdrom)
			json_fail(&o, "path", "is missing");
	}
}

static void read_nics(const struct json_reader *r, struct machine_config *c)
{
	static const char *const keys[] = {"mac", "model", "rate", NULL};
	struct json_reader array, o;
	size_t n = json_read_array(r, "nics", ARRAY_SIZE(c->nics), &array);

	for (size_t i = 0; i < n && !r->doc->error; i++) {
		struct machine_nic *nic = &c->nics[c->n_nics++];
		const char *mac;

		json_read_entry(&array, i, &o);
		if (!json_is_object(o.value)) {
			json_fail(&o, NULL, "must be an object");
			return;
		}
		check_keys(&o, keys);
		mac = json_read_string(&o, "mac");
		if (!mac || !vm_mac_parse(mac, nic->mac))
			json_fail(&o, "mac", "must be an address like 52:54:00:12:34:56");
		nic->model = cards[json_read_word(&o, "model", cards) == 1];
		read_rate(&o, "rate", vm_net_rate_words, nic->rate);
	}
}

static void read_publish(const struct json_reader *r, struct machine_config *c)
{
	static const char *const keys[] = {"proto", "address", "host", "guest", NULL};
	struct json_reader array, o;
	size_t n = json_read_array(r, "publish", VM_DESC_MAX_PUBLISH, &array);

	for (size_t i = 0; i < n && !r->doc->error; i++) {
		struct machine_publish *p = &c->publish[c->n_publish++];
		int64_t host = 0, guest = 0;
		struct in6_addr addr;

		json_read_entry(&array, i, &o);
		if (!json_is_object(o.value)) {
			json_fail(&o, NULL, "must be an object");
			return;
		}
		check_keys(&o, keys);
		p->udp = json_read_word(&o, "proto", protocols) == 1;
		p->address = copy_string(&o, "address");
		if (!p->address)
			p->address = xstrdup("127.0.0.1");
		if (inet_pton(AF_INET, p->address, &addr) != 1 &&
		    inet_pton(AF_INET6, p->address, &addr) != 1)
			json_fail(&o, "address", "'%.64s' is not an address", p->address);
		if (!json_read_int(&o, "host", 1, 65535, &host))
			json_fail(&o, "host", "is missing");
		if (!json_read_int(&o, "guest", 1, 65535, &guest))
			json_fail(&o, "guest", "is missing");
		p->host = (unsigned int)host;
		p->guest = (unsigned int)guest;
	}
}

static void read_shares(const struct json_reader *r, struct machine_config *c)
{
	static const char *const keys[] = {"host", "guest", "readonly", NULL};
	struct json_reader array, o;
	size_t n = json_read_array(r, "shares", MACHINE_MAX_DEVS, &array);

	for (size_t i = 0; i < n && !r->doc->error; i++) {
		struct machine_share *s = &c->shares[c->n_shares++];

		json_read_entry(&array, i, &o);
		if (!json_is_object(o.value)) {
			json_fail(&o, NULL, "must be an object");
			return;
		}
		check_keys(&o, keys);
		s->host = copy_path(&o, "host");
		s->guest = copy_path(&o, "guest");
		s->read_only = json_read_bool(&o, "readonly", false);
		if (!s->host || !s->guest)
			json_fail(&o, s->host ? "guest" : "host", "is missing");
	}
}

static void read_limits(const struct json_reader *r, struct machine_limits *l)
{
	static const char *const keys[] = {"cpu_percent", "cpu_weight", "memory", NULL};
	struct json_reader o;
	int64_t memory = 0;

	if (!json_read_object(r, "limits", &o))
		return;
	check_keys(&o, keys);
	json_read_int(&o, "cpu_percent", 0, 100 * VM_DESC_MAX_CPUS, &l->cpu_percent);
	json_read_int(&o, "cpu_weight", 0, 10000, &l->cpu_weight);
	json_read_int(&o, "memory", 0, INT64_MAX, &memory);
	l->memory = (uint64_t)memory;
}

static void read_config(const struct json_reader *r, struct machine_config *c)
{
	const char *known[ARRAY_SIZE(machine_config_fields)] = {NULL};
	int64_t n = 1;
	int word;

	for (size_t i = 0; machine_config_fields[i].name; i++)
		known[i] = machine_config_fields[i].name;
	check_keys(r, known);
	c->image = copy_string(r, "image");
	c->engine = copy_word(r, "engine", engines);
	c->board = copy_word(r, "board", boards);
	json_read_int(r, "cpus", 1, VM_DESC_MAX_CPUS, &n);
	c->cpus = (unsigned int)n;
	n = (int64_t)MACHINE_DEFAULT_MEMORY;
	json_read_int(r, "memory", (int64_t)MACHINE_MIN_MEMORY, (int64_t)VM_DESC_MAX_MEMORY, &n);
	c->memory = ALIGN_DOWN((uint64_t)n, UINT64_C(1) << 20);
	c->kernel = copy_path(r, "kernel");
	c->initrd = copy_path(r, "initrd");
	c->append = copy_string(r, "append");
	c->firmware = copy_string(r, "firmware");
	c->boot = copy_string(r, "boot");
	c->vnc = copy_string(r, "vnc");
	c->vnc_password = copy_string(r, "vnc_password");
	c->vnc_tls = copy_path(r, "vnc_tls");
	c->vnc_origin = copy_string(r, "vnc_origin");
	c->gpu = gpus[json_read_word(r, "gpu", gpus) == 1];
	word = json_read_word(r, "usb", usb_words);
	c->usb = usb_words[word < 0 ? 0 : word];
	c->net = json_read_word(r, "net", nets) != 1;
	c->net_model = cards[json_read_word(r, "net_model", cards) == 1];
	read_rate(r, "net_rate", vm_net_rate_words, c->net_rate);
	read_rate(r, "root_rate", vm_disk_rate_words, c->root_rate);
	read_nics(r, c);
	read_disks(r, c);
	read_publish(r, c);
	read_shares(r, c);
	read_limits(r, &c->limits);
	machine_container_read(r, &c->container);
}

int machine_config_parse(json_t *o, struct machine_config *ret, struct err *e)
{
	struct json_doc doc = {.root = o, .err = e};
	struct json_reader r = {.doc = &doc, .value = o};

	*ret = (struct machine_config){0};
	if (!json_is_object(o))
		json_fail(&r, NULL, "must be an object");
	else
		read_config(&r, ret);
	if (!doc.error)
		doc.error = machine_config_check(ret, e);
	if (doc.error)
		machine_config_fini(ret);
	return doc.error;
}

/* --- checking --- */

static int check_boot(const char *boot, struct err *e)
{
	static const char *const words[] = {"disk", "cdrom", "network", "menu"};
	autofree char *copy = xstrdup(boot);
	char *save = NULL;

	for (char *o = strtok_r(copy, ",", &save); o; o = strtok_r(NULL, ",", &save)) {
		size_t i = 0;

		while (i < ARRAY_SIZE(words) && strcmp(o, words[i]) != 0)
			i++;
		if (i == ARRAY_SIZE(words))
			return err_msg(e, -EINVAL,
				       "boot: '%.64s' is not disk, cdrom, network or menu", o);
	}
	return 0;
}

static int check_container(const struct machine_config *c, struct err *e)
{
	if (!c->container.on)
		return machine_container_check(&c->container, e);
	if (!c->image)
		return err_msg(e, -EINVAL, "a container needs an image");
	if (c->kernel || c->initrd || c->append || c->firmware || c->boot || c->n_disks ||
	    c->n_nics || c->vnc || c->vnc_password || c->vnc_tls)
		return err_msg(
		    e, -EINVAL,
		    "a container has no kernel, initrd, append, firmware, boot, disks, nics "
		    "or screen of its own");
	return 0;
}

int machine_config_check(const struct machine_config *c, struct err *e)
{
	bool named = c->firmware && c->firmware[0] != '/';

	if (check_container(c, e) < 0)
		return -EINVAL;
	if (!c->image && !c->kernel && !c->firmware)
		return err_msg(
		    e, -EINVAL,
		    "nothing to start: give an image, a kernel or firmware (with disks)");
	if (named && strcmp(c->firmware, "bios") != 0 && strcmp(c->firmware, "uefi") != 0)
		return err_msg(e, -EINVAL, "firmware: '%.64s' is not bios, uefi or a file",
			       c->firmware);
	if (c->firmware && (c->image || c->kernel || c->initrd || c->append))
		return err_msg(e, -EINVAL,
			       "firmware starts what is on the disks: no image, kernel, initrd or "
			       "append");
	if (c->boot && !c->firmware)
		return err_msg(e, -EINVAL, "boot: is for firmware");
	if (c->boot && check_boot(c->boot, e) < 0)
		return -EINVAL;
	if (strcmp(c->board, "micro") == 0 && (c->firmware || c->vnc))
		return err_msg(e, -EINVAL, "firmware and vnc need the board q35");
	if (strcmp(c->usb, "auto") != 0 && strcmp(c->usb, "none") != 0 && !c->firmware && !c->vnc &&
	    !c->text_screen)
		return err_msg(e, -EINVAL, "usb: tablet and keyboard need firmware or vnc");
	if (c->vnc_password && (!c->vnc || strlen(c->vnc_password) > 8))
		return err_msg(e, -EINVAL, "vnc_password: has 1 to 8 bytes, and needs vnc");
	if (c->vnc_tls && !c->vnc)
		return err_msg(e, -EINVAL, "vnc_tls: needs vnc");
	if (c->vnc_origin && !c->vnc)
		return err_msg(e, -EINVAL, "vnc_origin: needs vnc");
	if (strcmp(c->gpu, "virtio") == 0 && !c->vnc && !c->firmware)
		return err_msg(e, -EINVAL, "gpu: needs firmware or vnc");
	if (strcmp(c->gpu, "virtio") == 0 && c->firmware && strcmp(c->firmware, "bios") == 0)
		return err_msg(e, -EINVAL, "gpu: the BIOS does not know virtio's card: use uefi");
	if (c->image && c->initrd)
		return err_msg(e, -EINVAL, "initrd: an image has its own");
	if (!c->image && c->n_shares)
		return err_msg(e, -EINVAL, "shares: need an image, whose agent mounts them");
	for (size_t i = 0; i < c->n_nics; i++)
		for (size_t k = 0; k < i; k++)
			if (memcmp(c->nics[i].mac, c->nics[k].mac, 6) == 0)
				return err_msg(e, -EINVAL, "nics[%zu].mac: another card has it", i);
	if (!c->image && (c->root_rate[0].rate || c->root_rate[1].rate))
		return err_msg(e, -EINVAL, "root_rate: is for an image's disk");
	if (c->n_publish && !c->net)
		return err_msg(e, -EINVAL, "publish: needs a network, and net is none");
	return 0;
}

/* --- writing --- */

static void put_text(json_t *o, const char *key, const char *value)
{
	if (value)
		json_object_set_new(o, key, json_string(value));
}

static void put_array(json_t *o, const char *key, json_t *array)
{
	if (json_array_size(array))
		json_object_set(o, key, array);
	json_decref(array);
}

static void put_rate(json_t *o, const char *key, const struct vm_rate rate[2],
		     const char *const words[2])
{
	json_t *v = vm_rate_format(rate, words);

	if (v)
		json_object_set_new(o, key, v);
}

static json_t *format_nics(const struct machine_config *c)
{
	json_t *array = json_array();

	for (size_t i = 0; i < c->n_nics; i++) {
		const struct machine_nic *n = &c->nics[i];
		json_t *o = json_object();
		char mac[18];

		vm_mac_format(n->mac, mac);
		put_text(o, "mac", mac);
		put_text(o, "model", n->model);
		put_rate(o, "rate", n->rate, vm_net_rate_words);
		json_array_append_new(array, o);
	}
	return array;
}

static json_t *format_disks(const struct machine_config *c)
{
	json_t *array = json_array();

	for (size_t i = 0; i < c->n_disks; i++) {
		const struct machine_disk *d = &c->disks[i];
		json_t *o = json_object();

		put_text(o, "path", d->path);
		put_text(o, "format", d->format);
		put_text(o, "bus", d->bus);
		json_object_set_new(o, "cdrom", json_boolean(d->cdrom));
		json_object_set_new(o, "readonly", json_boolean(d->read_only));
		put_text(o, "serial", d->serial);
		put_rate(o, "rate", d->rate, vm_disk_rate_words);
		json_array_append_new(array, o);
	}
	return array;
}

static json_t *format_publish(const struct machine_config *c)
{
	json_t *array = json_array();

	for (size_t i = 0; i < c->n_publish; i++) {
		const struct machine_publish *p = &c->publish[i];

		json_array_append_new(array,
				      json_pack("{s:s, s:s, s:i, s:i}", "proto",
						p->udp ? "udp" : "tcp", "address", p->address,
						"host", (int)p->host, "guest", (int)p->guest));
	}
	return array;
}

static json_t *format_shares(const struct machine_config *c)
{
	json_t *array = json_array();

	for (size_t i = 0; i < c->n_shares; i++) {
		const struct machine_share *s = &c->shares[i];

		json_array_append_new(array, json_pack("{s:s, s:s, s:b}", "host", s->host, "guest",
						       s->guest, "readonly", s->read_only));
	}
	return array;
}

static void put_limits(json_t *config, const struct machine_limits *l)
{
	json_t *o = json_object();

	if (l->cpu_percent)
		json_object_set_new(o, "cpu_percent", json_integer(l->cpu_percent));
	if (l->cpu_weight)
		json_object_set_new(o, "cpu_weight", json_integer(l->cpu_weight));
	if (l->memory)
		json_object_set_new(o, "memory", json_integer((json_int_t)l->memory));
	if (json_object_size(o))
		json_object_set(config, "limits", o);
	json_decref(o);
}

json_t *machine_config_format(const struct machine_config *c)
{
	json_t *o = json_object();

	put_text(o, "image", c->image);
	machine_container_format(&c->container, o);
	if (!c->container.on) {
		put_text(o, "engine", c->engine);
		put_text(o, "board", c->board);
	}
	json_object_set_new(o, "cpus", json_integer((json_int_t)c->cpus));
	json_object_set_new(o, "memory", json_integer((json_int_t)c->memory));
	put_text(o, "kernel", c->kernel);
	put_text(o, "initrd", c->initrd);
	put_text(o, "append", c->append);
	put_text(o, "firmware", c->firmware);
	put_text(o, "boot", c->boot);
	put_text(o, "vnc", c->vnc);
	put_text(o, "vnc_password", c->vnc_password);
	put_text(o, "vnc_tls", c->vnc_tls);
	put_text(o, "vnc_origin", c->vnc_origin);
	if (c->gpu != gpus[0])
		put_text(o, "gpu", c->gpu);
	if (c->usb != usb_words[0])
		put_text(o, "usb", c->usb);
	put_text(o, "net", nets[c->net ? 0 : 1]);
	if (c->net_model != cards[0])
		put_text(o, "net_model", c->net_model);
	put_rate(o, "net_rate", c->net_rate, vm_net_rate_words);
	put_rate(o, "root_rate", c->root_rate, vm_disk_rate_words);
	put_array(o, "nics", format_nics(c));
	put_array(o, "disks", format_disks(c));
	put_array(o, "publish", format_publish(c));
	put_array(o, "shares", format_shares(c));
	put_limits(o, &c->limits);
	return o;
}
