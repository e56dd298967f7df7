/* SPDX-License-Identifier: Apache-2.0 */
/* Faults: the right vector, error code, CR2 and RIP, and no state changed before. */
#include "guest_vm.h"

#define HANDLER 0x20000u

/* Reports nothing itself: the test reads the frame.  Stops. */
GUEST64(stop, "mov $1, %al\n out %al, $0xf4\n");

GUEST64(div0, "mov $5, %eax\n xor %edx, %edx\n xor %ecx, %ecx\n div %ecx\n");
GUEST64(div_big, "mov $5, %eax\n mov $7, %edx\n mov $7, %ecx\n div %ecx\n");
GUEST64(idiv_min, "mov $0x80000000, %eax\n cltd\n mov $-1, %ecx\n idiv %ecx\n");
GUEST64(rmw_ro, "mov $0x71000, %ebx\n addl $1, (%rbx)\n");
GUEST64(read_np, "mov $0x72ffd, %ebx\n mov (%rbx), %eax\n");
GUEST64(cross_w, "mov $0x72ffd, %ebx\n mov $-1, %rax\n mov %rax, -8(%rbx)\n mov %rax, (%rbx)\n");
GUEST64(push_np, "mov $0x74000, %esp\n pushq $1\n");
GUEST64(call_np, "mov $0x74000, %esp\n call . + 5\n");
GUEST64(noncanon, "mov $0x8000000000000000, %rbx\n mov (%rbx), %eax\n");
GUEST64(noncanon_ss, "mov $0x8000000000000000, %rsp\n pop %rax\n");
GUEST64(noncanon_jmp, "mov $0x8000000000000000, %rbx\n jmp *%rbx\n");
GUEST64(ud, "nop\n ud2\n");
GUEST64(too_long, ".fill 15, 1, 0x66\n nop\n");
GUEST64(xchg_ro, "mov $0x71000, %ebx\n mov $9, %eax\n xchg %eax, (%rbx)\n");
GUEST64(movs_np, "mov $0x70000, %esi\n mov $0x72ff0, %edi\n mov $100, %ecx\n rep movsb\n");
GUEST64(nx, "mov $0x75000, %ebx\n jmp *%rbx\n");
GUEST64(cmpxchg16_odd, "mov $0x70008, %ebx\n cmpxchg16b (%rbx)\n");

struct fault_case {
	const char *name;
	const unsigned char *code, *end;
	unsigned int vector;
	int error;        /* -1 = no error code */
	unsigned int off; /* of the faulting instruction */
	uint64_t cr2;
};

#define CASE(n, vector, error, off, cr2)                                                           \
	{                                                                                          \
#n, n, n##_end, vector, error, off, cr2                                            \
	}

static void run_case(struct vm *vm, const struct fault_case *t)
{
	uint64_t base;
	struct cpu c;

	vm_load(vm, GUEST_CODE, t->code, (size_t)(t->end - t->code));
	vm_long(vm, 0);
	if (vm_run(vm) != EXIT_IO || vm->x.port != 0xf4) {
		fprintf(stderr, "%s: exit %d\n", t->name, vm->x.reason);
		exit(1);
	}
	vm_regs(vm, &c);
	base = GUEST_STACK - 40 - (t->error >= 0 ? 8 : 0);
	if (c.gpr[RSP] != base)
		fprintf(stderr, "%s: rsp 0x%" PRIx64 "\n", t->name, c.gpr[RSP]);
	CHECK_EQ(c.gpr[RSP], base);
	if (t->error >= 0) {
		CHECK_EQ(vm_get64(vm, base), (uint64_t)t->error);
		base += 8;
	}
	if (vm_get64(vm, base) != GUEST_CODE + t->off)
		fprintf(stderr, "%s\n", t->name);
	CHECK_EQ(vm_get64(vm, base), GUEST_CODE + t->off);
	if (t->cr2)
		CHECK_EQ(c.cr2, t->cr2);
	CHECK_EQ(c.rip, HANDLER + 0x40 * t->vector + 2);
}

static const struct fault_case cases[] = {
    CASE(div0, VEC_DE, -1, 9, 0),
    CASE(div_big, VEC_DE, -1, 15, 0),
    CASE(idiv_min, VEC_DE, -1, 11, 0),
    CASE(rmw_ro, VEC_PF, 3, 5, 0x71000),
    CASE(xchg_ro, VEC_PF, 3, 10, 0x71000),
    CASE(read_np, VEC_PF, 0, 5, 0x73000),
    CASE(cross_w, VEC_PF, 2, 16, 0x73000),
    CASE(push_np, VEC_PF, 2, 5, 0x73ff8),
    CASE(call_np, VEC_PF, 2, 5, 0x73ff8),
    CASE(noncanon, VEC_GP, 0, 10, 0),
    CASE(noncanon_ss, VEC_SS, 0, 10, 0),
    CASE(noncanon_jmp, VEC_GP, 0, 10, 0),
    CASE(ud, VEC_UD, -1, 1, 0),
    CASE(too_long, VEC_GP, 0, 0, 0),
    CASE(movs_np, VEC_PF, 2, 15, 0x73000),
    CASE(nx, VEC_PF, 0x11, 0x75000 - GUEST_CODE, 0x75000),
    CASE(cmpxchg16_odd, VEC_GP, 0, 5, 0),
};

