/* SPDX-License-Identifier: Apache-2.0 */
/*
 * live/client.h - requests on a running machine's control socket (docs/vmm.md)
 */
#pragma once

#include "base/err.h"

#include <jansson.h>

struct vmm_client {
	int fd;
	char *text; /* what was received and not yet taken */
	size_t len;
};

/* A connection to the socket at @path. */
must_check int vmm_client_open(const char *path, struct vmm_client *ret, struct err *e);
/* Over a connection that is there, taken over. */
void vmm_client_init(struct vmm_client *c, int fd);
void vmm_client_fini(struct vmm_client *c);

/* Waits for the answer; events are left out.  Takes @args over (NULL = none); @fds go along and
 * stay the caller's.  *@ret, the answer's object, is the caller's; NULL = nobody wants it.  A
 * refusal of the machine's is -EBUSY, -EINVAL, -ENODEV, -ENOSYS or -EIO with its words. */
must_check int vmm_client_call(struct vmm_client *c, const char *command, json_t *args,
			       const int *fds, unsigned int n_fds, json_t **ret, struct err *e);
