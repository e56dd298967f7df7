/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/mount_opts.c - the words in a mount's options
 */
#include "container/mount_opts.h"

#include <linux/mount.h>
#include <sys/mount.h>

enum kind {
	SET,     /* of the mount */
	CLEAR,   /* of the mount */
	ATIME,   /* one of a group of three */
	SUPER,   /* of the file system: handed on by its name */
	PROP,    /* propagation */
	OUR,     /* something that we do */
	NOTHING, /* the default */
};

enum our { OUR_BIND, OUR_RBIND, OUR_REMOUNT, OUR_COPYUP, OUR_IDMAP, OUR_RIDMAP };

static const struct {
	const char *name;
	enum kind kind;
	uint64_t value;
	bool rec;
} words[] = {
    {"async", NOTHING, 0},
    {"atime", ATIME, MOUNT_ATTR_RELATIME},
    {"bind", OUR, OUR_BIND},
    {"defaults", NOTHING, 0},
    {"dev", CLEAR, MOUNT_ATTR_NODEV},
    {"diratime", CLEAR, MOUNT_ATTR_NODIRATIME},
    {"dirsync", SUPER, 0},
    {"exec", CLEAR, MOUNT_ATTR_NOEXEC},
    {"idmap", OUR, OUR_IDMAP},
    {"iversion", NOTHING, 0},
    {"lazytime", SUPER, 0},
    {"loud", NOTHING, 0},
    {"mand", NOTHING, 0},
    {"noatime", ATIME, MOUNT_ATTR_NOATIME},
    {"nodev", SET, MOUNT_ATTR_NODEV},
    {"nodiratime", SET, MOUNT_ATTR_NODIRATIME},
    {"noexec", SET, MOUNT_ATTR_NOEXEC},
    {"noiversion", NOTHING, 0},
    {"nolazytime", NOTHING, 0},
    {"nomand", NOTHING, 0},
    {"norelatime", NOTHING, 0},
    {"nostrictatime", NOTHING, 0},
    {"nosuid", SET, MOUNT_ATTR_NOSUID},
    {"nosymfollow", SET, MOUNT_ATTR_NOSYMFOLLOW},
    {"private", PROP, MS_PRIVATE},
    {"ratime", ATIME, MOUNT_ATTR_RELATIME, true},
    {"rbind", OUR, OUR_RBIND},
    {"rdev", CLEAR, MOUNT_ATTR_NODEV, true},
    {"rdiratime", CLEAR, MOUNT_ATTR_NODIRATIME, true},
    {"relatime", ATIME, MOUNT_ATTR_RELATIME},
    {"remount", OUR, OUR_REMOUNT},
    {"rexec", CLEAR, MOUNT_ATTR_NOEXEC, true},
    {"ridmap", OUR, OUR_RIDMAP},
    {"rnoatime", ATIME, MOUNT_ATTR_NOATIME, true},
    {"rnodev", SET, MOUNT_ATTR_NODEV, true},
    {"rnodiratime", SET, MOUNT_ATTR_NODIRATIME, true},
    {"rnoexec", SET, MOUNT_ATTR_NOEXEC, true},
    {"rnorelatime", NOTHING, 0},
    {"rnostrictatime", NOTHING, 0},
    {"rnosuid", SET, MOUNT_ATTR_NOSUID, true},
    {"rnosymfollow", SET, MOUNT_ATTR_NOSYMFOLLOW, true},
    {"ro", SET, MOUNT_ATTR_RDONLY},
    {"rprivate", PROP, MS_PRIVATE, true},
    {"rrelatime", ATIME, MOUNT_ATTR_RELATIME, true},
    {"rro", SET, MOUNT_ATTR_RDONLY, true},
    {"rrw", CLEAR, MOUNT_ATTR_RDONLY, true},
    {"rshared", PROP, MS_SHARED, true},
    {"rslave", PROP, MS_SLAVE, true},
    {"rstrictatime", ATIME, MOUNT_ATTR_STRICTATIME, true},
    {"rsuid", CLEAR, MOUNT_ATTR_NOSUID, true},
    {"rsymfollow", CLEAR, MOUNT_ATTR_NOSYMFOLLOW, true},
    {"runbindable", PROP, MS_UNBINDABLE, true},
    {"rw", CLEAR, MOUNT_ATTR_RDONLY},
    {"shared", PROP, MS_SHARED},
    {"silent", NOTHING, 0},
    {"slave", PROP, MS_SLAVE},
    {"strictatime", ATIME, MOUNT_ATTR_STRICTATIME},
    {"suid", CLEAR, MOUNT_ATTR_NOSUID},
    {"symfollow", CLEAR, MOUNT_ATTR_NOSYMFOLLOW},
    {"sync", SUPER, 0},
    {"tmpcopyup", OUR, OUR_COPYUP},
    {"unbindable", PROP, MS_UNBINDABLE},
};

const char *mount_opts_name(size_t i)
{
	return i < ARRAY_SIZE(words) ? words[i].name : NULL;
}

static void apply_our(enum our what, struct mount_opts *o)
{
	switch (what) {
	case OUR_RBIND:
		o->rec = true;
		/* fallthrough */
	case OUR_BIND:
		o->bind = true;
		break;
	case OUR_REMOUNT:
		o->remount = true;
		break;
	case OUR_COPYUP:
		o->tmpcopyup = true;
		break;
	case OUR_RIDMAP:
		o->idmap_rec = true;
		/* fallthrough */
	case OUR_IDMAP:
		o->idmap = true;
		break;
	}
}

/* The last word about a flag counts. */
static void change(uint64_t *set, uint64_t *clear, uint64_t to_set, uint64_t to_clear)
{
	*set = (*set & ~to_clear) | to_set;
	*clear = (*clear & ~to_set) | to_clear;
}

static void apply(size_t i, struct mount_opts *o)
{
	uint64_t *set = words[i].rec ? &o->rec_set : &o->set;
	uint64_t *clear = words[i].rec ? &o->rec_clear : &o->clear;

	switch (words[i].kind) {
	case SET:
		change(set, clear, words[i].value, 0);
		break;
	case CLEAR:
		change(set, clear, 0, words[i].value);
		break;
	case ATIME: /* the kernel wants the whole group cleared whenever one is set */
		*set = (*set & ~(uint64_t)MOUNT_ATTR__ATIME) | words[i].value;
		*clear |= MOUNT_ATTR__ATIME;
		break;
	case SUPER:
		o->data[o->n_data++] = words[i].name;
		break;
	case PROP:
		o->propagation = words[i].value;
		o->propagation_rec = words[i].rec;
		break;
	case OUR:
		apply_our((enum our)words[i].value, o);
		break;
	case NOTHING:
		break;
	}
}

void mount_opts_parse(const struct spec_strings *options, struct mount_opts *ret)
{
	struct mount_opts o = {.data = xnew_n(const char *, options->n + 2)};

	for (size_t k = 0; k < options->n; k++) {
		size_t i = 0;

		while (i < ARRAY_SIZE(words) && strcmp(options->v[k], words[i].name) != 0)
			i++;
		if (i < ARRAY_SIZE(words))
			apply(i, &o);
		else if (options->v[k][0])
			o.data[o.n_data++] = options->v[k];
	}
	*ret = o;
}

void mount_opts_fini(struct mount_opts *o)
{
	free(o->data);
	*o = (struct mount_opts){0};
}

bool mount_propagation_parse(const char *word, uint64_t *flags, bool *rec)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (words[i].kind != PROP || strcmp(word, words[i].name) != 0)
			continue;
		*flags = words[i].value;
		*rec = words[i].rec;
		return true;
	}
	return false;
}
