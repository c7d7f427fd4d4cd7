/* Landlock by its system calls: libc has no functions for them, and Debian's headers know the first ABIs alone. Linux:
 * Documentation/userspace-api/landlock.rst; the numbers are of its ABI. */
#include "jail/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule       445
#define SYS_landlock_restrict_self  446
#endif

#define VERSION        1u
#define PATH_BENEATH   1
#define EXECUTE        (1ull << 0)
#define WRITE_FILE     (1ull << 1)
#define READ_FILE      (1ull << 2)
#define READ_DIR       (1ull << 3)
#define REMOVE_DIR     (1ull << 4)
#define FIRST_ABI      ((1ull << 13) - 1)
#define REFER          (1ull << 13) /* ABI 2 */
#define TRUNCATE       (1ull << 14) /* ABI 3 */
#define IOCTL_DEV      (1ull << 15) /* ABI 5 */
#define BIND_TCP       (1ull << 0)  /* ABI 4 */
#define SCOPE_ABSTRACT (1ull << 0)  /* ABI 6: abstract sockets of others */
#define SCOPE_SIGNAL   (1ull << 1)  /* ABI 6: processes of others */

struct attributes {
    uint64_t files, net, scoped;
};

struct beneath {
    uint64_t allowed;
    int32_t parent_fd;
} __attribute__((packed));

static uint64_t all_files(int abi)
{
    return FIRST_ABI | (abi >= 2 ? REFER : 0) | (abi >= 3 ? TRUNCATE : 0) | (abi >= 5 ? IOCTL_DEV : 0);
}

int landlock_open(bool signals, int *ret_abi)
{
    int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, VERSION);
    *ret_abi = abi > 0 ? abi : 0;
    if (abi <= 0)
        return abi < 0 ? -errno : -ENOSYS;
    struct attributes a = {.files = all_files(abi)};
    size_t size = sizeof(a.files);
    if (abi >= 4) {
        a.net = BIND_TCP;
        size += sizeof(a.net);
    }
    if (abi >= 6) {
        a.scoped = SCOPE_ABSTRACT | (signals ? 0 : SCOPE_SIGNAL);
        size += sizeof(a.scoped);
    }
    int fd = (int)syscall(SYS_landlock_create_ruleset, &a, size, 0);
    return fd < 0 ? -errno : fd;
}

static uint64_t rights_of(int abi, mode_t mode, enum landlock_access access)
{
    const uint64_t change = WRITE_FILE | (abi >= 3 ? TRUNCATE : 0);
    const uint64_t device = !S_ISREG(mode) && !S_ISDIR(mode) && abi >= 5 ? IOCTL_DEV : 0;
    const uint64_t look = READ_FILE | (S_ISDIR(mode) ? READ_DIR : 0);
    switch (access) {
    case LANDLOCK_READ:
        return look | device;
    case LANDLOCK_RUN:
        return look | device | (S_ISREG(mode) || S_ISDIR(mode) ? EXECUTE : 0);
    case LANDLOCK_WRITE:
        return look | device | change;
    case LANDLOCK_CLEAR:
        return REMOVE_DIR;
    default:
        return all_files(abi) & ~(EXECUTE | (abi >= 5 ? IOCTL_DEV : 0));
    }
}

int landlock_fd(int rules, int abi, int fd, enum landlock_access access)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    struct beneath b = {.allowed = rights_of(abi, st.st_mode, access), .parent_fd = fd};
    return syscall(SYS_landlock_add_rule, rules, PATH_BENEATH, &b, 0) < 0 ? -errno : 0;
}

int landlock_path(int rules, int abi, const char *path, enum landlock_access access)
{
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    int r = landlock_fd(rules, abi, fd, access);
    close(fd);
    return r;
}

int landlock_enforce(int rules)
{
    return syscall(SYS_landlock_restrict_self, rules, 0) < 0 ? -errno : 0;
}
