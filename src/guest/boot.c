#include "guest/boot.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "guest/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/io.h>
#endif
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEVICE_WAIT_MS 10000
#define TERM_WAIT_MS   3000
#define LOWER          "/lower"
#define LAYER          "/run" /* every image has it */
#define NEW_ROOT       LAYER "/root"

void boot_log(const char *fmt, ...)
{
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    int n = snprintf(line, sizeof(line), "<3>mvm-init: ");
    vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
    va_end(ap);
    strcat(line, "\n");
    CLEAN_FD int kmsg = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
    if (kmsg >= 0 && write(kmsg, line, strlen(line)) > 0)
        return;
    CLEAN_FD int console = open("/dev/console", O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (console >= 0)
        (void)!fd_write_all(console, line + 3, strlen(line) - 3);
}

const char *boot_cmdline(void)
{
    static char text[4096];
    if (!text[0]) {
        CLEAN_FD int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
        ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
        text[n > 0 ? n : 0] = '\0';
        text[strcspn(text, "\n")] = '\0';
    }
    return text;
}

bool boot_param(const char *cmdline, const char *name, char *out, size_t size)
{
    size_t len = strlen(name);
    for (const char *s = cmdline; *s;) {
        s += strspn(s, " ");
        size_t n = strcspn(s, " ");
        if (n >= len && strncmp(s, name, len) == 0 && (n == len || s[len] == '=')) {
            size_t value = n == len ? 0 : n - len - 1;
            if (value >= size)
                return false;
            memcpy(out, s + n - value, value);
            out[value] = '\0';
            return true;
        }
        s += n;
    }
    return false;
}

/* ---- Mounts ---- */

static void try_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)
{
    mkdir(target, 0755);
    if (mount(source, target, type, flags, data) < 0 && errno != EBUSY && errno != ENODEV)
        boot_log("cannot mount %s: %s", target, strerror(errno));
}

static void early_mounts(void)
{
    struct stat st;
    /* The initrd moved these here; a kernel without initrd may have mounted /dev itself. */
    if (stat("/proc/self", &st) < 0)
        try_mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    if (stat("/sys/class", &st) < 0)
        try_mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    if (stat("/dev/null", &st) < 0)
        try_mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755");
}

void boot_late_mounts(void)
{
    try_mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666");
    try_mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
    try_mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755");
    try_mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
    try_mount("cgroup2", CGROUP, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    static const char *const links[][2] = {
        {"/proc/self/fd", "/dev/fd"}, {"fd/0", "/dev/stdin"},    {"fd/1", "/dev/stdout"},
        {"fd/2", "/dev/stderr"},      {"pts/ptmx", "/dev/ptmx"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(links); i++)
        if (symlink(links[i][0], links[i][1]) < 0 && errno != EEXIST)
            boot_log("cannot make %s: %s", links[i][1], strerror(errno));
    mkdir("/run/mvm", 0755);
    mkdir("/run/mvm/log", 0755);
}

/*
 * The 8254 timer ticks from reset on, every 27 ms, and a kernel that keeps time by the processors' own timers leaves it
 * so: under emulation each tick wakes the VMM for nothing. In mode 0 it counts down once and rests.
 */
void boot_stop_pit(void)
{
#if defined(__x86_64__)
    enum { COUNTER = 0x40, MODE = 0x43, COUNT_ONCE = 0x30 };
    char used[32] = "";
    CLEAN_FD int fd = open("/sys/devices/system/clockevents/clockevent0/current_device", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, used, sizeof(used) - 1) <= 0 || strncmp(used, "lapic", 5) != 0)
        return;
    if (ioperm(COUNTER, MODE - COUNTER + 1, 1) < 0)
        return;
    outb(COUNT_ONCE, MODE);
    outb(0, COUNTER);
    outb(0, COUNTER);
    ioperm(COUNTER, MODE - COUNTER + 1, 0);
#endif
}

bool boot_emulated(void)
{
#if defined(__x86_64__)
    unsigned a, b, c, d;
    char signature[12];
    __cpuid(0x40000000, a, b, c, d); /* the hypervisor's leaf */
    memcpy(signature, &b, 4);
    memcpy(signature + 4, &c, 4);
    memcpy(signature + 8, &d, 4);
    return memcmp(signature, "TCGTCGTCGTCG", sizeof(signature)) == 0;
#else
    return false;
#endif
}

void boot_fix_addresses(void)
{
    CLEAN_FD int fd = open("/proc/sys/kernel/randomize_va_space", O_WRONLY | O_CLOEXEC);
    if (fd >= 0)
        (void)!fd_write_all(fd, "0", 1);
}

int boot_prepare_file(const char *folder, const char *name, mode_t mode)
{
    CLEAN_FD int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || path_write_file(dir, name, "", 0, mode, false, NULL) < 0)
        return -errno;
    int fd = openat(dir, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* ---- The initrd ---- */

static int load_module(const char *path)
{
    CLEAN_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST ? -errno : 0;
}

static int is_visible(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

/* In the order of their names. A module that does not load is no reason to stop: what needs it will say so. */
static void load_modules(void)
{
    struct dirent **list;
    int n = scandir("/modules", &list, is_visible, alphasort);
    for (int i = 0; i < n; i++) {
        char path[300];
        snprintf(path, sizeof(path), "/modules/%s", list[i]->d_name);
        int r = load_module(path);
        if (r < 0)
            boot_log("module %s: %s", list[i]->d_name, strerror(-r));
        free(list[i]);
    }
    if (n >= 0)
        free(list);
}

/* Waits for the kernel to announce devices until path is there. */
static int wait_for_device(const char *path)
{
    if (access(path, F_OK) == 0)
        return 0;
    CLEAN_FD int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
    struct sockaddr_nl a = {.nl_family = AF_NETLINK, .nl_groups = 1};
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
        return -errno;
    uint64_t deadline = clock_deadline(DEVICE_WAIT_MS);
    while (access(path, F_OK) < 0) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, clock_left_ms(deadline)) <= 0)
            return -ETIMEDOUT;
        char event[8192];
        while (recv(fd, event, sizeof(event), 0) > 0)
            ;
    }
    return 0;
}

