/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/machine/test_machine.c - whole machines on the interpreter with small programs: serial
 * echo, timer interrupts, a second CPU, pause, reset, power off, triple fault
 *
 * The programs are multiboot images of one page, 32-bit code at 1 MiB, written in the assembly
 * below.
 */
#include "machine/machine.h"

#include "base/clock.h"
#include "base/fd.h"
#include "device/chardev.h"
#include "test.h"

#include <errno.h>
#include <stdio.h>

/* clang-format off */
#define PROGRAM(name, text)                                                                        \
	extern const char name##_start[], name##_end[];                                            \
	__asm__(".pushsection .rodata\n .code32\n"                                                 \
		".macro putc c\n mov $0x3f8, %dx\n mov $\\c, %al\n out %al, %dx\n .endm\n"         \
		".macro s5\n mov $0x604, %dx\n mov $0x3400, %ax\n out %ax, %dx\n"                  \
		"9: hlt\n jmp 9b\n .endm\n"                                                        \
		#name "_start:\n" text "\n" #name "_end:\n"                                        \
		".purgem putc\n .purgem s5\n .code64\n .popsection\n")

PROGRAM(echo,
	"putc 'H'\n"
	"1: mov $0x3fd, %dx\n in %dx, %al\n test $1, %al\n jz 1b\n"
	"mov $0x3f8, %dx\n in %dx, %al\n inc %al\n out %al, %dx\n"
	"s5");

PROGRAM(triple, "int3");

PROGRAM(reset, "putc 'R'\n mov $0xcf9, %dx\n mov $6, %al\n out %al, %dx\n 1: jmp 1b");

PROGRAM(spin, "putc 'S'\n 1: jmp 1b");

PROGRAM(halted, "putc 'Z'\n cli\n 1: hlt\n jmp 1b");

/* Vector 40h of an IDT at 2 MiB; one-shot APIC timer, three times. */
#define TIMER(name, count) \
	PROGRAM(name, \
	"mov $0x300000, %esp\n" \
	"mov $(" #name "_isr - " #name "_start + 0x100030), %eax\n" \
	"mov %ax, 0x200200\n movw $0x10, 0x200202\n movw $0x8e00, 0x200204\n" \
	"shr $16, %eax\n mov %ax, 0x200206\n" \
	"movw $0x7ff, 0x200ff0\n movl $0x200000, 0x200ff2\n lidt 0x200ff0\n" \
	"movl $0x1ff, 0xfee000f0\n movl $0x40, 0xfee00320\n movl $0xb, 0xfee003e0\n" \
	"xor %ebx, %ebx\n" \
	"1: movl $" #count ", 0xfee00380\n sti\n hlt\n cli\n cmp $3, %ebx\n jb 1b\n" \
	"s5\n" \
	#name "_isr: push %eax\n push %edx\n putc 'T'\n inc %ebx\n movl $0, 0xfee000b0\n" \
	"pop %edx\n pop %eax\n iret")

TIMER(timer, 1000000); /* milliseconds */
TIMER(slow_timer, 300000000);

/* INIT and SIPI to APIC id 1, whose code at 8000h sets a flag in real mode. */
PROGRAM(sipi,
	"mov $(sipi_ap - sipi_start + 0x100030), %esi\n mov $0x8000, %edi\n mov $32, %ecx\n rep movsb\n"
	"movb $0, 0x7000\n movl $0x1ff, 0xfee000f0\n"
	"movl $0x01000000, 0xfee00310\n movl $0x4500, 0xfee00300\n"
	"movl $0x01000000, 0xfee00310\n movl $0x4608, 0xfee00300\n"
	"1: pause\n cmpb $0x5a, 0x7000\n jne 1b\n"
	"putc 'B'\n"
	"s5\n"
	"sipi_ap: .code16\n xor %ax, %ax\n mov %ax, %ds\n mov $0x3f8, %dx\n mov $'A', %al\n"
	"out %al, %dx\n movb $0x5a, 0x7000\n cli\n 2: hlt\n jmp 2b\n .code32");
/* The chipset's PAM registers, over and over: each time all CPUs are held and let go. */
PROGRAM(pam,
	"mov $0xcf8, %dx\n mov $0x80000090, %eax\n out %eax, %dx\n"
	"mov $3000, %ecx\n mov $0xcfc, %dx\n"
	"1: mov %cl, %al\n shl $4, %al\n out %al, %dx\n loop 1b\n"
	"s5");
/* clang-format on */

struct run {
	struct chardev chr;
	struct loop *loop;
	struct machine *machine;
	struct vm_desc desc;
	char out[64];
	_Atomic size_t n_out;
	enum machine_event last;
	unsigned int events[MACHINE_RESUMED + 1];
	char text[256];
	bool over;
};

