/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device/uart16550.c - serial port (National PC16550D, section 8)
 */
#include "device/uart16550.h"

#include "base/clock.h"

#include <errno.h>

enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

#define IER_RDA  0x01
#define IER_THRE 0x02
#define IER_RLS  0x04
#define IER_MS   0x08

#define IIR_NONE    0x01
#define IIR_MS      0x00
#define IIR_THRE    0x02
#define IIR_RDA     0x04
#define IIR_RLS     0x06
#define IIR_TIMEOUT 0x0c
#define IIR_FIFO    0xc0

#define FCR_ENABLE 0x01
#define FCR_RX_CLR 0x02
#define FCR_TX_CLR 0x04

#define LCR_BREAK 0x40
#define LCR_DLAB  0x80

#define MCR_DTR  0x01
#define MCR_RTS  0x02
#define MCR_OUT1 0x04
#define MCR_OUT2 0x08
#define MCR_LOOP 0x10

#define LSR_DR   0x01
#define LSR_OE   0x02
#define LSR_FE   0x08
#define LSR_BI   0x10
#define LSR_THRE 0x20
#define LSR_TEMT 0x40
#define LSR_FIFO 0x80
#define LSR_ERR  0x1e

#define MSR_DELTA 0x0f
#define MSR_TERI  0x04
#define MSR_CTS   0x10
#define MSR_DSR   0x20
#define MSR_RI    0x40
#define MSR_DCD   0x80

/* A connected terminal is always there. */
#define MSR_IDLE (MSR_CTS | MSR_DSR | MSR_DCD)

/* Four characters of ten bits each, at the programmed rate but within what a guest can bear. */
#define UART_CLOCK     UINT64_C(1843200)
#define TIMEOUT_MIN_NS (50 * NSEC_PER_USEC)
#define TIMEOUT_MAX_NS (100 * NSEC_PER_MSEC)

static bool fifo_on(const struct uart16550 *u)
{
	return u->fcr & FCR_ENABLE;
}

static unsigned int fifo_depth(const struct uart16550 *u)
{
	return fifo_on(u) ? UART_FIFO : 1;
}

static unsigned int trigger_level(const struct uart16550 *u)
{
	static const uint8_t levels[4] = {1, 4, 8, 14};

	return fifo_on(u) ? levels[u->fcr >> 6] : 1;
}

static uint8_t irq_id(const struct uart16550 *u)
{
	if ((u->ier & IER_RLS) && (u->lsr & LSR_ERR))
		return IIR_RLS;
	if ((u->ier & IER_RDA) && u->rx_n >= trigger_level(u))
		return IIR_RDA;
	if ((u->ier & IER_RDA) && u->timeout_pending)
		return IIR_TIMEOUT;
	if ((u->ier & IER_THRE) && u->thre_pending)
		return IIR_THRE;
	if ((u->ier & IER_MS) && (u->msr & MSR_DELTA))
		return IIR_MS;
	return IIR_NONE;
}

/* In a PC, OUT2 gates the interrupt onto the bus; many drivers never set it, and boards without the
 * gate exist, so the line is not gated here. */
static void update_irq(struct uart16550 *u)
{
	irq_set(&u->irq, irq_id(u) != IIR_NONE);
}

static void arm_timeout(struct uart16550 *u)
{
	uint64_t divisor = (uint64_t)u->dlm << 8 | u->dll, ns;

	u->timeout_pending = 0;
	if (!fifo_on(u) || u->rx_n == 0 || u->rx_n >= trigger_level(u)) {
		timer_cancel(&u->timeout_timer);
		return;
	}
	ns = 40 * 16 * (divisor ? divisor : 65536) * NSEC_PER_SEC / UART_CLOCK;
	ns = MIN(MAX(ns, TIMEOUT_MIN_NS), TIMEOUT_MAX_NS);
	timer_set(&u->timeout_timer, timerq_now(u->timeout_timer.q) + ns);
}

static void on_timeout(void *opaque)
{
	struct uart16550 *u = opaque;

	device_lock(&u->dev);
	if (fifo_on(u) && u->rx_n > 0 && u->rx_n < trigger_level(u)) {
		u->timeout_pending = 1;
		update_irq(u);
	}
	device_unlock(&u->dev);
}

