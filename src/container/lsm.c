/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/lsm.c - AppArmor profile and SELinux label of the program that is started next
 */
#include "container/lsm.h"

#include "container/path.h"

#include <errno.h>

bool lsm_have_selinux(void)
{
	return access("/sys/fs/selinux/status", F_OK) == 0;
}

static int apply_apparmor(const char *profile, int proc, struct err *e)
{
	autofree char *command = xasprintf("exec %s", profile);
	int r = path_write_in_proc(proc, "thread-self/attr/apparmor/exec", command);

	/* Before Linux 5.8 there was one file for all. */
	if (r == -ENOENT)
		r = path_write_in_proc(proc, "thread-self/attr/exec", command);
	return r < 0 ? err_set(e, r, "AppArmor profile '%s'", profile) : 0;
}

int lsm_apply(const struct spec_process *p, int proc, struct err *e)
{
	if (p->apparmor && p->apparmor[0]) {
		int r = apply_apparmor(p->apparmor, proc, e);

		if (r < 0)
			return r;
	}
	if (p->selinux && p->selinux[0]) {
		int r = path_write_in_proc(proc, "thread-self/attr/exec", p->selinux);

		if (r < 0)
			return err_set(e, r, "SELinux label '%s'", p->selinux);
	}
	return 0;
}
