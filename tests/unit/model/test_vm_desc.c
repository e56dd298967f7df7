/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/model/test_vm_desc.c - the machine description: defaults, round trip, every refusal
 */
#include "model/vm_desc.h"

#include "base/exit.h"
#include "test.h"

static void parse_ok(const char *text, struct vm_desc *d)
{
	struct err e = {0};

	if (vm_desc_parse(text, strlen(text), d, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		exit(1);
	}
}

static void refused(const char *text, const char *msg)
{
	struct vm_desc d = {0};
	struct err e = {0};

	CHECK(vm_desc_parse(text, strlen(text), &d, &e) < 0);
	CHECK_STR(e.msg, msg);
	CHECK(!d.name && !d.kernel);
}

static void test_defaults(void)
{
	struct vm_desc d = {0};

	parse_ok("{\"kernel\":\"/k\"}", &d);
	CHECK_STR(d.name, "vm");
	CHECK_STR(d.append, "");
	CHECK_EQ(d.cpus, 1);
	CHECK_EQ(d.memory, 512u << 20);
	CHECK_EQ(d.machine, VM_MACHINE_Q35);
	CHECK_EQ(d.serial.type, VM_CHARDEV_NONE);
	CHECK(d.rng && d.balloon && d.sandbox && !d.control && !d.initrd);
	vm_desc_fini(&d);
}

static const char full[] =
    "{\"version\":1,\"name\":\"web\",\"machine\":\"micro\",\"engine\":\"soft\",\"cpus\":4,"
    "\"memory\":1073741824,\"kernel\":\"/k\",\"initrd\":\"/i\",\"append\":\"quiet\","
    "\"disks\":[{\"path\":\"/d\",\"overlay\":true,\"serial\":\"root\"},"
    "{\"path\":\"/e\",\"format\":\"raw\",\"readonly\":true,\"slot\":30,"
    "\"rate\":{\"bytes\":1000000,\"bytes_burst\":5,\"ops\":7}},{\"removed\":true}],"
    "\"nets\":[{\"type\":\"user\",\"mac\":\"52:54:00:ab:CD:ef\",\"hostname\":\"h\","
    "\"publish\":[{\"proto\":\"udp\",\"host_addr\":\"::1\",\"host_port\":53,"
    "\"guest_port\":5353}]}],"
    "\"shares\":[{\"path\":\"/s\",\"tag\":\"share0\",\"readonly\":true},"
    "{\"type\":\"9p\",\"path\":\"/s\",\"tag\":\"share1\"}],"
    "\"vsock\":{\"cid\":7,\"socket\":\"/run/v\"},\"serial\":{\"type\":\"file\",\"path\":\"/l\"},"
    "\"console\":{\"type\":\"stdio\"},\"control\":\"/run/c\",\"rng\":false,\"balloon\":false,"
    "\"sandbox\":false,\"on_reboot\":\"exit\",\"on_crash\":\"exit\"}";

static void check_full(const struct vm_desc *d)
{
	CHECK_STR(d->name, "web");
	CHECK_EQ(d->machine, VM_MACHINE_MICRO);
	CHECK_EQ(d->engine, VM_ENGINE_SOFT);
	CHECK_EQ(d->n_disks, 3);
	CHECK(d->disks[0].overlay && !d->disks[0].read_only && d->disks[1].read_only);
	CHECK_STR(d->disks[0].serial, "root");
	CHECK_STR(d->disks[0].format, "auto");
	CHECK_EQ(d->n_nets, 1);
	CHECK(d->nets[0].has_mac && d->nets[0].mac[4] == 0xcd);
	CHECK_EQ(d->nets[0].n_publish, 1);
	CHECK(d->nets[0].publish[0].udp && d->nets[0].publish[0].guest_port == 5353);
	CHECK_STR(d->nets[0].publish[0].host_addr, "::1");
	CHECK(d->shares[0].read_only && d->shares[0].type == VM_SHARE_FS);
	CHECK(!d->shares[1].read_only && d->shares[1].type == VM_SHARE_9P);
	CHECK_EQ(d->vsock_cid, 7);
	CHECK_EQ(d->serial.type, VM_CHARDEV_FILE);
	CHECK_EQ(d->console.type, VM_CHARDEV_STDIO);
	CHECK(!d->rng && !d->balloon && !d->sandbox && d->on_reboot == VM_REBOOT_EXIT);
}

static void test_round_trip(void)
{
	autostrbuf struct strbuf one = {0}, two = {0};
	struct vm_desc d = {0};

	parse_ok(full, &d);
	check_full(&d);
	vm_desc_format(&d, &one);
	vm_desc_fini(&d);
	parse_ok(one.data, &d);
	check_full(&d);
	vm_desc_format(&d, &two);
	vm_desc_fini(&d);
	CHECK_STR(one.data, two.data);
}

static void test_cards(void)
{
	struct vm_desc d = {0};
	struct vm_rate rate[2];
	struct err e = {0};
	json_t *o;

	parse_ok(full, &d);
	CHECK_EQ(d.n_disks, 3);
	CHECK(d.disks[1].slot == 30 && !d.disks[1].removed && d.disks[2].removed);
	CHECK(!d.disks[2].path && !d.disks[2].slot);
	CHECK(d.disks[1].rate[VM_RATE_BYTES].rate == 1000000 &&
	      d.disks[1].rate[VM_RATE_BYTES].burst == 5 && d.disks[1].rate[VM_RATE_OPS].rate == 7 &&
	      !d.disks[1].rate[VM_RATE_OPS].burst);
	/* One entry more, and one that is refused. */
	o = json_pack("{s:s, s:i}", "path", "/f", "slot", 9);
	CHECK_EQ(vm_desc_read_disk(o, &d, 3, &e), 0);
	CHECK(strcmp(d.disks[3].path, "/f") == 0 && d.disks[3].slot == 9 && d.n_disks == 3);
	json_decref(o);
	o = json_pack("{s:s, s:i}", "path", "/f", "slot", 31);
	CHECK(vm_desc_read_disk(o, &d, 4, &e) < 0 && !d.disks[4].path);
	CHECK_STR(e.msg, "disk: slot: 31 is not between 1 and 30");
	json_decref(o);
	o = json_pack("{s:s, s:i}", "mac", "52:54:00:00:00:01", "slot", 9);
	CHECK_EQ(vm_desc_read_net(o, &d, 1, &e), 0);
	CHECK(d.nets[1].has_mac && d.nets[1].slot == 9 && d.n_nets == 1);
	json_decref(o);
	o = json_pack("{s:i, s:i}", "in", 5, "out_burst", 9);
	CHECK(vm_desc_read_rate(o, vm_net_rate_words, rate, &e) < 0);
	CHECK_STR(e.msg, "rate.out_burst: needs out");
	json_decref(o);
	vm_desc_fini(&d);
	refused("{\"kernel\":\"k\",\"disks\":[{\"path\":\"d\",\"rate\":{\"x\":1}}]}",
		"disks[0].rate.x: unknown key");
	refused("{\"kernel\":\"k\",\"disks\":[{\"path\":\"d\",\"bus\":\"ahci\",\"slot\":3}]}",
		"disks[0].slot: is not for a disk on AHCI");
	refused("{\"kernel\":\"k\",\"nets\":[{\"slot\":0}]}",
		"nets[0].slot: 0 is not between 1 and 30");
}

static void test_refusals(void)
{
	refused("[1]", "the description is not a JSON object");
	refused("{}", "kernel: is missing");
	refused("{\"kernel\":\"\"}", "kernel: is empty");
	refused("{\"kernel\":7}", "kernel: must be a string");
	refused("{\"kernel\":\"a\\u0000b\"}", "kernel: has a NUL character in it");
	refused("{\"kernel\":\"k\",\"cpus\":65}", "cpus: 65 is not between 1 and 64");
	refused("{\"kernel\":\"k\",\"cpus\":-1}", "cpus: -1 is not between 1 and 64");
	refused("{\"kernel\":\"k\",\"cpus\":1.5}", "cpus: must be a whole number");
	refused("{\"kernel\":\"k\",\"color\":1}", "color: unknown key");
	refused("{\"kernel\":\"k\",\"version\":2}", "version: only 1 is known");
	refused("{\"kernel\":\"k\",\"machine\":\"pc\"}", "machine: unknown value 'pc'");
	refused("{\"kernel\":\"k\",\"name\":\"a/b\"}",
		"name: 'a/b' may hold letters, digits, '.', '_' and '-' only");
	refused("{\"kernel\":\"k\",\"memory\":8388609}",
		"memory: 8388609 is not a whole number of MiB");
	refused("{\"kernel\":\"k\",\"disks\":[{}]}", "disks[0].path: is missing");
	refused("{\"kernel\":\"k\",\"disks\":[{\"path\":\"d\",\"mode\":1}]}",
		"disks[0].mode: unknown key");
	refused("{\"kernel\":\"k\",\"disks\":[3]}", "disks: entry 0 must be an object");
	refused("{\"kernel\":\"k\",\"disks\":{}}", "disks: must be an array");
	refused(
	    "{\"kernel\":\"k\",\"disks\":[{\"path\":\"d\",\"readonly\":true,\"overlay\":true}]}",
	    "disks[0].overlay: cannot be true on a read-only disk");
	refused("{\"kernel\":\"k\",\"nets\":[{\"mac\":\"53:54:00:00:00:00\"}]}",
		"nets[0].mac: '53:54:00:00:00:00' is not a unicast address like 52:54:00:12:34:56");
	refused("{\"kernel\":\"k\",\"nets\":[{\"publish\":[{\"guest_port\":1}]}]}",
		"nets[0].publish[0].host_port: is missing");
	refused("{\"kernel\":\"k\",\"nets\":[{\"publish\":[{\"host_addr\":\"x\",\"host_port\":1,"
		"\"guest_port\":1}]}]}",
		"nets[0].publish[0].host_addr: 'x' is not an IP address");
	refused("{\"kernel\":\"k\",\"shares\":[{\"path\":\"a\",\"tag\":\"t\"},"
		"{\"path\":\"b\",\"tag\":\"t\"}]}",
		"shares[1].tag: 't' is used twice");
	refused("{\"kernel\":\"k\",\"serial\":{\"type\":\"file\"}}", "serial.path: is missing");
	refused("{\"kernel\":\"k\",\"vsock\":{\"cid\":2,\"socket\":\"s\"}}",
		"vsock.cid: 2 is not between 3 and 4294967294");
	refused(
	    "{\"kernel\":\"k\",\"serial\":{\"type\":\"stdio\"},\"console\":{\"type\":\"stdio\"}}",
	    "console: serial uses stdio already");
}

static void test_firmware(void)
{
	struct vm_desc d = {0};

	parse_ok("{\"firmware\":\"uefi\",\"nvram\":\"/n\",\"boot\":[\"network\",\"disk\"],"
		 "\"disks\":[{\"cdrom\":true},{\"path\":\"/d\",\"bus\":\"ahci\"}],"
		 "\"display\":{\"vnc\":\"unix:/v\",\"password\":\"12345678\",\"tls\":\"/pem\"}}",
		 &d);
	CHECK_STR(d.firmware, "uefi");
	CHECK(!d.kernel && !d.append && d.display.vga && !d.display.text);
	CHECK(d.n_boot == 2 && d.boot[0] == VM_BOOT_NETWORK && d.boot[1] == VM_BOOT_DISK);
	CHECK(!d.disks[0].path && d.disks[0].read_only && d.disks[0].bus == VM_DISK_AHCI);
	CHECK(!d.disks[1].cdrom && d.disks[1].bus == VM_DISK_AHCI);
	vm_desc_fini(&d);
	parse_ok("{\"firmware\":\"bios\"}", &d);
	CHECK(d.n_boot == 3 && d.boot[0] == VM_BOOT_CDROM && !d.boot_menu);
	vm_desc_fini(&d);

	refused("{\"firmware\":\"bios\",\"kernel\":\"k\"}",
		"firmware: and kernel, initrd or append exclude each other");
	refused("{\"firmware\":\"bios\",\"machine\":\"micro\"}", "firmware: needs machine q35");
	refused("{\"kernel\":\"k\",\"nvram\":\"n\"}", "nvram: needs firmware");
	refused("{\"firmware\":\"bios\",\"boot\":[\"disk\",\"disk\"]}",
		"boot: entry 1 is not one of disk, cdrom, network, or is twice");
	refused("{\"firmware\":\"bios\",\"display\":{\"vga\":false}}",
		"display.vga: must be true with firmware");
	refused("{\"firmware\":\"bios\",\"display\":{\"vnc\":\"here\"}}",
		"display.vnc: 'here' is neither unix:PATH nor ADDRESS:PORT");
	refused("{\"firmware\":\"bios\",\"display\":{\"password\":\"123456789\"}}",
		"display.password: is 9 bytes long, at most 8 are allowed");
	refused("{\"kernel\":\"k\",\"disks\":[{\"cdrom\":true,\"bus\":\"virtio\"}]}",
		"disks[0].bus: must be ahci for a CD-ROM drive");
	refused("{\"kernel\":\"k\",\"disks\":[{\"cdrom\":true,\"readonly\":false}]}",
		"disks[0].readonly: must be true for a CD-ROM drive");
	refused(
	    "{\"firmware\":\"bios\",\"display\":{\"text\":true},\"serial\":{\"type\":\"stdio\"}}",
	    "display: text needs stdio, which serial or console uses");
}

static void test_memory_status(void)
{
	static const char text[] = "{\"kernel\":\"k\",\"memory\":1024}";
	struct vm_desc d = {0};
	struct err e = {0};

	CHECK(vm_desc_parse(text, strlen(text), &d, &e) < 0);
	CHECK_EQ(e.exit_code, EXIT_BAD_MEMORY);
}

/* No prefix of a good description is one, and none leaks or crashes. */
static void test_truncated(void)
{
	for (size_t n = 0; n < sizeof(full) - 1; n++) {
		struct vm_desc d = {0};
		struct err e = {0};

		CHECK(vm_desc_parse(full, n, &d, &e) < 0);
		CHECK(e.msg[0]);
	}
}

int main(void)
{
	test_defaults();
	test_round_trip();
	test_refusals();
	test_cards();
	test_firmware();
	test_memory_status();
	test_truncated();
	return 0;
}