/* --- receiver ----------------------------------------------------------------------------------
 */

/* Errors show in LSR when their byte comes to the top of the FIFO. */
static void rx_top_changed(struct uart16550 *u)
{
	bool any = false;

	u->lsr &= (uint8_t) ~(LSR_DR | LSR_FIFO);
	if (u->rx_n)
		u->lsr |= LSR_DR | u->rx_break[u->rx_head];
	for (unsigned int i = 0; i < u->rx_n; i++)
		any |= u->rx_break[(u->rx_head + i) % UART_FIFO] != 0;
	if (any && fifo_on(u))
		u->lsr |= LSR_FIFO;
}

static void rx_push(struct uart16550 *u, uint8_t byte, uint8_t errors)
{
	unsigned int at;

	if (u->rx_n >= fifo_depth(u)) {
		u->lsr |= LSR_OE;
		if (fifo_on(u))
			return; /* the shift register is lost, the FIFO is kept */
		u->rx_n = 0;
	}
	at = (u->rx_head + u->rx_n) % UART_FIFO;
	u->rx[at] = byte;
	u->rx_break[at] = errors;
	u->rx_n++;
	if (u->rx_n == 1)
		rx_top_changed(u);
	else if (errors && fifo_on(u))
		u->lsr |= LSR_FIFO;
}

static uint8_t rx_pop(struct uart16550 *u)
{
	uint8_t byte = u->rx[u->rx_head];

	if (!u->rx_n)
		return fifo_on(u) ? 0 : byte;
	u->rx_break[u->rx_head] = 0;
	u->rx_n--;
	if (fifo_on(u))
		u->rx_head = (u->rx_head + 1) % UART_FIFO;
	rx_top_changed(u);
	arm_timeout(u);
	if (u->resume_wanted && u->rx_n == 0) {
		u->resume_wanted = false;
		chardev_resume(u->chr);
	}
	return byte;
}

static void rx_clear(struct uart16550 *u)
{
	u->rx_n = 0;
	u->rx_head = 0;
	memset(u->rx_break, 0, sizeof(u->rx_break));
	rx_top_changed(u);
	arm_timeout(u);
	if (u->resume_wanted) {
		u->resume_wanted = false;
		chardev_resume(u->chr);
	}
}

static size_t front_receive(void *opaque, const void *buf, size_t len)
{
	struct uart16550 *u = opaque;
	const uint8_t *bytes = buf;
	size_t n = 0;

	device_lock(&u->dev);
	/* In loopback the receiver is cut off from the line, but a terminal can wait. */
	if (!(u->mcr & MCR_LOOP)) {
		while (n < len && u->rx_n < fifo_depth(u))
			rx_push(u, bytes[n++], 0);
		if (n) {
			arm_timeout(u);
			update_irq(u);
		}
	}
	u->resume_wanted = n < len;
	device_unlock(&u->dev);
	return n;
}

static void front_break(void *opaque)
{
	struct uart16550 *u = opaque;

	device_lock(&u->dev);
	if (!(u->mcr & MCR_LOOP)) {
		rx_push(u, 0, LSR_BI | LSR_FE);
		arm_timeout(u);
		update_irq(u);
	}
	device_unlock(&u->dev);
}

/* --- transmitter -------------------------------------------------------------------------------
 */

static void tx_drain(struct uart16550 *u)
{
	size_t n;

	if (u->tx_n) {
		n = chardev_write(u->chr, u->tx, u->tx_n);
		n = MIN(n, (size_t)u->tx_n);
		memmove(u->tx, u->tx + n, u->tx_n - n);
		u->tx_n -= (uint8_t)n;
	}
	if (u->tx_n)
		return;
	if (!(u->lsr & LSR_THRE))
		u->thre_pending = 1;
	u->lsr |= LSR_THRE | LSR_TEMT;
}

static void front_writable(void *opaque)
{
	struct uart16550 *u = opaque;

	device_lock(&u->dev);
	tx_drain(u);
	update_irq(u);
	device_unlock(&u->dev);
}

static const struct chardev_front front = {
    .receive = front_receive, .writable = front_writable, .line_break = front_break};

