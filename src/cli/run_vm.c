/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/run_vm.c - describes a machine and runs it in a process insula-vmm
 */
#include "base/clock.h"
#include "base/fd.h"
#include "cli/run.h"
#include "codec/cpio.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#define CHILD_READY   3 /* descriptors that insula-vmm finds open */
#define CHILD_PARENT  4
#define STOP_PATIENCE (3 * NSEC_PER_SEC)

static json_t *optional(const char *s)
{
	return s ? json_string(s) : NULL;
}

static void set_optional(json_t *o, const char *key, const char *value)
{
	if (value)
		json_object_set_new(o, key, optional(value));
}

/* Images are raw; a named machine goes on in overlays of its disk after a snapshot. */
static const char *root_format(const char *path)
{
	size_t n = strlen(path);

	return n > 6 && strcmp(path + n - 6, ".qcow2") == 0 ? "qcow2" : "raw";
}

static json_t *describe_disks(const struct run_config *cfg, const struct vm_boot *boot)
{
	json_t *disks = json_array();

	if (boot->root)
		json_array_append_new(disks,
				      json_pack("{s:s, s:s, s:b, s:b, s:s}", "path", boot->root,
						"format", root_format(boot->root), "readonly", 0,
						"overlay", !boot->root_private, "serial", "root"));
	for (size_t i = 0; i < cfg->n_disks; i++) {
		const struct run_disk *d = &cfg->disks[i];
		autofree char *serial = xasprintf("disk%zu", i);
		json_t *o =
		    json_pack("{s:s, s:s, s:b, s:b, s:s}", "format", d->format, "bus", d->bus,
			      "readonly", d->read_only, "cdrom", d->cdrom, "serial", serial);

		set_optional(o, "path", d->path);
		json_array_append_new(disks, o);
	}
	return disks;
}

static json_t *describe_nets(const struct run_config *cfg)
{
	json_t *nets = json_array(), *publish = json_array(), *net;

	for (size_t i = 0; i < cfg->n_publish; i++) {
		const struct run_publish *p = &cfg->publish[i];

		json_array_append_new(publish, json_pack("{s:s, s:s, s:i, s:i}", "proto",
							 p->udp ? "udp" : "tcp", "host_addr",
							 p->address, "host_port", (int)p->host,
							 "guest_port", (int)p->guest));
	}
	net = json_pack("{s:s, s:o}", "type", "user", "publish", publish);
	set_optional(net, "model", cfg->net_model);
	set_optional(net, "hostname", cfg->name);
	json_array_append_new(nets, net);
	return nets;
}

static json_t *describe_shares(const struct run_config *cfg)
{
	json_t *shares = json_array();

	for (size_t i = 0; i < cfg->n_shares; i++) {
		autofree char *tag = xasprintf("share%zu", i);

		json_array_append_new(shares,
				      json_pack("{s:s, s:s, s:b}", "path", cfg->shares[i].host,
						"tag", tag, "readonly", cfg->shares[i].read_only));
	}
	return shares;
}

static void describe_boot(json_t *d, const struct run_config *cfg)
{
	autofree char *copy = xstrdup(cfg->boot);
	json_t *order = json_array();
	char *save = NULL;

	for (char *o = strtok_r(copy, ",", &save); o; o = strtok_r(NULL, ",", &save)) {
		if (strcmp(o, "menu") == 0)
			json_object_set_new(d, "boot_menu", json_true());
		else
			json_array_append_new(order, json_string(o));
	}
	if (json_array_size(order))
		json_object_set_new(d, "boot", order);
	else
		json_decref(order);
}

static void describe_display(json_t *d, const struct run_config *cfg)
{
	json_t *o;

	if (!cfg->vnc && !cfg->text_screen)
		return;
	o = json_pack("{s:b, s:b}", "vga", 1, "text", cfg->text_screen);
	set_optional(o, "vnc", cfg->vnc);
	set_optional(o, "password", cfg->vnc_password);
	set_optional(o, "tls", cfg->vnc_tls);
	json_object_set_new(d, "display", o);
	/* The terminal is the screen's then. */
	if (cfg->text_screen)
		json_object_set_new(d, "serial", json_pack("{s:s}", "type", "none"));
}

