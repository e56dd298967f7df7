/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/sandbox.c - the walls around insula-vmm: privileges, limits, Landlock
 *
 * Assume that the guest has taken over a device of ours.  What is left for it: the descriptors that
 * are open, the shares, the sockets of vsock, and the calls that seccomp.c lists.
 */
#include "vmm/sandbox.h"

#include "base/log.h"
#include "vmm/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

int sandbox_enter(bool *jail, struct err *e)
{
	const struct rlimit none = {0, 0};

	*jail = jail_prepare(); /* first: who is not dumpable may not map ids */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_set(e, -errno, "sandbox: no new privileges");
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_set(e, -errno, "sandbox: not dumpable");
	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return err_set(e, -errno, "sandbox: no core files");
	return 0;
}

/* --- Landlock --- */

#define FS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FS_WRITE                                                                                   \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |                           \
	 LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |                           \
	 LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |                               \
	 LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |                             \
	 LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)
#define FS_ALL_V1 (FS_READ | FS_WRITE | LANDLOCK_ACCESS_FS_EXECUTE)
#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13)
#endif
#define ACCESS_FS_TRUNCATE  (1ULL << 14) /* ABI 3 */
#define ACCESS_FS_IOCTL_DEV (1ULL << 15) /* ABI 5 */
#define SCOPE_ABSTRACT_UNIX (1ULL << 0)  /* ABI 6 */

/* struct landlock_ruleset_attr of ABI 6; older kernels get the first member only. */
struct ruleset_attr {
	uint64_t fs, net, scoped;
};

struct landlock {
	int ruleset;
	uint64_t handled;
};

/* A path that is not there needs no rule. */
static int allow(const struct landlock *l, const char *path, uint64_t access, struct err *e)
{
	autoclose int fd = open(path, O_PATH | O_CLOEXEC);
	struct landlock_path_beneath_attr attr = {.allowed_access = access & l->handled,
						  .parent_fd = fd};

	if (fd < 0)
		return 0;
	if (syscall(SYS_landlock_add_rule, l->ruleset, LANDLOCK_RULE_PATH_BENEATH, &attr, 0) < 0)
		return err_set(e, -errno, "sandbox: allow %s", path);
	return 0;
}

/* The directory of a socket of ours: it is removed at the end. */
static int allow_dir_of(const struct landlock *l, const char *path, struct err *e)
{
	autofree char *copy = path ? xstrdup(path) : NULL;

	return path ? allow(l, dirname(copy), LANDLOCK_ACCESS_FS_REMOVE_FILE, e) : 0;
}

const char *const *sandbox_resolver_files(void)
{
	/* resolv.conf may be a link into the others; some programs replace it. */
	static const char *const dirs[] = {"/etc", "/run/systemd/resolve", "/run/resolvconf", NULL};
	static const char *const file[] = {"/etc/resolv.conf", NULL};

	return geteuid() == 0 ? file : dirs;
}

static int add_rules(const struct landlock *l, const struct vm_desc *d, struct err *e)
{
	const char *const *files = sandbox_resolver_files();
	int r = 0;

	for (size_t i = 0; files[i] && r == 0; i++)
		r = allow(l, files[i], LANDLOCK_ACCESS_FS_READ_FILE, e);
	for (size_t i = 0; i < d->n_shares && r == 0; i++)
		r = allow(l, d->shares[i].path,
			  FS_READ | (d->shares[i].read_only ? 0
							    : FS_WRITE | LANDLOCK_ACCESS_FS_REFER |
								  ACCESS_FS_TRUNCATE),
			  e);
	if (r == 0)
		r = allow_dir_of(l, d->control, e);
	if (r == 0)
		r = allow_dir_of(l, d->vsock_socket, e);
	if (r == 0 && d->display.vnc && strncmp(d->display.vnc, "unix:", 5) == 0)
		r = allow_dir_of(l, d->display.vnc + 5, e);
	if (r == 0 && d->serial.type == VM_CHARDEV_SOCKET)
		r = allow_dir_of(l, d->serial.path, e);
	if (r == 0 && d->console.type == VM_CHARDEV_SOCKET)
		r = allow_dir_of(l, d->console.path, e);
	return r;
}

/* The ruleset's descriptor, -1 if this kernel has no Landlock. */
static int make_ruleset(const struct vm_desc *d, int *ret, struct err *e)
{
	struct landlock l = {.handled = FS_ALL_V1};
	struct ruleset_attr attr = {0};
	long abi;
	int r;

	abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	if (abi < 1) {
		log_info("sandbox: this kernel has no Landlock");
		return 0;
	}
	if (abi >= 2)
		l.handled |= LANDLOCK_ACCESS_FS_REFER;
	if (abi >= 3)
		l.handled |= ACCESS_FS_TRUNCATE;
	if (abi >= 5)
		l.handled |= ACCESS_FS_IOCTL_DEV;
	attr.fs = l.handled;
	attr.scoped = SCOPE_ABSTRACT_UNIX;
	l.ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr,
				 abi >= 6 ? sizeof(attr) : sizeof(attr.fs), 0);
	if (l.ruleset < 0)
		return err_set(e, -errno, "sandbox: Landlock");
	r = add_rules(&l, d, e);
	if (r < 0)
		close(l.ruleset);
	else
		*ret = l.ruleset;
	return r;
}

/* The order: rules need the host's paths, the other threads /proc, and Landlock forbids mounting.
 */
int sandbox_opened(const struct vm_desc *d, bool jail, struct err *e)
{
	autoclose int ruleset = -1;
	int r = make_ruleset(d, &ruleset, e);

	if (r == 0)
		r = sandbox_other_threads(ruleset, e);
	if (r == 0 && jail)
		r = jail_enter(d, e);
	return r < 0 ? r : sandbox_this_thread(ruleset, e);
}
