/*
 * A supervisor starts no programs: it confines itself before it hears the first word of a guest. What it needs started
 * is started by its launcher, a process forked before that, which knows from run.json what this VM may be. The VMM is
 * the supervisor's child all the same.
 */
#pragma once

#include "supervisor/launch.h"

struct launcher {
    int fd; /* -1: none; the launcher ends with this socket, and with the supervisor */
};

/* Forks it; the calling process must have one thread. dirfd: the VM's folder. */
int launcher_start(struct launcher *l, const struct runfile *run, int dirfd, struct mvm_error *err) MVM_MUST_CHECK;
/* Has it remove a socket of the file system on which nothing listens any more; a supervisor reaches its VM's folder
 * only. */
void launcher_remove_socket(const struct launcher *l, const char *path);
/* Ends it, when the last VMM has ended: it removes that one's cgroup (cgroup.h) first. */
void launcher_stop(struct launcher *l);
/* A VMM with a socket pair for each of its connections. */
int launcher_launch(const struct launcher *l, const struct vmm_source *source, struct launched *ret,
                    struct mvm_error *err) MVM_MUST_CHECK;
