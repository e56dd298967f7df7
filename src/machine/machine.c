/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/machine.c - one virtual machine: making and releasing it
 */
#include "machine/machine.h"

#include "base/clock.h"
#include "base/exit.h"
#include "base/fd_table.h"
#include "device/acpi_pm.h"
#include "device/ioapic.h"
#include "device/lapic.h"
#include "device/vga.h"
#include "device/vmgenid.h"
#include "display/input.h"
#include "machine/firmware.h"
#include "machine/machine_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>

#define MIB (UINT64_C(1) << 20)

static const enum engine_kind engine_kinds[] = {
    [VM_ENGINE_AUTO] = ENGINE_AUTO,     [VM_ENGINE_KVM] = ENGINE_KVM,
    [VM_ENGINE_SOFT] = ENGINE_SOFT,     [VM_ENGINE_JIT] = ENGINE_JIT,
    [VM_ENGINE_INTERP] = ENGINE_INTERP, [VM_ENGINE_LOCKSTEP] = ENGINE_LOCKSTEP,
};

static int make_memory(struct machine *m, struct err *e)
{
	struct sysinfo si;
	int r;

	if (sysinfo(&si) == 0 && m->desc->memory > (uint64_t)si.totalram * si.mem_unit) {
		r = err_msg(e, -ENOMEM,
			    "memory: %" PRIu64 " MiB is more than this host's %" PRIu64 " MiB",
			    m->desc->memory / MIB, (uint64_t)si.totalram * si.mem_unit / MIB);
		return err_exit(e, r, EXIT_BAD_MEMORY);
	}
	if (m->desc->firmware || m->desc->display.vga)
		r = gmem_new_pc(m->desc->memory, m->low_top, &m->mem, e);
	else
		r = gmem_new(m->desc->memory, m->low_top, &m->mem, e);
	/* Without firmware, nothing is in the way of the tables but the screen. */
	if (r == 0 && !m->desc->firmware && m->desc->display.vga)
		r = gmem_add(m->mem, 0xc0000, 0x40000, 0, e);
	return r < 0 ? err_exit(e, r, EXIT_BAD_MEMORY) : 0;
}

/* MSIs of devices and the IOAPIC when the engine has the local APICs. */
static void msi_to_engine(void *opaque, uint64_t addr, uint32_t data)
{
	struct machine *m = opaque;

	engine_msi(m->engine, addr, data);
}

static int make_lapic(struct machine *m, unsigned int i, struct err *e)
{
	struct lapic_config cfg = {
	    .id = i,
	    .bsp = i == 0,
	    .bus = m->apics,
	    .timers = &m->cpus[i].timers,
	    .tsc_hz = UINT64_C(1000) * engine_cpu_model(m->engine)->tsc_khz,
	    .guest_tsc = vcpu_guest_tsc,
	    .on_wake = vcpu_wake,
	    /* The PIC is wired to the first. */
	    .extint_ack = i == 0 ? vcpu_pic_ack : NULL,
	    .opaque = &m->cpus[i],
	};
	int r = lapic_new(&cfg, &m->lapics[i]);

	if (r < 0)
		return err_set(e, r, "make the local APIC of CPU %u", i);
	m->cpus[i].lapic = m->lapics[i];
	return 0;
}

