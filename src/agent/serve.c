/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent/serve.c - the first process's loop: connections from the host, children that end, signals
 *
 * The host comes over vsock, one connection a command; on machines without vsock over the
 * virtio-console port named AGENT_SERIAL_NAME.
 */
#include "agent/agent_priv.h"
#include "base/clock.h"
#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define MAX_CONNS     64
#define PORT_INTERVAL (200 * NSEC_PER_MSEC)

static struct list conns = {&conns, &conns};

static int start(void *opaque, const json_t *request, struct proc **ret, const char **what,
		 struct err *e)
{
	return proc_start(request, ret, what, e);
}

static int listen_vsock(void)
{
	struct sockaddr_vm addr = {
	    .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = AGENT_PORT};
	autoclose int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 16) < 0)
		return -1;
	return steal_fd(&fd);
}

/* Only the host may command us: a user of the guest who connects through the local transport must
 * not get root from it. */
static void accept_host(int listener)
{
	struct sockaddr_vm peer;
	socklen_t len = sizeof(peer);
	int fd = accept4(listener, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
	size_t n = 0;
	struct list *l;

	if (fd < 0)
		return;
	list_for_each(l, &conns) n++;
	if (peer.svm_family != AF_VSOCK || peer.svm_cid != VMADDR_CID_HOST || n >= MAX_CONNS) {
		close(fd);
		return;
	}
	list_append(&conns, &conn_new(fd, false, start, NULL)->node);
}

/* The port of our name, if the machine has one. */
static int open_port(void)
{
	DIR *d = opendir("/sys/class/virtio-ports");
	struct dirent *de;
	int fd = -1;

	while (d && fd < 0 && (de = readdir(d))) {
		autostrbuf struct strbuf name = {0};
		char path[300];

		snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", de->d_name);
		if (read_file(path, 256, &name) < 0 || !name.len ||
		    strcmp(strtok(name.data, "\n"), AGENT_SERIAL_NAME) != 0)
			continue;
		snprintf(path, sizeof(path), "/dev/%s", de->d_name);
		fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	}
	if (d)
		closedir(d);
	return fd;
}

static int watch_signals(void)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void reap(void)
{
	struct list *l;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		list_for_each(l, &conns)
		    conn_child_ended(container_of(l, struct conn, node), pid, status);
	}
}

/* True when a signal asks for the guest's end: the words of sysvinit and busybox. */
static bool take_signals(int fd, enum power_mode *mode)
{
	struct signalfd_siginfo si;

	while (read(fd, &si, sizeof(si)) == sizeof(si)) {
		switch (si.ssi_signo) {
		case SIGUSR1:
		case SIGUSR2:
			*mode = POWER_OFF;
			return true;
		case SIGTERM:
		case SIGINT:
			*mode = POWER_REBOOT;
			return true;
		default:
			break;
		}
	}
	return false;
}

/* One round over all connections; true when the host asked for the guest's end. */
static bool step_all(enum power_mode *mode)
{
	uint64_t now = clock_now();
	struct list *l, *tmp;

	list_for_each_safe(l, tmp, &conns)
	{
		struct conn *c = container_of(l, struct conn, node);

		conn_step(c, now);
		if (c->power_wanted) {
			*mode = c->power;
			return true;
		}
		if (c->closing)
			conn_free(c);
	}
	return false;
}

/* How long poll may sleep: a port without a host, or a terminal that waits for its end of file,
 * wants looking at now and then. */
static int poll_timeout(void)
{
	struct list *l;

	list_for_each(l, &conns)
	{
		const struct conn *c = container_of(l, struct conn, node);

		if (c->proc && c->proc->tty && c->proc->eof_wanted)
			return 100;
		if (c->serial)
			return (int)(PORT_INTERVAL / NSEC_PER_MSEC);
	}
	return -1;
}

/* A port without a host is always "hung up": waiting for it would spin. */
static void mute_idle_port(struct pollfd *p)
{
	struct pollfd one = *p;

	if (poll(&one, 1, 0) == 1 && (one.revents & POLLHUP) && !(one.revents & POLLIN))
		p->fd = -1;
}

static void prepare_all(struct pollfd *polls, size_t *n)
{
	struct list *l;

	list_for_each(l, &conns)
	{
		struct conn *c = container_of(l, struct conn, node);
		size_t added = conn_prepare(c, polls + *n);

		if (c->serial)
			mute_idle_port(polls + *n);
		*n += added;
	}
}

enum power_mode serve(void)
{
	static struct pollfd polls[2 + (MAX_CONNS + 1) * CONN_POLLS];
	int signals = watch_signals(), listener = listen_vsock(), port = open_port();
	enum power_mode mode = POWER_OFF;

	if (port >= 0)
		list_append(&conns, &conn_new(port, true, start, NULL)->node);
	if (port < 0 && listener < 0)
		agent_log("neither vsock nor the port %s: the host cannot reach this guest",
			  AGENT_SERIAL_NAME);
	for (;;) {
		size_t n = 2;

		polls[0] = (struct pollfd){.fd = signals, .events = POLLIN};
		polls[1] = (struct pollfd){.fd = listener, .events = POLLIN};
		prepare_all(polls, &n);
		if (poll(polls, n, poll_timeout()) < 0 && errno != EINTR)
			agent_log("poll: %s", strerror(errno));
		if (take_signals(signals, &mode))
			return mode;
		reap();
		if (polls[1].revents & POLLIN)
			accept_host(listener);
		if (step_all(&mode))
			return mode;
	}
}

void serve_goodbye(enum power_mode mode)
{
	uint64_t give_up = clock_now() + 500 * NSEC_PER_MSEC;
	struct list *l;

	list_for_each(l, &conns)
	{
		struct conn *c = container_of(l, struct conn, node);

		conn_send_json(
		    c, AGENT_GOODBYE,
		    json_pack("{s:s}", "mode", mode == POWER_REBOOT ? "reboot" : "poweroff"));
		while (c->out.len && clock_now() < give_up) {
			struct pollfd p = {.fd = c->fd, .events = POLLOUT};
			ssize_t n;

			if (poll(&p, 1, 100) <= 0)
				continue;
			n = write(c->fd, c->out.data, c->out.len);
			if (n < 0 && errno != EAGAIN)
				break;
			strbuf_consume(&c->out, n < 0 ? 0 : (size_t)n);
		}
	}
}
