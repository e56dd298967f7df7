/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/options.c - the parser, and what else the tables say: help and completion
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>

#define WIDTH 79

/* Levenshtein distance of short words; long ones are never near. */
static unsigned int distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);
	unsigned int row[64];

	if (n >= ARRAY_SIZE(row) || m >= ARRAY_SIZE(row))
		return UINT32_MAX;
	for (size_t j = 0; j <= m; j++)
		row[j] = (unsigned int)j;
	for (size_t i = 1; i <= n; i++) {
		unsigned int diagonal = row[0];

		row[0] = (unsigned int)i;
		for (size_t j = 1; j <= m; j++) {
			unsigned int change = diagonal + (a[i - 1] != b[j - 1]);

			unsigned int skip = MIN(row[j], row[j - 1]) + 1;

			diagonal = row[j];
			row[j] = MIN(change, skip);
		}
	}
	return row[m];
}

const char *cli_nearest(const char *word, const char *const *names)
{
	/* More than two letters off is a guess, and so is a word of other letters only. */
	unsigned int best = MIN(3u, (unsigned int)strlen(word));
	const char *found = NULL;

	for (; *names; names++) {
		unsigned int d = distance(word, *names);

		if (d < best) {
			best = d;
			found = *names;
		}
	}
	return found;
}

static int unknown_option(const struct cli_command *cmd, const char *word, struct err *e)
{
	const char *names[64] = {NULL};
	const char *near;
	size_t n = 0;

	for (; n < cmd->n_options && n < ARRAY_SIZE(names) - 1; n++)
		names[n] = cmd->options[n].name;
	near = cli_nearest(word + strspn(word, "-"), names);
	err_exit(e, 0, EXIT_USAGE);
	if (near)
		return err_msg(e, -EINVAL, "unknown option '%s'; did you mean '--%s'?", word, near);
	return err_msg(e, -EINVAL, "unknown option '%s'; `insula %s --help` lists all", word,
		       cmd->name);
}

static const struct cli_option *find_option(const struct cli_command *cmd, const char *name,
					    size_t len)
{
	for (size_t i = 0; i < cmd->n_options; i++) {
		if (strncmp(cmd->options[i].name, name, len) == 0 && !cmd->options[i].name[len])
			return &cmd->options[i];
	}
	return NULL;
}

/* --name=value, --name value, --flag.  Returns how many words it took. */
static int parse_option(const struct cli_command *cmd, char **argv, void *config, struct err *e)
{
	const char *name = argv[0] + 2, *equals = strchr(name, '=');
	size_t len = equals ? (size_t)(equals - name) : strlen(name);
	const struct cli_option *o =
	    strncmp(argv[0], "--", 2) == 0 ? find_option(cmd, name, len) : NULL;
	const char *value = equals ? equals + 1 : NULL;
	int r;

	if (!o) {
		char word[64];

		snprintf(word, sizeof(word), "%.*s", equals ? (int)(equals - argv[0]) : 63,
			 argv[0]);
		return unknown_option(cmd, word, e);
	}
	if (o->arg && !value)
		value = argv[1];
	err_exit(e, 0, EXIT_USAGE);
	if (o->arg && !value)
		return err_msg(e, -EINVAL, "option '--%s' needs a value (%s)", o->name, o->arg);
	if (!o->arg && value)
		return err_msg(e, -EINVAL, "option '--%s' takes no value", o->name);
	r = o->set(config, value, e);
	if (r < 0)
		return err_wrap(e, r, "--%s", o->name);
	err_exit(e, 0, 0);
	return o->arg && !equals ? 2 : 1;
}

int cli_parse(const struct cli_command *cmd, int argc, char **argv, void *config, char **words,
	      int *n_words, char ***command, bool *help, struct err *e)
{
	*n_words = 0;
	*command = NULL;
	*help = false;
	for (int i = 0; i < argc;) {
		int r = 1;

		if (strcmp(argv[i], "--") == 0) {
			*command = argv + i + 1;
			break;
		}
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			*help = true;
		else if (argv[i][0] == '-' && argv[i][1])
			r = parse_option(cmd, argv + i, config, e);
		else
			words[(*n_words)++] = argv[i];
		if (r < 0)
			return r;
		i += r;
	}
	words[*n_words] = NULL;
	return 0;
}

/* @text in lines of at most WIDTH, each after the first indented by @indent. */
static void print_wrapped(const char *text, int indent, int column)
{
	while (*text) {
		size_t word = strcspn(text, " \n");

		if (column + (int)word > WIDTH) {
			printf("\n%*s", indent, "");
			column = indent;
		}
		printf("%.*s", (int)word, text);
		column += (int)word;
		text += word;
		if (*text == '\n') {
			printf("\n%*s", text[1] == '\n' ? 0 : indent, "");
			column = indent;
			text++;
		} else if (*text == ' ') {
			if (column + 1 + (int)strcspn(text + 1, " \n") <= WIDTH)
				putchar(' ');
			column++;
			text++;
		}
	}
	putchar('\n');
}

void cli_print_help(const struct cli_command *cmd)
{
	printf("Usage: insula %s%s%s%s\n\n", cmd->name, cmd->n_options ? " [OPTIONS]" : "",
	       cmd->usage[0] ? " " : "", cmd->usage);
	print_wrapped(cmd->summary, 0, 0);
	if (cmd->more) {
		putchar('\n');
		print_wrapped(cmd->more, 0, 0);
	}
	printf("\nOptions:\n");
	for (size_t i = 0; i < cmd->n_options; i++) {
		const struct cli_option *o = &cmd->options[i];
		int n = printf("  --%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");

		printf("%*s", n < 28 ? 28 - n : 0, "");
		if (n >= 28)
			printf("\n%28s", "");
		print_wrapped(o->help, 28, 28);
	}
	printf("  --help                    show this text\n");
}

