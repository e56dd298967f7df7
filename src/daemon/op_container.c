/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/op_container.c - snapshots and clones of containers, as operations
 */
#include "daemon/daemon_priv.h"

#include <errno.h>

/* The machine that args.machine names, claimed, if it is a container. */
static int claim_container(struct op_call *c, struct machine_record *ret, struct err *e)
{
	int r = op_claim(c, ret, e);

	if (r == 0 && !container_is(ret)) {
		r = err_msg(e, -ENOTSUP,
			    "'%s' is a virtual machine: `insula snapshot` and `insula clone` are "
			    "for it",
			    ret->name);
		op_unclaim(c, ret);
	}
	return r;
}

int op_snapshot_create(struct op_call *c, struct err *e)
{
	struct machine_record m;
	int r = claim_container(c, &m, e);

	if (r < 0)
		return r;
	r = container_snapshot_create(c, &m, op_string(c, "name"), e);
	op_unclaim(c, &m);
	return r;
}

int op_snapshot_list(struct op_call *c, struct err *e)
{
	struct machine_record m;
	int r = op_machine(c, &m, e);

	if (r < 0)
		return r;
	c->result = json_pack("{s:o}", "snapshots", container_snapshots(c->d, &m));
	machine_record_fini(&m);
	return 0;
}

int op_snapshot_restore(struct op_call *c, struct err *e)
{
	struct machine_record m;
	int r = claim_container(c, &m, e);

	if (r < 0)
		return r;
	r = container_snapshot_restore(c, &m, op_string(c, "snapshot"), e);
	op_unclaim(c, &m);
	return r;
}

int op_snapshot_delete(struct op_call *c, struct err *e)
{
	struct machine_record m;
	int r = claim_container(c, &m, e);

	if (r < 0)
		return r;
	r = container_snapshot_delete(c, &m, op_string(c, "snapshot"), e);
	op_unclaim(c, &m);
	return r;
}

int op_machine_clone(struct op_call *c, struct err *e)
{
	struct machine_record m;
	int r = claim_container(c, &m, e);

	if (r < 0)
		return r;
	r = container_clone(c, &m, op_string(c, "name"), e);
	op_unclaim(c, &m);
	return r;
}
