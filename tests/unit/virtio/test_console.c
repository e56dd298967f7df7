/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/virtio/test_console.c - the console device between a fake driver and fake backends
 */
#include "test.h"
#include "virtio/console.h"
#include "virtio/driver.h"

#define SIZE_MULTIPORT 3 /* both feature bits */

struct fake_chr {
	struct chardev chr;
	char out[4096];
	size_t len, room;
	unsigned int resumed;
};

static struct fake_chr chr[2];
static struct gmem *mem;
static struct virtio_dev *dev;
static struct drv drv;

static size_t chr_write(void *backend, const void *buf, size_t len)
{
	struct fake_chr *c = backend;
	size_t n = MIN(len, c->room);

	CHECK(c->len + n <= sizeof(c->out));
	memcpy(c->out + c->len, buf, n);
	c->len += n;
	c->room -= n;
	return n;
}

static void chr_resume(void *backend)
{
	struct fake_chr *c = backend;

	c->resumed++;
}

static const struct chardev_ops chr_ops = {.write = chr_write, .resume = chr_resume};

static void post_out(unsigned int q, const void *data, uint32_t len)
{
	struct drv_buf b[2] = {{drv_alloc(&drv, len, 16), 1}, {0}};

	memcpy(gmem_ptr(mem, b[0].gpa, len), data, len);
	b[1] = (struct drv_buf){b[0].gpa + 1, len - 1};
	CHECK(drv_post(&drv, q, b, len > 1 ? 2 : 1, 0, 0) >= 0);
	drv_kick(&drv, q);
}

static uint64_t post_in(unsigned int q, uint32_t len)
{
	struct drv_buf b = {drv_alloc(&drv, len, 16), len};

	CHECK(drv_post(&drv, q, &b, 0, 1, 0) >= 0);
	drv_kick(&drv, q);
	return b.gpa;
}

static void control(uint32_t id, uint16_t event, uint16_t value)
{
	uint8_t msg[8];

	store_le32(msg, id);
	store_le16(msg + 4, event);
	store_le16(msg + 6, value);
	post_out(3, msg, sizeof(msg));
}

static uint64_t ctrl_buf[16];
static unsigned int ctrl_next;

static void expect_control(uint32_t id, uint16_t event, const void *payload, uint32_t payload_len)
{
	const uint8_t *p;
	uint16_t head;
	uint32_t len;

	CHECK(drv_used(&drv, 2, &head, &len));
	CHECK_EQ(len, 8 + payload_len);
	p = gmem_ptr(mem, ctrl_buf[ctrl_next++], len);
	CHECK_EQ(load_le32(p), id);
	CHECK_EQ(load_le16(p + 4), event);
	CHECK_EQ(load_le16(p + 6), 1);
	CHECK(!payload_len || !memcmp(p + 8, payload, payload_len));
}

static void test_single_port(void)
{
	struct fake_chr *c = &chr[0];
	uint64_t gpa;
	uint16_t head;
	uint32_t len;

	/* A backend that takes a few bytes at a time: nothing lost, nothing twice. */
	c->room = 3;
	post_out(1, "hello ", 6);
	post_out(1, "world", 5);
	CHECK_EQ(c->len, 3);
	CHECK(!drv_used(&drv, 1, &head, &len));
	for (unsigned int i = 0; i < 10; i++) {
		c->room = 1;
		chardev_writable(&c->chr);
	}
	CHECK_EQ(c->len, 11);
	CHECK(!memcmp(c->out, "hello world", 11));
	CHECK(drv_used(&drv, 1, &head, &len) && drv_used(&drv, 1, &head, &len));
	/* The other way: no buffer, then a small one, then enough. */
	CHECK_EQ(chardev_receive(&c->chr, "abcdef", 6), 0);
	gpa = post_in(0, 4);
	CHECK_EQ(c->resumed, 1);
	CHECK_EQ(chardev_receive(&c->chr, "abcdef", 6), 4);
	CHECK(drv_used(&drv, 0, &head, &len));
	CHECK_EQ(len, 4);
	CHECK(!memcmp(gmem_ptr(mem, gpa, 4), "abcd", 4));
	post_in(0, 10);
	CHECK_EQ(c->resumed, 2);
	CHECK_EQ(chardev_receive(&c->chr, "ef", 2), 2);
}

