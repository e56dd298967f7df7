/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/main.c - insula-oci: options that all commands share, and the log that callers read
 */
#include "base/fd.h"
#include "base/log.h"
#include "container/cmd.h"
#include "container/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

static const struct {
	const char *name;
	cmd_fn *fn;
	bool sealed; /* enters a container: from a copy of the program that nobody can write */
	const char *help;
} commands[] = {
    {"create", cmd_create, true, "make a container from a bundle; its process waits"},
    {"start", cmd_start, false, "let the process of a made container go"},
    {"run", cmd_run, true, "create and start, wait for its end, delete"},
    {"exec", cmd_exec, true, "run another program in a container"},
    {"state", cmd_state, false, "print the state as JSON"},
    {"list", cmd_list, false, "list containers"},
    {"ps", cmd_ps, false, "list the processes of a container"},
    {"kill", cmd_kill, false, "send a signal (TERM)"},
    {"delete", cmd_delete, false, "delete a stopped container; --force in any state"},
    {"pause", cmd_pause, false, "freeze all processes"},
    {"resume", cmd_resume, false, "let frozen processes go on"},
    {"update", cmd_update, false, "change limits"},
    {"events", cmd_events, false, "print usage as JSON, regularly"},
    {"spec", cmd_spec, false, "write a config.json to begin with"},
    {"features", cmd_features, false, "print what this runtime can, as JSON"},
    {"checkpoint", cmd_checkpoint, false, "not there"},
    {"restore", cmd_checkpoint, false, "not there"},
};

struct arguments {
	struct container_runtime rt;
	const char *log;
	bool json;
};

