/*
 * Reading a VM's logs (logfile.h), line by line: console, agent and backend, each with the file before it, merged by
 * the times at which the lines came. Memory is bounded whatever a guest wrote: a line longer than LOGREAD_LINE comes in
 * pieces. A reader sees what there was when it was opened, as often as it is rewound; once it follows, whatever is
 * added, across rotations. Lines keep their order within a log even where the clock was set back.
 */
#pragma once

#include "base/macros.h"
#include "vmdir/logfile.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define LOGREAD_LINE 4096

enum logread_log { LOGREAD_CONSOLE, LOGREAD_AGENT, LOGREAD_VMM, LOGREAD_LOGS };

struct logread_line {
    enum logread_log log;
    uint64_t at; /* ns since 1970, 0 where it is not known */
    const char *text;
    size_t len;       /* without the line break */
    char service[64]; /* the service it is about, "" for none */
};

struct logread_source {
    int fds[2], times[2]; /* the file before, and the one that is written */
    uint64_t ends[2];     /* as they were found; of the second no matter once followed */
    unsigned now;         /* which of them is read */
    uint64_t offset, times_offset;
    struct logfile_time next;         /* the first record that is not used yet */
    bool have_next, have_line, given; /* given: the line was returned by the last call */
    uint64_t at;
    size_t begin, len, line_len; /* in text: where the line is, what there is behind begin */
    bool skip_break;
    char text[2 * LOGREAD_LINE];
};

struct logread {
    int dirfd; /* borrowed */
    bool whole, follow;
    struct logread_source sources[LOGREAD_LOGS];
};

#define LOGREAD_INIT                                                                                                   \
    {                                                                                                                  \
        .dirfd = -1                                                                                                    \
    }

/* "console", "agent", "vmm". */
const char *logread_name(enum logread_log log);
/* Opens the logs in a VM's folder, which the caller keeps open; a log that is missing is empty. With whole, the end of
 * a log that has no line break yet is no line until logread_end(). */
void logread_open(struct logread *l, int dirfd, bool whole);
void logread_done(struct logread *l);
#define CLEAN_LOGREAD CLEANUP(logread_done)
/* From the beginning again. */
void logread_rewind(struct logread *l);
/* From now on lines that are added are read, too. */
void logread_follow(struct logread *l);
/* No more is added: what remains of a line without its break is one. */
void logread_end(struct logread *l);
/* The next line, valid until the next call. False where there is none (yet). */
bool logread_next(struct logread *l, struct logread_line *ret);
