/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/power.c - machines started, stopped and held
 */
#include "daemon/daemon_priv.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>

#define STOP_MS     5000 /* then it is killed */
#define STATE_MS    10000
#define SHUTDOWN_MS 60000

void power_link_control(struct daemon *d, const char *uuid)
{
	autofree char *link = path_guest(d, uuid, "control");
	autofree char *target = path_run(d, uuid, "control");

	unlink(link);
	(void)!symlink(target, link);
}

static int set_disk(struct daemon *d, const struct machine_record *m, const char *file,
		    struct err *e)
{
	autofree char *dir = path_guest(d, m->uuid, NULL);

	return live_set_disk(dir, file, e);
}

static int start_guest(struct daemon *d, const struct machine_record *m,
		       const struct machine_config *c, const struct vmm_origin *origin,
		       struct err *e)
{
	int pidfd = -1, control = -1;
	pid_t pid;
	int r = guest_add(d, m->uuid, m->name, c->image != NULL, e);

	if (r < 0)
		return r;
	r = vmm_start(d, m, c, origin, &pid, &pidfd, &control, e);
	if (r < 0) {
		guest_drop(d, m->uuid);
		return r;
	}
	/* If we do not come to it, the next insulad does (recover.c). */
	r = origin && origin->disk ? set_disk(d, m, origin->disk, e) : 0;
	/* Before it is watched: what is done at its end depends on it. */
	if (r == 0)
		r = store_machine_set_wanted(d->store, m->uuid, true, e);
	if (r < 0) {
		vmm_abandon(d, m->uuid, pidfd, control);
		guest_drop(d, m->uuid);
		return r;
	}
	power_link_control(d, m->uuid);
	event_emit(d, "machine.started", m->uuid, m->name, NULL);
	guest_run(d, m->uuid, pid, pidfd, control);
	identity_start(d, m->uuid);
	return 0;
}

int power_start(struct daemon *d, const struct machine_record *m, struct err *e)
{
	return power_start_from(d, m, NULL, e);
}

int power_start_from(struct daemon *d, const struct machine_record *m,
		     const struct vmm_origin *origin, struct err *e)
{
	struct machine_config config = {0};
	int r;

	if (m->template)
		return err_msg(e, -EBUSY,
			       "'%s' is a template: `insula clone %s NAME` makes a machine of it",
			       m->name, m->name);
	r = machine_record_config(m, &config, e);
	if (r < 0)
		return r;
	r = start_guest(d, m, &config, origin, e);
	machine_config_fini(&config);
	return r;
}

int power_stop(struct daemon *d, const char *uuid, struct err *e)
{
	int r = store_machine_set_wanted(d->store, uuid, false, e);

	if (r < 0)
		return r;
	guest_expect_end(d, uuid);
	if (vmm_call(d, uuid, "stop", NULL, NULL, NULL) < 0 || !guest_wait_gone(d, uuid, STOP_MS))
		guest_kill(d, uuid);
	if (!guest_wait_gone(d, uuid, STOP_MS))
		return err_msg(e, -ETIMEDOUT, "its process does not end");
	return 0;
}

/* --- operations --- */

int op_machine_start(struct op_call *c, struct err *e)
{
	struct machine_record m;
	int r = op_claim(c, &m, e);

	if (r < 0)
		return r;
	r = power_start(c->d, &m, e);
	if (r == 0)
		c->result = op_format_machine(c->d, &m, false);
	op_unclaim(c, &m);
	return r;
}

/* A policy that waits to restart it is told off too, so a machine that does not run can be
 * stopped. */
int op_machine_stop(struct op_call *c, struct err *e)
{
	struct machine_record m;
	int r = op_claim(c, &m, e);

	if (r < 0)
		return r;
	if (guest_get(c->d, m.uuid, NULL))
		r = power_stop(c->d, m.uuid, e);
	else if (m.wanted)
		r = store_machine_set_wanted(c->d->store, m.uuid, false, e);
	else
		r = op_need_running(c, &m, NULL, e);
	op_unclaim(c, &m);
	return r;
}

/* The agent if there is one that answers, else the button that a PC has. */
static int press_power(struct op_call *c, const struct machine_record *m,
		       const struct guest_info *g, struct err *e)
{
	if (g->state == GUEST_PAUSED)
		return err_msg(e, -EBUSY, "'%s' is paused: resume it first", m->name);
	if (g->agent && agent_shutdown(c->d, m->uuid, "poweroff", NULL) == 0)
		return 0;
	return vmm_call(c->d, m->uuid, "powerdown", NULL, NULL, e);
}

int op_machine_shutdown(struct op_call *c, struct err *e)
{
	int64_t ms = op_int(c, "timeout", SHUTDOWN_MS);
	struct machine_record m;
	struct guest_info g;
	int r;

	if (ms < 0 || ms > 600000)
		return err_msg(e, -EINVAL, "timeout: %lld is not between 0 and 600000",
			       (long long)ms);
	r = op_claim(c, &m, e);
	if (r < 0)
		return r;
	r = op_need_running(c, &m, &g, e);
	if (r == 0)
		r = store_machine_set_wanted(c->d->store, m.uuid, false, e);
	if (r == 0) {
		guest_expect_end(c->d, m.uuid);
		r = press_power(c, &m, &g, e);
	}
	/* Whoever loses patience may stop it meanwhile. */
	daemon_release(c->d, m.uuid);
	if (r == 0 && ms && !guest_wait_gone(c->d, m.uuid, (unsigned int)ms))
		r = err_msg(e, -ETIMEDOUT,
			    "'%s' did not shut down within %lld s: `insula stop %s` cuts its power",
			    m.name, (long long)ms / 1000, m.name);
	machine_record_fini(&m);
	return r;
}

int op_machine_reboot(struct op_call *c, struct err *e)
{
	struct machine_record m;
	struct guest_info g;
	int r = op_claim(c, &m, e);

	if (r < 0)
		return r;
	r = op_need_running(c, &m, &g, e);
	if (r == 0 && !g.agent)
		r = err_msg(e, -ENOTSUP,
			    "'%s' has no agent that could be asked: `insula reset %s` presses the "
			    "button",
			    m.name, m.name);
	if (r == 0)
		r = agent_shutdown(c->d, m.uuid, "reboot", e);
	op_unclaim(c, &m);
	return r;
}

/* One command of insula-vmm; with @state, until the guest is in it. */
static int command(struct op_call *c, const char *name, const enum guest_state *state,
		   struct err *e)
{
	struct machine_record m;
	struct guest_info g;
	int r = op_claim(c, &m, e);

	if (r < 0)
		return r;
	r = op_need_running(c, &m, &g, e);
	if (r == 0 && (!state || g.state != *state)) {
		r = vmm_call(c->d, m.uuid, name, NULL, NULL, e);
		if (r == 0 && state && !guest_wait_state(c->d, m.uuid, *state, STATE_MS))
			r = err_msg(e, -ETIMEDOUT, "'%s' did not %s", m.name, name);
	}
	op_unclaim(c, &m);
	return r;
}

int op_machine_reset(struct op_call *c, struct err *e)
{
	return command(c, "reset", NULL, e);
}

int op_machine_pause(struct op_call *c, struct err *e)
{
	static const enum guest_state state = GUEST_PAUSED;

	return command(c, "pause", &state, e);
}

int op_machine_resume(struct op_call *c, struct err *e)
{
	static const enum guest_state state = GUEST_RUNNING;

	return command(c, "resume", &state, e);
}