void cli_print_overview(void)
{
	printf("Insula runs virtual machines, with or without hardware virtualization.\n\n"
	       "Usage: insula COMMAND [OPTIONS]\n\nCommands:\n");
	for (const struct cli_command *const *c = cli_commands; *c; c++)
		printf("  %-16s  %s\n", (*c)->name, (*c)->summary);
	printf("\n`insula COMMAND --help` explains one. To begin: insula run deb:bookworm\n");
}

bool cli_group(const char *group, const char *between, struct strbuf *ret)
{
	size_t len = strlen(group);

	for (const struct cli_command *const *c = cli_commands; *c; c++) {
		if (strncmp((*c)->name, group, len) == 0 && (*c)->name[len] == ' ')
			strbuf_printf(ret, "%s%s", ret->len ? between : "", (*c)->name + len + 1);
	}
	return ret->len > 0;
}

/* The first words of all commands, each once; of groups only if @groups. */
static void first_words(struct strbuf *ret, bool groups)
{
	const char *last = "";

	for (const struct cli_command *const *c = cli_commands; *c; c++) {
		size_t n = strcspn((*c)->name, " ");

		if (((*c)->name[n] || !groups) &&
		    (strncmp(last, (*c)->name, n) != 0 || last[n] != (*c)->name[n]))
			strbuf_printf(ret, "%s%.*s", ret->len ? " " : "", (int)n, (*c)->name);
		last = (*c)->name;
	}
}

static void print_words(const struct cli_command *cmd)
{
	for (size_t i = 0; i < cmd->n_options; i++)
		printf(" --%s", cmd->options[i].name);
	printf(" --help");
}

static void print_values(const struct cli_command *cmd)
{
	for (size_t i = 0; i < cmd->n_options; i++) {
		const struct cli_option *o = &cmd->options[i];

		if (o->values)
			printf("\t--%s) COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return;;\n",
			       o->name, o->values);
		else if (o->arg)
			printf("\t--%s) COMPREPLY=($(compgen -f -- \"$cur\")); return;;\n",
			       o->name);
	}
}

void cli_print_completion(void)
{
	autostrbuf struct strbuf words = {0}, groups = {0};
	char *save = NULL;

	first_words(&words, false);
	first_words(&groups, true);
	printf(
	    "# bash completion of insula; made by `insula completion`\n"
	    "_insula()\n{\n\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}"
	    "\n\tlocal cmd=${COMP_WORDS[1]}\n\tCOMPREPLY=()\n"
	    "\tif [ $COMP_CWORD = 1 ]; then\n\t\tCOMPREPLY=($(compgen -W '%s' -- \"$cur\"))\n"
	    "\t\treturn\n\tfi\n",
	    words.data);
	for (char *g = strtok_r(groups.data, " ", &save); g; g = strtok_r(NULL, " ", &save)) {
		autostrbuf struct strbuf of = {0};

		(void)cli_group(g, " ", &of);
		printf("\t[ \"$cmd\" = %s ] && [ $COMP_CWORD -gt 2 ] && "
		       "cmd=\"%s ${COMP_WORDS[2]}\"\n"
		       "\tif [ \"$cmd\" = %s ]; then\n"
		       "\t\tCOMPREPLY=($(compgen -W '%s' -- \"$cur\"))\n\t\treturn\n\tfi\n",
		       g, g, g, of.data);
	}
	for (const struct cli_command *const *c = cli_commands; *c; c++) {
		printf("\tif [ \"$cmd\" = '%s' ]; then\n\tcase $prev in\n", (*c)->name);
		print_values(*c);
		printf("\tesac\n\tcase $cur in\n\t-*) COMPREPLY=($(compgen -W '");
		print_words(*c);
		printf("' -- \"$cur\"));;\n\t*) COMPREPLY=($(compgen %s-W \"$(%s 2>/dev/null)\" "
		       "-- \"$cur\"));;\n\tesac\n\tfi\n",
		       (*c)->words ? "" : "-f ",
		       (*c)->words ? (*c)->words : "echo deb:bookworm; insula image list --ids");
	}
	printf("}\ncomplete -F _insula insula\n");
}

int cli_parse_size(const char *text, uint64_t *ret, struct err *e)
{
	static const char units[] = "KMGT";
	char *end;
	unsigned long long n;
	const char *unit;
	unsigned int shift = 0;

	if (text[0] < '0' || text[0] > '9') /* strtoull would take spaces and signs */
		return err_msg(e, -EINVAL, "'%s' is not a size such as 512M or 2G", text);
	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno)
		return err_msg(e, -EINVAL, "'%s' is too large", text);
	unit = *end ? strchr(units, *end & ~0x20) : NULL;
	if (unit) {
		shift = 10 * (unsigned int)(unit - units + 1);
		end++;
	}
	if (*end && strcasecmp(end, "iB") != 0 && strcasecmp(end, "B") != 0)
		return err_msg(e, -EINVAL, "'%s' is not a size such as 512M or 2G", text);
	if (shift && n > UINT64_MAX >> shift)
		return err_msg(e, -EINVAL, "'%s' is too large", text);
	*ret = (uint64_t)n << shift;
	return 0;
}
