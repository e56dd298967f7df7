/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/cmd_features.c - features (runtime-spec, features.md, features-linux.md)
 */
#include "container/caps.h"
#include "container/cmd.h"
#include "container/lsm.h"
#include "container/mount_opts.h"
#include "container/seccomp_filter.h"

#include <stdio.h>

static json_t *names(const char *const *list, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; i < n && list[i]; i++)
		json_array_append_new(a, json_string(list[i]));
	return a;
}

static json_t *mount_options(void)
{
	json_t *a = json_array();
	const char *name;

	for (size_t i = 0; (name = mount_opts_name(i)); i++)
		json_array_append_new(a, json_string(name));
	return a;
}

static json_t *linux_features(void)
{
	static const char *const namespaces[] = {"cgroup", "ipc",  "mount", "network",
						 "pid",    "time", "user",  "uts"};

	return json_pack(
	    "{s:o, s:o, s:{s:b, s:b, s:b, s:b, s:b}, s:{s:b, s:o, s:o, s:o, s:o, s:o},"
	    " s:{s:b}, s:{s:b}, s:{s:b}, s:{s:{s:b}}}",
	    "namespaces", names(namespaces, ARRAY_SIZE(namespaces)), "capabilities",
	    names(caps_names, CAPS_KNOWN), "cgroup", "v1", 1, "v2", 1, "systemd", 1, "systemdUser",
	    1, "rdma", 1, "seccomp", "enabled", 1, "actions", names(seccomp_actions, SIZE_MAX),
	    "operators", names(seccomp_operators, SIZE_MAX), "archs",
	    names(seccomp_archs, SIZE_MAX), "knownFlags", names(seccomp_flag_names, SIZE_MAX),
	    "supportedFlags", names(seccomp_flag_names, SIZE_MAX), "apparmor", "enabled", 1,
	    "selinux", "enabled", 1, "intelRdt", "enabled", 0, "mountExtensions", "idmap",
	    "enabled", 1);
}

int cmd_features(const struct container_runtime *rt, int argc, char **argv, struct err *e)
{
	json_t *o = json_pack(
	    "{s:s, s:s, s:o, s:o, s:o, s:{s:s, s:s}}", "ociVersionMin", "1.0.0", "ociVersionMax",
	    SPEC_VERSION, "hooks", names(spec_hook_names, SPEC_HOOK_KINDS), "mountOptions",
	    mount_options(), "linux", linux_features(), "annotations", "org.insula.oci.version",
	    INSULA_VERSION, "org.insula.oci.checkpoint.enabled", "false");

	json_dumpf(o, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(o);
	return 0;
}
