/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/boot.c - reading kernel and initrd, and the CPU states the boot protocols share
 */
#include "machine/boot.h"

#include "base/exit.h"
#include "base/fd.h"
#include "machine/boot_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>

#define MIB (UINT64_C(1) << 20)

uint64_t boot_low_ram(const struct boot_config *b)
{
	/* Below 1 MiB a machine with a screen has slots of its own. */
	const struct gmem_slot *s = gmem_slot(b->mem, BOOT_HIGH_START);

	return s ? s->gpa + s->size : 0;
}

static int bad_memory(struct err *e, int r)
{
	return err_exit(e, r, EXIT_BAD_MEMORY);
}

int boot_check_place(const struct boot_config *b, uint64_t gpa, uint64_t size, struct err *e)
{
	uint64_t top = boot_low_ram(b);

	if (gpa < BOOT_HIGH_START)
		return err_msg(e, -EINVAL, "wants to be loaded at 0x%" PRIx64 ", below 1 MiB", gpa);
	if (!range_ok(gpa, size, top))
		return bad_memory(e, err_msg(e, -ENOMEM,
					     "needs %" PRIu64 " MiB of memory at 0x%" PRIx64
					     ", the machine has %" PRIu64 " MiB there",
					     size / MIB + 1, gpa, top / MIB));
	return 0;
}

static int file_size(int fd, const char *path, uint64_t *ret, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set(e, -errno, "stat %s", path);
	if (!S_ISREG(st.st_mode))
		return err_msg(e, -EINVAL, "%s: not a regular file", path);
	*ret = (uint64_t)st.st_size;
	return 0;
}

/* Through a bounce buffer: guest memory is written with gmem_load only. */
static int load_file(const struct boot_config *b, int fd, uint64_t gpa, uint64_t size,
		     struct err *e)
{
	const size_t step = 1u << 20;
	autofree uint8_t *buf = xcalloc(1, step);
	int r;

	for (uint64_t off = 0; off < size; off += step) {
		size_t n = (size_t)MIN((uint64_t)step, size - off);

		r = pread_full(fd, buf, n, off);
		if (r < 0)
			return err_set(e, r, "read");
		r = gmem_load(b->mem, gpa + off, buf, n);
		if (r < 0)
			return err_set(e, r, "store at 0x%" PRIx64, gpa + off);
	}
	return 0;
}

int boot_load_initrd(const struct boot_config *b, uint64_t limit, uint64_t keep, uint64_t keep_end,
		     uint64_t *gpa, uint64_t *size, struct err *e)
{
	uint64_t top = MIN(limit, boot_low_ram(b)), at;
	struct err why = {0};
	int r;

	*gpa = *size = 0;
	if (!b->initrd)
		return 0;
	r = file_size(b->initrd_fd, b->initrd, size, e);
	if (r < 0)
		return r;
	if (*size > top)
		goto too_big;
	at = ALIGN_DOWN(top - *size, GMEM_PAGE_SIZE);
	if (at < keep_end && at + *size > keep) {
		if (*size > keep)
			goto too_big;
		at = ALIGN_DOWN(keep - *size, GMEM_PAGE_SIZE);
	}
	if (at < BOOT_HIGH_START)
		goto too_big;
	r = load_file(b, b->initrd_fd, at, *size, &why);
	if (r < 0)
		return err_msg(e, r, "%s: %s", b->initrd, why.msg);
	*gpa = at;
	return 0;
too_big:
	return bad_memory(e, err_msg(e, -ENOMEM,
				     "initrd %s: %" PRIu64
				     " MiB do not fit beside the kernel into %" PRIu64 " MiB",
				     b->initrd, *size / MIB + 1, top / MIB));
}

int boot_load_cmdline(const struct boot_config *b, const char *text, size_t max, struct err *e)
{
	size_t len = strlen(text);

	max = MIN(max, (size_t)BOOT_CMDLINE_SIZE - 1);
	if (len > max)
		return err_msg(e, -E2BIG,
			       "the command line has %zu characters, this kernel takes %zu", len,
			       max);
	return gmem_load(b->mem, BOOT_CMDLINE, text, len + 1);
}

/* --- CPU states ---------------------------------------------------------------------------------
 */

static void set_flat(struct cpu_segment *s, uint16_t sel, uint32_t attr)
{
	*s = (struct cpu_segment){.limit = 0xffffffff, .attr = attr, .sel = sel};
}

