/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/run_vm.c - describes a machine and runs it in a process insula-vmm
 */
#include "base/clock.h"
#include "base/dirs.h"
#include "cli/run.h"
#include "image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define CHILD_READY   3 /* descriptors that insula-vmm finds open */
#define CHILD_PARENT  4
#define STOP_PATIENCE (3 * NSEC_PER_SEC)

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
	int r = dirs_program("insula-vmm", &program, e);

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

int vm_start(const struct run_config *cfg, const struct run_boot *boot, const struct run_dir *dir,
	     struct vm *ret, struct err *e)
{
	autofree char *composed = run_dir_file(dir, "initrd"), *tpm = run_dir_file(dir, "tpm");
	struct machine_place place = {
	    .name = cfg->name,
	    .root = boot->root,
	    .root_private = boot->root_private,
	    .kernel = boot->kernel,
	    .initrd = boot->kernel_initrd ? composed : cfg->m.initrd,
	    .nvram = boot->nvram,
	    .agent = boot->kernel_initrd != NULL,
	    .restart = boot->restart,
	    .verbose = cfg->verbose,
	};
	struct vm vm;
	int r = 0;

	if (boot->kernel_initrd) {
		autofree char *agent = machine_agent_config(&cfg->m, cfg->name);

		r = initrd_add_agent(boot->kernel_initrd, agent, composed, e);
	}
	if (r < 0)
		return r;
	prepare(&vm, dir);
	place.vsock = vm.vsock;
	place.control = vm.control_path;
	if (cfg->tpm) {
		autofree char *dir_of_name = cfg->name ? machine_dir(cfg->name) : NULL;

		r = tpm_start(dir_of_name ? dir_of_name : dir->path, tpm, e);
		if (r < 0) {
			vm_fini(&vm);
			return r;
		}
		place.tpm = tpm;
	}
	return start(machine_describe(&cfg->m, &place), NULL, cfg->verbose, dir, &vm, ret, e);
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
	if (vm->remote)
		return false;
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
