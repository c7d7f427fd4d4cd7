/* The disk of the builder's store on the host: what becomes of it between builders. */
#include "tap.h"

#include "base/fd.h"
#include "base/path.h"
#include "builder/store_disk.h"
#include "image/ext4.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#define CAP (128ull << 20)

static struct home home = HOME_INIT;
static char disk[100], state[100];

static bool cap_is(const char *text, uint64_t wanted)
{
    uint64_t cap = 0;
    setenv("MVM_STORE_CAP", text, 1);
    int r = store_disk_cap(0, &cap, NULL);
    unsetenv("MVM_STORE_CAP");
    return wanted ? r == 0 && cap == wanted : r == -EINVAL;
}

static void test_cap(void)
{
    uint64_t cap = 0;
    struct mvm_error e = MVM_ERROR_INIT;
    ok(store_disk_cap(0, &cap, &e) == 0 && cap == STORE_DISK_DEFAULT_CAP, "a cap by default");
    ok(store_disk_cap(1ull << 30, &cap, &e) == 0 && cap == 1ull << 30, "a configured one");
    ok(cap_is("300M", 300ull << 20) && cap_is("16G", 16ull << 30) && cap_is("2T", 2ull << 40) &&
           cap_is("134217729", 128ull << 20) && cap_is("", STORE_DISK_DEFAULT_CAP),
       "one from the environment, in whole MiB");
    static const char *const bad[] = {"1",    "-1", "300MB", "M", "x", "0", "99999999999999999999", "99999999999T",
                                      " 300M"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        ok(cap_is(bad[i], 0), "'%s' is none", bad[i]);
}

/* A builder's turn, as far as the host sees it. */
static int turn(uint64_t cap, bool orderly, bool *ret_check)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct store_disk s = STORE_DISK_INIT;
    int r = store_disk_open(&s, &home, cap, true, NULL, &e);
    *ret_check = s.check;
    if (!orderly)
        lock_done(&s.lock); /* mvmctl was killed: nothing was written */
    store_disk_close(&s);
    return r;
}

static bool needs_check(void)
{
    bool check = false;
    return turn(CAP, true, &check) == 0 && check;
}

static ino_t inode(off_t *ret_size)
{
    struct stat st = {0};
    (void)!fstatat(home.cache_fd, disk, &st, 0);
    *ret_size = st.st_size;
    return st.st_ino;
}

static void poke(const char *name, off_t at, const void *p, size_t n)
{
    CLEAN_FD int fd = openat(home.cache_fd, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || fd_pwrite_all(fd, p, n, (uint64_t)at) < 0)
        abort();
}

static void test_order(void)
{
    struct store_disk_info info;
    bool check = true;
    ok(store_disk_inspect(&home, CAP, &info, NULL) == 0 && !info.exists && info.cap == CAP, "no disk at first");
    ok(turn(CAP, true, &check) == 0 && !check, "the first builder gets a new one, which needs no check");
    ok(store_disk_inspect(&home, CAP, &info, NULL) == 0 && info.exists && info.clean && !info.in_use &&
           info.size == CAP && info.allocated < CAP / 4 && info.surveyed_at && info.reclaimable == 0,
       "as large as its cap, sparse, closed in order");
    ok(!needs_check(), "the second one needs none either");
    ok(turn(CAP, false, &check) == 0 && !check && store_disk_inspect(&home, CAP, &info, NULL) == 0 && !info.clean,
       "after a builder that was killed it is not clean");
    ok(needs_check() && !needs_check(), "and checked, once");
    poke(disk, 100 << 20, "x", 1);
    ok(needs_check() && !needs_check(), "so is a disk that somebody wrote to");
    poke(state, 0, "{", 1);
    ok(unlinkat(home.cache_fd, state, 0) == 0 && needs_check(), "so is one without a state file");
    poke(state, 0, "x", 1);
    ok(needs_check(), "and one with a damaged one");
}

