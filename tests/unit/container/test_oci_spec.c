/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/container/test_oci_spec.c - config.json: what is read, and every refusal's words
 */
#include "container/spec.h"
#include "test.h"

#include <sys/stat.h>

#define NS "\"namespaces\":[{\"type\":\"mount\"},{\"type\":\"user\"},{\"type\":\"uts\"}]"
#define MAPS                                                                                       \
	"\"uidMappings\":[{\"containerID\":0,\"hostID\":1000,\"size\":10}],"                       \
	"\"gidMappings\":[{\"containerID\":0,\"hostID\":2000,\"size\":20}]"

static const char full[] =
    "{\"ociVersion\":\"1.2.0\",\"unknown\":[],\"root\":{\"path\":\"r\",\"readonly\":true},"
    "\"hostname\":\"h\",\"process\":{\"terminal\":true,\"consoleSize\":{\"height\":3,\"width\":4},"
    "\"user\":{\"uid\":1,\"gid\":2,\"umask\":18,\"additionalGids\":[5,6]},\"args\":[\"a\",\"b\"],"
    "\"env\":[\"X=1\"],\"cwd\":\"/\",\"capabilities\":{\"bounding\":[\"CAP_CHOWN\",\"cap_kill\"]},"
    "\"rlimits\":[{\"type\":\"RLIMIT_CORE\",\"soft\":1,\"hard\":18446744073709551615}],"
    "\"oomScoreAdj\":-5,\"ioPriority\":{\"class\":\"IOPRIO_CLASS_BE\",\"priority\":4}},"
    "\"mounts\":[{\"destination\":\"/m\",\"source\":\"s\",\"options\":[\"ro\"]}],"
    "\"hooks\":{\"poststop\":[{\"path\":\"/p\",\"args\":[\"q\"],\"timeout\":9}]},"
    "\"annotations\":{\"k\":\"v\"},\"linux\":{" NS "," MAPS
    ",\"devices\":[{\"path\":\"/dev/x\",\"type\":\"b\",\"major\":8,\"minor\":1,\"fileMode\":432}],"
    "\"resources\":{\"devices\":[{\"allow\":true,\"type\":\"c\",\"major\":1,\"access\":\"rm\"}],"
    "\"memory\":{\"limit\":5,\"swap\":-1},\"cpu\":{\"quota\":-1,\"shares\":7},\"pids\":{\"limit\":"
    "3},"
    "\"unified\":{\"memory.high\":\"1\"}},\"cgroupsPath\":\"/c\",\"seccomp\":{\"defaultAction\":"
    "\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":"
    "["
    "{\"index\":1,\"value\":9223372036854775807,\"op\":\"SCMP_CMP_EQ\"}]}]},"
    "\"rootfsPropagation\":\"slave\",\"maskedPaths\":[\"/"
    "a\"],\"personality\":{\"domain\":\"LINUX32\"}}"
    "}";

