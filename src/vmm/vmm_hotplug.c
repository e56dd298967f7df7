/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/vmm_hotplug.c - disks and network cards that come and go (docs/hotplug.md)
 *
 *	{"command":"plug","arguments":{"disk":{"path":...},"files":[PATH...]}}  and a descriptor
 *each
 *	{"command":"plug","arguments":{"net":{"mac":...}}}
 *	{"command":"unplug","arguments":{"disk":PATH | "net":MAC,"timeout_ms":N}}
 *	{"command":"rate","arguments":{"disk":PATH | "net":MAC,"rate":{...}}}
 *
 * The description says at every moment what the machine has: a snapshot or a fork of it finds the
 * same cards in the same slots.
 */
#include "vmm/vmm_priv.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>

#define TIMEOUT_MS     10000
#define TIMEOUT_MAX_MS 600000

/* A card that the guest is asked for. */
struct vmm_unplug {
	struct list node;
	struct vmm *vmm;
	enum machine_card kind;
	unsigned int index;
	uint64_t request; /* of control_defer */
	int64_t timeout_ms;
	struct timer timer;
};

/* --- in --- */

/* "files": what is open already and comes with the request, in this order. */
static int take_files(struct vmm *v, const json_t *list, struct fd_table *ret, struct err *e)
{
	json_t *path;
	size_t i;

	if (list && !json_is_array(list))
		return err_msg(e, -EINVAL, "files: must be a list");
	json_array_foreach((json_t *)list, i, path)
	{
		int fd;

		if (!json_is_string(path))
			return err_msg(e, -EINVAL, "files: each is a path");
		fd = control_take_fd(v->passed, (unsigned int)i, e);
		if (fd < 0)
			return fd;
		fd_table_add(ret, json_string_value(path), -1, fd);
	}
	return 0;
}

/* The number of an entry that nobody uses. */
static int free_disk(struct vm_desc *d, struct err *e)
{
	for (size_t i = 0; i < VM_DESC_MAX_DEVS; i++)
		if (i >= d->n_disks || d->disks[i].removed)
			return (int)i;
	return err_msg(e, -ENOSPC, "a machine has %d disks at most", VM_DESC_MAX_DEVS);
}

static int free_net(struct vm_desc *d, struct err *e)
{
	for (size_t i = 0; i < VM_DESC_MAX_DEVS; i++)
		if (i >= d->n_nets || d->nets[i].removed)
			return (int)i;
	return err_msg(e, -ENOSPC, "a machine has %d network cards at most", VM_DESC_MAX_DEVS);
}

/* An entry of before keeps its slot, or its place in the order. */
static unsigned int entry_slot(bool is_new, unsigned int before, unsigned int got)
{
	return is_new ? got : before;
}

static int plug_disk(struct vmm *v, json_t *o, const struct fd_table *files, unsigned int *slot,
		     struct err *e)
{
	int i = free_disk(v->desc, e), r = i;
	struct vm_disk before;

	if (r < 0)
		return r;
	before = v->desc->disks[i];
	r = vm_desc_read_disk(o, v->desc, (size_t)i, e);
	if (r == 0)
		r = machine_plug(v->machine, MACHINE_CARD_DISK, (unsigned int)i, files, slot, e);
	if (r < 0) {
		vm_disk_fini(&v->desc->disks[i]);
		v->desc->disks[i] = before;
		return r;
	}
	v->desc->disks[i].slot = entry_slot((size_t)i >= v->desc->n_disks, before.slot, *slot);
	v->desc->n_disks = MAX(v->desc->n_disks, (size_t)i + 1);
	vm_disk_fini(&before);
	return 0;
}

