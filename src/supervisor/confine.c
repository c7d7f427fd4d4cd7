/* What a supervisor may still reach once it hears a guest: its VM's folder, the snapshots and their index, and the
 * image. */
#include "base/fd.h"
#include "base/path.h"
#include "supervisor/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* Folders are made here, because what is not there yet cannot be allowed. */
struct places {
    int vms, own_snapshots, boot_snapshots, index;
};

static void places_done(struct places *p)
{
    fd_closep(&p->vms);
    fd_closep(&p->own_snapshots);
    fd_closep(&p->boot_snapshots);
    fd_closep(&p->index);
}

static int open_places(const struct supervisor *s, struct places *p, struct mvm_error *err)
{
    CLEAN_FD int home = openat(s->dirfd, "../..", O_PATH | O_DIRECTORY | O_CLOEXEC);
    p->vms = openat(s->dirfd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (home < 0 || p->vms < 0)
        return mvm_error_errno(err, -errno, "the VM's folder");
    p->own_snapshots = path_open_dir(home, "snapshots", err);
    if (p->own_snapshots < 0 || !s->run.snapshots[0])
        return MIN_OF(p->own_snapshots, 0);
    char cache[sizeof(s->run.snapshots)];
    snprintf(cache, sizeof(cache), "%s", s->run.snapshots);
    *strrchr(cache, '/') = '\0';
    CLEAN_FD int dir = open(cache, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return mvm_error_errno(err, -errno, "the cache's folder");
    p->boot_snapshots = path_open_dir(dir, "snapshots", err);
    if (p->boot_snapshots < 0)
        return p->boot_snapshots;
    p->index = path_open_dir(dir, "stat-index", err);
    return MIN_OF(p->index, 0);
}

int supervisor_confine(struct supervisor *s, struct mvm_error *err)
{
    CLEANUP(places_done) struct places p = {-1, -1, -1, -1};
    int r = open_places(s, &p, err);
    const struct jail_path paths[] = {
        {.fd = s->dirfd, .access = LANDLOCK_OWN},
        {.fd = p.vms, .access = LANDLOCK_CLEAR}, /* a transient VM's folder goes with it */
        {.fd = p.own_snapshots, .access = LANDLOCK_WRITE},
        {.fd = p.boot_snapshots, .access = LANDLOCK_OWN},
        {.fd = p.index, .access = LANDLOCK_OWN},
        {.path = s->run.image_path, .access = LANDLOCK_READ},
        {.path = "/usr", .access = LANDLOCK_READ}, /* libraries */
        {.path = "/nix/store", .access = LANDLOCK_READ},
        {.path = "/proc/self", .access = LANDLOCK_READ},
        {.path = "/proc/cpuinfo", .access = LANDLOCK_READ},
        {.path = "/dev/null", .access = LANDLOCK_WRITE},
    };
    return r < 0 ? r : jail_enter(paths, ARRAY_SIZE(paths), &s->jail, err);
}
