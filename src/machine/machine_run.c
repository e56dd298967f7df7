/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/machine_run.c - one virtual machine: running, pausing, resetting, ending
 *
 * Whoever wants something - the user in the loop's thread, a chip in a vCPU's thread - sets a bit,
 * holds every vCPU and posts machine_settle to the loop.  Each vCPU that parks posts it, too.  When
 * all have parked, the loop acts and, unless the machine is paused or over, lets them go.
 */
#include "base/clock.h"
#include "block/block.h"
#include "device/ahci.h"
#include "device/lapic.h"
#include "machine/machine_priv.h"
#include "virtio/balloon.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>

/* --- asking --- */

static void hold_all(struct machine *m)
{
	for (unsigned int i = 0; i < m->n_cpus; i++)
		vcpu_hold(&m->cpus[i]);
}

void machine_want(struct machine *m, enum machine_want what, uint32_t arg, const char *text)
{
	pthread_mutex_lock(&m->text_lock);
	if (text && !m->text[0])
		snprintf(m->text, sizeof(m->text), "%s", text);
	pthread_mutex_unlock(&m->text_lock);
	if (what == WANT_EXIT || what == WANT_CRASHED)
		m->request_arg = arg;
	/* The bit first: machine_settle looks at it again after it let the vCPUs go. */
	atomic_fetch_or(&m->requests, (uint32_t)what);
	hold_all(m);
	loop_post(m->cfg.loop, &m->work);
}

void machine_map_changed(void *machine)
{
	struct machine *m = machine;

	/* A reset maps everything by itself. */
	if (m->board->map_memory && !m->powering_on)
		machine_want(m, WANT_MEMORY, 0, NULL);
}

static void on_request(void *opaque, enum machine_request what, uint32_t arg)
{
	struct machine *m = opaque;

	switch (what) {
	case REQUEST_RESET:
		machine_want(m, WANT_GUEST_RESET, 0, NULL);
		break;
	case REQUEST_POWEROFF:
		machine_want(m, WANT_POWEROFF, 0, NULL);
		break;
	case REQUEST_CRASHED:
		machine_want(m, WANT_CRASHED, arg, "the guest's kernel panicked");
		break;
	case REQUEST_EXIT:
		machine_want(m, WANT_EXIT, arg, NULL);
		break;
	}
}

struct request_sink machine_request_sink(struct machine *m)
{
	return (struct request_sink){.request = on_request, .opaque = m};
}

/* --- acting, in the loop's thread --- */

static bool all_parked(struct machine *m)
{
	for (unsigned int i = 0; i < m->n_cpus; i++)
		if (!vcpu_is_parked(&m->cpus[i]))
			return false;
	return true;
}

static void report(struct machine *m, enum machine_event ev, unsigned int code, const char *text)
{
	if (m->cfg.event)
		m->cfg.event(m->cfg.opaque, ev, code, text);
}

/* The offset that makes the guests' time-stamp counters start at 0 now, all alike. */
static uint64_t zero_tsc(struct machine *m)
{
	return -muldiv64(__builtin_ia32_rdtsc(), engine_cpu_model(m->engine)->tsc_khz,
			 host_tsc_khz());
}

int machine_map_memory(struct machine *m, struct err *e)
{
	if (!m->board->map_memory)
		return 0;
	m->board->map_memory(m);
	return engine_memory_changed(m->engine, e);
}

void machine_reset_parts(struct machine *m)
{
	m->powering_on = true;
	for (unsigned int i = 0; i < m->n_chips; i++)
		device_reset(m->chips[i]);
	pci_bus_reset(m->pci);
	for (unsigned int i = 0; i < m->n_cpus; i++)
		if (m->lapics[i])
			lapic_reset(m->lapics[i]);
	if (m->lapics[0])
		lapic_virtual_wire(m->lapics[0]);
	m->powering_on = false;
}