/* An instruction whose second half is on a page that is not there: #PF at the instruction, with the
 * second page in CR2; it runs when the page is. */
static void fetch_cross(struct vm *vm)
{
	static const uint8_t mov[] = {0xb8, 0x78, 0x56, 0x34, 0x12, 0xb0, 1, 0xe6, 0xf4};
	struct cpu c;

	vm_load(vm, 0x72ffd, mov, sizeof(mov)); /* 3 bytes, then 0x73000 */
	vm_long(vm, 0);
	vm_regs(vm, &c);
	c.rip = 0x72ffd;
	vm_set(vm, 0, &c);
	CHECK_EQ(vm_run(vm), EXIT_IO);
	vm_regs(vm, &c);
	CHECK_EQ(c.cr2, 0x73000);
	CHECK_EQ(vm_get64(vm, GUEST_STACK - 40), 0x72ffd);
	CHECK_EQ(c.gpr[RAX] & 0xff, 1); /* the handler's */

	vm_put64(vm, GUEST_PT + 8 * 0x73, 0x73000 | 7);
	for (unsigned int k = 0; k < 2; k++) {
		vm_long(vm, 0);
		vm_regs(vm, &c);
		c.rip = 0x72ffd;
		c.gpr[RAX] = 0;
		vm_set(vm, 0, &c);
		vm_expect(vm, 1);
		vm_regs(vm, &c);
		CHECK_EQ(c.gpr[RAX], k ? 0x12347701 : 0x12345601);
		/* A byte of its second half changes. */
		vm_load(vm, 0x73000, &(uint8_t){0x77}, 1);
		vm_load(vm, 0x72ffd, &(uint32_t){0x775678b8}, 4);
		vm_load(vm, 0x73000, &(uint8_t){0x34}, 1);
		vm_load(vm, 0x72fff, &(uint8_t){0x77}, 1);
	}
}

/* At the end of the address range, code and data wrap or fault, never more. */
static void edges(struct vm *vm)
{
	struct cpu c;

	vm_real(vm, 0);
	vm_regs(vm, &c);
	c.rip = 0xfffe; /* the 5-byte instruction passes the limit: #GP through the vector table */
	c.gpr[RSP] = 0x8000;
	vm_load(vm, GUEST_CODE + 0xfffe, (uint8_t[]){0x66, 0xb8, 1, 2, 3, 4}, 6);
	vm_load(vm, 4 * VEC_GP, (uint16_t[]){0x100, GUEST_CODE >> 4}, 4);
	vm_load(vm, GUEST_CODE + 0x100, (uint8_t[]){0xb0, 0x2a, 0xe6, 0xf4}, 4);
	vm_set(vm, 0, &c);
	vm_expect(vm, 0x2a);
	vm_regs(vm, &c);
	CHECK_EQ(vm_get64(vm, c.gpr[RSP]) & 0xffff, 0xfffe);
}

int main(void)
{
	struct vm vm;

	vm_new(&vm, 1);
	for (unsigned int n = 0; n < 32; n++) {
		vm_gate64(&vm, n, HANDLER + 0x40 * n);
		vm_load(&vm, HANDLER + 0x40 * n, stop, (size_t)(stop_end - stop));
	}
	vm_put64(&vm, GUEST_PT + 8 * 0x71, 0x71000 | 5);       /* read-only */
	vm_put64(&vm, GUEST_PT + 8 * 0x73, 0);                 /* not there */
	vm_put64(&vm, GUEST_PT + 8 * 0x75, BIT(63) | 0x75003); /* no execution */
	for (unsigned int k = 0; k < ARRAY_SIZE(cases); k++)
		run_case(&vm, &cases[k]);
	/* The store that crosses into the missing page leaves the first page alone. */
	vm_load(&vm, 0x72ff0, (uint8_t[16]){0}, 16);
	run_case(&vm, &cases[6]);
	CHECK_EQ(vm_get64(&vm, 0x72ff5), UINT64_MAX);
	CHECK_EQ(vm_get64(&vm, 0x72ff8) >> 40, 0);
	fetch_cross(&vm);
	vm_free(&vm);
	/* Vectors of real mode lie over the page tables of the others. */
	vm_new(&vm, 1);
	edges(&vm);
	vm_free(&vm);
	return 0;
}
