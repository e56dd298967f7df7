/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli/tpm.c - a TPM for a run: swtpm (Debian's package) as a process beside the machine's
 *
 * It ends by itself when the machine closes its control socket.
 */
#include "cli/run.h"
#include "image/exec.h"

#include <errno.h>
#include <stdio.h>

int tpm_start(const char *dir, const char *socket, struct err *e)
{
	autofree char *state = xasprintf("dir=%s,mode=0600", dir);
	autofree char *control = xasprintf("type=unixio,path=%s,mode=0600", socket);
	const char *const argv[] = {"swtpm",  "socket", "--tpm2",      "--tpmstate", state,
				    "--ctrl", control,  "--terminate", "--daemon",   NULL};
	struct exec x = {.argv = argv};

	if (!exec_have("swtpm"))
		return err_msg(e, -ENOENT, "--tpm needs the program swtpm (Debian package swtpm)");
	return exec_run(&x, e);
}
