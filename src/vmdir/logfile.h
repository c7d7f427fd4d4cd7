/*
 * A log file with a cap: when it is full it becomes NAME.1 (replacing the one before) and a new one begins. Beside
 * NAME.log, which has the bytes as they came, NAME.times tells when: a record for each write that began a line.
 * logread.h reads both.
 */
#pragma once

#include "base/macros.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct logfile {
    int dirfd;        /* borrowed */
    const char *name; /* ends in .log */
    uint64_t cap;     /* bytes of one file, of the times also */
    int fd, times_fd;
    uint64_t size, times_size;
    bool in_line; /* the last byte was no line break */
};

/* One record of NAME.times, in the machine's byte order: lines that begin at this place of the log or behind it came
 * then, up to the next record. */
struct logfile_time {
    uint64_t offset;
    uint64_t at; /* ns since 1970 */
};

#define LOGFILE_INIT(dirfd_, name_, cap_)                                                                              \
    {                                                                                                                  \
        .dirfd = (dirfd_), .name = (name_), .cap = (cap_), .fd = -1, .times_fd = -1                                    \
    }

/* "console.log", ".1" -> "console.times.1": the name of a log's times. */
void logfile_times_name(const char *name, const char *suffix, char out[static 64]);
/* Appends; losing log lines for want of disk space is no error. */
void logfile_write(struct logfile *l, const void *p, size_t n);
void logfile_printf(struct logfile *l, const char *fmt, ...) MVM_PRINTF(2, 3);
void logfile_done(struct logfile *l);
