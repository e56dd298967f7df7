/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/listen_any.c - a listening socket of either kind, as a person names it
 */
#include "vmm/listen_any.h"

#include "base/exit.h"
#include "serve/listen.h"

#include <errno.h>
#include <netdb.h>
#include <sys/socket.h>

/* Numbers only: no name service in the sandbox, and no surprise about who can connect. */
static int listen_tcp(const char *where, struct err *e)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
				 .ai_socktype = SOCK_STREAM},
			*ai;
	autofree char *host = xstrdup(where);
	autoclose int fd = -1;
	char *port = strrchr(host, ':'), *name = host;
	int on = 1, r;

	*port++ = '\0';
	if (name[0] == '[' && port[-2] == ']') {
		port[-2] = '\0';
		name++;
	}
	if (getaddrinfo(name, port, &hints, &ai) != 0)
		return err_msg(e, -EINVAL, "'%s' is not ADDRESS:PORT in numbers", where);
	fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = fd < 0 ? -errno : 0;
	if (r == 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (r == 0 && (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, 8) < 0))
		r = -errno;
	freeaddrinfo(ai);
	if (r == -EADDRINUSE)
		err_exit(e, 0, EXIT_PORT_TAKEN);
	return r < 0 ? err_set(e, r, "listen on %s", where) : steal_fd(&fd);
}

int listen_any(const char *where, struct err *e)
{
	return strncmp(where, "unix:", 5) == 0 ? listen_unix(where + 5, e) : listen_tcp(where, e);
}
