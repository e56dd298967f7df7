/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/op_watch.c - looking at machines: waiting, statistics, console and its log, the agent
 */
#include "daemon/daemon_priv.h"

#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>

#define LOG_BYTES     65536
#define LOG_MAX_BYTES (2 << 20)
#define IDENTITY_MS   30000 /* a command in a copy waits for its names */

/* --- wait --- */

enum goal { GOAL_STOPPED, GOAL_RUNNING, GOAL_AGENT };

/* The lock held. */
static bool is_in(struct daemon *d, const char *uuid, enum goal goal)
{
	const struct guest *g = guest_find(d, uuid);

	return goal == GOAL_STOPPED ? !g : g && g->state == GUEST_RUNNING;
}

static bool wait_state(struct daemon *d, const char *uuid, enum goal goal, unsigned int ms)
{
	struct timespec deadline = daemon_deadline(ms);
	bool done;

	pthread_mutex_lock(&d->lock);
	while (!(done = is_in(d, uuid, goal)) && daemon_wait(d, &deadline))
		;
	pthread_mutex_unlock(&d->lock);
	return done;
}

/* Nobody tells when the agent comes up: it is asked again and again. */
static bool wait_agent(struct daemon *d, const char *uuid, unsigned int ms)
{
	uint64_t give_up = clock_now() + ms * NSEC_PER_MSEC;

	do {
		struct guest_info g;

		if (guest_get(d, uuid, &g) && g.state == GUEST_RUNNING &&
		    agent_ping(d, uuid, 2000) && identity_wait(d, uuid, 2000))
			return true;
		poll(NULL, 0, 100);
	} while (clock_now() < give_up && !d->stopping);
	return false;
}

int op_machine_wait(struct op_call *c, struct err *e)
{
	static const char *const goals[] = {"stopped", "running", "agent"};
	const char *word = op_string(c, "for");
	int64_t ms = op_int(c, "timeout", 30000);
	unsigned int goal = 0;
	struct machine_record m;
	bool done;
	int r;

	while (word && goal < ARRAY_SIZE(goals) && strcmp(word, goals[goal]) != 0)
		goal++;
	if (goal == ARRAY_SIZE(goals))
		return err_msg(e, -EINVAL, "for: '%.32s' is not stopped, running or agent", word);
	if (ms < 0 || ms > 60000)
		return err_msg(e, -EINVAL, "timeout: %lld is not between 0 and 60000",
			       (long long)ms);
	r = op_machine(c, &m, e);
	if (r < 0)
		return r;
	done = goal == GOAL_AGENT ? wait_agent(c->d, m.uuid, (unsigned int)ms)
				  : wait_state(c->d, m.uuid, (enum goal)goal, (unsigned int)ms);
	c->result =
	    json_pack("{s:b, s:o}", "reached", done, "machine", op_format_machine(c->d, &m, false));
	machine_record_fini(&m);
	return 0;
}

/* --- stats --- */

