/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cmd_run.c - insula run: boot a machine from an image or a kernel, run a command in it
 */
#include "cli/cli.h"
#include "cli/machine_options.h"
#include "cli/oci.h"
#include "cli/run.h"
#include "cli/ui.h"
#include "image/image.h"
#include "oci/transfer.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#define SET_FLAG(member)                                                                           \
	static int set_##member(void *config, const char *value, struct err *e)                    \
	{                                                                                          \
		((struct run_config *)config)->member = true;                                      \
		return 0;                                                                          \
	}

SET_FLAG(rm)
SET_FLAG(tpm)
SET_FLAG(json)
SET_FLAG(verbose)
SET_FLAG(tty)
SET_FLAG(no_tty)
SET_FLAG(detach)

static const struct cli_option run_options[] = {
    {"isolation", "KIND", "vm container",
     "run in a virtual machine, or in a container on this host's kernel; the default is container "
     "for images of registries, else vm",
     run_set_isolation},
    RUN_MACHINE_OPTIONS,
    {"tpm", NULL, NULL,
     "a TPM 2.0 (Debian package swtpm); what it keeps stays with the machine's --name", set_tpm},
    {"env", "NAME[=VALUE]", NULL,
     "set a variable for the command; without VALUE pass ours on; "
     "repeatable",
     run_set_env},
    {"workdir", "DIR", NULL, "directory to run the command in (default: the image's, or /root)",
     run_set_workdir},
    {"user", "USER[:GROUP]", NULL,
     "who runs the command, by name or number (default: the image's user, or root)", run_set_user},
    {"name", "NAME", NULL,
     "name the machine: its disk is kept and used again by later runs of that name", run_set_name},
    {"detach", NULL, NULL,
     "leave the machine running under insulad, and print its name: `insula exec`, `console`, "
     "`stop` and the like go on with it",
     set_detach},
    {"rm", NULL, NULL, "keep no disk, even with --name", set_rm},
    {"tty", NULL, NULL, "give the command a terminal even if ours is not one", set_tty},
    {"no-tty", NULL, NULL, "give the command pipes even on a terminal", set_no_tty},
    {"json", NULL, NULL, "tell events as JSON lines on standard error", set_json},
    {"verbose", NULL, NULL, "show the guest's console and what Insula decides, on standard error",
     set_verbose},
};

static void run_init(void *config)
{
	machine_config_init(&((struct run_config *)config)->m);
}

static void run_fini(void *config)
{
	struct run_config *cfg = config;

	machine_config_fini(&cfg->m);
	free(cfg->name);
	free(cfg->workdir);
	free(cfg->user);
	free(cfg->isolation);
	for (size_t i = 0; i < cfg->n_env; i++)
		free(cfg->env[i]);
}

/* What a run holds until it is over. */
struct run {
	struct image_cache cache;
	struct image image;
	struct kernel generic; /* for shares, where the image's kernel cannot */
	struct run_dir dir;
	struct vm vm;
	struct run_boot boot;
	struct cli_store store; /* of registries' images */
	struct oci_image oci;
	char **words;       /* of the image, with the command */
	char *disk, *nvram; /* of a named machine */
	const char *published;
	int name_lock;
};

static void run_free(struct run *r)
{
	vm_fini(&r->vm);
	run_dir_fini(&r->dir);
	image_fini(&r->image);
	kernel_fini(&r->generic);
	image_cache_fini(&r->cache);
	oci_image_fini(&r->oci);
	cli_store_close(&r->store);
	for (char **w = r->words; w && *w; w++)
		free(*w);
	free(r->words);
	if (r->published)
		machine_unpublish(r->published);
	free(r->disk);
	free(r->nvram);
	close_p(&r->name_lock);
}

/* A disk out of a registry's image. */
static int prepare_layers(struct run_config *cfg, const char *name, char **command,
			  struct progress *p, struct run *r, struct err *e)
{
	int ret = cli_store_open(&r->store, e);

	if (ret == 0)
		ret = oci_image_get(&r->store.store, name, p, &r->oci, e);
	if (ret == 0)
		ret = oci_store_disk(&r->store.store, &r->oci, p, &r->image, e);
	if (ret == 0)
		r->words = run_image_words(cfg, &r->oci.config, command);
	return ret;
}

/* The image, its kernel and its disk. */
static int prepare_image(struct run_config *cfg, const char *name, bool registry, char **command,
			 struct progress *p, struct run *r, struct err *e)
{
	int ret = image_cache_open(&r->cache, e);

