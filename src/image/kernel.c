/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image/kernel.c - Debian's kernel packages, downloaded and unpacked into the cache
 *
 * We build no kernel.  apt works here on a state of its own under the workspace, so that neither
 * root nor the machine's package lists are needed, and nothing is installed on the host.
 */
#include "base/fd.h"
#include "image/image_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define FREE_NEEDED (UINT64_C(512) << 20) /* package, and twice its content */

static const struct progress_step kernel_steps[] = {
    {"kernel.lists", "reading the archive's package lists", 5},
    {"kernel.download", "downloading the kernel", 5},
    {"kernel.unpack", "unpacking the kernel", 4},
};

static int write_text(const char *path, const char *text, struct err *e)
{
	autoclose int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	int r = fd < 0 ? -errno : write_full(fd, text, strlen(text));

	return r < 0 ? err_set(e, r, "write %s", path) : 0;
}

/* An apt.conf with which apt keeps to @dir. */
static int prepare_apt(const char *dir, const char *suite, struct err *e)
{
	autostrbuf struct strbuf sources = {0}, conf = {0};
	autofree char *sources_path = xasprintf("%s/sources.list", dir);
	autofree char *conf_path = xasprintf("%s/apt.conf", dir);
	static const char *const dirs[] = {"lists/partial", "cache/archives/partial", "parts"};
	int r = apt_sources(suite, &sources, e);

	for (size_t i = 0; i < ARRAY_SIZE(dirs) && r == 0; i++) {
		autofree char *path = xasprintf("%s/%s", dir, dirs[i]);

		r = make_dir(path, 0755, e);
	}
	if (r == 0)
		r = write_text(sources_path, sources.data, e);
	strbuf_printf(
	    &conf,
	    "Dir::State \"%s\";\nDir::State::lists \"%s/lists\";\n"
	    "Dir::State::status \"%s/status\";\nDir::Cache \"%s/cache\";\n"
	    "Dir::Etc::SourceList \"%s\";\nDir::Etc::SourceParts \"%s/parts\";\n"
	    "Dir::Etc::Preferences \"/dev/null\";\nDir::Etc::PreferencesParts \"%s/parts\";\n"
	    "APT::Sandbox::User \"\";\nAPT::Architecture \"amd64\";\n"
	    "APT::Architectures {\"amd64\";};\nAcquire::Languages \"none\";\n"
	    "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled \"false\";\n",
	    dir, dir, dir, dir, sources_path, dir, dir);
	return r == 0 ? write_text(conf_path, conf.data, e) : r;
}

#define DEPTH_TEXT "3" /* meta package, image, and modules where they are apart */

/* The package and, a few levels deep, what it needs of the kernel's own packages. */
#define DOWNLOAD_SCRIPT                                                                            \
	"export APT_CONFIG=\"$1/apt.conf\"; cd \"$1\"; todo=$2; done=; depth=" DEPTH_TEXT "\n"     \
	"while [ -n \"$todo\" ] && [ $depth -gt 0 ]; do\n"                                         \
	"  next=\n"                                                                                \
	"  for p in $todo; do\n"                                                                   \
	"    case \" $done \" in *\" $p \"*) continue;; esac\n"                                    \
	"    apt-get download -q \"$p\"; done=\"$done $p\"\n"                                      \
	"    next=\"$next $(apt-cache depends --important \"$p\" |\n"                              \
	"      sed -n 's/^ *\\(Pre\\)\\?Depends: \\(linux-\\(image\\|modules\\)-[^ "               \
	"]*\\)$/\\2/p')\"\n"                                                                       \
	"  done\n"                                                                                 \
	"  todo=$(echo $next); depth=$((depth - 1))\n"                                             \
	"done\n"

#define UNPACK_SCRIPT                                                                              \
	"cd \"$1\"; mkdir x; for d in *.deb; do dpkg-deb -x \"$d\" x; done\n"                      \
	"[ -d x/lib/modules ] || { [ -d x/usr/lib/modules ] && mkdir -p x/lib &&\n"                \
	"  mv x/usr/lib/modules x/lib/; }\n"                                                       \
	"v=$(ls x/lib/modules | head -n 1); [ -n \"$v\" ] && [ -e \"x/boot/vmlinuz-$v\" ] ||\n"    \
	"  { echo 'the package holds no kernel' >&2; exit 1; }\n"                                  \
	"rm -f x/lib/modules/$v/build x/lib/modules/$v/source\n"                                   \
	"depmod -b x \"$v\"; mkdir \"$2/lib\"; mv x/lib/modules \"$2/lib/\"\n"                     \
	"cp \"x/boot/vmlinuz-$v\" \"$2/kernel\"; chmod 0644 \"$2/kernel\"\n"                       \
	"rm -rf \"$1\"\n"

static int run_script(const char *script, const char *a, const char *b, struct progress *p,
		      struct err *e)
{
	const char *const argv[] = {"sh", "-ec", script, "sh", a, b, NULL};
	struct exec x = {.argv = argv, .progress = p, .contain = true};

