/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/sync.c - what the runtime and the process that becomes the container tell each other
 */
#include "container/sync.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

int sync_pair(int fds[2], struct err *e)
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return err_set(e, -errno, "socket pair");
	return 0;
}

int sync_send(int fd, enum sync_type type, int32_t value, const char *text)
{
	struct sync_msg m = {.type = (int32_t)type, .value = value};
	ssize_t n;

	snprintf(m.text, sizeof(m.text), "%s", text ? text : "");
	do
		n = write(fd, &m, offsetof(struct sync_msg, text) + strlen(m.text));
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

int sync_receive(int fd, struct sync_msg *ret)
{
	struct sync_msg m = {0};
	ssize_t n;

	do
		n = recv(fd, &m, sizeof(m) - 1, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	if ((size_t)n < offsetof(struct sync_msg, text))
		return n ? -EPROTO : -EPIPE;
	*ret = m;
	return 0;
}

int sync_expect(int fd, enum sync_type type, int32_t *value, struct err *e)
{
	struct sync_msg m;
	int r = sync_receive(fd, &m);

	if (r < 0)
		return err_set(e, r, "the container's process ended");
	if (m.type == SYNC_ERROR)
		return err_msg(e, m.value < 0 ? m.value : -EPROTO, "%s", m.text);
	if (m.type != (int32_t)type)
		return err_msg(e, -EPROTO, "message %d where %d was expected", m.type, type);
	if (value)
		*value = m.value;
	return 0;
}

union control {
	char buf[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

int sync_send_fd(int socket, int fd, const void *data, size_t len)
{
	union control c = {0};
	struct iovec iov = {.iov_base = (void *)data, .iov_len = len};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = c.buf,
			   .msg_controllen = sizeof(c.buf)};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);

	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &fd, sizeof(int));
	return sendmsg(socket, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int sync_receive_fd(int socket, int *ret)
{
	char data[4096];
	union control c = {0};
	struct iovec iov = {.iov_base = data, .iov_len = sizeof(data)};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = c.buf,
			   .msg_controllen = sizeof(c.buf)};
	struct cmsghdr *h;
	ssize_t n = recvmsg(socket, &m, MSG_CMSG_CLOEXEC);

	if (n < 0)
		return -errno;
	h = CMSG_FIRSTHDR(&m);
	if (!h || h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS ||
	    h->cmsg_len != CMSG_LEN(sizeof(int)))
		return n ? -EPROTO : -EPIPE;
	memcpy(ret, CMSG_DATA(h), sizeof(int));
	return 0;
}
