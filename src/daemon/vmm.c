/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/vmm.c - one insula-vmm: starting it so that it needs nobody, and talking to it
 */
#include "daemon/daemon_priv.h"

#include "base/dirs.h"
#include "base/exit.h"
#include "base/fd.h"
#include "image/image.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

extern char **environ;

#define READY_MS    120000 /* reads kernel and initramfs, from a slow disk at worst */
#define CALL_MS     10000
#define END_MS      5000
#define REPLY_MAX   (24u << 20)
#define REQUEST_FDS 16
#define CHILD_READY 3
#define CHILD_EXIT  4
#define CHILD_LOCK  5
#define FIRST_OWN   16 /* our ends stay clear of the numbers that the child gets */

/* --- the process --- */

struct start {
	int ready, ready_end, exit_file, errors, lock, null;
};

static void start_fini(struct start *s)
{
	const int fds[] = {s->ready, s->ready_end, s->exit_file, s->errors, s->lock, s->null};

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close_p(&fds[i]);
}

static int above(int fd)
{
	int r = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, FIRST_OWN);

	close_p(&fd);
	return r;
}

/* Held by the process as long as it lives, whatever becomes of us. */
static int take_lock(struct daemon *d, const struct machine_record *m, int *ret, struct err *e)
{
	autofree char *path = path_guest(d, m->uuid, "lock");
	autoclose int fd = above(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));

	if (fd < 0)
		return err_set(e, -errno, "open %s", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		err_exit(e, 0, EXIT_NAME_IN_USE);
		return err_msg(e, -EBUSY, "'%s' is run by another command", m->name);
	}
	*ret = steal_fd(&fd);
	return 0;
}

static int open_files(struct daemon *d, const struct machine_record *m, struct start *s,
		      struct err *e)
{
	autofree char *exit_path = path_run(d, m->uuid, "exit");
	autofree char *errors = path_guest(d, m->uuid, "vmm.log");
	int ready[2];

	s->exit_file = above(open(exit_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
	s->errors = above(open(errors, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600));
	s->null = above(open("/dev/null", O_RDWR | O_CLOEXEC));
	if (pipe2(ready, O_CLOEXEC) < 0)
		return err_set(e, -errno, "pipe");
	s->ready = ready[0];
	s->ready_end = above(ready[1]);
	if (s->exit_file < 0 || s->errors < 0 || s->null < 0 || s->ready_end < 0)
		return err_set(e, -errno, "files of '%s'", m->name);
	return 0;
}

/* The program is looked up each time: an upgrade may have replaced it. */
static int spawn(const char *name, const char *description, const char *state,
		 const struct start *s, pid_t *pid, struct err *e)
{
	autofree char *program = NULL;
	const char *const argv[] = {name,        "--description",
				    description, "--ready-fd",
				    "3",         "--exit-fd",
				    "4",         state ? "--restore" : NULL,
				    state,       NULL};
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int r = dirs_program(name, &program, e);

	if (r < 0)
		return r;
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, s->null, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&fa, s->null, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&fa, s->errors, STDERR_FILENO);
	posix_spawn_file_actions_adddup2(&fa, s->ready_end, CHILD_READY);
	posix_spawn_file_actions_adddup2(&fa, s->exit_file, CHILD_EXIT);
	posix_spawn_file_actions_adddup2(&fa, s->lock, CHILD_LOCK);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	/* A session of its own: no terminal and no signal to a group reaches it. */
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
					    POSIX_SPAWN_SETSIGDEF);
	r = -posix_spawn(pid, program, &fa, &attr, (char *const *)argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&fa);
	return r < 0 ? err_set(e, r, "start %s", program) : 0;
}

