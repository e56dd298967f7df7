/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/image/test_source.c - what names of images mean
 */
#include "base/fd.h"
#include "image/image.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

static void deb(const char *name, const char *canonical, const char *suite, const char *packages)
{
	struct image_source s;
	struct err e = {0};

	CHECK_EQ(image_source_parse(name, &s, &e), 0);
	CHECK_EQ(s.kind, IMAGE_DEB);
	CHECK_STR(s.name, canonical);
	CHECK_STR(s.suite, suite);
	CHECK_STR(s.packages, packages);
	image_source_fini(&s);
}

static void bad(const char *name, int code)
{
	struct image_source s;
	struct err e = {0};

	CHECK(image_source_parse(name, &s, &e) == code);
	CHECK(e.msg[0]);
}

static void same_id_in_any_order(void)
{
	struct image_source a, b, c;

	CHECK_EQ(image_source_parse("deb:bookworm+b+a", &a, NULL), 0);
	CHECK_EQ(image_source_parse("deb:bookworm+a+b", &b, NULL), 0);
	CHECK_EQ(image_source_parse("deb:bookworm+a", &c, NULL), 0);
	CHECK_STR(a.id, b.id);
	CHECK(strcmp(a.id, c.id) != 0);
	image_source_fini(&a);
	image_source_fini(&b);
	image_source_fini(&c);
}

static void write_bytes(const char *path, size_t at, const void *data, size_t len, size_t size)
{
	autoclose int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, (off_t)size), 0);
	CHECK_EQ(pwrite_full(fd, data, len, at), 0);
}

static enum image_kind kind_of(const char *path)
{
	struct image_source s;
	enum image_kind k;

	CHECK_EQ(image_source_parse(path, &s, NULL), 0);
	k = s.kind;
	CHECK_EQ(s.name[0], '/');
	image_source_fini(&s);
	return k;
}

static void paths(void)
{
	char dir[] = "/tmp/insula-test-XXXXXX";
	autofree char *file = NULL;

	CHECK(mkdtemp(dir));
	file = xasprintf("%s/x", dir);
	CHECK_EQ(kind_of(dir), IMAGE_DIRECTORY);
	write_bytes(file, 257, "ustar", 5, 10240);
	CHECK_EQ(kind_of(file), IMAGE_TAR);
	write_bytes(file, 0, "\x28\xb5\x2f\xfd", 4, 100);
	CHECK_EQ(kind_of(file), IMAGE_TAR);
	write_bytes(file, 510, "\x55\xaa", 2, 1 << 20);
	CHECK_EQ(kind_of(file), IMAGE_DISK);
	write_bytes(file, 0, "QFI\xfb", 4, 1 << 20);
	bad(file, -EINVAL);
	write_bytes(file, 0, "text", 4, 4);
	bad(file, -EINVAL);
	write_bytes(file, 0, "", 0, 0);
	bad(file, -EINVAL);
	unlink(file);
	bad(file, -ENOENT);
	rmdir(dir);
}

int main(void)
{
	deb("deb:bookworm", "deb:bookworm", "bookworm", "");
	deb("deb:trixie+python3+git", "deb:trixie+git+python3", "trixie", "git,python3");
	deb("deb:bookworm+g++", "deb:bookworm+g++", "bookworm", "g++");
	deb("deb:bookworm+g+++cc", "deb:bookworm+cc+g++", "bookworm", "cc,g++");
	bad("deb:", -EINVAL);
	bad("deb:book worm", -EINVAL);
	bad("deb:bookworm+;reboot", -EINVAL);
	bad("deb:--option", -EINVAL);
	bad("deb:bookworm+-x", -EINVAL);
	bad("no-such-image", -ENOENT);
	bad("/dev/null", -EINVAL);
	same_id_in_any_order();
	paths();
	return 0;
}
