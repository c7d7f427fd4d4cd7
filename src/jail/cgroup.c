#include "jail/cgroup.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/os.h"
#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFIX "mvm-vmm-"
#define TRIES  8 /* another run may take a folder for a left one before it is locked */

static const char not_delegated[] = "no cgroup with memory and pids is delegated to this user";

static int write_text(int dirfd, const char *name, const char *text)
{
    /* O_CREAT makes nothing in a cgroup; in the folder of a test it does. */
    CLEAN_FD int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
}

static int write_number(int dirfd, const char *name, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    return write_text(dirfd, name, text);
}

static void read_text(int dirfd, const char *name, char *out, size_t size)
{
    CLEAN_FD int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t n = fd >= 0 ? read(fd, out, size - 1) : 0;
    out[n > 0 ? n : 0] = '\0';
}

static bool has_word(const char *text, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = text; (at = strstr(at, word)); at += n)
        if ((at == text || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\n' || at[n] == '\0'))
            return true;
    return false;
}

/* ---- Where one can be made ---- */

/* Whether both controllers reach the folder's children, or can be made to: the kernel refuses that where the folder
 * itself has processes. To move a process needs write access to where both of its cgroups meet, too. */
static bool divides(int fd)
{
    char text[256];
    read_text(fd, "cgroup.subtree_control", text, sizeof(text));
    bool on = has_word(text, "memory") && has_word(text, "pids");
    if (!on) {
        read_text(fd, "cgroup.controllers", text, sizeof(text));
        on = has_word(text, "memory") && has_word(text, "pids") &&
             write_text(fd, "cgroup.subtree_control", "+memory +pids") == 0;
    }
    return on && faccessat(fd, ".", W_OK, AT_EACCESS) == 0 && faccessat(fd, "cgroup.procs", W_OK, AT_EACCESS) == 0;
}

/* This process's own cgroup, or the one above it: that, only where the own one has no bound on memory, which the user
 * would have set for all that begins in it. */
static int find_parent(int root, const char *own)
{
    char path[4096], bound[32];
    snprintf(path, sizeof(path), "./%s", own + strspn(own, "/"));
    CLEAN_FD int here = os_open_beneath(root, path, O_RDONLY | O_DIRECTORY, 0);
    if (here < 0)
        return -ENOTSUP;
    if (divides(here))
        return TAKE_FD(here);
    read_text(here, "memory.max", bound, sizeof(bound));
    if ((bound[0] && strncmp(bound, "max", 3) != 0) || strcmp(path, "./") == 0)
        return -ENOTSUP;
    *strrchr(path, '/') = '\0';
    CLEAN_FD int above = os_open_beneath(root, path, O_RDONLY | O_DIRECTORY, 0);
    return above >= 0 && divides(above) ? TAKE_FD(above) : -ENOTSUP;
}

/* ---- Making and removing ---- */

static int on_left(void *data, const char *name)
{
    int parent = *(const int *)data;
    if (strncmp(name, PREFIX, strlen(PREFIX)) != 0)
        return 0;
    CLEAN_FD int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
        unlinkat(parent, name, AT_REMOVEDIR); /* which the kernel refuses while it has processes */
    return 0;
}

/* Locked, and still there then. */
static int make_folder(struct cgroup *g, const char *vm)
{
    static unsigned serial;
    for (int i = 0; i < TRIES; i++) {
        snprintf(g->name, sizeof(g->name), PREFIX "%s-%d-%u", vm, getpid(), serial++);
        if (mkdirat(g->parent_fd, g->name, 0755) < 0) {
            if (errno == EEXIST)
                continue; /* of a process of the same number elsewhere */
            return -errno;
        }
        CLEAN_FD int fd = openat(g->parent_fd, g->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd >= 0 && flock(fd, LOCK_EX) == 0 && faccessat(g->parent_fd, g->name, F_OK, 0) == 0) {
            g->fd = TAKE_FD(fd);
            return 0;
        }
    }
    return -EAGAIN;
}

int cgroup_make_at(struct cgroup *g, int root_fd, const char *own, const char *vm, const struct cgroup_bounds *b,
                   struct mvm_error *err)
{
    CLEAN_CGROUP struct cgroup made = CGROUP_INIT;
    made.parent_fd = find_parent(root_fd, own);
    if (made.parent_fd < 0)
        return mvm_error_set(err, -ENOTSUP, "%s", not_delegated);
    (void)!path_each(made.parent_fd, ".", on_left, &made.parent_fd);
    int r = make_folder(&made, vm);
    if (r == 0)
        r = write_number(made.fd, "memory.max", b->memory_bytes);
    if (r == 0)
        r = write_number(made.fd, "pids.max", b->processes);
    if (r < 0)
        return mvm_error_errno(err, r, "the cgroup of the VMM cannot be made");
    *g = made;
    made = (struct cgroup)CGROUP_INIT;
    return 0;
}

void cgroup_remove(struct cgroup *g)
{
    if (g->fd >= 0)
        unlinkat(g->parent_fd, g->name, AT_REMOVEDIR);
    fd_closep(&g->fd);
    fd_closep(&g->parent_fd);
}

/* ---- Here ---- */

static int open_root(void)
{
    int fd = -1;
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    for (const struct mntent *m; mounts && fd < 0 && (m = getmntent(mounts));)
        if (strcmp(m->mnt_type, "cgroup2") == 0)
            fd = open(m->mnt_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (mounts)
        endmntent(mounts);
    return fd;
}

/* Its line in /proc/self/cgroup: "0::/path". The caller frees. */
static char *own_path(void)
{
    char *line = NULL, *own = NULL;
    size_t size = 0;
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && !own && getline(&line, &size, f) > 0) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "0::", 3) == 0)
            own = strdup(line + 3);
    }
    if (f)
        fclose(f);
    free(line);
    return own;
}

int cgroup_make(struct cgroup *g, const char *vm, const struct cgroup_bounds *b, struct mvm_error *err)
{
    CLEAN_FD int root = open_root();
    CLEAN_FREE char *own = own_path();
    if (root < 0 || !own)
        return mvm_error_set(err, -ENOTSUP, "no cgroup v2 is mounted here");
    return cgroup_make_at(g, root, own, vm, b, err);
}

void cgroup_bounds_format(const struct cgroup_bounds *b, char *out, size_t size)
{
    snprintf(out, size, "memory %llu MiB, %u processes", (unsigned long long)(b->memory_bytes >> 20), b->processes);
}
