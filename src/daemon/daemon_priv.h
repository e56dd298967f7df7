/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/daemon_priv.h - the parts of the core
 */
#pragma once

#include "daemon/daemon.h"
#include "daemon/operations.h"
#include "image/progress.h"
#include "live/lineage.h"
#include "model/machine_config.h"

#define MACHINE_FILES_MODE 0700

struct daemon {
	struct loop *loop;
	struct store *store;
	char *data_dir, *run_dir;
	_Atomic bool stopping;

	pthread_mutex_t lock;
	pthread_cond_t changed; /* on CLOCK_MONOTONIC */
	struct list guests;     /* struct guest, running or about to */
	struct list arrivals;   /* struct guest whose descriptors the loop is to watch */
	struct loop_work arrive;
	struct list claims, jobs;
	unsigned int n_threads;

	struct list restarts; /* struct restart of policy.c */
	struct timer watchdog;

	struct token_record *tokens; /* of token.c; lock */
	size_t n_tokens;

	struct list listeners;
	json_t *events[1024]; /* ring by id */
	uint64_t last_event, last_job;
};

/* --- daemon.c --- */

/* Absolute time for daemon_wait, @ms from now. */
struct timespec daemon_deadline(unsigned int ms);
/* Waits for any change, the lock held; false when the time is over or the daemon stops. */
bool daemon_wait(struct daemon *d, const struct timespec *deadline);
/* One at a time works on @key (a UUID, or "name/NAME"); waits a while for the one before.  -EBUSY.
 */
must_check int daemon_claim(struct daemon *d, const char *key, const char *name, struct err *e);
void daemon_release(struct daemon *d, const char *key);

/* --- paths.c: heap strings --- */

char *path_guest(const struct daemon *d, const char *uuid, const char *file); /* of what lasts */
char *path_run(const struct daemon *d, const char *uuid, const char *file); /* @file may be NULL */
char *path_link(const struct daemon *d, const char *name);
must_check int path_sync(const char *dir, struct err *e); /* its entries are on the disk */
/* What lasts of a machine, with files of its container's users. */
void path_guest_remove(const struct daemon *d, const char *uuid);
/* The link by name; replaces one of ours, never another's directory. */
void path_link_make(const struct daemon *d, const char *name, const char *uuid);
void path_link_remove(const struct daemon *d, const char *name, const char *uuid);

/* --- container.c --- */

/* The image of @c, pulled if need be, for the container with its files in @dir. */
must_check int container_install(const struct machine_config *c, const char *uuid, const char *dir,
				 struct progress *p, struct err *e);
/* For insula-monitor. */
must_check int container_describe(struct daemon *d, const struct machine_record *m,
				  const struct machine_config *c, json_t **ret, struct err *e);
/* A container with its files in @dir needs what @image, the image.json of another, names. */
must_check int container_pin(const char *uuid, const char *dir, const char *image, struct err *e);
/* What it may take of the host, as insula-monitor's command "limits" takes it. */
json_t *container_limits(const struct machine_config *c);

/* --- container_copy.c: of claimed containers, c->result is set --- */

bool container_is(const struct machine_record *m);
must_check int container_snapshot_create(struct op_call *c, const struct machine_record *m,
					 const char *name, struct err *e);
/* An array of {name, created, memory}. */
json_t *container_snapshots(struct daemon *d, const struct machine_record *m);
must_check int container_snapshot_restore(struct op_call *c, const struct machine_record *m,
					  const char *name, struct err *e);
must_check int container_snapshot_delete(struct op_call *c, const struct machine_record *m,
					 const char *name, struct err *e);
must_check int container_clone(struct op_call *c, const struct machine_record *from,
			       const char *name, struct err *e);
/* What was cut off. */
void container_sweep_copies(struct daemon *d, const char *uuid);

/* --- limits.c --- */

#define LIMITS_GROUP "insula-vm.%s" /* of the machine with this UUID */

/* Puts process @pid under @l; @changed: it ran without, or with others. */
must_check int limits_apply(const char *uuid, const struct machine_limits *l, pid_t pid,
			    bool changed, struct err *e);
/* Whoever is still in the group is ended. */
void limits_remove(const char *uuid);
/* A machine's run directory and control group, which no process uses any more. */
void run_dir_remove(struct daemon *d, const char *uuid);

/* --- change.c --- */

