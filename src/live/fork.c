/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live/fork.c - forks of a running machine
 */
#include "base/fd.h"
#include "block/disk.h"
#include "live/live_priv.h"
#include "model/vm_desc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define GIVE_MAX 32

/* Descriptors on their way to the machine, which are ours to close. */
struct parcel {
	json_t *paths;
	int fds[GIVE_MAX];
	unsigned int n;
};

static void parcel_fini(struct parcel *p)
{
	json_decref(p->paths);
	while (p->n)
		close(p->fds[--p->n]);
}

/* Takes over @fd, an errno if negative. */
static int pack(struct parcel *p, const char *path, int fd, struct err *e)
{
	if (fd < 0)
		return err_set(e, fd, "%s", path);
	if (p->n == GIVE_MAX) {
		close(fd);
		return err_msg(e, -E2BIG, "more than %d files for a fork", GIVE_MAX);
	}
	p->fds[p->n++] = fd;
	json_array_append_new(p->paths, json_string(path));
	return 0;
}

static int pack_file(struct parcel *p, const char *path, int flags, struct err *e)
{
	int fd = path ? open(path, flags | O_CLOEXEC, 0600) : 0;

	return path ? pack(p, path, fd < 0 ? -errno : fd, e) : 0;
}

/* @child < 0: for all. */
static int give(struct live_session *s, struct parcel *p, int child, struct err *e)
{
	json_t *args = json_pack("{s:O}", "paths", p->paths);

	if (child >= 0)
		json_object_set_new(args, "child", json_integer(child));
	return vmm_client_call(&s->client, "give", args, p->fds, p->n, NULL, e);
}

static int listen_at(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (strlen(path) >= sizeof(a.sun_path))
		return -ENAMETOOLONG;
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	fchmod(fd, 0600); /* the file's mode, before anybody can see it */
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 128) < 0)
		return -errno;
	return steal_fd(&fd);
}

/* --- what all of them use --- */

/* A disk as of the instant and all below it. */
static int pack_chain(struct parcel *p, const char *disk, const char *format, struct err *e)
{
	autofree char *path = xstrdup(disk);
	bool qcow2 = strcmp(disk_format(path, format), "qcow2") == 0;
	int r = pack_file(p, path, O_RDONLY, e);

	while (r == 0 && qcow2) {
		autofree char *name = NULL;
		struct err why = {0};

		r = qcow2_read_backing(path, &name, &qcow2, &why);
		if (r < 0)
			return err_msg(e, r, "%s", why.msg);
		if (!name)
			break;
		if (name[0] != '/')
			return err_msg(e, -ENOTSUP, "'%s' names its backing file without a path",
				       path);
		r = pack_file(p, name, O_RDONLY, e);
		free(path);
		path = steal_ptr(&name);
	}
	return r;
}

static int give_common(struct live_session *s, struct err *e)
{
	struct parcel p = {.paths = json_array()};
	const char *const keys[] = {"kernel", "initrd"};
	json_t *disks = json_object_get(s->description, "disks"), *d;
	int r = 0;
	size_t i;

	if (json_object_get(s->description, "firmware"))
		r = err_msg(e, -ENOTSUP,
			    "a machine that starts with firmware cannot be forked yet");
	for (i = 0; i < ARRAY_SIZE(keys) && r == 0; i++)
		r = pack_file(&p, json_string_value(json_object_get(s->description, keys[i])),
			      O_RDONLY, e);
	json_array_foreach(disks, i, d)
	{
		const char *path = json_string_value(json_object_get(d, "path"));
		const char *format = json_string_value(json_object_get(d, "format"));

		if (path && r == 0)
			r = pack_chain(&p, path, format, e);
	}
	if (r == 0)
		r = give(s, &p, -1, e);
	parcel_fini(&p);
	return r;
}

/* --- one of them --- */

static int describe_disks(const struct live_session *s, struct live_child *c, json_t *desc,
			  struct parcel *p, struct err *e)
{
	json_t *disks = json_object_get(desc, "disks"), *d;
	int r = 0;
	size_t i;

	json_array_foreach(disks, i, d)
	{
		if (r < 0 || !live_is_written(s, (unsigned int)i))
			continue;
		r = live_overlay(s, (unsigned int)i, c->dir, &c->disks[i], e);
		if (r == 0)
			r = pack_file(p, c->disks[i], O_RDWR, e);
		if (r < 0)
			break;
		json_object_set_new(d, "path", json_string(c->disks[i]));
		json_object_set_new(d, "format", json_string("qcow2"));
	}
	return r;
}

/* Its serial console: a socket whose output is kept, or the log. */
static int describe_console(struct live_child *c, json_t *desc, const char *log, struct parcel *p,
			    struct err *e)
{
	int r = 0;

	if (!c->console) {
		json_object_set_new(desc, "serial",
				    json_pack("{s:s, s:s}", "type", "file", "path", log));
		return 0;
	}
	json_object_set_new(desc, "serial",
			    json_pack("{s:s, s:s, s:s}", "type", "socket", "path", c->console,
				      "log", c->console_log));
	r = pack(p, c->console, listen_at(c->console), e);
	return r < 0 ? r : pack_file(p, c->console_log, O_RDWR | O_CREAT | O_APPEND, e);
}