static int plug_net(struct vmm *v, json_t *o, unsigned int *slot, struct err *e)
{
	int i = free_net(v->desc, e), r = i;
	struct vm_net before;

	if (r < 0)
		return r;
	if (!json_is_string(json_object_get(o, "mac")))
		return err_msg(e, -EINVAL, "net: mac: is missing");
	before = v->desc->nets[i];
	r = vm_desc_read_net(o, v->desc, (size_t)i, e);
	if (r == 0)
		r = machine_plug(v->machine, MACHINE_CARD_NET, (unsigned int)i, NULL, slot, e);
	if (r < 0) {
		vm_net_fini(&v->desc->nets[i]);
		v->desc->nets[i] = before;
		return r;
	}
	v->desc->nets[i].slot = entry_slot((size_t)i >= v->desc->n_nets, before.slot, *slot);
	v->desc->n_nets = MAX(v->desc->n_nets, (size_t)i + 1);
	vm_net_fini(&before);
	return 0;
}

int vmm_run_plug(struct vmm *v, json_t *args, json_t **ret, struct err *e)
{
	json_t *disk = json_object_get(args, "disk"), *net = json_object_get(args, "net");
	json_t *list = json_object_get(args, "files");
	struct fd_table files = {0};
	unsigned int slot = 0;
	int r;

	if (!disk == !net || json_object_size(args) != (list ? 2 : 1))
		return err_msg(e, -EINVAL, "plug: a disk or a net is needed, and perhaps files");
	if (v->save || v->fork)
		return err_msg(e, -EBUSY, "a snapshot of this machine is being made");
	r = take_files(v, list, &files, e);
	if (r == 0 && disk)
		r = plug_disk(v, disk, &files, &slot, e);
	else if (r == 0)
		r = plug_net(v, net, &slot, e);
	fd_table_fini(&files);
	if (r == 0)
		*ret = json_pack("{si}", "slot", (int)slot);
	return r;
}

/* --- out --- */

static void unplug_free(struct vmm_unplug *u)
{
	timer_cancel(&u->timer);
	list_remove(&u->node);
	free(u);
}

static void on_gone(void *opaque)
{
	struct vmm_unplug *u = opaque;
	struct vm_desc *d = u->vmm->desc;

	if (u->kind == MACHINE_CARD_DISK) {
		unsigned int slot = d->disks[u->index].slot;

		vm_disk_fini(&d->disks[u->index]);
		d->disks[u->index].format = xstrdup("auto");
		d->disks[u->index].slot = slot;
		d->disks[u->index].removed = true;
		free(u->vmm->disk_path[u->index]);
		u->vmm->disk_path[u->index] = NULL;
	} else {
		d->nets[u->index].removed = true;
	}
	control_answer(u->vmm->control, u->request, 0, NULL, NULL);
	unplug_free(u);
}

static void on_timeout(void *opaque)
{
	struct vmm_unplug *u = opaque;
	struct err e = {0};

	machine_unplug_cancel(u->vmm->machine, u->kind, u->index);
	err_msg(&e, -EBUSY,
		"the guest did not let go of it within %lld s: its system may be starting, or have "
		"no ACPI hot-plug",
		(long long)(u->timeout_ms + 999) / 1000);
	control_answer(u->vmm->control, u->request, -EBUSY, NULL, &e);
	unplug_free(u);
}

/* As the description has it, or where an overlay put it. */
static int find_disk(const struct vmm *v, const char *path)
{
	for (size_t i = 0; i < v->desc->n_disks; i++) {
		const struct vm_disk *k = &v->desc->disks[i];

		if (k->path && !k->removed &&
		    strcmp(v->disk_path[i] ? v->disk_path[i] : k->path, path) == 0)
			return (int)i;
	}
	return -ENODEV;
}

/* By its address; "" is the first card. */
static int find_net(const struct vmm *v, const char *mac)
{
	if (!mac[0])
		return v->desc->n_nets && !v->desc->nets[0].removed ? 0 : -ENODEV;
	for (size_t i = 0; i < v->desc->n_nets; i++) {
		const struct vm_net *n = &v->desc->nets[i];
		char text[18];

		vm_mac_format(n->mac, text);
		if (n->has_mac && !n->removed && strcasecmp(text, mac) == 0)
			return (int)i;
	}
	return -ENODEV;
}

