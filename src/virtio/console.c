/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/console.c - console and named byte streams (virtio 1.2, 5.3)
 *
 *	queue 0, 1       receive and transmit of port 0
 *	queue 2, 3       control messages to and from the driver
 *	queue 2n+2, 2n+3 receive and transmit of port n
 *
 * Everything runs in the thread that kicks or in the backend's: a chardev never blocks.  A chain
 *that the backend takes only in part goes back to the ring with the offset remembered, so that no
 *request is ever in flight.
 */
#include "virtio/console.h"

#include "base/log.h"

#include <assert.h>

#define CONSOLE_SIZE      BIT(0)
#define CONSOLE_MULTIPORT BIT(1)
#define CONSOLE_EMERG     BIT(2)

#define QUEUE_CTRL_RX 2
#define QUEUE_CTRL_TX 3
#define QUEUE_SIZE    128
#define CONFIG_LEN    12
#define CONFIG_EMERG  8

enum console_event {
	EVENT_DEVICE_READY = 0,
	EVENT_DEVICE_ADD = 1,
	EVENT_PORT_READY = 3,
	EVENT_CONSOLE_PORT = 4,
	EVENT_RESIZE = 5,
	EVENT_PORT_OPEN = 6,
	EVENT_PORT_NAME = 7,
};

/* Control messages a port owes the driver, as bits of their event: bounded, and in this order. */
static const enum console_event owed_order[] = {EVENT_DEVICE_ADD, EVENT_CONSOLE_PORT,
						EVENT_PORT_NAME, EVENT_PORT_OPEN, EVENT_RESIZE};

struct console_port {
	struct virtio_console *con;
	unsigned int index;
	char name[VIRTIO_CONSOLE_NAME_MAX];
	bool console;
	struct chardev *chr;
	bool rx_wait; /* the backend holds bytes: resume it when buffers come */
};

struct virtio_console {
	struct virtio_dev dev;
	unsigned int n_ports;
	struct console_port port[VIRTIO_CONSOLE_PORTS];
	/* Saved; one element a port. */
	uint8_t guest_open[VIRTIO_CONSOLE_PORTS];
	uint32_t owed[VIRTIO_CONSOLE_PORTS];
	uint64_t tx_off[VIRTIO_CONSOLE_PORTS]; /* bytes of the next chain that were written */
	uint16_t cols, rows;
	struct vq_chain chain; /* under the lock, never across a return */
};

static struct virtio_console *console_of(struct virtio_dev *d)
{
	return container_of(d, struct virtio_console, dev);
}

static struct vq *rx_queue(const struct console_port *p)
{
	return &p->con->dev.q[p->index ? 2 * p->index + 2 : 0];
}

static struct vq *tx_queue(const struct console_port *p)
{
	return rx_queue(p) + 1;
}

static bool is_multiport(const struct virtio_console *c)
{
	return virtio_has(&c->dev, CONSOLE_MULTIPORT);
}

/* --- data --- */

/* Bytes of @chain from @off on that the backend took. */
static size_t write_out(struct console_port *p, const struct vq_chain *chain, size_t off)
{
	size_t done = 0;

	for (unsigned int i = 0; i < chain->n_out; i++) {
		const struct iovec *v = &chain->out[i];
		size_t n;

		if (off >= v->iov_len) {
			off -= v->iov_len;
			continue;
		}
		n = chardev_write(p->chr, (const char *)v->iov_base + off, v->iov_len - off);
		done += n;
		if (n < v->iov_len - off)
			break;
		off = 0;
	}
	return done;
}

static void port_tx(struct console_port *p)
{
	struct virtio_console *c = p->con;
	struct vq *q = tx_queue(p);
	uint64_t *off = &c->tx_off[p->index];

	while (vq_pop(q, &c->chain)) {
		*off += write_out(p, &c->chain, *off);
		if (*off < c->chain.out_len) {
			vq_unpop(q);
			break;
		}
		*off = 0;
		vq_push(q, &c->chain, 0);
	}
	vq_notify(q);
}

static void console_writable(void *front)
{
	struct console_port *p = front;

	virtio_lock(&p->con->dev);
	port_tx(p);
	virtio_unlock(&p->con->dev);
}

