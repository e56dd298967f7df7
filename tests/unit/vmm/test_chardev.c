/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/vmm/test_chardev.c - console backends: file, socket, nothing lost when the reader is
 * slow
 */
#include "vmm/chardev.h"

#include "base/fd.h"
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

struct device {
	struct chardev *chr;
	char in[64];
	size_t n_in, room;
	bool writable;
};

static size_t on_receive(void *front, const void *buf, size_t len)
{
	struct device *d = front;
	size_t n = MIN(len, d->room);

	memcpy(d->in + d->n_in, buf, n);
	d->n_in += n;
	d->room -= n;
	return n;
}

static void on_writable(void *front)
{
	struct device *d = front;

	d->writable = true;
}

static const struct chardev_front front = {.receive = on_receive, .writable = on_writable};

static struct chardev_backend *make(struct loop *l, struct device *d, enum vm_chardev type,
				    char *path)
{
	struct vm_chardev_desc desc = {.type = type, .path = path};
	struct chardev_config cfg = {.desc = &desc, .loop = l};
	struct chardev_backend *b;
	struct err e = {0};

	CHECK_EQ(chardev_backend_open(&cfg, &b, &e), 0);
	d->chr = chardev_backend_front(b);
	if (d->chr) {
		d->chr->front = &front;
		d->chr->frontend = d;
	}
	return b;
}

static void test_none(struct loop *l)
{
	struct device d = {0};

	CHECK(!make(l, &d, VM_CHARDEV_NONE, NULL));
	CHECK_EQ(chardev_write(d.chr, "x", 1), 1);
	chardev_backend_close(NULL);
}

static void test_file(struct loop *l)
{
	char path[] = "/tmp/insula-chr-XXXXXX";
	autostrbuf struct strbuf text = {0};
	struct device d = {0};
	struct chardev_backend *b;
	int fd = mkstemp(path);

	CHECK_EQ(write_full(fd, "old,", 4), 0);
	close(fd);
	b = make(l, &d, VM_CHARDEV_FILE, path);
	CHECK_EQ(chardev_write(d.chr, "new", 3), 3);
	loop_once(l, 10);
	CHECK_EQ(chardev_write(d.chr, ",last", 5), 5);
	chardev_backend_close(b); /* what waits is written */
	CHECK_EQ(read_file(path, 100, &text), 0);
	CHECK_STR(text.data, "old,new,last");
	unlink(path);
}

static int dial(const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	strcpy(sa.sun_path, path);
	CHECK_EQ(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

static void test_socket_input(struct loop *l, struct device *d, int fd)
{
	d->room = 3;
	CHECK_EQ(write_full(fd, "abcdef", 6), 0);
	for (int i = 0; i < 20; i++)
		loop_once(l, 5);
	CHECK_EQ(d->n_in, 3);
	d->room = 10;
	chardev_resume(d->chr);
	for (int i = 0; i < 20 && d->n_in < 6; i++)
		loop_once(l, 5);
	CHECK_EQ(d->n_in, 6);
	CHECK(memcmp(d->in, "abcdef", 6) == 0);
}

/* A reader that sleeps holds the device back; then every byte comes, in order. */
static void test_socket_output(struct loop *l, struct device *d, int fd)
{
	uint32_t sent = 0, got = 0, stuck = 0, block[256], part[256];

	while (stuck < 10) {
		size_t n;

		for (uint32_t i = 0; i < 256; i++)
			block[i] = sent / 4 + i;
		n = chardev_write(d->chr, block, sizeof(block));
		n -= n % 4; /* the buffer's size is a multiple of 4 */
		sent += (uint32_t)n;
		stuck = n ? 0 : stuck + 1;
		loop_once(l, 0);
		loop_once(l, 0);
	}
	CHECK(!d->writable || sent > 0);
	d->writable = false;
	while (got < sent) {
		ssize_t n = read(fd, part, sizeof(part));

		if (n < 0) {
			CHECK_EQ(errno, EAGAIN);
			loop_once(l, 5);
			continue;
		}
		CHECK(n > 0 && n % 4 == 0);
		for (ssize_t i = 0; i < n / 4; i++)
			CHECK_EQ(part[i], got / 4 + i);
		got += (uint32_t)n;
	}
	CHECK_EQ(got, sent);
	CHECK(d->writable);
}

static void test_socket(struct loop *l)
{
	char dir[] = "/tmp/insula-chr-XXXXXX", path[64];
	struct device d = {0};
	struct chardev_backend *b;
	char c;
	int fd, second;

	CHECK(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	b = make(l, &d, VM_CHARDEV_SOCKET, path);
	CHECK_EQ(chardev_write(d.chr, "lost", 4), 4); /* nobody is there */
	loop_once(l, 10);
	fd = dial(path);
	loop_once(l, 10);
	second = dial(path);
	for (int i = 0; i < 5; i++)
		loop_once(l, 5);
	CHECK_EQ(read(second, &c, 1), 0);
	close(second);
	test_socket_input(l, &d, fd);
	test_socket_output(l, &d, fd);
	close(fd);
	for (int i = 0; i < 5; i++)
		loop_once(l, 5);
	CHECK_EQ(chardev_write(d.chr, "lost", 4), 4);
	fd = dial(path);
	for (int i = 0; i < 5; i++)
		loop_once(l, 5);
	CHECK_EQ(chardev_write(d.chr, "x", 1), 1);
	loop_once(l, 10);
	CHECK_EQ(read(fd, &c, 1), 1);
	CHECK_EQ(c, 'x');
	chardev_backend_close(b);
	CHECK_EQ(read(fd, &c, 1), 0);
	close(fd);
	CHECK(access(path, F_OK) < 0);
	rmdir(dir);
}

int main(void)
{
	struct loop *l;

	CHECK_EQ(loop_new(&l, NULL), 0);
	test_none(l);
	test_file(l);
	test_socket(l);
	loop_free(l);
	return 0;
}
