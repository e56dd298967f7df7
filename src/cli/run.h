/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/run.h - the parts of `insula run`
 *
 * cmd_run.c has the options and the order of things; run_parse.c reads their values; run_dir.c
 * makes the run's private directory; run_vm.c describes and starts insula-vmm; run_session.c moves
 * bytes between the person and the guest until it is over; machines.c keeps disks of named
 * machines.
 */
#pragma once

#include "base/err.h"
#include "base/strbuf.h"
#include "model/machine_config.h"

#include <jansson.h>
#include <sys/types.h>

#define RUN_ESCAPE 0x1d /* Ctrl-] */

struct run_config {
	struct machine_config m;
	char *name, *workdir;
	char *user;      /* NULL = the image's */
	char *isolation; /* "vm", "container"; NULL = as the image suggests */
	bool rm, json, verbose, tty, no_tty, detach;
	bool tpm;       /* with swtpm, whose state lasts as long as a named disk */
	char *env[256]; /* "NAME=value" */
	size_t n_env;
};

/* run_parse.c: option values; each adds to or sets a member of struct run_config. */
int run_set_engine(void *config, const char *value, struct err *e);
int run_set_machine(void *config, const char *value, struct err *e);
int run_set_vnc_tls(void *config, const char *value, struct err *e);
int run_set_net(void *config, const char *value, struct err *e);
int run_set_gpu(void *config, const char *value, struct err *e);
int run_set_vnc_origin(void *config, const char *value, struct err *e);
int run_set_usb(void *config, const char *value, struct err *e);
int run_set_kernel(void *config, const char *value, struct err *e);
int run_set_initrd(void *config, const char *value, struct err *e);
int run_set_append(void *config, const char *value, struct err *e);
int run_set_cpus(void *config, const char *value, struct err *e);
int run_set_memory(void *config, const char *value, struct err *e);
int run_set_disk(void *config, const char *value, struct err *e);
int run_set_publish(void *config, const char *value, struct err *e);
int run_set_share(void *config, const char *value, struct err *e);
int run_set_env(void *config, const char *value, struct err *e);
int run_set_isolation(void *config, const char *value, struct err *e);
int run_set_workdir(void *config, const char *value, struct err *e);
int run_set_user(void *config, const char *value, struct err *e);
int run_set_name(void *config, const char *value, struct err *e);
int run_set_firmware(void *config, const char *value, struct err *e);
int run_set_cdrom(void *config, const char *value, struct err *e);
/* Discs are raw: one that is inserted comes as a descriptor, without a name to tell its format. */
must_check int run_check_disc(const char *path, struct err *e);
int run_set_boot(void *config, const char *value, struct err *e);
int run_set_display(void *config, const char *value, struct err *e);
int run_set_vnc_password(void *config, const char *value, struct err *e);

/* run_container.c: an image of a registry.  As a container; the exit status, failures told. */
struct image_config;
int run_container(const struct run_config *cfg, const char *name, char **command);
/* For a machine: the words to run (copies, all to be freed), and the image's settings where @cfg
 * has none. */
char **run_image_words(struct run_config *cfg, const struct image_config *image, char **command);

/* run_dir.c: a directory for sockets and files of this run, gone with it; those of runs that were
 * killed are swept at the next. */
struct run_dir {
	char *path;
	int lock;
};
must_check int run_dir_make(struct run_dir *ret, struct err *e);
void run_dir_fini(struct run_dir *d);
char *run_dir_file(const struct run_dir *d, const char *name);

/* machines.c: the disk of machine @name, a private copy of @base made at its first run.  @lock
 * keeps the name; -EBUSY with EXIT_NAME_IN_USE while another run has it. */
must_check int machine_claim(const char *name, int *lock, struct err *e);
must_check int machine_disk(const char *name, const char *base, char **ret, struct err *e);
/* Where the files of machine @name are. */
char *machine_dir(const char *name);
/* -ENOENT with words if it has no disk. */
must_check int machine_must_exist(const char *name, struct err *e);
/* The file that it writes to, which may not be there yet. */
char *machine_current_disk(const char *name);
/* Where UEFI's variables of machine @name are kept. */
char *machine_nvram(const char *name);
/* While machine @name runs, its control socket is found by it. */
must_check int machine_publish(const char *name, const char *control, struct err *e);
void machine_unpublish(const char *name);
/* A connection to its control socket; -ENOENT with words when it does not run. */
must_check int machine_connect(const char *name, struct err *e);

/* cmd_create.c: `insula run --detach`: makes the machine under insulad, or takes the one of that
 * name, and starts it.  @command is a container's.  Returns the exit status. */
int run_detached(struct run_config *cfg, const char *image, bool registry, char **command);

/* tpm.c: starts swtpm, which keeps its state in @dir and waits at @socket for a machine. */
must_check int tpm_start(const char *dir, const char *socket, struct err *e);

/* run_vm.c: one insula-vmm. */
struct vm {
	pid_t pid;
	int ready;   /* says "ready" when it runs */
	int parent;  /* closed with us: then the VMM ends itself */
	int errors;  /* its standard error */
	int console; /* the serial console, both ways */
	int control; /* control socket, -1 until connected */
	char *vsock, *control_path;
	bool finished;
	int status; /* of waitpid, once finished */
	/* A machine of insulad's: no process of ours, and this connects to its agent; a negative
	 * errno, -EAGAIN to try again.  NULL for a child of ours. */
	int (*dial)(const struct vm *vm, struct err *e);
	const char *agent_path; /* for dial */
	bool remote;
};

struct run_boot {
	const char *root;  /* disk, NULL = none: a kernel of the user's alone */
	bool root_private; /* write to @root itself: a named machine's disk */
	const char *kernel;
	const char *nvram;         /* with firmware uefi; NULL: variables go with the machine */
	const char *kernel_initrd; /* the modules' part; the agent is added */
	bool restart;              /* `reboot` starts the guest again instead of ending the run */
};

/* Writes description and initramfs to @dir and starts it. */
must_check int vm_start(const struct run_config *cfg, const struct run_boot *boot,
			const struct run_dir *dir, struct vm *ret, struct err *e);
/* Goes on from @snapshot; @description's sockets and console are put in their places. */
must_check int vm_restore(json_t *description, const char *snapshot, bool verbose,
			  const struct run_dir *dir, struct vm *ret, struct err *e);
/* Connects the control socket, once ready. */
void vm_connect(struct vm *vm);
/* Asks for an end, then insists; returns when the process is gone. */
void vm_stop(struct vm *vm);
/* Collects the status if the process has ended. */
bool vm_poll(struct vm *vm);
void vm_fini(struct vm *vm);

/* run_session.c: until the guest, the command or the person is done; returns the exit status. */
struct session_config {
	const struct run_config *run;
	char **argv;    /* the command; NULL or empty: root's shell */
	bool agent;     /* false: the terminal is the serial console */
	bool tty;       /* give the command a terminal */
	bool clean_end; /* disks must be left clean: shut down instead of stopping */
	bool restart;   /* as in struct run_boot */
};
int session_run(const struct session_config *cfg, struct vm *vm);
