/* Serves MSG_BUILD. */
#pragma once

#include "wire/msg_build.h"

void build_serve(int sock, const struct msg_build *m, unsigned job) __attribute__((noreturn));
/* Takes away what a job has left, whichever way it ended: processes, cgroup, work folder. In a process of its own. */
void build_clean(unsigned job);