/* What the kernel would leave behind. */
static void test_super(void)
{
    static const struct {
        const char *what;
        off_t at;
        uint8_t value;
    } marks[] = {
        {"a journal to replay", 1024 + 0x60, 0x04},
        {"errors noted", 1024 + 0x3a, 0x03},
        {"not unmounted", 1024 + 0x3a, 0x00},
        {"no magic", 1080, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
        struct store_disk s = STORE_DISK_INIT;
        uint8_t old;
        if (store_disk_open(&s, &home, CAP, true, NULL, NULL) < 0)
            abort();
        CLEAN_FD int fd = openat(home.cache_fd, disk, O_RDWR | O_CLOEXEC);
        ok(ext4_is_clean(fd) == 1 && fd_pread_all(fd, &old, 1, (uint64_t)marks[i].at) == 0, "clean before");
        uint8_t value = marks[i].at == 1024 + 0x60 ? old | marks[i].value : marks[i].value;
        poke(disk, marks[i].at, &value, 1);
        ok(ext4_is_clean(fd) == 0, "%s is seen", marks[i].what);
        store_disk_close(&s);
        ok(needs_check() && needs_check(), "%s: checked until it is clean", marks[i].what);
        poke(disk, marks[i].at, &old, 1);
        (void)!needs_check();
    }
}

static void test_sizes(void)
{
    off_t size;
    bool check;
    ino_t before = inode(&size);
    ok(turn(2 * CAP, true, &check) == 0 && inode(&size) == before && size == (off_t)(2 * CAP),
       "with a larger cap the disk grows");
    ok(turn(CAP, true, &check) == 0 && inode(&size) != before && size == (off_t)CAP && !check,
       "with a smaller one it is made anew");
    if (ftruncate(openat(home.cache_fd, disk, O_WRONLY | O_CLOEXEC), 0) < 0)
        abort();
    ok(turn(CAP, true, &check) == 0 && check && inode(&size) && size == (off_t)CAP,
       "an empty file is left to the check");
    struct store_disk s = STORE_DISK_INIT;
    ok(store_disk_open(&s, &home, CAP, true, NULL, NULL) == 0 && s.check && store_disk_rebuild(&s, NULL, NULL) == 0 &&
           !s.check,
       "a disk beyond repair is made anew");
    ok(store_disk_remove(&home, NULL) == -EAGAIN, "a disk in use is not removed");
    store_disk_close(&s);
    ok(!needs_check(), "the new disk is clean");
    ok(store_disk_remove(&home, NULL) == 0 && faccessat(home.cache_fd, disk, F_OK, 0) < 0 &&
           faccessat(home.cache_fd, state, F_OK, 0) < 0 && store_disk_remove(&home, NULL) == 0,
       "one not in use is, with its state");
    if (symlinkat("/etc/passwd", home.cache_fd, disk) < 0)
        abort();
    ok(turn(CAP, true, &check) < 0, "a symlink is no disk");
    unlinkat(home.cache_fd, disk, 0);
}

/* A VMM that outlives its mvmctl holds QEMU's locks. */
static void test_vmm(void)
{
    bool check;
    int ready[2], done[2];
    char byte = 0;
    if (turn(CAP, true, &check) < 0 || pipe2(ready, O_CLOEXEC) < 0 || pipe2(done, O_CLOEXEC) < 0)
        abort();
    pid_t vmm = fork();
    if (vmm == 0) {
        int fd = openat(home.cache_fd, disk, O_RDWR | O_CLOEXEC);
        struct flock l = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 201, .l_len = 1};
        if (fd < 0 || fcntl(fd, F_OFD_SETLK, &l) < 0 || write(ready[1], &byte, 1) != 1)
            _exit(1);
        pause();
    }
    if (read(ready[0], &byte, 1) != 1)
        abort();
    pid_t waiter = fork();
    if (waiter == 0) {
        int r = turn(CAP, true, &check);
        _exit(r == 0 && write(done[1], &byte, 1) == 1 ? 0 : 1);
    }
    struct pollfd p = {.fd = done[0], .events = POLLIN};
    ok(poll(&p, 1, 300) == 0, "a builder waits while a VMM has the disk");
    kill(vmm, SIGKILL);
    ok(poll(&p, 1, 30000) == 1, "and goes on when it is gone");
    waitpid(vmm, NULL, 0);
    waitpid(waiter, NULL, 0);
}

int main(void)
{
    const char *top = tap_folder();
    char path[300];
    struct utsname u;
    uname(&u);
    snprintf(disk, sizeof(disk), "builder-vm/nix-store-%.40s.img", u.machine);
    snprintf(state, sizeof(state), "builder-vm/nix-store-%.40s.state", u.machine);
    snprintf(path, sizeof(path), "%s/state", top);
    setenv("MVM_HOME", path, 1);
    snprintf(path, sizeof(path), "%s/cache", top);
    setenv("MVM_CACHE_DIR", path, 1);
    unsetenv("MVM_STORE_CAP");
    if (home_open(&home, NULL) < 0)
        abort();
    test_cap();
    test_order();
    test_super();
    test_sizes();
    test_vmm();
    home_done(&home);
    (void)!path_remove_tree(AT_FDCWD, top);
    return tap_end();
}
