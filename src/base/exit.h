/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/exit.h - exit statuses of insula and insula-vmm
 *
 * `insula run IMAGE -- COMMAND` passes the command's own status on, so Insula's own failures sit in
 * a band that commands rarely use.  126, 127 and 128+n mean what they mean in a shell.
 * Documented in docs/man/insula-run.1.scd; keep both in step.
 */
#pragma once

enum exit_status {
	EXIT_OK = 0,
	EXIT_USAGE = 110,       /* unknown option, bad value */
	EXIT_NO_IMAGE = 111,    /* image not found, or not usable as one */
	EXIT_BAD_KERNEL = 112,  /* kernel or initrd missing or corrupt */
	EXIT_BAD_MEMORY = 113,  /* more memory than the host has, or too little to boot */
	EXIT_BAD_DISK = 114,    /* disk missing, unreadable or of an unknown format */
	EXIT_DISK_IN_USE = 115, /* disk locked by another machine */
	EXIT_PORT_TAKEN = 116,  /* --publish: host port already bound */
	EXIT_NO_ENGINE = 117,   /* the engine asked for does not work here */
	EXIT_CRASHED = 118, /* guest panicked, triple-faulted or reset before the command ended */
	EXIT_NAME_IN_USE = 119, /* a machine of this name is running */
	EXIT_NO_MACHINE = 120,  /* no machine, or job, of this name */
	EXIT_WRONG_STATE = 121, /* the machine runs, or does not, or is busy */
	EXIT_FAIL = 125,        /* anything else on the host's side */
	EXIT_NOT_EXECUTABLE = 126,
	EXIT_NOT_FOUND = 127,
	EXIT_SIGNAL_BASE = 128,
};
