/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/cmd_exec.c - insula exec, console, cp: into a machine of insulad's
 */
#include "base/dirs.h"
#include "base/exit.h"
#include "base/fd.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/loose.h"
#include "cli/machine.h"
#include "cli/run.h"
#include "cli/ui.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* A session with the agent over streams of the API; a guest that boots is waited for. */
static int dial(const struct vm *vm, struct err *e)
{
	return client_stream(vm->agent_path, e);
}

static int run_session(struct run_config *run, const char *name, char **command, bool tty)
{
	autofree char *path = client_machine_path(name, "/agent");
	struct session_config session = {.run = run, .argv = command, .agent = true, .tty = tty};
	struct vm vm = {.ready = -1,
			.parent = -1,
			.errors = -1,
			.console = -1,
			.control = -1,
			.dial = dial,
			.agent_path = path,
			.remote = true};
	int status;

	vm.vsock = loose_vsock(name); /* one that insulad does not keep */
	if (vm.vsock)
		vm.dial = NULL;
	status = session_run(&session, &vm);
	free(vm.vsock);
	return status;
}

/* --- exec --- */

#define SET_FLAG(member)                                                                           \
	static int set_##member(void *config, const char *value, struct err *e)                    \
	{                                                                                          \
		((struct run_config *)config)->member = true;                                      \
		return 0;                                                                          \
	}
SET_FLAG(json)
SET_FLAG(tty)
SET_FLAG(no_tty)

static int set_workdir(void *config, const char *value, struct err *e)
{
	struct run_config *cfg = config;

	free(cfg->workdir);
	cfg->workdir = xstrdup(value);
	return 0;
}

static const struct cli_option exec_options[] = {
    {"env", "NAME[=VALUE]", NULL,
     "set a variable for the command; without VALUE pass ours on; repeatable", run_set_env},
    {"workdir", "DIR", NULL, "directory to run the command in (default /root)", set_workdir},
    {"tty", NULL, NULL, "give the command a terminal even if ours is not one", set_tty},
    {"no-tty", NULL, NULL, "give the command pipes even on a terminal", set_no_tty},
    {"json", NULL, NULL, "tell events as JSON lines on standard error", set_json},
};

static void exec_fini(void *config)
{
	struct run_config *cfg = config;

	free(cfg->workdir);
	for (size_t i = 0; i < cfg->n_env; i++)
		free(cfg->env[i]);
}

static int exec_run(void *config, int argc, char **argv, char **command)
{
	struct run_config *cfg = config;
	bool tty = !command || !command[0] || (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO));

	if (argc == 0)
		return ui_error(EXIT_USAGE, "insula exec NAME -- COMMAND...: which machine?");
	if (argc > 1)
		return ui_error(EXIT_USAGE,
				"what is '%s'? A command follows '--': insula exec %s -- %s...",
				argv[1], argv[0], argv[1]);
	return run_session(cfg, argv[0], command, (tty || cfg->tty) && !cfg->no_tty);
}

const struct cli_command cmd_exec = {
    .name = "exec",
    .usage = "NAME [-- COMMAND...]",
    .summary = "Run a command, or a shell, in a machine that runs.",
    .more = "As `insula run` does: its streams are ours, its exit status too. A guest that is "
	    "still booting is waited for. The machine must be made from an image, whose agent runs "
	    "the command.",
    .words = MACHINE_WORDS,
    .options = exec_options,
    .n_options = ARRAY_SIZE(exec_options),
    .config_size = sizeof(struct run_config),
    .fini = exec_fini,
    .run = exec_run,
};

/* --- console --- */

static int console_run(void *config, int argc, char **argv, char **command)
{
	struct run_config *cfg = config;
	struct session_config session = {.run = cfg};
	struct vm vm = {.ready = -1, .parent = -1, .errors = -1, .control = -1, .remote = true};
	autofree char *path = NULL;
	struct err e = {0};
	int status = machine_need_words("console", argc, 1, "NAME");

	if (status != EXIT_OK)
		return status;
	path = client_machine_path(argv[0], "/console");
	vm.console = client_stream(path, &e);
	if (vm.console < 0)
		return ui_fail(&e, EXIT_FAIL);
	if (isatty(STDIN_FILENO))
		ui_note("the console of '%s'; Ctrl-] leaves it", argv[0]);
	status = session_run(&session, &vm);
	close_p(&vm.console);
	return status;
}

