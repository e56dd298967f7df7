/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model/domain_xml.h - machines as libvirt's domain XML (https://libvirt.org/formatdomain.html)
 *
 * Read is what a machine of ours can be: name, UUID, memory, CPUs, kernel or firmware, disks and
 * discs with their limits, VNC, user-mode networks with ports and limits, shares, limits of the
 * host's resources.  What would change nothing that a guest depends on is passed
 * over; what is left out is told as a warning; what cannot be is an error with its line.  The image
 * of a machine, its disk's limits and the engine travel in <metadata>, in a namespace of ours.
 */
#pragma once

#include "base/strbuf.h"
#include "model/machine_config.h"

/* Fills in @ret (initialised by this), the name (the caller's) and, if given, the UUID of 36
 * characters, else "".  @warnings gets a line each. */
must_check int domain_xml_parse(const char *text, size_t len, struct machine_config *ret,
				char **name, char uuid[37], struct strbuf *warnings, struct err *e);
void domain_xml_format(const struct machine_config *c, const char *name, const char *uuid,
		       struct strbuf *out);
