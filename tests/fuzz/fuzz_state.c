/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/fuzz_state.c - saved state of whole machines
 *
 * A machine with every device there is gets accesses to ports, MMIO and configuration space, and is
 * saved; a second one of the same description loads that and is saved in turn.  Both must be the
 * same, but for what the host's clocks say.  Then bytes of the state are changed and loaded, and
 * bytes of a snapshot file: refused or not, nothing breaks, and a good state can be loaded
 * afterwards.
 */
#include "fuzz.h"

#include "machine/machine_priv.h"
#include "test.h"
#include "vmm/snapshot.h"

#include <fcntl.h>
#include <sys/mman.h>

#define STEPS_MAX 60
#define DISK_SIZE (1u << 20)

static struct {
	struct loop *loop;
	struct vm_desc desc[2];
	struct machine *m[2];
	struct strbuf good; /* a state of a machine that was just made */
	char dir[40];
} s;

static void make(unsigned int i)
{
	autofree char *json = xasprintf(
	    "{\"firmware\":\"bios\",\"memory\":33554432,\"engine\":\"interp\",\"cpus\":2,"
	    "\"name\":\"fuzz\",\"rng\":true,\"balloon\":true,\"test_devices\":false,"
	    "\"display\":{\"vga\":true},\"console\":{\"type\":\"file\",\"path\":\"/dev/null\"},"
	    "\"vsock\":{\"cid\":3,\"socket\":\"%s/vsock%u\"},\"nets\":[{\"type\":\"user\"}],"
	    "\"shares\":[{\"path\":\"%s\",\"tag\":\"a\"},"
	    "{\"path\":\"%s\",\"tag\":\"b\",\"type\":\"9p\"}],"
	    "\"disks\":[{\"path\":\"%s/a%u.raw\",\"format\":\"raw\"},"
	    "{\"path\":\"%s/b%u.raw\",\"format\":\"raw\",\"bus\":\"ahci\"},"
	    "{\"bus\":\"ahci\",\"cdrom\":true}]}",
	    s.dir, i, s.dir, s.dir, s.dir, i, s.dir, i);
	struct machine_config cfg = {.desc = &s.desc[i], .loop = s.loop};
	struct err e = {0};

	for (unsigned int k = 0; k < 2; k++) {
		autofree char *path = xasprintf("%s/%c%u.raw", s.dir, 'a' + k, i);
		autoclose int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

		CHECK(fd >= 0 && ftruncate(fd, DISK_SIZE) == 0);
	}
	if (vm_desc_parse(json, strlen(json), &s.desc[i], &e) < 0 ||
	    machine_new(&cfg, &s.m[i], &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		abort();
	}
}

static void clean_up(void)
{
	autofree char *command = xasprintf("rm -r %s", s.dir);

	CHECK_EQ(system(command), 0);
}

/* Engines' memory is where a search for leaks does not look for pointers. */
static void tear_down(void)
{
	for (unsigned int i = 0; i < 2; i++) {
		machine_free(s.m[i]);
		vm_desc_fini(&s.desc[i]);
	}
	loop_free(s.loop);
	strbuf_fini(&s.good);
}

static void setup(void)
{
	struct err e = {0};

	if (s.loop)
		return;
	strcpy(s.dir, "/tmp/insula-fuzz-state-XXXXXX");
	CHECK(mkdtemp(s.dir));
	CHECK_EQ(loop_new(&s.loop, &e), 0);
	make(0);
	make(1);
	clean_up();
	CHECK_EQ(atexit(tear_down), 0);
	CHECK_EQ(machine_save(s.m[0], &s.good, &e), 0);
}

/* --- accesses --- */

static void access_bus(struct machine *m, struct fuzz_input *in)
{
	static const uint16_t ports[] = {0x20,  0x40,  0x60,  0x70,  0xa0,  0x3c0, 0x3d4,
					 0x3f8, 0x92,  0x61,  0x80,  0xb2,  0x4d0, 0x1ce,
					 0x604, 0x510, 0xcf8, 0xcfc, 0x600, 0x3ce};
	uint8_t what = fuzz_u8(in), port = fuzz_u8(in);
	unsigned int size = 1u << (fuzz_u8(in) % 3);
	uint64_t value = fuzz_u8(in) | (uint64_t)fuzz_u8(in) << 8 | (uint64_t)fuzz_u8(in) << 16;
	uint64_t off = fuzz_u8(in);

	if (what < 140) {
		bus_write(m->bus, BUS_PIO, ports[port % ARRAY_SIZE(ports)] + off % 16, size, value);
	} else if (what < 160) {
		(void)bus_read(m->bus, BUS_PIO, ports[port % ARRAY_SIZE(ports)] + off % 16, size);
	} else if (what < 220) {
		/* A BAR may come to lie where the next accesses go. */
		struct pci_dev *d = pci_bus_dev(m->pci, port);

		if (d)
			pci_config_write(m->pci, port, (unsigned int)off & ~3u, 4,
					 (uint32_t)(value << (off % 8)));
		else
			bus_write(m->bus, BUS_MMIO, 0xfec00000 + off * 4, 4, value);
	} else {
		for (unsigned int i = 0; i < 256; i++) {
			struct pci_dev *d = pci_bus_dev(m->pci, i);
			struct pci_bar *bar = d ? &d->bar[port % PCI_BARS] : NULL;

			if (bar && bar->region.mapped && bar->region.size && !bar->io)
				bus_write(m->bus, BUS_MMIO, bar->region.base + off * 4, 4, value);
		}
	}
}

/* --- comparing --- */

/* What the clocks say may differ: their values become zeroes. */
static void blank(struct strbuf *b, const char *name, size_t keep)
{
	size_t n = strlen(name);
	char *at = b->data, *end = b->data + b->len;

	while ((at = memmem(at, (size_t)(end - at), name, n))) {
		char *value = at + n + 6;
		size_t size = load_le16(at + n), count = load_le32(at + n + 2);

		if ((uint8_t)at[-1] == n && size * count <= (size_t)(end - value) &&
		    size * count > keep)
			memset(value + 0, 0, keep ? keep : size * count);
		at += n;
	}
}

static void blank_clocks(struct strbuf *b)
{
	blank(b, "wall_ns", 0);
	blank(b, "timer_ns", 0);
	blank(b, "tsc", 0);
	blank(b, "tsc_offset", 0);
	blank(b, "last_second", 0);
	blank(b, "cmos", 14);
	blank(b, "nmi_pending", 0);
}

static void copy_memory(void)
{
	struct machine_region from[MACHINE_REGIONS_MAX], to[MACHINE_REGIONS_MAX];
	unsigned int n = machine_regions(s.m[0], from);

	CHECK_EQ(machine_regions(s.m[1], to), n);
	for (unsigned int i = 0; i < n; i++)
		if (strncmp(from[i].name, "rom", 3) != 0)
			memcpy(to[i].data, from[i].data, to[i].size);
}

static int load(unsigned int i, const void *data, size_t len, struct err *e)
{
	machine_reset_parts(s.m[i]);
	return machine_load(s.m[i], data, len, e);
}

static void round_trip(struct strbuf *state)
{
	struct strbuf again = {0};
	struct err e = {0};

	CHECK_EQ(machine_save(s.m[0], state, &e), 0);
	if (load(1, state->data, state->len, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		abort();
	}
	CHECK_EQ(machine_save(s.m[1], &again, &e), 0);
	CHECK_EQ(again.len, state->len);
	blank_clocks(&again);
	blank_clocks(state);
	for (size_t i = 0; i < again.len; i++) {
		if (again.data[i] == state->data[i])
			continue;
		fprintf(stderr, "state differs at %zu of %zu, near '%.60s'\n", i, again.len,
			again.data + (i > 40 ? i - 40 : 0));
		for (size_t k = i > 200 ? i - 200 : 0; k < i; k++)
			fputc(again.data[k] >= 32 && again.data[k] < 127 ? again.data[k] : '.',
			      stderr);
		abort();
	}
	strbuf_fini(&again);
}

/* --- damage --- */

static void load_damaged(struct fuzz_input *in, const struct strbuf *state)
{
	autofree char *copy = malloc(state->len);
	size_t len = state->len;
	struct err e = {0};

	memcpy(copy, state->data, len);
	for (unsigned int i = 0; i < 1 + fuzz_u8(in) % 4u; i++) {
		size_t at =
		    (size_t)fuzz_u8(in) | (size_t)fuzz_u8(in) << 8 | (size_t)fuzz_u8(in) << 16;

		copy[at % len] = (char)fuzz_u8(in);
	}
	if (fuzz_u8(in) < 16)
		len = len * fuzz_u8(in) / 256;
	if (load(1, copy, len, &e) < 0)
		CHECK(e.msg[0]);
	CHECK_EQ(load(1, s.good.data, s.good.len, &e), 0);
}

/* Of a machine of two small regions. */
static void open_damaged(struct fuzz_input *in, const struct strbuf *state)
{
	static uint8_t memory[2][8192] __attribute__((aligned(4096)));
	struct machine_region regions[2] = {
	    {.name = "ram 0", .data = memory[0], .size = 8192, .pages = true},
	    {.name = "flash", .data = memory[1], .size = 8192},
	};
	struct snapshot_source src = {.manifest = json_object(),
				      .state = state->data,
				      .state_len = MIN(state->len, (size_t)600),
				      .regions = regions,
				      .n_regions = 2,
				      .packed = fuzz_u8(in) & 1};
	int fd = memfd_create("snapshot", MFD_CLOEXEC);
	struct snapshot *snap;
	struct err e = {0};
	const void *loaded;
	size_t len;

	memory[0][5000] = memory[1][1] = 7;
	CHECK_EQ(snapshot_write(fd, &src, &e), 0);
	json_decref(src.manifest);
	for (unsigned int i = 0; i < fuzz_u8(in) % 4u; i++) {
		uint8_t value = fuzz_u8(in);
		off_t at = fuzz_u8(in);

		if (value & 1)
			at %= 48;
		else
			at += value & 2 ? 65536 : 4096 + (off_t)(fuzz_u8(in) % 3u) * 256;
		CHECK_EQ(pwrite(fd, &value, 1, at), 1);
	}
	if (snapshot_open(fd, "fuzz", &snap, &e) < 0) {
		CHECK(e.msg[0]);
		close(fd);
		return;
	}
	loaded = snapshot_state(snap, &len);
	CHECK_EQ(len, src.state_len);
	CHECK_EQ(memcmp(loaded, state->data, len), 0); /* the checksum held */
	/* Packed memory has checksums; what is mapped as it is has none. */
	if (snapshot_map(snap, regions, 2, false, &e) == 0)
		CHECK(!src.packed || (memory[0][5000] == 7 && memory[1][1] == 7));
	snapshot_free(snap);
	/* The mapping went with the file. */
	CHECK(mmap(memory[0], 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		   -1, 0) == memory[0]);
}

static struct snapshot *write_snapshot(struct snapshot_source *src, struct fuzz_input *damage)
{
	int fd = memfd_create("snapshot", MFD_CLOEXEC);
	struct snapshot *ret = NULL;
	struct err e = {0};

	src->manifest = json_object();
	CHECK_EQ(snapshot_write(fd, src, &e), 0);
	json_decref(src->manifest);
	/* Where maps, lists and pages are; the head has its checksums. */
	for (unsigned int i = 0; damage && i < fuzz_u8(damage) % 8u; i++) {
		uint8_t value = fuzz_u8(damage);
		off_t at = 65536 + fuzz_u8(damage) % 24 * 1024 + fuzz_u8(damage) % 32;

		CHECK_EQ(pwrite(fd, &value, 1, at), 1);
	}
	CHECK_EQ(snapshot_open(fd, "fuzz", &ret, &e), 0);
	return ret;
}

/* What differs from a parent, damaged; whole it gives what was saved. */
static void open_delta(struct fuzz_input *in, const struct strbuf *state)
{
	static uint8_t memory[65536], back[65536] __attribute__((aligned(4096)));
	struct machine_region region = {
	    .name = "ram 0", .data = memory, .size = sizeof(memory), .pages = true};
	struct machine_region target = region;
	struct snapshot_source src = {.state = state->data,
				      .state_len = MIN(state->len, (size_t)600),
				      .regions = &region,
				      .n_regions = 1,
				      .packed = fuzz_u8(in) & 1};
	bool damage = fuzz_u8(in) & 1;
	struct snapshot *parent, *other, *delta;
	struct err e = {0};

	memset(memory, 0, sizeof(memory));
	for (unsigned int i = 0; i < 8; i++)
		memory[fuzz_u8(in) * 256] = fuzz_u8(in);
	parent = write_snapshot(&src, NULL);
	other = write_snapshot(&src, NULL);
	for (unsigned int i = 0; i < fuzz_u8(in) % 8u; i++)
		memory[fuzz_u8(in) * 256] = fuzz_u8(in) & 3; /* some become zero */
	src.parent = parent;
	src.parent_name = "parent";
	src.packed = fuzz_u8(in) & 1;
	delta = write_snapshot(&src, damage ? in : NULL);
	CHECK_EQ(strcmp(snapshot_parent_name(delta), "parent"), 0);
	target.data = back;
	CHECK(snapshot_map(delta, &target, 1, true, &e) < 0); /* of no use alone */
	CHECK(snapshot_set_parent(delta, other, &e) < 0);
	CHECK_EQ(snapshot_set_parent(delta, parent, &e), 0);
	if (snapshot_map(delta, &target, 1, true, &e) == 0)
		CHECK(damage || memcmp(back, memory, sizeof(back)) == 0);
	else
		CHECK(damage && e.msg[0]);
	snapshot_free(other);
	snapshot_free(delta);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	struct strbuf state = {0};
	struct err e = {0};

	setup();
	CHECK_EQ(load(0, s.good.data, s.good.len, &e), 0);
	for (unsigned int i = 0; i < STEPS_MAX && in.len > 40; i++)
		access_bus(s.m[0], &in);
	copy_memory();
	round_trip(&state);
	load_damaged(&in, &state);
	open_damaged(&in, &state);
	open_delta(&in, &state);
	strbuf_fini(&state);
	return 0;
}
