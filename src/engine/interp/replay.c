/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/replay.c - leaving an instruction in its middle: faults, exits, and the log of
 * answers with which it is started again (interp.h)
 */
#include "engine/interp/interp.h"

#include "base/log.h"

/* --- raising --- */

void raise_fault(struct ivcpu *v, unsigned int vector)
{
	v->fault.vector = (uint8_t)vector;
	v->fault.has_error = false;
	v->fault.error = 0;
	v->fault.is_exit = false;
	siglongjmp(*v->fault_jmp, 1);
}

void raise_fault_error(struct ivcpu *v, unsigned int vector, uint32_t error)
{
	v->fault.vector = (uint8_t)vector;
	v->fault.has_error = true;
	v->fault.error = error;
	v->fault.is_exit = false;
	siglongjmp(*v->fault_jmp, 1);
}

void raise_exit(struct ivcpu *v)
{
	v->fault.is_exit = true;
	siglongjmp(*v->fault_jmp, 1);
}

/* --- the replay log --- */

static uint64_t *exit_addr64(struct vm_exit *x)
{
	return &x->gpa;
}

/* Finds this access's answer in the log, or leaves to ask for it. */
static const struct replay_entry *replay(struct ivcpu *v, enum exit_reason reason, uint64_t addr,
					 unsigned int size, bool write, uint64_t data)
{
	struct replay *r = &v->replay;
	struct vm_exit *x = v->exit;
	struct replay_entry *e;

	if (r->at < r->n) {
		e = &r->log[r->at];
		if (e->reason == reason && e->addr == addr && e->size == size &&
		    e->write == write) {
			r->at++;
			return e;
		}
		/* Memory changed under the instruction and it took another way: the rest is void.
		 */
		r->n = r->at;
	}
	if (r->n == REPLAY_MAX) {
		guest_warn("an instruction makes more than %d device accesses", REPLAY_MAX);
		raise_gp(v, 0);
	}
	r->log[r->n] = (struct replay_entry){
	    .reason = (uint8_t)reason, .size = (uint8_t)size, .write = write, .addr = addr};
	r->open = true;
	*x = (struct vm_exit){
	    .reason = reason, .write = write, .size = (uint8_t)size, .data = write ? data : 0};
	if (reason == EXIT_IO)
		x->port = (uint16_t)addr;
	else if (reason == EXIT_MSR)
		x->msr = (uint32_t)addr;
	else
		*exit_addr64(x) = addr;
	raise_exit(v);
}

void replay_answer(struct ivcpu *v, const struct vm_exit *x)
{
	struct replay *r = &v->replay;

	r->at = 0;
	if (!r->open)
		return;
	r->open = false;
	r->log[r->n].data = x->data;
	r->log[r->n].fault = x->fault;
	r->n++;
}

void replay_commit(struct ivcpu *v)
{
	v->replay.n = v->replay.at = 0;
	v->replay.open = false;
}

static uint64_t size_trunc(uint64_t x, unsigned int size)
{
	return size < 8 ? x & (BIT(8 * size) - 1) : x;
}

uint64_t exit_io_read(struct ivcpu *v, uint16_t port, unsigned int size)
{
	return size_trunc(replay(v, EXIT_IO, port, size, false, 0)->data, size);
}

void exit_io_write(struct ivcpu *v, uint16_t port, unsigned int size, uint64_t x)
{
	(void)replay(v, EXIT_IO, port, size, true, size_trunc(x, size));
}

uint64_t exit_mmio_read(struct ivcpu *v, uint64_t pa, unsigned int size)
{
	return size_trunc(replay(v, EXIT_MMIO, pa, size, false, 0)->data, size);
}

void exit_mmio_write(struct ivcpu *v, uint64_t pa, unsigned int size, uint64_t x)
{
	(void)replay(v, EXIT_MMIO, pa, size, true, size_trunc(x, size));
}

uint64_t exit_msr_read(struct ivcpu *v, uint32_t msr)
{
	const struct replay_entry *e = replay(v, EXIT_MSR, msr, 8, false, 0);

	if (e->fault)
		raise_gp(v, 0);
	return e->data;
}

void exit_msr_write(struct ivcpu *v, uint32_t msr, uint64_t x)
{
	if (replay(v, EXIT_MSR, msr, 8, true, x)->fault)
		raise_gp(v, 0);
}

uint64_t exit_cr8_read(struct ivcpu *v)
{
	return replay(v, EXIT_CR8, 0, 8, false, 0)->data & 15;
}

void exit_cr8_write(struct ivcpu *v, uint64_t x)
{
	(void)replay(v, EXIT_CR8, 0, 8, true, x);
}
