/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/identity.c - a copy's guest gets a host name, keys and ids of its own
 *
 * A file says that it has not yet, so that the next start, or the next insulad, goes on with it.
 */
#include "daemon/daemon_priv.h"

#include "base/log.h"
#include "live/identity.h"
#include "model/vm_desc.h"

#include <errno.h>
#include <fcntl.h>

#define MARK     "new-identity"
#define ROUND_MS 2000

int identity_want(struct daemon *d, const char *uuid, struct err *e)
{
	autofree char *path = path_guest(d, uuid, MARK);
	autoclose int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	return fd < 0 ? err_set(e, -errno, "make %s", path) : 0;
}

bool identity_wanted(struct daemon *d, const char *uuid)
{
	autofree char *path = path_guest(d, uuid, MARK);

	return access(path, F_OK) == 0;
}

/* A copy is told the address of its card; one that booted by itself has seen it. */
static int give_once(struct daemon *d, const struct machine_record *m, struct err *e)
{
	autofree char *vsock = path_run(d, m->uuid, "vsock");
	uint8_t mac[6];
	char text[18];

	vm_mac_derive(m->name, 0, mac);
	vm_mac_format(mac, text);
	return live_new_identity(vsock, m->name, text, ROUND_MS, e);
}

static void give(struct daemon *d, const char *uuid)
{
	autofree char *path = path_guest(d, uuid, MARK);
	struct machine_record m;
	struct err e = {0};
	int r = -ETIMEDOUT;

	while (r < 0 && r != -EIO && !d->stopping && guest_get(d, uuid, NULL)) {
		if (store_machine_get(d->store, uuid, &m, NULL) < 0)
			return;
		r = give_once(d, &m, &e);
		if (r == 0) {
			unlink(path);
			event_emit(d, "machine.identity", uuid, m.name, NULL);
		}
		machine_record_fini(&m);
	}
	if (r < 0)
		log_info("%s: %s", uuid, e.msg);
	pthread_mutex_lock(&d->lock);
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->lock);
}

/* Frees @opaque, a UUID. */
static void give_main(struct daemon *d, void *opaque)
{
	give(d, opaque);
	free(opaque);
}

void identity_start(struct daemon *d, const char *uuid)
{
	char *copy;

	if (!identity_wanted(d, uuid))
		return;
	copy = xstrdup(uuid);
	if (daemon_thread(d, give_main, copy, NULL) < 0)
		free(copy);
}

bool identity_wait(struct daemon *d, const char *uuid, unsigned int ms)
{
	struct timespec deadline = daemon_deadline(ms);
	bool more = true;

	pthread_mutex_lock(&d->lock);
	while (more && guest_find(d, uuid) && identity_wanted(d, uuid))
		more = daemon_wait(d, &deadline);
	pthread_mutex_unlock(&d->lock);
	return !identity_wanted(d, uuid);
}
