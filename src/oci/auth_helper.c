/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/auth_helper.c - credentials out of programs: docker-credential-NAME (docker's
 * credential-helpers protocol: `get`, the server on standard input, JSON on standard output)
 */
#include "oci/auth.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/strbuf.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#define ANSWER_MAX  65536u
#define PATIENCE_MS 30000 /* it may ask a key ring that a person has to open */
#define PREFIX      "docker-credential-"

extern char **environ;

/* A name, and no way to a program elsewhere. */
static bool name_ok(const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < n; i++) {
		if (!isalnum((unsigned char)name[i]) && !strchr("_.-", name[i]))
			return false;
	}
	return n > 0 && n < 64;
}

static int spawn_helper(const char *program, int in, int out, pid_t *pid)
{
	const char *const argv[] = {program, "get", NULL};
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	sigset_t none;
	int r;

	sigemptyset(&none);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, in, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&fa, out, STDOUT_FILENO);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	r = -posix_spawnp(pid, program, &fa, &attr, (char *const *)argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&fa);
	return r;
}

/* Up to the end of the stream; false past the limit or the time. */
static bool read_answer(int fd, struct strbuf *ret)
{
	uint64_t give_up = clock_now() + PATIENCE_MS * NSEC_PER_MSEC, now;
	char chunk[4096];

	while ((now = clock_now()) < give_up && ret->len < ANSWER_MAX) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n;

		if (poll(&p, 1, (int)((give_up - now) / NSEC_PER_MSEC) + 1) != 1)
			continue;
		n = read(fd, chunk, sizeof(chunk));
		if (n > 0)
			strbuf_add(ret, chunk, (size_t)n);
		else if (n == 0 || errno != EINTR)
			return n == 0;
	}
	return false;
}

static bool ask(const char *program, const char *server, struct strbuf *ret)
{
	int in[2] = {-1, -1}, out[2] = {-1, -1}, status = -1;
	bool good = false;
	pid_t pid;

	/* The question is shorter than a pipe holds: writing it first waits for nobody. */
	if (pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0 &&
	    write_full(in[1], server, strlen(server)) == 0 &&
	    spawn_helper(program, in[0], out[1], &pid) == 0) {
		close(in[1]);
		close(out[1]);
		in[1] = out[1] = -1;
		good = read_answer(out[0], ret);
		if (!good)
			kill(pid, SIGKILL);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	for (int i = 0; i < 2; i++) {
		close_p(&in[i]);
		close_p(&out[i]);
	}
	return good && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

char *auth_answer_parse(const char *text, size_t len)
{
	json_t *o = json_loadb(text, len, 0, NULL);
	const char *user = json_string_value(json_object_get(o, "Username"));
	const char *secret = json_string_value(json_object_get(o, "Secret"));
	char *both = NULL;

	/* "<token>" stands for an identity token, which is no password. */
	if (user && secret && user[0] && strcmp(user, "<token>") != 0 && !strchr(user, ':'))
		both = xasprintf("%s:%s", user, secret);
	json_decref(o);
	return both;
}

char *auth_ask(const char *helper, const char *host)
{
	autofree char *program = xasprintf(PREFIX "%s", helper);
	const char *server = strcmp(host, "docker.io") == 0 ? "https://index.docker.io/v1/" : host;
	autostrbuf struct strbuf answer = {0};

	if (!name_ok(helper)) {
		log_warn("credentials: '%.64s' is no name of a helper", helper);
		return NULL;
	}
	if (!ask(program, server, &answer) || !answer.len) {
		log_debug("%s knows nothing of %s", program, server);
		return NULL;
	}
	return auth_answer_parse(answer.data, answer.len);
}
