/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/get.c - an image by its name, ready to run
 */
#include "oci/transfer.h"

#include <errno.h>

int oci_image_get(struct oci_store *s, const char *name, struct progress *p, struct oci_image *ret,
		  struct err *e)
{
	struct platform want = platform_host();
	struct reference ref = {0};
	int r = oci_store_find(s, name, ret, NULL);

	if (r == -ENOENT) {
		bool deb = strncmp(name, "deb:", 4) == 0;

		r = deb ? image_import_deb(s, name, p, e) : reference_parse(name, &ref, e);
		if (r == 0 && !deb)
			r = image_pull(s, &ref, &want, p, e);
		if (r == 0)
			r = oci_store_find(s, name, ret, e);
		reference_fini(&ref);
	} else if (r < 0) {
		r = oci_store_find(s, name, ret, e);
	}
	if (r < 0)
		return r;
	r = oci_image_use(s, ret, e);
	/* Layers may be missing after a kill between pull and unpacking. */
	if (r == 0)
		r = oci_store_unpack(s, ret, p, e);
	if (r < 0)
		oci_image_fini(ret);
	oci_store_close(s);
	return r;
}
