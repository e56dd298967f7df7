/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model/domain_xml.c - machines as libvirt's domain XML: reading
 */
#include "model/domain_xml_priv.h"

#include "model/machine_record.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

void domain_warn(struct domain *d, const struct xml_node *n, const char *why)
{
	strbuf_printf(d->warnings, "line %u: <%.64s> %s\n", n->line, n->name, why);
}

int domain_fail(struct domain *d, const struct xml_node *n, const char *why)
{
	return err_msg(d->e, -EINVAL, "line %u: <%.64s>: %s", n->line, n->name, why);
}

bool domain_is(const char *a, const char *b)
{
	return a && strcmp(a, b) == 0;
}

void domain_set_text(char **member, const char *text)
{
	free(*member);
	*member = text && text[0] ? xstrdup(text) : NULL;
}

bool domain_listed(const char *name, const char *const *names)
{
	for (; *names; names++) {
		if (strcmp(name, *names) == 0)
			return true;
	}
	return false;
}

/* --- numbers --- */

bool domain_u64(const char *text, uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, 10);
	return isdigit((unsigned char)text[0]) && !*end && !errno;
}

bool domain_bytes(struct xml_node *n, uint64_t *ret)
{
	static const struct {
		const char *name;
		uint64_t bytes;
	} units[] = {{"b", 1},
		     {"bytes", 1},
		     {"KB", 1000},
		     {"k", 1u << 10},
		     {"KiB", 1u << 10},
		     {"MB", 1000000},
		     {"M", 1u << 20},
		     {"MiB", 1u << 20},
		     {"GB", 1000000000},
		     {"G", 1u << 30},
		     {"GiB", 1u << 30},
		     {"T", UINT64_C(1) << 40},
		     {"TiB", UINT64_C(1) << 40}};
	const char *unit = xml_attr(n, "unit");
	uint64_t bytes = 1u << 10, value;
	bool known = !unit;

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (domain_is(unit, units[i].name)) {
			bytes = units[i].bytes;
			known = true;
		}
	}
	if (!known || !domain_u64(xml_text(n), &value) || value > INT64_MAX / bytes)
		return false;
	*ret = value * bytes;
	return true;
}

static int read_memory(struct domain *d, struct xml_node *n)
{
	uint64_t bytes;

	if (!domain_bytes(n, &bytes) || bytes > VM_DESC_MAX_MEMORY || bytes < MACHINE_MIN_MEMORY)
		return domain_fail(d, n, "is no amount of memory that a machine can have");
	d->c->memory = ALIGN_UP(bytes, UINT64_C(1) << 20);
	return 0;
}

static int read_cpus(struct domain *d, struct xml_node *n)
{
	uint64_t value;

	if (!domain_u64(xml_text(n), &value) || value < 1 || value > VM_DESC_MAX_CPUS)
		return domain_fail(d, n, "is not a number of CPUs from 1 to 64");
	d->c->cpus = (unsigned int)value;
	return 0;
}

/* --- limits --- */

#define PERIOD_US   100000
#define SHARES_UNIT 1024 /* a weight of 100 */

static bool child_u64(const struct xml_node *n, const char *name, uint64_t *ret)
{
	struct xml_node *child = xml_child(n, name);

	return child && domain_u64(xml_text(child), ret);
}

/* The whole machine's quota; that of one CPU of it is another thing. */
static int read_cputune(struct domain *d, struct xml_node *n)
{
	static const char *const known[] = {"shares", "global_period", "global_quota", NULL};
	uint64_t period = PERIOD_US, quota = 0, shares;

	for (const struct xml_node *k = n->child; k; k = k->next)
		if (!domain_listed(k->name, known))
			domain_warn(d, k, "is left out");
	if (child_u64(n, "shares", &shares))
		d->c->limits.cpu_weight =
		    (int64_t)MIN(MAX((shares * 100 + SHARES_UNIT / 2) / SHARES_UNIT, UINT64_C(1)),
				 UINT64_C(10000));
	(void)child_u64(n, "global_period", &period);
	if (!child_u64(n, "global_quota", &quota) || !quota)
		return 0;
	if (!period || period > 1000000 || quota > UINT64_C(1000000) * VM_DESC_MAX_CPUS)
		return domain_fail(d, n, "has a quota or period that cannot be");
	d->c->limits.cpu_percent =
	    (int64_t)MIN(MAX(quota * 100 / period, UINT64_C(1)), UINT64_C(100) * VM_DESC_MAX_CPUS);
	return 0;
}