static void test_multiport(void)
{
	static const uint8_t size[4] = {80, 0, 25, 0};
	struct fake_chr *agent = &chr[1];

	drv_start(&drv, VIRTIO_F_EVENT_IDX | SIZE_MULTIPORT, 64);
	virtio_console_resize(dev, 80, 25);
	control(0, 0, 1); /* before any buffer is there: kept */
	for (ctrl_next = 0; ctrl_next < 16; ctrl_next++)
		ctrl_buf[ctrl_next] = post_in(2, 100);
	ctrl_next = 0;
	expect_control(0, 1, NULL, 0);
	expect_control(1, 1, NULL, 0);
	control(0, 3, 1);
	expect_control(0, 4, NULL, 0); /* a console */
	expect_control(0, 6, NULL, 0);
	expect_control(0, 5, size, 4);
	control(1, 3, 1);
	expect_control(1, 7, "org.insula.agent.0", 18);
	expect_control(1, 6, NULL, 0);
	/* Data for a port nobody opened waits. */
	post_in(4, 100);
	CHECK_EQ(chardev_receive(&agent->chr, "x", 1), 0);
	agent->resumed = 0;
	control(1, 6, 1);
	CHECK_EQ(agent->resumed, 1);
	CHECK_EQ(chardev_receive(&agent->chr, "x", 1), 1);
	agent->room = 10;
	post_out(5, "reply", 5);
	CHECK(agent->len == 5 && !memcmp(agent->out, "reply", 5));
	/* Nonsense: ports that are not there, events that are none, half a message. */
	control(2, 3, 1);
	control(UINT32_MAX, 6, 1);
	control(0, 99, 1);
	post_out(3, "abc", 3);
	CHECK(virtio_ready(dev));
}

static void test_config(void)
{
	uint8_t c[12], bang = '!';
	struct fake_chr *con = &chr[0];

	virtio_config_read(dev, 0, c, sizeof(c));
	CHECK_EQ(load_le16(c), 80);
	CHECK_EQ(load_le16(c + 2), 25);
	CHECK_EQ(load_le32(c + 4), 2);
	con->len = 0;
	con->room = 100;
	virtio_config_write(dev, 8, &bang, 1);
	CHECK(con->len == 1 && con->out[0] == '!');
}

/* A chain taken in part is remembered over a save and restore. */
static void test_state(void)
{
	struct strbuf saved = {0};
	struct fake_chr *con = &chr[0];
	struct err e = {0};
	size_t used;

	con->len = 0;
	con->room = 2;
	post_out(1, "abcdef", 6);
	virtio_save(dev, &saved);
	CHECK(virtio_load(dev, saved.data, saved.len, &used, &e) == 0);
	con->room = 100;
	chardev_writable(&con->chr);
	CHECK(con->len == 6 && !memcmp(con->out, "abcdef", 6));
	strbuf_fini(&saved);
}

int main(void)
{
	struct virtio_console_port ports[2] = {
	    {.console = true, .chr = &chr[0].chr},
	    {.name = "org.insula.agent.0", .chr = &chr[1].chr},
	};
	struct err e = {0};

	for (unsigned int i = 0; i < 2; i++)
		chr[i].chr = (struct chardev){.ops = &chr_ops, .backend = &chr[i]};
	CHECK(gmem_new(1u << 20, 1u << 20, &mem, &e) == 0);
	dev = virtio_console_new(mem, ports, 2);
	drv_init(&drv, mem, dev, VIRTIO_F_EVENT_IDX, 64);
	test_single_port();
	test_multiport();
	test_config();
	test_state();
	dev->ops->free(dev);
	CHECK(!chr[0].chr.front);
	gmem_free(mem);
	return 0;
}
