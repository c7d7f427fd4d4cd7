/* Who asks pid 1 to end the guest. */
#pragma once

#include "wire/msg.h"

#include <signal.h>

/* Adds the signals that do. */
void ending_signals(sigset_t *set);
/* Has them, and the ends of children, come from a descriptor (signalfd(2)), which is nonblocking. */
int ending_watch(void);
/* What one of them asks for. */
enum ending ending_of_signal(int sig);
