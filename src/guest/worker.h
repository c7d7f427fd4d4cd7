/* What serves one stream, in a process of its own. */
#pragma once

#include "base/buf.h"
#include "guest/conf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Starts a process that serves the request. Its pid and the agent's end of its socket, or -errno. job: a build's
 * number, else 0. */
pid_t worker_start(const void *request, size_t len, const struct guest_conf *conf, bool builder, unsigned job,
                   int *ret_sock);
/* Starts a process that takes away what a job has left, which may be many files: pid 1 does not wait for it. */
void worker_clean(unsigned job);
/* The last word of a worker that ended without one, as its kind of request (MSG_*) has it: its end as from waitpid(2).
 * 0 or -errno. */
int worker_lost(struct buf *b, uint8_t type, pid_t pid, int status);
