/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/fuzz_oci_spec.c - configurations of containers, process.json and resources.json
 *
 * What parses keeps what the rest of the runtime relies on: absolute paths where they become paths,
 * lists that end with NULL, a program to run.
 */
#include "fuzz.h"

#include "container/mount_opts.h"
#include "container/spec.h"

#include <assert.h>

static const char seed[] =
    "{\"ociVersion\":\"1.1.0\",\"root\":{\"path\":\"r\"},\"hostname\":\"h\",\"process\":{\"user\":"
    "{\"uid\":1,\"gid\":2,\"additionalGids\":[5]},\"args\":[\"a\"],\"env\":[\"X=1\"],\"cwd\":\"/\","
    "\"capabilities\":{\"bounding\":[\"CAP_KILL\"]},\"rlimits\":[{\"type\":\"RLIMIT_CORE\","
    "\"soft\":1,"
    "\"hard\":9}],\"scheduler\":{\"policy\":\"SCHED_BATCH\",\"flags\":[\"SCHED_FLAG_RECLAIM\"]}},"
    "\"mounts\":[{\"destination\":\"/m\",\"source\":\"s\",\"options\":[\"ro\",\"rbind\",\"k=v\"]}],"
    "\"hooks\":{\"poststop\":[{\"path\":\"/p\",\"args\":[\"q\"],\"timeout\":9}]},\"annotations\":{"
    "\"k\":\"v\"},\"linux\":{\"namespaces\":[{\"type\":\"mount\"},{\"type\":\"uts\"},{\"type\":"
    "\"time\"}],\"timeOffsets\":{\"monotonic\":{\"secs\":1}},\"devices\":[{\"path\":\"/dev/"
    "x\",\"type\":"
    "\"b\",\"major\":8}],\"resources\":{\"devices\":[{\"allow\":true,\"access\":\"rm\"}],"
    "\"memory\":"
    "{\"limit\":5},\"blockIO\":{\"weightDevice\":[{\"major\":8}]},\"unified\":{\"a.b\":\"1\"},"
    "\"network\":"
    "{\"priorities\":[{\"name\":\"e\",\"priority\":3}]},\"rdma\":{\"d\":{\"hcaHandles\":3}}},"
    "\"seccomp\":{"
    "\"defaultAction\":\"SCMP_ACT_LOG\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_"
    "ALLOW\","
    "\"args\":[{\"index\":1,\"value\":1,\"op\":\"SCMP_CMP_EQ\"}]}]},\"maskedPaths\":[\"/a\"]}}";

static void check_strings(const struct spec_strings *s)
{
	for (size_t i = 0; i < s->n; i++)
		assert(s->v[i]);
	assert(!s->n || !s->v[s->n]);
}

static void check_process(const struct spec_process *p)
{
	assert(p->args.n && p->args.v[0][0] && p->cwd[0] == '/');
	check_strings(&p->args);
	check_strings(&p->env);
	for (size_t i = 0; i < p->n_rlimits; i++)
		assert(p->rlimits[i].resource >= 0);
}

static void check_mount(const struct spec_mount *m)
{
	struct mount_opts o;

	assert(m->destination[0] && !m->uids.n == !m->gids.n);
	check_strings(&m->options);
	mount_opts_parse(&m->options, &o);
	assert(!(o.set & o.clear & ~(uint64_t)0x70)); /* of the times, all are cleared */
	mount_opts_fini(&o);
}

static void check_spec(const char *text, size_t len)
{
	struct spec s = {0};
	struct err e = {0};

	if (spec_parse(text, len, &s, &e) < 0) {
		assert(e.msg[0] && !s.doc.root && !s.mounts);
		return;
	}
	assert(s.root_path[0]);
	if (s.has_process)
		check_process(&s.process);
	for (size_t i = 0; i < s.n_mounts; i++)
		check_mount(&s.mounts[i]);
	for (unsigned int k = 0; k < SPEC_HOOK_KINDS; k++)
		for (size_t i = 0; i < s.hooks[k].n; i++)
			assert(s.hooks[k].v[i].path[0] == '/' && s.hooks[k].v[i].timeout >= 0);
	for (size_t i = 0; i < s.masked_paths.n; i++)
		assert(s.masked_paths.v[i][0] == '/');
	for (size_t i = 0; i < s.resources.unified.n; i++)
		assert(!strchr(s.resources.unified.v[i].key, '/'));
	spec_fini(&s);
}

static void check_parts(const char *text, size_t len)
{
	struct spec_resources r = {0};
	struct spec_process p = {0};
	struct json_doc doc = {0};
	struct err e = {0};

	if (spec_process_parse(text, len, &doc, &p, &e) == 0)
		check_process(&p);
	spec_process_fini(&p);
	json_doc_fini(&doc);
	doc = (struct json_doc){0};
	if (spec_resources_parse(text, len, &doc, &r, &e) < 0)
		assert(e.msg[0]);
	spec_resources_fini(&r);
	json_doc_fini(&doc);
}

/* The seed with up to seven bytes replaced, position (u16) and value; or, after 0xff, the text
 * itself. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[sizeof(seed)];

	if (size && data[0] == 0xff) {
		check_spec((const char *)data + 1, size - 1);
		check_parts((const char *)data + 1, size - 1);
		return 0;
	}
	memcpy(text, seed, sizeof(seed));
	for (unsigned int n = size ? data[0] & 7 : 0; n && size >= 3; n--, data += 3, size -= 3)
		text[load_le16(data) % (sizeof(seed) - 1)] = (char)data[2];
	check_spec(text, sizeof(seed) - 1);
	check_parts(text, sizeof(seed) - 1);
	return 0;
}
