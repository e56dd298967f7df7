/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/bundle.c - config.json of an image (runtime-spec config.md; image-spec conversion.md)
 */
#include "oci/runner_parts.h"

#include "base/fd.h"
#include "codec/passwd.h"
#include "container/path.h"
#include "container/userns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/vfs.h>

#define ETC_MAX        (1u << 20)
#define PIDS_LIMIT     4096
#define CPU_PERIOD     100000
#define DEFAULT_SHARES 1024 /* of version 1; a weight of 100 */
#define DEFAULT_ENV    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static const char *const caps[] = {
    "CAP_CHOWN",  "CAP_DAC_OVERRIDE", "CAP_FOWNER",           "CAP_FSETID",
    "CAP_KILL",   "CAP_MKNOD",        "CAP_NET_BIND_SERVICE", "CAP_SETFCAP",
    "CAP_SETGID", "CAP_SETPCAP",      "CAP_SETUID",           "CAP_SYS_CHROOT"};

/* Doors into the kernel that a program in a container has no need of. */
static const char *const refused_calls[] = {"acct",
					    "add_key",
					    "bpf",
					    "clock_adjtime",
					    "clock_settime",
					    "create_module",
					    "delete_module",
					    "finit_module",
					    "fsconfig",
					    "fsmount",
					    "fsopen",
					    "fspick",
					    "init_module",
					    "io_uring_enter",
					    "io_uring_register",
					    "io_uring_setup",
					    "ioperm",
					    "iopl",
					    "kcmp",
					    "kexec_file_load",
					    "kexec_load",
					    "keyctl",
					    "lookup_dcookie",
					    "mount",
					    "mount_setattr",
					    "move_mount",
					    "move_pages",
					    "name_to_handle_at",
					    "nfsservctl",
					    "open_by_handle_at",
					    "open_tree",
					    "perf_event_open",
					    "pivot_root",
					    "process_madvise",
					    "quotactl",
					    "reboot",
					    "request_key",
					    "setns",
					    "settimeofday",
					    "stime",
					    "swapoff",
					    "swapon",
					    "syslog",
					    "umount",
					    "umount2",
					    "unshare",
					    "userfaultfd",
					    "vm86",
					    "vm86old"};

static const char *const masked[] = {"/proc/acpi",
				     "/proc/asound",
				     "/proc/kcore",
				     "/proc/keys",
				     "/proc/latency_stats",
				     "/proc/timer_list",
				     "/proc/timer_stats",
				     "/proc/sched_debug",
				     "/proc/scsi",
				     "/sys/firmware",
				     "/sys/devices/virtual/powercap"};
static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
					"/proc/sysrq-trigger"};

char **runner_args(const struct image_config *c, char *const *command)
{
	char **args, **cmd = (char **)command;
	size_t n = 0, more = 0;

	if (!cmd || !cmd[0])
		cmd = c->cmd.n ? c->cmd.v : NULL;
	while (cmd && cmd[more])
		more++;
	args = xcalloc(c->entrypoint.n + more + 2, sizeof(*args));
	for (size_t i = 0; i < c->entrypoint.n; i++)
		args[n++] = c->entrypoint.v[i];
	for (size_t i = 0; i < more; i++)
		args[n++] = cmd[i];
	if (n == 0)
		args[0] = (char *)"/bin/sh";
	return args;
}

bool runner_is_system(char *const *args)
{
	static const char *const inits[] = {"init", "systemd"};
	const char *slash = strrchr(args[0], '/');

	for (size_t i = 0; slash && i < ARRAY_SIZE(inits); i++) {
		if (strcmp(slash + 1, inits[i]) == 0)
			return true;
	}
	return false;
}

static bool is_v2(void)
{
	struct statfs fs;

	return statfs("/sys/fs/cgroup", &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
}

static json_t *string_list(const char *const *v, size_t n)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_string(v[i]));
	return list;
}

