/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/op_cards.c - disks and network cards that come and go, whether the machine runs or not
 *
 * The definition is changed first when something comes, and put back if the machine does not take
 * it; when something goes, the machine lets go of it first.  So what was acknowledged is in both.
 */
#include "daemon/daemon_priv.h"

#include "base/fd.h"
#include "base/log.h"
#include "block/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>

#define DETACH_MS     30000
#define DETACH_MS_MAX 600000
#define FILES_MAX     16 /* a disk and what is below it */

/* --- the definition --- */

/* Disks are named by their places unless they have names: before one goes, or comes, all get theirs
 * for good. */
static void pin_serials(struct machine_config *config)
{
	for (size_t i = 0; i < config->n_disks; i++) {
		struct machine_disk *d = &config->disks[i];

		if (!d->serial)
			d->serial = machine_disk_serial(config, i);
	}
}

static char *free_serial(const struct machine_config *config)
{
	for (unsigned int n = 0;; n++) {
		char *serial = xasprintf("disk%u", n);
		bool taken = false;

		for (size_t i = 0; i < config->n_disks; i++)
			taken |= strcmp(config->disks[i].serial, serial) == 0;
		if (!taken)
			return serial;
		free(serial);
	}
}

static int find_disk(const struct machine_config *config, const char *path)
{
	for (size_t i = 0; i < config->n_disks; i++)
		if (config->disks[i].path && strcmp(config->disks[i].path, path) == 0)
			return (int)i;
	return -ENOENT;
}

static int find_nic(const struct machine_config *config, const char *text, struct err *e)
{
	uint8_t mac[6];

	if (!vm_mac_parse(text, mac))
		return err_msg(e, -EINVAL, "mac: '%.32s' is no address like 52:54:00:12:34:56",
			       text);
	for (size_t i = 0; i < config->n_nics; i++)
		if (memcmp(config->nics[i].mac, mac, 6) == 0)
			return (int)i;
	return -ENOENT;
}

/* --- a disk's files --- */

struct files {
	json_t *paths;
	int fd[FILES_MAX];
	unsigned int n;
};

static void files_fini(struct files *f)
{
	while (f->n)
		close_p(&f->fd[--f->n]);
	json_decref(f->paths);
}

static int add_file(struct files *f, const char *path, bool read_only, struct err *e)
{
	autoclose int fd =
	    open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(e, errno == ENOENT ? -ENOENT : -EINVAL, "disk '%s': %s", path,
			       strerror(errno));
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_msg(e, -EINVAL, "disk '%s' is neither a file nor a block device", path);
	if (f->n == FILES_MAX)
		return err_msg(e, -EINVAL, "disk '%s': more than %d backing files", path,
			       FILES_MAX);
	json_array_append_new(f->paths, json_string(path));
	f->fd[f->n++] = steal_fd(&fd);
	return 0;
}

/* The disk and all below it: a machine behind its walls opens nothing. */
static int open_files(struct files *f, const struct machine_disk *d, struct err *e)
{
	autofree char *path = xstrdup(d->path);
	bool qcow2 = strcmp(disk_format(path, d->format), "qcow2") == 0;
	int r = add_file(f, path, d->read_only, e);

	while (r == 0 && qcow2) {
		autofree char *name = NULL, *full = NULL;

		r = qcow2_read_backing(path, &name, &qcow2, e);
		if (r < 0 || !name)
			break;
		full = name[0] == '/'
			   ? xstrdup(name)
			   : xasprintf("%.*s/%s", (int)(strrchr(path, '/') - path), path, name);
		r = add_file(f, full, true, e);
		free(path);
		path = steal_ptr(&full);
	}
	return r;
}

/* --- common --- */

struct change {
	struct op_call *call;
	struct machine_record m;
	struct machine_config config;
	bool running;
};

static int begin(struct op_call *c, struct change *ch, struct err *e)
{
	struct guest_info g;
	int r = op_claim(c, &ch->m, e);

	if (r < 0)
		return r;
	ch->call = c;
	ch->running = guest_get(c->d, ch->m.uuid, &g) && g.state != GUEST_STARTING;
	r = machine_record_config(&ch->m, &ch->config, e);
	if (r < 0)
		op_unclaim(c, &ch->m);
	else
		pin_serials(&ch->config);
	return r;
}

