/*
 * A cgroup of its own for a VMM (cgroup v2), with bounds on memory and processes, where the user has been given one to
 * divide: systemd does so for each user's own services and scopes. The kernel's account of it is
 * Documentation/admin-guide/cgroup-v2.rst, "Delegation".
 */
#pragma once

#include "base/error.h"

#include <stdint.h>

struct cgroup_bounds {
    uint64_t memory_bytes;
    unsigned processes; /* threads count */
};

/* The folder is locked while its maker lives: one without a lock has been left, and goes when the next is made. */
struct cgroup {
    int parent_fd, fd; /* -1: none */
    char name[128];
};

#define CGROUP_INIT                                                                                                    \
    {                                                                                                                  \
        .parent_fd = -1, .fd = -1                                                                                      \
    }
#define CLEAN_CGROUP CLEANUP(cgroup_remove)

/* Makes one for the VM of that name, below the cgroup that this process is in or beside it. -ENOTSUP where none with
 * memory and pids is delegated; the message is the reason, one clause. */
int cgroup_make(struct cgroup *g, const char *vm, const struct cgroup_bounds *b, struct mvm_error *err) MVM_MUST_CHECK;
/* The same where cgroups are mounted at root_fd and the process is in `own`, a path from there ("/user/shell"). */
int cgroup_make_at(struct cgroup *g, int root_fd, const char *own, const char *vm, const struct cgroup_bounds *b,
                   struct mvm_error *err) MVM_MUST_CHECK;
/* Removes it; one that still has processes is left to the next run. The object can be used again. */
void cgroup_remove(struct cgroup *g);
/* One line: "memory 1664 MiB, 130 processes". */
void cgroup_bounds_format(const struct cgroup_bounds *b, char *out, size_t size);