static size_t on_write(void *backend, const void *buf, size_t len)
{
	struct run *r = backend;
	size_t n = MIN(len, sizeof(r->out) - 1 - r->n_out);

	memcpy(r->out + r->n_out, buf, n);
	r->n_out += n;
	return len;
}

static const struct chardev_ops chr_ops = {.write = on_write};

static void on_event(void *opaque, enum machine_event ev, unsigned int code, const char *text)
{
	struct run *r = opaque;

	r->last = ev;
	r->events[ev]++;
	snprintf(r->text, sizeof(r->text), "%s", text);
	r->over |= ev != MACHINE_PAUSED && ev != MACHINE_RESUMED && ev != MACHINE_RESTARTED;
}

static const char *engine = "interp";

/* A machine's memory and state, to go on from elsewhere. */
struct saved {
	struct strbuf state;
	struct strbuf memory[MACHINE_REGIONS_MAX];
	unsigned int n;
	int result;
	bool done;
};

static struct saved *restore_from; /* of the next machine that is made */

static int on_restore(void *opaque, struct machine *m, struct err *e)
{
	struct machine_region regions[MACHINE_REGIONS_MAX];
	const struct saved *from = restore_from;

	CHECK_EQ(machine_regions(m, regions), from->n);
	for (unsigned int i = 0; i < from->n; i++) {
		CHECK_EQ(regions[i].size, from->memory[i].len);
		memcpy(regions[i].data, from->memory[i].data, regions[i].size);
	}
	return machine_load(m, from->state.data, from->state.len, e);
}

