/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image/source.c - what the name of an image means
 */
#include "base/fd.h"
#include "image/image.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define MIN_DISK 65536 /* smaller than any file system with a shell */

const char *image_kind_name(enum image_kind k)
{
	static const char *const names[] = {"deb", "directory", "tar", "disk", "layers"};

	return names[k];
}

/* FNV-1a: tells names apart in a directory of ours; nobody gains by a collision. */
static uint64_t hash_text(uint64_t h, const char *s)
{
	for (; *s; s++)
		h = (h ^ (uint8_t)*s) * UINT64_C(0x100000001b3);
	return h;
}

/* "deb-bookworm-python3-1f2e3d4c": words for people, a hash of @exact to be sure. */
static char *make_id(const char *words, const char *exact)
{
	uint64_t h = hash_text(UINT64_C(0xcbf29ce484222325), exact);
	char slug[41];
	size_t n = 0;

	for (; *words && n < sizeof(slug) - 1; words++) {
		if (isalnum((unsigned char)*words) || *words == '.')
			slug[n++] = *words;
		else if (n && slug[n - 1] != '-')
			slug[n++] = '-';
	}
	while (n && (slug[n - 1] == '-' || slug[n - 1] == '.'))
		n--;
	slug[n] = '\0';
	return xasprintf("%s-%08x", n ? slug : "image", (unsigned int)(h ^ h >> 32));
}

static bool is_package_name(const char *s)
{
	if (!isalnum((unsigned char)*s))
		return false;
	for (; *s; s++) {
		if (!isalnum((unsigned char)*s) && !strchr("+-.:=~", *s))
			return false;
	}
	return true;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* deb:SUITE+package+package; packages sorted, so that their order makes no new image.  Names such
 * as g++ end in pluses of their own, which belong to the name when nothing follows them. */
static int parse_deb(const char *name, struct image_source *s, struct err *e)
{
	autofree char *copy = xstrdup(name + strlen("deb:"));
	autostrbuf struct strbuf packages = {0}, canonical = {0};
	char *words[256], *p = copy;
	size_t n = 0;

	while (p && n < ARRAY_SIZE(words)) {
		char *plus = strchr(p, '+');

		while (plus && (plus[1] == '+' || plus[1] == '\0'))
			plus = strchr(plus + 1, '+');
		if (plus)
			*plus++ = '\0';
		if (!is_package_name(p))
			return err_msg(e, -EINVAL, "image '%s': '%s' is not a %s", name, p,
				       n ? "package name" : "suite of Debian");
		words[n++] = p;
		p = plus;
	}
	qsort(words + 1, n - 1, sizeof(*words), compare_names);
	strbuf_printf(&canonical, "deb:%s", words[0]);
	for (size_t i = 1; i < n; i++) {
		strbuf_printf(&canonical, "+%s", words[i]);
		strbuf_printf(&packages, "%s%s", i > 1 ? "," : "", words[i]);
	}
	s->kind = IMAGE_DEB;
	s->suite = xstrdup(words[0]);
	s->packages = packages.len ? strbuf_steal(&packages) : xstrdup("");
	s->name = strbuf_steal(&canonical);
	s->id = make_id(s->name, s->name);
	return 0;
}

/* By content, not by name: a download may be called anything. */
static int classify_file(const char *path, uint64_t size, enum image_kind *ret, struct err *e)
{
	static const char qcow2[4] = {'Q', 'F', 'I', (char)0xfb};
	autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint8_t head[2048] = {0};
	ssize_t n;

	n = fd < 0 ? -1 : read(fd, head, sizeof(head));
	if (n < 0)
		return err_set(e, -errno, "image '%s'", path);
	if (memcmp(head, qcow2, 4) == 0)
		return err_msg(e, -EINVAL,
			       "image '%s' is in qcow2 format; Insula takes raw disks: "
			       "`insula disk convert` makes one",
			       path);
	if (memcmp(head + 257, "ustar", 5) == 0 || memcmp(head, "\x1f\x8b", 2) == 0 ||
	    memcmp(head,
		   "\xfd"
		   "7zXZ",
		   5) == 0 ||
	    memcmp(head, "\x28\xb5\x2f\xfd", 4) == 0 || memcmp(head, "BZh", 3) == 0) {
		*ret = IMAGE_TAR;
		return 0;
	}
	/* A partition table, or ext2/3/4, XFS, btrfs further in: the kernel will tell. */
	if (size >= MIN_DISK && size % 512 == 0) {
		*ret = IMAGE_DISK;
		return 0;
	}
	return err_msg(e, -EINVAL,
		       "image '%s' is neither a directory, a tar archive nor a raw disk", path);
}

static int parse_path(const char *name, struct image_source *s, struct err *e)
{
	autofree char *path = realpath(name, NULL);
	autofree char *exact = NULL;
	struct stat st;
	int r;

	if (!path || stat(path, &st) < 0)
		return err_set(e, -errno, "image '%s'", name);
	if (S_ISDIR(st.st_mode)) {
		s->kind = IMAGE_DIRECTORY;
	} else if (S_ISREG(st.st_mode)) {
		r = classify_file(path, (uint64_t)st.st_size, &s->kind, e);
		if (r < 0)
			return r;
	} else {
		return err_msg(e, -EINVAL, "image '%s' is neither a file nor a directory", name);
	}
	/* A changed archive is a new image. */
	exact = s->kind == IMAGE_TAR
		    ? xasprintf("%s %lld %lld", path, (long long)st.st_size,
				(long long)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec)
		    : xstrdup(path);
	s->id = make_id(strrchr(path, '/') + 1, exact);
	s->name = steal_ptr(&path);
	return 0;
}

int image_source_parse(const char *name, struct image_source *ret, struct err *e)
{
	struct image_source s = {0};
	struct stat st;
	int r;

	if (strncmp(name, "deb:", 4) == 0)
		r = parse_deb(name, &s, e);
	else if (strchr(name, '/') || name[0] == '.' || stat(name, &st) == 0)
		r = parse_path(name, &s, e);
	else
		r = err_msg(
		    e, -ENOENT,
		    "image '%s' not found: give deb:SUITE (such as deb:bookworm), the path "
		    "of a directory, tar archive or raw disk, an ID of `insula image list`, or a "
		    "registry's image in full (docker.io/library/NAME)",
		    name);
	if (r < 0)
		image_source_fini(&s);
	else
		*ret = s;
	return r;
}

void image_source_fini(struct image_source *s)
{
	free(s->name);
	free(s->suite);
	free(s->packages);
	free(s->id);
	memset(s, 0, sizeof(*s));
}
