/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/spec.h - a container's configuration, config.json of an OCI bundle
 *
 * opencontainers/runtime-spec 1.1 (config.md, config-linux.md), with what later versions added
 * where it is simple.  Any 1.x is accepted and unknown keys are ignored, as the specification asks.
 *
 * Strings point into the parsed document, which the spec owns; paths are as written, not checked
 * against any file system.
 */
#pragma once

#include "codec/json_read.h"

#include <sys/resource.h>
#include <sys/types.h>

#define SPEC_VERSION     "1.1.0" /* what state and features tell */
#define SPEC_MAX_TEXT    (8u << 20)
#define SPEC_MAX_ENTRIES 65536 /* of any array */

/* Order of joining and creating: user first, mount last. */
enum spec_ns {
	SPEC_NS_USER,
	SPEC_NS_PID,
	SPEC_NS_NET,
	SPEC_NS_IPC,
	SPEC_NS_UTS,
	SPEC_NS_CGROUP,
	SPEC_NS_TIME,
	SPEC_NS_MOUNT,
	SPEC_NS_COUNT
};

struct spec_ns_entry {
	bool wanted;
	const char *path; /* NULL = a new one */
};

struct spec_strings {
	const char **v; /* ends with NULL; NULL while empty */
	size_t n;
};

struct spec_pair {
	const char *key, *value;
};

struct spec_pairs {
	struct spec_pair *v;
	size_t n;
};

struct spec_id_map {
	uint32_t inside, outside, size;
};

struct spec_id_maps {
	struct spec_id_map *v;
	size_t n;
};

struct spec_opt {
	bool set;
	int64_t v;
};

struct spec_opt_u64 {
	bool set;
	uint64_t v;
};

struct spec_rlimit {
	int resource;
	struct rlimit64 value;
};

struct spec_caps {
	bool set;
	uint64_t bounding, effective, inheritable, permitted, ambient;
};

struct spec_scheduler {
	bool set;
	uint32_t policy;
	int32_t nice;
	uint32_t priority;
	uint64_t flags, runtime, deadline, period;
};

struct spec_process {
	bool terminal;
	uint16_t rows, columns; /* 0 = not given */
	uint32_t uid, gid;
	struct spec_opt umask;
	gid_t *groups;
	size_t n_groups;
	struct spec_strings args, env;
	const char *cwd;
	struct spec_caps caps;
	struct spec_rlimit *rlimits;
	size_t n_rlimits;
	bool no_new_privileges;
	const char *apparmor, *selinux; /* NULL = none */
	struct spec_opt oom_score_adj;
	struct spec_opt io_priority; /* as ioprio_set takes it: class << 13 | level */
	struct spec_scheduler scheduler;
};

struct spec_mount {
	const char *destination;
	const char *source, *type; /* NULL = not given */
	struct spec_strings options;
	struct spec_id_maps uids, gids;
};

struct spec_hook {
	const char *path;
	struct spec_strings args, env;
	int64_t timeout; /* seconds, 0 = none */
};

struct spec_hooks {
	struct spec_hook *v;
	size_t n;
};

/* In the order in which they run. */
enum spec_hook_kind {
	SPEC_HOOK_PRESTART,
	SPEC_HOOK_CREATE_RUNTIME,
	SPEC_HOOK_CREATE_CONTAINER,
	SPEC_HOOK_START_CONTAINER,
	SPEC_HOOK_POSTSTART,
	SPEC_HOOK_POSTSTOP,
	SPEC_HOOK_KINDS
};
extern const char *const spec_hook_names[SPEC_HOOK_KINDS + 1];

struct spec_device {
	const char *path;
	mode_t type; /* S_IFCHR, S_IFBLK, S_IFIFO */
	uint32_t major, minor;
	mode_t mode; /* permissions */
	uint32_t uid, gid;
};

enum { DEVICE_READ = 1, DEVICE_WRITE = 2, DEVICE_MKNOD = 4, DEVICE_ALL = 7 };

struct spec_device_rule {
	bool allow;
	char type;            /* 'a', 'b', 'c' */
	int64_t major, minor; /* -1 = any */
	unsigned int access;
};

