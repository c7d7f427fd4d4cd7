#include "guest/store_disk.h"
#include "base/fd.h"
#include "base/path.h"
#include "guest/boot.h"
#include "guest/folders.h"
#include "guest/nix_store.h"
#include "guest/source.h"
#include "wire/msg.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#ifndef EXT4_IOC_RESIZE_FS /* kernel: fs/ext4/ext4.h; no header for programs has it */
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, __u64)
#endif

#define NIX_CONF    "/etc/nix/nix.conf"
#define OLD_FILES   "/nix/mvm-files" /* what earlier versions kept, as the store does not have it */
#define CACHES      BUILD_HOME "/.cache/nix"
#define FREE_AT_MIN (1ull << 30) /* at most: Nix begins to collect during a build where less is free ... */
#define FREE_AT_MAX (4ull << 30) /* ... and ends where this much is */

/* Nix's settings, opened before the hello; -1: not, or not any more. */
static int nix_conf = -1;

/* 0, with what was done in ret; -EBADMSG where the file system is beyond what can be repaired without asking. */
static int check_disk(const char *device, struct msg_configured *ret)
{
    const char *const argv[] = {"/usr/sbin/e2fsck", "-p", "-f", device, NULL};
    int code = nix_store_run(argv, NULL);
    if (code < 0 || code >= 16) /* it did not run, or was killed */
        return code < 0 ? code : -EIO;
    if (code & (4 | 8))
        return -EBADMSG;
    strcpy(ret->store, store_health_name(code ? STORE_REPAIRED : STORE_OK));
    return 0;
}

static bool is_damage(int e)
{
    return e == -EINVAL || e == -EUCLEAN || e == -EBADMSG || e == -EIO || e == -EROFS;
}

static bool find_disk(char out[static 80])
{
    char name[64];
    if (!boot_param(boot_cmdline(), "mvm.store", name, sizeof(name)))
        return false;
    snprintf(out, 80, "/dev/%s", name);
    return true;
}

/* A snapshot of this guest continues with another disk: the kernel forgets what it has read of this one. */
static void forget_disk(const char *device)
{
    CLEAN_FD int disk = open(device, O_RDONLY | O_CLOEXEC);
    if (disk >= 0 && ioctl(disk, BLKFLSBUF, 0) < 0)
        boot_log("%s: buffers cannot be dropped: %s", device, strerror(errno));
}