static const struct cli_option console_options[] = {
    {"json", NULL, NULL, "tell errors as JSON", set_json},
};

const struct cli_command cmd_console = {
    .name = "console",
    .usage = "NAME",
    .summary = "Use the serial console of a machine that runs.",
    .more = "Ctrl-] leaves it; the machine goes on. One at a time. `insula logs` shows what it "
	    "said before.",
    .words = MACHINE_WORDS,
    .options = console_options,
    .n_options = ARRAY_SIZE(console_options),
    .config_size = sizeof(struct run_config),
    .run = console_run,
};

/* --- cp --- */

/* "NAME:PATH": *@path; NULL when @word is a path of the host: one with a slash before the colon. */
static char *split_remote(char *word, char **path)
{
	char *colon = strchr(word, ':'), *slash = strchr(word, '/');

	if (!colon || colon == word || (slash && slash < colon))
		return NULL;
	*colon = '\0';
	*path = colon + 1;
	return word;
}

/* tar on the host, its standard input or output at @fd. */
static pid_t spawn_tar(const char *const argv[], int fd, int as, int other)
{
	pid_t pid = fork();

	if (pid == 0) {
		signal(SIGPIPE, SIG_DFL);
		dup2(fd, as);
		close(fd);
		close(other);
		execvp("tar", (char *const *)argv);
		dprintf(STDERR_FILENO, "insula: error: tar: %s\n", strerror(errno));
		_exit(127);
	}
	return pid;
}

static bool ended_well(pid_t pid)
{
	int status = 0;

	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	       WEXITSTATUS(status) == 0;
}

/* "a/b/" -> "a" and "b"; the directory may be "". */
static void split_path(const char *path, char **dir, char **base)
{
	autofree char *copy = xstrdup(path);
	size_t n = strlen(copy);
	char *slash;

	while (n > 1 && copy[n - 1] == '/')
		copy[--n] = '\0';
	slash = strrchr(copy, '/');
	*base = xstrdup(slash && slash[1] ? slash + 1 : copy);
	if (slash)
		slash[slash == copy ? 1 : 0] = '\0';
	*dir = xstrdup(slash ? copy : ".");
}

/* In the guest: $1 is where to, $2 the source's last part.  An existing directory takes the source
 * in; else the source gets that name. */
static const char receive_script[] =
    "if [ -d \"$1\" ]; then exec tar -C \"$1\" -xf -; fi; "
    "case $1 in */) mkdir -p \"$1\" && exec tar -C \"$1\" -xf - ;; esac; "
    "d=$(dirname \"$1\") && t=$(mktemp -d \"$d/.insula-cp-XXXXXX\") && "
    "tar -C \"$t\" -xf - && mv -T \"$t/$2\" \"$1\"; r=$?; rm -rf \"$t\"; exit $r";

/* In the guest: of $2 in $1; a link that was named is followed, as cp does. */
static const char send_script[] =
    "cd \"$1\" && if [ -L \"$2\" ]; then exec tar -chf - -- \"$2\"; fi; exec tar -cf - -- \"$2\"";

static bool is_link(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
}

