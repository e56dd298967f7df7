/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine/interp/mem.c - guest memory accesses: segments, pages, MMIO, code marks
 *
 * The fast path of hot uops is in hot.h; here is all that it leaves: TLB misses, accesses that
 * cross a page, MMIO, ROM, pages with marked code, breakpoints, alignment checks.
 *
 * A write to a page with code stores first and looks at the marks afterwards, with a full fence
 * between; whoever decodes marks first and reads the bytes afterwards.  One of the two sees the
 * other.
 */
#include "engine/interp/hot.h"

#include <stdatomic.h>

/* --- segments --- */

static _Noreturn void raise_seg(struct ivcpu *v, unsigned int seg)
{
	raise_fault_error(v, seg == SEG_SS ? VEC_SS : VEC_GP, 0);
}

static bool canonical(const struct ivcpu *v, uint64_t lin)
{
	unsigned int shift = v->c.cr4 & CR4_LA57 ? 7 : 16;

	return (uint64_t)((int64_t)(lin << shift) >> shift) == lin;
}

/* An operand that begins below the border and ends behind it is checked for alignment before. */
static void check_canonical(struct ivcpu *v, unsigned int seg, uint64_t lin, unsigned int size)
{
	if (!canonical(v, lin))
		raise_seg(v, seg);
	if (canonical(v, lin + size - 1))
		return;
	lin_check_align(v, lin, size);
	raise_seg(v, seg);
}

/* Limit and type of a segment outside 64-bit mode (SDM vol. 3, 5.3 and 5.5). */
static void seg_check(struct ivcpu *v, unsigned int seg, uint64_t off, unsigned int size,
		      enum access acc)
{
	const struct cpu_segment *s = &v->c.seg[seg];
	uint64_t last = off + size - 1;

	if (v->mode != MODE_REAL && v->mode != MODE_V86) {
		bool code = s->attr & SEG_CODE, rw = s->attr & SEG_WRITE;

		if ((s->attr & SEG_UNUSABLE) || !(s->attr & SEG_P))
			raise_seg(v, seg);
		if (acc == ACC_WRITE ? code || !rw : acc == ACC_READ && code && !rw)
			raise_seg(v, seg);
	}
	if ((s->attr & (SEG_CODE | SEG_CONFORM)) == SEG_CONFORM) { /* expand down */
		uint64_t top = s->attr & SEG_DB ? 0xffffffff : 0xffff;

		if (off <= s->limit || last > top)
			raise_seg(v, seg);
	} else if (last > s->limit && s->limit != UINT32_MAX) {
		/* nothing lies above 4 GiB: there an operand goes on at 0 */
		raise_seg(v, seg);
	}
}

/* Linear address; canonical form is not looked at yet. */
static uint64_t seg_add(struct ivcpu *v, unsigned int seg, uint64_t off, unsigned int size,
			enum access acc)
{
	if (v->mode == MODE_LONG)
		return seg >= SEG_FS ? v->c.seg[seg].base + off : off;
	seg_check(v, seg, off, size, acc);
	return (uint32_t)(v->c.seg[seg].base + off);
}

uint64_t seg_linear(struct ivcpu *v, unsigned int seg, uint64_t off, unsigned int size,
		    enum access acc)
{
	uint64_t lin = seg_add(v, seg, off, size, acc);

	if (v->mode == MODE_LONG)
		check_canonical(v, seg, lin, size);
	return lin;
}

uint64_t seg_linear_any(struct ivcpu *v, unsigned int seg, uint64_t off, unsigned int size,
			enum access acc)
{
	uint64_t lin = seg_add(v, seg, off, size, acc);

	if (v->mode == MODE_LONG && (!canonical(v, lin) || !canonical(v, lin + size - 1)))
		raise_seg(v, seg);
	return lin;
}

uint64_t insn_ea(const struct ivcpu *v, const struct x86_insn *i)
{
	uint64_t ea = (uint64_t)i->disp;

	if (i->base == REG_RIP)
		ea += v->next_rip;
	else if (i->base != REG_NONE)
		ea += v->c.gpr[i->base];
	if (i->index != REG_NONE)
		ea += v->c.gpr[i->index & 15] * i->scale;
	if (i->addrsize == 8)
		return ea;
	return i->addrsize == 4 ? (uint32_t)ea : (uint16_t)ea;
}

/* --- pages --- */