static json_t *describe(const struct run_config *cfg, const struct vm_boot *boot,
			const struct vm *vm, const char *initrd)
{
	bool agent = boot->kernel_initrd != NULL;
	autofree char *append =
	    agent ? xasprintf("console=ttyS0 panic=-1 random.trust_cpu=on%s%s%s",
			      cfg->verbose ? "" : " quiet", cfg->append ? " " : "",
			      cfg->append ? cfg->append : "")
		  : xstrdup(cfg->append ? cfg->append : "console=ttyS0 panic=-1");
	json_t *d =
	    json_pack("{s:i, s:s, s:s, s:s, s:i, s:I, s:o, s:o, s:{s:s}, s:s, s:b, s:b, s:s}",
		      "version", 1, "name", cfg->name ? cfg->name : "insula", "machine",
		      cfg->machine, "engine", cfg->engine, "cpus", (int)cfg->cpus, "memory",
		      (json_int_t)cfg->memory, "disks", describe_disks(cfg, boot), "shares",
		      describe_shares(cfg), "serial", "type", "stdio", "control", vm->control_path,
		      "rng", 1, "balloon", 1, "on_reboot", boot->restart ? "restart" : "exit");

	if (cfg->firmware) {
		json_object_set_new(d, "firmware", json_string(cfg->firmware));
		set_optional(d, "nvram", boot->nvram);
	} else {
		json_object_set_new(d, "kernel", json_string(boot->kernel));
		json_object_set_new(d, "append", json_string(append));
		set_optional(d, "initrd", initrd);
	}
	if (cfg->boot)
		describe_boot(d, cfg);
	describe_display(d, cfg);
	if (cfg->net)
		json_object_set_new(d, "nets", describe_nets(cfg));
	if (agent)
		json_object_set_new(d, "vsock",
				    json_pack("{s:i, s:s}", "cid", 3, "socket", vm->vsock));
	return d;
}

/* What the agent reads: docs/agent.md. */
static char *agent_config(const struct run_config *cfg)
{
	json_t *shares = json_array(), *o;
	char *text;

	for (size_t i = 0; i < cfg->n_shares; i++) {
		autofree char *tag = xasprintf("share%zu", i);

		json_array_append_new(shares, json_pack("{s:s, s:s, s:b}", "tag", tag, "path",
							cfg->shares[i].guest, "readonly",
							cfg->shares[i].read_only));
	}
	o = json_pack("{s:i, s:s, s:I, s:o}", "version", 1, "hostname",
		      cfg->name ? cfg->name : "insula", "time", (json_int_t)time(NULL), "shares",
		      shares);
	if (cfg->net)
		json_object_set_new(o, "net",
				    json_pack("{s:s, s:i, s:s, s:[s]}", "address", "10.0.2.15",
					      "prefix", 24, "gateway", "10.0.2.2", "dns",
					      "10.0.2.3"));
	text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	return text;
}

/* The kernel's modules, then an archive of ours with the agent and its configuration. */
static int compose_initrd(const struct run_config *cfg, const char *modules, const char *path,
			  struct err *e)
{
	autostrbuf struct strbuf out = {0}, agent = {0}, ours = {0};
	autofree char *program = NULL, *config = agent_config(cfg);
	struct cpio c = {.out = &ours, .inode = 100000};
	autoclose int fd = -1;
	int r = run_find_program("insula-agent", &program, e);

	if (r < 0)
		return r;
	r = read_file(modules, 256u << 20, &out);
	if (r < 0)
		return err_set(e, r, "read %s", modules);
	r = read_file(program, 64u << 20, &agent);
	if (r < 0)
		return err_set(e, r, "read %s", program);
	cpio_file(&c, "init", 0755, agent.data, (uint32_t)agent.len);
	cpio_dir(&c, "insula", 0755);
	cpio_file(&c, "insula/config.json", 0600, config, (uint32_t)strlen(config));
	cpio_end(&c);
	strbuf_add(&out, ours.data, ours.len);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	r = fd < 0 ? -errno : write_full(fd, out.data, out.len);
	return r < 0 ? err_set(e, r, "write %s", path) : 0;
}

static void child_exec(const char *program, const char *description, const char *restore,
		       bool verbose, const int ends[4]) __attribute__((noreturn));
/* @ends: console, errors, ready, parent.  All are above the numbers they get. */
static void child_exec(const char *program, const char *description, const char *restore,
		       bool verbose, const int ends[4])
{
	const char *argv[12];
	char ready[8], parent[8];
	unsigned int n = 0;
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0); /* the terminal's Ctrl-C is for us to judge */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	dup2(ends[0], 0);
	dup2(ends[0], 1);
	dup2(ends[1], 2);
	dup2(ends[2], CHILD_READY);
	dup2(ends[3], CHILD_PARENT);
	snprintf(ready, sizeof(ready), "%d", CHILD_READY);
	snprintf(parent, sizeof(parent), "%d", CHILD_PARENT);
	argv[n++] = "insula-vmm";
	argv[n++] = "--description";
	argv[n++] = description;
	argv[n++] = "--ready-fd";
	argv[n++] = ready;
	argv[n++] = "--parent-fd";
	argv[n++] = parent;
	if (verbose)
		argv[n++] = "--verbose";
	if (restore) {
		argv[n++] = "--restore";
		argv[n++] = restore;
	}
	argv[n] = NULL;
	execv(program, (char *const *)(uintptr_t)argv);
	dprintf(2, "insula-vmm: error: %s: %s\n", program, strerror(errno));
	_exit(125);
}

/* A pair of connected descriptors above the numbers that the child's must get. */
static int make_pair(int type, int *ours, int *theirs)
{
	int fds[2];
	int r = type ? socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) : pipe2(fds, O_CLOEXEC);

	if (r < 0)
		return -errno;
	*ours = fds[0];
	*theirs = fcntl(fds[1], F_DUPFD_CLOEXEC, 16);
	r = *theirs < 0 ? -errno : 0;
	close(fds[1]);
	return r;
}

