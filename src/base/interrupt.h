/*
 * SIGINT, SIGTERM and SIGHUP as something to wait for: long work checks interrupt_pending() or polls interrupt_fd().
 */
#pragma once

#include <stdbool.h>

/* Installs handlers (SA_RESTART off); called once by main for commands that can be cancelled. */
void interrupt_install(void);
/* The signal that came, or 0. */
int interrupt_pending(void);
/* Readable once a signal has come; -1 where not installed. Never read from it. */
int interrupt_fd(void);
