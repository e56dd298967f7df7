/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/virtio/share_dir.c - a host directory to share, and one request at a time to its
 * device
 */
#include "virtio/share_dir.h"
#include "test.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* --- the host's side --- */

char share_base[] = "/var/tmp/insula-share-XXXXXX";

void share_make(void)
{
	CHECK(mkdtemp(share_base));
	umask(077);
	CHECK_EQ(mkdir(host("share"), 0755), 0);
}

void share_remove(void)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", share_base);
	CHECK_EQ(system(cmd), 0);
}

const char *host(const char *name)
{
	static char path[2][512];
	static int which;

	which = !which;
	snprintf(path[which], sizeof(path[which]), "%s/%s", share_base, name);
	return path[which];
}

void host_file(const char *name, const char *text)
{
	int fd = open(host(name), O_CREAT | O_TRUNC | O_WRONLY, 0644);

	CHECK(fd >= 0);
	CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

void host_many_files(void)
{
	char name[64];

	for (unsigned int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "share/many/file%u", i);
		host_file(name, "");
	}
}

void host_open_share(int *root, int *proc)
{
	*root = open(host("share"), O_PATH | O_DIRECTORY);
	*proc = open("/proc/self/fd", O_PATH | O_DIRECTORY);
	CHECK(*root >= 0 && *proc >= 0);
}

static atomic_bool racing;
static pthread_t race_thread;

static void *racer(void *opaque)
{
	struct timespec moment = {.tv_nsec = 1000};

	while (racing) {
		nanosleep(&moment, NULL); /* a directory for a while */
		(void)!rename(host("share/flip"), host("share/flip.dir"));
		(void)!symlink(share_base, host("share/flip"));
		(void)!unlink(host("share/flip"));
		(void)!rename(host("share/flip.dir"), host("share/flip"));
	}
	return opaque;
}

void race_start(void)
{
	racing = true;
	CHECK_EQ(pthread_create(&race_thread, NULL, racer, NULL), 0);
}

void race_stop(void)
{
	racing = false;
	pthread_join(race_thread, NULL);
}

int run_child(void (*part)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		part();
		exit(0);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	return status;
}

/* --- the driver's side --- */

static void make_buffers(struct share_drv *s)
{
	s->out = drv_alloc(&s->v, s->out_size, 4096);
	s->in = drv_alloc(&s->v, s->in_size, 4096);
}

void share_drv_init(struct share_drv *s, struct gmem *m, struct virtio_dev *d, uint64_t features)
{
	drv_init(&s->v, m, d, features, 128);
	make_buffers(s);
}

uint32_t share_drv_call(struct share_drv *s, unsigned int qi, const uint8_t *request, size_t len,
			uint8_t *reply, uint32_t in_len)
{
	struct drv_buf b[3] = {{s->out, (uint32_t)len}, {s->in, s->head}, {s->in + 4096, in_len}};
	struct timespec tick = {.tv_nsec = 100000};
	uint16_t head;
	uint32_t n;

	CHECK_EQ(gmem_write(s->v.m, s->out, request, len), 0);
	CHECK(drv_post(&s->v, qi, b, 1, reply ? 2 : 0, 0) >= 0);
	drv_kick(&s->v, qi);
	for (unsigned int i = 0; !drv_used(&s->v, qi, &head, &n); i++) {
		CHECK(i < 100000);
		nanosleep(&tick, NULL);
	}
	if (reply) {
		CHECK_EQ(gmem_read(s->v.m, s->in, reply, s->head), 0);
		CHECK_EQ(gmem_read(s->v.m, s->in + 4096, reply + s->head, in_len), 0);
	}
	return n;
}

void share_drv_storm(struct share_drv *s, unsigned int rounds, size_t len)
{
	for (unsigned int i = 0; i < rounds; i++) {
		struct drv_buf b[2] = {{s->out, (uint32_t)len}, {s->in, 65536}};

		for (unsigned int k = 0; k < 20; k++)
			CHECK(drv_post(&s->v, s->qi, b, 1, 1, 0) >= 0);
		drv_kick(&s->v, s->qi);
		drv_start(&s->v, VIRTIO_F_EVENT_IDX, 128);
		make_buffers(s);
	}
}

void share_drv_break(struct share_drv *s)
{
	struct drv_buf b[2] = {{s->out, 3}, {s->in, 100}};
	struct timespec tick = {.tv_nsec = 1000000};

	CHECK(drv_post(&s->v, s->qi, b, 1, 1, 0) >= 0);
	drv_kick(&s->v, s->qi);
	for (unsigned int i = 0; !s->v.config_irqs && i < 5000; i++)
		nanosleep(&tick, NULL);
	CHECK_EQ(s->v.config_irqs, 1);
}
