/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent/agent_priv.h - the parts of insula-agent
 *
 * insula-agent is the first process (PID 1) of image-based guests.  main.c decides what it is this
 * time, boot.c brings the guest up, serve.c answers the host, power.c takes the guest down.
 * It is single-threaded and static; docs/agent.md tells the whole story.
 */
#pragma once

#include "base/err.h"
#include "base/strbuf.h"
#include "serve/conn.h"

#include <jansson.h>
#include <sys/types.h>

#define AGENT_CONFIG_PATH    "/insula/config.json"
#define AGENT_MODULES_PREFIX "/insula/modules."
#define AGENT_RUN_DIR        "/run/insula"

/* One line on the console.  The kernel's console is the only log there is this early. */
void agent_log(const char *fmt, ...) printf_like(1, 2);

/* From the initramfs; an absent file gives an empty object, so that defaults apply. */
must_check int config_read(json_t **ret, struct err *e);
/* Strings of the configuration; NULL when absent or not a string. */
const char *config_string(const json_t *obj, const char *key);

/* /proc, /sys, /dev and /run: after it, the configuration can be read and problems shown. */
must_check int boot_early(struct err *e);
/* Modules, root, shares, network: everything else up to serving. */
must_check int boot_guest(const json_t *config, struct err *e);
/* The mounts of boot_early, which move along to a new root; ends with NULL. */
extern const char *const early_targets[];
/* Loads the modules that AGENT_MODULES_PREFIX@group lists, in its order: "list" always, "shares"
 * and "filesystems" when there is use for them. */
void modules_load(const char *group);
/* Finds the root file system, mounts it and makes it the root directory. */
must_check int root_enter(const json_t *config, struct err *e);
/* Mounts each shared directory. */
must_check int shares_mount(const json_t *config, struct err *e);
/* mkdir -p, errors ignored: the mount or open that follows tells. */
void make_dirs(const char *path);
void net_configure(const json_t *config);

/* Answers the host until somebody wants the guest down; returns how. */
enum power_mode serve(void);
/* Tells all connections that the guest goes down on purpose. */
void serve_goodbye(enum power_mode mode);

/* Ends all processes, unmounts, and switches off or resets the machine. */
void power_down(enum power_mode mode) __attribute__((noreturn));
/* poweroff, reboot, halt, shutdown: asks PID 1.  Returns the exit status. */
int power_client(const char *name, int argc, char **argv);