void lin_check_align(struct ivcpu *v, uint64_t lin, unsigned int size)
{
	/* Up to 8 bytes: bigger operands have rules of their own, checked by their instructions. */
	if (v->slow_data && v->tlb_set == TLB_USER && (v->c.cr0 & CR0_AM) &&
	    (v->c.rflags & FL_AC) && size <= 8 && (lin & (size - 1)))
		raise_fault_error(v, VEC_AC, 0);
}

static void note_data(struct ivcpu *v, uint64_t lin, unsigned int size, enum access acc)
{
	if (v->data_bp)
		debug_data_access(v, lin, size, acc);
}

/* Host address of one byte's page, or NULL and @pa. */
static uint8_t *page_host(struct ivcpu *v, uint64_t lin, enum access acc, uint64_t *pa)
{
	if (tlb_hit(v->tlb, lin, 1, acc))
		return tlb_host(v->tlb, lin);
	return tlb_fill(v, lin, acc, pa);
}

static uint64_t host_ld(const void *p, unsigned int size)
{
	switch (size) {
	case 1:
		return *(const volatile uint8_t *)p;
	case 2:
		return *(const volatile u16_ua *)p;
	case 4:
		return *(const volatile u32_ua *)p;
	default:
		return *(const volatile u64_ua *)p;
	}
}

static void host_st(void *p, unsigned int size, uint64_t x)
{
	switch (size) {
	case 1:
		*(volatile uint8_t *)p = (uint8_t)x;
		break;
	case 2:
		*(volatile u16_ua *)p = (uint16_t)x;
		break;
	case 4:
		*(volatile u32_ua *)p = (uint32_t)x;
		break;
	default:
		*(volatile u64_ua *)p = x;
		break;
	}
}

static unsigned int page_rest(uint64_t lin)
{
	return 0x1000 - (unsigned int)(lin & 0xfff);
}

/* --- writes to pages that are not plain RAM --- */

/* [pa, pa+size) of one page was written by this vCPU past the TLB. */
void page_was_written(struct ivcpu *v, uint64_t pa, unsigned int size)
{
	struct gmem *m = v->vcpu.en->mem;
	const struct gmem_slot *s = gmem_slot(m, pa);
	uint64_t page, lines, mask;

	if (!s)
		return;
	page = (pa - s->gpa) >> GMEM_PAGE_SHIFT;
	if (s->dirty)
		atomic_fetch_or(&s->dirty[page / 64], BIT(page % 64));
	atomic_thread_fence(memory_order_seq_cst);
	if (!(s->code_gen[page] & GMEM_CODE_MARK))
		return;
	lines = vcpu_interp(v)->code_lines[s - m->slots][page];
	mask = line_mask((unsigned int)(pa & 0xfff), size);
	if (!(lines & mask))
		return;
	gmem_bump_code(m, pa);
	block_went_stale(v, pa);
}

/* A place in one page that is written outside the fast path; pa for what must be told afterwards.
 */
struct wr_page {
	uint8_t *host; /* NULL = MMIO */
	uint64_t pa;
	bool rom, told;
};

static void page_open(struct ivcpu *v, uint64_t lin, struct wr_page *w)
{
	const struct gmem_slot *s;

	*w = (struct wr_page){0};
	if (tlb_hit(v->tlb, lin, 1, ACC_WRITE)) {
		w->host = tlb_host(v->tlb, lin);
		return;
	}
	w->host = tlb_fill(v, lin, ACC_WRITE, &w->pa);
	/* A plain page by now has an entry, which answers for what is written as any other does. */
	w->told = !tlb_hit(v->tlb, lin, 1, ACC_WRITE);
	if (w->host && w->told) {
		s = gmem_slot(v->vcpu.en->mem, w->pa);
		w->rom = s && (s->flags & GMEM_ROM);
	}
}

static void page_put(struct ivcpu *v, const struct wr_page *w, const void *buf, unsigned int size)
{
	const uint8_t *p = buf;

	if (!w->host) {
		for (unsigned int done = 0; done < size;) {
			unsigned int n = MIN(size - done, 8u);
			uint64_t x = 0;

			while (n & (n - 1))
				n &= n - 1;
			memcpy(&x, p + done, n);
			exit_mmio_write(v, w->pa + done, n, x);
			done += n;
		}
		return;
	}
	if (w->rom)
		return;
	if (size == 1 || size == 2 || size == 4 || size == 8) {
		uint64_t x = 0;

		memcpy(&x, p, size);
		host_st(w->host, size, x);
	} else {
		memcpy(w->host, p, size);
	}
	if (w->told)
		page_was_written(v, w->pa, size);
}