/* Nanoseconds of CPU time, bytes of resident memory. */
static int read_process(pid_t pid, uint64_t *cpu, uint64_t *resident)
{
	autofree char *path = xasprintf("/proc/%d/stat", (int)pid);
	autostrbuf struct strbuf text = {0};
	unsigned long long user, system;
	long long pages;
	const char *p;
	int r = read_file(path, 4096, &text);

	if (r < 0)
		return r;
	p = strrchr(text.data, ')'); /* the name before may hold anything */
	if (!p ||
	    sscanf(p,
		   ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d "
		   "%*d %*u %*u %lld",
		   &user, &system, &pages) != 3)
		return -EIO;
	*cpu = muldiv64(user + system, NSEC_PER_SEC, (uint64_t)sysconf(_SC_CLK_TCK));
	*resident = (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
	return 0;
}

int op_machine_stats(struct op_call *c, struct err *e)
{
	uint64_t cpu = 0, resident = 0;
	struct machine_record m;
	struct guest_info g;
	json_t *status = NULL;
	int r = op_machine(c, &m, e);

	if (r < 0)
		return r;
	r = op_need_running(c, &m, &g, e);
	if (r == 0)
		r = vmm_call(c->d, m.uuid, "status", NULL, &status, e);
	if (r == 0 && read_process(g.pid, &cpu, &resident) < 0)
		r = err_msg(e, -ENOTCONN, "'%s' ended meanwhile", m.name);
	if (r == 0) {
		json_object_set_new(status, "name", json_string(m.name));
		json_object_set_new(status, "uuid", json_string(m.uuid));
		/* A container's monitor knows better: its processes are many. */
		if (!json_object_get(status, "cpu_ns")) {
			json_object_set_new(status, "cpu_ns", json_integer((json_int_t)cpu));
			json_object_set_new(status, "resident", json_integer((json_int_t)resident));
		}
		c->result = json_incref(status);
	}
	json_decref(status);
	machine_record_fini(&m);
	return r;
}

/* --- the console --- */

static int read_log(const char *path, struct op_call *c, struct err *e)
{
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	int64_t bytes = op_int(c, "bytes", LOG_BYTES), from = op_int(c, "offset", -1);
	int64_t size;
	struct stat st;

	if (bytes < 0 || bytes > LOG_MAX_BYTES)
		return err_msg(e, -EINVAL, "bytes: is not between 0 and %d", LOG_MAX_BYTES);
	if (fd < 0 || fstat(fd, &st) < 0)
		return fd < 0 && errno == ENOENT ? 0 : err_set(e, -errno, "%s", path);
	size = st.st_size;
	/* A log that was cut is told from its start. */
	if (from < 0 || from > size)
		from = from < 0 && size > bytes ? size - bytes : 0;
	while (from < size && c->text.len < (size_t)bytes) {
		char chunk[16384];
		ssize_t n = pread(fd, chunk, MIN(sizeof(chunk), (size_t)bytes - c->text.len), from);

		if (n <= 0)
			break;
		strbuf_add(&c->text, chunk, (size_t)n);
		from += n;
	}
	c->result = json_pack("{s:I, s:I}", "next", (json_int_t)from, "size", (json_int_t)size);
	return 0;
}

int op_machine_logs(struct op_call *c, struct err *e)
{
	autofree char *path = NULL;
	struct machine_record m;
	int r = op_machine(c, &m, e);

	if (r < 0)
		return r;
	path = path_guest(c->d, m.uuid, "console.log");
	c->is_text = true;
	r = read_log(path, c, e);
	machine_record_fini(&m);
	return r;
}

int op_machine_console(struct op_call *c, struct err *e)
{
	autofree char *path = NULL;
	struct machine_record m;
	int r = op_machine(c, &m, e);

	if (r < 0)
		return r;
	r = op_need_running(c, &m, NULL, e);
	path = path_run(c->d, m.uuid, "console");
	if (r == 0)
		r = c->stream = vmm_connect(path, e);
	machine_record_fini(&m);
	return MIN(r, 0);
}

int op_machine_agent(struct op_call *c, struct err *e)
{
	struct machine_record m;
	struct guest_info g;
	int r = op_machine(c, &m, e);

	if (r < 0)
		return r;
	r = op_need_running(c, &m, &g, e);
	if (r == 0 && g.state == GUEST_PAUSED)
		r = err_msg(e, -EBUSY, "'%s' is paused: `insula resume %s`", m.name, m.name);
	if (r == 0 && !g.agent)
		r = err_msg(e, -ENOTSUP,
			    "'%s' was not made from an image, so it has no agent; `insula console "
			    "%s` is its terminal",
			    m.name, m.name);
	if (r == 0) {
		(void)identity_wait(c->d, m.uuid, IDENTITY_MS);
		r = c->stream = agent_connect(c->d, m.uuid, e);
	}
	machine_record_fini(&m);
	return MIN(r, 0);
}
