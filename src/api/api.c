/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api/api.c - the listening socket and its connections
 */
#include "api/api_priv.h"

#include "base/clock.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define MAX_CONNS 256

static void on_connect(void *opaque, uint32_t events)
{
	struct api *a = opaque;
	int fd = accept4(a->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0)
		(void)!api_add_conn(a, fd, NULL);
}

struct conn *api_add_conn(struct api *a, int fd, struct link *link)
{
	if (a->n_conns < MAX_CONNS)
		return conn_new(a, fd, link);
	close(fd);
	return NULL;
}

static void on_events(void *opaque)
{
	struct api *a = opaque;
	struct list *at, *tmp;

	list_for_each_safe(at, tmp, &a->conns)
	{
		struct conn *c = container_of(at, struct conn, node);

		if (c->state == CONN_EVENTS)
			stream_more_events(c);
	}
}

int api_new(struct daemon *d, int fd, struct api **ret, struct err *e)
{
	struct api *a = xnew(struct api);
	int r;

	a->d = d;
	a->loop = daemon_loop(d);
	a->fd = fd;
	a->idle_since = clock_now();
	list_init(&a->conns);
	list_init(&a->listener.node);
	r = loop_add(a->loop, &a->watch, fd, EPOLLIN, on_connect, a);
	if (r < 0) {
		api_free(a);
		return err_set(e, r, "watch the API's socket");
	}
	daemon_listen(d, &a->listener, on_events, a);
	*ret = a;
	return 0;
}

void api_free(struct api *a)
{
	struct list *at, *tmp;

	if (!a)
		return;
	if (a->listener.work.fn)
		daemon_unlisten(a->d, &a->listener);
	list_for_each_safe(at, tmp, &a->conns)
	{
		(void)conn_flush(container_of(at, struct conn, node));
	}
	list_for_each_safe(at, tmp, &a->conns) conn_free(container_of(at, struct conn, node));
	if (a->watch.added)
		loop_remove(a->loop, &a->watch);
	close(a->fd);
	free(a);
}

bool api_is_idle(const struct api *a, uint64_t *since)
{
	*since = a->idle_since;
	return a->n_conns == 0;
}
