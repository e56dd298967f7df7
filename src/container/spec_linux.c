/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/spec_linux.c - the linux object (runtime-spec, config-linux.md)
 */
#include "container/spec_priv.h"

#include <stdio.h>
#include <sys/personality.h>
#include <sys/stat.h>

static void read_namespaces(const struct json_reader *r, struct spec *s)
{
	static const char *const types[] = {"user",   "pid",  "network", "ipc", "uts",
					    "cgroup", "time", "mount",   NULL};
	struct json_reader array, entry;
	size_t n = json_read_array(r, "namespaces", 64, &array);

	for (size_t i = 0; i < n; i++) {
		struct spec_ns_entry *ns;
		int type;

		json_read_entry(&array, i, &entry);
		type = json_read_word(&entry, "type", types);
		if (type < 0) {
			json_fail(&entry, "type", "is missing");
			return;
		}
		ns = &s->ns[type];
		if (ns->wanted)
			json_fail(&entry, "type", "'%s' is given twice", types[type]);
		ns->wanted = true;
		ns->path = json_read_string(&entry, "path");
		if (ns->path && !ns->path[0])
			ns->path = NULL;
		if (ns->path && ns->path[0] != '/')
			json_fail(&entry, "path", "'%s' is not absolute", ns->path);
	}
}

static void read_device(const struct json_reader *r, struct spec_device *d)
{
	const char *type = json_need_string(r, "type");
	int64_t mode = 0666;

	d->path = json_need_string(r, "path");
	if (d->path[0] != '/')
		json_fail(r, "path", "'%s' is not absolute", d->path);
	if (strcmp(type, "c") == 0 || strcmp(type, "u") == 0)
		d->type = S_IFCHR;
	else if (strcmp(type, "b") == 0)
		d->type = S_IFBLK;
	else if (strcmp(type, "p") == 0)
		d->type = S_IFIFO;
	else
		json_fail(r, "type", "unknown value '%s'", type);
	d->major = spec_read_u32(r, "major", 0);
	d->minor = spec_read_u32(r, "minor", 0);
	json_read_int(r, "fileMode", 0, UINT32_MAX, &mode);
	d->mode = (mode_t)mode & 07777;
	d->uid = spec_read_u32(r, "uid", 0);
	d->gid = spec_read_u32(r, "gid", 0);
}

static void read_devices(const struct json_reader *r, struct spec *s)
{
	struct json_reader array, entry;
	size_t n = json_read_array(r, "devices", SPEC_MAX_ENTRIES, &array);

	if (n)
		s->devices = xnew_n(struct spec_device, n);
	for (; s->n_devices < n && !r->doc->error; s->n_devices++) {
		json_read_entry(&array, s->n_devices, &entry);
		read_device(&entry, &s->devices[s->n_devices]);
	}
}

static void read_time_offset(const struct json_reader *r, const char *clock, struct spec *s)
{
	struct json_reader o;
	int64_t secs = 0, nanos = 0;

	if (!json_read_object(r, clock, &o))
		return;
	json_read_int(&o, "secs", INT64_MIN, INT64_MAX, &secs);
	json_read_int(&o, "nanosecs", 0, 999999999, &nanos);
	s->time_offsets.v[s->time_offsets.n++] = (struct spec_pair){
	    .key = clock, .value = xasprintf("%lld %lld", (long long)secs, (long long)nanos)};
}

static void read_personality(const struct json_reader *r, struct spec *s)
{
	static const char *const domains[] = {"LINUX", "LINUX32", NULL};
	struct json_reader o, flags;
	int domain;

	if (!json_read_object(r, "personality", &o))
		return;
	domain = json_read_word(&o, "domain", domains);
	if (domain < 0)
		json_fail(&o, "domain", "is missing");
	if (json_read_array(&o, "flags", 64, &flags))
		json_fail(&o, "flags", "there are none");
	s->personality.set = true;
	s->personality.v = domain == 1 ? PER_LINUX32 : PER_LINUX;
}

void spec_read_linux(const struct json_reader *r, struct spec *s)
{
	static const char *const propagations[] = {"shared",     "slave",       "private",
						   "unbindable", "rshared",     "rslave",
						   "rprivate",   "runbindable", NULL};
	struct json_reader o;

	read_namespaces(r, s);
	spec_read_id_maps(r, "uidMappings", &s->uids);
	spec_read_id_maps(r, "gidMappings", &s->gids);
	if (json_read_object(r, "timeOffsets", &o)) {
		s->time_offsets.v = xnew_n(struct spec_pair, 2);
		read_time_offset(&o, "monotonic", s);
		read_time_offset(&o, "boottime", s);
	}
	read_devices(r, s);
	s->cgroups_path = json_read_string(r, "cgroupsPath");
	if (s->cgroups_path && !s->cgroups_path[0])
		s->cgroups_path = NULL;
	if (json_read_object(r, "resources", &o))
		spec_read_resources(&o, &s->resources);
	spec_read_pairs(r, "sysctl", &s->sysctl);
	spec_read_seccomp(r, &s->seccomp);
	s->rootfs_propagation = json_read_string(r, "rootfsPropagation");
	if (s->rootfs_propagation && !s->rootfs_propagation[0])
		s->rootfs_propagation = NULL;
	if (s->rootfs_propagation)
		json_read_word(r, "rootfsPropagation", propagations);
	spec_read_strings(r, "maskedPaths", &s->masked_paths);
	spec_read_strings(r, "readonlyPaths", &s->readonly_paths);
	for (size_t i = 0; i < s->masked_paths.n; i++)
		if (s->masked_paths.v[i][0] != '/')
			json_fail(r, "maskedPaths", "'%s' is not absolute", s->masked_paths.v[i]);
	for (size_t i = 0; i < s->readonly_paths.n; i++)
		if (s->readonly_paths.v[i][0] != '/')
			json_fail(r, "readonlyPaths", "'%s' is not absolute",
				  s->readonly_paths.v[i]);
	s->mount_label = json_read_string(r, "mountLabel");
	read_personality(r, s);
	if (json_read_object(r, "intelRdt", &o))
		json_fail(r, "intelRdt", "is not supported");
}

void spec_fini_linux(struct spec *s)
{
	free(s->uids.v);
	free(s->gids.v);
	for (size_t i = 0; i < s->time_offsets.n; i++)
		free((char *)s->time_offsets.v[i].value);
	free(s->time_offsets.v);
	free(s->devices);
	spec_resources_fini(&s->resources);
	free(s->sysctl.v);
	spec_seccomp_fini(&s->seccomp);
	free(s->masked_paths.v);
	free(s->readonly_paths.v);
}
