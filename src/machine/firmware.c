/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/firmware.c - machines that start with firmware: its ROM and shadow RAM (Intel 316966,
 * 5.1.21 ff: PAM)
 */
#include "machine/firmware.h"

#include "base/exit.h"
#include "base/fd.h"
#include "base/fd_table.h"
#include "base/log.h"
#include "device/fw_cfg.h"
#include "device/pflash.h"
#include "device/rtc_mc146818.h"
#include "machine/machine_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define GIB4        (UINT64_C(1) << 32)
#define SHADOW_BASE 0xc0000u
#define SHADOW_SIZE 0x40000u
#define ALIAS_SIZE  0x20000u /* of the image's end, seen below 1 MiB */
#define IMAGE_MAX   (UINT64_C(16) << 20)
#define VARS_MAX    (UINT64_C(4) << 20)

/* C0000-EFFFF in pieces of 16 KiB, then F0000-FFFFF. */
#define AREAS     13
#define AREA_SIZE 0x4000u
#define FSEG_AREA 12
#define FSEG_SIZE 0x10000u
#define PAM_READ  1
#define PAM_WRITE 2

static const char bios_path[] = "/usr/share/seabios/bios-256k.bin";
static const char uefi_path[] = "/usr/share/OVMF/OVMF_CODE_4M.fd";
static const char vars_path[] = "/usr/share/OVMF/OVMF_VARS_4M.fd";

struct firmware {
	struct strbuf image;
	uint8_t *ram, *rom; /* SHADOW_SIZE each: the two sides of the areas */
	unsigned int slot[AREAS];
	struct strbuf vars; /* the flash's content */
	int vars_fd;        /* where it is kept, or -1 */
};

static uint32_t area_base(unsigned int i)
{
	return SHADOW_BASE + i * AREA_SIZE;
}

static uint32_t area_size(unsigned int i)
{
	return i == FSEG_AREA ? FSEG_SIZE : AREA_SIZE;
}

static int read_given(const struct fd_table *given, const char *path, uint64_t max,
		      struct strbuf *ret)
{
	autoclose int fd = fd_table_open(given, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	autofree char *data = NULL;
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size < 0 || (uint64_t)st.st_size > max)
		return -EFBIG;
	data = malloc((size_t)st.st_size + 1);
	r = data ? pread_full(fd, data, (size_t)st.st_size, 0) : -ENOMEM;
	if (r == 0)
		strbuf_add(ret, data, (size_t)st.st_size);
	return r;
}

static int read_image(const struct fd_table *given, const char *path, uint64_t max,
		      struct strbuf *ret, struct err *e)
{
	int r = read_given(given, path, max, ret);

	if (r < 0)
		return err_exit(e, err_set(e, r, "firmware %s", path), EXIT_BAD_KERNEL);
	if (!ret->len || ret->len % GMEM_PAGE_SIZE)
		return err_exit(e,
				err_msg(e, -EINVAL,
					"firmware %s: %zu bytes are no whole number of 4 KiB pages",
					path, ret->len),
				EXIT_BAD_KERNEL);
	return 0;
}

/* --- UEFI's variables --- */

/* The file is the machine's own: made from the package's empty one when it is not there yet. */
static int create_vars(const char *path, struct err *e)
{
	autostrbuf struct strbuf empty = {0};
	autofree char *temp = xasprintf("%s.new", path);
	autoclose int fd = -1;
	int r = read_image(NULL, vars_path, VARS_MAX, &empty, e);

	if (r < 0)
		return r;
	fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(e, -errno, "nvram %s", temp);
	r = write_full(fd, empty.data, empty.len);
	if (r == 0 && (fsync(fd) < 0 || rename(temp, path) < 0))
		r = -errno;
	return r < 0 ? err_set(e, r, "nvram %s", path) : 0;
}

static int open_vars(struct firmware *f, const struct fd_table *given, const char *path,
		     struct err *e)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int r;

	f->vars_fd = fd_table_find(given, path);
	if (f->vars_fd < 0 && access(path, F_OK) < 0 && errno == ENOENT) {
		r = create_vars(path, e);
		if (r < 0)
			return r;
	}
	if (f->vars_fd < 0)
		f->vars_fd = open(path, O_RDWR | O_CLOEXEC);
	if (f->vars_fd < 0)
		return err_set(e, -errno, "nvram %s", path);
	if (fcntl(f->vars_fd, F_OFD_SETLK, &lock) < 0)
		return err_exit(e, err_set(e, -errno, "nvram %s is used by another machine", path),
				EXIT_DISK_IN_USE);
	return read_image(given, path, VARS_MAX, &f->vars, e);
}

/* --- the image --- */

