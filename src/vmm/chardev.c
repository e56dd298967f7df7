/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/chardev.c - where the machine's serial ports and consoles end
 *
 *	device --write--> out buffer --(loop)--> out_fd      in_fd --(loop)--> in buffer --> device
 *
 * The device's thread only touches the buffers, under the lock, and posts work to the loop.
 */
#include "vmm/chardev.h"

#include "base/fd.h"
#include "base/fd_table.h"
#include "serve/keeplog.h"
#include "serve/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>

#define OUT_MAX 65536u
#define IN_MAX  4096u

struct chardev_backend {
	struct chardev chr;
	struct chardev_config cfg;
	int in_fd, out_fd, listen_fd; /* -1 = none; a socket's client is in both of the first two */
	struct keeplog log;           /* of the output */
	bool terminal;
	struct termios saved;
	struct loop_fd in_watch, out_watch, listen_watch;
	struct loop_work work;
	char *path; /* socket to unlink */
	uint8_t in[IN_MAX];
	size_t in_len;
	pthread_mutex_t lock; /* of what follows */
	struct strbuf out;
	bool device_waits;
};

/* --- the device's side, any thread --- */

static size_t on_write(void *backend, const void *buf, size_t len)
{
	struct chardev_backend *b = backend;
	size_t n;

	pthread_mutex_lock(&b->lock);
	n = MIN(len, OUT_MAX - b->out.len);
	strbuf_add(&b->out, buf, n);
	if (n < len)
		b->device_waits = true;
	pthread_mutex_unlock(&b->lock);
	loop_post(b->cfg.loop, &b->work);
	return n;
}

static void on_resume(void *backend)
{
	struct chardev_backend *b = backend;

	loop_post(b->cfg.loop, &b->work);
}

static const struct chardev_ops ops = {.write = on_write, .resume = on_resume};

/* --- the loop's side --- */

static void drop_client(struct chardev_backend *b)
{
	if (b->in_watch.added)
		loop_remove(b->cfg.loop, &b->in_watch);
	if (b->out_watch.added)
		loop_remove(b->cfg.loop, &b->out_watch);
	if (b->listen_fd >= 0) {
		close_p(&b->in_fd);
		close_p(&b->out_fd);
		b->in_fd = b->out_fd = -1;
	}
	b->in_len = 0;
}

/* Empties the out buffer as far as the descriptor takes it. */
static void flush(struct chardev_backend *b)
{
	bool tell = false;

	pthread_mutex_lock(&b->lock);
	while (b->out.len) {
		ssize_t n =
		    b->out_fd < 0 ? (ssize_t)b->out.len : write(b->out_fd, b->out.data, b->out.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		/* A reader that went away, a full disk: the guest must not hang on it. */
		keeplog_add(&b->log, b->out.data, n < 0 ? b->out.len : (size_t)n);
		strbuf_consume(&b->out, n < 0 ? b->out.len : (size_t)n);
	}
	if (b->device_waits && b->out.len < OUT_MAX / 2) {
		b->device_waits = false;
		tell = true;
	}
	if (b->out_watch.added)
		loop_modify(b->cfg.loop, &b->out_watch, b->out.len ? EPOLLOUT : 0);
	pthread_mutex_unlock(&b->lock);
	if (tell)
		chardev_writable(&b->chr);
}

/* Offers what was read; while some of it stays, no more is read. */
static void offer(struct chardev_backend *b)
{
	size_t n;

	if (b->in_len) {
		n = chardev_receive(&b->chr, b->in, b->in_len);
		b->in_len -= n;
		memmove(b->in, b->in + n, b->in_len);
	}
	if (b->in_watch.added)
		loop_modify(b->cfg.loop, &b->in_watch, b->in_len ? 0 : EPOLLIN);
}

static void on_work(void *opaque)
{
	flush(opaque);
	offer(opaque);
}

static void on_out(void *opaque, uint32_t events)
{
	struct chardev_backend *b = opaque;

	if ((events & (EPOLLERR | EPOLLHUP)) && b->listen_fd >= 0)
		drop_client(b);
	else if (events & (EPOLLERR | EPOLLHUP))
		loop_remove(b->cfg.loop, &b->out_watch);
	flush(b);
}

static void on_in(void *opaque, uint32_t events)
{
	struct chardev_backend *b = opaque;
	const uint8_t *escape;
	ssize_t n;

	if (b->in_len && !(events & (EPOLLHUP | EPOLLERR)))
		return;
	n = read(b->in_fd, b->in + b->in_len, IN_MAX - b->in_len);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		if (b->listen_fd >= 0)
			drop_client(b);
		else
			loop_remove(b->cfg.loop, &b->in_watch);
		flush(b);
		return;
	}
	escape = b->terminal ? memchr(b->in + b->in_len, CHARDEV_ESCAPE, (size_t)n) : NULL;
	if (escape) {
		n = escape - (b->in + b->in_len);
		b->in_len += (size_t)n;
		offer(b);
		b->cfg.on_escape(b->cfg.opaque);
		return;
	}
	b->in_len += (size_t)n;
	offer(b);
}

static int watch(struct chardev_backend *b, struct err *e)
{
	int r = 0;

	if (b->in_fd >= 0) {
		r = loop_add(b->cfg.loop, &b->in_watch, b->in_fd, EPOLLIN, on_in, b);
		if (r == -EPERM) /* a regular file as stdin: nothing to wait for */
			r = 0;
	}
	if (r == 0 && b->out_fd >= 0 && b->out_fd != b->in_fd) {
		r = loop_add(b->cfg.loop, &b->out_watch, b->out_fd, 0, on_out, b);
		if (r == -EPERM) /* a file: written at once */
			r = 0;
	}
	return r < 0 ? err_set(e, r, "watch a console") : 0;
}