static void test_full(void)
{
	struct err e = {0};
	struct spec s = {0};

	if (spec_parse(full, strlen(full), &s, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		exit(1);
	}
	CHECK_STR(s.root_path, "r");
	CHECK(s.root_readonly && s.has_process && s.process.terminal);
	CHECK_EQ(s.process.rows, 3);
	CHECK_EQ(s.process.columns, 4);
	CHECK_EQ(s.process.uid, 1);
	CHECK_EQ(s.process.umask.v, 18);
	CHECK_EQ(s.process.groups[1], 6);
	CHECK_STR(s.process.args.v[1], "b");
	CHECK(!s.process.args.v[2]);
	CHECK_EQ(s.process.caps.bounding, 1u | 1u << 5);
	CHECK_EQ(s.process.rlimits[0].value.rlim_max, RLIM64_INFINITY);
	CHECK_EQ((uint64_t)s.process.oom_score_adj.v, (uint64_t)-5);
	CHECK_EQ(s.process.io_priority.v, 2 << 13 | 4);
	CHECK_STR(s.mounts[0].options.v[0], "ro");
	CHECK_EQ(s.hooks[SPEC_HOOK_POSTSTOP].v[0].timeout, 9);
	CHECK_STR(s.annotations.v[0].key, "k");
	CHECK_STR(s.annotations.v[0].value, "v");
	CHECK(s.ns[SPEC_NS_USER].wanted && !s.ns[SPEC_NS_NET].wanted);
	CHECK_EQ(s.gids.v[0].outside, 2000);
	CHECK_EQ(s.devices[0].type, S_IFBLK);
	CHECK_EQ(s.devices[0].mode, 0660);
	CHECK_EQ(s.resources.devices[0].access, DEVICE_READ | DEVICE_MKNOD);
	CHECK_EQ((uint64_t)s.resources.devices[0].minor, (uint64_t)-1);
	CHECK(s.resources.memory.swap.set && s.resources.memory.swap.v == -1);
	CHECK(!s.resources.memory.reservation.set);
	CHECK_EQ(s.resources.cpu.shares.v, 7);
	CHECK_STR(s.resources.unified.v[0].key, "memory.high");
	CHECK_EQ(s.seccomp.rules[0].args[0].index, 1);
	CHECK(s.personality.set);
	spec_fini(&s);
	CHECK(!s.mounts && !s.doc.root);
}

#define BEGIN    "{\"ociVersion\":\"1.0.0\",\"root\":{\"path\":\"r\"},"
#define MOUNT_NS "\"namespaces\":[{\"type\":\"mount\"}]"

static const struct {
	const char *text, *words;
} refusals[] = {
    {"[]", "not a JSON object"},
    {"{", "not JSON: line 1: string or '}' expected near end of file"},
    {"{\"ociVersion\":\"2.0\"}", "ociVersion: '2.0' is not a version 1"},
    {"{\"ociVersion\":\"1.0\"}", "root: is missing"},
    {BEGIN "\"hostname\":\"h\",\"linux\":{" MOUNT_NS "}}", "hostname: needs a uts namespace"},
    {BEGIN "\"mounts\":[{}]}", "mounts[0].destination: is missing"},
    {BEGIN "\"process\":{\"args\":[\"a\"],\"cwd\":\"x\"}}", "process.cwd: 'x' is not absolute"},
    {BEGIN "\"process\":{\"args\":[],\"cwd\":\"/\"}}", "process.args: names no program"},
    {BEGIN "\"process\":{\"args\":[\"a\"],\"cwd\":\"/\",\"rlimits\":[{\"type\":\"X\"}]}}",
     "process.rlimits[0].type: unknown limit 'X'"},
    {BEGIN "\"hooks\":{\"prestart\":[{\"path\":\"x\"}]}}",
     "hooks.prestart[0].path: 'x' is not absolute"},
    {BEGIN "\"hooks\":{\"prestart\":[{\"path\":\"/x\",\"timeout\":0}]}}",
     "hooks.prestart[0].timeout: must be greater than zero"},
    {BEGIN "\"linux\":{\"namespaces\":[{\"type\":\"x\"}]}}",
     "linux.namespaces[0].type: unknown value 'x'"},
    {BEGIN "\"linux\":{\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"pid\"}]}}",
     "linux.namespaces[1].type: 'pid' is given twice"},
    {BEGIN "\"linux\":{" NS "}}", "linux.uidMappings: is missing for the user namespace"},
    {BEGIN "\"linux\":{" MOUNT_NS "," MAPS "}}", "linux.uidMappings: needs a user namespace"},
    {BEGIN "\"linux\":{" MOUNT_NS ",\"maskedPaths\":[\"a\"]}}",
     "linux.maskedPaths: 'a' is not absolute"},
    {BEGIN "\"linux\":{" MOUNT_NS ",\"resources\":{\"unified\":{\"../x.y\":\"1\"}}}}",
     "linux.resources.unified: '../x.y' is no name of a limit"},
    {BEGIN "\"linux\":{" MOUNT_NS ",\"resources\":{\"hugepageLimits\":[{\"pageSize\":\"a/b\"}]}}}",
     "linux.resources.hugepageLimits[0].pageSize: 'a/b' is no page size"},
    {BEGIN "\"linux\":{" MOUNT_NS ",\"seccomp\":{\"defaultAction\":\"X\"}}}",
     "linux.seccomp.defaultAction: unknown value 'X'"},
    {BEGIN "\"linux\":{" MOUNT_NS ",\"intelRdt\":{}}}", "linux.intelRdt: is not supported"},
};

static void test_refusals(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		struct spec s = {0};
		struct err e = {0};

		CHECK(spec_parse(refusals[i].text, strlen(refusals[i].text), &s, &e) < 0);
		CHECK_STR(e.msg, refusals[i].words);
		CHECK(!s.doc.root && !s.mounts);
	}
}

static void test_truncated(void)
{
	for (size_t n = 0; n < strlen(full); n++) {
		struct spec s = {0};
		struct err e = {0};

		CHECK(spec_parse(full, n, &s, &e) < 0);
		CHECK(e.msg[0]);
	}
}

int main(void)
{
	test_full();
	test_refusals();
	test_truncated();
	return 0;
}
