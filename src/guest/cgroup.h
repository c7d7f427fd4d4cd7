/* The cgroup of a build job (cgroup.c tells how): bounds on what it uses, and a way to end all of it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define CGROUP "/sys/fs/cgroup"

struct cgroup {
    int dirfd, procs_fd, pids_fd; /* pids_fd: POLLPRI when a bound on processes was met */
    uint64_t max_bytes;
    unsigned max_pids;
};

#define CGROUP_INIT                                                                                                    \
    {                                                                                                                  \
        .dirfd = -1, .procs_fd = -1, .pids_fd = -1                                                                     \
    }

enum cgroup_memory {
    CGROUP_MEMORY_FINE,
    CGROUP_MEMORY_OWN, /* the job met its own bound, and was ended */
    CGROUP_MEMORY_ALL, /* all jobs together met theirs, and this one was ended */
};

/* Makes the job's cgroup and its bounds. Processes are born in it (dirfd) or join by writing "0" to procs_fd. The
 * worker keeps it open until it exits. */
int cgroup_open(struct cgroup *g, unsigned job);
bool cgroup_pids_reached(const struct cgroup *g);
enum cgroup_memory cgroup_memory_reached(const struct cgroup *g);
/* Kills whatever is in it. Does not wait. */
void cgroup_kill(unsigned job);
/* Kills, waits within a bound until all is gone, removes the cgroup. */
void cgroup_remove(unsigned job);
/* The number behind a key in a text of "key number" lines; 0 where the key is absent. */
uint64_t cgroup_count(const char *text, const char *key);
