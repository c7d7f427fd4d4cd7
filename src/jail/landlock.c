/* Landlock by its system calls: libc has no functions for them, and Debian's headers know the first ABIs alone. Linux:
 * Documentation/userspace-api/landlock.rst; the numbers are of its ABI. */
#include "jail/inside.h"

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

int inside_landlock_open(int *ret_abi)
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
        a.scoped = SCOPE_ABSTRACT | SCOPE_SIGNAL;
        size += sizeof(a.scoped);
    }
    int fd = (int)syscall(SYS_landlock_create_ruleset, &a, size, 0);
    return fd < 0 ? -errno : fd;
}

int inside_landlock_fd(int rules, int abi, int fd, bool write)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    uint64_t rights = READ_FILE | (write ? WRITE_FILE : 0) | (write && abi >= 3 ? TRUNCATE : 0);
    if (S_ISDIR(st.st_mode))
        rights |= READ_DIR | EXECUTE;
    else if (!S_ISREG(st.st_mode) && abi >= 5)
        rights |= IOCTL_DEV;
    else if (S_ISREG(st.st_mode) && !write)
        rights |= EXECUTE;
    struct beneath b = {.allowed = rights, .parent_fd = fd};
    return syscall(SYS_landlock_add_rule, rules, PATH_BENEATH, &b, 0) < 0 ? -errno : 0;
}

int inside_landlock_path(int rules, int abi, const char *path, bool write)
{
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    int r = inside_landlock_fd(rules, abi, fd, write);
    close(fd);
    return r;
}

int inside_landlock_enforce(int rules)
{
    return syscall(SYS_landlock_restrict_self, rules, 0) < 0 ? -errno : 0;
}
