/* A log file with a cap: when it is full it becomes NAME.1 (replacing the one before) and a new one begins. */
#pragma once

#include "base/macros.h"

#include <stddef.h>
#include <stdint.h>

struct logfile {
    int dirfd; /* borrowed */
    const char *name;
    uint64_t cap; /* bytes of one file */
    int fd;
    uint64_t size;
};

#define LOGFILE_INIT(dirfd_, name_, cap_)                                                                              \
    {                                                                                                                  \
        .dirfd = (dirfd_), .name = (name_), .cap = (cap_), .fd = -1                                                    \
    }

/* Appends; losing log lines for want of disk space is no error. */
void logfile_write(struct logfile *l, const void *p, size_t n);
void logfile_printf(struct logfile *l, const char *fmt, ...) MVM_PRINTF(2, 3);
void logfile_done(struct logfile *l);
