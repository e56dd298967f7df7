/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio/vsock.h - virtio socket device, its host side being unix sockets (virtio 1.2, 5.10)
 */
#pragma once

#include "base/loop.h"
#include "virtio/virtio.h"

/*
 * @path is listened on: a host program connects, writes "CONNECT <port>\n", reads "OK <port>\n" and
 * is connected to the guest's port.  A guest connecting to port P of CID 2 is connected to the unix
 * socket "@path_P".  @listener is a socket that listens there already, taken over, also on failure;
 * -1 = none.  Queues: 0 receive, 1 transmit, 2 events.
 */
must_check int virtio_vsock_new(struct gmem *mem, struct loop *l, uint64_t guest_cid,
				const char *path, int listener, struct virtio_dev **ret,
				struct err *e);