static void page_get(struct ivcpu *v, uint64_t lin, void *buf, unsigned int size)
{
	uint64_t pa;
	uint8_t *p = page_host(v, lin, ACC_READ, &pa), *out = buf;

	if (p && (size == 1 || size == 2 || size == 4 || size == 8)) {
		uint64_t x = host_ld(p, size);

		memcpy(buf, &x, size);
	} else if (p) {
		memcpy(buf, p, size);
	} else {
		for (unsigned int done = 0; done < size;) {
			unsigned int n = MIN(size - done, 8u);
			uint64_t x;

			while (n & (n - 1))
				n &= n - 1;
			x = exit_mmio_read(v, pa + done, n);
			memcpy(out + done, &x, n);
			done += n;
		}
	}
}

/* Outside 64-bit mode an operand wraps at the top of the linear address space. */
static uint64_t next_page(const struct ivcpu *v, uint64_t lin, unsigned int head)
{
	return (lin + head) & v->lin_mask;
}

void lin_read_any(struct ivcpu *v, uint64_t lin, void *buf, unsigned int size)
{
	unsigned int head = MIN(size, page_rest(lin));
	uint64_t pa, lin2 = next_page(v, lin, head);

	lin &= v->lin_mask;
	if (head < size) { /* faults of both halves before any MMIO */
		(void)page_host(v, lin, ACC_READ, &pa);
		(void)page_host(v, lin2, ACC_READ, &pa);
	}
	page_get(v, lin, buf, head);
	if (head < size)
		page_get(v, lin2, (uint8_t *)buf + head, size - head);
	note_data(v, lin, size, ACC_READ);
}

void lin_read(struct ivcpu *v, uint64_t lin, void *buf, unsigned int size)
{
	lin_check_align(v, lin, size);
	lin_read_any(v, lin, buf, size);
}

void lin_write_any(struct ivcpu *v, uint64_t lin, const void *buf, unsigned int size)
{
	unsigned int head = MIN(size, page_rest(lin));
	uint64_t lin2 = next_page(v, lin, head);
	struct wr_page a, b = {0};

	lin &= v->lin_mask;
	if (head < size) {
		uint64_t pa;

		/* The second fill may displace nothing that we hold: a keeps host addresses. */
		(void)page_host(v, lin, ACC_WRITE, &pa);
		page_open(v, lin2, &b);
	}
	page_open(v, lin, &a);
	page_put(v, &a, buf, head);
	if (head < size)
		page_put(v, &b, (const uint8_t *)buf + head, size - head);
	note_data(v, lin, size, ACC_WRITE);
}

void lin_write(struct ivcpu *v, uint64_t lin, const void *buf, unsigned int size)
{
	lin_check_align(v, lin, size);
	lin_write_any(v, lin, buf, size);
}

uint64_t lin_ld(struct ivcpu *v, uint64_t lin, unsigned int size)
{
	uint64_t x = 0;

	lin &= v->lin_mask;
	if (tlb_hit(v->tlb, lin, size, ACC_READ))
		return host_ld(tlb_host(v->tlb, lin), size);
	lin_read(v, lin, &x, size);
	return x;
}

void lin_st(struct ivcpu *v, uint64_t lin, unsigned int size, uint64_t x)
{
	lin &= v->lin_mask;
	if (tlb_hit(v->tlb, lin, size, ACC_WRITE))
		host_st(tlb_host(v->tlb, lin), size, x);
	else
		lin_write(v, lin, &x, size);
}

