/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/cli/test_options.c - the parser of options, sizes, and the values of `insula run`
 */
#include "cli/cli.h"
#include "cli/run.h"
#include "test.h"

#include <errno.h>

struct config {
	bool flag;
	char value[32];
};

static int set_flag(void *config, const char *value, struct err *e)
{
	CHECK(!value);
	((struct config *)config)->flag = true;
	return 0;
}

static int set_value(void *config, const char *value, struct err *e)
{
	if (strcmp(value, "bad") == 0)
		return err_msg(e, -EINVAL, "no good");
	snprintf(((struct config *)config)->value, 32, "%s", value);
	return 0;
}

static const struct cli_option options[] = {
    {"flag", NULL, NULL, "", set_flag},
    {"value", "TEXT", NULL, "", set_value},
};
static const struct cli_command command = {
    .name = "test", .options = options, .n_options = ARRAY_SIZE(options)};
const struct cli_command *const cli_commands[] = {&command, NULL};

struct parsed {
	struct config cfg;
	char *argv[16], *words[16];
	int n;
	char **rest;
	bool help;
	struct err e;
};

static int parse(struct parsed *p, char **argv)
{
	int argc = 0;

	memset(p, 0, sizeof(*p));
	/* What is found points into it, and must outlive the caller's list. */
	for (; argv[argc]; argc++)
		p->argv[argc] = argv[argc];
	return cli_parse(&command, argc, p->argv, &p->cfg, p->words, &p->n, &p->rest, &p->help,
			 &p->e);
}

#define ARGS(...)                                                                                  \
	(char **)(uintptr_t)(const char *const[])                                                  \
	{                                                                                          \
		__VA_ARGS__, NULL                                                                  \
	}

static void words_and_options(void)
{
	struct parsed p;

	CHECK_EQ(parse(&p, ARGS("a", "--value=x", "--flag", "b", "--", "--flag", "c")), 0);
	CHECK(p.cfg.flag);
	CHECK_STR(p.cfg.value, "x");
	CHECK_EQ(p.n, 2);
	CHECK_STR(p.words[1], "b");
	CHECK_STR(p.rest[0], "--flag");
	CHECK_STR(p.rest[1], "c");
	CHECK_EQ(parse(&p, ARGS("--value", "--flag")), 0);
	CHECK_STR(p.cfg.value, "--flag");
	CHECK(!p.rest);
	CHECK_EQ(parse(&p, ARGS("--value=", "-", "--help")), 0);
	CHECK_STR(p.cfg.value, "");
	CHECK(p.help);
	CHECK_STR(p.words[0], "-");
}

static void mistakes(void)
{
	struct parsed p;

	CHECK(parse(&p, ARGS("--flga")) < 0);
	CHECK(strstr(p.e.msg, "--flag"));
	CHECK_EQ(p.e.exit_code, EXIT_USAGE);
	CHECK(parse(&p, ARGS("--nothing-like-it")) < 0);
	CHECK(parse(&p, ARGS("-x")) < 0);
	CHECK(parse(&p, ARGS("--flag=1")) < 0);
	CHECK(parse(&p, ARGS("--value")) < 0);
	CHECK(parse(&p, ARGS("--value", "bad")) < 0);
	CHECK_STR(p.e.msg, "--value: no good");
	CHECK_EQ(p.e.exit_code, EXIT_USAGE);
	CHECK(parse(&p, ARGS("--")) == 0 && p.rest && !p.rest[0]);
}

static void size(const char *text, uint64_t want)
{
	uint64_t n = 0;

	CHECK_EQ(cli_parse_size(text, &n, NULL), 0);
	CHECK_EQ(n, want);
}

static void sizes(void)
{
	uint64_t n;

	size("512M", UINT64_C(512) << 20);
	size("2G", UINT64_C(2) << 30);
	size("2GiB", UINT64_C(2) << 30);
	size("1k", 1024);
	size("4096", 4096);
	CHECK(cli_parse_size("", &n, NULL) < 0);
	CHECK(cli_parse_size("M", &n, NULL) < 0);
	CHECK(cli_parse_size("-1M", &n, NULL) < 0);
	CHECK(cli_parse_size("1X", &n, NULL) < 0);
	CHECK(cli_parse_size("1MM", &n, NULL) < 0);
	CHECK(cli_parse_size("99999999999T", &n, NULL) < 0);
	CHECK(cli_parse_size("99999999999999999999999", &n, NULL) < 0);
}

static void publish(const char *text, const char *address, unsigned int host, unsigned int guest,
		    bool udp)
{
	struct run_config c = {0};

	CHECK_EQ(run_set_publish(&c, text, NULL), 0);
	CHECK_EQ(c.m.n_publish, 1);
	CHECK_STR(c.m.publish[0].address, address);
	CHECK_EQ(c.m.publish[0].host, host);
	CHECK_EQ(c.m.publish[0].guest, guest);
	CHECK_EQ(c.m.publish[0].udp, udp);
	free(c.m.publish[0].address);
}

static void run_values(void)
{
	static const char *const bad_ports[] = {
	    "80", "80:", ":80", "0:80", "80:65536", "x:80", "80:80/x", "h:80:80", "1.2.3:80:80"};
	static const char *const bad_names[] = {"", "-a", "a/b", "..", "a b"};
	struct run_config c = {0};

	publish("8080:80", "127.0.0.1", 8080, 80, false);
	publish("0.0.0.0:53:5353/udp", "0.0.0.0", 53, 5353, true);
	publish("::1:80:81/tcp", "::1", 80, 81, false);
	for (size_t i = 0; i < ARRAY_SIZE(bad_ports); i++) {
		CHECK(run_set_publish(&c, bad_ports[i], NULL) < 0);
		CHECK_EQ(c.m.n_publish, 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad_names); i++)
		CHECK(run_set_name(&c, bad_names[i], NULL) < 0);
	CHECK_EQ(run_set_cpus(&c, "64", NULL), 0);
	CHECK(run_set_cpus(&c, "65", NULL) < 0);
	CHECK(run_set_cpus(&c, "0", NULL) < 0);
	CHECK(run_set_cpus(&c, "2x", NULL) < 0);
	CHECK(run_set_share(&c, "/tmp", NULL) < 0);
	CHECK(run_set_share(&c, "/tmp:relative", NULL) < 0);
	CHECK(run_set_share(&c, "/dev/null:/x", NULL) < 0);
	CHECK(run_set_share(&c, "/tmp:/x:rx", NULL) < 0);
	CHECK_EQ(run_set_share(&c, "/:/x:ro", NULL), 0);
	CHECK_STR(c.m.shares[0].host, "/");
	CHECK(c.m.shares[0].read_only);
	free(c.m.shares[0].host);
	free(c.m.shares[0].guest);
	CHECK(run_set_env(&c, "=x", NULL) < 0);
	CHECK_EQ(run_set_env(&c, "A=b=c", NULL), 0);
	CHECK_STR(c.env[0], "A=b=c");
	free(c.env[0]);
}

int main(void)
{
	words_and_options();
	mistakes();
	sizes();
	run_values();
	return 0;
}
