/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon/operations.c - the table of operations, and the check of their arguments
 */
#include "daemon/daemon_priv.h"

#include <errno.h>

const char *const role_names[] = {"viewer", "operator", "admin", NULL};

#define MACHINE                                                                                    \
	{                                                                                          \
		"machine", OP_PATH, "string", true,                                                \
		    "name, UUID or an unambiguous beginning of one"                                \
	}

#define SNAPSHOT                                                                                   \
	{                                                                                          \
		"snapshot", OP_PATH, "string", true, "its name"                                    \
	}

const struct operation operations[] = {
    {"system.info",
     "GET",
     "/v1/info",
     "Version, counts and directories of this insulad.",
     ROLE_VIEWER,
     OP_PLAIN,
     {{0}},
     op_system_info},
    {"machine.list",
     "GET",
     "/v1/machines",
     "The machines, sorted by name.",
     ROLE_VIEWER,
     OP_PLAIN,
     {{"all", OP_QUERY, "boolean", false, "those that do not run, too"},
      {"label", OP_QUERY, "string", false, "only those with this label: KEY or KEY=VALUE"}},
     op_machine_list},
    {"machine.create",
     "POST",
     "/v1/machines",
     "Make a machine; builds or downloads its image if need be.",
     ROLE_OPERATOR,
     OP_JOB,
     {{"name", OP_BODY, "string", false, "a host name; made up if absent"},
      {"config", OP_BODY, "config", true, "what the machine is"},
      {"labels", OP_BODY, "object", false, "keys and values of yours"},
      {"autostart", OP_BODY, "boolean", false, "start it with insulad"},
      {"autostart_order", OP_BODY, "integer", false, "lower ones first (default 0)"},
      {"restart", OP_BODY, "string", false, "when it ends: no (default), on-failure, always"},
      {"watchdog", OP_BODY, "integer", false,
       "restart it when its agent was silent for so many seconds; 0 = never"}},
     op_machine_create},
    {"machine.define",
     "POST",
     "/v1/define",
     "Make a machine as libvirt's domain XML says; what is left out of it is told in `warnings`.",
     ROLE_OPERATOR,
     OP_JOB,
     {{"xml", OP_BODY, "string", true, "a <domain>"}},
     op_machine_define},
    {"machine.xml",
     "GET",
     "/v1/machines/{machine}/xml",
     "A machine as libvirt's domain XML.",
     ROLE_VIEWER,
     OP_PLAIN,
     {MACHINE},
     op_machine_xml},
    {"machine.show",
     "GET",
     "/v1/machines/{machine}",
     "Everything about one machine.",
     ROLE_VIEWER,
     OP_PLAIN,
     {MACHINE},
     op_machine_show},
    {"machine.edit",
     "PATCH",
     "/v1/machines/{machine}",
     "Change a machine; its configuration is merged (RFC 7396) and takes effect at its next start.",
     ROLE_OPERATOR,
     OP_PLAIN,
     {MACHINE,
      {"name", OP_BODY, "string", false, "the new name"},
      {"config", OP_BODY, "object", false, "members of the configuration; null takes one out"},
      {"labels", OP_BODY, "object", false, "merged likewise"},
      {"autostart", OP_BODY, "boolean", false, "start it with insulad"},
      {"autostart_order", OP_BODY, "integer", false, "lower ones first"},
      {"restart", OP_BODY, "string", false, "no, on-failure, always"},
      {"watchdog", OP_BODY, "integer", false, "seconds; 0 = none"}},
     op_machine_edit},
    {"machine.delete",
     "DELETE",
     "/v1/machines/{machine}",
     "Delete a machine and the disk that was made for it.",
     ROLE_OPERATOR,
     OP_PLAIN,
     {MACHINE, {"force", OP_QUERY, "boolean", false, "stop it first if it runs"}},
     op_machine_delete},
    {"machine.start",
     "POST",
     "/v1/machines/{machine}/start",
     "Start it; answers when the machine runs.",
     ROLE_OPERATOR,
     OP_PLAIN,
     {MACHINE},
     op_machine_start},
    {"machine.stop",
     "POST",
     "/v1/machines/{machine}/stop",
     "Cut its power.",
     ROLE_OPERATOR,
     OP_PLAIN,
     {MACHINE},
     op_machine_stop},
    {"machine.shutdown",
     "POST",
     "/v1/machines/{machine}/shutdown",
     "Ask the guest to shut down, and wait for it.",
     ROLE_OPERATOR,
     OP_PLAIN,
     {MACHINE,
      {"timeout", OP_QUERY, "integer", false, "milliseconds to wait, 0 to 600000 (default 60000)"}},
     op_machine_shutdown},
    {"machine.reboot",
     "POST",
     "/v1/machines/{machine}/reboot",
     "Ask the guest to start again.",
     ROLE_OPERATOR,
     OP_PLAIN,
     {MACHINE},
     op_machine_reboot},
    {"machine.reset",
     "POST",
     "/v1/machines/{machine}/reset",
     "Press the reset button.",
     ROLE_OPERATOR,
     OP_PLAIN,
     {MACHINE},
     op_machine_reset},
    {"machine.pause",
     "POST",
     "/v1/machines/{machine}/pause",
     "Hold its CPUs.",
     ROLE_OPERATOR,
     OP_PLAIN,
     {MACHINE},
     op_machine_pause},
    {"machine.resume",
     "POST",
     "/v1/machines/{machine}/resume",
     "Let its CPUs go on.",
     ROLE_OPERATOR,
     OP_PLAIN,
     {MACHINE},
     op_machine_resume},
    {"machine.wait",
     "GET",
     "/v1/machines/{machine}/wait",
     "Wait until it is in a state; answers when it is, or when the time is over.",
     ROLE_VIEWER,
     OP_PLAIN,
     {MACHINE,
      {"for", OP_QUERY, "string", false, "stopped (default), running, or agent: the guest answers"},
      {"timeout", OP_QUERY, "integer", false, "milliseconds, at most 60000 (default 30000)"}},
     op_machine_wait},
    {"machine.stats",
     "GET",
     "/v1/machines/{machine}/stats",
     "What a running machine uses.",
     ROLE_VIEWER,
     OP_PLAIN,
     {MACHINE},
     op_machine_stats},
    {"machine.logs",
     "GET",
     "/v1/machines/{machine}/logs",
     "The end of what its serial console said, as it came.",
     ROLE_VIEWER,
     OP_PLAIN,
     {MACHINE,
      {"bytes", OP_QUERY, "integer", false, "at most so many of the end (default 65536)"},
      {"offset", OP_QUERY, "integer", false, "from this byte on instead"}},
     op_machine_logs},
    {"machine.console",
     "GET",
     "/v1/machines/{machine}/console",
     "Its serial console, both ways.",
     ROLE_OPERATOR,
     OP_STREAM,
     {MACHINE},
     op_machine_console},
    {"machine.agent",
     "GET",
     "/v1/machines/{machine}/agent",
     "The agent in the guest, in its own protocol (docs/agent.md): commands, signals.",
     ROLE_OPERATOR,
     OP_STREAM,
     {MACHINE},
     op_machine_agent},
    {"machine.fork",
     "POST",
     "/v1/machines/{machine}/fork",
     "Running copies of a running machine, all of one instant, with names and disks of their own.",
     ROLE_OPERATOR,
     OP_JOB,
     {MACHINE,
      {"name", OP_BODY, "string", true, "of the copy; of several NAME-1, NAME-2..."},
      {"labels", OP_BODY, "object", false, "of its own instead of the source's"},
      {"count", OP_BODY, "integer", false, "1 to 250 (default 1)"}},
     op_machine_fork},
    {"machine.clone",
     "POST",
     "/v1/machines/{machine}/clone",
     "A machine with the disk of another one, or of a template.",
     ROLE_OPERATOR,
     OP_JOB,
     {MACHINE,
      {"name", OP_BODY, "string", true, "of the clone"},
      {"labels", OP_BODY, "object", false, "of its own instead of the source's"},
      {"full", OP_BODY, "boolean", false, "copy the disk instead of lying over it"}},
     op_machine_clone},
    {"machine.template",
     "POST",
     "/v1/machines/{machine}/template",
     "Make it a template, which does not run and is cloned; or a machine again.",
     ROLE_OPERATOR,
     OP_PLAIN,
     {MACHINE, {"template", OP_BODY, "boolean", true, "is it one?"}},
     op_machine_template},
    {"machine.export",
     "POST",
     "/v1/machines/{machine}/export",
     "The machine in one file of insulad's host, a .tar.zst; one that runs goes on.",
     ROLE_ADMIN,
     OP_JOB,
     {MACHINE, {"path", OP_BODY, "string", true, "an absolute path that is not there yet"}},
     op_machine_export},
    {"machine.import",
     "POST",
     "/v1/import",
     "A machine from a file that export or backup made, and the increments after it.",
     ROLE_ADMIN,
     OP_JOB,
     {{"paths", OP_BODY, "array", true, "absolute paths: the whole one first"},
      {"name", OP_BODY, "string", false, "instead of its own"}},
     op_machine_import},
    {"machine.backup",
     "POST",
     "/v1/machines/{machine}/backup",
     "The same as export, to which increments can be made.",
     ROLE_ADMIN,
     OP_JOB,
     {MACHINE,
      {"path", OP_BODY, "string", true, "an absolute path that is not there yet"},
      {"after", OP_BODY, "string", false, "an earlier backup's file: only what was written since"}},
     op_machine_backup},
    {"snapshot.list",
     "GET",
     "/v1/machines/{machine}/snapshots",
     "Its snapshots, by name.",
     ROLE_VIEWER,
     OP_PLAIN,
     {MACHINE},
     op_snapshot_list},
    {"snapshot.create",
     "POST",
     "/v1/machines/{machine}/snapshots",
     "Keep it as it is: memory, devices and disks of one instant if it runs, else the disk.",
     ROLE_OPERATOR,
     OP_JOB,
     {MACHINE,
      {"name", OP_BODY, "string", true, "of the snapshot"},
      {"compress", OP_BODY, "boolean", false, "take less room"},
      {"disk_only", OP_BODY, "boolean", false, "without memory, also while it runs"},
      {"whole", OP_BODY, "boolean", false,
       "all of memory, also what an earlier snapshot has already"}},
     op_snapshot_create},
    {"snapshot.restore",
     "POST",
     "/v1/machines/{machine}/snapshots/{snapshot}/restore",
     "Go back to it: running, if it has memory.",
     ROLE_OPERATOR,
     OP_JOB,
     {MACHINE, SNAPSHOT, {"force", OP_BODY, "boolean", false, "stop it first if it runs"}},
     op_snapshot_restore},
    {"snapshot.delete",
     "DELETE",
     "/v1/machines/{machine}/snapshots/{snapshot}",
     "Forget it, and what only it holds.",
     ROLE_OPERATOR,
     OP_PLAIN,
     {MACHINE, SNAPSHOT},
     op_snapshot_delete},
    {"job.list",
     "GET",
     "/v1/jobs",
     "Jobs that run, and the last ones that ended.",
     ROLE_VIEWER,
     OP_PLAIN,
     {{0}},
     op_job_list},
    {"job.show",
     "GET",
     "/v1/jobs/{job}",
     "One job.",
     ROLE_VIEWER,
     OP_PLAIN,
     {{"job", OP_PATH, "integer", true, "its id"},
      {"wait", OP_QUERY, "integer", false,
       "milliseconds to wait for its end or progress, at most 60000"}},
     op_job_show},
    {"job.cancel",
     "DELETE",
     "/v1/jobs/{job}",
     "Cancel a job; it leaves nothing half done.",
     ROLE_OPERATOR,
     OP_PLAIN,
     {{"job", OP_PATH, "integer", true, "its id"}},
     op_job_cancel},
    {"event.stream",
     "GET",
     "/v1/events",
     "Events as they come; the header Last-Event-ID, or `after`, says where to go on.",
     ROLE_VIEWER,
     OP_EVENTS,
     {{"after", OP_QUERY, "integer", false, "events after this id (default: new ones)"}},
     NULL},
};
const size_t n_operations = ARRAY_SIZE(operations);

