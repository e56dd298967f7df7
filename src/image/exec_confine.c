/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image/exec_confine.c - walls around a program that reads what somebody else made
 */
#include "image/exec_priv.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define MEMORY_MAX (UINT64_C(4) << 30)
#define FILES_MAX  64

#define FS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FS_RUN  (FS_READ | LANDLOCK_ACCESS_FS_EXECUTE)
#define FS_WRITE                                                                                   \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_FILE |                          \
	 LANDLOCK_ACCESS_FS_MAKE_REG)
#define FS_OTHER                                                                                   \
	(LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_MAKE_CHAR |                            \
	 LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_SOCK |                              \
	 LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |                            \
	 LANDLOCK_ACCESS_FS_MAKE_SYM)

static void allow(int ruleset, const char *path, uint64_t access)
{
	autoclose int fd = open(path, O_PATH | O_CLOEXEC);
	struct landlock_path_beneath_attr attr = {.allowed_access = access, .parent_fd = fd};

	if (fd >= 0)
		(void)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &attr, 0);
}

/* A kernel without Landlock leaves the program as free as its user; the limits hold anyway. */
static void landlock(const struct exec *x)
{
	static const char *const programs[] = {"/usr", "/lib", "/lib64", "/bin"};
	struct landlock_ruleset_attr attr = {.handled_access_fs = FS_RUN | FS_WRITE | FS_OTHER};
	autoclose int ruleset =
	    (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr.handled_access_fs), 0);

	if (ruleset < 0)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(programs); i++)
		allow(ruleset, programs[i], FS_RUN);
	allow(ruleset, "/etc/ld.so.cache", LANDLOCK_ACCESS_FS_READ_FILE);
	allow(ruleset, "/dev/urandom", LANDLOCK_ACCESS_FS_READ_FILE);
	allow(ruleset, "/dev/null", LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE);
	allow(ruleset, x->read_dir, FS_READ);
	allow(ruleset, x->write_dir, FS_READ | FS_WRITE);
	(void)syscall(SYS_landlock_restrict_self, ruleset, 0);
}

void exec_confine(const struct exec *x)
{
	const struct rlimit none = {0, 0}, memory = {MEMORY_MAX, MEMORY_MAX},
			    files = {FILES_MAX, FILES_MAX};

	setrlimit(RLIMIT_CORE, &none);
	setrlimit(RLIMIT_AS, &memory);
	setrlimit(RLIMIT_NOFILE, &files);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	landlock(x);
}