static int spawn(const char *program, const char *description, const char *restore, bool verbose,
		 struct vm *vm, struct err *e)
{
	int theirs[4] = {-1, -1, -1, -1}, alive[2];
	int r = make_pair(SOCK_STREAM, &vm->console, &theirs[0]);

	if (r == 0)
		r = make_pair(0, &vm->errors, &theirs[1]);
	if (r == 0)
		r = make_pair(0, &vm->ready, &theirs[2]);
	/* The other way round: they watch our end. */
	if (r == 0 && pipe2(alive, O_CLOEXEC) < 0)
		r = -errno;
	if (r == 0) {
		theirs[3] = fcntl(alive[0], F_DUPFD_CLOEXEC, 16);
		close(alive[0]);
		vm->parent = alive[1];
		vm->pid = fork();
		if (vm->pid == 0)
			child_exec(program, description, restore, verbose, theirs);
		r = vm->pid < 0 ? -errno : 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(theirs); i++)
		close_p(&theirs[i]);
	return r < 0 ? err_set(e, r, "start %s", program) : 0;
}

/* Takes over @d and, also on failure, what @vm holds. */
static int start(json_t *d, const char *restore, bool verbose, const struct run_dir *dir,
		 struct vm *vm, struct vm *ret, struct err *e)
{
	autofree char *program = NULL, *description = run_dir_file(dir, "description.json");
	int r = run_find_program("insula-vmm", &program, e);

	if (r == 0 && (!d || json_dump_file(d, description, JSON_INDENT(1)) < 0))
		r = err_msg(e, -EIO, "cannot write %s", description);
	json_decref(d);
	if (r == 0)
		r = spawn(program, description, restore, verbose, vm, e);
	if (r < 0)
		vm_fini(vm);
	else
		*ret = *vm;
	return r;
}

static void prepare(struct vm *vm, const struct run_dir *dir)
{
	*vm = (struct vm){.ready = -1, .parent = -1, .errors = -1, .console = -1, .control = -1};
	vm->vsock = run_dir_file(dir, "vsock");
	vm->control_path = run_dir_file(dir, "control");
}

int vm_start(const struct run_config *cfg, const struct vm_boot *boot, const struct run_dir *dir,
	     struct vm *ret, struct err *e)
{
	autofree char *composed = run_dir_file(dir, "initrd");
	const char *initrd = boot->kernel_initrd ? composed : boot->initrd;
	struct vm vm;
	int r = 0;

	if (boot->kernel_initrd)
		r = compose_initrd(cfg, boot->kernel_initrd, composed, e);
	if (r < 0)
		return r;
	prepare(&vm, dir);
	return start(describe(cfg, boot, &vm, initrd), NULL, cfg->verbose, dir, &vm, ret, e);
}

int vm_restore(json_t *description, const char *snapshot, bool verbose, const struct run_dir *dir,
	       struct vm *ret, struct err *e)
{
	json_t *d = json_deep_copy(description), *vsock = json_object_get(d, "vsock");
	struct vm vm;

	prepare(&vm, dir);
	json_object_set_new(d, "control", json_string(vm.control_path));
	json_object_set_new(d, "serial", json_pack("{s:s}", "type", "stdio"));
	if (vsock)
		json_object_set_new(vsock, "socket", json_string(vm.vsock));
	return start(d, snapshot, verbose, dir, &vm, ret, e);
}

void vm_connect(struct vm *vm)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", vm->control_path);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
		vm->control = steal_fd(&fd);
}

bool vm_poll(struct vm *vm)
{
	if (!vm->finished && waitpid(vm->pid, &vm->status, WNOHANG) == vm->pid)
		vm->finished = true;
	return vm->finished;
}

void vm_stop(struct vm *vm)
{
	static const char stop[] = "{\"id\":1,\"command\":\"stop\"}\n";
	uint64_t give_up = clock_now() + STOP_PATIENCE;

	if (vm->pid <= 0)
		return;
	if (vm->control >= 0)
		(void)!send(vm->control, stop, strlen(stop), MSG_NOSIGNAL | MSG_DONTWAIT);
	else if (!vm_poll(vm))
		kill(vm->pid, SIGTERM);
	while (!vm_poll(vm)) {
		char sink[4096];
		struct pollfd p[2] = {{.fd = vm->console, .events = POLLIN},
				      {.fd = vm->errors, .events = POLLIN}};

		/* It may be writing: let it. */
		poll(p, 2, 2);
		for (size_t i = 0; i < ARRAY_SIZE(p); i++) {
			if ((p[i].revents & POLLIN) && read(p[i].fd, sink, sizeof(sink)) < 0)
				break;
		}
		if (clock_now() > give_up) {
			kill(vm->pid, SIGKILL);
			give_up = UINT64_MAX;
		}
	}
}

void vm_fini(struct vm *vm)
{
	vm_stop(vm);
	close_p(&vm->ready);
	close_p(&vm->parent);
	close_p(&vm->errors);
	close_p(&vm->console);
	close_p(&vm->control);
	free(vm->vsock);
	free(vm->control_path);
}