static void tx_write(struct uart16550 *u, uint8_t byte)
{
	u->thre_pending = 0;
	u->lsr &= (uint8_t) ~(LSR_THRE | LSR_TEMT);
	if (u->mcr & MCR_LOOP) {
		rx_push(u, byte, 0);
		arm_timeout(u);
	} else if (u->tx_n < fifo_depth(u)) {
		u->tx[u->tx_n++] = byte;
	} else {
		u->tx[u->tx_n - 1] = byte; /* written though full: the last one is overwritten */
	}
	tx_drain(u);
}

/* --- registers ---------------------------------------------------------------------------------
 */

/* In loopback the outputs come back as inputs: RTS-CTS, DTR-DSR, OUT1-RI, OUT2-DCD. */
static void update_modem(struct uart16550 *u)
{
	uint8_t now = MSR_IDLE, changed;

	if (u->mcr & MCR_LOOP) {
		now =
		    (uint8_t)((u->mcr & MCR_RTS ? MSR_CTS : 0) | (u->mcr & MCR_DTR ? MSR_DSR : 0) |
			      (u->mcr & MCR_OUT1 ? MSR_RI : 0) | (u->mcr & MCR_OUT2 ? MSR_DCD : 0));
	}
	changed = (uint8_t)((now ^ u->msr) & 0xf0) >> 4;
	if (now & MSR_RI)
		changed &= (uint8_t)~MSR_TERI; /* RI counts on its trailing edge only */
	u->msr = (uint8_t)(now | (u->msr & MSR_DELTA) | changed);
}

static void write_mcr(struct uart16550 *u, uint8_t v)
{
	uint8_t old = u->mcr;

	u->mcr = v & 0x1f;
	update_modem(u);
	if ((old & MCR_LOOP) && !(u->mcr & MCR_LOOP) && u->resume_wanted) {
		u->resume_wanted = false;
		chardev_resume(u->chr);
	}
}

static void write_fcr(struct uart16550 *u, uint8_t v)
{
	/* Switching modes empties both. */
	if ((v ^ u->fcr) & FCR_ENABLE)
		v |= FCR_RX_CLR | FCR_TX_CLR;
	u->fcr = v & FCR_ENABLE ? v & 0xc9 : 0;
	if (v & FCR_RX_CLR)
		rx_clear(u);
	if (v & FCR_TX_CLR) {
		u->tx_n = 0;
		tx_drain(u);
	}
	arm_timeout(u);
}

static void write_lcr(struct uart16550 *u, uint8_t v)
{
	/* A break on our own loop arrives as a break. */
	if ((v & ~u->lcr & LCR_BREAK) && (u->mcr & MCR_LOOP))
		rx_push(u, 0, LSR_BI | LSR_FE);
	u->lcr = v;
}

static void uart_write(void *opaque, uint64_t off, unsigned int size, uint64_t value)
{
	struct uart16550 *u = opaque;
	uint8_t v = (uint8_t)value;
	bool dlab = u->lcr & LCR_DLAB;

	switch (off) {
	case REG_DATA:
		if (dlab)
			u->dll = v;
		else
			tx_write(u, v);
		break;
	case REG_IER:
		if (dlab) {
			u->dlm = v;
			break;
		}
		/* Enabling THRE while the holding register is empty interrupts at once. */
		if ((v & ~u->ier & IER_THRE) && (u->lsr & LSR_THRE))
			u->thre_pending = 1;
		u->ier = v & 0x0f;
		break;
	case REG_IIR_FCR:
		write_fcr(u, v);
		break;
	case REG_LCR:
		write_lcr(u, v);
		break;
	case REG_MCR:
		write_mcr(u, v);
		break;
	case REG_SCR:
		u->scr = v;
		break;
	default: /* LSR and MSR: factory test only */
		break;
	}
	update_irq(u);
}

static uint8_t read_iir(struct uart16550 *u)
{
	uint8_t id = irq_id(u);

	if (id == IIR_THRE)
		u->thre_pending = 0;
	return id | (fifo_on(u) ? IIR_FIFO : 0);
}