static void add_mount(json_t *mounts, const char *type, const char *source, const char *target,
		      const char *options)
{
	autofree char *copy = xstrdup(options);
	json_t *list = json_array();
	char *save = NULL;

	for (char *o = strtok_r(copy, ",", &save); o; o = strtok_r(NULL, ",", &save))
		json_array_append_new(list, json_string(o));
	json_array_append_new(mounts, json_pack("{s:s, s:s, s:s, s:o}", "destination", target,
						"type", type, "source", source, "options", list));
}

/*
 * What an init expects of a container (systemd.io/CONTAINER_INTERFACE): directories that are empty
 * at each start, and control groups to make its own below.  Of version 1 that is the tree that
 * controls nothing; of version 2 its own part of the only one.
 */
static void add_system_mounts(json_t *mounts, const char *cgroup)
{
	autofree char *own = xasprintf("/sys/fs/cgroup/systemd%s", cgroup);

	add_mount(mounts, "tmpfs", "tmpfs", "/run", "nosuid,nodev,mode=755");
	add_mount(mounts, "tmpfs", "tmpfs", "/run/lock", "nosuid,nodev,noexec,mode=1777");
	add_mount(mounts, "tmpfs", "tmpfs", "/tmp", "nosuid,nodev,mode=1777");
	if (access("/sys/fs/cgroup/systemd", F_OK) == 0)
		add_mount(mounts, "bind", own, "/sys/fs/cgroup/systemd",
			  "bind,nosuid,nodev,noexec,rw");
}

static json_t *make_mounts(const char *dir, const char *cgroup, const struct container_options *o)
{
	static const char *const etc[] = {"resolv.conf", "hostname", "hosts"};
	json_t *m = json_array();

	add_mount(m, "proc", "proc", "/proc", "nosuid,noexec,nodev");
	add_mount(m, "tmpfs", "tmpfs", "/dev", "nosuid,strictatime,mode=755,size=65536k");
	add_mount(m, "devpts", "devpts", "/dev/pts",
		  "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620");
	add_mount(m, "tmpfs", "shm", "/dev/shm", "nosuid,noexec,nodev,mode=1777,size=65536k");
	add_mount(m, "mqueue", "mqueue", "/dev/mqueue", "nosuid,noexec,nodev");
	add_mount(m, "sysfs", "sysfs", "/sys", "nosuid,noexec,nodev,ro");
	add_mount(m, "cgroup", "cgroup", "/sys/fs/cgroup",
		  runner_is_system(o->args) && is_v2() ? "nosuid,noexec,nodev,relatime,rw"
						       : "nosuid,noexec,nodev,relatime,ro");
	if (runner_is_system(o->args))
		add_system_mounts(m, cgroup);
	for (size_t i = 0; i < ARRAY_SIZE(etc); i++) {
		autofree char *from = xasprintf("%s/%s", dir, etc[i]);
		autofree char *to = xasprintf("/etc/%s", etc[i]);

		add_mount(m, "bind", from, to, "bind,nosuid,nodev,noexec");
	}
	for (size_t i = 0; i < o->n_mounts; i++)
		add_mount(m, "bind", o->mounts[i].host, o->mounts[i].guest,
			  o->mounts[i].read_only ? "rbind,nosuid,nodev,ro"
						 : "rbind,nosuid,nodev,rw");
	return m;
}

/* Later ones win. */
static void add_env(json_t *env, const char *assignment)
{
	size_t n = strcspn(assignment, "="), i;
	json_t *had;

	json_array_foreach(env, i, had)
	{
		const char *s = json_string_value(had);

		if (strncmp(s, assignment, n) == 0 && s[n] == '=') {
			json_array_set_new(env, i, json_string(assignment));
			return;
		}
	}
	json_array_append_new(env, json_string(assignment));
}

