/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/cmd_spec.c - spec: a config.json to begin with
 */
#include "container/cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

/* clang-format off */
static const char head[] =
"{\n"
"  \"ociVersion\": \"" SPEC_VERSION "\",\n"
"  \"root\": {\"path\": \"rootfs\", \"readonly\": true},\n"
"  \"hostname\": \"insula\",\n"
"  \"process\": {\n"
"    \"terminal\": true,\n"
"    \"user\": {\"uid\": 0, \"gid\": 0},\n"
"    \"args\": [\"sh\"],\n"
"    \"env\": [\"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\", \"TERM=xterm\"],\n"
"    \"cwd\": \"/\",\n"
"    \"capabilities\": {\n"
"      \"bounding\": [\"CAP_AUDIT_WRITE\", \"CAP_KILL\", \"CAP_NET_BIND_SERVICE\"],\n"
"      \"effective\": [\"CAP_AUDIT_WRITE\", \"CAP_KILL\", \"CAP_NET_BIND_SERVICE\"],\n"
"      \"permitted\": [\"CAP_AUDIT_WRITE\", \"CAP_KILL\", \"CAP_NET_BIND_SERVICE\"]\n"
"    },\n"
"    \"rlimits\": [{\"type\": \"RLIMIT_NOFILE\", \"hard\": 1024, \"soft\": 1024}],\n"
"    \"noNewPrivileges\": true\n"
"  },\n"
"  \"mounts\": [\n"
"    {\"destination\": \"/proc\", \"type\": \"proc\", \"source\": \"proc\"},\n"
"    {\"destination\": \"/dev\", \"type\": \"tmpfs\", \"source\": \"tmpfs\",\n"
"     \"options\": [\"nosuid\", \"strictatime\", \"mode=755\", \"size=65536k\"]},\n"
"    {\"destination\": \"/dev/pts\", \"type\": \"devpts\", \"source\": \"devpts\",\n"
"     \"options\": [\"nosuid\", \"noexec\", \"newinstance\", \"ptmxmode=0666\", \"mode=0620\"%s]},\n"
"    {\"destination\": \"/dev/shm\", \"type\": \"tmpfs\", \"source\": \"shm\",\n"
"     \"options\": [\"nosuid\", \"noexec\", \"nodev\", \"mode=1777\", \"size=65536k\"]},\n"
"    {\"destination\": \"/dev/mqueue\", \"type\": \"mqueue\", \"source\": \"mqueue\",\n"
"     \"options\": [\"nosuid\", \"noexec\", \"nodev\"]},\n"
"    {\"destination\": \"/sys\", %s}%s\n"
"  ],\n"
"  \"linux\": {\n"
"%s"
"    \"namespaces\": [{\"type\": \"pid\"}, {\"type\": \"ipc\"}, {\"type\": \"uts\"},\n"
"      {\"type\": \"mount\"}, {\"type\": \"cgroup\"}, {\"type\": \"%s\"}],\n"
"    \"maskedPaths\": [\"/proc/acpi\", \"/proc/asound\", \"/proc/kcore\", \"/proc/keys\",\n"
"      \"/proc/latency_stats\", \"/proc/timer_list\", \"/proc/timer_stats\", \"/proc/sched_debug\",\n"
"      \"/proc/scsi\", \"/sys/firmware\", \"/sys/devices/virtual/powercap\"],\n"
"    \"readonlyPaths\": [\"/proc/bus\", \"/proc/fs\", \"/proc/irq\", \"/proc/sys\",\n"
"      \"/proc/sysrq-trigger\"]\n"
"  }\n"
"}\n";

static const char sysfs[] =
"\"type\": \"sysfs\", \"source\": \"sysfs\", \"options\": [\"nosuid\", \"noexec\", \"nodev\", \"ro\"]";
static const char cgroups[] =
",\n    {\"destination\": \"/sys/fs/cgroup\", \"type\": \"cgroup\", \"source\": \"cgroup\",\n"
"     \"options\": [\"nosuid\", \"noexec\", \"nodev\", \"relatime\", \"ro\"]}";
static const char sys_of_host[] =
"\"type\": \"none\", \"source\": \"/sys\", \"options\": [\"rbind\", \"nosuid\", \"noexec\", \"nodev\", \"ro\"]";
static const char devices[] =
"    \"resources\": {\"devices\": [{\"allow\": false, \"access\": \"rwm\"}]},\n";
/* clang-format on */

int cmd_spec(const struct container_runtime *rt, int argc, char **argv, struct err *e)
{
	static const struct option options[] = {
	    {"bundle", required_argument, NULL, 'b'}, {"rootless", no_argument, NULL, 'r'}, {0}};
	autofree char *path = NULL, *maps = NULL;
	const char *bundle = ".";
	bool rootless = false;
	FILE *f;
	int c, fd;

	while ((c = cmd_option(argc, argv, options, e)) != -1) {
		if (c == '?')
			return -1;
		if (c == 'b')
			bundle = optarg;
		else
			rootless = true;
	}
	path = xasprintf("%s/config.json", bundle);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	f = fd < 0 ? NULL : fdopen(fd, "w");
	if (!f) {
		err_set(e, -errno, "write %s", path);
		close_p(&fd);
		return -1;
	}
	maps =
	    xasprintf("    \"uidMappings\": [{\"containerID\": 0, \"hostID\": %u, \"size\": 1}],\n"
		      "    \"gidMappings\": [{\"containerID\": 0, \"hostID\": %u, \"size\": 1}],\n",
		      geteuid(), getegid());
	fprintf(f, head, rootless ? "" : ", \"gid=5\"", rootless ? sys_of_host : sysfs,
		rootless ? "" : cgroups, rootless ? maps : devices, rootless ? "user" : "network");
	if (fclose(f) != 0) {
		err_set(e, -errno, "write %s", path);
		return -1;
	}
	return 0;
}
