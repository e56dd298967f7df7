/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/spec_process.c - the process object (runtime-spec, config.md, "Process")
 */
#include "container/caps.h"
#include "container/spec_priv.h"

#include <errno.h>
#include <limits.h>

static const struct {
	const char *name;
	int resource;
} rlimit_names[] = {
    {"RLIMIT_AS", RLIMIT_AS},
    {"RLIMIT_CORE", RLIMIT_CORE},
    {"RLIMIT_CPU", RLIMIT_CPU},
    {"RLIMIT_DATA", RLIMIT_DATA},
    {"RLIMIT_FSIZE", RLIMIT_FSIZE},
    {"RLIMIT_LOCKS", RLIMIT_LOCKS},
    {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
    {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},
    {"RLIMIT_NICE", RLIMIT_NICE},
    {"RLIMIT_NOFILE", RLIMIT_NOFILE},
    {"RLIMIT_NPROC", RLIMIT_NPROC},
    {"RLIMIT_RSS", RLIMIT_RSS},
    {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},
    {"RLIMIT_RTTIME", RLIMIT_RTTIME},
    {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
    {"RLIMIT_STACK", RLIMIT_STACK},
};

static void read_rlimit(const struct json_reader *r, struct spec_process *p)
{
	struct spec_rlimit *l = &p->rlimits[p->n_rlimits];
	const char *type = json_need_string(r, "type");
	uint64_t soft = 0, hard = 0;

	l->resource = -1;
	for (size_t i = 0; i < ARRAY_SIZE(rlimit_names); i++)
		if (strcmp(type, rlimit_names[i].name) == 0)
			l->resource = rlimit_names[i].resource;
	if (l->resource < 0)
		json_fail(r, "type", "unknown limit '%s'", type);
	for (size_t i = 0; i < p->n_rlimits; i++)
		if (p->rlimits[i].resource == l->resource)
			json_fail(r, "type", "'%s' is given twice", type);
	if (!json_read_u64(r, "hard", &hard))
		json_fail(r, "hard", "is missing");
	if (!json_read_u64(r, "soft", &soft))
		json_fail(r, "soft", "is missing");
	l->value.rlim_cur = soft;
	l->value.rlim_max = hard;
}

static void read_rlimits(const struct json_reader *r, struct spec_process *p)
{
	struct json_reader array, entry;
	size_t n = json_read_array(r, "rlimits", 64, &array);

	if (n)
		p->rlimits = xnew_n(struct spec_rlimit, n);
	for (; p->n_rlimits < n && !r->doc->error; p->n_rlimits++) {
		json_read_entry(&array, p->n_rlimits, &entry);
		read_rlimit(&entry, p);
	}
}

static uint64_t read_cap_set(const struct json_reader *r, const char *key)
{
	struct json_reader array, entry;
	size_t n = json_read_array(r, key, 256, &array);
	uint64_t set = 0;

	for (size_t i = 0; i < n; i++) {
		json_read_entry(&array, i, &entry);
		set |= caps_parse_warn(json_read_text(&entry));
	}
	return set;
}

static void read_caps(const struct json_reader *process, struct spec_caps *c)
{
	struct json_reader r;

	if (!json_read_object(process, "capabilities", &r))
		return;
	c->set = true;
	c->bounding = read_cap_set(&r, "bounding");
	c->effective = read_cap_set(&r, "effective");
	c->inheritable = read_cap_set(&r, "inheritable");
	c->permitted = read_cap_set(&r, "permitted");
	c->ambient = read_cap_set(&r, "ambient");
}

static void read_user(const struct json_reader *process, struct spec_process *p)
{
	struct json_reader r, array, entry;
	size_t n;

	if (!json_read_object(process, "user", &r))
		return;
	p->uid = spec_read_u32(&r, "uid", 0);
	p->gid = spec_read_u32(&r, "gid", 0);
	spec_read_opt(&r, "umask", 0, 07777, &p->umask);
	n = json_read_array(&r, "additionalGids", 65536, &array);
	if (n)
		p->groups = xnew_n(gid_t, n);
	for (; p->n_groups < n; p->n_groups++) {
		json_read_entry(&array, p->n_groups, &entry);
		p->groups[p->n_groups] = spec_read_u32(&entry, NULL, 0);
	}
}

static void read_io_priority(const struct json_reader *process, struct spec_process *p)
{
	/* Their numbers are 1, 2, 3. */
	static const char *const classes[] = {"IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE",
					      "IOPRIO_CLASS_IDLE", NULL};
	struct json_reader r;
	int64_t level = 0;
	int class;

	if (!json_read_object(process, "ioPriority", &r))
		return;
	class = json_read_word(&r, "class", classes);
	if (class < 0)
		json_fail(&r, "class", "is missing");
	json_read_int(&r, "priority", 0, 7, &level);
	p->io_priority.set = true;
	p->io_priority.v = ((int64_t)(class + 1) << 13) | level;
}

static void read_scheduler(const struct json_reader *process, struct spec_scheduler *s)
{
	/* Index = the kernel's number; bit = the kernel's flag. */
	static const char *const policies[] = {"SCHED_OTHER",    "SCHED_FIFO", "SCHED_RR",
					       "SCHED_BATCH",    "SCHED_ISO",  "SCHED_IDLE",
					       "SCHED_DEADLINE", NULL};
	static const char *const flags[] = {"SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM",
					    "SCHED_FLAG_DL_OVERRUN",    "SCHED_FLAG_KEEP_POLICY",
					    "SCHED_FLAG_KEEP_PARAMS",   "SCHED_FLAG_UTIL_CLAMP_MIN",
					    "SCHED_FLAG_UTIL_CLAMP_MAX"};
	struct spec_strings names = {0};
	struct json_reader r;
	int64_t n = 0;
	int policy;

	if (!json_read_object(process, "scheduler", &r))
		return;
	s->set = true;
	policy = json_read_word(&r, "policy", policies);
	if (policy < 0)
		json_fail(&r, "policy", "is missing");
	s->policy = (uint32_t)policy;
	if (json_read_int(&r, "nice", -20, 19, &n))
		s->nice = (int32_t)n;
	s->priority = spec_read_u32(&r, "priority", 0);
	spec_read_strings(&r, "flags", &names);
	for (size_t i = 0; i < names.n; i++) {
		size_t bit = 0;

		while (bit < ARRAY_SIZE(flags) && strcmp(flags[bit], names.v[i]) != 0)
			bit++;
		if (bit == ARRAY_SIZE(flags))
			json_fail(&r, "flags", "unknown flag '%s'", names.v[i]);
		else
			s->flags |= BIT(bit);
	}
	free(names.v);
	json_read_u64(&r, "runtime", &s->runtime);
	json_read_u64(&r, "deadline", &s->deadline);
	json_read_u64(&r, "period", &s->period);
}

void spec_read_process(const struct json_reader *r, struct spec_process *p)
{
	struct json_reader sub;

	p->terminal = json_read_bool(r, "terminal", false);
	if (json_read_object(r, "consoleSize", &sub)) {
		p->rows = (uint16_t)MIN(spec_read_u32(&sub, "height", 0), (uint32_t)UINT16_MAX);
		p->columns = (uint16_t)MIN(spec_read_u32(&sub, "width", 0), (uint32_t)UINT16_MAX);
	}
	read_user(r, p);
	spec_read_strings(r, "args", &p->args);
	if (!p->args.n || !p->args.v[0][0])
		json_fail(r, "args", "names no program");
	spec_read_strings(r, "env", &p->env);
	p->cwd = json_need_string(r, "cwd");
	if (p->cwd[0] != '/')
		json_fail(r, "cwd", "'%s' is not absolute", p->cwd);
	read_caps(r, &p->caps);
	read_rlimits(r, p);
	p->no_new_privileges = json_read_bool(r, "noNewPrivileges", false);
	p->apparmor = json_read_string(r, "apparmorProfile");
	p->selinux = json_read_string(r, "selinuxLabel");
	spec_read_opt(r, "oomScoreAdj", -1000, 1000, &p->oom_score_adj);
	read_io_priority(r, p);
	read_scheduler(r, &p->scheduler);
}

int spec_process_parse(const char *text, size_t len, struct json_doc *doc, struct spec_process *ret,
		       struct err *e)
{
	struct json_reader root;

	if (len > SPEC_MAX_TEXT)
		return err_msg(e, -EFBIG, "process: longer than %u bytes", SPEC_MAX_TEXT);
	doc->err = e;
	if (json_doc_parse(doc, text, len, &root) == 0)
		spec_read_process(&root, ret);
	doc->err = NULL;
	if (doc->error < 0) {
		spec_process_fini(ret);
		return err_wrap(e, doc->error, "process");
	}
	return 0;
}

void spec_process_fini(struct spec_process *p)
{
	free(p->groups);
	free(p->args.v);
	free(p->env.v);
	free(p->rlimits);
	*p = (struct spec_process){0};
}