static void make(struct run *r, const char *start, const char *end, const char *more)
{
	char path[] = "/tmp/insula-machine-XXXXXX";
	uint8_t image[4096] = {0};
	struct machine_config cfg;
	struct err e = {0};
	autofree char *json = NULL;
	int fd = mkstemp(path);

	CHECK(fd >= 0);
	store_le32(image, 0x1badb002);
	store_le32(image + 4, 1 << 16);
	store_le32(image + 8, -(0x1badb002u + (1u << 16)));
	store_le32(image + 12, 0x100000);
	store_le32(image + 16, 0x100000);
	store_le32(image + 28, 0x100030);
	CHECK((size_t)(end - start) < sizeof(image) - 0x30);
	memcpy(image + 0x30, start, (size_t)(end - start));
	CHECK_EQ(write_full(fd, image, sizeof(image)), 0);
	close(fd);
	json = xasprintf("{\"kernel\":\"%s\",\"memory\":33554432,\"engine\":\"%s\","
			 "\"rng\":false,\"balloon\":false%s}",
			 path, engine, more);
	memset(r, 0, sizeof(*r));
	CHECK_EQ(vm_desc_parse(json, strlen(json), &r->desc, &e), 0);
	CHECK_EQ(loop_new(&r->loop, &e), 0);
	r->chr.ops = &chr_ops;
	r->chr.backend = r;
	cfg = (struct machine_config){
	    .desc = &r->desc,
	    .loop = r->loop,
	    .serial = &r->chr,
	    .event = on_event,
	    .restore = restore_from ? on_restore : NULL,
	    .opaque = r,
	};
	if (machine_new(&cfg, &r->machine, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		exit(1);
	}
	unlink(path);
	CHECK_STR(machine_state(r->machine), "new");
	CHECK_EQ(machine_start(r->machine, &e), 0);
}

/* Until @done says so, or half a minute is over. */
static void spin_until(struct run *r, bool (*done)(struct run *r))
{
	uint64_t end = clock_now() + 30 * NSEC_PER_SEC;

	while (!done(r)) {
		CHECK(clock_now() < end);
		loop_once(r->loop, 20);
	}
}

static bool is_over(struct run *r)
{
	return r->over;
}

static bool has_spoken(struct run *r)
{
	return r->n_out > 0;
}

static bool is_paused(struct run *r)
{
	return r->last == MACHINE_PAUSED;
}

static bool is_resumed(struct run *r)
{
	return r->last == MACHINE_RESUMED;
}

static bool restarted_twice(struct run *r)
{
	return r->events[MACHINE_RESTARTED] >= 2;
}

static bool spoke_twice(struct run *r)
{
	return r->n_out >= 2;
}

static void finish(struct run *r)
{
	machine_free(r->machine);
	loop_free(r->loop);
	vm_desc_fini(&r->desc);
}

#define MAKE(r, program, more) make(r, program##_start, program##_end, more)

static void test_echo(const char *more)
{
	struct run r;

	MAKE(&r, echo, more);
	spin_until(&r, has_spoken);
	CHECK_EQ(chardev_receive(&r.chr, "a", 1), 1);
	spin_until(&r, is_over);
	CHECK_EQ(r.last, MACHINE_POWEROFF);
	CHECK_STR(r.out, "Hb");
	CHECK_STR(machine_state(r.machine), "stopped");
	finish(&r);
}

static void test_timer(void)
{
	struct run r;

	MAKE(&r, timer, "");
	spin_until(&r, is_over);
	CHECK_EQ(r.last, MACHINE_POWEROFF);
	CHECK_STR(r.out, "TTT");
	finish(&r);
}

static void test_sipi(void)
{
	struct run r;

	MAKE(&r, sipi, ",\"cpus\":2");
	spin_until(&r, is_over);
	CHECK_EQ(r.last, MACHINE_POWEROFF);
	CHECK_STR(r.out, "AB");
	finish(&r);
}

/* CPU 0 asks for the first hold while the others are only being let go: they missed it. */
static void test_memory_map(void)
{
	struct run r;

	MAKE(&r, pam, ",\"cpus\":4");
	spin_until(&r, is_over);
	CHECK_EQ(r.last, MACHINE_POWEROFF);
	finish(&r);
}

static void test_triple_fault(void)
{
	struct run r;

	MAKE(&r, triple, "");
	spin_until(&r, is_over);
	CHECK_EQ(r.last, MACHINE_CRASHED);
	CHECK_STR(r.text, "triple fault");
	finish(&r);
}

static void test_reset(void)
{
	struct run r;

	MAKE(&r, reset, ",\"on_reboot\":\"exit\"");
	spin_until(&r, is_over);
	CHECK_EQ(r.last, MACHINE_REBOOT);
	finish(&r);
	MAKE(&r, reset, ",\"cpus\":2");
	spin_until(&r, restarted_twice);
	CHECK(r.n_out >= 2);
	finish(&r);
}

/* The kernel file is gone from its directory: the machine holds it open for this. */
static void test_reset_button(void)
{
	struct run r;

	MAKE(&r, halted, "");
	spin_until(&r, has_spoken);
	machine_reset(r.machine);
	spin_until(&r, spoke_twice);
	CHECK_EQ(r.events[MACHINE_RESTARTED], 0);
	finish(&r);
}

static void test_pause(const char *more)
{
	struct run r;

	MAKE(&r, spin, more);
	spin_until(&r, has_spoken);
	machine_pause(r.machine);
	spin_until(&r, is_paused);
	CHECK_STR(machine_state(r.machine), "paused");
	machine_pause(r.machine);
	machine_resume(r.machine);
	spin_until(&r, is_resumed);
	CHECK_STR(machine_state(r.machine), "running");
	CHECK_EQ(r.events[MACHINE_PAUSED], 1);
	finish(&r);
}

struct saving {
	struct run *run;
	struct saved *saved;
};

static void on_frozen(void *opaque, int result)
{
	struct machine_region regions[MACHINE_REGIONS_MAX];
	struct saving *g = opaque;
	struct saved *s = g->saved;
	struct err e = {0};

	s->result = result;
	s->done = true;
	if (result < 0)
		return;
	CHECK_EQ(machine_save(g->run->machine, &s->state, &e), 0);
	s->n = machine_regions(g->run->machine, regions);
	for (unsigned int i = 0; i < s->n; i++)
		strbuf_add(&s->memory[i], regions[i].data, regions[i].size);
}

static void save(struct run *r, struct saved *s)
{
	struct saving g = {r, s};
	struct err e = {0};

	memset(s, 0, sizeof(*s));
	CHECK_EQ(machine_freeze(r->machine, on_frozen, &g, &e), 0);
	CHECK_EQ(machine_freeze(r->machine, on_frozen, &g, &e), -EBUSY);
	while (!s->done)
		loop_once(r->loop, 20);
}

static void saved_fini(struct saved *s)
{
	strbuf_fini(&s->state);
	for (unsigned int i = 0; i < s->n; i++)
		strbuf_fini(&s->memory[i]);
}

/* On one engine a program waits for a character, on another it gets it; the first one goes on, too.
 */
static void test_restore(const char *first, const char *second)
{
	struct saved s;
	struct run a, b;

	engine = first;
	MAKE(&a, echo, "");
	spin_until(&a, has_spoken);
	save(&a, &s);
	CHECK_EQ(s.result, 0);
	CHECK_STR(machine_state(a.machine), "running");
	engine = second;
	restore_from = &s;
	MAKE(&b, echo, "");
	restore_from = NULL;
	engine = "interp";
	b.chr.front->receive(b.chr.frontend, "a", 1);
	spin_until(&b, is_over);
	CHECK_STR(b.out, "b"); /* and no second H */
	CHECK_EQ(b.last, MACHINE_POWEROFF);
	a.chr.front->receive(a.chr.frontend, "x", 1);
	spin_until(&a, is_over);
	CHECK_STR(a.out, "Hy");
	finish(&a);
	finish(&b);
	saved_fini(&s);
}

/* A one-shot timer that is armed, or an interrupt that waits, goes on; time has passed meanwhile.
 */
static void test_restore_timer(void)
{
	struct saved s;
	struct run a, b;

	MAKE(&a, slow_timer, "");
	spin_until(&a, has_spoken);
	save(&a, &s);
	spin_until(&a, is_over);
	CHECK_STR(a.out, "TTT");
	restore_from = &s;
	MAKE(&b, slow_timer, "");
	restore_from = NULL;
	spin_until(&b, is_over);
	CHECK_STR(b.out, "TT");
	finish(&a);
	finish(&b);
	saved_fini(&s);
}

/* What does not fit is refused, with the reason. */
static void test_restore_refused(void)
{
	static const char khz[] = "tsc_khz";
	struct saved s;
	struct run a, b;
	struct err e = {0};
	char *at, was;

	MAKE(&a, echo, "");
	spin_until(&a, has_spoken);
	save(&a, &s);
	MAKE(&b, spin, ",\"cpus\":2");
	machine_pause(b.machine);
	spin_until(&b, is_paused);
	CHECK_EQ(machine_load(b.machine, s.state.data, s.state.len, &e), -EINVAL);
	CHECK_STR(e.msg, "saved machine has 1 CPUs, not 2");
	finish(&b);
	machine_pause(a.machine);
	spin_until(&a, is_paused);
	at = memmem(s.state.data, s.state.len, khz, sizeof(khz) - 1);
	CHECK(at != NULL);
	was = at[sizeof(khz) - 1 + 6 + 2];
	at[sizeof(khz) - 1 + 6 + 2] = (char)(was + 1); /* 65 MHz more */
	e = (struct err){0};
	CHECK_EQ(machine_load(a.machine, s.state.data, s.state.len, &e), -EINVAL);
	CHECK(strstr(e.msg, "CPU model: the guest counts time at"));
	at[sizeof(khz) - 1 + 6 + 2] = was;
	e = (struct err){0};
	CHECK_EQ(machine_load(a.machine, s.state.data, s.state.len - 1, &e), -EINVAL);
	CHECK(strstr(e.msg, "cut short"));
	at = memmem(s.state.data, s.state.len, "leaf", 4);
	at[4 + 6 + 12] ^= 1; /* EAX of the first leaf */
	e = (struct err){0};
	CHECK_EQ(machine_load(a.machine, s.state.data, s.state.len, &e), -EINVAL);
	CHECK(strstr(e.msg, "CPU model: CPUID leaf 00000000.0 EAX was"));
	finish(&a);
	saved_fini(&s);
}

static void test_two_machines(void)
{
	struct run a, b;

	MAKE(&a, spin, "");
	MAKE(&b, timer, "");
	spin_until(&b, is_over);
	spin_until(&a, has_spoken);
	CHECK_STR(b.out, "TTT");
	CHECK_STR(machine_state(a.machine), "running");
	finish(&b);
	finish(&a);
}

static void test_stats(void)
{
	autostrbuf struct strbuf text = {0};
	const char *why;
	struct run r;

	MAKE(&r, timer, "");
	spin_until(&r, is_over);
	CHECK_STR(machine_engine(r.machine, &why), "interp");
	CHECK(why[0]);
	machine_stats(r.machine, &text);
	CHECK(strstr(text.data, "io 4"));
	CHECK(strstr(text.data, "million instructions"));
	CHECK(!strstr(text.data, "translated"));
	finish(&r);
}

/* The translator tells what it did, and not how many instructions that were. */
static void test_stats_soft(void)
{
	autostrbuf struct strbuf text = {0};
	const char *why;
	struct run r;
	bool jit;

	engine = "soft";
	MAKE(&r, timer, "");
	engine = "interp";
	spin_until(&r, is_over);
	jit = strcmp(machine_engine(r.machine, &why), "jit") == 0;
	machine_stats(r.machine, &text);
	CHECK_EQ(strstr(text.data, "cpu 0: ") && strstr(text.data, "blocks translated"), jit);
	CHECK_EQ(strstr(text.data, "million instructions") != NULL, !jit);
	finish(&r);
}

int main(void)
{
	test_echo("");
	test_echo(",\"machine\":\"micro\"");
	test_timer();
	test_sipi();
	test_memory_map();
	test_triple_fault();
	test_reset();
	test_reset_button();
	test_pause("");
	test_pause(",\"cpus\":3");
	test_restore("interp", "interp");
	test_restore("interp", "soft");
	test_restore("soft", "interp");
	test_restore_timer();
	test_restore_refused();
	test_two_machines();
	test_stats();
	test_stats_soft();
	return 0;
}
