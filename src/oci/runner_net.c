/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/runner_net.c - slirp4netns: a network for a namespace, without privileges; the addresses are
 * those of a machine's user-mode network, but for the container's own
 */
#include "oci/runner_parts.h"

#include "base/exit.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define GUEST_ADDRESS "10.0.2.100"
#define PATIENCE_MS   10000
#define READY_FD      3
#define EXIT_FD       4

static void child_exec(pid_t pid, const char *api, int ready, int alive) __attribute__((noreturn));
static void child_exec(pid_t pid, const char *api, int ready, int alive)
{
	autofree char *who = xasprintf("%d", pid);
	int null = open("/dev/null", O_RDWR);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	dup2(null, 0);
	dup2(null, 1);
	dup2(null, 2);
	ready = fcntl(ready, F_DUPFD, 16);
	alive = fcntl(alive, F_DUPFD, 16);
	dup2(ready, READY_FD);
	dup2(alive, EXIT_FD);
	execlp("slirp4netns", "slirp4netns", "--configure", "--mtu=65520",
	       "--disable-host-loopback", "--ready-fd=3", "--exit-fd=4", "--api-socket", api, who,
	       "tap0", (char *)NULL);
	_exit(127);
}

/* One request a connection: {"execute": "add_hostfwd", "arguments": {...}}. */
static int publish(const char *api, const struct run_port *p, struct err *e)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	autofree char *text = xasprintf(
	    "{\"execute\":\"add_hostfwd\",\"arguments\":{\"proto\":\"%s\",\"host_addr\":"
	    "\"%s\",\"host_port\":%u,\"guest_addr\":\"" GUEST_ADDRESS "\",\"guest_port\":%u}}",
	    p->udp ? "udp" : "tcp", p->address, p->host, p->guest);
	char answer[1024] = "";
	ssize_t n;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", api);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    write_full(fd, text, strlen(text)) < 0 || shutdown(fd, SHUT_WR) < 0)
		return err_set(e, -errno, "slirp4netns");
	n = read(fd, answer, sizeof(answer) - 1);
	if (n > 0 && strstr(answer, "\"return\""))
		return 0;
	err_exit(e, 0, EXIT_PORT_TAKEN);
	return err_msg(e, -EADDRINUSE, "--publish: port %u of %s cannot be had", p->host,
		       p->address);
}

int slirp_start(pid_t pid, const char *dir, const struct container_options *o, struct slirp *ret,
		struct err *e)
{
	autofree char *api = xasprintf("%s/slirp", dir);
	int ready[2], alive[2], r = 0;
	struct slirp s;
	struct pollfd p = {.events = POLLIN};
	char byte;

	if (strlen(api) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return err_msg(e, -ENAMETOOLONG, "%s is too long for a socket", api);
	if (pipe2(ready, O_CLOEXEC) < 0 || pipe2(alive, O_CLOEXEC) < 0)
		return err_set(e, -errno, "pipe");
	s = (struct slirp){.pid = fork(), .alive = alive[1]};
	if (s.pid == 0)
		child_exec(pid, api, ready[1], alive[0]);
	close(ready[1]);
	close(alive[0]);
	p.fd = ready[0];
	if (s.pid < 0 || poll(&p, 1, PATIENCE_MS) != 1 || read(ready[0], &byte, 1) != 1)
		r = err_msg(e, -EIO,
			    "slirp4netns makes no network (is the package slirp4netns installed? "
			    "--net none does without)");
	close(ready[0]);
	for (size_t i = 0; i < o->n_ports && r == 0; i++)
		r = publish(api, &o->ports[i], e);
	if (r < 0)
		slirp_stop(&s);
	else
		*ret = s;
	return r;
}

void slirp_stop(struct slirp *s)
{
	if (s->pid <= 0)
		return;
	close(s->alive);
	kill(s->pid, SIGTERM);
	while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
		;
	s->pid = 0;
}