const struct operation *operation_find(const char *name)
{
	for (size_t i = 0; i < n_operations; i++) {
		if (strcmp(operations[i].name, name) == 0)
			return &operations[i];
	}
	return NULL;
}

static const struct op_field *find_field(const struct operation *op, const char *name)
{
	for (const struct op_field *f = op->fields; f->name; f++) {
		if (strcmp(f->name, name) == 0)
			return f;
	}
	return NULL;
}

static bool has_type(const json_t *v, const char *type)
{
	switch (type[0]) {
	case 's':
		return json_is_string(v) && strlen(json_string_value(v)) == json_string_length(v);
	case 'i':
		return json_is_integer(v);
	case 'b':
		return json_is_boolean(v);
	case 'a':
		return json_is_array(v);
	default: /* object, config */
		return json_is_object(v);
	}
}

int operation_check_args(const struct operation *op, const json_t *args, struct err *e)
{
	const char *key;
	json_t *v;

	if (!json_is_object(args))
		return err_msg(e, -EINVAL, "the body must be a JSON object");
	json_object_foreach((json_t *)args, key, v)
	{
		const struct op_field *f = find_field(op, key);

		if (!f)
			return err_msg(e, -EINVAL, "%.64s: unknown argument", key);
		if (!has_type(v, f->type))
			return err_msg(e, -EINVAL, "%s: must be of type %s", f->name,
				       f->type[0] == 'c' ? "object" : f->type);
	}
	for (const struct op_field *f = op->fields; f->name; f++) {
		if (f->required && !json_object_get(args, f->name))
			return err_msg(e, -EINVAL, "%s: is missing", f->name);
	}
	return 0;
}

int operation_run(struct op_call *c, struct err *e)
{
	int r = operation_check_args(c->op, c->args, e);

	return r < 0 ? r : c->op->run(c, e);
}