static uint64_t uart_read(void *opaque, uint64_t off, unsigned int size)
{
	struct uart16550 *u = opaque;
	bool dlab = u->lcr & LCR_DLAB;
	uint8_t v = 0xff;

	switch (off) {
	case REG_DATA:
		v = dlab ? u->dll : rx_pop(u);
		break;
	case REG_IER:
		v = dlab ? u->dlm : u->ier;
		break;
	case REG_IIR_FCR:
		v = read_iir(u);
		break;
	case REG_LCR:
		v = u->lcr;
		break;
	case REG_MCR:
		v = u->mcr;
		break;
	case REG_LSR:
		v = u->lsr;
		u->lsr &= (uint8_t)~LSR_ERR;
		if (u->rx_n)
			u->rx_break[u->rx_head] = 0;
		rx_top_changed(u);
		break;
	case REG_MSR:
		v = u->msr;
		u->msr &= (uint8_t)~MSR_DELTA;
		break;
	case REG_SCR:
		v = u->scr;
		break;
	}
	update_irq(u);
	return v;
}

static const struct bus_ops uart_ops = {.read = uart_read, .write = uart_write, .max = 1};

static void uart_reset(void *opaque)
{
	struct uart16550 *u = opaque;

	u->ier = u->fcr = u->lcr = u->mcr = u->scr = 0;
	u->dll = 12; /* 9600 baud; undefined in the datasheet */
	u->dlm = 0;
	u->msr = MSR_IDLE;
	u->lsr = LSR_THRE | LSR_TEMT;
	u->tx_n = 0;
	u->thre_pending = 0;
	rx_clear(u);
	update_irq(u);
}

/* Saved numbers index arrays: make them fit. */
static int uart_loaded(void *opaque, struct err *e)
{
	struct uart16550 *u = opaque;

	if (u->rx_head >= UART_FIFO || u->rx_n > UART_FIFO || u->tx_n > UART_FIFO)
		return err_msg(e, -EINVAL, "uart16550: saved FIFO is larger than the chip's");
	u->resume_wanted = true;
	arm_timeout(u);
	update_irq(u);
	return 0;
}

static void uart_fini(void *opaque)
{
	struct uart16550 *u = opaque;

	timer_cancel(&u->timeout_timer);
	if (u->chr)
		u->chr->front = NULL;
}

static const struct state_field uart_fields[] = {
    STATE_FIELD(struct uart16550, ier, 1),
    STATE_FIELD(struct uart16550, fcr, 1),
    STATE_FIELD(struct uart16550, lcr, 1),
    STATE_FIELD(struct uart16550, mcr, 1),
    STATE_FIELD(struct uart16550, lsr, 1),
    STATE_FIELD(struct uart16550, msr, 1),
    STATE_FIELD(struct uart16550, scr, 1),
    STATE_FIELD(struct uart16550, dll, 1),
    STATE_FIELD(struct uart16550, dlm, 1),
    STATE_ARRAY(struct uart16550, rx, 1),
    STATE_ARRAY(struct uart16550, tx, 1),
    STATE_ARRAY(struct uart16550, rx_break, 1),
    STATE_FIELD(struct uart16550, rx_head, 1),
    STATE_FIELD(struct uart16550, rx_n, 1),
    STATE_FIELD(struct uart16550, tx_n, 1),
    STATE_FIELD(struct uart16550, thre_pending, 1),
    STATE_FIELD(struct uart16550, timeout_pending, 1),
};

static const struct state_table uart_state = {
    .name = "uart16550",
    .version = 1,
    .fields = uart_fields,
    .n_fields = ARRAY_SIZE(uart_fields),
    .loaded = uart_loaded,
};

int uart16550_new(const struct uart16550_config *cfg, struct uart16550 **ret)
{
	struct uart16550 *u =
	    device_alloc(sizeof(*u), cfg->name, &uart_state, uart_reset, uart_fini);

	if (!u)
		return -ENOMEM;
	u->irq = cfg->irq;
	timer_init(&u->timeout_timer, cfg->timers, on_timeout, u);
	device_region(&u->dev, cfg->name, BUS_PIO, cfg->port, 8, &uart_ops);
	uart_reset(u);
	u->chr = cfg->chr;
	if (u->chr) {
		u->chr->frontend = u;
		u->chr->front = &front;
	}
	*ret = u;
	return 0;
}