	if (ret < 0)
		return ret;
	ret = registry ? prepare_layers(cfg, name, command, p, r, e)
		       : image_get(&r->cache, name, false, p, &r->image, e);
	/* Debian's cloud kernel has virtio-fs since version 5.10. */
	if (ret == 0 && cfg->m.n_shares && !cfg->m.kernel &&
	    !initrd_has_module(r->image.initrd, "virtiofs"))
		ret = kernel_get(&r->cache, NULL, KERNEL_GENERIC, false, p, &r->generic, e);
	ui_clear_bar();
	if (ret < 0)
		return err_exit(e, ret, e->exit_code ? e->exit_code : EXIT_NO_IMAGE);
	r->boot.root = r->image.root;
	r->boot.kernel = cfg->m.kernel ? cfg->m.kernel : r->image.kernel;
	r->boot.kernel_initrd = r->image.initrd;
	if (r->generic.kernel) {
		r->boot.kernel = r->generic.kernel;
		r->boot.kernel_initrd = r->generic.initrd;
	}
	if (!cfg->name || cfg->rm)
		return 0;
	ret = machine_disk(cfg->name, r->image.root, &r->disk, e);
	r->boot.root = r->disk;
	r->boot.root_private = true;
	return ret;
}

/* What a name keeps: the name itself, and UEFI's variables. */
static int prepare_name(const struct run_config *cfg, struct run *r, struct err *e)
{
	int ret;

	if (!cfg->name)
		return 0;
	ret = machine_claim(cfg->name, &r->name_lock, e);
	if (ret < 0 || !cfg->m.firmware || cfg->rm || strcmp(cfg->m.firmware, "uefi") != 0)
		return ret;
	r->boot.nvram = r->nvram = machine_nvram(cfg->name);
	return 0;
}

/* Disks alone are started by firmware, as in a PC. */
static void choose_firmware(struct run_config *cfg, int argc)
{
	if (argc == 0 && !cfg->m.kernel && !cfg->m.firmware && cfg->m.n_disks)
		cfg->m.firmware = xstrdup("bios");
}

static int check_firmware(const struct run_config *cfg, int argc)
{
	if (cfg->m.firmware && (argc || cfg->m.kernel || cfg->m.initrd || cfg->m.append))
		return ui_error(EXIT_USAGE,
				"--firmware starts what is on the disks: no IMAGE, --kernel, "
				"--initrd or --append");
	if (cfg->m.boot && !cfg->m.firmware)
		return ui_error(EXIT_USAGE, "--boot is for firmware: give --firmware");
	if (cfg->m.board[0] == 'm' && (cfg->m.firmware || cfg->m.vnc || cfg->m.text_screen))
		return ui_error(EXIT_USAGE, "--firmware and --display need --machine q35");
	if (cfg->m.vnc_password && !cfg->m.vnc)
		return ui_error(EXIT_USAGE, "--vnc-password needs --display vnc");
	if (cfg->m.vnc_origin && !cfg->m.vnc)
		return ui_error(EXIT_USAGE, "--vnc-origin needs --display vnc");
	if (cfg->m.vnc_tls && !cfg->m.vnc)
		return ui_error(EXIT_USAGE, "--vnc-tls needs --display vnc");
	return EXIT_OK;
}

static int check_words(const struct run_config *cfg, int argc, char **argv, char **command)
{
	if (argc > 1)
		return ui_error(EXIT_USAGE,
				"what is '%s'? A command follows '--': insula run %s "
				"-- %s...",
				argv[1], argv[0], argv[1]);
	if (argc == 0 && !cfg->m.kernel && !cfg->m.firmware)
		return ui_error(EXIT_USAGE, "which image? Try: insula run deb:bookworm");
	if (argc == 0 && command)
		return ui_error(EXIT_USAGE, "a command needs an image to run in");
	if (argc == 0 && cfg->m.n_shares)
		return ui_error(EXIT_USAGE, "--share needs an image, whose agent mounts it");
	if (argc == 1 && cfg->m.initrd)
		return ui_error(EXIT_USAGE,
				"--initrd goes with --kernel alone: an image has its own");
	if (cfg->m.n_publish && !cfg->m.net)
		return ui_error(EXIT_USAGE, "--publish needs a network, and --net is none");
	for (int i = 0; i < 2; i++) {
		const char *file = i ? cfg->m.initrd : cfg->m.kernel,
			   *what = i ? "initrd" : "kernel";
		struct stat st;

		if (file && (stat(file, &st) < 0 || access(file, R_OK) < 0))
			return ui_error(EXIT_BAD_KERNEL, "%s '%s': %s", what, file,
					strerror(errno));
		if (file && !S_ISREG(st.st_mode))
			return ui_error(EXIT_BAD_KERNEL, "%s '%s' is not a regular file", what,
					file);
	}
	return EXIT_OK;
}

