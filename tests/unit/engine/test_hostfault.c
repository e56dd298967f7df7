/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host fault in code made for a guest instruction ends that run, and nothing else.  The faults
 * are put in by the test: no guest can make one.
 */
#include "guest_vm.h"

#include "engine/interp/vec_priv.h"

GUEST64(code, "pxor %xmm0, %xmm0\n mov $7, %al\n out %al, $0xf4\n");

static const struct {
	const char *code;
	unsigned int len;
} bad[] = {
    {"\x0f\x0b", 2},         /* ud2: SIGILL */
    {"\xcc", 1},             /* int3: SIGTRAP */
    {"\x31\xc9\xf7\xf1", 4}, /* div by 0: SIGFPE */
    {"\x31\xc0\x89\x00", 4}, /* store at 0: SIGSEGV */
};

static void start(struct vm *vm)
{
	VM_LOAD(vm, code);
	vm_long(vm, 0);
}

int main(void)
{
	struct ivcpu *v;
	struct vm vm;

	vm_new(&vm, 1);
	v = container_of(vm.v[0], struct ivcpu, vcpu);
	for (unsigned int n = 0; n < ARRAY_SIZE(bad); n++) {
		struct vec_unit *u = vec_of(v);
		gadget_fn *fn = gadget_add(u->arena, (const uint8_t *)bad[n].code, bad[n].len);
		gadget_fn *keep = NULL;
		struct vec_op *op = NULL;

		start(&vm);
		vm_expect(&vm, 7);
		for (unsigned int k = 0; k < 1 << VEC_OP_BITS; k++)
			if (u->op[k].run)
				op = &u->op[k];
		CHECK(op);
		keep = op->run;
		op->run = fn;
		start(&vm);
		CHECK_EQ(vm_run(&vm), EXIT_ERROR);
		CHECK(strstr(vm.x.err, "660fefc0"));
		op->run = keep;
	}
	start(&vm);
	vm_expect(&vm, 7);
	vm_free(&vm);
	return 0;
}
