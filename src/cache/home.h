/*
 * The two roots on the host: MVM_HOME (default ~/.mvm) for state, MVM_CACHE_DIR (default $XDG_CACHE_HOME/mvm or
 * ~/.cache/mvm) for what can be made again. Folders are 0700, belong to this user and have a file .mvm, which says that
 * they are mvmctl's.
 */
#pragma once

#include "base/error.h"

struct home {
    int state_fd; /* MVM_HOME */
    int cache_fd; /* MVM_CACHE_DIR */
    char *state;  /* absolute paths, owned */
    char *cache;
};

#define HOME_INIT                                                                                                      \
    {                                                                                                                  \
        .state_fd = -1, .cache_fd = -1                                                                                 \
    }
#define CLEAN_HOME CLEANUP(home_done)

/* Opens both, making them if missing. -EPERM where one belongs to another user or has an entry that does, holds what
 * mvmctl did not make, or can be written by others. */
int home_open(struct home *h, struct mvm_error *err) MVM_MUST_CHECK;
void home_done(struct home *h);
