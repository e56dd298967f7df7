/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/jail.c - a file system of our own for insula-vmm: what it may still reach, and nothing else
 *
 * Landlock cannot forbid connecting to a unix socket by its path, and a service manager or
 * container engine listening on one does whatever its user asks.  Here such sockets do not exist.
 * Shares need no place: virtio/tree.c holds each as a detached mount of its own, from which no
 * ".." leads out.
 */
#include "vmm/jail.h"

#include "base/fd.h"
#include "base/log.h"
#include "vmm/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define MAX_PLACES 8
#define STAGE      "/tmp" /* any directory that every host has; covered in our namespace only */

static int write_once(const char *path, const char *text)
{
	autoclose int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 ? -errno : write_full(fd, text, strlen(text));
}

/* Our own ids, mapped to themselves: nobody else's can be mapped without a helper program. */
static void map_ids(uid_t uid, gid_t gid)
{
	autofree char *uids = xasprintf("%u %u 1", uid, uid),
		      *gids = xasprintf("%u %u 1", gid, gid);

	if (write_once("/proc/self/setgroups", "deny") < 0 ||
	    write_once("/proc/self/gid_map", gids) < 0 ||
	    write_once("/proc/self/uid_map", uids) < 0)
		log_info("sandbox: cannot map our ids into a user namespace");
}

bool jail_prepare(void)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();

	if (unshare(CLONE_NEWNS) < 0) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) {
			log_info("sandbox: no mount namespace: %s", strerror(errno));
			return false;
		}
		map_ids(uid, gid);
	}
	/* Or what we mount would appear on the host. */
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0)
		return true;
	log_info("sandbox: mount namespace: %s", strerror(errno));
	return false;
}

struct place {
	char *path; /* absolute */
	int tree;   /* detached mount of it */
};

struct jail {
	struct place places[MAX_PLACES];
	size_t n;
};

/* A path that is not there needs no place. */
static void add_place(struct jail *j, const char *path)
{
	char real[PATH_MAX];
	int tree;

	if (strcmp(path, "/") == 0 || !realpath(path, real))
		return;
	for (size_t i = 0; i < j->n; i++) {
		if (strcmp(j->places[i].path, path) == 0)
			return;
	}
	tree = open_tree(AT_FDCWD, real, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	if (tree >= 0)
		j->places[j->n++] = (struct place){xstrdup(path), tree};
}

static void add_dir_of(struct jail *j, const char *path, const char *cwd)
{
	autofree char *full = NULL;

	if (!path)
		return;
	full = path[0] == '/' ? xstrdup(path) : xasprintf("%s/%s", cwd, path);
	add_place(j, dirname(full));
}

/* mkdir -p below STAGE; the last part a file if the place is one. */
static int make_target(const struct place *p, char target[PATH_MAX])
{
	struct stat st;
	char *slash;

	if (snprintf(target, PATH_MAX, STAGE "%s", p->path) >= PATH_MAX)
		return -ENAMETOOLONG;
	for (slash = strchr(target + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(target, 0755) < 0 && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	if (fstat(p->tree, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode)) {
		autoclose int fd = open(target, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

		return fd < 0 ? -errno : 0;
	}
	return mkdir(target, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

static int furnish(const struct jail *j)
{
	char target[PATH_MAX];

	for (size_t i = 0; i < j->n; i++) {
		int r = make_target(&j->places[i], target);

		if (r < 0)
			return r;
		if (move_mount(j->places[i].tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) <
		    0)
			return -errno;
	}
	return mount(NULL, STAGE, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0 ? -errno : 0;
}

/*
 * The old root goes on top of the new one, and away.  An initramfs, and the root of a chroot,
 * cannot be exchanged (EINVAL): there chroot does it, which nobody leaves without CAP_SYS_CHROOT.
 */
static int move_in(const char *cwd)
{
	if (chdir(STAGE) < 0)
		return -errno;
	if (syscall(SYS_pivot_root, ".", ".") == 0) {
		if (umount2(".", MNT_DETACH) < 0)
			return -errno;
	} else if (errno != EINVAL || chroot(".") < 0) {
		return -errno;
	}
	if (chdir(cwd) < 0 && chdir("/") < 0) /* relative paths of sockets still work */
		return -errno;
	return 0;
}

int jail_enter(const struct vm_desc *d, struct err *e)
{
	char cwd[PATH_MAX];
	struct jail j = {.n = 0};
	int r;

	if (!getcwd(cwd, sizeof(cwd)))
		strcpy(cwd, "/");
	for (size_t i = 0; sandbox_resolver_files()[i]; i++)
		add_place(&j, sandbox_resolver_files()[i]);
	add_dir_of(&j, d->control, cwd);
	add_dir_of(&j, d->vsock_socket, cwd);
	if (d->display.vnc && strncmp(d->display.vnc, "unix:", 5) == 0)
		add_dir_of(&j, d->display.vnc + 5, cwd);
	if (d->serial.type == VM_CHARDEV_SOCKET)
		add_dir_of(&j, d->serial.path, cwd);
	if (d->console.type == VM_CHARDEV_SOCKET)
		add_dir_of(&j, d->console.path, cwd);
	if (mount("insula", STAGE, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=64k,mode=755") <
	    0) {
		log_info("sandbox: no file system of our own: %s", strerror(errno));
		r = 0;
	} else {
		r = furnish(&j);
		if (r == 0)
			r = move_in(cwd);
		if (r < 0)
			err_set(e, r, "sandbox: a file system of our own");
	}
	for (size_t i = 0; i < j.n; i++) {
		close(j.places[i].tree);
		free(j.places[i].path);
	}
	return r;
}
