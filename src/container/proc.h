/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container/proc.h - processes: who they are, signals, descriptors, and our own program's safety
 */
#pragma once

#include "base/err.h"

#include <sys/types.h>

/* When @pid started, in clock ticks since boot (proc(5), stat, field 22): with it a number that was
 * given again is told from the old one.  0 when there is no such process or it is dead. */
uint64_t proc_start_time(pid_t pid);
/* A descriptor of exactly that process, or -errno; -ESRCH when it is gone. */
must_check int proc_open(pid_t pid, uint64_t start_time);
int proc_signal(int pidfd, int signal);
/* waitpid without interruption; 0 or -errno. */
int proc_wait(pid_t pid, int *status);
/* Exit status as a shell tells it: 128 + n for signals. */
int proc_exit_status(int status);

/* Handlers to their defaults, nothing blocked: for the child between fork and exec. */
void proc_reset_signals(void);
/* Marks all descriptors from @first on: none of ours reaches a program that we start. */
void proc_cloexec_from(unsigned int first);
/* Whether the @n from 3 on are open.  Asked before we open any: else ours would take the numbers
 * that a caller promised, and stay open in the container. */
bool proc_are_open(unsigned int n);
/* Closes all from @first on but those in @keep (-1 = none), which gets sorted. */
void proc_close_from(unsigned int first, int *keep, size_t n);

/*
 * Goes on from a sealed copy of the program, made in memory.  A process of a container can reach
 * the program of the runtime through /proc/PID/exe and would write to it (CVE-2019-5736); to the
 * copy nobody can.  Returns only in the copy, or on failure.
 */
must_check int proc_run_sealed(char **argv, struct err *e);

/* "KILL", "SIGKILL", "9"; -1 when there is no such signal. */
int proc_parse_signal(const char *name);