/* What of @new counts at once in the machine, if it runs: limits, rates, memory. */
must_check int change_running(struct daemon *d, const struct machine_record *m,
			      const struct machine_config *old, const struct machine_config *new,
			      struct err *e);

/* --- token.c --- */

must_check int tokens_load(struct daemon *d, struct err *e);
void tokens_free(struct daemon *d);

/* --- event.c --- */

/* Takes over @more (an object or NULL), whose members become the event's.  Without the lock. */
void event_emit(struct daemon *d, const char *type, const char *uuid, const char *name,
		json_t *more);

/* --- job.c --- */

enum job_state { JOB_RUNNING, JOB_DONE, JOB_FAILED, JOB_CANCELLED };

struct job {
	struct list node;
	struct daemon *d;
	const struct operation *op;
	json_t *args, *result;
	uint64_t id;
	enum job_state state;
	bool cancel;
	double fraction;
	char text[128];
	struct err error;
	int64_t started, ended;
	uint64_t told; /* when progress was last an event */
};

/* A progress that shows in the job, and stops when it is cancelled. */
void job_progress(struct job *j, struct progress *ret);
/* How far it is, of 1; @j may be NULL. */
void job_fraction(struct job *j, const char *text, double fraction);
json_t *job_format(const struct job *j); /* the lock held */
void jobs_cancel(struct daemon *d);
void jobs_free(struct daemon *d);

/* --- guest.c: an insula-vmm that runs --- */

enum guest_state { GUEST_STARTING, GUEST_RUNNING, GUEST_PAUSED };

struct guest {
	struct list node, arrival;
	struct daemon *d;
	char uuid[MACHINE_UUID_LEN + 1];
	char *name;
	enum guest_state state;
	pid_t pid;
	int pidfd, control; /* -1 = none yet */
	struct loop_fd pid_watch, control_watch;
	struct strbuf lines;
	int64_t started;
	bool stop_wanted;    /* a person asked for the end: no restart */
	bool agent;          /* it has one */
	uint64_t agent_seen; /* clock of its last answer, for the watchdog */
};

/* A copy of what others may know. */
struct guest_info {
	enum guest_state state;
	pid_t pid;
	int64_t started;
	bool agent;
};
/* False when it does not run. */
bool guest_get(struct daemon *d, const char *uuid, struct guest_info *ret);
struct guest *guest_find(struct daemon *d, const char *uuid); /* the lock held */
/* As "starting"; -EBUSY when it is there already. */
must_check int guest_add(struct daemon *d, const char *uuid, const char *name, bool agent,
			 struct err *e);
/* It runs as @pid; owns the descriptors. */
void guest_run(struct daemon *d, const char *uuid, pid_t pid, int pidfd, int control);
/* It did not come up. */
void guest_drop(struct daemon *d, const char *uuid);
void guest_expect_end(struct daemon *d, const char *uuid);
/* Waits until it is gone: true, or the time is over. */
bool guest_wait_gone(struct daemon *d, const char *uuid, unsigned int ms);
/* Waits until it is in @state, or gone. */
bool guest_wait_state(struct daemon *d, const char *uuid, enum guest_state state, unsigned int ms);
/* SIGKILL, if it still is the one that runs. */
void guest_kill(struct daemon *d, const char *uuid);
void guests_free(struct daemon *d); /* forgets them; they go on */
void guests_arrive(void *d);

/* --- vmm.c: one insula-vmm's start and sockets --- */

/* What a machine goes on from instead of booting. */
struct vmm_origin {
	const json_t *description; /* of the machine as it ran */
	const char *state;         /* file of memory and devices */
	const char *disk; /* an overlay in its directory, its disk from now on; NULL = none */
};

/* Starts it for the machine of @m, in the directories that are there, and waits until it is ready;
 * *@pid, *@pidfd and *@control (connected) are the caller's.  @origin NULL: it boots. */
must_check int vmm_start(struct daemon *d, const struct machine_record *m,
			 const struct machine_config *c, const struct vmm_origin *origin,
			 pid_t *pid, int *pidfd, int *control, struct err *e);
/* Ends one that was just started. */
void vmm_abandon(struct daemon *d, const char *uuid, int pidfd, int control);
must_check int vmm_connect(const char *path, struct err *e);
/* One command on a connection of its own; @args is taken over and may be NULL; *@ret may be. */
must_check int vmm_call(struct daemon *d, const char *uuid, const char *command, json_t *args,
			json_t **ret, struct err *e);
