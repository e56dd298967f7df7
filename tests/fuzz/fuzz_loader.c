/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/fuzz_loader.c - kernel images of every kind with altered headers, and raw ones
 *
 *	byte 0     what the kernel is, an initrd, half a file, number of changes
 *	byte 1     size of the machine's memory, of the initrd, of the command line
 *	then       changes to the image's first bytes: position (u16) and value
 *
 * Or the rest of the input is the kernel as it is.  Whatever comes out is refused with words, or
 * loaded: then entry and initrd are in memory, and the initrd is whole.  What the machine tells the
 * kernel (ACPI, SMBIOS) is built from the same bytes.
 */
#include "fuzz.h"

#include "base/fd.h"
#include "machine/acpi.h"
#include "machine/boot.h"
#include "machine/smbios.h"

#include <assert.h>
#include <sys/mman.h>

#define IMAGE 8192

enum { BZIMAGE, ELF64, MULTIBOOT, RAW, ELF32, KINDS = 8 }; /* 5-7: raw, too */

static const uint64_t initrd_sizes[] = {
    0, 1, 4096, 100000, UINT64_C(3) << 20, UINT64_C(7) << 20, UINT64_C(1) << 40, 5};
static const size_t cmdline_sizes[] = {0, 3, 2047, 2048, 65535, 65536, 70000, 255};
static struct gmem *mems[2]; /* 8 MiB; 4 MiB and as much again above 4 GiB */
static uint8_t image[IMAGE];

static void make_bzimage(uint8_t *h)
{
	h[0x1f1] = 1;
	store_le32(h + 0x1f4, (IMAGE - 1024) / 16);
	store_le16(h + 0x1fe, 0xaa55);
	h[0x201] = 0x66;
	memcpy(h + 0x202, "HdrS", 4);
	store_le16(h + 0x206, 0x20f);
	h[0x211] = 1;
	store_le32(h + 0x22c, 0x7fffffff);
	store_le32(h + 0x230, 0x100000);
	h[0x234] = 1;
	h[0x236] = 1;
	store_le32(h + 0x238, 2047);
	store_le64(h + 0x258, 0x200000);
	store_le32(h + 0x260, 0x100000);
}

static void make_elf(uint8_t *d)
{
	uint8_t *p = d + 64;

	memcpy(d, "\177ELF\2\1\1", 7);
	store_le16(d + 18, 62);
	store_le64(d + 24, 0x200000);
	store_le64(d + 32, 64);
	store_le16(d + 54, 56);
	store_le16(d + 56, 2);
	store_le32(p, 1);
	store_le64(p + 8, 4096);
	store_le64(p + 24, 0x200000);
	store_le64(p + 32, 4096);
	store_le64(p + 40, 8192);
	p += 56;
	store_le32(p, 4);
	store_le64(p + 8, 512);
	store_le64(p + 32, 24);
	store_le64(p + 48, 4);
	store_le32(d + 512, 4);
	store_le32(d + 516, 8);
	store_le32(d + 520, 18);
	memcpy(d + 524, "Xen", 4);
	store_le64(d + 528, 0x200040);
}

static void make_elf32(uint8_t *d)
{
	uint8_t *p = d + 52;

	memcpy(d, "\177ELF\1\1\1", 7);
	store_le16(d + 18, 3);
	store_le32(d + 24, 0x100000);
	store_le32(d + 28, 52);
	store_le16(d + 42, 32);
	store_le16(d + 44, 2);
	store_le32(p, 1);
	store_le32(p + 4, 4096);
	store_le32(p + 12, 0x100000);
	store_le32(p + 16, 4096);
	store_le32(p + 20, 8192);
	p += 32;
	store_le32(p, 4);
	store_le32(p + 4, 512);
	store_le32(p + 16, 20);
	store_le32(d + 512, 4);
	store_le32(d + 516, 4);
	store_le32(d + 520, 18);
	memcpy(d + 524, "Xen", 4);
	store_le32(d + 528, 0x100040);
	/* Without the note it is a multiboot image. */
	store_le32(d + 600, 0x1badb002);
	store_le32(d + 608, -0x1badb002u);
}

static void make_multiboot(uint8_t *d)
{
	store_le32(d, 0x1badb002);
	store_le32(d + 4, 1 << 16);
	store_le32(d + 8, -(0x1badb002u + (1u << 16)));
	store_le32(d + 12, 0x100000);
	store_le32(d + 16, 0x100000);
	store_le32(d + 28, 0x100040);
}

static int file_of(const char *name, const void *data, size_t len, uint64_t size)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	assert(fd >= 0 && write_full(fd, data, len) == 0);
	assert(size <= len || ftruncate(fd, (off_t)size) == 0);
	return fd;
}

/* Where the boot protocol says that the initrd is. */
static void check_initrd(struct gmem *mem, const struct cpu *c, bool bzimage, uint64_t size)
{
	uint64_t gpa, got = 0, count = 1, list;
	const uint8_t *info = gmem_ptr(mem, BOOT_INFO, 4096), *at;

	if (bzimage) {
		gpa = load_le32(info + 0x218);
		got = load_le32(info + 0x21c);
	} else if (c->gpr[RAX] == 0x2badb002) {
		count = load_le32(info + 20);
		list = load_le32(info + 24);
		at = gmem_ptr(mem, list, 16);
		gpa = load_le32(at);
		got = load_le32(at + 4) - gpa;
	} else {
		count = load_le32(info + 12);
		list = load_le64(info + 16);
		at = gmem_ptr(mem, list, 32);
		gpa = load_le64(at);
		got = load_le64(at + 8);
	}
	assert(got == size);
	if (!size)
		return;
	assert(count == 1 && gpa >= BOOT_HIGH_START);
	at = gmem_ptr(mem, gpa, size);
	assert(at && at[0] == 'I');
	for (uint64_t k = 1; k < size; k += 511)
		assert(at[k] == 0);
}

