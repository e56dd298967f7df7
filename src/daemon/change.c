/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/change.c - what of a changed configuration counts at once in a machine that runs: limits,
 * rates, memory
 */
#include "daemon/daemon_priv.h"

#include "base/dirs.h"

#include <errno.h>

struct change {
	struct daemon *d;
	const struct machine_record *m;
	const struct machine_config *old, *new;
};

static bool same_rate(const struct vm_rate *a, const struct vm_rate *b)
{
	return memcmp(a, b, 2 * sizeof(*a)) == 0;
}

/* A disk or card that the machine does not have yet has its rate from the next start on. */
static int set_rate(const struct change *ch, const char *kind, const char *name,
		    const struct vm_rate *rate, const char *const words[2], struct err *e)
{
	json_t *o = vm_rate_format(rate, words);
	json_t *args = json_pack("{s:s, s:o}", kind, name, "rate", o ? o : json_object());
	int r = vmm_call(ch->d, ch->m->uuid, "rate", args, NULL, e);

	return r == -ENODEV ? 0 : r;
}

static int change_disk(const struct change *ch, const struct machine_disk *disk, struct err *e)
{
	for (size_t i = 0; disk->path && i < ch->old->n_disks; i++) {
		const struct machine_disk *o = &ch->old->disks[i];

		if (o->path && strcmp(o->path, disk->path) == 0 && !same_rate(o->rate, disk->rate))
			return set_rate(ch, "disk", disk->path, disk->rate, vm_disk_rate_words, e);
	}
	return 0;
}

static int change_nic(const struct change *ch, const struct machine_nic *nic, struct err *e)
{
	char mac[18];

	vm_mac_format(nic->mac, mac);
	for (size_t i = 0; i < ch->old->n_nics; i++) {
		const struct machine_nic *o = &ch->old->nics[i];

		if (memcmp(o->mac, nic->mac, 6) == 0 && !same_rate(o->rate, nic->rate))
			return set_rate(ch, "net", mac, nic->rate, vm_net_rate_words, e);
	}
	return 0;
}

static int change_rates(const struct change *ch, struct err *e)
{
	autofree char *dir = path_guest(ch->d, ch->m->uuid, NULL), *root = dirs_machine_disk(dir);
	const struct machine_config *new = ch->new;
	int r = 0;

	if (!same_rate(ch->old->root_rate, new->root_rate))
		r = set_rate(ch, "disk", root, new->root_rate, vm_disk_rate_words, e);
	if (r == 0 && new->net && !same_rate(ch->old->net_rate, new->net_rate))
		r = set_rate(ch, "net", "", new->net_rate, vm_net_rate_words, e);
	for (size_t i = 0; i < new->n_disks &&r == 0; i++)
		r = change_disk(ch, &new->disks[i], e);
	for (size_t i = 0; i < new->n_nics &&r == 0; i++)
		r = change_nic(ch, &new->nics[i], e);
	return r;
}

/* The balloon takes what is less than it started with; more than that is there at its next start.
 */
static int change_memory(const struct change *ch, struct err *e)
{
	json_t *status = NULL, *has;
	json_int_t memory = (json_int_t)ch->new->memory;
	int r;

	if (ch->old->memory == ch->new->memory)
		return 0;
	r = vmm_call(ch->d, ch->m->uuid, "status", NULL, &status, e);
	if (r < 0)
		return r;
	has = json_object_get(status, "memory");
	if (json_object_get(status, "memory_target"))
		r = vmm_call(ch->d, ch->m->uuid, "balloon",
			     json_pack("{s:I}", "memory", MIN(memory, json_integer_value(has))),
			     NULL, e);
	json_decref(status);
	return r;
}

/* All of it is its control group's; without root there is none that the defaults could be for. */
static int change_container(const struct change *ch, struct err *e)
{
	const struct machine_config *old = ch->old, *new = ch->new;
	bool size = old->cpus != new->cpus || old->memory != new->memory;

	if (memcmp(&old->limits, &new->limits, sizeof(old->limits)) == 0 &&
	    !(size && geteuid() == 0))
		return 0;
	return vmm_call(ch->d, ch->m->uuid, "limits", container_limits(new), NULL, e);
}

int change_running(struct daemon *d, const struct machine_record *m,
		   const struct machine_config *old, const struct machine_config *new,
		   struct err *e)
{
	struct change ch = {d, m, old, new};
	struct guest_info g;
	int r = 0;

	if (!guest_get(d, m->uuid, &g) || !g.pid)
		return 0;
	if (new->container.on)
		return change_container(&ch, e);
	if (memcmp(&old->limits, &new->limits, sizeof(old->limits)) != 0)
		r = limits_apply(m->uuid, &new->limits, g.pid, true, e);
	if (r == 0)
		r = change_rates(&ch, e);
	return r < 0 ? r : change_memory(&ch, e);
}