#define DEFINE_LIN(bits)                                                                           \
	uint##bits##_t lin_ld##bits(struct ivcpu *v, uint64_t lin)                                 \
	{                                                                                          \
		return (uint##bits##_t)lin_ld(v, lin, bits / 8);                                   \
	}                                                                                          \
	void lin_st##bits(struct ivcpu *v, uint64_t lin, uint##bits##_t x)                         \
	{                                                                                          \
		lin_st(v, lin, bits / 8, x);                                                       \
	}
DEFINE_LIN(8)
DEFINE_LIN(16)
DEFINE_LIN(32)
DEFINE_LIN(64)

void lin_probe(struct ivcpu *v, uint64_t lin, unsigned int size, enum access acc)
{
	unsigned int head = MIN(size, page_rest(lin));
	uint64_t pa;

	(void)page_host(v, lin & v->lin_mask, acc, &pa);
	if (head < size)
		(void)page_host(v, next_page(v, lin, head), acc, &pa);
}

bool lin_is_ram(struct ivcpu *v, uint64_t lin, unsigned int size)
{
	unsigned int head = MIN(size, page_rest(lin));
	uint64_t pa;

	return page_host(v, lin & v->lin_mask, ACC_WRITE, &pa) &&
	       (head == size || page_host(v, next_page(v, lin, head), ACC_WRITE, &pa));
}

/* Supervisor rights: SMAP does not apply to implicit accesses either way (SDM vol. 3, 4.6.1: they
 * are denied to user pages when SMAP is on, whatever AC). */
static void sys_rights(struct ivcpu *v, uint8_t *set)
{
	*set = v->tlb_set;
	v->tlb_set = TLB_SUPER;
	v->tlb = &v->super;
	v->lin_mask = v->c.efer & EFER_LMA ? UINT64_MAX : UINT32_MAX;
}

static void sys_rights_end(struct ivcpu *v, uint8_t set)
{
	v->tlb_set = set;
	tlb_select(v);
	v->lin_mask = v->rip_mask;
}

static void *sys_host(struct ivcpu *v, uint64_t lin, enum access acc, uint64_t *pa)
{
	if (tlb_hit(&v->super, lin, 1, acc))
		return tlb_host(&v->super, lin);
	return tlb_fill_set(v, TLB_SUPER, lin, acc, pa);
}

/* When it leaves, mode_changed sets the rights again. */
static void sys_probe(struct ivcpu *v, uint64_t lin, unsigned int size, enum access acc)
{
	unsigned int head = MIN(size, page_rest(lin));
	uint64_t pa;

	(void)sys_host(v, lin, acc, &pa);
	if (head < size)
		(void)sys_host(v, next_page(v, lin, head), acc, &pa);
}

uint64_t sys_ld(struct ivcpu *v, uint64_t lin, unsigned int size)
{
	uint8_t set;
	uint64_t x;

	sys_rights(v, &set);
	sys_probe(v, lin, size, ACC_READ);
	x = lin_ld(v, lin, size);
	sys_rights_end(v, set);
	return x;
}

void sys_st(struct ivcpu *v, uint64_t lin, unsigned int size, uint64_t x)
{
	uint8_t set;

	sys_rights(v, &set);
	sys_probe(v, lin, size, ACC_WRITE);
	lin_st(v, lin, size, x);
	sys_rights_end(v, set);
}

/* --- atomics --- */

/*
 * The pointer is used after we return: op_slow looks at the code marks when the instruction is
 * done.
 */
void *lin_rmw(struct ivcpu *v, uint64_t lin, unsigned int size)
{
	struct wr_page w;

	lin &= v->lin_mask;
	lin_check_align(v, lin, size);
	/* A LOCK over a line's end stalls the host or, where it is detected, kills the process. */
	if ((lin & 63) + size > 64)
		return NULL;
	page_open(v, lin, &w);
	if (!w.host || w.rom)
		return NULL;
	if (w.told) {
		v->rmw_pa = w.pa;
		v->rmw_size = size;
	}
	note_data(v, lin, size, ACC_WRITE);
	return w.host;
}

uint8_t *bulk_host(struct ivcpu *v, uint64_t lin, enum access acc, uint64_t *pa)
{
	struct wr_page w;

	if (acc == ACC_READ)
		return page_host(v, lin, ACC_READ, pa);
	page_open(v, lin, &w);
	*pa = w.told ? w.pa : BULK_PLAIN;
	return w.rom ? NULL : w.host;
}

/* --- what hot uops fall back to --- */

/* In 64-bit mode the fast path computes addresses unchecked; entries exist only for good ones. */
static void hot_enter(struct ivcpu *v, const struct uop *u, uint64_t lin, unsigned int size)
{
	v->uop = u;
	if (v->mode == MODE_LONG)
		check_canonical(v, u->seg, lin, size);
}

uint64_t hot_ld(struct ivcpu *v, const struct uop *u, uint64_t lin, unsigned int size)
{
	uint64_t x = 0;

	hot_enter(v, u, lin, size);
	lin_read(v, lin, &x, size);
	return x;
}

void hot_st(struct ivcpu *v, const struct uop *u, uint64_t lin, unsigned int size, uint64_t x)
{
	hot_enter(v, u, lin, size);
	lin_write(v, lin, &x, size);
}

/* First half of a read-modify-write: faults as a write does. */
uint64_t hot_ld_rmw(struct ivcpu *v, const struct uop *u, uint64_t lin, unsigned int size)
{
	uint64_t x = 0;

	hot_enter(v, u, lin, size);
	lin_check_align(v, lin, size);
	lin_probe(v, lin, size, ACC_WRITE);
	lin_read(v, lin, &x, size);
	return x;
}

uint64_t hot_lin(struct ivcpu *v, const struct uop *u, unsigned int size, enum access acc)
{
	const struct cpu_segment *s = &v->c.seg[u->seg];
	uint64_t ea = uop_ea(v, u);

	if (u->asz == 4)
		ea = (uint32_t)ea;
	else if (u->asz == 2)
		ea = (uint16_t)ea;
	if (v->mode == MODE_LONG)
		return u->seg >= SEG_FS ? s->base + ea : ea;
	if (s->limit == UINT32_MAX &&
	    (s->attr & (SEG_UNUSABLE | SEG_P | SEG_S | SEG_CODE | SEG_CONFORM | SEG_WRITE)) ==
		(SEG_P | SEG_S | SEG_WRITE))
		return (uint32_t)(s->base + ea);
	v->uop = u;
	return seg_linear(v, u->seg, ea, size, acc);
}

/* --- operands of slow handlers --- */

uint64_t gpr_get(const struct ivcpu *v, unsigned int reg, unsigned int size, bool rex)
{
	uint64_t x = v->c.gpr[reg & 15];

	switch (size) {
	case 1:
		return !rex && reg >= 4 && reg < 8 ? (uint8_t)(v->c.gpr[reg - 4] >> 8) : (uint8_t)x;
	case 2:
		return (uint16_t)x;
	case 4:
		return (uint32_t)x;
	default:
		return x;
	}
}

void gpr_set(struct ivcpu *v, unsigned int reg, unsigned int size, bool rex, uint64_t x)
{
	uint64_t *r = &v->c.gpr[reg & 15];

	switch (size) {
	case 1:
		if (!rex && reg >= 4 && reg < 8) {
			r = &v->c.gpr[reg - 4];
			*r = (*r & ~UINT64_C(0xff00)) | (x & 0xff) << 8;
		} else {
			*r = (*r & ~UINT64_C(0xff)) | (x & 0xff);
		}
		break;
	case 2:
		*r = (*r & ~UINT64_C(0xffff)) | (x & 0xffff);
		break;
	case 4:
		*r = (uint32_t)x;
		break;
	default:
		*r = x;
		break;
	}
}

uint64_t rm_get(struct ivcpu *v, const struct x86_insn *i, unsigned int size)
{
	if (i->has_mem)
		return lin_ld(v, insn_lin(v, i, size, ACC_READ), size);
	return gpr_get(v, i->rm, size, i->prefixes & PFX_REX);
}

void rm_set(struct ivcpu *v, const struct x86_insn *i, unsigned int size, uint64_t x)
{
	if (i->has_mem)
		lin_st(v, insn_lin(v, i, size, ACC_WRITE), size, x);
	else
		gpr_set(v, i->rm, size, i->prefixes & PFX_REX, x);
}

static uint64_t sp_trunc(const struct ivcpu *v, uint64_t sp)
{
	if (v->stack_bits == 64)
		return sp;
	return v->stack_bits == 32 ? (uint32_t)sp : (uint16_t)sp;
}

uint64_t stack_linear(struct ivcpu *v, uint64_t sp, unsigned int size, enum access acc)
{
	return seg_linear(v, SEG_SS, sp_trunc(v, sp), size, acc);
}

void push(struct ivcpu *v, unsigned int size, uint64_t x)
{
	uint64_t sp = v->c.gpr[RSP] - size;

	lin_st(v, stack_linear(v, sp, size, ACC_WRITE), size, x);
	gpr_set(v, RSP, v->stack_bits / 8, true, sp);
}

uint64_t pop(struct ivcpu *v, unsigned int size)
{
	uint64_t sp = v->c.gpr[RSP];
	uint64_t x = lin_ld(v, stack_linear(v, sp, size, ACC_READ), size);

	gpr_set(v, RSP, v->stack_bits / 8, true, sp + size);
	return x;
}
