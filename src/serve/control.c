/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve/control.c - the control socket: clients, lines, replies
 *
 * A client that sends a line longer than LINE_BYTES, or does not read its replies, is dropped.
 */
#include "serve/control.h"

#include "base/fd.h"
#include "serve/listen.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define CLIENTS_MAX 16
#define LINE_BYTES  (1u << 20)  /* descriptions of a hundred forks */
#define OUT_BYTES   (24u << 20) /* a picture of the largest screen */

struct client {
	struct list node;
	struct control *c;
	struct loop_fd watch;
	int fd;
	struct strbuf in, out;
	struct control_fds passed; /* came for the next request */
	bool dead;
};

/* A request whose answer comes later. */
struct deferred {
	struct list node;
	uint64_t number;
	struct client *client; /* NULL = it has gone */
	json_t *id;            /* NULL = it had none */
};

struct control {
	struct loop *loop;
	const struct control_ops *ops;
	void *opaque;
	char *path;
	int fd;
	struct loop_fd watch;
	struct list clients;
	unsigned int n_clients;
	struct list deferred;
	uint64_t last_deferred;
	/* The request being run. */
	struct client *asking;
	json_t *asking_id;
};

static void close_fds(struct control_fds *fds)
{
	while (fds->n)
		close_p(&fds->fd[--fds->n]);
}

int control_take_fd(struct control_fds *fds, unsigned int i, struct err *e)
{
	if (i >= fds->n || fds->fd[i] < 0)
		return err_msg(e, -EINVAL, "descriptor %u did not come with the request", i);
	return steal_fd(&fds->fd[i]);
}

static void client_free(struct client *k)
{
	struct list *at;

	list_for_each(at, &k->c->deferred)
	{
		struct deferred *d = container_of(at, struct deferred, node);

		if (d->client == k)
			d->client = NULL;
	}
	loop_remove(k->c->loop, &k->watch);
	list_remove(&k->node);
	k->c->n_clients--;
	close(k->fd);
	close_fds(&k->passed);
	strbuf_fini(&k->in);
	strbuf_fini(&k->out);
	free(k);
}

/* Its watch finds the end of the stream and frees it. */
static void client_kill(struct client *k)
{
	k->dead = true;
	shutdown(k->fd, SHUT_RDWR);
}

static void client_flush(struct client *k)
{
	while (k->out.len && !k->dead) {
		ssize_t n = send(k->fd, k->out.data, k->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			client_kill(k);
		else
			strbuf_consume(&k->out, (size_t)n);
	}
	loop_modify(k->c->loop, &k->watch, EPOLLIN | (k->out.len ? EPOLLOUT : 0u));
}

static void client_send(struct client *k, json_t *message)
{
	char *text = json_dumps(message, JSON_COMPACT);

	if (text && k->out.len + strlen(text) < OUT_BYTES) {
		strbuf_puts(&k->out, text);
		strbuf_putc(&k->out, '\n');
		client_flush(k);
	} else {
		client_kill(k);
	}
	free(text);
}

/* --- requests --- */

static const char *error_code(int r)
{
	switch (-r) {
	case EINVAL:
		return "invalid-argument";
	case ENOSYS:
		return "unknown-command";
	case EBUSY:
		return "wrong-state";
	case ENODEV:
		return "no-such-device";
	default:
		return "failed";
	}
}

/* Takes over @value. */
static void reply(struct client *k, json_t *id, const char *what, json_t *value)
{
	json_t *message = json_object();

	if (id)
		json_object_set(message, "id", id);
	json_object_set_new(message, what, value);
	client_send(k, message);
	json_decref(message);
}

static void reply_error(struct client *k, json_t *id, const char *code, const char *text)
{
	json_t *o = json_object();

	json_object_set_new(o, "code", json_string(code));
	json_object_set_new(o, "message", json_string(text));
	reply(k, id, "error", o);
}

static int run_request(struct client *k, json_t *request, json_t **ret, struct err *e)
{
	json_t *args = json_object_get(request, "arguments");
	const char *command = json_string_value(json_object_get(request, "command"));
	const char *key;
	json_t *v, *empty = NULL;
	int r;

	json_object_foreach(request, key, v)
	{
		if (strcmp(key, "id") != 0 && strcmp(key, "command") != 0 &&
		    strcmp(key, "arguments") != 0)
			return err_msg(e, -EINVAL, "%.64s: unknown key", key);
	}
	if (!command)
		return err_msg(e, -EINVAL, "command: must be a string");
	if (args && !json_is_object(args))
		return err_msg(e, -EINVAL, "arguments: must be an object");
	if (!args)
		args = empty = json_object();
	r = k->c->ops->run(k->c->opaque, command, args, &k->passed, ret, e);
	json_decref(empty);
	return r;
}

static void handle_line(struct client *k, const char *line, size_t len)
{
	json_t *request, *id, *ret = NULL;
	struct err e = {0};
	json_error_t je;
	int r;

	request = json_loadb(line, len, JSON_REJECT_DUPLICATES, &je);
	if (!json_is_object(request)) {
		reply_error(k, NULL, "not-json", request ? "not an object" : je.text);
		json_decref(request);
		return;
	}
	id = json_object_get(request, "id");
	k->c->asking = k;
	k->c->asking_id = id;
	r = run_request(k, request, &ret, &e);
	if (r < 0)
		reply_error(k, id, error_code(r), e.msg);
	else if (r != CONTROL_LATER)
		reply(k, id, "return", ret ? ret : json_object());
	json_decref(request);
	/* They were for this request, whatever became of that. */
	close_fds(&k->passed);
}

static void handle_lines(struct client *k)
{
	char *nl;

	while (!k->dead && k->in.len && (nl = memchr(k->in.data, '\n', k->in.len))) {
		size_t len = (size_t)(nl - k->in.data);
		autofree char *line = malloc(len + 1);

		if (!line) {
			k->dead = true;
			return;
		}
		memcpy(line, k->in.data, len);
		strbuf_consume(&k->in, len + 1);
		if (len)
			handle_line(k, line, len);
	}
	if (k->in.len > LINE_BYTES)
		k->dead = true;
}

/* Takes over what came; too many are closed. */
static void keep_fds(struct client *k, const struct cmsghdr *c)
{
	const int *fds = (const int *)(const void *)CMSG_DATA(c);
	size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

	for (size_t i = 0; i < n; i++) {
		if (k->passed.n < CONTROL_FDS_MAX)
			k->passed.fd[k->passed.n++] = fds[i];
		else
			close(fds[i]);
	}
}

/* Bytes, and perhaps descriptors with them; the kernel closes those that have no room. */
static ssize_t receive(struct client *k, char *buf, size_t len)
{
	char control[CMSG_SPACE(CONTROL_FDS_MAX * sizeof(int))] __attribute__((aligned(8)));
	struct iovec iov = {buf, len};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(k->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	const struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&msg);

	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		keep_fds(k, c);
	return n;
}

static void on_client(void *opaque, uint32_t events)
{
	struct client *k = opaque;
	char buf[4096];
	ssize_t n;

	if (events & EPOLLOUT)
		client_flush(k);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		n = receive(k, buf, sizeof(buf));
		if (n > 0) {
			strbuf_add(&k->in, buf, (size_t)n);
			handle_lines(k);
		} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
			k->dead = true;
		}
	}
	if (k->dead)
		client_free(k);
}