static void on_connect(void *opaque, uint32_t events)
{
	struct chardev_backend *b = opaque;
	int fd = accept4(b->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	if (b->in_fd >= 0) {
		close(fd); /* one client at a time */
		return;
	}
	b->in_fd = fd;
	b->out_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (b->out_fd < 0 || watch(b, NULL) < 0)
		drop_client(b);
}

/* --- opening --- */

/*
 * Non-blocking without touching the description others share: terminals and pipes are opened anew;
 * files never block for long; sockets have no other way than a flag on the shared description.
 */
static int own_fd(int fd, int flags)
{
	struct stat st;
	char path[40];
	int r;

	if (fstat(fd, &st) < 0)
		return -1;
	if (S_ISCHR(st.st_mode) || S_ISFIFO(st.st_mode)) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		r = open(path, flags | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
		if (r >= 0)
			return r;
	}
	r = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (r >= 0 && S_ISSOCK(st.st_mode))
		fcntl(r, F_SETFL, fcntl(r, F_GETFL) | O_NONBLOCK);
	return r;
}

static int open_stdio(struct chardev_backend *b, struct err *e)
{
	struct termios raw;

	b->in_fd = own_fd(STDIN_FILENO, O_RDONLY);
	b->out_fd = own_fd(STDOUT_FILENO, O_WRONLY);
	if (b->in_fd >= 0 && tcgetattr(b->in_fd, &b->saved) == 0) {
		raw = b->saved;
		cfmakeraw(&raw);
		raw.c_oflag |= OPOST | ONLCR; /* messages of ours share the terminal */
		if (tcsetattr(b->in_fd, TCSANOW, &raw) < 0)
			return err_set(e, -errno, "set the terminal to raw");
		b->terminal = true;
	}
	return 0;
}

static int open_log(struct chardev_backend *b, const char *path, struct err *e)
{
	int fd = fd_table_find(b->cfg.given, path);

	return fd < 0 ? keeplog_open(&b->log, path, e) : keeplog_take(&b->log, fd, e);
}

static int open_socket(struct chardev_backend *b, const char *path, struct err *e)
{
	int r;

	b->listen_fd = fd_table_find(b->cfg.given, path);
	if (b->listen_fd < 0)
		b->listen_fd = listen_unix(path, e);
	if (b->listen_fd < 0)
		return b->listen_fd;
	b->path = xstrdup(path);
	r = loop_add(b->cfg.loop, &b->listen_watch, b->listen_fd, EPOLLIN, on_connect, b);
	if (r < 0)
		return err_set(e, r, "watch %s", path);
	return b->cfg.desc->log ? open_log(b, b->cfg.desc->log, e) : 0;
}

static int open_backend(struct chardev_backend *b, struct err *e)
{
	const char *path = b->cfg.desc->path;

	switch (b->cfg.desc->type) {
	case VM_CHARDEV_NONE:
		return 0;
	case VM_CHARDEV_STDIO:
		return open_stdio(b, e);
	case VM_CHARDEV_FILE:
		b->out_fd = fd_table_find(b->cfg.given, path);
		if (b->out_fd < 0)
			b->out_fd = open(
			    path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0600);
		return b->out_fd < 0 ? err_set(e, -errno, "open %s", path) : 0;
	case VM_CHARDEV_SOCKET:
		return open_socket(b, path, e);
	}
	return -EINVAL;
}

int chardev_backend_open(const struct chardev_config *cfg, struct chardev_backend **ret,
			 struct err *e)
{
	struct chardev_backend *b;
	int r;

	*ret = NULL;
	if (cfg->desc->type == VM_CHARDEV_NONE)
		return 0;
	b = xnew(struct chardev_backend);
	b->cfg = *cfg;
	b->in_fd = b->out_fd = b->listen_fd = b->log.fd = -1;
	b->chr.ops = &ops;
	b->chr.backend = b;
	pthread_mutex_init(&b->lock, NULL);
	loop_work_init(&b->work, on_work, b);
	r = open_backend(b, e);
	if (r == 0)
		r = watch(b, e);
	if (r < 0) {
		chardev_backend_close(b);
		return r;
	}
	*ret = b;
	return 0;
}

struct chardev *chardev_backend_front(struct chardev_backend *b)
{
	return b ? &b->chr : NULL;
}

void chardev_backend_close(struct chardev_backend *b)
{
	if (!b)
		return;
	b->chr.front = NULL;
	/* Last words: a reader that still reads gets them, for at most a second. */
	for (int i = 0; i < 10 && b->out.len && b->out_fd >= 0; i++) {
		struct pollfd p = {.fd = b->out_fd, .events = POLLOUT};

		flush(b);
		if (b->out.len && poll(&p, 1, 100) < 0)
			break;
	}
	drop_client(b);
	if (b->listen_watch.added)
		loop_remove(b->cfg.loop, &b->listen_watch);
	loop_unpost(b->cfg.loop, &b->work);
	if (b->terminal)
		tcsetattr(b->in_fd, TCSANOW, &b->saved);
	close_p(&b->in_fd);
	close_p(&b->out_fd);
	close_p(&b->listen_fd);
	keeplog_close(&b->log);
	if (b->path)
		unlink(b->path);
	free(b->path);
	strbuf_fini(&b->out);
	pthread_mutex_destroy(&b->lock);
	free(b);
}
