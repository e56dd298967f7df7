/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/container/test_oci_words.c - mount options, capabilities, signals by name
 */
#include "container/caps.h"
#include "container/mount_opts.h"
#include "container/proc.h"
#include "test.h"

#include <linux/mount.h>
#include <signal.h>
#include <sys/mount.h>

static struct mount_opts parse(const char **words)
{
	struct spec_strings s = {.v = words};
	struct mount_opts o;

	while (words[s.n])
		s.n++;
	mount_opts_parse(&s, &o);
	return o;
}

static void test_mount_options(void)
{
	struct mount_opts o = parse((const char *[]){"ro", "nosuid", "rbind", "rslave", "mode=755",
						     "sync", "rw", "suid", "rro", NULL});

	CHECK_EQ(o.set, 0); /* the last word counts */
	CHECK_EQ(o.clear, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID);
	CHECK_EQ(o.rec_set, MOUNT_ATTR_RDONLY);
	CHECK(o.bind && o.rec && o.propagation == MS_SLAVE && o.propagation_rec);
	CHECK_EQ(o.n_data, 2);
	CHECK_STR(o.data[0], "mode=755");
	CHECK_STR(o.data[1], "sync");
	mount_opts_fini(&o);
	o = parse((const char *[]){"noatime", "strictatime", "bind", "private", "tmpcopyup", NULL});
	CHECK_EQ(o.set, MOUNT_ATTR_STRICTATIME);
	CHECK_EQ(o.clear, MOUNT_ATTR__ATIME);
	CHECK(o.bind && !o.rec && o.tmpcopyup && o.propagation == MS_PRIVATE && !o.propagation_rec);
	mount_opts_fini(&o);
	o = parse((const char *[]){"ridmap", "remount", NULL});
	CHECK(o.idmap && o.idmap_rec && o.remount && !o.n_data);
	mount_opts_fini(&o);
}

static void test_names(void)
{
	CHECK_EQ(caps_parse("CAP_CHOWN"), 1);
	CHECK_EQ(caps_parse("cap_checkpoint_restore"), BIT(40));
	CHECK_EQ(caps_parse("CAP_X"), 0);
	CHECK_EQ(proc_parse_signal("KILL"), SIGKILL);
	CHECK_EQ(proc_parse_signal("SIGTERM"), SIGTERM);
	CHECK_EQ(proc_parse_signal("9"), 9);
	CHECK_EQ(proc_parse_signal("0"), 0);
	CHECK_EQ(proc_parse_signal("SIGRTMIN+3"), SIGRTMIN + 3);
	CHECK_EQ(proc_parse_signal("RTMAX-1"), SIGRTMAX - 1);
	CHECK(proc_parse_signal("X") < 0 && proc_parse_signal("9x") < 0 &&
	      proc_parse_signal("65") < 0 && proc_parse_signal("-1") < 0 &&
	      proc_parse_signal("RTMIN-1") < 0);
}

static void test_close_from(void)
{
	int keep[] = {-1, 0, 0}, fds[6];

	for (unsigned int i = 0; i < 6; i++) {
		fds[i] = dup(0);
		CHECK(fds[i] >= 3);
	}
	keep[1] = fds[4];
	keep[2] = fds[1];
	proc_close_from((unsigned int)fds[0], keep, 3);
	for (unsigned int i = 0; i < 6; i++)
		CHECK((dup2(fds[i], fds[i]) >= 0) == (i == 1 || i == 4));
}

int main(void)
{
	test_mount_options();
	test_names();
	test_close_from();
	return 0;
}
