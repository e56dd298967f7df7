/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/vmm_overlay.c - disks at one instant: what was written stays below, the machine goes on above
 *
 * Behind our walls nothing can be made: whoever asks has made an empty qcow2 image with the disk as
 * backing file, and passes it as a descriptor.
 */
#include "vmm/vmm_priv.h"

#include <errno.h>

static int take_one(struct vmm *v, const json_t *o, unsigned int fd_number, struct err *e)
{
	const json_t *disk = json_object_get(o, "disk");
	const char *path = json_string_value(json_object_get(o, "path"));
	json_int_t n = json_integer_value(disk);
	int fd, r;

	if (!json_is_integer(disk) || !path || n < 0 || n >= VM_DESC_MAX_DEVS)
		return err_msg(e, -EINVAL, "overlays: each has a disk's number and a path");
	fd = control_take_fd(v->passed, fd_number, e);
	if (fd < 0)
		return err_wrap(e, fd, "overlay '%s'", path);
	r = machine_overlay(v->machine, (unsigned int)n, fd, path, e);
	if (r < 0)
		return r;
	free(v->next_path[n]);
	v->next_path[n] = xstrdup(path);
	return 0;
}

int vmm_overlays_take(struct vmm *v, json_t *list, unsigned int first, struct err *e)
{
	json_t *o;
	size_t i;

	if (list && !json_is_array(list))
		return err_msg(e, -EINVAL, "overlays: must be a list");
	json_array_foreach(list, i, o)
	{
		int r = take_one(v, o, first + (unsigned int)i, e);

		if (r < 0) {
			vmm_overlays_drop(v);
			return r;
		}
	}
	return 0;
}

int vmm_overlays_put(struct vmm *v, struct err *e)
{
	uint32_t put;
	int r = machine_overlays_put(v->machine, &put, e);

	for (unsigned int i = 0; i < VM_DESC_MAX_DEVS; i++) {
		if (!(put >> i & 1))
			continue;
		free(v->disk_path[i]);
		v->disk_path[i] = steal_ptr(&v->next_path[i]);
	}
	vmm_overlays_drop(v);
	return r;
}

void vmm_overlays_drop(struct vmm *v)
{
	if (v->machine)
		machine_overlays_drop(v->machine);
	for (unsigned int i = 0; i < VM_DESC_MAX_DEVS; i++) {
		free(v->next_path[i]);
		v->next_path[i] = NULL;
	}
}

/* The description as it is now, and the disks' sizes, which overlays must have. */
int vmm_run_describe(struct vmm *v, json_t *args, json_t **ret, struct err *e)
{
	json_t *sizes = json_array();

	for (unsigned int i = 0; i < v->desc->n_disks; i++)
		json_array_append_new(sizes,
				      json_integer((json_int_t)machine_disk_size(v->machine, i)));
	*ret = json_pack("{so so}", "description", vmm_description(v), "disk_sizes", sizes);
	return 0;
}

json_t *vmm_description(struct vmm *v)
{
	autostrbuf struct strbuf text = {0};
	json_t *d, *disks;

	vm_desc_format(v->desc, &text);
	d = json_loadb(text.data, text.len, 0, NULL);
	disks = json_object_get(d, "disks");
	json_object_del(json_object_get(d, "display"), "password");
	for (unsigned int i = 0; i < VM_DESC_MAX_DEVS; i++) {
		json_t *disk = json_array_get(disks, i);

		if (!v->disk_path[i] || !disk)
			continue;
		json_object_set_new(disk, "path", json_string(v->disk_path[i]));
		json_object_set_new(disk, "format", json_string("qcow2"));
	}
	return d;
}