static void print_help(void)
{
	puts("Usage: insula-oci [OPTIONS] COMMAND [OPTIONS] [CONTAINER] [ARGUMENTS]\n"
	     "An OCI container runtime (insula-oci(8)).\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		printf("  %-12s %s\n", commands[i].name, commands[i].help);
	puts("\n  --root DIR           where the state of containers is\n"
	     "  --log FILE           write errors there as well\n"
	     "  --log-format FORMAT  text or json\n"
	     "  --systemd-cgroup     let systemd make control groups\n"
	     "  --debug              say more\n"
	     "  --version, --help");
}

/* Both places: callers read the one or the other. */
static void report(const struct arguments *a, const char *message)
{
	autoclose int fd = -1;
	char now[32];
	time_t t = time(NULL);
	struct tm tm;
	json_t *o;
	char *line;

	log_error("%s", message);
	if (!a->log)
		return;
	fd = open(a->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	gmtime_r(&t, &tm);
	strftime(now, sizeof(now), "%Y-%m-%dT%H:%M:%SZ", &tm);
	if (fd < 0)
		return;
	if (!a->json) {
		dprintf(fd, "time=\"%s\" level=error msg=\"%s\"\n", now, message);
		return;
	}
	o = json_pack("{s:s, s:s%, s:s}", "level", "error", "msg", message, strlen(message), "time",
		      now);
	line = o ? json_dumps(o, JSON_COMPACT) : NULL;
	dprintf(fd, "%s\n", line ? line : "{\"level\":\"error\",\"msg\":\"failed\"}");
	free(line);
	json_decref(o);
}

int cmd_option(int argc, char **argv, const struct option *list, struct err *e)
{
	char letters[64] = "+:";
	size_t n = 2;
	int c, at = MAX(optind, 1);

	/* One-letter options are those that a long one has a letter for. */
	for (const struct option *o = list; o->name && n + 3 < sizeof(letters); o++) {
		if (o->val >= 256)
			continue;
		letters[n++] = (char)o->val;
		if (o->has_arg)
			letters[n++] = ':';
	}
	c = getopt_long(argc, argv, letters, list, NULL);
	if (c == '?' || c == ':') {
		err_msg(e, -EINVAL, "%s: %s", argv[MIN(at, argc - 1)],
			c == ':' ? "a value is missing" : "unknown option");
		return '?';
	}
	return c;
}

const char *cmd_id(int argc, char **argv, struct err *e)
{
	if (argc - optind == 1)
		return argv[optind];
	err_msg(e, -EINVAL, "%s: %s", argv[0],
		argc == optind ? "the container's name is missing" : "too many arguments");
	return NULL;
}

int cmd_number(const char *name, const char *text, int64_t min, int64_t max, int64_t *ret,
	       struct err *e)
{
	char *end;
	long long n;

	errno = 0;
	n = strtoll(text, &end, 10);
	if (errno || end == text || *end || n < min || n > max)
		return err_msg(e, -EINVAL, "%s: '%s' is no number from %" PRId64 " to %" PRId64,
			       name, text, min, max);
	*ret = n;
	return 0;
}

int cmd_read(const char *path, struct strbuf *ret, struct err *e)
{
	int r = read_file(strcmp(path, "-") == 0 ? "/dev/stdin" : path, SPEC_MAX_TEXT, ret);

	return r < 0 ? err_set(e, r, "read %s", path) : 0;
}

enum { OPT_ROOT = 256, OPT_LOG, OPT_FORMAT, OPT_SYSTEMD, OPT_MANAGER, OPT_DEBUG, OPT_IGNORED };

static const struct option options[] = {
    {"root", required_argument, NULL, OPT_ROOT},
    {"log", required_argument, NULL, OPT_LOG},
    {"log-format", required_argument, NULL, OPT_FORMAT},
    {"systemd-cgroup", no_argument, NULL, OPT_SYSTEMD},
    {"cgroup-manager", required_argument, NULL, OPT_MANAGER},
    {"debug", no_argument, NULL, OPT_DEBUG},
    {"rootless", required_argument, NULL, OPT_IGNORED},
    {"criu", required_argument, NULL, OPT_IGNORED},
    {"version", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static int apply(int c, struct arguments *a, struct err *e)
{
	switch (c) {
	case OPT_ROOT:
		a->rt.root = optarg;
		return 0;
	case OPT_LOG:
		a->log = optarg;
		return 0;
	case OPT_FORMAT:
		a->json = strcmp(optarg, "json") == 0;
		return a->json || strcmp(optarg, "text") == 0
			   ? 0
			   : err_msg(e, -EINVAL, "--log-format: '%s' is neither text nor json",
				     optarg);
	case OPT_SYSTEMD:
		a->rt.systemd_cgroup = true;
		return 0;
	case OPT_MANAGER:
		a->rt.systemd_cgroup = strcmp(optarg, "systemd") == 0;
		return 0;
	case OPT_DEBUG:
		log_init("insula-oci", LOG_DEBUG);
		return 0;
	case OPT_IGNORED:
		return 0;
	default:
		return -EINVAL;
	}
}

static char *default_root(void)
{
	const char *dir = getenv("XDG_RUNTIME_DIR");

	return geteuid() != 0 && dir ? xasprintf("%s/insula-oci", dir) : xstrdup("/run/insula-oci");
}

static int run_command(struct arguments *a, int argc, char **argv, char **whole, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(argv[0], commands[i].name) != 0)
			continue;
		if (commands[i].sealed && proc_run_sealed(whole, e) < 0)
			return -1;
		optind = 1;
		return commands[i].fn(&a->rt, argc, argv, e);
	}
	err_msg(e, -EINVAL, "unknown command '%s' (see --help)", argv[0]);
	return -1;
}

int main(int argc, char **argv)
{
	autofree char *root = default_root();
	struct arguments a = {.rt = {.root = root}};
	struct err e = {0};
	int c, status = -1;

	log_init("insula-oci", LOG_WARN);
	signal(SIGPIPE, SIG_IGN);
	opterr = 0;
	while ((c = cmd_option(argc, argv, options, &e)) != -1) {
		if (c == 'v') {
			puts("insula-oci version " INSULA_VERSION "\nspec: " SPEC_VERSION);
			return 0;
		}
		if (c == 'h') {
			print_help();
			return 0;
		}
		if (apply(c, &a, &e) < 0)
			goto out;
	}
	if (optind < argc)
		status = run_command(&a, argc - optind, argv + optind, argv, &e);
	else
		err_msg(&e, -EINVAL, "a command is missing (see --help)");
out:
	if (status < 0)
		report(&a, e.msg);
	return status < 0 ? (e.exit_code ? e.exit_code : 1) : status;
}
