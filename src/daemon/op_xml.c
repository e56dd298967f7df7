/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/op_xml.c - machines from and to libvirt's domain XML
 */
#include "daemon/daemon_priv.h"

#include "model/domain_xml.h"

#include <errno.h>

static json_t *split_lines(const struct strbuf *text)
{
	autofree char *copy = xstrdup(text->data ? text->data : "");
	json_t *list = json_array();
	char *save = NULL;

	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		json_array_append_new(list, json_string(line));
	return list;
}

/* A UUID that is taken is another machine's, or this one's from before. */
static int check_uuid(struct op_call *c, const char *uuid, struct err *e)
{
	struct machine_record m;

	if (!uuid[0] || store_machine_get(c->d->store, uuid, &m, NULL) < 0)
		return 0;
	err_msg(e, -EEXIST, "<uuid>: '%s' has it already; edit that, or leave the element out",
		m.name);
	machine_record_fini(&m);
	return -EEXIST;
}

static int define(struct op_call *c, const char *name, const char *uuid,
		  const struct machine_config *config, const struct strbuf *warnings, struct err *e)
{
	struct op_call create = *c;
	int r;

	create.args =
	    json_pack("{s:s, s:o}", "name", name, "config", machine_config_format(config));
	r = create_machine(&create, uuid, e);
	json_decref(create.args);
	if (r == 0) {
		c->result = create.result;
		json_object_set_new(c->result, "warnings", split_lines(warnings));
	}
	return r;
}

int op_machine_define(struct op_call *c, struct err *e)
{
	const char *xml = op_string(c, "xml");
	autostrbuf struct strbuf warnings = {0};
	autofree char *name = NULL;
	struct machine_config config;
	char uuid[MACHINE_UUID_LEN + 1];
	int r = domain_xml_parse(xml, strlen(xml), &config, &name, uuid, &warnings, e);

	if (r < 0)
		return r;
	r = check_uuid(c, uuid, e);
	if (r == 0)
		r = define(c, name, uuid, &config, &warnings, e);
	machine_config_fini(&config);
	return r;
}

int op_machine_xml(struct op_call *c, struct err *e)
{
	struct machine_config config;
	struct machine_record m;
	json_t *o;
	int r = op_machine(c, &m, e);

	if (r < 0)
		return r;
	o = json_loads(m.config, 0, NULL);
	r = machine_config_parse(o, &config, e);
	json_decref(o);
	if (r == 0 && config.container.on) {
		r = err_msg(e, -ENOTSUP, "'%s' is a container: it has no domain XML", m.name);
		machine_config_fini(&config);
	} else if (r == 0) {
		c->is_text = true;
		domain_xml_format(&config, m.name, m.uuid, &c->text);
		machine_config_fini(&config);
	}
	machine_record_fini(&m);
	return r;
}
