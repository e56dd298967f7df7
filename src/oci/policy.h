/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci/policy.h - whether an image may come here at all (containers-policy.json(5))
 *
 * The policy is ~/.config/containers/policy.json, else /etc/containers/policy.json; without either
 * everything may.  It accepts or rejects; one that asks for a signature is a rejection, for none is
 * checked here.
 */
#pragma once

#include "oci/reference.h"

/* -EACCES with words when the policy is against a pull of @ref. */
must_check int policy_check(const struct reference *ref, struct err *e);
/* The same for an archive, of @transport "oci-archive" or "docker-archive". */
must_check int policy_check_archive(const char *transport, struct err *e);
/* A policy's text.  @ref NULL: the transport's own rule. */
must_check int policy_judge(const char *text, size_t len, const char *transport,
			    const struct reference *ref, struct err *e);