/* The same with descriptors that go along, and more patience. */
struct vmm_request {
	const char *command;
	json_t *args; /* taken over; may be NULL */
	const int *fds;
	unsigned int n_fds; /* at most 16 */
	int timeout_ms;     /* 0 = the usual */
};
must_check int vmm_request(struct daemon *d, const char *uuid, const struct vmm_request *q,
			   json_t **ret, struct err *e);
/* "STATUS REASON WORDS" that it left; a killed one left nothing. */
void vmm_read_end(struct daemon *d, const char *uuid, char reason[32], int64_t *status, char *words,
		  size_t size);

/* --- agent.c: requests to the agent in the guest --- */

/* A connection to the agent, before its "OK" was read. */
must_check int agent_connect(struct daemon *d, const char *uuid, struct err *e);
/* Does it answer within @ms? */
bool agent_ping(struct daemon *d, const char *uuid, unsigned int ms);
/* "poweroff" or "reboot"; -EAGAIN when it does not answer. */
must_check int agent_shutdown(struct daemon *d, const char *uuid, const char *mode, struct err *e);

/* --- disks.c: disk files that several machines look through --- */

/* The files that machines need; finish @ret, also on failure. */
must_check int disks_lineage(struct daemon *d, struct lineage *ret, struct err *e);
/* Others may lie over files of this machine from now on. */
must_check int disks_note_descendants(struct daemon *d, const char *uuid, struct err *e);
bool disks_have_descendants(struct daemon *d, const char *uuid);
/* A claimed machine's overlays and memory files that nothing needs. */
void disks_tidy(struct daemon *d, const char *uuid);
/* Does its disk, or a snapshot of it, lie over files of another machine's? */
bool disks_lie_elsewhere(struct daemon *d, const char *uuid);
/* The directory of a machine whose row is gone; @elsewhere as disks_lie_elsewhere said before. */
void disks_remove(struct daemon *d, const char *uuid, bool elsewhere);
/* The same for one that was found. */
void disks_release(struct daemon *d, const struct lineage *l, const char *uuid);

/* --- identity.c: what a copy's guest must not have in common with its source --- */

/* Notes down that the guest is to get one when its agent answers. */
must_check int identity_want(struct daemon *d, const char *uuid, struct err *e);
bool identity_wanted(struct daemon *d, const char *uuid);
/* It runs: in a thread of its own, if one is wanted. */
void identity_start(struct daemon *d, const char *uuid);
/* Waits for that; false when the time is over. */
bool identity_wait(struct daemon *d, const char *uuid, unsigned int ms);

/* --- recover.c --- */

/* Is it run, by us or by `insula run --name`? */
bool guest_is_locked(struct daemon *d, const char *uuid);

must_check int recover(struct daemon *d, struct err *e);

/* --- power.c: what several operations and policies do; all under a claim --- */

must_check int power_start(struct daemon *d, const struct machine_record *m, struct err *e);
must_check int power_start_from(struct daemon *d, const struct machine_record *m,
				const struct vmm_origin *origin, struct err *e);
/* A link for commands that find a machine's control socket by its name. */
void power_link_control(struct daemon *d, const char *uuid);
must_check int power_stop(struct daemon *d, const char *uuid, struct err *e);

/* --- policy.c --- */

/* A guest ended (the loop's thread): restart it if its policy says so. */
void policy_ended(struct daemon *d, const char *uuid, const char *reason, int64_t status,
		  bool stop_wanted, int64_t ran);
void policy_start(struct daemon *d);
bool policy_pending(struct daemon *d);
void policy_free(struct daemon *d);

/* --- operations' common part: op_common.c --- */

/* The machine that args.machine names; finish @ret. */
must_check int op_machine(struct op_call *c, struct machine_record *ret, struct err *e);
/* The same, claimed and read again; release by op_unclaim. */
must_check int op_claim(struct op_call *c, struct machine_record *ret, struct err *e);
void op_unclaim(struct op_call *c, struct machine_record *m);
must_check int op_need_running(struct op_call *c, const struct machine_record *m,
			       struct guest_info *ret, struct err *e);
