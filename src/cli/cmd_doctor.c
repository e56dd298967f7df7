/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cmd_doctor.c - what this host offers, what Insula will use, how to enable the rest
 */
#include "base/dirs.h"
#include "base/fd.h"
#include "cli/cli.h"
#include "cli/run.h"
#include "cli/ui.h"
#include "image/exec.h"
#include "image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/vfs.h>

#define CGROUP2_MAGIC 0x63677270

enum finding { FINDING_GOOD, FINDING_NOTE, FINDING_BAD };

struct doctor {
	bool json;
	json_t *checks;
	unsigned int bad;
};

static int set_json(void *config, const char *value, struct err *e)
{
	((struct doctor *)config)->json = true;
	return 0;
}

static const struct cli_option doctor_options[] = {
    {"json", NULL, NULL, "print JSON", set_json},
};

/* One line; @advice says how to enable what is missing, or is NULL. */
static void report(struct doctor *d, enum finding f, const char *what, const char *advice,
		   const char *fmt, ...) printf_like(5, 6);
static void report(struct doctor *d, enum finding f, const char *what, const char *advice,
		   const char *fmt, ...)
{
	static const char *const marks[] = {"ok", "--", "!!"}, *const words[] = {"good", "note",
										 "bad"};
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	d->bad += f == FINDING_BAD;
	if (d->json) {
		json_t *o = json_pack("{s:s, s:s, s:s}", "check", what, "finding", words[f],
				      "message", text);

		if (advice)
			json_object_set_new(o, "advice", json_string(advice));
		json_array_append_new(d->checks, o);
		return;
	}
	printf("[%s] %-16s %s\n", marks[f], what, text);
	if (advice)
		printf("     %-16s   %s\n", "", advice);
}

/* The engines live in insula-vmm: it probes, and prints JSON. */
static void check_engine(struct doctor *d)
{
	autostrbuf struct strbuf out = {0};
	autofree char *program = NULL;
	const char *argv[] = {NULL, "--probe", NULL};
	struct exec x = {.argv = argv, .out = &out};
	struct err e = {0};
	json_t *o = NULL;
	const char *engine, *why;

	if (dirs_program("insula-vmm", &program, &e) < 0) {
		report(d, FINDING_BAD, "engine", NULL, "%s", e.msg);
		return;
	}
	argv[0] = program;
	if (exec_run(&x, &e) == 0 && out.len)
		o = json_loadb(out.data, out.len, 0, NULL);
	engine = json_string_value(json_object_get(o, "engine"));
	why = json_string_value(json_object_get(o, "reason"));
	if (!engine)
		report(d, FINDING_BAD, "engine", NULL, "insula-vmm --probe failed: %s",
		       e.msg[0] ? e.msg : "no answer");
	else
		report(d, strcmp(engine, "kvm") == 0 ? FINDING_GOOD : FINDING_NOTE, "engine", NULL,
		       "machines will run on '%s'%s%s", engine, why ? ": " : "", why ? why : "");
	json_decref(o);
}

static void check_kvm(struct doctor *d)
{
	struct stat st;

	if (stat("/dev/kvm", &st) < 0)
		report(d, FINDING_NOTE, "/dev/kvm",
		       "if the processor has VMX or SVM: enable it in the firmware, or nested "
		       "virtualization on the host above; then `modprobe kvm_intel` or `kvm_amd`",
		       "not there; the software CPU does not need it");
	else if (access("/dev/kvm", R_OK | W_OK) < 0)
		report(d, FINDING_NOTE, "/dev/kvm", "as root: adduser YOU kvm, then log in again",
		       "there, but not for you: %s", strerror(errno));
	else
		report(d, FINDING_GOOD, "/dev/kvm", NULL, "there and accessible");
}

static void check_cpu(struct doctor *d)
{
	static const char *const wanted[] = {"vmx", "svm",    "sse4_2",  "avx",  "avx2", "bmi2",
					     "aes", "sha_ni", "avx512f", "erms", "fsrm"};
	autostrbuf struct strbuf info = {0}, have = {0};
	char *flags, *end, *model;

	if (read_file("/proc/cpuinfo", 1 << 22, &info) < 0 || !info.len)
		return;
	model = strstr(info.data, "model name");
	flags = strstr(info.data, "\nflags");
	if (!flags)
		return;
	end = strchr(flags + 1, '\n');
	if (end)
		*end = '\0';
	strbuf_puts(&have, "");
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		autofree char *word = xasprintf(" %s ", wanted[i]);
		autofree char *last = xasprintf(" %s", wanted[i]);
		size_t n = strlen(flags + 1), m = strlen(last);

		if (strstr(flags + 1, word) || (n > m && strcmp(flags + 1 + n - m, last) == 0))
			strbuf_printf(&have, " %s", wanted[i]);
	}
	model = model ? strchr(model, ':') : NULL;
	report(d, FINDING_GOOD, "processor", NULL, "%ld CPUs,%.*s; has%s",
	       sysconf(_SC_NPROCESSORS_ONLN), model ? (int)strcspn(model + 1, "\n") : 0,
	       model ? model + 1 : "", have.data);
}

static void check_memory(struct doctor *d)
{
	struct sysinfo si;
	autostrbuf struct strbuf text = {0};
	unsigned long long available = 0;
	char *line;

	sysinfo(&si);
	if (read_file("/proc/meminfo", 65536, &text) == 0 && text.len &&
	    (line = strstr(text.data, "MemAvailable:")))
		available = strtoull(line + 13, NULL, 10) >> 10;
	report(d, available >= 1024 ? FINDING_GOOD : FINDING_NOTE, "memory", NULL,
	       "%llu MiB, %llu MiB of it available",
	       (unsigned long long)si.totalram * si.mem_unit >> 20, available);
}

