/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/fuzz_domain_xml.c - libvirt's domain XML: what is read and written is read alike, and
 * passes for a machine's configuration
 */
#include "fuzz.h"

#include "model/domain_xml.h"

#include <assert.h>

static const char seed[] =
    "<domain type='kvm'><name>web</name><uuid>4dea22b3-1d52-48f3-a516-782e98ab3fa0</uuid>"
    "<memory unit='MiB'>512</memory><vcpu>2</vcpu><os firmware='efi'><type arch='x86_64' "
    "machine='q35'>hvm</type><boot dev='cdrom'/><boot dev='hd'/><bootmenu enable='yes'/></os>"
    "<devices><disk type='file' device='disk'><driver type='qcow2'/><source file='/d'/>"
    "<target dev='vda' bus='virtio'/></disk><disk device='cdrom'><source file='/i'/></disk>"
    "<interface type='user'><model type='e1000'/><bandwidth><inbound average='9' burst='8'/>"
    "</bandwidth><portForward proto='udp' address='::1'><range start='53' to='5'/></portForward>"
    "</interface><interface type='user'><mac address='52:54:00:00:00:02'/></interface>"
    "<filesystem type='mount'><source dir='/h'/><target dir='/g'/><readonly/></filesystem>"
    "<disk><source file='/n'/><target bus='nvme'/><serial>s</serial><iotune><total_iops_sec>7"
    "</total_iops_sec></iotune></disk><graphics type='vnc' port='5901' listen='::1' passwd='x'/>"
    "<sound/></devices><memtune><hard_limit>900</hard_limit></memtune><cputune><shares>99</shares>"
    "<global_quota>1234</global_quota></cputune><metadata><insula:machine "
    "xmlns:insula='urn:insula:domain:1'><insula:image>i</insula:image><insula:root><iotune>"
    "<total_bytes_sec>3</total_bytes_sec></iotune></insula:root></insula:machine></"
    "metadata><a>&lt;&#x41;</a></domain>";

static void check(const char *text, size_t len)
{
	autostrbuf struct strbuf warnings = {0}, one = {0}, two = {0};
	autofree char *name = NULL, *again = NULL;
	struct machine_config c;
	struct err e = {0};
	char uuid[37];

	if (domain_xml_parse(text, len, &c, &name, uuid, &warnings, &e) < 0) {
		assert(e.msg[0] && !name);
		return;
	}
	domain_xml_format(&c, name, uuid, &one);
	machine_config_fini(&c);
	assert(domain_xml_parse(one.data, one.len, &c, &again, uuid, &warnings, &e) == 0);
	domain_xml_format(&c, again, uuid, &two);
	machine_config_fini(&c);
	assert(strcmp(one.data, two.data) == 0);
}

/* The seed with up to seven bytes replaced; or, after 0xff, the text itself. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[sizeof(seed)];

	if (size && data[0] == 0xff) {
		check((const char *)data + 1, size - 1);
		return 0;
	}
	memcpy(text, seed, sizeof(seed));
	for (unsigned int n = size ? data[0] & 7 : 0; n && size >= 3; n--, data += 3, size -= 3)
		text[load_le16(data) % (sizeof(seed) - 1)] = (char)data[2];
	check(text, sizeof(seed) - 1);
	return 0;
}