static void on_connect(void *opaque, uint32_t events)
{
	struct control *c = opaque;
	int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct client *k;

	if (fd < 0)
		return;
	if (c->n_clients >= CLIENTS_MAX) {
		close(fd);
		return;
	}
	k = xnew(struct client);
	k->c = c;
	k->fd = fd;
	list_append(&c->clients, &k->node);
	c->n_clients++;
	if (loop_add(c->loop, &k->watch, fd, EPOLLIN, on_client, k) < 0)
		client_free(k);
}

/* --- life --- */

int control_new(struct loop *l, const char *path, int listener, const struct control_ops *ops,
		void *opaque, struct control **ret, struct err *e)
{
	struct control *c = xnew(struct control);
	int r;

	c->loop = l;
	c->ops = ops;
	c->opaque = opaque;
	list_init(&c->clients);
	list_init(&c->deferred);
	c->fd = listener >= 0 ? listener : listen_unix(path, e);
	/* Whoever connects is told by the kernel who listens: that is us, not who made it. */
	if (listener >= 0 &&
	    (fd_set_nonblock(listener, true) < 0 || (!ops->of_maker && listen(listener, 8) < 0))) {
		r = err_set(e, -errno, "listen on %s", path);
		close(listener);
		free(c);
		return r;
	}
	if (c->fd < 0) {
		r = c->fd;
		free(c);
		return r;
	}
	c->path = xstrdup(path);
	r = loop_add(l, &c->watch, c->fd, EPOLLIN, on_connect, c);
	if (r < 0) {
		control_free(c);
		return err_set(e, r, "watch %s", path);
	}
	*ret = c;
	return 0;
}

uint64_t control_defer(struct control *c)
{
	struct deferred *d = xnew(struct deferred);

	d->number = ++c->last_deferred;
	d->client = c->asking;
	d->id = json_incref(c->asking_id);
	list_append(&c->deferred, &d->node);
	return d->number;
}

static void deferred_free(struct deferred *d)
{
	list_remove(&d->node);
	json_decref(d->id);
	free(d);
}

void control_answer(struct control *c, uint64_t request, int r, json_t *ret, const struct err *e)
{
	struct list *at, *tmp;

	list_for_each_safe(at, tmp, &c->deferred)
	{
		struct deferred *d = container_of(at, struct deferred, node);

		if (d->number != request)
			continue;
		if (d->client && r < 0)
			reply_error(d->client, d->id, error_code(r), e->msg);
		else if (d->client)
			reply(d->client, d->id, "return", ret ? json_incref(ret) : json_object());
		deferred_free(d);
	}
	json_decref(ret);
}

void control_event(struct control *c, json_t *event)
{
	struct list *at;

	if (c)
		list_for_each(at, &c->clients)
		    client_send(container_of(at, struct client, node), event);
	json_decref(event);
}

void control_free(struct control *c)
{
	struct list *at, *tmp;

	if (!c)
		return;
	list_for_each_safe(at, tmp, &c->clients)
	{
		client_flush(container_of(at, struct client, node));
		client_free(container_of(at, struct client, node));
	}
	list_for_each_safe(at, tmp, &c->deferred)
	    deferred_free(container_of(at, struct deferred, node));
	if (c->watch.added)
		loop_remove(c->loop, &c->watch);
	close(c->fd);
	unlink(c->path);
	free(c->path);
	free(c);
}