/* What it said of its failure, else the last of its complaints. */
static int failed_start(struct daemon *d, const struct machine_record *m, struct err *e)
{
	autofree char *path = path_guest(d, m->uuid, "vmm.log");
	autostrbuf struct strbuf log = {0};
	char reason[32], words[256];
	int64_t status;
	const char *error;

	vmm_read_end(d, m->uuid, reason, &status, words, sizeof(words));
	err_exit(e, 0, status > 0 && status < 256 ? (int)status : EXIT_FAIL);
	if (words[0])
		return err_msg(e, -EIO, "'%s' did not start: %s", m->name, words);
	if (read_file(path, 65536, &log) == 0 && log.len) {
		error = strstr(log.data, "error: ");
		error = error ? error + 7 : log.data;
		return err_msg(e, -EIO, "'%s' did not start: %.*s", m->name,
			       (int)strcspn(error, "\n"), error);
	}
	return err_msg(e, -EIO, "'%s' did not start: insula-vmm was ended", m->name);
}

static int wait_ready(struct daemon *d, const struct machine_record *m, const struct start *s,
		      struct err *e)
{
	struct pollfd p = {.fd = s->ready, .events = POLLIN};
	char word[8];
	int n;

	do
		n = poll(&p, 1, READY_MS);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return err_msg(e, -ETIMEDOUT, "'%s' did not start within %d s", m->name,
			       READY_MS / 1000);
	return read(s->ready, word, sizeof(word)) > 0 ? 0 : failed_start(d, m, e);
}

static json_t *describe(struct daemon *d, const struct machine_record *m,
			const struct machine_config *c)
{
	autofree char *dir = path_guest(d, m->uuid, NULL), *root = dirs_machine_disk(dir);
	autofree char *kernel = path_guest(d, m->uuid, "kernel");
	autofree char *nvram = path_guest(d, m->uuid, "nvram.fd");
	autofree char *initrd = path_run(d, m->uuid, "initrd");
	autofree char *control = path_run(d, m->uuid, "control");
	autofree char *vsock = path_run(d, m->uuid, "vsock");
	autofree char *console = path_run(d, m->uuid, "console");
	autofree char *console_log = path_guest(d, m->uuid, "console.log");
	bool image = c->image != NULL;
	struct machine_place p = {
	    .name = m->name,
	    .uuid = m->uuid,
	    .root = image ? root : NULL,
	    .root_private = true,
	    .kernel = image && !c->kernel ? kernel : c->kernel,
	    .initrd = image ? initrd : c->initrd,
	    .nvram = c->firmware && strcmp(c->firmware, "uefi") == 0 ? nvram : NULL,
	    .agent = image,
	    .restart = image || c->firmware,
	    .control = control,
	    .vsock = vsock,
	    .console = console,
	    .console_log = console_log,
	};

	return machine_describe(c, &p);
}

/* The machine as it ran, with sockets and disk of now.  What only its owner may know is not kept
 * with a snapshot. */
static json_t *describe_again(struct daemon *d, const struct machine_record *m,
			      const struct machine_config *c, const struct vmm_origin *origin)
{
	json_t *ret = json_deep_copy(origin->description), *now = describe(d, m, c), *disk;
	json_t *display = json_object_get(ret, "display");
	static const char *const keys[] = {"control", "vsock", "serial", "initrd"};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(keys); i++) {
		json_t *v = json_object_get(now, keys[i]);

		if (v)
			json_object_set(ret, keys[i], v);
	}
	if (json_object_get(display, "vnc") && c->vnc_password)
		json_object_set_new(display, "password", json_string(c->vnc_password));
	json_array_foreach(json_object_get(ret, "disks"), i, disk)
	{
		const char *serial = json_string_value(json_object_get(disk, "serial"));

		if (!origin->disk || !serial || strcmp(serial, "root") != 0)
			continue;
		json_object_set_new_nocheck(
		    disk, "path",
		    json_sprintf("%s/guests/%s/%s", d->data_dir, m->uuid, origin->disk));
		json_object_set_new(disk, "format", json_string("qcow2"));
	}
	json_decref(now);
	return ret;
}