/* Addresses of its own, those that it will have when it is started again; no published ports. */
static void describe_nets(struct live_child *c, json_t *desc)
{
	json_t *net;
	size_t i;

	json_array_foreach(json_object_get(desc, "nets"), i, net)
	{
		uint8_t mac[6];
		char text[18];

		vm_mac_derive(c->name, i, mac);
		vm_mac_format(mac, text);
		json_object_set_new(net, "publish", json_array());
		json_object_set_new(net, "hostname", json_string(c->name));
		json_object_del(net, "mac");
		if (i == 0)
			memcpy(c->mac, text, sizeof(text));
	}
}

static int describe_child(struct live_session *s, struct live_child *c, json_t *desc,
			  const char *log, struct parcel *p, struct err *e)
{
	autofree char *control = xasprintf("%s/control", c->sockets);
	autofree char *vsock = xasprintf("%s/vsock", c->sockets);
	int r = pack(p, control, listen_at(control), e);

	json_object_set_new(desc, "name", json_string(c->name));
	json_object_set_new(desc, "control", json_string(control));
	json_object_del(desc, "uuid");
	if (c->uuid)
		json_object_set_new(desc, "uuid", json_string(c->uuid));
	json_object_del(json_object_get(desc, "display"), "vnc");
	json_object_del(json_object_get(desc, "display"), "text");
	if (r == 0)
		r = describe_console(c, desc, log, p, e);
	if (r == 0 && json_object_get(desc, "vsock")) {
		json_object_set_new(json_object_get(desc, "vsock"), "socket", json_string(vsock));
		r = pack(p, vsock, listen_at(vsock), e);
		c->has_agent = true;
	}
	describe_nets(c, desc);
	return r < 0 ? r : describe_disks(s, c, desc, p, e);
}

static int give_child(struct live_session *s, struct live_child *c, unsigned int number,
		      json_t *children, struct err *e)
{
	struct parcel p = {.paths = json_array()};
	json_t *desc = json_deep_copy(s->description), *o;
	autofree char *log = c->log ? xstrdup(c->log) : xasprintf("%s/log", c->sockets);
	int r = pack_file(&p, log, O_RDWR | O_CREAT | O_APPEND, e);

	if (r == 0)
		r = pack_file(&p, c->exit, O_WRONLY | O_CREAT | O_TRUNC, e);
	if (r == 0)
		r = describe_child(s, c, desc, log, &p, e);
	for (unsigned int i = 0; i < c->n_keep && r == 0; i++) {
		int fd = fcntl(c->keep[i], F_DUPFD_CLOEXEC, 3);

		r = pack(&p, "lock", fd < 0 ? -errno : fd, e);
	}
	if (r == 0)
		r = give(s, &p, (int)number, e);
	o = json_pack("{s:o, s:s}", "description", desc, "log", log);
	if (c->exit)
		json_object_set_new(o, "exit", json_string(c->exit));
	json_array_append_new(children, o);
	parcel_fini(&p);
	return r;
}

static void undo_child(struct live_child *c)
{
	for (unsigned int i = 0; i < LIVE_MAX_DISKS; i++) {
		if (c->disks[i])
			unlink(c->disks[i]);
		free(c->disks[i]);
		c->disks[i] = NULL;
	}
}

static int take_answer(struct live_child *children, unsigned int n, const json_t *answer,
		       struct err *e)
{
	const json_t *list = json_object_get(answer, "children"), *o;
	int r = json_array_size(list) == n ? 0 : err_msg(e, -EPROTO, "not every fork is told of");
	size_t i;

	json_array_foreach(list, i, o)
	{
		const char *error = json_string_value(json_object_get(o, "error"));

		if (r < 0)
			break;
		children[i].pid = (int)json_integer_value(json_object_get(o, "pid"));
		children[i].ms = json_real_value(json_object_get(o, "ms"));
		if (error)
			r = err_msg(e, -EIO, "%s: %s (%s/log)", children[i].name, error,
				    children[i].sockets);
	}
	return r;
}

int live_fork(const struct live_machine *m, struct live_child *children, unsigned int n,
	      json_t **ret, struct err *e)
{
	json_t *args = json_object(), *list = json_array(), *answer = NULL;
	int fds[LIVE_MAX_DISKS];
	unsigned int n_fds = 0;
	struct live_session s;
	int r = live_begin(m, &s, e);

	json_object_set_new(args, "children", list);
	if (r < 0) {
		json_decref(args);
		return r;
	}
	r = give_common(&s, e);
	for (unsigned int i = 0; i < n && r == 0; i++)
		r = give_child(&s, &children[i], i, list, e);
	if (r == 0)
		r = live_overlays(&s, args, fds, &n_fds, e);
	if (r == 0)
		r = vmm_client_call(&s.client, "fork", json_incref(args), fds, n_fds, &answer, e);
	while (n_fds)
		close(fds[--n_fds]);
	live_end(&s, answer ? 0 : r);
	json_decref(args);
	if (answer)
		r = take_answer(children, n, answer, e);
	else
		for (unsigned int i = 0; i < n; i++)
			undo_child(&children[i]);
	if (r == 0 && ret)
		*ret = json_incref(answer);
	json_decref(answer);
	return r;
}