/* A layer in memory above the read-only file system at `lower`, which takes what is written. */
static int mount_layer(const char *lower, struct mvm_error *err)
{
    char options[128];
    snprintf(options, sizeof(options), "lowerdir=%s,upperdir=" LAYER "/upper,workdir=" LAYER "/work", lower);
    mkdir(LAYER, 0755);
    if (mount("tmpfs", LAYER, "tmpfs", 0, "mode=0755") < 0)
        return mvm_error_errno(err, -errno, "cannot mount the writable layer");
    mkdir(LAYER "/upper", 0755);
    mkdir(LAYER "/work", 0755);
    mkdir(NEW_ROOT, 0755);
    if (mount("overlay", NEW_ROOT, "overlay", 0, options) < 0)
        return mvm_error_errno(err, -errno, "cannot mount the overlay root");
    return 0;
}

static int mount_root(const char *device, struct mvm_error *err)
{
    mkdir(LOWER, 0755);
    if (mount(device, LOWER, "ext4", MS_RDONLY | MS_NOATIME, NULL) < 0)
        return mvm_error_errno(err, -errno, "cannot mount %s", device);
    return mount_layer(LOWER, err);
}

/* The memory of the initrd's files is given back. Only below the first file system, never below a mount. */
static void free_initrd(void)
{
    CLEAN_FD int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct statfs sf;
    if (root < 0 || fstatfs(root, &sf) < 0 ||
        (sf.f_type != 0x858458f6 /* ramfs */ && sf.f_type != 0x01021994 /* tmpfs */))
        return;
    (void)!path_remove_tree(root, "modules");
    unlinkat(root, "init", 0);
}

static int switch_root(struct mvm_error *err)
{
    static const char *const moved[] = {"/dev", "/proc", "/sys"};
    for (size_t i = 0; i < ARRAY_SIZE(moved); i++) {
        char target[64];
        snprintf(target, sizeof(target), NEW_ROOT "%s", moved[i]);
        mkdir(target, 0755);
        if (mount(moved[i], target, NULL, MS_MOVE, NULL) < 0)
            return mvm_error_errno(err, -errno, "cannot move %s", moved[i]);
    }
    free_initrd();
    if (chdir(NEW_ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
        return mvm_error_errno(err, -errno, "cannot switch the root");
    return 0;
}

int boot_initrd(struct mvm_error *err)
{
    early_mounts();
    char name[64], device[80], init[256];
    if (!boot_param(boot_cmdline(), "mvm.root", name, sizeof(name)))
        return mvm_error_set(err, -EINVAL, "the kernel command line names no root (mvm.root)");
    if (!boot_param(boot_cmdline(), "mvm.init", init, sizeof(init)))
        strcpy(init, "/sbin/mvm-init");
    load_modules();
    snprintf(device, sizeof(device), "/dev/%s", name);
    int r = wait_for_device(device);
    if (r < 0)
        return mvm_error_errno(err, r, "the root's device %s", device);
    r = mount_root(device, err);
    if (r == 0)
        r = switch_root(err);
    if (r < 0)
        return r;
    char *const argv[] = {init, NULL};
    char *const envp[] = {NULL};
    execve(init, argv, envp);
    return mvm_error_errno(err, -errno, "cannot execute %s", init);
}

/* ---- Without an initrd ---- */

int boot_layer(struct mvm_error *err)
{
    char value[2];
    early_mounts();
    if (!boot_param(boot_cmdline(), "mvm.layer", value, sizeof(value)))
        return 0;
    (void)!mount(NULL, "/dev", NULL, MS_REMOUNT | MS_BIND | MS_NOSUID, NULL); /* the kernel's own mount of it */
    int r = mount_layer("/", err);
    return r < 0 ? r : switch_root(err);
}

/* ---- The end ---- */

/* Asks all processes to end and waits for them, within a bound. */
static void end_processes(void)
{
    kill(-1, SIGTERM);
    kill(-1, SIGCONT);
    sigset_t chld;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    sigprocmask(SIG_BLOCK, &chld, NULL);
    uint64_t deadline = clock_deadline(TERM_WAIT_MS);
    for (;;) {
        pid_t pid = waitpid(-1, NULL, WNOHANG);
        if (pid > 0)
            continue;
        int left = clock_left_ms(deadline);
        if (pid < 0 || left == 0)
            break;
        struct timespec ts = {left / 1000, (left % 1000) * 1000000L};
        sigtimedwait(&chld, NULL, &ts);
    }
    kill(-1, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0)
        ;
}

void boot_power_off(void)
{
    end_processes();
    sync();
    if (umount2("/nix", 0) < 0 && errno != EINVAL && errno != ENOENT)
        boot_log("cannot unmount the store: %s", strerror(errno));
    sync();
    reboot(RB_AUTOBOOT);
    for (;;)
        pause();
}
