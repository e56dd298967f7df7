/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tests/fuzz/fuzz_vm_desc.c - machine descriptions: what parses must format and parse again alike
 */
#include "fuzz.h"

#include "model/vm_desc.h"

#include <assert.h>

static const char seed[] =
    "{\"version\":1,\"name\":\"web\",\"machine\":\"micro\",\"engine\":\"soft\",\"cpus\":4,"
    "\"memory\":1073741824,\"kernel\":\"/k\",\"initrd\":\"/i\",\"append\":\"quiet\","
    "\"disks\":[{\"path\":\"/d\",\"overlay\":true,\"serial\":\"root\"}],"
    "\"nets\":[{\"type\":\"user\",\"mac\":\"52:54:00:ab:cd:ef\",\"hostname\":\"h\","
    "\"publish\":[{\"proto\":\"udp\",\"host_addr\":\"::1\",\"host_port\":53,"
    "\"guest_port\":5353}]}],\"shares\":[{\"path\":\"/s\",\"tag\":\"share0\"}],"
    "\"vsock\":{\"cid\":7,\"socket\":\"/run/v\"},\"serial\":{\"type\":\"stdio\"},"
    "\"control\":\"/run/c\",\"on_reboot\":\"exit\"}";

/* The seed with bytes replaced: pairs of position (u16) and value; or, after 0xff, text as it is.
 */
static void check(const char *text, size_t len)
{
	autostrbuf struct strbuf one = {0}, two = {0};
	struct vm_desc d = {0};
	struct err e = {0};

	if (vm_desc_parse(text, len, &d, &e) < 0) {
		assert(e.msg[0] && !d.name);
		return;
	}
	vm_desc_format(&d, &one);
	vm_desc_fini(&d);
	assert(vm_desc_parse(one.data, one.len, &d, &e) == 0);
	vm_desc_format(&d, &two);
	vm_desc_fini(&d);
	assert(strcmp(one.data, two.data) == 0);
}

/* The seed with up to seven bytes replaced, position (u16) and value; or, after 0xff, the text
 * itself. */
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
