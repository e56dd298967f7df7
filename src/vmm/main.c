/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/main.c - insula-vmm: options and the description
 */
#include "base/exit.h"
#include "base/fd.h"
#include "base/log.h"
#include "model/vm_desc.h"
#include "vmm/probe.h"
#include "vmm/vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <sys/resource.h>

static const char usage[] =
    "Usage: insula-vmm --description FILE|- [OPTIONS]\n"
    "Runs one virtual machine as its JSON description says (docs/vmm.md).\n"
    "\n"
    "  -d, --description FILE  the machine description, - for standard input\n"
    "      --fd N              read it from descriptor N\n"
    "      --ready-fd N        write \"ready\" there when the machine is about to run\n"
    "      --parent-fd N       stop the machine when the other end of this pipe closes\n"
    "      --restore FILE      go on from this snapshot instead of starting the guest\n"
    "      --exit-fd N         write there how it ended: STATUS REASON WORDS\n"
    "  -v, --verbose           say which engine runs and why, and statistics at the end\n"
    "      --probe             print which engine \"auto\" is here, as JSON\n"
    "      --debug             also what the parts say to themselves\n"
    "  -h, --help              this text\n"
    "      --version           the version\n";

enum {
	OPT_FD = 256,
	OPT_READY_FD,
	OPT_PARENT_FD,
	OPT_EXIT_FD,
	OPT_VERSION,
	OPT_DEBUG,
	OPT_PROBE,
	OPT_RESTORE
};

static const struct option options[] = {
    {"description", required_argument, NULL, 'd'},
    {"fd", required_argument, NULL, OPT_FD},
    {"ready-fd", required_argument, NULL, OPT_READY_FD},
    {"parent-fd", required_argument, NULL, OPT_PARENT_FD},
    {"restore", required_argument, NULL, OPT_RESTORE},
    {"exit-fd", required_argument, NULL, OPT_EXIT_FD},
    {"verbose", no_argument, NULL, 'v'},
    {"debug", no_argument, NULL, OPT_DEBUG},
    {"probe", no_argument, NULL, OPT_PROBE},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, OPT_VERSION},
    {0},
};

struct arguments {
	const char *description;
	int fd;
	struct vmm_options vmm;
	enum log_level level;
};

static int parse_fd(const char *name, const char *text)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(text, &end, 10);
	if (errno || end == text || *end || n < 0 || n > INT_MAX || fcntl((int)n, F_GETFD) < 0) {
		log_error("%s: '%s' is not an open descriptor", name, text);
		return -1;
	}
	return (int)n;
}

static int run_probe(void)
{
	struct err e = {0};

	if (probe_print(&e) == 0)
		return EXIT_OK;
	log_error("%s", e.msg);
	return e.exit_code ? e.exit_code : EXIT_NO_ENGINE;
}

/* -1 = go on, else the status to exit with. */
static int parse_arguments(int argc, char **argv, struct arguments *a)
{
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":d:vh", options, NULL)) != -1) {
		switch (c) {
		case 'd':
			a->description = optarg;
			break;
		case OPT_FD:
			if ((a->fd = parse_fd("--fd", optarg)) < 0)
				return EXIT_USAGE;
			break;
		case OPT_READY_FD:
			if ((a->vmm.ready_fd = parse_fd("--ready-fd", optarg)) < 0)
				return EXIT_USAGE;
			break;
		case OPT_PARENT_FD:
			if ((a->vmm.parent_fd = parse_fd("--parent-fd", optarg)) < 0)
				return EXIT_USAGE;
			break;
		case OPT_RESTORE:
			a->vmm.restore = optarg;
			break;
		case OPT_EXIT_FD:
			if ((a->vmm.exit_fd = parse_fd("--exit-fd", optarg)) < 0)
				return EXIT_USAGE;
			break;
		case 'v':
			if (a->level < LOG_INFO)
				a->level = LOG_INFO;
			a->vmm.verbose = true;
			break;
		case OPT_DEBUG:
			a->level = LOG_DEBUG;
			break;
		case 'h':
			fputs(usage, stdout);
			return EXIT_OK;
		case OPT_PROBE:
			return run_probe();
		case OPT_VERSION:
			puts("insula-vmm " INSULA_VERSION);
			return EXIT_OK;
		case ':':
			log_error("%s: a value is missing", argv[optind - 1]);
			return EXIT_USAGE;
		default:
			log_error("%s: unknown option", argv[optind - 1]);
			return EXIT_USAGE;
		}
	}
	if (optind < argc) {
		log_error("%s: unexpected argument", argv[optind]);
		return EXIT_USAGE;
	}
	if (!a->description && a->fd < 0) {
		log_error("--description is missing (see --help)");
		return EXIT_USAGE;
	}
	return -1;
}

static int read_description(const struct arguments *a, struct strbuf *text, struct err *e)
{
	int fd = a->fd >= 0 ? a->fd : strcmp(a->description, "-") == 0 ? STDIN_FILENO : -1;

	if (fd < 0) {
		int r = read_file(a->description, VM_DESC_MAX_TEXT, text);

		return r < 0 ? err_set(e, r, "read %s", a->description) : 0;
	}
	for (;;) {
		char buf[4096];
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(e, -errno, "read the description");
		if (n == 0)
			return 0;
		if (text->len + (size_t)n > VM_DESC_MAX_TEXT)
			return err_set(e, -EFBIG, "read the description");
		strbuf_add(text, buf, (size_t)n);
	}
}

/* Forks get their files through us, a handful each. */
static void raise_file_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
		l.rlim_cur = l.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &l);
	}
}

int main(int argc, char **argv)
{
	struct arguments a = {
	    .fd = -1,
	    .vmm = {.ready_fd = -1, .parent_fd = -1, .exit_fd = -1},
	    .level = LOG_WARN,
	};
	autostrbuf struct strbuf text = {0};
	struct vm_desc desc = {0};
	struct err e = {0};
	int r;

	log_init("insula-vmm", LOG_WARN);
	raise_file_limit();
	r = parse_arguments(argc, argv, &a);
	if (r >= 0)
		return r;
	log_init("insula-vmm", a.level);
	r = read_description(&a, &text, &e);
	if (r == 0)
		r = vm_desc_parse(text.data ? text.data : "", text.len, &desc, &e);
	if (r < 0) {
		log_error("%s", e.msg);
		return e.exit_code ? e.exit_code : EXIT_USAGE;
	}
	r = vmm_run(&desc, &a.vmm);
	vm_desc_fini(&desc);
	return r;
}