int machine_power_on(struct machine *m, struct err *e)
{
	uint64_t tsc_offset = zero_tsc(m);
	struct cpu bsp = {0};
	int r;

	machine_hotplug_reset(m);
	machine_reset_parts(m);
	cpu_reset(&bsp, 0);
	if (!m->firmware) {
		if (m->board->firmware)
			m->board->firmware(m);
		board_assign_intx(m);
	}
	r = machine_map_memory(m, e);
	if (r == 0 && !m->firmware)
		r = machine_load_tables(m, e);
	if (r == 0 && !m->firmware)
		r = boot_load(&m->boot, &bsp, e);
	if (r < 0)
		return r;
	for (unsigned int i = 0; i < m->n_cpus; i++) {
		struct cpu c = bsp;

		if (i)
			cpu_reset(&c, i);
		if (!m->firmware)
			machine_firmware_state(m, &c);
		c.tsc_offset = tsc_offset;
		vcpu_set_state(&m->cpus[i], &c);
	}
	return 0;
}

static void stop_with(struct machine *m, enum machine_event ev, unsigned int code)
{
	char text[sizeof(m->text)];

	pthread_mutex_lock(&m->text_lock);
	memcpy(text, m->text, sizeof(text));
	pthread_mutex_unlock(&m->text_lock);
	m->state = STATE_STOPPED;
	report(m, ev, code, text);
}

static void restart(struct machine *m, bool by_guest)
{
	struct err e = {0};

	if (machine_power_on(m, &e) < 0) {
		snprintf(m->text, sizeof(m->text), "reset: %.200s", e.msg);
		stop_with(m, MACHINE_FAILED, 0);
		return;
	}
	if (by_guest)
		report(m, MACHINE_RESTARTED, 0, "");
}

static void freeze_done(struct machine *m, int result)
{
	void (*frozen)(void *opaque, int result) = m->frozen;

	m->frozen = NULL;
	if (frozen) {
		frozen(m->frozen_opaque, result);
		machine_hotplug_thawed(m);
	}
}

/* The gravest wish wins. */
static void act(struct machine *m, uint32_t want)
{
	struct err e = {0};

	if ((want & WANT_MEMORY) && machine_map_memory(m, &e) < 0) {
		snprintf(m->text, sizeof(m->text), "memory map: %.200s", e.msg);
		want |= WANT_FAILED;
	}
	if (want & WANT_FAILED)
		stop_with(m, MACHINE_FAILED, 0);
	else if (want & WANT_CRASHED)
		stop_with(m, MACHINE_CRASHED, m->request_arg);
	else if (want & WANT_EXIT)
		stop_with(m, MACHINE_EXITED, m->request_arg);
	else if (want & WANT_POWEROFF)
		stop_with(m, MACHINE_POWEROFF, 0);
	else if ((want & WANT_GUEST_RESET) && m->desc->on_reboot == VM_REBOOT_EXIT)
		stop_with(m, MACHINE_REBOOT, 0);
	else if (want & (WANT_GUEST_RESET | WANT_RESET))
		restart(m, (want & WANT_GUEST_RESET) != 0);
	if (want & WANT_FREEZE)
		freeze_done(m, m->state == STATE_STOPPED ? -ESHUTDOWN : 0);
}

/* The first of them may ask for a hold before the last is let go. */
static void let_go(struct machine *m)
{
	for (unsigned int i = 0; i < m->n_cpus; i++)
		vcpu_release(&m->cpus[i]);
	if (m->requests)
		hold_all(m);
}

static void pause_or_go(struct machine *m)
{
	enum machine_status was = m->state;

	if (m->want_pause) {
		m->state = STATE_PAUSED;
		if (was != STATE_PAUSED)
			report(m, MACHINE_PAUSED, 0, "");
		return;
	}
	m->state = STATE_RUNNING;
	let_go(m);
	if (was == STATE_PAUSED)
		report(m, MACHINE_RESUMED, 0, "");
}

void machine_settle(void *opaque)
{
	struct machine *m = opaque;

	m->pending |= atomic_exchange(&m->requests, 0);
	if (m->state == STATE_STOPPED)
		freeze_done(m, -ESHUTDOWN);
	if (!m->pending || m->state == STATE_NEW || m->state == STATE_STOPPED || !all_parked(m))
		return;
	act(m, m->pending);
	m->pending = 0;
	if (m->state != STATE_STOPPED)
		pause_or_go(m);
}

static void flush_over(struct machine *m)
{
	if (--m->n_flushes)
		return;
	m->freeze_ns = clock_now();
	machine_want(m, WANT_FREEZE, 0, NULL);
}

static void flush_done(struct blk_req *r, int result)
{
	struct machine *m = r->opaque;

	/* A disk that cannot be flushed tells so again when its overlay takes over. */
	flush_over(m);
}