static size_t port_rx(struct console_port *p, const void *buf, size_t len)
{
	struct virtio_console *c = p->con;
	struct vq *q = rx_queue(p);
	size_t done = 0;

	if (is_multiport(c) && !c->guest_open[p->index])
		len = 0;
	while (done < len && vq_pop(q, &c->chain)) {
		size_t n = iov_from_buf(c->chain.in, c->chain.n_in, 0, (const char *)buf + done,
					len - done);

		vq_push(q, &c->chain, (uint32_t)n);
		done += n;
	}
	vq_notify(q);
	return done;
}

static size_t console_receive(void *front, const void *buf, size_t len)
{
	struct console_port *p = front;
	size_t done;

	virtio_lock(&p->con->dev);
	done = port_rx(p, buf, len);
	p->rx_wait = done < len;
	virtio_unlock(&p->con->dev);
	return done;
}

static void port_resume(struct console_port *p)
{
	if (!p->rx_wait)
		return;
	p->rx_wait = false;
	chardev_resume(p->chr);
}

/* --- control messages --- */

/* The message's payload after id, event and value; returns its length. */
static size_t event_payload(struct console_port *p, enum console_event ev, uint8_t *buf)
{
	if (ev == EVENT_PORT_NAME) {
		memcpy(buf, p->name, strlen(p->name));
		return strlen(p->name);
	}
	if (ev == EVENT_RESIZE) {
		/* Linux before 6.16 takes these the other way round; 5.3.6.2 says columns first. */
		store_le16(buf, p->con->cols);
		store_le16(buf + 2, p->con->rows);
		return 4;
	}
	return 0;
}

static bool send_event(struct console_port *p, enum console_event ev)
{
	struct virtio_console *c = p->con;
	uint8_t msg[8 + VIRTIO_CONSOLE_NAME_MAX];
	size_t len;

	if (!vq_pop(&c->dev.q[QUEUE_CTRL_RX], &c->chain))
		return false;
	store_le32(msg, p->index);
	store_le16(msg + 4, (uint16_t)ev);
	store_le16(msg + 6, 1);
	len = 8 + event_payload(p, ev, msg + 8);
	len = iov_from_buf(c->chain.in, c->chain.n_in, 0, msg, len);
	vq_push(&c->dev.q[QUEUE_CTRL_RX], &c->chain, (uint32_t)len);
	return true;
}

static void send_owed(struct virtio_console *c)
{
	if (!is_multiport(c))
		return;
	for (unsigned int i = 0; i < c->n_ports; i++) {
		for (unsigned int k = 0; k < ARRAY_SIZE(owed_order); k++) {
			uint32_t bit = (uint32_t)BIT(owed_order[k]);

			if (!(c->owed[i] & bit))
				continue;
			if (!send_event(&c->port[i], owed_order[k]))
				goto out; /* the driver's next buffer kicks */
			c->owed[i] &= ~bit;
		}
	}
out:
	vq_notify(&c->dev.q[QUEUE_CTRL_RX]);
}

static void port_ready(struct console_port *p)
{
	uint32_t owed = BIT(EVENT_PORT_OPEN);

	if (p->console)
		owed |= BIT(EVENT_CONSOLE_PORT);
	if (p->console && p->con->cols && virtio_has(&p->con->dev, CONSOLE_SIZE))
		owed |= BIT(EVENT_RESIZE);
	if (p->name[0])
		owed |= BIT(EVENT_PORT_NAME);
	p->con->owed[p->index] |= owed;
}

static void take_control(struct virtio_console *c, const struct vq_chain *chain)
{
	uint8_t msg[8];
	uint32_t id;
	uint16_t event, value;

	if (iov_to_buf(chain->out, chain->n_out, 0, msg, sizeof(msg)) != sizeof(msg)) {
		guest_warn("virtio-console: control message of %zu bytes", chain->out_len);
		return;
	}
	id = load_le32(msg);
	event = load_le16(msg + 4);
	value = load_le16(msg + 6);
	if (event == EVENT_DEVICE_READY) {
		for (unsigned int i = 0; value && i < c->n_ports; i++)
			c->owed[i] |= BIT(EVENT_DEVICE_ADD);
		return;
	}
	if (id >= c->n_ports) {
		guest_warn("virtio-console: control message for port %u", id);
		return;
	}
	if (event == EVENT_PORT_READY && value)
		port_ready(&c->port[id]);
	if (event == EVENT_PORT_OPEN) {
		c->guest_open[id] = value != 0;
		if (value)
			port_resume(&c->port[id]);
	}
}

static void control_tx(struct virtio_console *c, struct vq *q)
{
	while (vq_pop(q, &c->chain)) {
		take_control(c, &c->chain);
		vq_push(q, &c->chain, 0);
	}
	vq_notify(q);
	send_owed(c);
}