static int make_cpus(struct machine *m, struct err *e)
{
	int r;

	m->cpus = xnew_n(struct vcpu_thread, m->desc->cpus);
	for (; m->n_cpus < m->desc->cpus; m->n_cpus++)
		vcpu_prepare(&m->cpus[m->n_cpus]);
	if (engine_caps(m->engine)->local_apic) {
		m->msi = (struct msi_sink){.send = msi_to_engine, .opaque = m};
		return 0;
	}
	r = apic_bus_new(m->n_cpus, &m->apics);
	if (r < 0)
		return err_set(e, r, "make the interrupt bus");
	m->msi = apic_bus_msi(m->apics);
	for (unsigned int i = 0; i < m->n_cpus; i++) {
		r = make_lapic(m, i, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int make_engine(struct machine *m, struct err *e)
{
	int r;

	r = engine_new(engine_kinds[m->desc->engine], m->mem, m->desc->cpus, &m->engine, m->why, e);
	if (r < 0)
		return err_exit(e, r, EXIT_NO_ENGINE);
	r = bus_new(&m->bus);
	return r < 0 ? err_set(e, r, "make the bus") : 0;
}

static int open_payload(struct machine *m, const char *path, const char *what, int *fd,
			struct err *e)
{
	struct stat st;

	/* It may be a FIFO. */
	*fd = fd_table_open(m->cfg.given, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (*fd < 0 || fstat(*fd, &st) < 0)
		return err_exit(e, err_set(e, -errno, "%s %s", what, path), EXIT_BAD_KERNEL);
	if (!S_ISREG(st.st_mode))
		return err_exit(e, err_msg(e, -EINVAL, "%s %s: not a regular file", what, path),
				EXIT_BAD_KERNEL);
	return 0;
}

static int open_kernel(struct machine *m, struct err *e)
{
	struct boot_config *b = &m->boot;
	int r;

	b->mem = m->mem;
	b->kernel = m->desc->kernel;
	b->initrd = m->desc->initrd;
	b->cmdline = m->desc->append;
	if (!b->kernel)
		return 0;
	r = open_payload(m, b->kernel, "kernel", &b->kernel_fd, e);
	if (r == 0 && b->initrd)
		r = open_payload(m, b->initrd, "initrd", &b->initrd_fd, e);
	return r;
}

/* --- the vCPU threads' calls back --------------------------------------------------------------
 */

static int on_enter(void *opaque, struct err *e)
{
	struct machine *m = opaque;

	return m->cfg.vcpu_enter ? m->cfg.vcpu_enter(m->cfg.opaque, e) : 0;
}

static void on_shutdown(void *opaque, struct vcpu_thread *t)
{
	struct machine *m = opaque;

	/* Systems that boot from firmware use it as a way to restart, as a PC does. */
	if (m->firmware)
		machine_want(m, WANT_GUEST_RESET, 0, NULL);
	else
		machine_want(m, WANT_CRASHED, 0, "triple fault");
}

static void on_failed(void *opaque, struct vcpu_thread *t, const char *text)
{
	machine_want(opaque, WANT_FAILED, 0, text);
}

static void on_parked(void *opaque)
{
	struct machine *m = opaque;

	loop_post(m->cfg.loop, &m->work);
}

static int start_cpus(struct machine *m, struct err *e)
{
	struct vcpu_host host = {
	    .engine = m->engine,
	    .bus = m->bus,
	    .opaque = m,
	    .enter = on_enter,
	    .shutdown = on_shutdown,
	    .failed = on_failed,
	    .eoi = board_eoi,
	    .pic_ack = board_pic_ack,
	    .parked = on_parked,
	};

	for (unsigned int i = 0; i < m->n_cpus; i++) {
		int r = vcpu_start(&m->cpus[i], &host, i, e);

		if (r < 0)
			return err_wrap(e, r, "CPU %u", i);
	}
	return 0;
}

/*
 * RAM to 2.75 GiB, then ECAM, then PCI's window to the IOAPIC; the 64-bit window starts at the next
 * GiB above RAM and ends with 40 bits.
 */
static void fill_in_board(struct machine *m)
{
	struct acpi_config *a = &m->acpi;
	uint64_t gib = UINT64_C(1) << 30, above;

	*a = m->board->acpi;
	m->low_top = 0xb0000000;
	above = m->desc->memory > m->low_top ? m->desc->memory - m->low_top : 0;
	a->n_cpus = m->desc->cpus;
	a->lapic_base = (uint32_t)LAPIC_DEFAULT_BASE;
	a->ioapic_base = (uint32_t)IOAPIC_BASE;
	a->ecam_base = 0xb0000000;
	a->ecam_size = 0x10000000;
	a->mmio_base = 0xc0000000;
	a->mmio_end = IOAPIC_BASE;
	a->mmio64_base = ALIGN_UP(4 * gib + above, gib);
	a->mmio64_end = BIT(40);
	a->pm_base = ACPI_PM_DEFAULT;
	a->sci = 9;
	a->s5_type = ACPI_PM_SLP_TYP_S5;
	a->slots = 32;
	a->smi_cmd = 0xb2;
	a->acpi_enable = ACPI_PM_ENABLE_CMD;
	a->acpi_disable = ACPI_PM_DISABLE_CMD;
	a->rtc = a->serial = true;
	a->serial_port = 0x3f8;
	a->serial_irq = 4;
	a->pvpanic_port = 0x505;
	a->vmgenid_base = VMGENID_BASE;
	a->vmgenid_gpe = VMGENID_GPE;
	a->vga = m->desc->display.vga;
}

/* --- life --- */

/* From a saved state.  The reset comes first: it clears video memory, for one. */
static int go_on(struct machine *m, struct err *e)
{
	machine_reset_parts(m);
	return m->cfg.restore(m->cfg.opaque, m, e);
}

static int build(struct machine *m, struct err *e)
{
	int r;

	r = make_memory(m, e);
	if (r == 0)
		r = open_kernel(m, e);
	if (r == 0)
		r = firmware_open(m, e);
	if (r == 0)
		r = make_engine(m, e);
	if (r == 0)
		r = make_cpus(m, e);
	if (r == 0)
		r = m->board->build(m, e);
	if (r == 0)
		r = firmware_add_chips(m, e);
	if (r == 0)
		r = catalog_plug(m, e);
	m->acpi.hotplug_slots = r == 0 ? machine_hotplug_slots(m) : 0;
	if (r == 0)
		r = firmware_add_files(m, e);
	if (r == 0)
		r = m->cfg.restore ? go_on(m, e) : machine_power_on(m, e);
	if (r == 0)
		r = start_cpus(m, e);
	return r;
}

int machine_new(const struct machine_config *cfg, struct machine **ret, struct err *e)
{
	struct machine *m = xnew(struct machine);
	int r;

	m->cfg = *cfg;
	m->desc = cfg->desc;
	m->board = m->desc->machine == VM_MACHINE_MICRO ? &board_micro : &board_q35;
	fill_in_board(m);
	m->boot.kernel_fd = m->boot.initrd_fd = -1;
	pthread_mutex_init(&m->text_lock, NULL);
	pthread_mutex_init(&m->intx.lock, NULL);
	loop_work_init(&m->work, machine_settle, m);
	r = build(m, e);
	if (r < 0) {
		machine_free(m);
		return r;
	}
	*ret = m;
	return 0;
}

/* The loop goes round meanwhile: a vCPU may be waiting for a device that waits for the loop. */
static void stop_cpus(struct machine *m)
{
	for (unsigned int i = 0; i < m->n_cpus; i++)
		if (m->cpus[i].started)
			vcpu_quit(&m->cpus[i]);
	for (unsigned int i = 0; i < m->n_cpus; i++) {
		while (m->cpus[i].started && !vcpu_is_over(&m->cpus[i]))
			loop_once(m->cfg.loop, 10);
		vcpu_join(&m->cpus[i]);
	}
}

void machine_forget(struct machine *m)
{
	for (unsigned int i = 0; i < m->n_cpus; i++)
		vcpu_forget(steal_ptr(&m->cpus[i].vcpu));
	engine_free(steal_ptr(&m->engine));
}

void machine_free(struct machine *m)
{
	if (!m)
		return;
	m->state = STATE_STOPPED;
	stop_cpus(m);
	if (m->cfg.input)
		input_attach(m->cfg.input, NULL, NULL);
	loop_unpost(m->cfg.loop, &m->work);
	machine_hotplug_fini(m);
	if (m->pci)
		pci_bus_free(m->pci);
	while (m->n_chips)
		device_free(m->chips[--m->n_chips]);
	for (unsigned int i = 0; i < m->n_cpus; i++) {
		if (m->lapics[i])
			lapic_free(m->lapics[i]);
		vcpu_fini(&m->cpus[i]);
	}
	loop_unpost(m->cfg.loop, &m->work); /* a last flush may have asked */
	board_fini(m);
	free(m->flush);
	free(m->cpus);
	if (m->apics)
		apic_bus_free(m->apics);
	if (m->bus)
		bus_free(m->bus);
	if (m->engine)
		engine_free(m->engine);
	if (m->mem)
		gmem_free(m->mem);
	firmware_free(m->firmware);
	if (m->vram)
		munmap(m->vram, VGA_VRAM_SIZE);
	while (m->n_boot_devices)
		free(m->boot_devices[--m->n_boot_devices].path);
	close_p(&m->boot.kernel_fd);
	close_p(&m->boot.initrd_fd);
	pthread_mutex_destroy(&m->intx.lock);
	pthread_mutex_destroy(&m->text_lock);
	free(m);
}

/* --- for people --- */

const char *machine_engine(const struct machine *m, const char **why)
{
	if (why)
		*why = m->why;
	return engine_name(m->engine);
}

void machine_stats(struct machine *m, struct strbuf *out)
{
	static const char *const names[] = {
	    [EXIT_NONE] = "none",
	    [EXIT_KICK] = "kick",
	    [EXIT_IO] = "io",
	    [EXIT_MMIO] = "mmio",
	    [EXIT_MSR] = "msr",
	    [EXIT_CR8] = "cr8",
	    [EXIT_HLT] = "hlt",
	    [EXIT_IRQ_WINDOW] = "irq-window",
	    [EXIT_EOI] = "eoi",
	    [EXIT_HYPERCALL] = "hypercall",
	    [EXIT_SHUTDOWN] = "shutdown",
	    [EXIT_DEBUG] = "debug",
	    [EXIT_ERROR] = "error",
	};
	uint64_t ns = m->start_ns ? clock_now() - m->start_ns : 0, insns = 0;

	for (unsigned int i = 0; i < m->n_cpus; i++) {
		struct vcpu_thread *t = &m->cpus[i];

		insns += t->insns;
		strbuf_printf(out, "cpu %u: exits:", i);
		for (unsigned int k = 0; k < ARRAY_SIZE(names); k++)
			if (t->exits[k])
				strbuf_printf(out, " %s %" PRIu64, names[k], t->exits[k]);
		strbuf_putc(out, '\n');
		pthread_mutex_lock(&t->lock);
		if (t->engine_stats[0])
			strbuf_printf(out, "cpu %u: %s\n", i, t->engine_stats);
		pthread_mutex_unlock(&t->lock);
	}
	strbuf_printf(out, "%s: %.1f s", engine_name(m->engine), (double)ns / 1e9);
	if (insns && ns)
		strbuf_printf(out, ", %.1f million instructions, %.1f a microsecond",
			      (double)insns / 1e6, (double)insns * 1000 / (double)ns);
	strbuf_putc(out, '\n');
}
