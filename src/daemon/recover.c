/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/recover.c - what a start finds: guests that run, and what killed daemons, guests and
 * commands left
 *
 * The store is right; the rest follows it.  A running guest holds the lock of its directory and
 * answers on its control socket; one that only holds the lock is just starting, for a daemon that
 * was killed at that moment: it is waited for.
 */
#include "daemon/daemon_priv.h"

#include "base/dirs.h"
#include "base/fd.h"
#include "base/log.h"
#include "live/snapshots.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#define STARTING_MS 20000

bool guest_is_locked(struct daemon *d, const char *uuid)
{
	autofree char *path = path_guest(d, uuid, "lock");
	autoclose int fd = open(path, O_RDWR | O_CLOEXEC);

	return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0;
}

static int connect_running(struct daemon *d, const char *uuid)
{
	autofree char *path = path_run(d, uuid, "control");

	for (int ms = 0; guest_is_locked(d, uuid); ms += 20) {
		int fd = vmm_connect(path, NULL);

		if (fd >= 0 || ms > STARTING_MS)
			return fd;
		poll(NULL, 0, 20);
	}
	return -1;
}

/* Is @pid an insula-vmm, or a container's insula-monitor?  The socket of a fork names us, or an
 * insulad before us, until the fork has come so far as to listen itself. */
static bool is_vmm(pid_t pid)
{
	autofree char *path = xasprintf("/proc/%d/comm", (int)pid);
	autostrbuf struct strbuf name = {0};

	return read_file(path, 64, &name) == 0 && name.len &&
	       (strcmp(name.data, "insula-vmm\n") == 0 ||
		strcmp(name.data, "insula-monitor\n") == 0);
}

/* The process behind the socket; it cannot end and be replaced unseen, since the socket would. */
static int open_process(struct daemon *d, const char *uuid, pid_t *pid)
{
	autofree char *path = path_run(d, uuid, "control");

	for (int ms = 0; ms < STARTING_MS && guest_is_locked(d, uuid); ms += 20) {
		autoclose int fd = vmm_connect(path, NULL);
		struct ucred peer;
		socklen_t len = sizeof(peer);

		if (fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
		    peer.pid > 0 && is_vmm(peer.pid)) {
			*pid = peer.pid;
			return (int)syscall(SYS_pidfd_open, peer.pid, 0);
		}
		poll(NULL, 0, 20);
	}
	return -1;
}

/* A machine writes to the disk that it says: a restore may have been cut off before its link was
 * set. */
static void follow_disk(struct daemon *d, const struct machine_record *m)
{
	autofree char *dir = path_guest(d, m->uuid, NULL), *now = dirs_machine_disk(dir);
	json_t *answer = NULL, *disk;
	size_t i, n = strlen(dir);
	struct err e = {0};

	if (vmm_call(d, m->uuid, "describe", NULL, &answer, NULL) < 0)
		return;
	json_array_foreach(json_object_get(json_object_get(answer, "description"), "disks"), i,
			   disk)
	{
		const char *path = json_string_value(json_object_get(disk, "path"));
		const char *serial = json_string_value(json_object_get(disk, "serial"));

		if (path && serial && strcmp(serial, "root") == 0 && strcmp(path, now) != 0 &&
		    strncmp(path, dir, n) == 0 && lineage_is_disk(path + n + 1) &&
		    live_set_disk(dir, path + n + 1, &e) < 0)
			log_warn("'%s': %s", m->name, e.msg);
	}
	json_decref(answer);
}

static bool is_paused(struct daemon *d, const char *uuid)
{
	json_t *status = NULL;
	const char *state;
	bool paused;

	if (vmm_call(d, uuid, "status", NULL, &status, NULL) < 0)
		return false;
	state = json_string_value(json_object_get(status, "state"));
	paused = state && strcmp(state, "paused") == 0;
	json_decref(status);
	return paused;
}

static void find_guest(struct daemon *d, const struct machine_record *m)
{
	autoclose int control = connect_running(d, m->uuid), pidfd = -1;
	struct guest *g;
	json_t *config;
	pid_t pid = 0;
	bool paused, agent;

	if (control < 0)
		return;
	pidfd = open_process(d, m->uuid, &pid);
	config = json_loads(m->config, 0, NULL);
	agent = json_object_get(config, "image") != NULL;
	json_decref(config);
	if (pidfd < 0 || guest_add(d, m->uuid, m->name, agent, NULL) < 0)
		return;
	paused = is_paused(d, m->uuid);
	follow_disk(d, m);
	guest_run(d, m->uuid, pid, steal_fd(&pidfd), steal_fd(&control));
	pthread_mutex_lock(&d->lock);
	g = guest_find(d, m->uuid);
	g->state = paused ? GUEST_PAUSED : GUEST_RUNNING;
	pthread_mutex_unlock(&d->lock);
	log_info("'%s' runs as process %d", m->name, (int)pid);
	if (!m->wanted && store_machine_set_wanted(d->store, m->uuid, true, NULL) < 0)
		log_warn("'%s': the store cannot be written", m->name);
}