static void check_disk(struct doctor *d)
{
	struct image_cache cache;
	struct err e = {0};
	struct statvfs v;
	unsigned long long left;

	if (image_cache_open(&cache, &e) < 0) {
		report(d, FINDING_BAD, "image cache",
		       "set XDG_CACHE_HOME to a place you can write to", "%s", e.msg);
		return;
	}
	if (statvfs(cache.dir, &v) == 0) {
		left = ((unsigned long long)v.f_bavail * v.f_frsize) >> 20;
		report(d, left >= 1536 ? FINDING_GOOD : FINDING_BAD, "image cache",
		       left >= 1536 ? NULL : "an image of Debian needs 1.5 GiB while it is made",
		       "%s has %llu MiB free", cache.dir, left);
	}
	image_cache_fini(&cache);
}

static bool file_mentions(const char *path, const char *user)
{
	autostrbuf struct strbuf text = {0};
	autofree char *start = xasprintf("%s:", user), *line = xasprintf("\n%s:", user);

	if (read_file(path, 1 << 20, &text) < 0 || !text.len)
		return false;
	return strncmp(text.data, start, strlen(start)) == 0 || strstr(text.data, line);
}

static void check_namespaces(struct doctor *d)
{
	const char *const argv[] = {"unshare", "--map-root-user", "true", NULL};
	struct exec x = {.argv = argv};
	struct passwd *pw = getpwuid(geteuid());
	struct err e = {0};

	if (geteuid() == 0) {
		report(d, FINDING_GOOD, "user namespaces", NULL, "not needed: you are root");
		return;
	}
	if (exec_run(&x, &e) < 0)
		report(d, FINDING_NOTE, "user namespaces",
		       "as root: sysctl kernel.unprivileged_userns_clone=1 "
		       "user.max_user_namespaces=10000",
		       "not for you (%s): images can only be made by root", e.msg);
	else if (!pw || !file_mentions("/etc/subuid", pw->pw_name) ||
		 !file_mentions("/etc/subgid", pw->pw_name) || !exec_have("newuidmap"))
		report(d, FINDING_NOTE, "user namespaces",
		       "as root: apt-get install uidmap; usermod --add-subuids 100000-165535 "
		       "--add-subgids 100000-165535 YOU",
		       "work, but without subordinate ids you cannot make images");
	else
		report(d, FINDING_GOOD, "user namespaces", NULL, "work, with subordinate ids");
}

static void check_cgroups(struct doctor *d)
{
	struct statfs root, unified;
	const char *kind = "none is mounted";

	if (statfs("/sys/fs/cgroup", &root) == 0 && root.f_type == CGROUP2_MAGIC)
		kind = "version 2";
	else if (statfs("/sys/fs/cgroup/unified", &unified) == 0 && unified.f_type == CGROUP2_MAGIC)
		kind = "hybrid: version 1 with version 2 beside it";
	else if (access("/sys/fs/cgroup/memory", F_OK) == 0)
		kind = "version 1";
	report(d, FINDING_GOOD, "cgroups", NULL, "%s; `insula run` needs none", kind);
}

static void check_tun(struct doctor *d)
{
	autoclose int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		report(d, FINDING_GOOD, "/dev/net/tun", NULL,
		       "there and accessible; the user network does not need it");
	else
		report(d, FINDING_NOTE, "/dev/net/tun", NULL, "%s; only bridged networks need it",
		       strerror(errno));
}

static void check_programs(struct doctor *d)
{
	static const struct {
		const char *program, *package;
	} table[] = {
	    {"mmdebstrap", "mmdebstrap"}, {"mke2fs", "e2fsprogs"}, {"depmod", "kmod"},
	    {"apt-get", "apt"},           {"dpkg-deb", "dpkg"},    {"tar", "tar"},
	    {"unshare", "util-linux"},
	};
	autostrbuf struct strbuf missing = {0};
	autofree char *advice = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		if (!exec_have(table[i].program))
			strbuf_printf(&missing, " %s", table[i].package);
	}
	if (!missing.len) {
		report(d, FINDING_GOOD, "programs", NULL,
		       "all that images are made with are there");
		return;
	}
	advice = xasprintf("as root: apt-get install%s", missing.data);
	report(d, FINDING_BAD, "programs", advice, "missing, to make images:%s", missing.data);
}

static int doctor_run(void *config, int argc, char **argv, char **command)
{
	struct doctor *d = config;
	struct utsname u;

	ui_init(d->json, false);
	d->checks = json_array();
	uname(&u);
	report(d, FINDING_GOOD, "host", NULL, "%s %s on %s", u.sysname, u.release, u.machine);
	check_cpu(d);
	check_memory(d);
	check_kvm(d);
	check_engine(d);
	check_namespaces(d);
	check_cgroups(d);
	check_tun(d);
	check_disk(d);
	check_programs(d);
	if (d->json) {
		json_t *o = json_pack("{s:b, s:O}", "ready", d->bad == 0, "checks", d->checks);

		json_dumpf(o, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(o);
	} else if (d->bad) {
		printf("\nSomething is missing: see the lines marked !!\n");
	} else {
		printf("\nReady: insula run deb:bookworm\n");
	}
	json_decref(d->checks);
	return d->bad ? EXIT_FAIL : EXIT_OK;
}

const struct cli_command cmd_doctor = {
    .name = "doctor",
    .usage = "",
    .summary = "Show what this host offers, what Insula will use, and how to enable the rest.",
    .options = doctor_options,
    .n_options = ARRAY_SIZE(doctor_options),
    .config_size = sizeof(struct doctor),
    .run = doctor_run,
};