static struct boot_config config(uint8_t shape)
{
	struct boot_config b = {.mem = mems[shape & 1], .kernel = "k", .rsdp = RSDP_GPA};
	uint64_t low = gmem_slot(b.mem, 0)->size;

	b.map.range[b.map.n++] = (struct boot_range){0, BOOT_LOW_END, BOOT_RAM};
	b.map.range[b.map.n++] = (struct boot_range){BOOT_HIGH_START, low - BOOT_HIGH_START, 1};
	if (shape & 1)
		b.map.range[b.map.n++] = (struct boot_range){UINT64_C(1) << 32, low, BOOT_RAM};
	return b;
}

static void load(const void *data, size_t len, bool with_initrd, uint8_t shape)
{
	static char cmdline[70001];
	uint64_t initrd_size = initrd_sizes[shape >> 1 & 7];
	size_t cmdline_size = cmdline_sizes[shape >> 4 & 7];
	struct boot_config b = config(shape);
	struct cpu c = {0};
	struct err e = {0};
	int r;

	memset(cmdline, 'c', cmdline_size);
	cmdline[cmdline_size] = 0;
	b.cmdline = cmdline;
	b.initrd = with_initrd ? "i" : NULL;
	b.kernel_fd = file_of("kernel", data, len, 0);
	b.initrd_fd = file_of("initrd", "I", initrd_size ? 1 : 0, initrd_size);
	r = boot_load(&b, &c, &e);
	assert(r == 0 || (e.msg[0] && e.exit_code));
	if (r == 0) {
		assert(gmem_ptr(b.mem, c.rip, 1));
		check_initrd(b.mem, &c, c.gpr[RSI] == BOOT_INFO, with_initrd ? initrd_size : 0);
		assert(strcmp(gmem_ptr(b.mem, BOOT_CMDLINE, 1), cmdline) == 0 ||
		       c.gpr[RAX] == 0x2badb002);
	}
	close(b.kernel_fd);
	close(b.initrd_fd);
}

static uint8_t sum(const uint8_t *p, size_t len)
{
	uint8_t s = 0;

	while (len--)
		s += *p++;
	return s;
}

/* Any name and board: tables that fit, with right lengths and sums. */
static void tables(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	autostrbuf struct strbuf acpi = {0}, smbios = {0};
	uint8_t rsdp[RSDP_SIZE], flags = fuzz_u8(&in);
	struct acpi_config c = {
	    .n_cpus = 1 + fuzz_u8(&in) % 64,
	    .lapic_base = 0xfee00000,
	    .ioapic_base = 0xfec00000,
	    .hpet_base = flags & 1 ? 0xfed00000 : 0,
	    .ecam_base = flags & 2 ? 0xb0000000 : 0,
	    .ecam_size = flags & 2 ? 0x10000000 : 0,
	    .mmio_base = 0xc0000000,
	    .mmio_end = 0xfec00000,
	    .mmio64_base = UINT64_C(1) << (32 + fuzz_u8(&in) % 14),
	    .pm_base = 0x600,
	    .sci = 9,
	    .slots = fuzz_u8(&in) % 33,
	    .i8042 = flags & 4,
	    .rtc = flags & 8,
	    .serial = flags & 16,
	    .serial_port = 0x3f8,
	    .serial_irq = 4,
	};
	char name[256] = "";

	c.mmio64_end = c.mmio64_base + ((uint64_t)fuzz_u8(&in) << 30);
	fuzz_bytes(&in, name, MIN(in.len, sizeof(name) - 1));
	assert(acpi_build(&c, &acpi, rsdp, NULL) == 0);
	assert(acpi.len <= ACPI_SIZE && sum(rsdp, 20) == 0 && sum(rsdp, RSDP_SIZE) == 0);
	smbios_build(name, flags % 2 ? "9f3c1d9e-7a43-4b0e-8d2a-0123456789ab" : NULL, c.n_cpus,
		     (uint64_t)fuzz_u8(&in) << (20 + flags % 20), &smbios);
	assert(smbios.len <= 0xf000);
}

static void set_up(void)
{
	if (!mems[0])
		assert(gmem_new(8u << 20, 8u << 20, &mems[0], NULL) == 0 &&
		       gmem_new(8u << 20, 4u << 20, &mems[1], NULL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t kind, shape;

	if (size < 2)
		return 0;
	set_up();
	kind = data[0];
	shape = data[1];
	data += 2;
	size -= 2;
	if (shape & 128)
		tables(data, size);
	memset(image, 0, sizeof(image));
	switch (kind % KINDS) {
	case BZIMAGE:
		make_bzimage(image);
		break;
	case ELF64:
		make_elf(image);
		break;
	case MULTIBOOT:
		make_multiboot(image);
		break;
	case ELF32:
		make_elf32(image);
		break;
	default:
		load(data, size, kind & 8, shape);
		return 0;
	}
	for (unsigned int n = kind >> 4 & 7; n && size >= 3; n--, data += 3, size -= 3)
		image[load_le16(data) % 1024] = data[2];
	load(image, kind & 128 ? IMAGE / 2 : IMAGE, kind & 8, shape);
	return 0;
}