void store_disk_prepare(void)
{
    char device[80];
    mkdir("/nix", 0755);
    nix_conf = open(NIX_CONF, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (find_disk(device))
        forget_disk(device);
}

static int mount_disk(const char *device)
{
    if (mount(device, "/nix", "ext4", MS_NOATIME | MS_NODEV, "discard,errors=remount-ro") < 0)
        return -errno;
    /* Damage that shows only when something is opened: the folders that everything else is in. */
    CLEAN_FD int dir = open("/nix", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    static const char *const names[] = {"store", "var/nix/db"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (fstatat(dir, names[i], &st, 0) == 0 || errno == ENOENT)
            continue;
        int e = -errno;
        (void)!umount2("/nix", MNT_DETACH);
        return e;
    }
    return 0;
}

/* Opens the database and compares it with what is there: paths that were lost are struck off. */
static int check_database(void)
{
    if (access("/nix/var/nix/db/db.sqlite", F_OK) < 0)
        return 0;
    static const char *const argv[] = {"nix-store", "--verify", NULL};
    int code = nix_store_run(argv, NULL);
    return code > 0 ? -EBADMSG : code;
}

/* The host may have made the disk larger. The file system's own size is the second number of its super block. */
static void grow(const char *device)
{
    CLEAN_FD int disk = open(device, O_RDONLY | O_CLOEXEC);
    struct statvfs v;
    uint64_t bytes = 0;
    uint32_t filled = 0;
    if (disk < 0 || statvfs("/nix", &v) < 0 || ioctl(disk, BLKGETSIZE64, &bytes) < 0 ||
        fd_pread_all(disk, &filled, sizeof(filled), 1024 + sizeof(uint32_t)) < 0)
        return;
    uint64_t blocks = bytes / v.f_bsize;
    if (blocks == le32toh(filled))
        return;
    CLEAN_FD int dir = open("/nix", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || ioctl(dir, EXT4_IOC_RESIZE_FS, &blocks) < 0)
        boot_log("the store cannot grow to its disk's size: %s", strerror(errno));
}

/* Nix collects by itself during a build that is about to fill the disk. */
static void set_limits(uint64_t size)
{
    char text[128];
    int n =
        snprintf(text, sizeof(text), "min-free = %llu\nmax-free = %llu\n",
                 (unsigned long long)MIN_OF(size / 8, FREE_AT_MIN), (unsigned long long)MIN_OF(size / 4, FREE_AT_MAX));
    CLEAN_FD int fd = TAKE_FD(nix_conf);
    if (fd < 0 || fd_write_all(fd, text, (size_t)n) < 0)
        boot_log("cannot write " NIX_CONF ": %s", strerror(errno));
}

/* Work folders are of jobs that were killed. False where there is no place for any. */
static bool clear_work(void)
{
    DIR *d = opendir(BUILD_WORK);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.')
            (void)!path_remove_tree(dirfd(d), e->d_name);
    if (d)
        closedir(d);
    source_release_all();
    (void)!path_remove_tree(AT_FDCWD, OLD_FILES);
    return d;
}

/* On a full disk what is lacking stays lacking: jobs say so, and a collection may make room. */
static int make_folders(void)
{
    static const char *const dirs[] = {
        "/nix/store",    "/nix/var", "/nix/var/nix", "/nix/var/nix/gcroots",
        NIX_STORE_ROOTS, BUILD_HOME, BUILD_WORK, /* the last one: where it is, the others are */
    };
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        if (mkdir(dirs[i], 0755) < 0 && errno != EEXIST && errno != ENOSPC)
            return -errno;
    return 0;
}

/* With the disk mounted. checked: it may have lost something. Each file that is looked at costs milliseconds in a guest
 * that was just restored. */
static int prepare(const char *device, bool checked)
{
    int r = 0;
    grow(device);
    if (!clear_work() || checked) {
        nix_store_drop_reserve(); /* folders need room too */
        r = make_folders();
    }
    nix_store_take_reserve();
    uint64_t used, size = nix_store_size(&used);
    /* What collections could not free is fetched sources, which Nix keeps for ever. Nobody uses them now. */
    if (used > size / 10 * 9)
        (void)!path_remove_tree(AT_FDCWD, CACHES);
    return r;
}

/* unclean: it was not closed in order. */
static int open_store(const char *device, bool check, bool unclean, struct msg_configured *ret)
{
    strcpy(ret->store, store_health_name(STORE_OK));
    int r = check ? check_disk(device, ret) : 0;
    if (r == 0)
        r = mount_disk(device);
    if (r < 0)
        return r;
    /* After an unclean end a kept file may have its size and not its content: nothing was synced. */
    if (unclean)
        (void)!path_remove_tree(AT_FDCWD, BUILD_FILES);
    r = prepare(device, check);
    if (r == 0 && check)
        r = check_database();
    if (r < 0)
        (void)!umount2("/nix", MNT_DETACH);
    return r;
}

void store_disk_mount(const struct msg_configure *m, struct msg_configured *ret)
{
    char device[80];
    if (!find_disk(device)) {
        snprintf(ret->problem, sizeof(ret->problem), "the kernel command line names no store (mvm.store)");
        return;
    }
    if (access(device, F_OK) < 0) {
        snprintf(ret->problem, sizeof(ret->problem), "the store's disk is not there");
        return;
    }
    int r = open_store(device, m->store_check, m->store_check, ret);
    if (!m->store_check && is_damage(r))
        r = open_store(device, true, false, ret);
    if (r == 0) {
        uint64_t used;
        set_limits(nix_store_size(&used));
        return;
    }
    strcpy(ret->store, is_damage(r) ? store_health_name(STORE_BROKEN) : "");
    snprintf(ret->problem, sizeof(ret->problem), "the store's disk %s: %s",
             is_damage(r) ? "is damaged" : "cannot be used", strerror(-r));
}