static int read_memtune(struct domain *d, struct xml_node *n)
{
	for (struct xml_node *k = n->child; k; k = k->next) {
		if (!domain_is(k->name, "hard_limit"))
			domain_warn(d, k, "is left out");
		else if (!domain_bytes(k, &d->c->limits.memory))
			return domain_fail(d, k, "is no amount of memory");
	}
	return 0;
}

/* --- os --- */

static void add_boot(struct machine_config *c, const char *word)
{
	char *old = c->boot;

	c->boot = old ? xasprintf("%s,%s", old, word) : xstrdup(word);
	free(old);
}

static int read_boot(struct domain *d, struct xml_node *n)
{
	static const char *const theirs[] = {"hd", "cdrom", "network"};
	static const char *const ours[] = {"disk", "cdrom", "network"};

	for (size_t i = 0; i < ARRAY_SIZE(theirs); i++) {
		if (domain_is(xml_attr(n, "dev"), theirs[i])) {
			add_boot(d->c, ours[i]);
			return 0;
		}
	}
	return domain_fail(d, n, "boots from what is not hd, cdrom or network");
}

static int read_type(struct domain *d, struct xml_node *n)
{
	const char *arch = xml_attr(n, "arch"), *machine = xml_attr(n, "machine");

	if (strcmp(xml_text(n), "hvm") != 0)
		return domain_fail(d, n, "is not hvm");
	if (arch && strcmp(arch, "x86_64") != 0 && strcmp(arch, "i686") != 0)
		return domain_fail(d, n, "is of an architecture other than x86_64");
	domain_set_text(&d->c->board, domain_is(machine, "micro") ? "micro" : "q35");
	if (machine && !strstr(machine, "q35") && strcmp(machine, "micro") != 0)
		domain_warn(d, n, "becomes a Q35 machine");
	return 0;
}

static int read_os(struct domain *d, struct xml_node *os)
{
	bool uefi = domain_is(xml_attr(os, "firmware"), "efi");
	int r = 0;

	for (struct xml_node *n = os->child; n && r == 0; n = n->next) {
		if (domain_is(n->name, "type"))
			r = read_type(d, n);
		else if (domain_is(n->name, "kernel"))
			domain_set_text(&d->c->kernel, xml_text(n));
		else if (domain_is(n->name, "initrd"))
			domain_set_text(&d->c->initrd, xml_text(n));
		else if (domain_is(n->name, "cmdline"))
			domain_set_text(&d->c->append, xml_text(n));
		else if (domain_is(n->name, "boot"))
			r = read_boot(d, n);
		else if (domain_is(n->name, "bootmenu") && domain_is(xml_attr(n, "enable"), "yes"))
			add_boot(d->c, "menu");
		else if (domain_is(n->name, "loader"))
			uefi = uefi || domain_is(xml_attr(n, "type"), "pflash");
		else if (!domain_is(n->name, "bootmenu"))
			domain_warn(d, n, "is left out");
	}
	if (r == 0 && !d->c->kernel)
		domain_set_text(&d->c->firmware, uefi ? "uefi" : "bios");
	return r;
}

/* --- metadata of ours --- */

