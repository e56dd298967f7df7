/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/caps.c - capabilities by name, and the five sets of a process
 */
#include "container/caps.h"

#include "base/log.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

const char *const caps_names[CAPS_KNOWN] = {
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
};

uint64_t caps_parse(const char *name)
{
	for (unsigned int i = 0; i < CAPS_KNOWN; i++)
		if (strcasecmp(name, caps_names[i]) == 0)
			return BIT(i);
	return 0;
}

uint64_t caps_parse_warn(const char *name)
{
	uint64_t bit = caps_parse(name);

	if (!bit && name[0])
		log_warn("unknown capability '%s' is left out", name);
	return bit;
}

int caps_bound(const struct spec_caps *c, struct err *e)
{
	if (!c->set)
		return 0;
	for (unsigned int i = 0; i < 64; i++) {
		int has = prctl(PR_CAPBSET_READ, i, 0, 0, 0);

		if (has < 0)
			break; /* past the kernel's last */
		if (has && !(c->bounding & BIT(i)) && prctl(PR_CAPBSET_DROP, i, 0, 0, 0) < 0)
			return err_set(e, -errno, "drop capability %u", i);
	}
	return 0;
}

int caps_keep(struct err *e)
{
	return prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 ? err_set(e, -errno, "keep capabilities") : 0;
}

static int cap_get(struct __user_cap_data_struct d[2])
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};

	return syscall(SYS_capget, &h, d) < 0 ? -errno : 0;
}

static int cap_set(uint64_t effective, uint64_t permitted, uint64_t inheritable)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {
	    {(uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable},
	    {(uint32_t)(effective >> 32), (uint32_t)(permitted >> 32),
	     (uint32_t)(inheritable >> 32)},
	};

	return syscall(SYS_capset, &h, d) < 0 ? -errno : 0;
}

int caps_apply(const struct spec_caps *c, struct err *e)
{
	struct __user_cap_data_struct d[2];
	uint64_t have, permitted;
	int r;

	if (!c->set)
		return 0;
	r = cap_get(d);
	if (r < 0)
		return err_set(e, r, "read capabilities");
	have = d[0].permitted | (uint64_t)d[1].permitted << 32;
	permitted = c->permitted & have;
	r = cap_set(c->effective & permitted, permitted, c->inheritable & c->bounding & have);
	if (r < 0)
		return err_set(e, r, "set capabilities");
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return err_set(e, -errno, "clear ambient capabilities");
	for (unsigned int i = 0; i < CAPS_KNOWN; i++) {
		if (!(c->ambient & BIT(i)))
			continue;
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0) < 0)
			log_warn("ambient capability %s cannot be granted", caps_names[i]);
	}
	return 0;
}
