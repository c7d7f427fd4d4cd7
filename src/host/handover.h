/* Packets with descriptors, over sockets of this machine. */
#pragma once

#include "base/macros.h"

#include <stddef.h>

#define HANDOVER_MAX_FDS 6

struct handover {
    void *data;
    size_t size;
    int fds[HANDOVER_MAX_FDS];
    size_t n_fds;
};

/* -errno. */
int handover_send(int fd, const struct handover *p) MVM_MUST_CHECK;
/* Of exactly that size: 0, -EPIPE at the end, -EPROTO. The descriptors are the caller's. */
int handover_receive(int fd, struct handover *p) MVM_MUST_CHECK;
