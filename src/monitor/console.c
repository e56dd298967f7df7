/* SPDX-License-Identifier: Apache-2.0 */
/*
 * monitor/console.c - what the container says and, on a terminal, hears
 *
 * The container never waits for a person: who does not read what it says is hung up.
 */
#include "monitor/monitor_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#define BUFFER_MAX (256u << 10)
#define CHUNK      16384

size_t console_prepare(const struct console *c, struct pollfd *polls)
{
	short client = 0;

	if (c->client >= 0)
		client =
		    (short)((c->in.len < BUFFER_MAX ? POLLIN : 0) | (c->out.len ? POLLOUT : 0));
	polls[0] = (struct pollfd){.fd = c->listener, .events = POLLIN};
	polls[1] = (struct pollfd){.fd = c->client, .events = client};
	polls[2] =
	    (struct pollfd){.fd = c->output, .events = (short)(POLLIN | (c->in.len ? POLLOUT : 0))};
	return CONSOLE_POLLS;
}

static void hang_up(struct console *c)
{
	close_p(&c->client);
	c->client = -1;
	strbuf_consume(&c->out, c->out.len);
	strbuf_consume(&c->in, c->in.len);
}

static void take_client(struct console *c)
{
	int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	if (c->client >= 0)
		close(fd);
	else
		c->client = fd;
}

/* Returns whether there was some. */
static bool take_output(struct console *c)
{
	char chunk[CHUNK];
	ssize_t n = c->output < 0 ? 0 : read(c->output, chunk, sizeof(chunk));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) { /* a terminal whose last user is gone says EIO */
		close_p(&c->output);
		c->output = -1;
		return false;
	}
	keeplog_add(&c->log, chunk, (size_t)n);
	if (c->client >= 0)
		strbuf_add(&c->out, chunk, (size_t)n);
	if (c->out.len > BUFFER_MAX)
		hang_up(c);
	return true;
}

static void take_input(struct console *c)
{
	char chunk[CHUNK];
	ssize_t n = recv(c->client, chunk, sizeof(chunk), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		hang_up(c);
	else if (c->tty)
		strbuf_add(&c->in, chunk, (size_t)n);
}

/* Returns false when @fd takes no more for good. */
static bool flush(int fd, struct strbuf *b)
{
	while (b->len) {
		ssize_t n = write(fd, b->data, b->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		strbuf_consume(b, (size_t)n);
	}
	return true;
}

void console_step(struct console *c)
{
	take_client(c);
	take_output(c);
	if (c->client >= 0 && c->in.len < BUFFER_MAX)
		take_input(c);
	if (c->client >= 0 && !flush(c->client, &c->out))
		hang_up(c);
	if (c->output >= 0 && !flush(c->output, &c->in))
		strbuf_consume(&c->in, c->in.len);
}

void console_drain(struct console *c)
{
	while (take_output(c))
		;
	if (c->client >= 0)
		(void)flush(c->client, &c->out);
	close_p(&c->slave);
	close_p(&c->output);
	c->slave = c->output = -1;
	strbuf_consume(&c->in, c->in.len);
}
