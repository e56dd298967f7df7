/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image/build.c - makes an image from its source: a root file system in ext4, a kernel, an
 * initramfs
 *
 * Ownership inside the image must be right without our being root: then everything that touches the
 * tree runs in a user namespace with subordinate ids, and mke2fs, inside it, sees the right owners.
 */
#include "base/fd.h"
#include "image/image_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>

#define FREE_NEEDED (UINT64_C(1536) << 20) /* of the cache's file system, to build a Debian */

/* Without an init: the agent is the first process.  These make a shell useful. */
#define BASE_PACKAGES "iproute2,kmod,procps,ca-certificates"

static const struct progress_step deb_steps[] = {
    {"kernel.lists", "reading the archive's package lists", 5},
    {"kernel.download", "downloading the kernel", 5},
    {"kernel.unpack", "unpacking the kernel", 4},
    {"deb.update", "reading package lists", 4},
    {"deb.download", "downloading packages", 4},
    {"deb.extract", "unpacking packages", 3},
    {"deb.essential", "configuring the base system", 6},
    {"deb.rest", "installing packages", 8},
    {"tree.disk", "writing the disk image", 5},
};

static const struct progress_step tree_steps[] = {
    {"kernel.lists", "reading the archive's package lists", 5},
    {"kernel.download", "downloading the kernel", 5},
    {"kernel.unpack", "unpacking the kernel", 4},
    {"tree.disk", "writing the disk image", 5},
};

/* mmdebstrap's own words for where it is, by their beginnings. */
static void follow_mmdebstrap(void *opaque, const char *line)
{
	static const struct {
		const char *says, *step;
	} table[] = {
	    {"I: running apt-get update", "deb.update"},
	    {"I: downloading packages", "deb.download"},
	    {"I: extracting archives", "deb.extract"},
	    {"I: installing essential", "deb.essential"},
	    {"I: installing remaining", "deb.rest"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		if (strncmp(line, table[i].says, strlen(table[i].says)) == 0)
			progress_enter(opaque, table[i].step);
	}
}

/* A directory as root; else a tar, for the namespace to unpack. */
static int run_mmdebstrap(const struct image_source *s, const char *target, const char *tmp_dir,
			  struct progress *p, struct err *e)
{
	autofree char *include =
	    xasprintf("--include=" BASE_PACKAGES "%s%s", s->packages[0] ? "," : "", s->packages);
	autostrbuf struct strbuf sources = {0};
	const char *argv[32] = {"mmdebstrap",
				"--variant=minbase",
				"--architectures=amd64",
				"--aptopt=Acquire::Languages \"none\"",
				include,
				s->suite,
				target};
	struct exec x = {.argv = argv,
			 .line = follow_mmdebstrap,
			 .opaque = p,
			 .progress = p,
			 .tmp_dir = tmp_dir,
			 .contain = true};
	size_t n = 7;
	char *save = NULL;
	int r = apt_sources(s->suite, &sources, e);

	if (r < 0)
		return r;
	for (char *l = strtok_r(sources.data, "\n", &save); l && n < ARRAY_SIZE(argv) - 1;
	     l = strtok_r(NULL, "\n", &save))
		argv[n++] = l;
	argv[n] = NULL;
	return exec_run(&x, e);
}

/*
 * $1 directory, tar or "" | $2 tree of ours to fill and delete, or "" to take $1 as it is |
 * $3 directory with lib/modules, or "" | $4 the disk to write
 *
 * The disk is sparse and far larger than its content, so that a guest can install things.  Its
 * inode tables need no initialisation: the file starts as zeroes.  Checksums of metadata would only
 * cost the guest time: the image is never written to.
 */
#define DISK_SCRIPT                                                                                \
	"tree=$2; if [ -z \"$tree\" ]; then tree=$1; elif [ -f \"$1\" ]; then\n"                   \
	"  mkdir -p \"$tree\"; tar -x --numeric-owner -p --xattrs --xattrs-include='*' -f \"$1\""  \
	" -C \"$tree\" --exclude='./dev/*' --exclude='dev/*'\n"                                    \
	"  case $1 in \"${tree%/*}\"/*) rm -f \"$1\";; esac\n"                                     \
	"fi\n"                                                                                     \
	"if [ -n \"$3\" ]; then\n"                                                                 \
	"  lib=$tree/lib; [ ! -d \"$tree/usr/lib\" ] || lib=$tree/usr/lib\n"                       \
	"  mkdir -p \"$lib/modules\"; cp -r \"$3\"/lib/modules/* \"$lib/modules/\"\n"              \
	"  rm -f \"$tree/etc/resolv.conf\" \"$tree/etc/hostname\"\n"                               \
	"  : >\"$tree/etc/resolv.conf\"\n"                                                         \
	"fi\n"                                                                                     \
	"[ -d \"$tree/bin\" ] || [ -d \"$tree/usr/bin\" ] ||\n"                                    \
	"  { echo 'no root file system: it has neither /bin nor /usr/bin' >&2; exit 1; }\n"        \
	"kib=$(du -sk \"$tree\" | cut -f1); size=$((kib * 2 / 1024 + 1024))\n"                     \
	"[ $size -ge 8192 ] || size=8192\n"                                                        \
	"mke2fs -q -F -t ext4 -L insula-root -m 0 -J size=16 -E lazy_itable_init=1,discard"        \
	" -O ^metadata_csum -d \"$tree\" \"$4\" ${size}M\n"                                        \
	"[ -z \"$2\" ] || rm -rf --one-file-system \"$tree\"\n"

static int write_disk(const char *from, const char *tree, const char *modules, const char *disk,
		      struct progress *p, struct err *e)
{
	const char *const args[] = {from, tree, modules, disk, NULL};

	progress_enter(p, "tree.disk");
	return exec_script_as_root(DISK_SCRIPT, args, p, e);
}

static int build_deb(const struct image_source *s, const struct workspace *w,
		     const struct kernel *k, const char *disk, struct progress *p, struct err *e)
{
	autofree char *tree = xasprintf("%s/tree", w->dir);
	autofree char *tar = xasprintf("%s/tree.tar", w->dir);
	bool root = geteuid() == 0;
	int r = cache_check_space(w->dir, "an image", FREE_NEEDED, e);

	if (r == 0)
		r = run_mmdebstrap(s, root ? tree : tar, root ? w->dir : NULL, p, e);
	if (r == 0)
		r = write_disk(root ? tree : tar, tree, k->dir, disk, p, e);
	return r;
}

/* Unpacked layers, put together; overlayfs could do so without copying, where it may be mounted. */
static int build_layers(const struct image_source *s, const struct workspace *w, const char *disk,
			struct progress *p, struct err *e)
{
	autofree char *tree = xasprintf("%s/tree", w->dir);
	const char *const args[] = {s->merger, tree, s->layers, NULL};
	int r;

	progress_enter(p, "tree.disk");
	r = exec_script_as_root("mkdir \"$2\"; exec \"$1\" merge \"$2\" \"$3\"", args, p, e);
	return r < 0 ? r : write_disk("", tree, "", disk, p, e);
}

struct newest {
	uint64_t files, bytes;
	int64_t mtime;
};
static struct newest newest; /* nftw passes nothing along */

static int see_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	int64_t t = (int64_t)st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec;

	newest.files++;
	newest.bytes += (uint64_t)st->st_size;
	newest.mtime = MAX(newest.mtime, t);
	return 0;
}