static int find_card(const struct vmm *v, json_t *args, enum machine_card *kind, struct err *e)
{
	const char *disk = json_string_value(json_object_get(args, "disk"));
	const char *net = json_string_value(json_object_get(args, "net"));
	int i = disk ? find_disk(v, disk) : net ? find_net(v, net) : -EINVAL;

	*kind = disk ? MACHINE_CARD_DISK : MACHINE_CARD_NET;
	return i < 0 ? err_msg(e, i, "the machine has no such disk or network card") : i;
}

static int check_unplug(const struct vmm *v, json_t *args, int64_t *timeout_ms, struct err *e)
{
	json_t *ms = json_object_get(args, "timeout_ms");

	*timeout_ms = ms ? json_integer_value(ms) : TIMEOUT_MS;
	if (json_object_size(args) != (ms ? 2 : 1) ||
	    (ms && (!json_is_integer(ms) || *timeout_ms < 0 || *timeout_ms > TIMEOUT_MAX_MS)))
		return err_msg(e, -EINVAL, "unplug: a disk or a net is needed, and timeout_ms");
	if (v->save || v->fork)
		return err_msg(e, -EBUSY, "a snapshot of this machine is being made");
	if (strcmp(machine_state(v->machine), "running") != 0)
		return err_msg(e, -EBUSY, "the machine is %s: its guest cannot let go of anything",
			       machine_state(v->machine));
	return 0;
}

int vmm_run_unplug(struct vmm *v, json_t *args, json_t **ret, struct err *e)
{
	enum machine_card kind;
	struct vmm_unplug *u;
	int64_t timeout_ms;
	int r, i;

	r = check_unplug(v, args, &timeout_ms, e);
	if (r < 0)
		return r;
	i = find_card(v, args, &kind, e);
	if (i < 0)
		return i;
	u = xnew(struct vmm_unplug);
	u->vmm = v;
	u->kind = kind;
	u->index = (unsigned int)i;
	u->timeout_ms = timeout_ms;
	r = machine_unplug(v->machine, u->kind, u->index, on_gone, u, e);
	if (r < 0) {
		free(u);
		return r;
	}
	timer_init(&u->timer, loop_timers(v->loop), on_timeout, u);
	timer_set(&u->timer, timerq_now(u->timer.q) + (uint64_t)timeout_ms * NSEC_PER_MSEC);
	list_append(&v->unplugs, &u->node);
	u->request = control_defer(v->control);
	return CONTROL_LATER;
}

/* --- limits --- */

int vmm_run_rate(struct vmm *v, json_t *args, json_t **ret, struct err *e)
{
	json_t *o = json_object_get(args, "rate");
	struct vm_rate rate[2], *kept;
	enum machine_card kind;
	bool disk;
	int r, i;

	i = find_card(v, args, &kind, e);
	if (i < 0)
		return i;
	disk = kind == MACHINE_CARD_DISK;
	if (json_object_size(args) != 2 || !o)
		return err_msg(e, -EINVAL, "rate: a disk or a net, and its rate are needed");
	r = vm_desc_read_rate(o, disk ? vm_disk_rate_words : vm_net_rate_words, rate, e);
	if (r == 0)
		r = machine_set_rate(v->machine, kind, (unsigned int)i, rate, e);
	if (r < 0)
		return r;
	kept = disk ? v->desc->disks[i].rate : v->desc->nets[i].rate;
	memcpy(kept, rate, sizeof(rate));
	return 0;
}

void vmm_hotplug_free(struct vmm *v)
{
	struct list *at, *tmp;

	list_for_each_safe(at, tmp, &v->unplugs)
	    unplug_free(container_of(at, struct vmm_unplug, node));
}
