/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine/rate.c - limits of disks and network cards
 */
#include "block/block.h"
#include "machine/machine_priv.h"
#include "net/net.h"

#include <errno.h>

void machine_limit_disk(struct blk *b, const struct vm_rate rate[2])
{
	struct blk_limits l = {
	    .bytes = rate[VM_RATE_BYTES].rate,
	    .bytes_burst = rate[VM_RATE_BYTES].burst,
	    .ops = rate[VM_RATE_OPS].rate,
	    .ops_burst = rate[VM_RATE_OPS].burst,
	};

	blk_limit(b, &l);
}

void machine_limit_net(struct net *n, const struct vm_rate rate[2])
{
	struct net_limits l = {
	    .in = rate[VM_RATE_IN].rate,
	    .in_burst = rate[VM_RATE_IN].burst,
	    .out = rate[VM_RATE_OUT].rate,
	    .out_burst = rate[VM_RATE_OUT].burst,
	};

	net_rate_set(n, &l);
}

int machine_set_rate(struct machine *m, enum machine_card kind, unsigned int i,
		     const struct vm_rate rate[2], struct err *e)
{
	struct blk *b = m->disks[i].blk ? m->disks[i].blk : m->disks[i].nvme;
	struct net *n = m->nets[i].net;

	if (kind == MACHINE_CARD_DISK ? !b : !n)
		return err_msg(e, -ENODEV, "there is nothing to limit");
	if (kind == MACHINE_CARD_DISK)
		machine_limit_disk(b, rate);
	else
		machine_limit_net(n, rate);
	return 0;
}
