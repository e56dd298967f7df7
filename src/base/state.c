/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/state.c - saved state as a table of named fields
 */
#include "base/state.h"

#include <errno.h>

/* Record: u8 table-name length | table name | u16 version | u16 fields | fields... */

static void put_name(struct strbuf *out, const char *name)
{
	strbuf_putc(out, (char)strlen(name));
	strbuf_puts(out, name);
}

void state_save(const struct state_table *t, const void *obj, struct strbuf *out)
{
	uint16_t head[2] = {t->version, (uint16_t)t->n_fields};

	put_name(out, t->name);
	strbuf_add(out, head, sizeof(head));
	for (size_t i = 0; i < t->n_fields; i++) {
		const struct state_field *f = &t->fields[i];

		put_name(out, f->name);
		strbuf_add(out, &f->size, sizeof(f->size));
		strbuf_add(out, &f->count, sizeof(f->count));
		strbuf_add(out, (const char *)obj + f->offset, (size_t)f->size * f->count);
	}
}

struct cursor {
	const uint8_t *p;
	size_t left;
};

static bool take(struct cursor *c, void *out, size_t len)
{
	if (c->left < len)
		return false;
	if (out)
		memcpy(out, c->p, len);
	c->p += len;
	c->left -= len;
	return true;
}

static bool take_name(struct cursor *c, char name[256])
{
	uint8_t len;

	if (!take(c, &len, 1) || !take(c, name, len))
		return false;
	name[len] = '\0';
	return true;
}

static const struct state_field *find_field(const struct state_table *t, const char *name)
{
	for (size_t i = 0; i < t->n_fields; i++) {
		if (strcmp(t->fields[i].name, name) == 0)
			return &t->fields[i];
	}
	return NULL;
}

static bool are_bools(const uint8_t *p, size_t n)
{
	while (n--) {
		if (*p++ > 1)
			return false;
	}
	return true;
}

static int load_fields(const struct state_table *t, void *obj, struct cursor *c, unsigned int n,
		       unsigned int version, struct err *e)
{
	char name[256];
	uint64_t seen[4] = {0}; /* by row number */

	if (t->n_fields > 256)
		return err_msg(e, -EINVAL, "%s: too many fields", t->name);
	while (n--) {
		const struct state_field *f;
		uint16_t size;
		uint32_t count;
		size_t row;

		if (!take_name(c, name) || !take(c, &size, 2) || !take(c, &count, 4))
			return err_msg(e, -EINVAL, "%s: saved state is cut short", t->name);
		f = find_field(t, name);
		if (!f)
			return err_msg(e, -EINVAL, "%s: unknown field '%s'", t->name, name);
		if (f->size != size || f->count != count)
			return err_msg(e, -EINVAL, "%s: field '%s' is %u x %u bytes, not %u x %u",
				       t->name, name, count, size, f->count, f->size);
		if (f->is_bool && count <= c->left && !are_bools(c->p, count))
			return err_msg(e, -EINVAL, "%s: field '%s' is neither true nor false",
				       t->name, name);
		if (!take(c, (char *)obj + f->offset, (size_t)size * count))
			return err_msg(e, -EINVAL, "%s: saved state is cut short", t->name);
		row = (size_t)(f - t->fields);
		seen[row / 64] |= BIT(row % 64);
	}
	for (size_t i = 0; i < t->n_fields; i++) {
		if (!(seen[i / 64] & BIT(i % 64)) && t->fields[i].since <= version)
			return err_msg(e, -EINVAL, "%s: field '%s' is missing", t->name,
				       t->fields[i].name);
	}
	return 0;
}

int state_load(const struct state_table *t, void *obj, const void *data, size_t len, size_t *used,
	       struct err *e)
{
	struct cursor c = {data, len};
	uint16_t head[2];
	char name[256];
	int r;

	if (!take_name(&c, name) || !take(&c, head, sizeof(head)))
		return err_msg(e, -EINVAL, "%s: saved state is cut short", t->name);
	if (strcmp(name, t->name) != 0)
		return err_msg(e, -EINVAL, "saved state is of '%s', not of '%s'", name, t->name);
	if (head[0] > t->version)
		return err_msg(e, -EINVAL, "%s: saved by version %u, this one knows up to %u",
			       t->name, head[0], t->version);
	r = load_fields(t, obj, &c, head[1], head[0], e);
	if (r < 0)
		return r;
	*used = len - c.left;
	return t->loaded ? t->loaded(obj, e) : 0;
}