/* *@before = the configuration that was there, the caller's. */
static int keep(struct change *ch, char **before, struct err *e)
{
	char *text = NULL;
	int r = machine_config_check(&ch->config, e);

	if (r == 0)
		r = machine_config_text(&ch->config, &text, e);
	if (r < 0)
		return r;
	*before = ch->m.config;
	ch->m.config = text;
	r = store_machine_update(ch->call->d->store, &ch->m, e);
	return r;
}

static void put_back(struct change *ch, char **before)
{
	struct err e = {0};

	free(ch->m.config);
	ch->m.config = steal_ptr(before);
	if (store_machine_update(ch->call->d->store, &ch->m, &e) < 0)
		log_warn("'%s': %s", ch->m.name, e.msg);
}

static int end(struct change *ch, int r)
{
	struct op_call *c = ch->call;

	if (r == 0) {
		event_emit(c->d, "machine.changed", ch->m.uuid, ch->m.name, NULL);
		c->result = op_format_machine(c->d, &ch->m, true);
	}
	machine_config_fini(&ch->config);
	op_unclaim(c, &ch->m);
	return r;
}

static int plug(struct change *ch, json_t *args, const struct files *files, struct err *e)
{
	struct vmm_request q = {.command = "plug", .args = args};

	if (files) {
		json_object_set(args, "files", files->paths);
		q.fds = files->fd;
		q.n_fds = files->n;
	}
	return vmm_request(ch->call->d, ch->m.uuid, &q, NULL, e);
}

/* Not in the machine, which runs with an older definition: nothing to do there. */
static int unplug(struct change *ch, const char *kind, const char *name, struct err *e)
{
	int64_t ms = op_int(ch->call, "timeout", DETACH_MS);
	struct vmm_request q = {.command = "unplug", .timeout_ms = (int)ms + 10000};
	int r;

	if (ms < 0 || ms > DETACH_MS_MAX)
		return err_msg(e, -EINVAL, "timeout: %lld is not between 0 and %d ms",
			       (long long)ms, DETACH_MS_MAX);
	q.args = json_pack("{s:s, s:I}", kind, name, "timeout_ms", (json_int_t)ms);
	r = vmm_request(ch->call->d, ch->m.uuid, &q, NULL, e);
	return r == -ENODEV ? 0 : r;
}

/* --- disks --- */

static int add_disk(struct change *ch, struct err *e)
{
	const char *path = op_string(ch->call, "path"), *format = op_string(ch->call, "format");
	struct machine_config *config = &ch->config;
	autofree char *serial = free_serial(config);
	json_t *o, *disks, *all;
	int r;

	if (path[0] != '/')
		return err_msg(e, -EINVAL, "path: '%s' is not an absolute path", path);
	if (find_disk(config, path) >= 0)
		return err_msg(e, -EEXIST, "'%s' has disk '%s' already", ch->m.name, path);
	/* By way of the JSON form, whose reader checks it. */
	all = machine_config_format(config);
	disks = json_object_get(all, "disks");
	if (!disks) {
		disks = json_array();
		json_object_set_new(all, "disks", disks);
	}
	o = json_pack("{s:s, s:s, s:b}", "path", path, "format", format ? format : "auto",
		      "readonly", op_bool(ch->call, "readonly"));
	json_object_set_new(o, "serial", json_string(serial));
	if (json_object_get(ch->call->args, "rate"))
		json_object_set(o, "rate", json_object_get(ch->call->args, "rate"));
	json_array_append_new(disks, o);
	machine_config_fini(config);
	r = machine_config_parse(all, config, e);
	json_decref(all);
	return r;
}

static int attach_disk(struct change *ch, struct err *e)
{
	struct files files = {.paths = json_array()};
	const struct machine_disk *d;
	autofree char *before = NULL;
	int r = add_disk(ch, e);

	d = r == 0 ? &ch->config.disks[ch->config.n_disks - 1] : NULL;
	if (r == 0)
		r = open_files(&files, d, e);
	if (r == 0)
		r = keep(ch, &before, e);
	if (r == 0 && ch->running) {
		json_t *o = machine_describe_disk(&ch->config, ch->config.n_disks - 1);

		r = plug(ch, json_pack("{s:o}", "disk", o), &files, e);
		if (r < 0)
			put_back(ch, &before);
	}
	files_fini(&files);
	return r;
}

