/*
 * Signals that ask this process to end (SIGINT, SIGTERM, SIGHUP) as something to wait for: long work checks
 * interrupt_pending() or polls interrupt_fd().
 *
 * What asks insistently is obeyed whatever hangs: INTERRUPT_GRACE_MS after the first SIGTERM or SIGHUP, or the second
 * SIGINT, the process exits with 128 + the signal's number, from a timer's handler, wherever it is.
 */
#pragma once

#include <stdbool.h>

#define INTERRUPT_GRACE_MS  1500
#define INTERRUPT_REPEAT_MS 10000 /* a SIGINT that comes later than this after another one is a first one again */

/* Installs handlers (SA_RESTART off); called once by main for commands that can be cancelled. */
void interrupt_install(void);
/* The signal that came, or 0. */
int interrupt_pending(void);
/* Readable once a signal has come; -1 where not installed. Never read from it. */
int interrupt_fd(void);

/* For a command whose signals are for a program elsewhere: from now on none becomes pending; each of them, SIGQUIT,
 * SIGUSR1, SIGUSR2 and SIGWINCH come as a byte, the signal's number, from the descriptor returned (nonblocking, this
 * module's), or -errno. before_exit runs in a signal handler before the process exits as above; NULL: nothing. */
int interrupt_forward(void (*before_exit)(void));