static int read_metadata(struct domain *d, struct xml_node *metadata)
{
	int r = 0;

	for (struct xml_node *n = metadata->child; n && r == 0; n = n->next) {
		if (domain_is(n->name, "insula:machine") &&
		    domain_is(xml_attr(n, "xmlns:insula"), DOMAIN_NAMESPACE)) {
			domain_set_text(&d->c->image, xml_text(xml_child(n, "insula:image")));
			if (xml_child(n, "insula:engine"))
				domain_set_text(&d->c->engine,
						xml_text(xml_child(n, "insula:engine")));
			if (xml_child(xml_child(n, "insula:root"), "iotune"))
				r = domain_read_iotune(
				    d, xml_child(xml_child(n, "insula:root"), "iotune"),
				    d->c->root_rate);
		}
	}
	return r;
}

/* --- the whole --- */

/* What only a machine of an image can have. */
static void leave_out(struct domain *d)
{
	if (d->c->image)
		return;
	if (d->c->n_shares)
		domain_warn(d, d->share, "needs an image, whose agent mounts it, and is left out");
	while (d->c->n_shares) {
		struct machine_share *s = &d->c->shares[--d->c->n_shares];

		free(s->host);
		free(s->guest);
		*s = (struct machine_share){NULL};
	}
	memset(d->c->root_rate, 0, sizeof(d->c->root_rate));
}

static int read_domain(struct domain *d, struct xml_node *root)
{
	static const char *const passed[] = {
	    "name",     "uuid", "currentMemory", "title",       "description",
	    "features", "cpu",  "clock",         "on_poweroff", "on_reboot",
	    "on_crash", "pm",   "resource",      "seclabel",    NULL};
	int r = 0;

	if (strcmp(root->name, "domain") != 0)
		return domain_fail(d, root, "is no domain");
	for (struct xml_node *n = root->child; n && r == 0; n = n->next) {
		if (domain_is(n->name, "memory"))
			r = read_memory(d, n);
		else if (domain_is(n->name, "vcpu"))
			r = read_cpus(d, n);
		else if (domain_is(n->name, "os"))
			r = read_os(d, n);
		else if (domain_is(n->name, "devices"))
			r = domain_read_devices(d, n);
		else if (domain_is(n->name, "metadata"))
			r = read_metadata(d, n);
		else if (domain_is(n->name, "cputune"))
			r = read_cputune(d, n);
		else if (domain_is(n->name, "memtune"))
			r = read_memtune(d, n);
		else if (!domain_listed(n->name, passed))
			domain_warn(d, n, "is left out");
	}
	d->c->net = d->has_interface;
	if (r == 0)
		leave_out(d);
	if (d->c->image) { /* its own kernel starts it */
		domain_set_text(&d->c->firmware, NULL);
		domain_set_text(&d->c->boot, NULL);
	}
	if (!d->c->firmware)
		domain_set_text(&d->c->boot, NULL);
	return r;
}

int domain_xml_parse(const char *text, size_t len, struct machine_config *ret, char **name,
		     char uuid[37], struct strbuf *warnings, struct err *e)
{
	struct domain d = {.c = ret, .warnings = warnings, .e = e};
	struct xml_node *root;
	const char *id;
	json_t *o;
	int r = xml_parse(text, len, &root, e);

	if (r < 0)
		return r;
	machine_config_init(ret);
	r = read_domain(&d, root);
	id = xml_text(xml_child(root, "uuid"));
	if (r == 0 && id[0] && !machine_uuid_is(id))
		r = err_msg(e, -EINVAL, "<uuid>: '%.64s' is none", id);
	if (r == 0)
		r = machine_name_check(xml_text(xml_child(root, "name")), e);
	if (r == 0) {
		/* The same rules as for JSON. */
		o = machine_config_format(ret);
		machine_config_fini(ret);
		r = machine_config_parse(o, ret, e);
		json_decref(o);
	} else {
		machine_config_fini(ret);
	}
	if (r == 0) {
		*name = xstrdup(xml_text(xml_child(root, "name")));
		snprintf(uuid, 37, "%s", id);
		for (char *p = uuid; *p; p++)
			*p = (char)tolower((unsigned char)*p);
	}
	xml_free(root);
	return r;
}