json_t *op_format_machine(struct daemon *d, const struct machine_record *m, bool whole);
const char *op_string(const struct op_call *c, const char *name);
int64_t op_int(const struct op_call *c, const char *name, int64_t preset);
bool op_bool(const struct op_call *c, const char *name);
/* op_snapshot.c.  Was the job cancelled?  -EINTR with words. */
int op_cancelled(const struct op_call *c, struct err *e);
/* What the job is doing. */
void op_note(const struct op_call *c, const char *text);
/* op_machine.c: may a machine be called so? */
must_check int op_check_name_free(struct daemon *d, const char *name, struct err *e);

/* op_common.c: -ENOTSUP for a container, which cannot be @done. */
must_check int op_refuse_container(const struct machine_record *m, const char *done, struct err *e);
/* op_copy.c.  Names of machines to be, claimed and free. */
must_check int op_claim_name(struct daemon *d, const char *name, struct err *e);
void op_release_name(struct daemon *d, const char *name);
/* A machine whose files are there: its row, link and event; the call's result. */
must_check int op_add_machine(struct op_call *c, const struct machine_record *m, struct err *e);
/* The machine goes on above @disk, which then stays as it is. */
must_check int op_freeze_disk(struct op_call *c, const struct machine_record *m, const char *disk,
			      struct err *e);

/* The configuration in @m; finish @ret.  And the text of one, to keep there: the caller's. */
must_check int machine_record_config(const struct machine_record *m, struct machine_config *ret,
				     struct err *e);
must_check int machine_config_text(const struct machine_config *c, char **ret, struct err *e);

/* The operations, by file. */
int op_disk_attach(struct op_call *c, struct err *e);
int op_disk_detach(struct op_call *c, struct err *e);
int op_pool_create(struct op_call *c, struct err *e);
int op_pool_list(struct op_call *c, struct err *e);
int op_pool_show(struct op_call *c, struct err *e);
int op_pool_delete(struct op_call *c, struct err *e);
int op_pool_disk_create(struct op_call *c, struct err *e);
int op_pool_disk_delete(struct op_call *c, struct err *e);
int op_token_create(struct op_call *c, struct err *e);
int op_token_list(struct op_call *c, struct err *e);
int op_token_revoke(struct op_call *c, struct err *e);
int op_nic_attach(struct op_call *c, struct err *e);
int op_nic_detach(struct op_call *c, struct err *e);
int op_machine_create(struct op_call *c, struct err *e);
int op_machine_define(struct op_call *c, struct err *e);
int op_machine_xml(struct op_call *c, struct err *e);
/* op_machine.c: as op_machine_create; @uuid "" = a new one. */
int create_machine(struct op_call *c, const char *uuid, struct err *e);
int op_machine_delete(struct op_call *c, struct err *e);
int op_machine_edit(struct op_call *c, struct err *e);
int op_machine_list(struct op_call *c, struct err *e);
int op_machine_show(struct op_call *c, struct err *e);
int op_machine_start(struct op_call *c, struct err *e);
int op_machine_stop(struct op_call *c, struct err *e);
int op_machine_shutdown(struct op_call *c, struct err *e);
int op_machine_reboot(struct op_call *c, struct err *e);
int op_machine_reset(struct op_call *c, struct err *e);
int op_machine_pause(struct op_call *c, struct err *e);
int op_machine_resume(struct op_call *c, struct err *e);
int op_machine_wait(struct op_call *c, struct err *e);
int op_machine_stats(struct op_call *c, struct err *e);
int op_machine_logs(struct op_call *c, struct err *e);
int op_machine_console(struct op_call *c, struct err *e);
int op_machine_agent(struct op_call *c, struct err *e);
int op_snapshot_create(struct op_call *c, struct err *e);
int op_snapshot_list(struct op_call *c, struct err *e);
int op_snapshot_restore(struct op_call *c, struct err *e);
int op_snapshot_delete(struct op_call *c, struct err *e);
int op_machine_fork(struct op_call *c, struct err *e);
int op_machine_clone(struct op_call *c, struct err *e);
int op_machine_template(struct op_call *c, struct err *e);
int op_machine_export(struct op_call *c, struct err *e);
int op_machine_import(struct op_call *c, struct err *e);
int op_machine_backup(struct op_call *c, struct err *e);
int op_job_list(struct op_call *c, struct err *e);
int op_job_show(struct op_call *c, struct err *e);
int op_job_cancel(struct op_call *c, struct err *e);
int op_system_info(struct op_call *c, struct err *e);
