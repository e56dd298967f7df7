/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/unit/model/test_domain_xml.c - libvirt's domain XML: what is read, told, refused, written
 */
#include "model/domain_xml.h"

#include "test.h"

#include <errno.h>

static const char virt_install[] =
    "<domain type=\"kvm\">\n"
    "  <name>debian</name>\n"
    "  <uuid>4DEA22B3-1D52-D8F3-2516-782E98AB3FA0</uuid>\n"
    "  <metadata><libosinfo:libosinfo xmlns:libosinfo=\"x\"/></metadata>\n"
    "  <memory>2097152</memory>\n"
    "  <currentMemory>2097152</currentMemory>\n"
    "  <vcpu>2</vcpu>\n"
    "  <os><type arch=\"x86_64\" machine=\"pc-q35-7.2\">hvm</type>\n"
    "    <boot dev=\"cdrom\"/><boot dev=\"hd\"/></os>\n"
    "  <features><acpi/><apic/></features>\n"
    "  <cpu mode=\"host-passthrough\"/>\n"
    "  <clock offset=\"utc\"/>\n"
    "  <devices>\n"
    "    <emulator>/usr/bin/qemu-system-x86_64</emulator>\n"
    "    <disk type=\"file\" device=\"disk\"><driver name=\"qemu\" type=\"qcow2\"/>\n"
    "      <source file=\"/var/lib/d.qcow2\"/><target dev=\"vda\" bus=\"virtio\"/></disk>\n"
    "    <disk type=\"file\" device=\"cdrom\"><source file=\"/i.iso\"/>\n"
    "      <target dev=\"sda\" bus=\"sata\"/><readonly/></disk>\n"
    "    <interface type=\"network\"><source network=\"default\"/></interface>\n"
    "    <controller type=\"usb\"/><console type=\"pty\"/>\n"
    "    <sound model=\"ich9\"/>\n"
    "    <graphics type=\"vnc\" port=\"5901\" listen=\"0.0.0.0\"/>\n"
    "  </devices>\n"
    "</domain>\n";

static void test_virt_install(void)
{
	autostrbuf struct strbuf warnings = {0}, one = {0}, two = {0};
	autofree char *name = NULL, *again = NULL;
	struct machine_config c;
	struct err e = {0};
	char uuid[37];

	CHECK_EQ(
	    domain_xml_parse(virt_install, strlen(virt_install), &c, &name, uuid, &warnings, &e),
	    0);
	CHECK_STR(name, "debian");
	CHECK_STR(uuid, "4dea22b3-1d52-d8f3-2516-782e98ab3fa0");
	CHECK_EQ(c.memory, UINT64_C(2) << 30);
	CHECK_EQ(c.cpus, 2);
	CHECK_STR(c.firmware, "bios");
	CHECK_STR(c.boot, "cdrom,disk");
	CHECK_STR(c.board, "q35");
	CHECK_EQ(c.n_disks, 2);
	CHECK(!c.disks[0].cdrom && strcmp(c.disks[0].bus, "virtio") == 0 &&
	      strcmp(c.disks[0].format, "qcow2") == 0);
	CHECK(c.disks[1].cdrom && strcmp(c.disks[1].bus, "ahci") == 0 && c.disks[1].read_only);
	CHECK_STR(c.disks[1].path, "/i.iso");
	CHECK(c.net);
	CHECK_STR(c.vnc, "0.0.0.0:5901");
	CHECK(strstr(warnings.data, "line 19: <interface> becomes a user-mode network"));
	CHECK(strstr(warnings.data, "<sound> is left out"));
	CHECK(!strstr(warnings.data, "features") && !strstr(warnings.data, "controller"));
	/* What is written is read alike, and without a warning. */
	domain_xml_format(&c, name, uuid, &one);
	machine_config_fini(&c);
	strbuf_fini(&warnings);
	CHECK_EQ(domain_xml_parse(one.data, one.len, &c, &again, uuid, &warnings, &e), 0);
	CHECK_EQ(warnings.len, 0);
	domain_xml_format(&c, again, uuid, &two);
	CHECK_STR(one.data, two.data);
	machine_config_fini(&c);
}

static void test_image(void)
{
	autostrbuf struct strbuf warnings = {0}, text = {0};
	autofree char *name = NULL;
	struct machine_config c, back;
	struct err e = {0};
	char uuid[37];

	machine_config_init(&c);
	c.image = xstrdup("deb:bookworm+a&b<'\">");
	domain_xml_format(&c, "web", "", &text);
	CHECK_EQ(domain_xml_parse(text.data, text.len, &back, &name, uuid, &warnings, &e), 0);
	CHECK_STR(back.image, c.image);
	CHECK(!back.firmware && back.net && !uuid[0]);
	machine_config_fini(&c);
	machine_config_fini(&back);
}

static void refused(const char *xml, const char *words)
{
	autostrbuf struct strbuf warnings = {0};
	char *name = NULL, uuid[37];
	struct machine_config c;
	struct err e = {0};

	CHECK(domain_xml_parse(xml, strlen(xml), &c, &name, uuid, &warnings, &e) < 0);
	if (!strstr(e.msg, words)) {
		fprintf(stderr, "no '%s' in '%s'\n", words, e.msg);
		exit(1);
	}
	CHECK(!name);
}

static void test_refusals(void)
{
	autostrbuf struct strbuf deep = {0};

	refused("", "no element");
	refused("<domain>", "line 1");
	refused("<network><name>x</name></network>", "is no domain");
	refused("<!DOCTYPE a [<!ENTITY b \"c\">]><domain><name>&b;</name></domain>",
		"document type");
	refused("<domain><os><type>hvm</type></os></domain>", "is no name");
	refused("<domain><name>x</name></domain>", "nothing to start");
	refused("<domain><name>x</name><uuid>1</uuid><os/></domain>", "<uuid>");
	refused("<domain><name>x</name><os><type>exe</type></os></domain>", "not hvm");
	refused("<domain><os><type arch='aarch64'>hvm</type></os></domain>", "architecture");
	refused("<domain><name>x</name><os/><memory>1</memory></domain>", "memory");
	refused("<domain><name>x</name><os/><memory unit='x'>1</memory></domain>", "memory");
	refused("<domain><memory unit='TiB'>18446744073709551615</memory></domain>", "memory");
	refused("<domain><vcpu>0</vcpu></domain>", "1 to 64");
	refused("<domain><vcpu>-1</vcpu></domain>", "1 to 64");
	refused("<domain><devices><disk type='network'><source protocol='rbd'/></disk></devices>"
		"</domain>",
		"neither a file");
	refused("<domain><devices><disk device='disk'/></devices></domain>", "no source");
	refused("<domain><name>x</name><os/><devices><disk><source file='rel'/></disk></devices>"
		"</domain>",
		"absolute");
	for (int i = 0; i < 40; i++)
		strbuf_puts(&deep, "<a>");
	refused(deep.data, "too deep");
}

int main(void)
{
	test_virt_install();
	test_image();
	test_refusals();
	return 0;
}
