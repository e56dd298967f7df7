/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/run_container.c - insula run with an image of a registry: as a container, or its words for a
 * machine
 */
#include "base/dirs.h"
#include "base/exit.h"
#include "cli/oci.h"
#include "cli/run.h"
#include "cli/ui.h"
#include "oci/runner.h"
#include "oci/transfer.h"

#include <errno.h>
#include <stdio.h>

/* What a container has no use for. */
static const char *machine_only(const struct run_config *cfg)
{
	if (cfg->m.kernel || cfg->m.initrd || cfg->m.append)
		return "--kernel, --initrd and --append";
	if (cfg->m.n_disks)
		return "--disk and --cdrom";
	if (cfg->m.firmware || cfg->m.boot)
		return "--firmware and --boot";
	if (cfg->m.vnc || cfg->m.text_screen || cfg->m.vnc_password)
		return "--display";
	if (cfg->name)
		return "--name";
	return NULL;
}

static void fill_options(const struct run_config *cfg, const struct oci_image *image, char **args,
			 struct run_mount *mounts, struct run_port *ports,
			 struct container_options *o)
{
	for (size_t i = 0; i < cfg->m.n_shares; i++)
		mounts[i] = (struct run_mount){.host = cfg->m.shares[i].host,
					       .guest = cfg->m.shares[i].guest,
					       .read_only = cfg->m.shares[i].read_only};
	for (size_t i = 0; i < cfg->m.n_publish; i++)
		ports[i] = (struct run_port){.address = cfg->m.publish[i].address,
					     .host = cfg->m.publish[i].host,
					     .guest = cfg->m.publish[i].guest,
					     .udp = cfg->m.publish[i].udp};
	*o = (struct container_options){.hostname = "insula",
					.args = args,
					.env = cfg->env,
					.n_env = cfg->n_env,
					.workdir = cfg->workdir,
					.user = cfg->user,
					.net = cfg->m.net,
					.cpus = cfg->m.cpus,
					.memory = cfg->m.memory,
					.mounts = mounts,
					.n_mounts = cfg->m.n_shares,
					.ports = ports,
					.n_ports = cfg->m.n_publish};
	o->tty = ((isatty(0) && isatty(1)) || cfg->tty) && !cfg->no_tty;
}

int run_container(const struct run_config *cfg, const char *name, char **command)
{
	struct run_mount mounts[MACHINE_MAX_DEVS];
	struct run_port ports[ARRAY_SIZE(cfg->m.publish)];
	struct oci_image image = {.use = -1};
	struct container_options o;
	autofree char *runtime = NULL;
	autofree char **args = NULL;
	struct cli_store s = {0};
	struct progress p;
	struct err e = {0};
	int status = EXIT_FAIL, r;

	if (machine_only(cfg))
		return ui_error(EXIT_USAGE, "a container has no use for %s: give --isolation vm",
				machine_only(cfg));
	ui_progress_init(&p);
	r = dirs_program("insula-oci", &runtime, &e);
	if (r == 0)
		r = cli_store_open(&s, &e);
	if (r == 0) {
		r = oci_image_get(&s.store, name, &p, &image, &e);
		err_exit(&e, 0, r < 0 ? EXIT_NO_IMAGE : 0);
		ui_clear_bar();
	}
	if (r == 0 && ui_interrupted())
		r = err_msg(&e, -EINTR, "interrupted");
	if (r == 0) {
		args = runner_args(&image.config, command);
		fill_options(cfg, &image, args, mounts, ports, &o);
		o.runtime = runtime;
		r = runner_run(&s.store, &image, &o, &status, &e);
	}
	oci_image_fini(&image);
	cli_store_close(&s);
	status = r < 0 ? ui_fail(&e, EXIT_FAIL) : status;
	ui_event("{s:s, s:i}", "event", "exit", "status", status);
	return status;
}

static bool has_env(const struct run_config *cfg, const char *assignment)
{
	size_t n = strcspn(assignment, "=") + 1;

	for (size_t i = 0; i < cfg->n_env; i++) {
		if (strncmp(cfg->env[i], assignment, n) == 0)
			return true;
	}
	return false;
}

char **run_image_words(struct run_config *cfg, const struct image_config *image, char **command)
{
	char **args = runner_args(image, command);

	for (size_t i = 0; i < image->env.n && cfg->n_env < ARRAY_SIZE(cfg->env); i++) {
		if (!has_env(cfg, image->env.v[i]))
			cfg->env[cfg->n_env++] = xstrdup(image->env.v[i]);
	}
	if (!cfg->workdir)
		cfg->workdir = xstrdup(image->workdir[0] ? image->workdir : "/");
	if (!cfg->user && image->user[0])
		cfg->user = xstrdup(image->user);
	for (size_t i = 0; args[i]; i++)
		args[i] = xstrdup(args[i]);
	return args;
}
