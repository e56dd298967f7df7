/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/engine/guest.h - a bare guest for tests of the interpreter's system half
 *
 * One processor, 4 MiB of RAM.  Code runs at CODE; every interrupt vector leads to a HLT of its
 * own, so a run ends with EXIT_HLT and the vector can be told from rip, the frame from the stack.
 */
#pragma once

#include "engine_choice.h"

#define GDT       0x1000u
#define IDT       0x2000u
#define TSS       0x3000u
#define TSS2      0x3400u
#define LDT       0x3800u
#define STACK0    0x7000u /* CPL 0, in use when a test starts there */
#define STACK_IN  0x6800u /* RSP0 of the TSS */
#define STACK_IST 0x6000u
#define STACK3    0x7800u
#define CODE      0x8000u
#define HANDLERS  0x9000u /* 16 bytes a vector: HLT */
#define DATA      0xc000u
#define TABLES    0x20000u /* PML4, PDPT, PD, PT of the first 2 MiB */
#define PT        0x23000u

enum guest_sel {
	KCODE64 = 0x08,
	KDATA = 0x10,
	UCODE32 = 0x18,
	UDATA = 0x20,
	UCODE64 = 0x28,
	KCODE32 = 0x30,
	SEL_TSS = 0x38, /* 16 bytes */
	SEL_LDT = 0x48, /* 16 bytes */
	SEL_TSS2 = 0x58,
	SEL_GATE = 0x60, /* 16 bytes */
	CONF32 = 0x70,
	ABSENT = 0x78,
	SEL_TASK = 0x80,
	READONLY = 0x88,
	UCODE32_DPL3 = UCODE32,
	KCODE16 = 0x90,
	KDATA16 = 0x98,
	CODE1_32 = 0xa0,
	DATA1_32 = 0xa8,
	GDT_SIZE = 0x100,
};

/* Code between two labels of a top-level asm. */
#define GUEST_CODE(name, bits, text)                                                               \
	extern const uint8_t name[], name##_end[];                                                 \
	__asm__(".pushsection .rodata\n.code" #bits "\n" #name ":\n" text "\n" #name               \
		"_end:\n.code64\n.popsection\n")

struct guest {
	struct gmem *mem;
	struct engine *en;
	struct vcpu *v;
	struct cpu c; /* set before guest_run, read after */
	struct vm_exit x;
};

void guest_new(struct guest *g);
void guest_free(struct guest *g);

void guest_put(struct guest *g, uint64_t pa, unsigned int size, uint64_t x);
uint64_t guest_get(struct guest *g, uint64_t pa, unsigned int size);
/* The n-th stack slot of @size bytes from RSP. */
uint64_t guest_slot(struct guest *g, unsigned int n, unsigned int size);

/* Modes, with flat segments; g->c is ready to run at CODE. */
void guest_real(struct guest *g);
void guest_prot32(struct guest *g, unsigned int cpl);
void guest_long(struct guest *g, unsigned int cpl);
void guest_compat(struct guest *g, unsigned int cpl);
void guest_v86(struct guest *g, unsigned int iopl);
/* 32-bit and PAE paging for guest_prot32: identity, user, writable. */
void guest_page32(struct guest *g);

struct cpu_segment guest_segment(struct guest *g, uint16_t sel);
void guest_desc(struct guest *g, uint16_t sel, uint64_t raw);
uint64_t desc_make(uint32_t base, uint32_t limit, uint32_t attr);
/* Gates by vector; @type with P and DPL as in byte 5 (0x8e: interrupt gate, DPL 0). */
void guest_gate32(struct guest *g, unsigned int vector, uint16_t sel, uint32_t off, uint8_t type);
void guest_gate64(struct guest *g, unsigned int vector, uint16_t sel, uint64_t off, uint8_t type,
		  unsigned int ist);

void guest_load(struct guest *g, const uint8_t *code, const uint8_t *end);
/* Runs to an exit other than EXIT_KICK, at most @n times serving nothing. */
void guest_run(struct guest *g);
#define RUN(g, name)                                                                               \
	do {                                                                                       \
		guest_load(g, name, name##_end);                                                   \
		guest_run(g);                                                                      \
	} while (0)

/* The vector whose HLT ended the run, 256 for a HLT elsewhere. */
unsigned int guest_vector(const struct guest *g);
/* Ended in @vector's handler, with an error code on a stack of @size-byte slots and this rip. */
#define EXPECT_ERROR(g, vector, size, error, off)                                                  \
	do {                                                                                       \
		CHECK_EQ((g)->x.reason, EXIT_HLT);                                                 \
		CHECK_EQ(guest_vector(g), vector);                                                 \
		CHECK_EQ(guest_slot(g, 0, size) & 0xffffffff, error);                              \
		CHECK_EQ(guest_slot(g, 1, size), CODE + (off));                                    \
	} while (0)
#define EXPECT_FAULT(g, vector, size, off)                                                         \
	do {                                                                                       \
		CHECK_EQ((g)->x.reason, EXIT_HLT);                                                 \
		CHECK_EQ(guest_vector(g), vector);                                                 \
		CHECK_EQ(guest_slot(g, 0, size), CODE + (off));                                    \
	} while (0)
#define EXPECT_HLT(g)                                                                              \
	do {                                                                                       \
		CHECK_EQ((g)->x.reason, EXIT_HLT);                                                 \
		CHECK_EQ(guest_vector(g), 256);                                                    \
	} while (0)
