/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model/domain_xml_priv.h - what the parts of libvirt's domain XML share
 */
#pragma once

#include "codec/xml.h"
#include "model/domain_xml.h"

#define DOMAIN_NAMESPACE "urn:insula:domain:1"

/* One being read. */
struct domain {
	struct machine_config *c;
	struct strbuf *warnings;
	struct err *e;
	bool has_interface;
	struct xml_node *share; /* the first; NULL = none */
};

void domain_warn(struct domain *d, const struct xml_node *n, const char *why);
int domain_fail(struct domain *d, const struct xml_node *n, const char *why);
bool domain_is(const char *a, const char *b);
void domain_set_text(char **member, const char *text);
/* @names ends with NULL. */
bool domain_listed(const char *name, const char *const *names);
bool domain_u64(const char *text, uint64_t *ret);
/* An amount of memory with its unit, KiB unless one is given, in bytes. */
bool domain_bytes(struct xml_node *n, uint64_t *ret);

/* domain_xml_devices.c */
int domain_read_devices(struct domain *d, struct xml_node *devices);
/* <iotune> of a disk: what is of reads or of writes alone is told. */
int domain_read_iotune(struct domain *d, struct xml_node *iotune, struct vm_rate rate[2]);

/* domain_xml_write.c */
void domain_put(struct strbuf *out, const char *before, const char *text, const char *after);