static int map_shadow(struct machine *m, struct firmware *f, struct err *e)
{
	size_t tail = MIN(f->image.len, (size_t)ALIAS_SIZE);

	f->ram =
	    mmap(NULL, 2 * SHADOW_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (f->ram == MAP_FAILED) {
		f->ram = NULL;
		return err_set(e, -errno, "shadow memory");
	}
	f->rom = f->ram + SHADOW_SIZE;
	memset(f->rom, 0xff, SHADOW_SIZE);
	memcpy(f->rom + SHADOW_SIZE - tail, f->image.data + f->image.len - tail, tail);
	for (unsigned int i = 0; i < AREAS; i++) {
		int r = gmem_add_view(m->mem, area_size(i), f->rom, &f->slot[i], e);

		if (r < 0)
			return r;
	}
	return 0;
}

static int load_image(struct machine *m, struct firmware *f, struct err *e)
{
	const char *name = m->desc->firmware;
	bool bios = strcmp(name, "bios") == 0, uefi = strcmp(name, "uefi") == 0;
	uint64_t base;
	const struct fd_table *given = m->cfg.given;
	int r = read_image(given,
			   bios   ? bios_path
			   : uefi ? uefi_path
				  : name,
			   IMAGE_MAX, &f->image, e);

	if (r < 0)
		return r;
	base = GIB4 - f->image.len;
	r = gmem_add(m->mem, base, f->image.len, GMEM_ROM, e);
	if (r == 0)
		r = gmem_load(m->mem, base, f->image.data, f->image.len);
	if (r < 0)
		return r;
	if (m->desc->nvram)
		return open_vars(f, given, m->desc->nvram, e);
	return uefi ? read_image(given, vars_path, VARS_MAX, &f->vars, e) : 0;
}

int firmware_open(struct machine *m, struct err *e)
{
	struct firmware *f;
	int r;

	if (!m->desc->firmware)
		return 0;
	f = xnew(struct firmware);
	f->vars_fd = -1;
	m->firmware = f;
	r = load_image(m, f, e);
	return r < 0 ? r : map_shadow(m, f, e);
}

void firmware_free(struct firmware *f)
{
	if (!f)
		return;
	if (f->ram)
		munmap(f->ram, 2 * SHADOW_SIZE);
	close_p(&f->vars_fd);
	strbuf_fini(&f->image);
	strbuf_fini(&f->vars);
	free(f);
}

/*
 * Reads come from ROM or RAM, writes go to RAM or nowhere.  The one mix that a map of pages cannot
 * show - writes to the RAM behind a ROM that is read - drops the writes, as QEMU does: today's
 * firmware copies itself with both sides on RAM.
 */
void firmware_show(struct machine *m, const uint8_t pam[7])
{
	struct firmware *f = m->firmware;

	for (unsigned int i = 0; i < AREAS; i++) {
		unsigned int bits = i == FSEG_AREA ? pam[0] >> 4 : pam[1 + i / 2] >> (i % 2 * 4);
		uint32_t base = area_base(i), off = base - SHADOW_BASE;
		bool ram = bits & PAM_READ;

		gmem_show(m->mem, f->slot[i], base, (ram ? f->ram : f->rom) + off,
			  ram && (bits & PAM_WRITE) ? 0 : GMEM_ROM);
	}
}

/* --- saved state --- */

uint8_t *firmware_shadow(struct firmware *f, uint64_t *size)
{
	*size = 2 * SHADOW_SIZE;
	return f->ram;
}

uint8_t *firmware_vars(struct firmware *f, uint64_t *size)
{
	*size = f->vars.len;
	return f->vars.len ? (uint8_t *)f->vars.data : NULL;
}

int firmware_loaded(struct firmware *f, struct err *e)
{
	if (f->vars_fd < 0)
		return 0;
	if (pwrite(f->vars_fd, f->vars.data, f->vars.len, 0) != (ssize_t)f->vars.len ||
	    fsync(f->vars_fd) < 0)
		return err_set(e, -EIO, "nvram: write the restored variables");
	return 0;
}

/* --- chips --- */

static int add_flash(struct machine *m, struct err *e)
{
	struct firmware *f = m->firmware;
	struct pflash_config cfg = {
	    .gpa = GIB4 - f->image.len - f->vars.len,
	    .data = (uint8_t *)f->vars.data,
	    .size = f->vars.len,
	    .fd = f->vars_fd,
	};
	struct device *d;
	int r;

	if (!f->vars.len)
		return 0;
	r = pflash_new(&cfg, &d);
	if (r < 0)
		return err_set(e, r, "make the flash for UEFI's variables");
	board_add_chip(m, d);
	return 0;
}

/* CMOS, by the PC's convention: what SeaBIOS looks at before it asks fw_cfg. */
static void set_cmos(struct machine *m)
{
	struct rtc *rtc = container_of(m->rtc, struct rtc, dev);
	uint64_t low = MIN(m->desc->memory, m->low_top), high = m->desc->memory - low;
	uint64_t above_1m = MIN((low >> 10) - 1024, UINT64_C(65535));
	uint64_t above_16m = low > (16u << 20) ? (low >> 16) - 256 : 0;

	rtc_set_cmos(rtc, 0x15, 0x80); /* 640 KiB */
	rtc_set_cmos(rtc, 0x16, 0x02);
	for (unsigned int i = 0; i < 2; i++) {
		rtc_set_cmos(rtc, 0x17 + i, (uint8_t)(above_1m >> (8 * i)));
		rtc_set_cmos(rtc, 0x30 + i, (uint8_t)(above_1m >> (8 * i)));
		rtc_set_cmos(rtc, 0x34 + i, (uint8_t)(MIN(above_16m, UINT64_C(65535)) >> (8 * i)));
	}
	for (unsigned int i = 0; i < 3; i++)
		rtc_set_cmos(rtc, 0x5b + i, (uint8_t)(high >> (16 + 8 * i)));
	rtc_set_cmos(rtc, 0x5f, (uint8_t)(m->n_cpus - 1));
	rtc_set_cmos(rtc, 0x14, 0x06); /* a PS/2 mouse and a coprocessor are there */
}

int firmware_add_chips(struct machine *m, struct err *e)
{
	if (!m->firmware)
		return 0;
	set_cmos(m);
	return add_flash(m, e);
}

int firmware_add_files(struct machine *m, struct err *e)
{
	return m->firmware ? fw_files_add(m, e) : 0;
}