/* Whether it is a registry's image; EXIT_OK, or the failure told. */
static int check_isolation(const struct run_config *cfg, int argc, char **argv, bool *registry)
{
	struct cli_store s = {0};
	struct err e = {0};

	*registry = false;
	if (argc == 1) {
		if (cli_store_open(&s, &e) < 0)
			return ui_fail(&e, EXIT_FAIL);
		*registry = cli_is_registry_image(&s, argv[0]);
		cli_store_close(&s);
	}
	if (!*registry && cfg->isolation && cfg->isolation[0] == 'c' && argc == 1 &&
	    strncmp(argv[0], "deb:", 4) == 0)
		*registry = true; /* as an image of one layer */
	if (!*registry && cfg->isolation && cfg->isolation[0] == 'c')
		return ui_error(EXIT_USAGE, "a container runs an image of a registry, such as "
					    "docker.io/library/debian, or deb:SUITE");
	return EXIT_OK;
}

static bool is_vm(const struct run_config *cfg)
{
	return cfg->isolation && cfg->isolation[0] == 'v';
}

/* What belongs to a command that waits. */
static int check_detached(const struct run_config *cfg, bool container, char **command)
{
	if (command && command[0] && !container)
		return ui_error(EXIT_USAGE,
				"--detach starts no command: `insula exec` runs one afterwards");
	if (cfg->m.text_screen)
		return ui_error(EXIT_USAGE, "--display text needs this terminal: no --detach");
	if (cfg->rm)
		return ui_error(EXIT_USAGE,
				"--rm ends with a command: `insula delete` deletes a machine");
	return EXIT_OK;
}

static int run_run(void *config, int argc, char **argv, char **command)
{
	struct run_config *cfg = config;
	struct run r = {.image.lock = -1, .dir.lock = -1, .name_lock = -1, .oci.use = -1};
	bool registry = false;
	struct session_config session = {
	    .run = cfg, .argv = command, .agent = argc == 1, .tty = !command || !command[0]};
	struct progress p;
	struct err e = {0};
	int status, ret = 0;

	ui_init(cfg->json, cfg->verbose);
	ui_progress_init(&p);
	choose_firmware(cfg, argc);
	status = check_words(cfg, argc, argv, command);
	if (status == EXIT_OK)
		status = check_firmware(cfg, argc);
	if (status == EXIT_OK)
		status = check_isolation(cfg, argc, argv, &registry);
	if (status == EXIT_OK && cfg->detach)
		status = check_detached(cfg, registry && !is_vm(cfg), command);
	if (status != EXIT_OK)
		return status;
	if (cfg->detach)
		return run_detached(cfg, argv[0], registry, command);
	if (registry && !is_vm(cfg))
		return run_container(cfg, argv[0], command);
	r.vm = (struct vm){.ready = -1, .parent = -1, .errors = -1, .console = -1, .control = -1};
	r.boot.kernel = cfg->m.kernel;
	if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
		session.tty = true;
	session.tty = (session.tty || cfg->tty) && !cfg->no_tty;
	ret = prepare_name(cfg, &r, &e);
	if (ret == 0 && argc == 1)
		ret = prepare_image(cfg, argv[0], registry, command, &p, &r, &e);
	if (r.words) {
		session.argv = r.words;
		session.tty = cfg->tty && !cfg->no_tty;
		if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
			session.tty = !cfg->no_tty;
	}
	session.clean_end = r.boot.root_private;
	/* A kernel alone that panics at once would do so for ever. */
	session.restart = r.boot.restart =
	    cfg->m.firmware || (argc == 1 && !r.words && (!command || !command[0]));
	for (size_t i = 0; i < cfg->m.n_disks; i++)
		session.clean_end = session.clean_end || !cfg->m.disks[i].read_only;
	if (ret == 0)
		ret = run_dir_make(&r.dir, &e);
	if (ret == 0)
		ret = vm_start(cfg, &r.boot, &r.dir, &r.vm, &e);
	if (ret == 0 && cfg->name) {
		ret = machine_publish(cfg->name, r.vm.control_path, &e);
		r.published = cfg->name;
	}
	status = ret < 0 ? ui_fail(&e, EXIT_FAIL) : session_run(&session, &r.vm);
	run_free(&r);
	ui_event("{s:s, s:i}", "event", "exit", "status", status);
	return status;
}

const struct cli_command cmd_run = {
    .name = "run",
    .usage = "IMAGE [-- COMMAND...]",
    .summary = "Boot a virtual machine from an image and run a command, or a shell, in it.",
    .more = "IMAGE is deb:SUITE[+PACKAGE...], the path of a directory, tar archive or raw disk, "
	    "an image of a registry (HOST/NAME[:TAG]), or an ID of `insula image list`. It is made "
	    "at the first use and never written to: "
	    "changes are gone with the machine, unless it has a --name.\n\n"
	    "The command's exit status becomes ours. Ctrl-] on the terminal leaves the machine, "
	    "which ends it. Exit statuses of our own are in insula-run(1).",
    .options = run_options,
    .n_options = ARRAY_SIZE(run_options),
    .config_size = sizeof(struct run_config),
    .init = run_init,
    .fini = run_fini,
    .run = run_run,
};
