/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live/client.c - requests on a running machine's control socket
 */
#include "live/client.h"

#include "base/fd.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#define REPLY_MAX (64u << 20)
#define FDS_MAX   64

void vmm_client_init(struct vmm_client *c, int fd)
{
	*c = (struct vmm_client){.fd = fd};
}

int vmm_client_open(const char *path, struct vmm_client *ret, struct err *e)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_set(e, -errno, "socket");
	if (strlen(path) >= sizeof(addr.sun_path))
		return err_set(e, -ENAMETOOLONG, "%s", path);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return err_set(e, -errno, "connect to %s", path);
	vmm_client_init(ret, steal_fd(&fd));
	return 0;
}

void vmm_client_fini(struct vmm_client *c)
{
	close_p(&c->fd);
	free(c->text);
	*c = (struct vmm_client){.fd = -1};
}

/* The descriptors go with the first byte. */
static int send_line(int fd, const char *line, const int *fds, unsigned int n)
{
	char control[CMSG_SPACE(FDS_MAX * sizeof(int))] __attribute__((aligned(8))) = {0};
	struct iovec iov = {(void *)(uintptr_t)line, 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;

	if (n) {
		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	if (sendmsg(fd, &msg, MSG_NOSIGNAL) != 1)
		return -errno;
	return write_full(fd, line + 1, strlen(line) - 1);
}

/* One line, without its end; the caller's. */
static int read_line(struct vmm_client *c, char **ret)
{
	for (;;) {
		char *nl = c->len ? memchr(c->text, '\n', c->len) : NULL, *more;
		ssize_t n;

		if (nl) {
			size_t line = (size_t)(nl - c->text) + 1;

			*ret = strndup(c->text, line - 1);
			memmove(c->text, nl + 1, c->len - line);
			c->len -= line;
			return *ret ? 0 : -ENOMEM;
		}
		if (c->len > REPLY_MAX)
			return -EFBIG;
		more = realloc(c->text, c->len + 65536);
		if (!more)
			return -ENOMEM;
		c->text = more;
		n = read(c->fd, c->text + c->len, 65536);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ECONNRESET;
		c->len += (size_t)n;
	}
}

static int read_answer(struct vmm_client *c, json_t **ret, struct err *e)
{
	for (;;) {
		autofree char *line = NULL;
		json_t *o;
		int r = read_line(c, &line);

		if (r < 0)
			return err_set(e, r, "the machine did not answer");
		o = json_loads(line, 0, NULL);
		if (!json_is_object(o)) {
			json_decref(o);
			return err_msg(e, -EPROTO, "the machine answered with what is no JSON");
		}
		if (!json_object_get(o, "event")) {
			*ret = o;
			return 0;
		}
		json_decref(o);
	}
}

static int errno_of(const char *code)
{
	static const struct {
		const char *code;
		int error;
	} codes[] = {
	    {"invalid-argument", -EINVAL},
	    {"unknown-command", -ENOSYS},
	    {"wrong-state", -EBUSY},
	    {"no-such-device", -ENODEV},
	};

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		if (code && strcmp(codes[i].code, code) == 0)
			return codes[i].error;
	return -EIO;
}

int vmm_client_call(struct vmm_client *c, const char *command, json_t *args, const int *fds,
		    unsigned int n_fds, json_t **ret, struct err *e)
{
	json_t *request = json_pack("{s:i, s:s, s:o}", "id", 1, "command", command, "arguments",
				    args ? args : json_object());
	autofree char *text = json_dumps(request, JSON_COMPACT);
	autofree char *line = xasprintf("%s\n", text ? text : "");
	json_t *answer = NULL, *error;
	int r = n_fds > FDS_MAX ? -E2BIG : send_line(c->fd, line, fds, n_fds);

	json_decref(request);
	if (r < 0)
		return err_set(e, r, "ask the machine");
	r = read_answer(c, &answer, e);
	if (r < 0)
		return r;
	error = json_object_get(answer, "error");
	if (error) {
		const char *words = json_string_value(json_object_get(error, "message"));

		r = err_msg(e, errno_of(json_string_value(json_object_get(error, "code"))), "%s",
			    words ? words : "the machine refused");
	} else if (ret) {
		*ret = json_incref(json_object_get(answer, "return"));
	}
	json_decref(answer);
	return r;
}
