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

static const char whole[] =
    "<domain type='kvm'><name>whole</name>\n"
    "<metadata><insula:machine xmlns:insula='urn:insula:domain:1'>"
    "<insula:image>deb:bookworm</insula:image>"
    "<insula:root><iotune><total_bytes_sec>77</total_bytes_sec></iotune></insula:root>"
    "</insula:machine></metadata>\n"
    "<memory unit='MiB'>512</memory>\n"
    "<memtune><hard_limit unit='MiB'>700</hard_limit><soft_limit>1</soft_limit></memtune>\n"
    "<cputune><shares>2048</shares><global_period>50000</global_period>"
    "<global_quota>75000</global_quota></cputune>\n"
    "<os><type>hvm</type></os><devices>\n"
    "<disk type='file'><source file='/n'/><target dev='nvme0n1' bus='nvme'/>"
    "<serial>abc</serial><iotune><total_iops_sec>100</total_iops_sec>"
    "<total_iops_sec_max>300</total_iops_sec_max><total_bytes_sec>1000001</total_bytes_sec>\n"
    "<read_bytes_sec>1</read_bytes_sec></iotune></disk>\n"
    "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='e1000'/>"
    "<bandwidth><inbound average='100' burst='7' peak='9'/><outbound average='200'/></bandwidth>"
    "<portForward proto='tcp' address='::1'><range start='2022' to='22'/><range start='80'/>"
    "<range start='5' end='9'/></portForward>"
    "<portForward proto='udp'><range start='53'/></portForward></interface>\n"
    "<interface type='bridge'><mac address='52:54:00:00:00:02'/>"
    "<bandwidth><outbound average='3'/></bandwidth></interface>\n"
    "<interface type='user'/>\n"
    "<filesystem type='mount'><source dir='/h'/><target dir='/g'/><readonly/></filesystem>\n"
    "<filesystem type='mount'><source dir='/h'/><target dir='tag'/></filesystem>\n"
    "</devices></domain>";

static void check_whole(const struct machine_config *c)
{
	CHECK_EQ(c->limits.cpu_percent, 150);
	CHECK_EQ(c->limits.cpu_weight, 200);
	CHECK_EQ(c->limits.memory, UINT64_C(700) << 20);
	CHECK_EQ(c->root_rate[VM_RATE_BYTES].rate, 77);
	CHECK_EQ(c->n_disks, 1);
	CHECK_STR(c->disks[0].bus, "nvme");
	CHECK_STR(c->disks[0].serial, "abc");
	CHECK(c->disks[0].rate[VM_RATE_OPS].rate == 100 &&
	      c->disks[0].rate[VM_RATE_OPS].burst == 300);
	CHECK(c->disks[0].rate[VM_RATE_BYTES].rate == 1000001 &&
	      !c->disks[0].rate[VM_RATE_BYTES].burst);
	CHECK(c->net && strcmp(c->net_model, "e1000") == 0);
	CHECK(c->net_rate[VM_RATE_IN].rate == 102400 && c->net_rate[VM_RATE_IN].burst == 7168);
	CHECK(c->net_rate[VM_RATE_OUT].rate == 204800 && !c->net_rate[VM_RATE_OUT].burst);
	CHECK_EQ(c->n_publish, 3);
	CHECK(!c->publish[0].udp && c->publish[0].host == 2022 && c->publish[0].guest == 22);
	CHECK_STR(c->publish[0].address, "::1");
	CHECK(c->publish[1].host == 80 && c->publish[1].guest == 80);
	CHECK(c->publish[2].udp && c->publish[2].host == 53);
	CHECK_EQ(c->n_nics, 1);
	CHECK(c->nics[0].mac[5] == 2 && c->nics[0].rate[VM_RATE_OUT].rate == 3072);
	CHECK_EQ(c->n_shares, 1);
	CHECK(strcmp(c->shares[0].host, "/h") == 0 && strcmp(c->shares[0].guest, "/g") == 0 &&
	      c->shares[0].read_only);
}

static void test_whole(void)
{
	static const char *const told[] = {"line 4: <soft_limit>",
					   "<read_bytes_sec>",
					   "<inbound> keeps its average",
					   "<range> is not one port",
					   "line 10: <interface> becomes a user-mode",
					   "line 11: <interface> is not the first",
					   "line 13: <filesystem>"};
	autostrbuf struct strbuf warnings = {0}, one = {0}, two = {0};
	autofree char *name = NULL, *again = NULL, *plain = NULL, *third = NULL;
	struct machine_config c;
	struct err e = {0};
	char uuid[37], *image;

	CHECK_EQ(domain_xml_parse(whole, strlen(whole), &c, &name, uuid, &warnings, &e), 0);
	check_whole(&c);
	for (size_t i = 0; i < ARRAY_SIZE(told); i++)
		CHECK(strstr(warnings.data, told[i]));
	domain_xml_format(&c, name, "", &one);
	machine_config_fini(&c);
	strbuf_fini(&warnings);
	CHECK_EQ(domain_xml_parse(one.data, one.len, &c, &again, uuid, &warnings, &e), 0);
	CHECK_EQ(warnings.len, 0);
	check_whole(&c);
	domain_xml_format(&c, again, "", &two);
	CHECK_STR(one.data, two.data);
	machine_config_fini(&c);
	/* Without an image there is no agent for the share, and no disk for its rate. */
	plain = xstrdup(whole);
	image = strstr(plain, "deb:bookworm");
	memset(image, ' ', strlen("deb:bookworm"));
	CHECK_EQ(domain_xml_parse(plain, strlen(plain), &c, &third, uuid, &warnings, &e), 0);
	CHECK(!c.n_shares && !c.root_rate[VM_RATE_BYTES].rate);
	CHECK(strstr(warnings.data, "line 12: <filesystem> needs an image"));
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
	test_whole();
	test_refusals();
	return 0;
}