static int write_description(struct daemon *d, const struct machine_record *m,
			     const struct machine_config *c, const struct vmm_origin *origin,
			     const char *path, struct err *e)
{
	autofree char *modules = path_guest(d, m->uuid, "modules");
	autofree char *initrd = path_run(d, m->uuid, "initrd");
	autofree char *agent = machine_agent_config(c, m->name);
	json_t *o = NULL;
	int r = 0;

	if (c->container.on)
		r = container_describe(d, m, c, &o, e);
	else
		o = origin ? describe_again(d, m, c, origin) : describe(d, m, c);
	if (r == 0 && (!o || json_dump_file(o, path, JSON_INDENT(1)) < 0))
		r = err_msg(e, -EIO, "cannot write %s", path);
	json_decref(o);
	if (r == 0 && c->image && !c->container.on)
		r = initrd_add_agent(modules, agent, initrd, e);
	return r;
}

static void end_half_started(pid_t pid)
{
	kill(pid, SIGKILL); /* our child, not waited for yet: it is still this one */
	waitpid(pid, NULL, 0);
}

/* A guest may be through before we are connected: then its end is all there is to see. */
static int connect_first(const char *path, int pidfd, int *control, struct err *e)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	*control = vmm_connect(path, e);
	if (*control >= 0 || poll(&p, 1, END_MS) == 1)
		return 0;
	return err_msg(e, -EIO, "insula-vmm said that it is ready, and does not answer");
}

static int bring_up(struct daemon *d, const struct machine_record *m, struct start *s,
		    const char *description, const char *state, const struct machine_config *c,
		    pid_t *pid, int *pidfd, int *control, struct err *e)
{
	autofree char *socket_path = path_run(d, m->uuid, "control");
	int r =
	    spawn(c->container.on ? "insula-monitor" : "insula-vmm", description, state, s, pid, e);

	if (r < 0)
		return r;
	close(s->ready_end);
	s->ready_end = -1;
	*pidfd = (int)syscall(SYS_pidfd_open, *pid, 0);
	*control = -1;
	r = *pidfd < 0 ? err_set(e, -errno, "pidfd_open") : wait_ready(d, m, s, e);
	if (r == 0 && !c->container.on)
		r = limits_apply(m->uuid, &c->limits, *pid, false, e);
	if (r == 0)
		r = connect_first(socket_path, *pidfd, control, e);
	if (r < 0) {
		end_half_started(*pid);
		close_p(pidfd);
	}
	return r;
}

int vmm_start(struct daemon *d, const struct machine_record *m, const struct machine_config *c,
	      const struct vmm_origin *origin, pid_t *pid, int *pidfd, int *control, struct err *e)
{
	autofree char *run = path_run(d, m->uuid, NULL);
	autofree char *description = path_run(d, m->uuid, "description.json");
	struct start s = {-1, -1, -1, -1, -1, -1};
	int r = take_lock(d, m, &s.lock, e);

	if (r == 0) {
		run_dir_remove(d, m->uuid); /* the lock says that nobody uses it */
		r = make_dir(run, 0700, e);
	}
	if (r == 0)
		r = write_description(d, m, c, origin, description, e);
	if (r == 0)
		r = open_files(d, m, &s, e);
	if (r == 0)
		r = bring_up(d, m, &s, description, origin ? origin->state : NULL, c, pid, pidfd,
			     control, e);
	if (r < 0 && s.lock >= 0)
		run_dir_remove(d, m->uuid);
	start_fini(&s);
	return r;
}

void vmm_abandon(struct daemon *d, const char *uuid, int pidfd, int control)
{
	siginfo_t si;

	syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	(void)!waitid(P_PIDFD, (id_t)pidfd, &si, WEXITED);
	close(pidfd);
	close_p(&control);
	run_dir_remove(d, uuid);
}

void vmm_read_end(struct daemon *d, const char *uuid, char reason[32], int64_t *status, char *words,
		  size_t size)
{
	autofree char *path = path_run(d, uuid, "exit");
	autostrbuf struct strbuf text = {0};
	int at = 0, n = 0;

	words[0] = '\0';
	if (read_file(path, 4096, &text) == 0 && text.len &&
	    sscanf(text.data, "%d %31s %n", &n, reason, &at) == 2) {
		*status = n;
		snprintf(words, size, "%.*s", (int)strcspn(text.data + at, "\n"), text.data + at);
		return;
	}
	snprintf(reason, 32, "killed");
	*status = EXIT_FAIL;
}

/* --- its sockets --- */

