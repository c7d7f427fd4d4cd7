#include "machine/vmdir.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "machine/logfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

int vmdir_open_all(struct home *h, struct mvm_error *err)
{
    return path_open_dir(h->state_fd, "vms", err);
}

/* True while dirfd still is what the name leads to: `down` may have removed the folder between opening and locking. */
static bool still_there(int vms_fd, const char *name, int dirfd)
{
    struct stat by_name, by_fd;
    return fstatat(vms_fd, name, &by_name, AT_SYMLINK_NOFOLLOW) == 0 && fstat(dirfd, &by_fd) == 0 &&
           by_name.st_ino == by_fd.st_ino && by_name.st_dev == by_fd.st_dev;
}

static void remove_leftovers(int dirfd)
{
    static const char *const files[] = {VMDIR_CONFIG, VMDIR_SOCKET, VMDIR_LAST};
    static const char *const logs[] = {VMDIR_CONSOLE, VMDIR_AGENT, VMDIR_VMM}, *const suffixes[] = {"", ".1"};
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        unlinkat(dirfd, files[i], 0);
    for (size_t i = 0; i < ARRAY_SIZE(logs); i++) {
        for (size_t k = 0; k < ARRAY_SIZE(suffixes); k++) {
            char log[64], times[64];
            snprintf(log, sizeof(log), "%s%s", logs[i], suffixes[k]);
            logfile_times_name(logs[i], suffixes[k], times);
            unlinkat(dirfd, log, 0);
            unlinkat(dirfd, times, 0);
        }
    }
}

int vmdir_create(int vms_fd, const char *name, struct lock *lock, int *ret_fd, struct mvm_error *err)
{
    for (;;) {
        if (mkdirat(vms_fd, name, 0700) < 0 && errno != EEXIST)
            return mvm_error_errno(err, -errno, "cannot make the folder of vm '%s'", name);
        CLEAN_FD int fd = openat(vms_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT)
            continue;
        if (fd < 0)
            return mvm_error_errno(err, -errno, "cannot open the folder of vm '%s'", name);
        int r = lock_take(lock, fd, VMDIR_LOCK, "supervisor", NULL, err);
        if (r == -EAGAIN) {
            mvm_error_set(err, -EEXIST, "vm '%s' runs already", name);
            mvm_error_hint(err, "choose another name with --name, or stop it: mvmctl down %s", name);
            return -EEXIST;
        }
        if (r == -ENOENT || (r == 0 && !still_there(vms_fd, name, fd))) {
            lock_done(lock);
            continue;
        }
        if (r < 0)
            return r;
        remove_leftovers(fd);
        *ret_fd = TAKE_FD(fd);
        return 0;
    }
}

int vmdir_remove(int vms_fd, const char *name, uint64_t deadline, struct mvm_error *err)
{
    CLEAN_FD int fd = openat(vms_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0)
        return mvm_error_errno(err, -errno, "cannot open the folder of vm '%s'", name);
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    const struct lock_wait wait = {.deadline = deadline};
    int r = lock_take(&lock, fd, VMDIR_LOCK, "removing", deadline ? &wait : NULL, err);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return mvm_error_set(err, -EBUSY, "vm '%s' is still running", name);
    if (!still_there(vms_fd, name, fd))
        return 0;
    r = path_remove_tree(vms_fd, name);
    return r < 0 ? mvm_error_errno(err, r, "cannot remove the folder of vm '%s'", name) : 0;
}

struct sockaddr_un vmdir_socket_address(int dirfd)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/" VMDIR_SOCKET, dirfd);
    return a;
}
