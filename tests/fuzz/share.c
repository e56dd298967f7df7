/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/share.c - the small directory that the share servers are fuzzed with
 */
#include "share.h"

#include "fuzz.h"

#include <assert.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char base[] = "/var/tmp/insula-fuzz-XXXXXX";
static unsigned int runs;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void cleanup(void)
{
	(void)nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static const char *in_base(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", base, name);
	return path;
}

static void put_file(const char *name)
{
	int fd = open(in_base(name), O_CREAT | O_WRONLY | O_TRUNC, 0600);

	if (fd < 0 || write(fd, "content", 7) != 7)
		abort();
	close(fd);
}

static void make_tree(void)
{
	if (runs == 0) {
		if (!mkdtemp(base))
			abort();
		atexit(cleanup);
	} else {
		cleanup();
		(void)mkdir(base, 0700);
	}
	if (mkdir(in_base("share"), 0700) < 0 || mkdir(in_base("share/a"), 0700) < 0)
		abort();
	put_file("outside");
	put_file("share/b");
	put_file("share/a/c");
	if (symlink("../outside", in_base("share/l")) < 0)
		abort();
}

void share_begin(void)
{
	if (runs % 200 == 0)
		make_tree();
	runs++;
}

void share_open(int *root, int *proc)
{
	*root = open(in_base("share"), O_PATH | O_DIRECTORY);
	*proc = open("/proc/self/fd", O_PATH | O_DIRECTORY);
	if (*root < 0 || *proc < 0)
		abort();
}

void share_check_outside(void)
{
	char buf[16];
	struct stat st;
	int fd = open(in_base("outside"), O_RDONLY);

	assert(fd >= 0 && fstat(fd, &st) == 0);
	assert(st.st_size == 7 && (st.st_mode & 0777) == 0600 && st.st_nlink == 1);
	assert(read(fd, buf, 16) == 7 && memcmp(buf, "content", 7) == 0);
	close(fd);
}