int op_disk_attach(struct op_call *c, struct err *e)
{
	struct change ch = {0};
	int r = begin(c, &ch, e);

	return r < 0 ? r : end(&ch, attach_disk(&ch, e));
}

static int detach_disk(struct change *ch, struct err *e)
{
	const char *path = op_string(ch->call, "path");
	struct machine_config *config = &ch->config;
	autofree char *before = NULL;
	int i = find_disk(config, path), r = 0;

	if (i < 0)
		return err_msg(e, -ENOENT, "'%s' has no disk '%s'", ch->m.name, path);
	if (ch->running && strcmp(config->disks[i].bus, "virtio") != 0)
		return err_msg(e, -EBUSY,
			       "disk '%s' is on %s: it goes only while the machine is off", path,
			       config->disks[i].bus);
	if (ch->running)
		r = unplug(ch, "disk", path, e);
	if (r < 0)
		return r;
	free(config->disks[i].path);
	free(config->disks[i].serial);
	config->n_disks--;
	memmove(&config->disks[i], &config->disks[i + 1],
		(config->n_disks - (size_t)i) * sizeof(config->disks[0]));
	config->disks[config->n_disks] = (struct machine_disk){0};
	return keep(ch, &before, e);
}

int op_disk_detach(struct op_call *c, struct err *e)
{
	struct change ch = {0};
	int r = begin(c, &ch, e);

	return r < 0 ? r : end(&ch, detach_disk(&ch, e));
}

/* --- network cards --- */

static void random_mac(uint8_t mac[6])
{
	memcpy(mac, "\x52\x54\x00", 3);
	if (getrandom(mac + 3, 3, 0) != 3)
		abort();
}

static int add_nic(struct change *ch, struct err *e)
{
	const char *mac = op_string(ch->call, "mac"), *model = op_string(ch->call, "model");
	struct machine_config *config = &ch->config;
	struct machine_nic *n = &config->nics[config->n_nics];

	if (config->n_nics == ARRAY_SIZE(config->nics))
		return err_msg(e, -EINVAL, "a machine has %zu further network cards at most",
			       ARRAY_SIZE(config->nics));
	if (model && strcmp(model, "virtio") != 0 && strcmp(model, "e1000") != 0)
		return err_msg(e, -EINVAL, "model: '%.32s' is not virtio or e1000", model);
	*n = (struct machine_nic){.model = model && model[0] == 'e' ? "e1000" : "virtio"};
	if (!mac)
		random_mac(n->mac);
	else if (!vm_mac_parse(mac, n->mac))
		return err_msg(e, -EINVAL, "mac: '%.32s' is no address like 52:54:00:12:34:56",
			       mac);
	config->n_nics++;
	return 0;
}

static int attach_nic(struct change *ch, struct err *e)
{
	struct machine_config *config = &ch->config;
	autofree char *before = NULL;
	int r = add_nic(ch, e);

	if (r == 0)
		r = keep(ch, &before, e);
	if (r == 0 && ch->running) {
		json_t *o = machine_describe_nic(&config->nics[config->n_nics - 1]);

		r = plug(ch, json_pack("{s:o}", "net", o), NULL, e);
		if (r < 0)
			put_back(ch, &before);
	}
	return r;
}

int op_nic_attach(struct op_call *c, struct err *e)
{
	struct change ch = {0};
	int r = begin(c, &ch, e);

	return r < 0 ? r : end(&ch, attach_nic(&ch, e));
}

static int detach_nic(struct change *ch, struct err *e)
{
	const char *mac = op_string(ch->call, "mac");
	struct machine_config *config = &ch->config;
	autofree char *before = NULL;
	int i = find_nic(config, mac, e), r = 0;

	if (i == -ENOENT)
		return err_msg(e, i, "'%s' has no further network card %s", ch->m.name, mac);
	if (i >= 0 && ch->running)
		r = unplug(ch, "net", mac, e);
	if (i < 0 || r < 0)
		return i < 0 ? i : r;
	config->n_nics--;
	memmove(&config->nics[i], &config->nics[i + 1],
		(config->n_nics - (size_t)i) * sizeof(config->nics[0]));
	return keep(ch, &before, e);
}

int op_nic_detach(struct op_call *c, struct err *e)
{
	struct change ch = {0};
	int r = begin(c, &ch, e);

	return r < 0 ? r : end(&ch, detach_nic(&ch, e));
}
