/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/vmm_priv.h - the inside of the process insula-vmm
 */
#pragma once

#include "base/fd_table.h"
#include "base/timerq.h"
#include "serve/control.h"
#include "vmm/snapshot.h"
#include "vmm/vmm.h"

struct vmm {
	struct vm_desc *desc; /* cards come and go */
	const struct vmm_options *options;
	struct loop *loop;
	struct machine *machine;
	struct chardev_backend *serial, *console, *firmware_log;
	struct control *control;
	struct screen *screen; /* NULL without a VGA */
	struct input *input;
	struct chardev_backend *terminal; /* of the text view */
	struct text_view *text_view;
	struct rfb_server *vnc;
	struct tls_identity *vnc_identity; /* NULL = no TLS */
	struct control_fds *passed;        /* with the request being run */
	struct vmm_save *save;             /* being made; NULL = none */
	struct vmm_fork *fork;             /* likewise */
	struct list unplugs;               /* of vmm_hotplug.c */
	struct fd_table given;             /* for forks to come */
	char *disk_path[VM_DESC_MAX_DEVS], *next_path[VM_DESC_MAX_DEVS]; /* of overlays */
	struct snapshot *restored; /* what memory is mapped from; NULL = none */
	int signal_fd;
	struct loop_fd signal_watch, parent_watch;
	struct timer patience;
	int signals; /* how many asked us to end */
	int status;  /* exit status when the loop ends */
	const char *reason;
	char words[200]; /* of a crash or failure */
	bool over;
	uint64_t start;
};

/* vmm_overlay.c: "overlays" of a command, a list of {disk, path}; their descriptors from @first on.
 * They wait until vmm_overlays_put, in the machine's freeze. */
int vmm_overlays_take(struct vmm *v, json_t *list, unsigned int first, struct err *e);
int vmm_overlays_put(struct vmm *v, struct err *e);
void vmm_overlays_drop(struct vmm *v);
/* The description as it is now: disks are where the last overlays put them. */
json_t *vmm_description(struct vmm *v);
int vmm_run_describe(struct vmm *v, json_t *args, json_t **ret, struct err *e);

/* vmm_save.c: commands, as in vmm.c's table. */
int vmm_run_save(struct vmm *v, json_t *args, json_t **ret, struct err *e);
int vmm_run_switch_disks(struct vmm *v, json_t *args, json_t **ret, struct err *e);
/* At the end: a snapshot that is being written is finished first. */
void vmm_save_wait(struct vmm *v);
/* machine_config.restore. */
int vmm_restore(void *vmm, struct machine *m, struct err *e);

/* vmm_hotplug.c: commands. */
int vmm_run_plug(struct vmm *v, json_t *args, json_t **ret, struct err *e);
int vmm_run_rate(struct vmm *v, json_t *args, json_t **ret, struct err *e);
int vmm_run_unplug(struct vmm *v, json_t *args, json_t **ret, struct err *e);
/* At the end. */
void vmm_hotplug_free(struct vmm *v);

/* vmm_fork.c */
int vmm_run_give(struct vmm *v, json_t *args, json_t **ret, struct err *e);
int vmm_run_fork(struct vmm *v, json_t *args, json_t **ret, struct err *e);
void vmm_fork_free(struct vmm *v);
/* machine_config.restore of a fork: memory moves from where the parent had it. */
int vmm_adopt(void *vmm, struct machine *m, struct err *e);