static int copy_in(struct run_config *cfg, const char *source, const char *name, char *path)
{
	autofree char *dir = NULL, *base = NULL;
	int ends[2], status;
	pid_t pid;

	if (access(source, R_OK) < 0)
		return ui_error(EXIT_FAIL, "%s: %s", source, strerror(errno));
	split_path(source, &dir, &base);
	if (pipe2(ends, O_CLOEXEC) < 0)
		return ui_error(EXIT_FAIL, "pipe: %s", strerror(errno));
	const char *tar[] = {"tar", "-C", dir,  is_link(source) ? "-chf" : "-cf",
			     "-",   "--", base, NULL};
	const char *command[] = {"sh", "-c", receive_script, "sh", path[0] ? path : "/root/",
				 base, NULL};
	pid = spawn_tar(tar, ends[1], STDOUT_FILENO, ends[0]);
	close(ends[1]);
	dup2(ends[0], STDIN_FILENO);
	close(ends[0]);
	status = run_session(cfg, name, (char **)command, false);
	close(STDIN_FILENO);
	if (!ended_well(pid) && status == EXIT_OK)
		status = EXIT_FAIL;
	return status;
}

/* What comes from the guest is hostile: tar gets a directory of its own, strips what leads out,
 * and only one name is taken from there. */
static int unpack(struct run_config *cfg, const char *name, char **command, char *to,
		  const char *wanted)
{
	struct stat st;
	bool into = stat(to, &st) == 0 && S_ISDIR(st.st_mode);
	autofree char *dir = NULL, *base = NULL, *temp = NULL, *from = NULL, *final = NULL;
	int ends[2], saved, status;
	pid_t pid;

	split_path(to, &dir, &base);
	temp = xasprintf("%s/.insula-cp-XXXXXX", into ? to : dir);
	if (!mkdtemp(temp) || pipe2(ends, O_CLOEXEC) < 0)
		return ui_error(EXIT_FAIL, "%s: %s", into ? to : dir, strerror(errno));
	const char *tar[] = {"tar", "-C", temp, "--no-same-owner", "-xf", "-", NULL};
	pid = spawn_tar(tar, ends[0], STDIN_FILENO, ends[1]);
	close(ends[0]);
	saved = dup(STDOUT_FILENO);
	dup2(ends[1], STDOUT_FILENO);
	close(ends[1]);
	status = run_session(cfg, name, command, false);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	from = xasprintf("%s/%s", temp, wanted);
	final = into ? xasprintf("%s/%s", to, wanted) : xstrdup(to);
	if (!ended_well(pid) && status == EXIT_OK)
		status = EXIT_FAIL;
	if (status == EXIT_OK && rename(from, final) < 0)
		status = ui_error(EXIT_FAIL, "%s: %s", final, strerror(errno));
	dirs_remove(temp);
	return status;
}

static int copy_out(struct run_config *cfg, const char *name, char *path, char *to)
{
	autofree char *dir = NULL, *base = NULL;

	split_path(path, &dir, &base);
	if (strcmp(base, "/") == 0 || strcmp(base, ".") == 0 || strcmp(base, "..") == 0)
		return ui_error(EXIT_USAGE, "'%s': name a file or directory", path);
	const char *command[] = {"sh", "-c", send_script, "sh", dir, base, NULL};

	return unpack(cfg, name, (char **)command, to, base);
}

static int cp_run(void *config, int argc, char **argv, char **command)
{
	struct run_config *cfg = config;
	char *from_path = NULL, *to_path = NULL, *from, *to;
	int status = machine_need_words("cp", argc, 2, "SOURCE NAME:PATH | NAME:PATH TARGET");

	if (status != EXIT_OK)
		return status;
	from = split_remote(argv[0], &from_path);
	to = split_remote(argv[1], &to_path);
	if (!from == !to)
		return ui_error(EXIT_USAGE,
				"one of the two is NAME:PATH in a machine, the other a path here");
	return from ? copy_out(cfg, from, from_path, argv[1]) : copy_in(cfg, argv[0], to, to_path);
}

const struct cli_command cmd_cp = {
    .name = "cp",
    .usage = "SOURCE NAME:PATH | NAME:PATH TARGET",
    .summary = "Copy a file or directory into a machine that runs, or out of it.",
    .more = "A directory that is there takes the source in; any other name is what the copy will "
	    "be called. Needs tar in the guest.",
    .words = MACHINE_WORDS,
    .options = console_options,
    .n_options = ARRAY_SIZE(console_options),
    .config_size = sizeof(struct run_config),
    .run = cp_run,
};