struct spec_blkio_value {
	uint32_t major, minor;
	struct spec_opt_u64 weight, leaf_weight; /* of weightDevice */
	uint64_t rate;                           /* of the throttles */
};

struct spec_blkio_values {
	struct spec_blkio_value *v;
	size_t n;
};

enum spec_throttle {
	SPEC_READ_BPS,
	SPEC_WRITE_BPS,
	SPEC_READ_IOPS,
	SPEC_WRITE_IOPS,
	SPEC_THROTTLES
};

struct spec_huge_limit {
	const char *size; /* "2MB" */
	uint64_t limit;
};

struct spec_rdma {
	const char *device;
	struct spec_opt_u64 handles, objects;
};

struct spec_resources {
	struct spec_device_rule *devices;
	size_t n_devices;
	struct {
		struct spec_opt limit, reservation, swap, kernel, kernel_tcp;
		struct spec_opt_u64 swappiness;
		bool disable_oom_killer, check_before_update;
	} memory;
	struct {
		struct spec_opt_u64 shares, period, burst, rt_period;
		struct spec_opt quota, rt_runtime, idle;
		const char *cpus, *mems;
	} cpu;
	struct spec_opt pids;
	struct {
		struct spec_opt weight, leaf_weight;
		struct spec_blkio_values weights, throttles[SPEC_THROTTLES];
	} blkio;
	struct spec_huge_limit *huge;
	size_t n_huge;
	struct spec_opt net_class;
	struct spec_pairs net_priorities; /* interface, priority in decimal */
	struct spec_rdma *rdma;
	size_t n_rdma;
	struct spec_pairs unified;
};

struct spec_seccomp_arg {
	unsigned int index;
	uint64_t value, value_two;
	const char *op;
};

struct spec_seccomp_rule {
	struct spec_strings names;
	const char *action;
	struct spec_opt errno_ret;
	struct spec_seccomp_arg *args;
	size_t n_args;
};

struct spec_seccomp {
	bool set;
	const char *default_action;
	struct spec_opt default_errno;
	struct spec_strings architectures, flags;
	const char *listener_path, *listener_metadata;
	struct spec_seccomp_rule *rules;
	size_t n_rules;
};

struct spec {
	struct json_doc doc;
	const char *version;
	const char *root_path; /* relative ones are below the bundle */
	bool root_readonly;
	const char *hostname, *domainname; /* NULL = unchanged */
	bool has_process;
	struct spec_process process;
	struct spec_mount *mounts;
	size_t n_mounts;
	struct spec_hooks hooks[SPEC_HOOK_KINDS];
	struct spec_pairs annotations;
	/* linux */
	struct spec_ns_entry ns[SPEC_NS_COUNT];
	struct spec_id_maps uids, gids;
	struct spec_pairs time_offsets; /* clock name, "seconds nanoseconds" */
	struct spec_device *devices;
	size_t n_devices;
	const char *cgroups_path; /* NULL = ours to choose */
	struct spec_resources resources;
	struct spec_pairs sysctl;
	struct spec_seccomp seccomp;
	const char *rootfs_propagation; /* NULL = not given */
	struct spec_strings masked_paths, readonly_paths;
	const char *mount_label;
	struct spec_opt personality;
};

/* @ret must be zeroed; on failure it is left finished.  ret->process is filled in only if
 * has_process. */
must_check int spec_parse(const char *text, size_t len, struct spec *ret, struct err *e);
/* The same from a file. */
must_check int spec_load(int dir, const char *name, struct spec *ret, struct err *e);
void spec_fini(struct spec *s);

/* A process.json: its strings live in @doc, which the caller finishes. */
must_check int spec_process_parse(const char *text, size_t len, struct json_doc *doc,
				  struct spec_process *ret, struct err *e);
void spec_process_fini(struct spec_process *p);

/* A resources.json, as `update` takes it. */
must_check int spec_resources_parse(const char *text, size_t len, struct json_doc *doc,
				    struct spec_resources *ret, struct err *e);
void spec_resources_fini(struct spec_resources *r);
