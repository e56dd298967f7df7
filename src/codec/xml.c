/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec/xml.c - a small tree of an XML document
 */
#include "codec/xml.h"

#include <errno.h>
#include <expat.h>
#include <stdio.h>

struct reader {
	XML_Parser parser;
	struct xml_node *root, *at;
	unsigned int depth, nodes;
	const char *refused; /* why it was stopped */
};

static void refuse(struct reader *r, const char *why)
{
	r->refused = why;
	XML_StopParser(r->parser, XML_FALSE);
}

static void append(struct xml_node *parent, struct xml_node *n)
{
	struct xml_node **at = &parent->child;

	while (*at)
		at = &(*at)->next;
	*at = n;
}

static void on_start(void *opaque, const char *name, const char **attrs)
{
	struct reader *r = opaque;
	struct xml_node *n;
	size_t i;

	if (r->refused)
		return;
	if (++r->nodes > XML_MAX_NODES || ++r->depth > XML_MAX_DEPTH) {
		refuse(r, "it is too large or too deep");
		return;
	}
	n = xnew(struct xml_node);
	n->name = xstrdup(name);
	n->line = (unsigned int)XML_GetCurrentLineNumber(r->parser);
	n->parent = r->at;
	if (r->at)
		append(r->at, n);
	else
		r->root = n;
	r->at = n;
	for (i = 0; attrs[i] && i < 2 * XML_MAX_ATTRS; i++)
		n->attrs[i] = xstrdup(attrs[i]);
	if (attrs[i])
		refuse(r, "an element has too many attributes");
}

static void on_end(void *opaque, const char *name)
{
	struct reader *r = opaque;

	if (r->refused)
		return;
	r->at = r->at->parent;
	r->depth--;
}

static void on_text(void *opaque, const char *text, int len)
{
	struct reader *r = opaque;

	if (!r->refused && r->at)
		strbuf_add(&r->at->text, text, (size_t)len);
}

static void on_doctype(void *opaque, const char *name, const char *system, const char *public,
		       int internal)
{
	refuse(opaque, "it has a document type");
}

int xml_parse(const char *text, size_t len, struct xml_node **ret, struct err *e)
{
	struct reader r = {.parser = XML_ParserCreate(NULL)};
	unsigned long line;
	int status;

	if (!r.parser)
		return err_set(e, -ENOMEM, "XML");
	if (len > XML_MAX_BYTES) {
		XML_ParserFree(r.parser);
		return err_msg(e, -EFBIG, "the XML is longer than %u bytes", XML_MAX_BYTES);
	}
	XML_SetUserData(r.parser, &r);
	XML_SetElementHandler(r.parser, on_start, on_end);
	XML_SetCharacterDataHandler(r.parser, on_text);
	XML_SetStartDoctypeDeclHandler(r.parser, on_doctype);
	status = XML_Parse(r.parser, text, (int)len, XML_TRUE);
	line = XML_GetCurrentLineNumber(r.parser);
	if (status != XML_STATUS_OK && !r.refused)
		r.refused = XML_ErrorString(XML_GetErrorCode(r.parser));
	XML_ParserFree(r.parser);
	if (r.refused) {
		xml_free(r.root);
		return err_msg(e, -EINVAL, "not XML that can be used: line %lu: %s", line,
			       r.refused);
	}
	*ret = r.root;
	return 0;
}

/* No deeper than XML_MAX_DEPTH. */
void xml_free(struct xml_node *n)
{
	while (n) {
		struct xml_node *next = n->next;

		xml_free(n->child);
		for (size_t i = 0; n->attrs[i]; i++)
			free(n->attrs[i]);
		strbuf_fini(&n->text);
		free(n->name);
		free(n);
		n = next;
	}
}

struct xml_node *xml_child(const struct xml_node *n, const char *name)
{
	for (struct xml_node *c = n ? n->child : NULL; c; c = c->next) {
		if (strcmp(c->name, name) == 0)
			return c;
	}
	return NULL;
}

const char *xml_attr(const struct xml_node *n, const char *name)
{
	for (size_t i = 0; n && n->attrs[i]; i += 2) {
		if (strcmp(n->attrs[i], name) == 0)
			return n->attrs[i + 1];
	}
	return NULL;
}

const char *xml_text(struct xml_node *n)
{
	static const char spaces[] = " \t\r\n";
	char *text = n ? n->text.data : NULL;

	if (!text)
		return "";
	while (n->text.len && strchr(spaces, text[n->text.len - 1]))
		text[--n->text.len] = '\0';
	return text + strspn(text, spaces);
}

void xml_escape(const char *text, struct strbuf *out)
{
	for (; *text; text++) {
		switch (*text) {
		case '<':
			strbuf_puts(out, "&lt;");
			break;
		case '>':
			strbuf_puts(out, "&gt;");
			break;
		case '&':
			strbuf_puts(out, "&amp;");
			break;
		case '\'':
			strbuf_puts(out, "&apos;");
			break;
		case '"':
			strbuf_puts(out, "&quot;");
			break;
		default:
			strbuf_putc(out, *text);
		}
	}
}