void virtio_console_resize(struct virtio_dev *d, uint16_t cols, uint16_t rows)
{
	struct virtio_console *c = console_of(d);

	virtio_lock(d);
	c->cols = cols;
	c->rows = rows;
	if (virtio_has(d, CONSOLE_SIZE)) {
		for (unsigned int i = 0; is_multiport(c) && i < c->n_ports; i++) {
			if (c->port[i].console && c->guest_open[i])
				c->owed[i] |= BIT(EVENT_RESIZE);
		}
		send_owed(c);
		virtio_config_changed(d);
	}
	virtio_unlock(d);
}

/* --- the device --- */

static void console_kick(struct virtio_dev *d, struct vq *q)
{
	struct virtio_console *c = console_of(d);
	unsigned int pair = q->index / 2u, port = pair ? pair - 1 : 0;

	if (q->index == QUEUE_CTRL_TX)
		control_tx(c, q);
	else if (q->index == QUEUE_CTRL_RX)
		send_owed(c);
	else if (q->index & 1)
		port_tx(&c->port[port]);
	else
		port_resume(&c->port[port]);
}

static void console_config_read(struct virtio_dev *d, uint32_t off, void *buf, uint32_t len)
{
	const struct virtio_console *c = console_of(d);
	uint8_t config[CONFIG_LEN] = {0};

	store_le16(config, c->cols);
	store_le16(config + 2, c->rows);
	store_le32(config + 4, c->n_ports);
	memcpy(buf, config + off, len);
}

/* A character without any queue, for a kernel in trouble (5.3.4). */
static void console_config_write(struct virtio_dev *d, uint32_t off, const void *buf, uint32_t len)
{
	/* What the backend does not take at once is lost: there is nobody to wait. */
	if (off == CONFIG_EMERG)
		(void)chardev_write(console_of(d)->port[0].chr, buf, 1);
}

static void console_reset(struct virtio_dev *d)
{
	struct virtio_console *c = console_of(d);

	memset(c->guest_open, 0, sizeof(c->guest_open));
	memset(c->owed, 0, sizeof(c->owed));
	memset(c->tx_off, 0, sizeof(c->tx_off));
}

static void console_free(struct virtio_dev *d)
{
	struct virtio_console *c = console_of(d);

	for (unsigned int i = 0; i < c->n_ports; i++) {
		if (c->port[i].chr)
			c->port[i].chr->front = NULL;
	}
	virtio_fini(d);
	free(c);
}

static const struct state_field console_fields[] = {
    STATE_ARRAY(struct virtio_console, guest_open, 1), STATE_ARRAY(struct virtio_console, owed, 1),
    STATE_ARRAY(struct virtio_console, tx_off, 1),     STATE_FIELD(struct virtio_console, cols, 1),
    STATE_FIELD(struct virtio_console, rows, 1),
};

static const struct state_table console_table = {
    .name = "virtio-console",
    .version = 1,
    .fields = console_fields,
    .n_fields = ARRAY_SIZE(console_fields),
};

static const struct virtio_ops console_ops = {
    .name = "virtio-console",
    .id = 3,
    .kick = console_kick,
    .config_read = console_config_read,
    .config_write = console_config_write,
    .reset = console_reset,
    .free = console_free,
    .state = &console_table,
};

static const struct chardev_front console_front = {
    .receive = console_receive,
    .writable = console_writable,
};

struct virtio_dev *virtio_console_new(struct gmem *mem, const struct virtio_console_port *ports,
				      unsigned int n)
{
	struct virtio_console *c = xnew(struct virtio_console);

	assert(n >= 1 && n <= VIRTIO_CONSOLE_PORTS);
	virtio_init(&c->dev, &console_ops, mem, 2 * (n + 1), QUEUE_SIZE,
		    CONSOLE_SIZE | CONSOLE_MULTIPORT | CONSOLE_EMERG, CONFIG_LEN);
	c->n_ports = n;
	for (unsigned int i = 0; i < n; i++) {
		struct console_port *p = &c->port[i];

		p->con = c;
		p->index = i;
		p->console = ports[i].console;
		p->chr = ports[i].chr;
		if (ports[i].name)
			strncpy(p->name, ports[i].name, sizeof(p->name) - 1);
		if (p->chr) {
			p->chr->frontend = p;
			p->chr->front = &console_front;
		}
	}
	return &c->dev;
}