/* What would have to be written while the machine stands still is written before. */
static void flush_disks(struct machine *m)
{
	if (!m->flush)
		m->flush = xcalloc(VM_DESC_MAX_DEVS, sizeof(*m->flush));
	m->n_flushes = 1; /* until all are on their way */
	for (unsigned int i = 0; i < VM_DESC_MAX_DEVS; i++) {
		if (!m->disks[i].overlay)
			continue;
		m->flush[i] = (struct blk_req){.op = BLK_FLUSH, .done = flush_done, .opaque = m};
		m->n_flushes++;
		blk_submit(m->disks[i].blk, &m->flush[i]);
	}
	flush_over(m);
}

uint64_t machine_frozen_since(const struct machine *m)
{
	return m->freeze_ns;
}

int machine_freeze(struct machine *m, void (*fn)(void *opaque, int result), void *opaque,
		   struct err *e)
{
	if (m->frozen)
		return err_msg(e, -EBUSY, "a snapshot of this machine is being made");
	if (m->state != STATE_RUNNING && m->state != STATE_PAUSED)
		return err_msg(e, -EBUSY, "the machine has stopped");
	m->frozen = fn;
	m->frozen_opaque = opaque;
	flush_disks(m);
	return 0;
}

/* --- the user's doors --- */

int machine_start(struct machine *m, struct err *e)
{
	m->start_ns = clock_now();
	m->state = STATE_PAUSED;
	m->want_pause = false;
	m->state = STATE_RUNNING;
	let_go(m);
	return 0;
}

void machine_pause(struct machine *m)
{
	m->want_pause = true;
	machine_want(m, WANT_SETTLE, 0, NULL);
}

void machine_resume(struct machine *m)
{
	m->want_pause = false;
	machine_want(m, WANT_SETTLE, 0, NULL);
}

void machine_reset(struct machine *m)
{
	machine_want(m, WANT_RESET, 0, NULL);
}

void machine_powerdown(struct machine *m)
{
	board_power_button(m);
}

void machine_nmi(struct machine *m)
{
	for (unsigned int i = 0; i < m->n_cpus; i++)
		vcpu_nmi(&m->cpus[i]);
}

int machine_balloon(struct machine *m, uint64_t bytes, struct err *e)
{
	if (!m->balloon)
		return err_msg(e, -ENODEV, "this machine has no balloon");
	if (bytes > m->desc->memory)
		return err_msg(e, -EINVAL, "%" PRIu64 " is more than the machine's memory", bytes);
	balloon_set_target(m->balloon, m->desc->memory - bytes);
	return 0;
}

bool machine_memory(struct machine *m, struct machine_memory *ret)
{
	struct balloon_stats stats;

	if (!m->balloon)
		return false;
	balloon_stats(m->balloon, &stats);
	*ret = (struct machine_memory){
	    .target = m->desc->memory - MIN(balloon_target(m->balloon), m->desc->memory),
	    .actual = m->desc->memory - MIN(balloon_actual(m->balloon), m->desc->memory),
	    .free = stats.free,
	    .available = stats.available,
	};
	return true;
}

static int find_cdrom(const struct machine *m, unsigned int *port, struct err *e)
{
	*port = 0;
	for (size_t i = 0; i < m->desc->n_disks; i++) {
		if (m->desc->disks[i].bus != VM_DISK_AHCI)
			continue;
		if (m->desc->disks[i].cdrom)
			return 0;
		++*port;
	}
	return err_msg(e, -ENODEV, "this machine has no CD-ROM drive");
}

int machine_change_disc(struct machine *m, int fd, struct err *e)
{
	struct blk *disc = NULL;
	unsigned int port;
	int r = 0;

	if (fd >= 0)
		r = blk_open_fd(fd, "disc", m->cfg.loop, &disc, e);
	if (r == 0)
		r = find_cdrom(m, &port, e);
	if (r == 0)
		r = ahci_change_disc(m->ahci, port, disc, false, e);
	if (r < 0 && disc)
		blk_close(disc);
	return r;
}

const char *machine_state(const struct machine *m)
{
	static const char *const names[] = {
	    [STATE_NEW] = "new",
	    [STATE_RUNNING] = "running",
	    [STATE_PAUSED] = "paused",
	    [STATE_STOPPED] = "stopped",
	};

	return names[m->state];
}