char *tree_fingerprint(const char *dir)
{
	memset(&newest, 0, sizeof(newest));
	nftw(dir, see_file, 64, FTW_PHYS | FTW_MOUNT);
	return xasprintf("%llu files, %llu bytes, changed %lld", (unsigned long long)newest.files,
			 (unsigned long long)newest.bytes, (long long)newest.mtime);
}

static int write_meta(const struct image_source *s, const struct workspace *w,
		      const struct kernel *k, const char *fingerprint, struct err *e)
{
	autofree char *path = xasprintf("%s/meta.json", w->dir);

	return json_write(path,
			  json_pack("{s:i, s:i, s:s, s:s, s:s, s:s, s:s, s:I}", "version",
				    IMAGE_META_VERSION, "recipe", IMAGE_RECIPE, "id", s->id,
				    "source", s->name, "kind", image_kind_name(s->kind),
				    "kernel_version", k->version, "fingerprint", fingerprint,
				    "created", (json_int_t)time(NULL)),
			  e);
}

int image_build(struct image_cache *c, const struct image_source *s, const struct workspace *w,
		bool refresh, struct progress *p, struct err *e)
{
	autofree char *timings = xasprintf("%s/timings.json", c->dir);
	autofree char *disk = xasprintf("%s/root.ext4", w->dir);
	autofree char *kernel = xasprintf("%s/kernel", w->dir);
	autofree char *initrd = xasprintf("%s/initrd", w->dir);
	autofree char *fingerprint =
	    s->kind == IMAGE_DIRECTORY ? tree_fingerprint(s->name) : xstrdup("");
	bool deb = s->kind == IMAGE_DEB;
	struct kernel k = {0};
	int r;

	progress_begin(p, s->name, timings, deb ? deb_steps : tree_steps,
		       deb ? ARRAY_SIZE(deb_steps) : ARRAY_SIZE(tree_steps));
	r = kernel_get(c, s->suite, KERNEL_CLOUD, refresh, p, &k, e);
	if (r == 0 && deb) {
		r = build_deb(s, w, &k, disk, p, e);
	} else if (r == 0 && s->kind == IMAGE_TAR) {
		autofree char *tree = xasprintf("%s/tree", w->dir);

		r = write_disk(s->name, tree, "", disk, p, e);
	} else if (r == 0 && s->kind == IMAGE_DIRECTORY) {
		r = write_disk(s->name, "", "", disk, p, e);
	} else if (r == 0 && s->kind == IMAGE_LAYERS) {
		r = build_layers(s, w, disk, p, e);
	}
	if (r == 0)
		r = link_or_copy(k.kernel, kernel, e);
	if (r == 0)
		r = link_or_copy(k.initrd, initrd, e);
	if (r == 0)
		r = write_meta(s, w, &k, fingerprint, e);
	kernel_fini(&k);
	progress_end(p, r == 0);
	return r;
}

int image_write_tar(struct image_cache *c, const char *name, const char *path, struct progress *p,
		    struct err *e)
{
	/* The same steps, without kernel and disk. */
	static const size_t first = 3, n = ARRAY_SIZE(deb_steps) - 4;
	autofree char *timings = xasprintf("%s/timings.json", c->dir);
	autofree char *dir = xstrdup(path);
	struct image_source s = {0};
	int r = image_source_parse(name, &s, e);

	if (r == 0 && s.kind != IMAGE_DEB)
		r = err_msg(e, -EINVAL, "%s: is not deb:SUITE", name);
	*strrchr(dir, '/') = '\0';
	if (r == 0)
		r = cache_check_space(dir, "an image", FREE_NEEDED, e);
	if (r == 0) {
		progress_begin(p, s.name, timings, deb_steps + first, n);
		r = run_mmdebstrap(&s, path, geteuid() == 0 ? dir : NULL, p, e);
		progress_end(p, r == 0);
	}
	image_source_fini(&s);
	return r;
}
