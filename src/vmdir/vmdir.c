#include "vmdir/vmdir.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "host/suggest.h"
#include "vmdir/logfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

int vmdir_check_name(const char *name, struct mvm_error *err)
{
    if (path_is_plain_name(name, VMDIR_MAX_NAME))
        return 0;
    if (!*name)
        mvm_error_set(err, -EINVAL, "vm name '': empty");
    else if (strlen(name) > VMDIR_MAX_NAME)
        mvm_error_set(err, -EINVAL, "vm name '%.32s...': %zu bytes, at most %d are allowed", name, strlen(name),
                      VMDIR_MAX_NAME);
    else
        mvm_error_set(err, -EINVAL, "vm name '%s': not a plain name", name);
    mvm_error_phase(err, MVM_PHASE_USAGE);
    mvm_error_hint(err, "use letters, digits, '.', '_' and '-', beginning with a letter or digit");
    return -EINVAL;
}

/* What may have been meant by a name that no VM has. */
static void hint_name(struct home *h, const char *name, struct mvm_error *err)
{
    enum { MOST = 256 };
    char *names[MOST];
    size_t n = 0;
    int fd = openat(h->state_fd, "vms", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (fd >= 0 && !dir)
        close(fd);
    for (struct dirent *e; dir && n < MOST && (e = readdir(dir));)
        if (vmdir_check_name(e->d_name, NULL) == 0 && (names[n] = strdup(e->d_name)))
            n++;
    if (dir)
        closedir(dir);
    const char *near = suggest_word(name, (const char *const *)names, n);
    if (near)
        mvm_error_hint(err, "did you mean %s? mvmctl ls shows the ones there are", near);
    else
        mvm_error_hint(err, "mvmctl ls shows the ones there are");
    while (n > 0)
        free(names[--n]);
}

int vmdir_open(struct home *h, const char *name, struct mvm_error *err)
{
    int r = vmdir_check_name(name, err);
    if (r < 0)
        return r;
    CLEAN_FREE char *path = path_join("vms", name, NULL);
    int fd = path ? openat(h->state_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -ENOMEM;
    if (fd >= 0)
        return fd;
    r = -errno;
    if (r == -ENOENT) {
        mvm_error_set(err, r, "there is no vm '%s'", name);
        mvm_error_phase(err, MVM_PHASE_RUNTIME_BACKEND);
        hint_name(h, name, err);
        return r;
    }
    return mvm_error_errno(err, r, "cannot open the folder of vm '%s'", name);
}

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