	return exec_run(&x, e);
}

/* The one directory under lib/modules. */
static char *find_version(const char *dir)
{
	autofree char *path = xasprintf("%s/lib/modules", dir);
	DIR *d = opendir(path);
	struct dirent *de;
	char *version = NULL;

	while (d && !version && (de = readdir(d))) {
		if (de->d_name[0] != '.')
			version = xstrdup(de->d_name);
	}
	if (d)
		closedir(d);
	return version;
}

static int build(const struct workspace *w, const char *suite, enum kernel_flavour flavour,
		 struct progress *p, struct err *e)
{
	const char *package =
	    flavour == KERNEL_CLOUD ? "linux-image-cloud-amd64" : "linux-image-amd64";
	autofree char *apt = xasprintf("%s/apt", w->dir), *version = NULL;
	autofree char *initrd = xasprintf("%s/initrd", w->dir);
	autofree char *meta = xasprintf("%s/meta.json", w->dir);
	int r;

	progress_enter(p, "kernel.lists");
	r = make_dir(apt, 0755, e);
	if (r == 0)
		r = prepare_apt(apt, suite, e);
	if (r == 0)
		r = run_script("export APT_CONFIG=\"$1/apt.conf\"; : >\"$1/status\"\n"
			       "apt-get update -q --error-on=any",
			       apt, "", p, e);
	progress_enter(p, "kernel.download");
	if (r == 0)
		r = run_script(DOWNLOAD_SCRIPT, apt, package, p, e);
	progress_enter(p, "kernel.unpack");
	if (r == 0)
		r = run_script(UNPACK_SCRIPT, apt, w->dir, p, e);
	if (r < 0)
		return err_wrap(e, r, "kernel %s of Debian %s", package, suite);
	version = find_version(w->dir);
	if (!version)
		return err_msg(e, -EIO, "package %s holds no kernel", package);
	r = initrd_write(w->dir, version, initrd, e);
	if (r < 0)
		return r;
	return json_write(meta,
			  json_pack("{s:i, s:i, s:s, s:s, s:s}", "version", IMAGE_META_VERSION,
				    "recipe", IMAGE_RECIPE, "suite", suite, "package", package,
				    "kernel_version", version),
			  e);
}

/* Fills in @ret if the cache has it, whole and of our recipe. */
static bool lookup(const struct image_cache *c, const char *id, struct kernel *ret)
{
	autofree char *meta_path = xasprintf("%s/kernels/%s/meta.json", c->dir, id);
	json_t *meta = json_read(meta_path);
	bool found = meta && json_integer_value(json_object_get(meta, "recipe")) == IMAGE_RECIPE;

	if (found) {
		ret->dir = xasprintf("%s/kernels/%s", c->dir, id);
		ret->kernel = xasprintf("%s/kernel", ret->dir);
		ret->initrd = xasprintf("%s/initrd", ret->dir);
		ret->version = xstrdup(json_text(meta, "kernel_version"));
	}
	json_decref(meta);
	return found;
}

static int get_locked(struct image_cache *c, const char *id, const char *suite,
		      enum kernel_flavour flavour, struct progress *p, struct err *e)
{
	autofree char *timings = xasprintf("%s/timings.json", c->dir);
	autofree char *subject = xasprintf("kernel of Debian %s", suite);
	autofree char *entry = xasprintf("kernels/%s", id);
	struct workspace w;
	bool own;
	int r = workspace_make(c, &w, e);

	if (r < 0)
		return r;
	own = progress_begin(p, subject, timings, kernel_steps, ARRAY_SIZE(kernel_steps));
	r = cache_check_space(w.dir, "a kernel", FREE_NEEDED, e);
	if (r == 0)
		r = build(&w, suite, flavour, p, e);
	if (r == 0)
		r = workspace_publish(&w, c, entry, e);
	if (own)
		progress_end(p, r == 0);
	workspace_fini(&w);
	return r;
}

int kernel_get(struct image_cache *c, const char *suite, enum kernel_flavour flavour, bool refresh,
	       struct progress *p, struct kernel *ret, struct err *e)
{
	autofree char *own = suite ? xstrdup(suite) : apt_host_suite();
	autofree char *id = xasprintf("%s-%s", own, flavour == KERNEL_CLOUD ? "cloud" : "generic");
	autofree char *lock_id = xasprintf("kernel-%s", id);
	autoclose int lock = -1;
	int r = 0;

	if (!refresh && lookup(c, id, ret))
		return 0;
	r = cache_lock_build(c, lock_id, p, &lock, e);
	if (r < 0)
		return r;
	if (refresh || !lookup(c, id, ret)) {
		r = get_locked(c, id, own, flavour, p, e);
		if (r == 0 && !lookup(c, id, ret))
			r = err_msg(e, -EIO, "the kernel just made is not there");
	}
	return r;
}

void kernel_fini(struct kernel *k)
{
	free(k->kernel);
	free(k->initrd);
	free(k->version);
	free(k->dir);
	memset(k, 0, sizeof(*k));
}
