/*
 * A build job's cgroup: CGROUP/mvm-builds/<job>. What the job runs is in it, the worker that watches the job is not, so
 * that the worker survives to tell why the job ended. The folder above bounds all jobs together, which leaves the
 * reserve to pid 1, the workers and the kernel. Each job's own bound is a little lower, so that one that grows without
 * end meets it before it takes the others' room; where several grow, the kernel ends the one with the largest process,
 * as a whole (memory.oom.group). Source: Linux, Documentation/admin-guide/cgroup-v2.rst.
 */
#include "guest/cgroup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "guest/jobs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#define ALL_JOBS     CGROUP "/mvm-builds"
#define MAX_PIDS     2048
#define MIN_RESERVE  (96ull << 20)
#define MAX_RESERVE  (256ull << 20)
#define EMPTY_MS     10000
#define EVENTS_BYTES 512

static int write_at(int dirfd, const char *name, const char *text)
{
    CLEAN_FD int fd = openat(dirfd, name, O_WRONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
}

static void write_number(int dirfd, const char *name, uint64_t value)
{
    char text[32];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    (void)!write_at(dirfd, name, text);
}

static int open_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* Each controller by itself: a kernel that lacks one still gets the others. */
static void enable_controllers(int dirfd)
{
    static const char *const controllers[] = {"+memory", "+pids", "+cpu"};
    for (size_t i = 0; i < ARRAY_SIZE(controllers); i++)
        (void)!write_at(dirfd, "cgroup.subtree_control", controllers[i]);
}

static uint64_t budget(void)
{
    struct sysinfo si;
    if (sysinfo(&si) < 0)
        return UINT64_MAX;
    uint64_t total = (uint64_t)si.totalram * si.mem_unit;
    uint64_t reserve = MIN_OF(MAX_OF(total / 8, MIN_RESERVE), MAX_RESERVE);
    return total > 2 * reserve ? total - reserve : total / 2;
}

int cgroup_open(struct cgroup *g, unsigned job)
{
    uint64_t all = budget();
    g->max_bytes = all - all / 8;
    g->max_pids = MAX_PIDS;
    CLEAN_FD int root = open_dir(CGROUP);
    if (root < 0)
        return root;
    enable_controllers(root);
    if (mkdirat(root, "mvm-builds", 0755) < 0 && errno != EEXIST)
        return -errno;
    CLEAN_FD int jobs = open_dir(ALL_JOBS);
    if (jobs < 0)
        return jobs;
    write_number(jobs, "memory.max", all);
    enable_controllers(jobs);
    char name[16];
    snprintf(name, sizeof(name), "%u", job);
    if (mkdirat(jobs, name, 0755) < 0 && errno != EEXIST)
        return -errno;
    g->dirfd = openat(jobs, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (g->dirfd < 0)
        return -errno;
    write_number(g->dirfd, "memory.max", g->max_bytes);
    write_number(g->dirfd, "memory.oom.group", 1);
    write_number(g->dirfd, "pids.max", g->max_pids);
    g->procs_fd = openat(g->dirfd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    g->pids_fd = openat(g->dirfd, "pids.events", O_RDONLY | O_CLOEXEC);
    return g->procs_fd < 0 ? -errno : 0;
}

uint64_t cgroup_count(const char *text, const char *key)
{
    size_t n = strlen(key);
    while (*text) {
        if (strncmp(text, key, n) == 0 && text[n] == ' ')
            return strtoull(text + n + 1, NULL, 10);
        text += strcspn(text, "\n");
        text += *text == '\n';
    }
    return 0;
}

static void read_events(int fd, char out[static EVENTS_BYTES])
{
    ssize_t n = fd >= 0 ? pread(fd, out, EVENTS_BYTES - 1, 0) : 0;
    out[n > 0 ? n : 0] = '\0';
}

bool cgroup_pids_reached(const struct cgroup *g)
{
    char text[EVENTS_BYTES];
    read_events(g->pids_fd, text);
    return cgroup_count(text, "max") > 0;
}

enum cgroup_memory cgroup_memory_reached(const struct cgroup *g)
{
    char text[EVENTS_BYTES];
    CLEAN_FD int fd = openat(g->dirfd, "memory.events", O_RDONLY | O_CLOEXEC);
    read_events(fd, text);
    if (cgroup_count(text, "oom_kill") == 0)
        return CGROUP_MEMORY_FINE;
    return cgroup_count(text, "oom") > 0 ? CGROUP_MEMORY_OWN : CGROUP_MEMORY_ALL;
}

void cgroup_kill(unsigned job)
{
    char path[64];
    snprintf(path, sizeof(path), ALL_JOBS "/%u", job);
    CLEAN_FD int dir = open_dir(path);
    if (dir >= 0)
        (void)!write_at(dir, "cgroup.kill", "1");
}

/* True once no process is left; the file tells of the change. */
static bool wait_empty(int events_fd, uint64_t deadline)
{
    for (;;) {
        char text[EVENTS_BYTES];
        read_events(events_fd, text);
        if (cgroup_count(text, "populated") == 0)
            return true;
        struct pollfd p = {.fd = events_fd, .events = POLLPRI};
        int n = poll(&p, 1, clock_left_ms(deadline));
        if (n == 0 || (n < 0 && errno != EINTR))
            return false;
    }
}

void cgroup_remove(unsigned job)
{
    char path[64];
    uint64_t deadline = clock_deadline(EMPTY_MS);
    snprintf(path, sizeof(path), ALL_JOBS "/%u", job);
    CLEAN_FD int dir = open_dir(path);
    CLEAN_FD int events = dir < 0 ? -1 : openat(dir, "cgroup.events", O_RDONLY | O_CLOEXEC);
    /* A child that was being started when its worker died may still join; where it cannot, it ends by itself. */
    while (events >= 0) {
        (void)!write_at(dir, "cgroup.kill", "1");
        if (!wait_empty(events, deadline) || rmdir(path) == 0 || errno != EBUSY)
            return;
    }
}
