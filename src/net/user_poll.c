/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/user_poll.c - which descriptors the user-mode network waits for
 *
 * libslirp was made for a poll() loop: before each sleep it lists all its descriptors, after it it
 * asks for each of them.  Here the list is compared with the last one and only the differences go
 * to epoll.
 */
#include "net/user_priv.h"

#include <errno.h>
#include <sys/epoll.h>

#define BATCH 64

static const struct {
	int slirp;
	uint32_t epoll;
} event_map[] = {
    {SLIRP_POLL_IN, EPOLLIN},   {SLIRP_POLL_OUT, EPOLLOUT}, {SLIRP_POLL_PRI, EPOLLPRI},
    {SLIRP_POLL_ERR, EPOLLERR}, {SLIRP_POLL_HUP, EPOLLHUP},
};

int user_poll_init(struct user_poll *p, struct err *e)
{
	*p = (struct user_poll){.epfd = epoll_create1(EPOLL_CLOEXEC)};
	return p->epfd < 0 ? err_set(e, -errno, "user network: epoll") : 0;
}

void user_poll_fini(struct user_poll *p)
{
	close_p(&p->epfd);
	p->epfd = -1;
	free(p->now);
	free(p->before);
	free(p->by_fd);
}

static struct user_poll_fd *fd_entry(struct user_poll *p, int fd)
{
	if ((size_t)fd >= p->n_fds) {
		size_t n = MAX((size_t)fd + 1, p->n_fds * 2);
		struct user_poll_fd *grown = reallocarray(p->by_fd, n, sizeof(*grown));

		if (!grown)
			return NULL;
		memset(grown + p->n_fds, 0, (n - p->n_fds) * sizeof(*grown));
		p->by_fd = grown;
		p->n_fds = n;
	}
	return &p->by_fd[fd];
}

static bool room_for_entry(struct user_poll *p)
{
	size_t cap = p->cap ? p->cap * 2 : 64;
	struct user_poll_entry *a, *b;

	if (p->n_now < p->cap)
		return true;
	a = reallocarray(p->now, cap, sizeof(*a));
	if (!a)
		return false;
	p->now = a;
	b = reallocarray(p->before, cap, sizeof(*b));
	if (!b)
		return false;
	p->before = b;
	p->cap = cap;
	return true;
}

/* SlirpAddPollCb; -1 (out of memory) makes the socket wait for a later round. */
static int add_poll(int fd, int events, void *opaque)
{
	struct user_poll *p = opaque;
	struct user_poll_fd *w = fd < 0 ? NULL : fd_entry(p, fd);
	uint32_t ep = 0;

	if (!w || !room_for_entry(p))
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(event_map); i++)
		ep |= events & event_map[i].slirp ? event_map[i].epoll : 0;
	if (w->round == p->round) {
		p->now[w->index].events |= ep;
		return w->index;
	}
	w->round = p->round;
	w->index = (int)p->n_now;
	p->now[p->n_now++] = (struct user_poll_entry){.fd = fd, .events = ep};
	return w->index;
}

static int get_revents(int idx, void *opaque)
{
	const struct user_poll *p = opaque;
	int r = 0;

	if (idx < 0 || (size_t)idx >= p->n_now)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(event_map); i++)
		r |= p->now[idx].revents & event_map[i].epoll ? event_map[i].slirp : 0;
	return r;
}

void user_poll_forget(struct user_poll *p, int fd)
{
	if (fd < 0 || (size_t)fd >= p->n_fds || !p->by_fd[fd].added)
		return;
	/* Fails when the descriptor was closed already, which removed it as well. */
	epoll_ctl(p->epfd, EPOLL_CTL_DEL, fd, NULL);
	p->by_fd[fd].added = false;
}

static void watch(struct user_poll *p, int fd, uint32_t events)
{
	struct user_poll_fd *w = &p->by_fd[fd];
	struct epoll_event ev = {.events = events, .data.fd = fd};
	int r;

	if (w->added && w->events == events)
		return;
	r = epoll_ctl(p->epfd, w->added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev);
	if (r < 0 && (errno == ENOENT || errno == EEXIST))
		r = epoll_ctl(p->epfd, errno == ENOENT ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &ev);
	w->added = r == 0;
	w->events = events;
}

uint32_t user_poll_fill(struct user_poll *p, Slirp *slirp)
{
	struct user_poll_entry *last = p->now;
	uint32_t timeout = UINT32_MAX;

	p->now = p->before;
	p->before = last;
	p->n_before = p->n_now;
	p->n_now = 0;
	p->round++;
	slirp_pollfds_fill(slirp, &timeout, add_poll, p);
	for (size_t i = 0; i < p->n_before; i++) {
		int fd = p->before[i].fd;

		if (p->by_fd[fd].round != p->round)
			user_poll_forget(p, fd);
	}
	for (size_t i = 0; i < p->n_now; i++)
		watch(p, p->now[i].fd, p->now[i].events);
	return timeout;
}

void user_poll_run(struct user_poll *p, Slirp *slirp)
{
	struct epoll_event ev[BATCH];
	int n = epoll_wait(p->epfd, ev, BATCH, 0);

	for (int i = 0; i < n; i++) {
		const struct user_poll_fd *w = &p->by_fd[ev[i].data.fd];

		if (w->round == p->round)
			p->now[w->index].revents = ev[i].events;
	}
	slirp_pollfds_poll(slirp, n < 0, get_revents, p);
}