static json_t *make_env(const struct image_config *image, const struct container_options *o,
			const char *home)
{
	autofree char *h = xasprintf("HOME=%s", home);
	const char *term = getenv("TERM");
	json_t *env = json_array();

	add_env(env, DEFAULT_ENV);
	add_env(env, h);
	if (runner_is_system(o->args))
		add_env(env, "container=insula");
	if (o->tty) {
		autofree char *t = xasprintf("TERM=%s", term ? term : "dumb");

		add_env(env, t);
	}
	for (size_t i = 0; i < image->env.n; i++)
		add_env(env, image->env.v[i]);
	for (size_t i = 0; i < o->n_env; i++)
		add_env(env, o->env[i]);
	return env;
}

static void read_etc(int root, const char *path, struct strbuf *ret)
{
	autoclose int fd = path_open(root, path, O_RDONLY | O_NONBLOCK);
	char chunk[4096];
	ssize_t n;

	while (fd >= 0 && ret->len < ETC_MAX && (n = read(fd, chunk, sizeof(chunk))) > 0)
		strbuf_add(ret, chunk, (size_t)n);
	strbuf_puts(ret, "");
}

static int find_user(const char *dir, const char *user, struct passwd_user *ret, struct err *e)
{
	autofree char *rootfs = xasprintf("%s/rootfs", dir);
	autoclose int root = open(rootfs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	autostrbuf struct strbuf passwd = {0}, group = {0};

	if (root < 0)
		return err_set(e, -errno, "open %s", rootfs);
	read_etc(root, "/etc/passwd", &passwd);
	read_etc(root, "/etc/group", &group);
	return passwd_resolve(user, passwd.data ? passwd.data : "", group.data ? group.data : "",
			      ret, e);
}

static json_t *make_process(const struct image_config *image, const struct container_options *o,
			    const struct passwd_user *u)
{
	const char *workdir = o->workdir ? o->workdir : image->workdir;
	json_t *args = json_array(), *groups = json_array(), *p;
	json_t *sets = json_object();

	for (char *const *a = o->args; *a; a++)
		json_array_append_new(args, json_stringn_nocheck(*a, strlen(*a)));
	for (size_t i = 0; i < u->n_groups; i++)
		json_array_append_new(groups, json_integer(u->groups[i]));
	json_object_set_new(sets, "bounding", string_list(caps, ARRAY_SIZE(caps)));
	if (u->uid == 0) {
		json_object_set_new(sets, "effective", string_list(caps, ARRAY_SIZE(caps)));
		json_object_set_new(sets, "permitted", string_list(caps, ARRAY_SIZE(caps)));
	}
	p = json_pack("{s:b, s:{s:I, s:I, s:o}, s:o, s:o, s:s, s:o}", "terminal", o->tty, "user",
		      "uid", (json_int_t)u->uid, "gid", (json_int_t)u->gid, "additionalGids",
		      groups, "args", args, "env", make_env(image, o, u->home), "cwd",
		      workdir[0] ? workdir : "/", "capabilities", sets);
	return p;
}

static json_t *cpu_limits(const struct container_options *o)
{
	json_int_t quota = (json_int_t)o->cpus * CPU_PERIOD;
	json_t *cpu;

	if (o->cpu_percent)
		quota = MIN(quota, (json_int_t)o->cpu_percent * CPU_PERIOD / 100);
	cpu = json_pack("{s:I, s:I}", "quota", quota, "period", (json_int_t)CPU_PERIOD);
	if (o->cpu_weight)
		json_object_set_new(
		    cpu, "shares",
		    json_integer(MAX((json_int_t)o->cpu_weight * DEFAULT_SHARES / 100, 2)));
	return cpu;
}

json_t *bundle_limits(const struct container_options *o)
{
	return json_pack("{s:{s:I}, s:o, s:{s:i}}", "memory", "limit", (json_int_t)o->memory, "cpu",
			 cpu_limits(o), "pids", "limit", PIDS_LIMIT);
}

static void add_limits(json_t *resources, const struct container_options *o)
{
	json_t *limits = bundle_limits(o);

	json_object_update(resources, limits);
	json_decref(limits);
}

static json_t *make_linux(const char *cgroup, const struct container_options *o)
{
	json_t *resources = json_pack("{s:[{s:b, s:s}]}", "devices", "allow", 0, "access", "rwm");
	json_t *seccomp =
	    json_pack("{s:s, s:[s,s,s], s:[{s:o, s:s, s:i}]}", "defaultAction", "SCMP_ACT_ALLOW",
		      "architectures", "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32",
		      "syscalls", "names", string_list(refused_calls, ARRAY_SIZE(refused_calls)),
		      "action", "SCMP_ACT_ERRNO", "errnoRet", EPERM);

	/* Without root there is no control group that limits could be written to. */
	if (userns_is_host_root())
		add_limits(resources, o);
	return json_pack("{s:s, s:[{s:s},{s:s},{s:s},{s:s},{s:s}], s:o, s:o, s:o, s:o}",
			 "cgroupsPath", cgroup, "namespaces", "type", "pid", "type", "ipc", "type",
			 "uts", "type", "mount", "type", "cgroup", "resources", resources,
			 "seccomp", seccomp, "maskedPaths", string_list(masked, ARRAY_SIZE(masked)),
			 "readonlyPaths", string_list(read_only, ARRAY_SIZE(read_only)));
}

static int write_etc(const char *dir, const char *name, const char *text, struct err *e)
{
	autofree char *path = xasprintf("%s/%s", dir, name);
	autoclose int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	int r = fd < 0 ? -errno : write_full(fd, text, strlen(text));

	return r < 0 ? err_set(e, r, "write %s", path) : 0;
}

int bundle_process(const char *dir, const struct image_config *image,
		   const struct container_options *o, json_t **ret, struct err *e)
{
	struct passwd_user u;
	int r = find_user(dir, o->user ? o->user : image->user, &u, e);

	if (r < 0)
		return r;
	*ret = make_process(image, o, &u);
	return *ret ? 0 : err_msg(e, -EINVAL, "the command line is not UTF-8");
}

char *bundle_shell(const char *dir)
{
	autofree char *rootfs = xasprintf("%s/rootfs", dir);
	autoclose int root = open(rootfs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	autostrbuf struct strbuf passwd = {0};
	char *save = NULL;

	if (root >= 0)
		read_etc(root, "/etc/passwd", &passwd);
	for (char *l = passwd.data ? strtok_r(passwd.data, "\n", &save) : NULL; l;
	     l = strtok_r(NULL, "\n", &save)) {
		const char *shell = strrchr(l, ':');
		autoclose int fd = -1;

		if (strncmp(l, "root:", 5) != 0 || !shell || shell[1] != '/')
			continue;
		fd = path_open(root, shell + 1, O_PATH);
		if (fd >= 0)
			return xstrdup(shell + 1);
	}
	return xstrdup("/bin/sh");
}

int bundle_write(const char *dir, const char *cgroup, const struct image_config *image,
		 const struct container_options *o, struct err *e)
{
	autofree char *path = xasprintf("%s/config.json", dir);
	autofree char *hosts =
	    xasprintf("127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\t%s\n", o->hostname);
	autofree char *hostname = xasprintf("%s\n", o->hostname);
	json_t *spec, *process = NULL;
	int r = bundle_process(dir, image, o, &process, e);

	if (r == 0)
		r = write_etc(dir, "resolv.conf", o->net ? "nameserver 10.0.2.3\n" : "", e);
	if (r == 0)
		r = write_etc(dir, "hosts", hosts, e);
	if (r == 0)
		r = write_etc(dir, "hostname", hostname, e);
	if (r < 0) {
		json_decref(process);
		return r;
	}
	spec = json_pack("{s:s, s:{s:s}, s:s, s:o, s:o, s:o}", "ociVersion", "1.1.0", "root",
			 "path", "rootfs", "hostname", o->hostname, "process", process, "mounts",
			 make_mounts(dir, cgroup, o), "linux", make_linux(cgroup, o));
	r = spec ? json_dump_file(spec, path, JSON_INDENT(1) | JSON_SORT_KEYS) : -1;
	json_decref(spec);
	return r < 0 ? err_msg(e, -EIO, "cannot write %s", path) : 0;
}
