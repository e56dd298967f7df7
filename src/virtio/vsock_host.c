/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/vsock_host.c - the unix sockets behind the socket device
 *
 * All sockets are non-blocking.  A connect to a unix socket is decided at once, so there is no
 * connecting state towards the host.
 */
#include "virtio/vsock_priv.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define LINE_MAX_LEN 32 /* "CONNECT 4294967295\n" and some spaces */
#define RETRY_NS     (100 * NSEC_PER_MSEC)

static void address_set(struct sockaddr_un *a, const char *path)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	/* VSOCK_PATH_MAX is what fits, terminator included. */
	memcpy(a->sun_path, path, strlen(path));
}

static int open_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

/* --- guest to host --- */

int vsock_host_connect(struct virtio_vsock *v, uint32_t port)
{
	char path[VSOCK_PATH_MAX + 16];
	struct sockaddr_un a;
	autoclose int fd = -1;

	if (snprintf(path, sizeof(path), "%s_%u", v->path, port) >= VSOCK_PATH_MAX)
		return -ENAMETOOLONG;
	address_set(&a, path);
	fd = open_socket();
	if (fd < 0)
		return fd;
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		log_debug("vsock: connect %s: %s", path, strerror(errno));
		return -errno;
	}
	return steal_fd(&fd);
}

/* --- host to guest --- */

/* A port of the host's that no connection with @guest_port uses. */
static uint32_t free_port(struct virtio_vsock *v, uint32_t guest_port)
{
	uint32_t port;

	do {
		port = v->next_port++;
		if (v->next_port >= UINT32_MAX - 1)
			v->next_port = 1u << 30;
	} while (vsock_conn_find(v, guest_port, port));
	return port;
}

static bool parse_connect(const char *line, uint32_t *port)
{
	unsigned long v;
	char *end;

	if (strncmp(line, "CONNECT ", 8) != 0 || line[8] < '0' || line[8] > '9')
		return false;
	v = strtoul(line + 8, &end, 10);
	if (*end || v > UINT32_MAX)
		return false;
	*port = (uint32_t)v;
	return true;
}

/* Takes the first line off the socket and leaves what follows: 1, 0 = not whole yet, -errno. */
static int read_line(int fd, char *line)
{
	ssize_t n = recv(fd, line, LINE_MAX_LEN, MSG_PEEK | MSG_DONTWAIT);
	char *nl;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -ENODATA;
	nl = memchr(line, '\n', (size_t)n);
	if (!nl)
		return n == LINE_MAX_LEN ? -EPROTO : 0;
	n = nl - line + 1;
	if (recv(fd, line, (size_t)n, MSG_DONTWAIT) != n)
		return -EPROTO;
	line[n - 1] = '\0';
	return 1;
}

void vsock_host_handshake(struct vsock_conn *c)
{
	char line[LINE_MAX_LEN];
	int r = read_line(c->fd, line);
	uint32_t port;

	if (r == 0)
		return;
	if (r < 0 || !parse_connect(line, &port) || !virtio_ready(&c->v->dev)) {
		vsock_conn_drop(c);
		return;
	}
	c->state = VSOCK_REQUESTED;
	vsock_conn_bind(c, port, free_port(c->v, port));
	vsock_conn_owe(c, VSOCK_OWE_REQUEST);
}

void vsock_host_accepted(struct vsock_conn *c)
{
	char line[LINE_MAX_LEN];
	int n = snprintf(line, sizeof(line), "OK %u\n", c->host_port);

	/* The first bytes on a fresh socket always fit; if its other end is gone, an event tells.
	 */
	if (send(c->fd, line, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) != n)
		log_debug("vsock: host program of port %u is gone", c->guest_port);
}

static void accept_all(void *opaque, uint32_t events)
{
	struct virtio_vsock *v = opaque;

	virtio_lock(&v->dev);
	while (!v->resetting) {
		int fd = accept4(v->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			if (!vsock_conn_new(v, fd, VSOCK_HANDSHAKE))
				log_debug("vsock: too many connections");
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		/* Out of descriptors: the edge is gone, so come back by the clock. */
		if (errno != EAGAIN)
			timer_set(&v->accept_timer, timerq_now(v->accept_timer.q) + RETRY_NS);
		break;
	}
	vsock_settle(v);
	virtio_unlock(&v->dev);
}

static void accept_retry(void *opaque)
{
	struct virtio_vsock *v = opaque;

	virtio_lock(&v->dev);
	v->resetting = false;
	virtio_unlock(&v->dev);
	accept_all(v, 0);
}

/* A socket file that nobody listens on is left from a machine that was killed. */
static bool is_stale(const struct sockaddr_un *a)
{
	autoclose int fd = open_socket();

	return fd >= 0 && connect(fd, (const struct sockaddr *)a, sizeof(*a)) < 0 &&
	       errno == ECONNREFUSED;
}

static int bind_path(struct virtio_vsock *v, struct err *e)
{
	struct sockaddr_un a;
	int r;

	address_set(&a, v->path);
	v->listen_fd = open_socket();
	if (v->listen_fd < 0)
		return err_set(e, v->listen_fd, "vsock: socket");
	fchmod(v->listen_fd, 0600); /* the file's mode, before anybody can see it */
	r = bind(v->listen_fd, (struct sockaddr *)&a, sizeof(a));
	if (r < 0 && errno == EADDRINUSE && is_stale(&a)) {
		unlink(v->path);
		r = bind(v->listen_fd, (struct sockaddr *)&a, sizeof(a));
	}
	if (r < 0)
		return err_set(e, -errno, "vsock: listen on %s", v->path);
	v->bound = true;
	if (listen(v->listen_fd, 128) < 0)
		return err_set(e, -errno, "vsock: listen on %s", v->path);
	return 0;
}

int vsock_host_listen(struct virtio_vsock *v, int listener, struct err *e)
{
	int r = 0;

	timer_init(&v->accept_timer, loop_timers(v->loop), accept_retry, v);
	v->listen_fd = listener;
	if (listener < 0)
		r = bind_path(v, e);
	else if (fd_set_nonblock(listener, true) < 0)
		r = err_set(e, -EINVAL, "vsock: %s", v->path);
	if (r < 0)
		return r;
	r = loop_add(v->loop, &v->listen_watch, v->listen_fd, EPOLLIN | EPOLLET, accept_all, v);
	return r < 0 ? err_set(e, r, "vsock: watch %s", v->path) : 0;
}

void vsock_host_close(struct virtio_vsock *v)
{
	timer_cancel(&v->accept_timer);
	loop_remove(v->loop, &v->listen_watch);
	if (v->listen_fd >= 0)
		close(v->listen_fd);
	v->listen_fd = -1;
	if (v->bound)
		unlink(v->path);
}
