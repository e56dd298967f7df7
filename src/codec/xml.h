/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/xml.h - a small tree of an XML document, by expat
 *
 * For documents that people write: bounded in size and depth, without document types, so without
 * entities of their own.  Namespaces are not resolved: names are as written.
 */
#pragma once

#include "base/err.h"
#include "base/strbuf.h"

#define XML_MAX_BYTES (1u << 20)
#define XML_MAX_NODES 10000
#define XML_MAX_DEPTH 32
#define XML_MAX_ATTRS 16

struct xml_node {
	char *name;
	char *attrs[2 * XML_MAX_ATTRS + 2]; /* name, value...; ends with NULL */
	struct strbuf text;                 /* of this element itself */
	struct xml_node *parent, *child, *next;
	unsigned int line;
};

/* The root element; -EINVAL with the line. */
must_check int xml_parse(const char *text, size_t len, struct xml_node **ret, struct err *e);
void xml_free(struct xml_node *n);
/* The first child of that name, or NULL. */
struct xml_node *xml_child(const struct xml_node *n, const char *name);
/* NULL when @n is NULL or has none. */
const char *xml_attr(const struct xml_node *n, const char *name);
/* Without spaces around; "" when @n is NULL. */
const char *xml_text(struct xml_node *n);
/* Appends @text with what has a meaning escaped, for elements and attributes. */
void xml_escape(const char *text, struct strbuf *out);