static int load_gdt(const struct boot_config *b, struct cpu *c, bool long_mode)
{
	const uint64_t gdt[] = {
	    0,
	    0,
	    long_mode ? 0x00af9b000000ffff : 0x00cf9b000000ffff, /* 0x10: code */
	    0x00cf93000000ffff,                                  /* 0x18: data */
	    0x00008b0000000067,
	    0, /* 0x20: busy TSS */
	};
	const uint32_t data = 0x13 | SEG_P | SEG_DB | SEG_G;
	const uint32_t code = 0x1b | SEG_P | SEG_G | (long_mode ? SEG_L : SEG_DB);

	set_flat(&c->seg[SEG_CS], 0x10, code);
	set_flat(&c->seg[SEG_DS], 0x18, data);
	c->seg[SEG_ES] = c->seg[SEG_FS] = c->seg[SEG_GS] = c->seg[SEG_SS] = c->seg[SEG_DS];
	c->tr = (struct cpu_segment){.limit = 0x67, .attr = 0x0b | SEG_P, .sel = 0x20};
	c->ldtr = (struct cpu_segment){.attr = SEG_UNUSABLE | 0x02};
	c->gdtr.base = BOOT_GDT;
	c->gdtr.limit = sizeof(gdt) - 1;
	c->idtr.base = c->idtr.limit = 0;
	return gmem_load(b->mem, BOOT_GDT, gdt, sizeof(gdt));
}

int boot_enter32(const struct boot_config *b, struct cpu *c, uint32_t entry, struct err *e)
{
	int r = load_gdt(b, c, false);

	if (r < 0)
		return err_set(e, r, "store the GDT");
	c->cr0 = CR0_PE | CR0_ET;
	c->cr4 = 0;
	c->efer = 0;
	c->rip = entry;
	c->rflags = FL_ONE;
	return 0;
}

/* 2 MiB pages: PML4, PDPT, and a directory for each GiB. */
static int load_tables(const struct boot_config *b)
{
	autofree uint64_t *t = xcalloc(6, GMEM_PAGE_SIZE);
	const uint64_t rw = 3, large = 0x83;

	t[0] = (BOOT_TABLES + GMEM_PAGE_SIZE) | rw;
	for (unsigned int i = 0; i < 4; i++)
		t[512 + i] = (BOOT_TABLES + (2 + i) * GMEM_PAGE_SIZE) | rw;
	for (unsigned int i = 0; i < 4 * 512; i++)
		t[1024 + i] = ((uint64_t)i << 21) | large;
	return gmem_load(b->mem, BOOT_TABLES, t, 6 * GMEM_PAGE_SIZE);
}

int boot_enter64(const struct boot_config *b, struct cpu *c, uint64_t entry, struct err *e)
{
	int r = load_gdt(b, c, true);

	if (r == 0)
		r = load_tables(b);
	if (r < 0)
		return err_set(e, r, "store the page tables");
	c->cr0 = CR0_PE | CR0_ET | CR0_PG;
	c->cr3 = BOOT_TABLES;
	c->cr4 = CR4_PAE;
	c->efer = EFER_LME | EFER_LMA;
	c->rip = entry;
	c->rflags = FL_ONE;
	return 0;
}

/* --- the front door ------------------------------------------------------------------------------
 */

static int load_by_content(const struct boot_config *b, const struct boot_kernel *k,
			   struct cpu *bsp, struct err *e)
{
	int r;

	/* Linux first: its EFI stub makes it look like a PE file, nothing else; multiboot before
	 * PVH would take Xen-aware multiboot kernels by their older door. */
	r = boot_linux(b, k, bsp, e);
	if (r == -ENOEXEC)
		r = boot_pvh(b, k, bsp, e);
	if (r == -ENOEXEC)
		r = boot_multiboot(b, k, bsp, e);
	if (r == -ENOEXEC)
		return err_msg(e, r,
			       "not a kernel: no bzImage, no ELF with a PVH entry, "
			       "no multiboot image");
	return r;
}

int boot_load(const struct boot_config *b, struct cpu *bsp, struct err *e)
{
	autofree uint8_t *data = NULL;
	struct boot_kernel k = {0};
	struct err why = {0};
	int r;

	if (boot_low_ram(b) < BOOT_RAM_MIN)
		return bad_memory(e, err_msg(e, -ENOMEM, "less than 4 MiB of memory"));
	r = file_size(b->kernel_fd, b->kernel, &k.size, e);
	if (r < 0)
		return err_exit(e, r, EXIT_BAD_KERNEL);
	if (k.size > BOOT_KERNEL_MAX)
		return err_exit(e, err_msg(e, -EFBIG, "kernel %s: larger than 512 MiB", b->kernel),
				EXIT_BAD_KERNEL);
	data = malloc(k.size ? k.size : 1);
	if (!data)
		return err_exit(e, err_set(e, -ENOMEM, "kernel %s", b->kernel), EXIT_BAD_MEMORY);
	r = pread_full(b->kernel_fd, data, k.size, 0);
	if (r < 0)
		return err_exit(e, err_set(e, r, "read kernel %s", b->kernel), EXIT_BAD_KERNEL);
	k.data = data;
	r = load_by_content(b, &k, bsp, &why);
	if (r < 0)
		return err_exit(
		    e,
		    err_msg(e, r, "kernel %s: %s", b->kernel, why.msg[0] ? why.msg : strerror(-r)),
		    why.exit_code ? why.exit_code : EXIT_BAD_KERNEL);
	return 0;
}
