/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/oci.c - images of registries, as the commands use them
 */
#include "cli/oci.h"
#include "base/dirs.h"

#include "cli/run.h"
#include "oci/digest.h"
#include "oci/transfer.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

int cli_store_open(struct cli_store *ret, struct err *e)
{
	int r = dirs_program("insula-unpack", &ret->unpacker, e);

	if (r < 0)
		return r;
	r = image_cache_open(&ret->cache, e);
	if (r == 0)
		r = oci_store_open(&ret->cache, ret->unpacker, &ret->store, e);
	if (r < 0)
		free(ret->unpacker);
	return r;
}

void cli_store_close(struct cli_store *s)
{
	if (!s->unpacker)
		return;
	oci_store_close(&s->store);
	image_cache_fini(&s->cache);
	free(s->unpacker);
	s->unpacker = NULL;
}

bool cli_is_registry_image(struct cli_store *s, const char *name)
{
	struct oci_image here;
	struct reference ref = {0};
	struct image found;
	struct stat st;
	bool valid;

	if (strncmp(name, "deb:", 4) == 0 || name[0] == '/' || name[0] == '.' ||
	    stat(name, &st) == 0)
		return false;
	if (oci_store_find(&s->store, name, &here, NULL) == 0) {
		oci_image_fini(&here);
		return true;
	}
	if (!strchr(name, '/'))
		return false;
	if (image_find(&s->cache, name, &found, NULL) == 0) {
		image_fini(&found);
		return false;
	}
	valid = reference_parse(name, &ref, NULL) == 0;
	reference_fini(&ref);
	return valid;
}

static char *short_id(const struct oci_image *i)
{
	return xasprintf("%.16s", digest_hex(i->digest));
}

json_t *cli_describe_oci(const struct oci_image *i)
{
	autofree char *id = short_id(i);

	return json_pack("{s:s, s:s, s:s, s:I, s:I, s:s, s:s, s:s, s:i}", "id", id, "source",
			 i->reference, "kind", "oci", "created", (json_int_t)i->created, "bytes",
			 (json_int_t)i->bytes, "digest", i->digest, "os", i->config.os,
			 "architecture", i->config.architecture, "layers",
			 (int)i->manifest.n_layers);
}

void cli_list_oci(const struct oci_image *i, bool ids)
{
	autofree char *id = short_id(i);
	struct tm tm;
	char when[32];

	if (ids) {
		printf("%s\n", id);
		return;
	}
	localtime_r(&i->created, &tm);
	strftime(when, sizeof(when), "%Y-%m-%d %H:%M", &tm);
	printf("%-36s %-10s %7llu MiB  %s  %s\n", id, "oci", (unsigned long long)i->bytes >> 20,
	       when, i->reference);
}
