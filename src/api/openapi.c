/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api/openapi.c - the OpenAPI document, written from the table of operations
 */
#include "api/api.h"
#include "model/machine_config.h"

#include <stdio.h>

static json_t *ref(const char *schema)
{
	autofree char *path = xasprintf("#/components/schemas/%s", schema);

	return json_pack("{s:s}", "$ref", path);
}

static json_t *field_schema(const struct op_field *f)
{
	return f->type[0] == 'c' ? ref("MachineConfig") : json_pack("{s:s}", "type", f->type);
}

static json_t *parameters(const struct operation *op)
{
	json_t *list = json_array();

	for (const struct op_field *f = op->fields; f->name; f++) {
		if (f->place != OP_BODY)
			json_array_append_new(
			    list, json_pack("{s:s, s:s, s:b, s:s, s:o}", "name", f->name, "in",
					    f->place == OP_PATH ? "path" : "query", "required",
					    f->required, "description", f->help, "schema",
					    field_schema(f)));
	}
	return list;
}

static json_t *json_content(json_t *schema)
{
	return json_pack("{s:{s:o}}", "application/json", "schema", schema);
}

/* NULL when there is none. */
static json_t *request_body(const struct operation *op)
{
	json_t *properties = json_object(), *required = json_array(), *schema;
	bool any = false;

	for (const struct op_field *f = op->fields; f->name; f++) {
		json_t *p;

		if (f->place != OP_BODY)
			continue;
		any = true;
		p = field_schema(f);
		json_object_set_new(p, "description", json_string(f->help));
		json_object_set_new(properties, f->name, p);
		if (f->required)
			json_array_append_new(required, json_string(f->name));
	}
	schema = json_pack("{s:s, s:b, s:o}", "type", "object", "additionalProperties", 0,
			   "properties", properties);
	if (json_array_size(required))
		json_object_set(schema, "required", required);
	json_decref(required);
	if (!any) {
		json_decref(schema);
		return NULL;
	}
	return json_pack("{s:o}", "content", json_content(schema));
}

static json_t *responses(const struct operation *op)
{
	json_t *o = json_object(), *good;
	const char *status = "200";

	switch (op->kind) {
	case OP_JOB:
		status = "202";
		good = json_pack("{s:s, s:o}", "description", "a job; /v1/jobs/{job} follows it",
				 "content", json_content(ref("Job")));
		break;
	case OP_STREAM:
		status = "101";
		good =
		    json_pack("{s:s}", "description", "bytes, both ways: Upgrade: insula-stream");
		break;
	case OP_EVENTS:
		good = json_pack("{s:s, s:{s:{}}}", "description", "server-sent events", "content",
				 "text/event-stream");
		break;
	default:
		good = json_pack("{s:s, s:{s:{}}}", "description", "done", "content",
				 "application/json");
		break;
	}
	json_object_set_new(o, status, good);
	json_object_set_new(o, "default",
			    json_pack("{s:s, s:o}", "description", "it failed", "content",
				      json_content(ref("Error"))));
	return o;
}

static json_t *describe(const struct operation *op)
{
	json_t *o = json_pack("{s:s, s:s, s:s, s:o, s:o}", "operationId", op->name, "summary",
			      op->summary, "x-role", role_names[op->role], "parameters",
			      parameters(op), "responses", responses(op));
	json_t *body = request_body(op);

	if (body)
		json_object_set_new(o, "requestBody", body);
	return o;
}

static json_t *config_schema(void)
{
	json_t *properties = json_object();

	for (const struct machine_field *f = machine_config_fields; f->name; f++)
		json_object_set_new(
		    properties, f->name,
		    json_pack("{s:s, s:s}", "type", f->type, "description", f->help));
	return json_pack("{s:s, s:b, s:o}", "type", "object", "additionalProperties", 0,
			 "properties", properties);
}

static json_t *schemas(void)
{
	json_t *error =
	    json_pack("{s:s, s:{s:{s:s, s:{s:{s:s}, s:{s:s}, s:{s:s}}}}}", "type", "object",
		      "properties", "error", "type", "object", "properties", "status", "type",
		      "integer", "message", "type", "string", "exit_status", "type", "integer");
	json_t *job =
	    json_pack("{s:s, s:{s:{s:s}, s:{s:s}, s:{s:s, s:[s,s,s,s]}, s:{s:s}, s:{s:s}}}", "type",
		      "object", "properties", "id", "type", "integer", "operation", "type",
		      "string", "state", "type", "string", "enum", "running", "done", "failed",
		      "cancelled", "percent", "type", "number", "result", "type", "object");

	return json_pack("{s:o, s:o, s:o}", "Error", error, "Job", job, "MachineConfig",
			 config_schema());
}

json_t *api_openapi(void)
{
	json_t *paths = json_object();

	for (size_t i = 0; i < n_operations; i++) {
		const struct operation *op = &operations[i];
		json_t *path = json_object_get(paths, op->path);
		char method[16];

		if (!path) {
			path = json_object();
			json_object_set_new(paths, op->path, path);
		}
		snprintf(method, sizeof(method), "%s", op->method);
		for (char *p = method; *p; p++)
			*p |= 0x20;
		json_object_set_new(path, method, describe(op));
	}
	return json_pack("{s:s, s:{s:s, s:s, s:s}, s:o, s:{s:o}}", "openapi", "3.1.0", "info",
			 "title", "Insula", "version", "v1", "description",
			 "Machines that last: the operations of insulad.", "paths", paths,
			 "components", "schemas", schemas());
}
