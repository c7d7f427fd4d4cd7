/*
 * Advisory locks on files that name their holder. The lock ends with the process that holds it, however it ends; the
 * file stays and is reused (removing it would race). flock(2); children do not inherit it (O_CLOEXEC).
 */
#pragma once

#include "base/error.h"

#include <stdint.h>
#include <sys/types.h>

struct lock {
    int fd;
};

#define LOCK_INIT                                                                                                      \
    {                                                                                                                  \
        .fd = -1                                                                                                       \
    }
#define CLEAN_LOCK CLEANUP(lock_done)

struct lock_wait {
    /* Called once, before waiting, with what the holder wrote ("pid 123: mvmctl build"). */
    void (*waiting)(void *data, const char *holder);
    void *data;
    uint64_t deadline; /* clock.h; 0: wait for ever */
};

/* Takes the lock on the file name below dirfd and writes "pid N: what" into it. wait NULL: -EAGAIN at once where
 * somebody has it, the error naming the holder; else waits, -ETIMEDOUT. A signal ends the wait with -EINTR. */
int lock_take(struct lock *l, int dirfd, const char *name, const char *what, const struct lock_wait *wait,
              struct mvm_error *err) MVM_MUST_CHECK;
/* 1 where some process holds it, 0 where none does or the file is absent, -errno. */
int lock_is_held(int dirfd, const char *name);
void lock_done(struct lock *l);