int vmm_connect(const char *path, struct err *e)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(addr.sun_path))
		return err_set(e, -ENAMETOOLONG, "%s", path);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return err_set(e, -errno, "connect to %s", path);
	return steal_fd(&fd);
}

/* The line that answers; events before it are passed over. */
static int read_answer(int fd, int timeout_ms, json_t **ret, struct err *e)
{
	autostrbuf struct strbuf in = {0};
	char chunk[16384], *end;

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n;

		if (poll(&p, 1, timeout_ms) == 0)
			return err_msg(e, -ETIMEDOUT, "insula-vmm does not answer");
		n = recv(fd, chunk, sizeof(chunk), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || in.len > REPLY_MAX)
			return err_msg(e, -EPIPE, "the machine ended meanwhile");
		strbuf_add(&in, chunk, (size_t)n);
		while (in.len && (end = memchr(in.data, '\n', in.len))) {
			json_t *o = json_loadb(in.data, (size_t)(end - in.data), 0, NULL);

			strbuf_consume(&in, (size_t)(end - in.data) + 1);
			if (json_object_get(o, "id")) {
				*ret = o;
				return 0;
			}
			json_decref(o);
		}
	}
}

static int take_answer(json_t *answer, json_t **ret, struct err *e)
{
	static const struct {
		const char *code;
		int r;
	} codes[] = {
	    {"wrong-state", -EBUSY}, {"invalid-argument", -EINVAL}, {"no-such-device", -ENODEV}};
	json_t *error = json_object_get(answer, "error");
	const char *message = json_string_value(json_object_get(error, "message"));
	const char *code = json_string_value(json_object_get(error, "code"));
	int r = error ? -EIO : 0;

	for (size_t i = 0; code && i < ARRAY_SIZE(codes); i++)
		if (strcmp(codes[i].code, code) == 0)
			r = codes[i].r;
	if (error)
		r = err_msg(e, r, "%s", message ? message : "insula-vmm's answer makes no sense");
	else if (ret)
		*ret = json_incref(json_object_get(answer, "return"));
	json_decref(answer);
	return r;
}

static int send_request(int fd, const char *line, const struct vmm_request *q, struct err *e)
{
	char control[CMSG_SPACE(REQUEST_FDS * sizeof(int))] __attribute__((aligned(8))) = {0};
	struct iovec iov = {.iov_base = (void *)line, .iov_len = strlen(line)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (q->n_fds) {
		struct cmsghdr *c = (struct cmsghdr *)(void *)control;

		msg.msg_control = control;
		msg.msg_controllen = CMSG_SPACE(q->n_fds * sizeof(int));
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(q->n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), q->fds, q->n_fds * sizeof(int));
	}
	if (sendmsg(fd, &msg, MSG_NOSIGNAL) != (ssize_t)strlen(line))
		return err_msg(e, -EPIPE, "the machine ended meanwhile");
	return 0;
}

int vmm_request(struct daemon *d, const char *uuid, const struct vmm_request *q, json_t **ret,
		struct err *e)
{
	autofree char *path = path_run(d, uuid, "control");
	json_t *request = json_pack("{s:i, s:s, s:o}", "id", 1, "command", q->command, "arguments",
				    q->args ? q->args : json_object());
	autofree char *text = json_dumps(request, JSON_COMPACT);
	autofree char *line = xasprintf("%s\n", text ? text : "");
	autoclose int fd = vmm_connect(path, e);
	json_t *answer = NULL;
	int r;

	json_decref(request);
	if (fd < 0)
		return fd;
	assert(q->n_fds <= REQUEST_FDS);
	r = send_request(fd, line, q, e);
	if (r == 0)
		r = read_answer(fd, q->timeout_ms ? q->timeout_ms : CALL_MS, &answer, e);
	return r < 0 ? r : take_answer(answer, ret, e);
}

int vmm_call(struct daemon *d, const char *uuid, const char *command, json_t *args, json_t **ret,
	     struct err *e)
{
	struct vmm_request q = {.command = command, .args = args};

	return vmm_request(d, uuid, &q, ret, e);
}