/* It ended while nobody watched. */
static void note_end(struct daemon *d, const struct machine_record *m)
{
	autofree char *run = path_run(d, m->uuid, NULL);
	autofree char *control = path_guest(d, m->uuid, "control");
	char reason[32], words[256];
	int64_t status;

	if (access(run, F_OK) < 0 || guest_get(d, m->uuid, NULL) || guest_is_locked(d, m->uuid))
		return;
	vmm_read_end(d, m->uuid, reason, &status, words, sizeof(words));
	if (store_machine_set_end(d->store, m->uuid, reason, status, NULL) < 0)
		log_warn("'%s': the store cannot be written", m->name);
	unlink(control);
	run_dir_remove(d, m->uuid);
}

static bool is_known(const char *uuid, const struct machine_record *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(rows[i].uuid, uuid) == 0)
			return true;
	}
	return false;
}

/* Directories of machines that are not there: a create or delete was cut off.  A guest of such a
 * machine - its delete was not through - goes first. */
static void sweep_dirs(struct daemon *d, const char *parent, const struct machine_record *rows,
		       size_t n, const struct lineage *needed)
{
	DIR *dir = opendir(parent);
	struct dirent *de;

	while (dir && (de = readdir(dir))) {
		autofree char *path = xasprintf("%s/%s", parent, de->d_name);
		autoclose int control = -1, pidfd = -1;
		pid_t pid;

		if (!machine_uuid_is(de->d_name) || is_known(de->d_name, rows, n))
			continue;
		control = connect_running(d, de->d_name);
		pidfd = control < 0 ? -1 : open_process(d, de->d_name, &pid);
		if (pidfd >= 0)
			syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
		limits_remove(de->d_name);
		if (needed)
			disks_release(d, needed, de->d_name);
		else
			dirs_remove(path);
	}
	if (dir)
		closedir(dir);
}

static void sweep_links(struct daemon *d, const struct machine_record *rows, size_t n)
{
	autofree char *parent = xasprintf("%s/machines", d->data_dir);
	DIR *dir = opendir(parent);
	struct dirent *de;

	while (dir && (de = readdir(dir))) {
		static const char prefix[] = "../guests/";
		autofree char *path = xasprintf("%s/%s", parent, de->d_name);
		char target[128];
		ssize_t len = readlink(path, target, sizeof(target) - 1);
		bool right = false;

		target[len < 0 ? 0 : len] = '\0';
		if (strncmp(target, prefix, strlen(prefix)) != 0)
			continue;
		for (size_t i = 0; i < n && !right; i++)
			right = strcmp(rows[i].uuid, target + strlen(prefix)) == 0 &&
				strcmp(rows[i].name, de->d_name) == 0;
		if (!right)
			unlink(path);
	}
	if (dir)
		closedir(dir);
	for (size_t i = 0; i < n; i++)
		path_link_make(d, rows[i].name, rows[i].uuid);
}

/* Files of what was cut off.  If an image cannot be read nothing goes. */
static void sweep_disks(struct daemon *d, const char *guests, const struct machine_record *rows,
			size_t n)
{
	struct lineage needed = {0};
	struct err e = {0};

	if (disks_lineage(d, &needed, &e) < 0) {
		log_warn("disks are not swept: %s", e.msg);
		lineage_fini(&needed);
		return;
	}
	sweep_dirs(d, guests, rows, n, &needed);
	for (size_t i = 0; i < n; i++) {
		autofree char *dir = path_guest(d, rows[i].uuid, NULL);
		autofree char *stage = xasprintf("%s/export", dir);

		if (guest_get(d, rows[i].uuid, NULL))
			continue;
		dirs_remove(stage);
		snapshot_sweep(dir);
		lineage_sweep(&needed, dir, false);
	}
	lineage_fini(&needed);
}

int recover(struct daemon *d, struct err *e)
{
	autofree char *guests = xasprintf("%s/guests", d->data_dir);
	autofree char *vm = xasprintf("%s/vm", d->run_dir);
	struct machine_record *rows = NULL;
	size_t n = 0;
	int r = store_machine_list(d->store, &rows, &n, e);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		find_guest(d, &rows[i]);
		note_end(d, &rows[i]);
		container_sweep_copies(d, rows[i].uuid);
	}
	sweep_dirs(d, vm, rows, n, NULL);
	sweep_links(d, rows, n);
	sweep_disks(d, guests, rows, n);
	for (size_t i = 0; i < n; i++) {
		if (guest_get(d, rows[i].uuid, NULL))
			identity_start(d, rows[i].uuid);
		machine_record_fini(&rows[i]);
	}
	free(rows);
	return 0;
}
