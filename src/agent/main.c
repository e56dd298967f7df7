/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent/main.c - what insula-agent is this time: first process, or the poweroff command
 */
#include "agent/agent_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/reboot.h>

void agent_log(const char *fmt, ...)
{
	char text[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	dprintf(STDERR_FILENO, "insula-agent: %s\n", text);
}

const char *config_string(const json_t *obj, const char *key)
{
	return json_string_value(json_object_get(obj, key));
}

/* The kernel gives /init a console if it has one; without, standard descriptors must still exist.
 */
static void open_stdio(void)
{
	int fd = open("/dev/console", O_RDWR | O_NOCTTY);

	if (fd < 0)
		fd = open("/dev/null", O_RDWR);
	for (int i = 0; fd >= 0 && i <= 2; i++)
		dup2(fd, i);
	if (fd > 2)
		close(fd);
}

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
	json_t *config;
	struct err e = {0};
	enum power_mode mode;

	if (getpid() != 1)
		return power_client(name, argc, argv);
	reboot(RB_DISABLE_CAD);
	if (boot_early(&e) < 0 || config_read(&config, &e) < 0) {
		agent_log("%s", e.msg);
		power_down(POWER_OFF);
	}
	open_stdio();
	if (boot_guest(config, &e) < 0) {
		agent_log("%s", e.msg);
		power_down(POWER_OFF);
	}
	json_decref(config);
	mode = serve();
	serve_goodbye(mode);
	power_down(mode);
}
