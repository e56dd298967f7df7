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
#include "base/log.h"
#include "image/exec.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#define STARTING_MS 20000

static bool is_locked(struct daemon *d, const char *uuid)
{
	autofree char *path = path_guest(d, uuid, "lock");
	autoclose int fd = open(path, O_RDWR | O_CLOEXEC);

	return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0;
}

static int connect_running(struct daemon *d, const char *uuid)
{
	autofree char *path = path_run(d, uuid, "control");

	for (int ms = 0; is_locked(d, uuid); ms += 20) {
		int fd = vmm_connect(path, NULL);

		if (fd >= 0 || ms > STARTING_MS)
			return fd;
		poll(NULL, 0, 20);
	}
	return -1;
}

/* The process behind the socket; it cannot end and be replaced unseen, since the socket would. */
static int open_process(int control, pid_t *pid)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(control, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.pid <= 0)
		return -1;
	*pid = peer.pid;
	return (int)syscall(SYS_pidfd_open, peer.pid, 0);
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

static int64_t started_at(struct daemon *d, const char *uuid)
{
	autofree char *path = path_run(d, uuid, "description.json");
	struct stat st;

	return stat(path, &st) == 0 ? (int64_t)st.st_mtime : (int64_t)time(NULL);
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
	pidfd = open_process(control, &pid);
	config = json_loads(m->config, 0, NULL);
	agent = json_object_get(config, "image") != NULL;
	json_decref(config);
	if (pidfd < 0 || guest_add(d, m->uuid, m->name, agent, NULL) < 0)
		return;
	paused = is_paused(d, m->uuid);
	guest_run(d, m->uuid, pid, steal_fd(&pidfd), steal_fd(&control));
	pthread_mutex_lock(&d->lock);
	g = guest_find(d, m->uuid);
	g->state = paused ? GUEST_PAUSED : GUEST_RUNNING;
	g->started = started_at(d, m->uuid);
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

	if (access(run, F_OK) < 0 || guest_get(d, m->uuid, NULL) || is_locked(d, m->uuid))
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
		       size_t n)
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
		pidfd = control < 0 ? -1 : open_process(control, &pid);
		if (pidfd >= 0)
			syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
		limits_remove(de->d_name);
		dirs_remove(path);
		if (access(path, F_OK) == 0)
			exec_remove_tree(path);
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
	sweep_dirs(d, vm, rows, n);
	sweep_dirs(d, guests, rows, n);
	sweep_links(d, rows, n);
	for (size_t i = 0; i < n; i++)
		machine_record_fini(&rows[i]);
	free(rows);
	return 0;
}
