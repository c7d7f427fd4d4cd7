/* Apple's calls, as its manual pages have them. Compiled here, never run (docs/platforms.md). */
#include "base/clock.h"
#include "base/fd.h"
#include "host/os.h"

#include <errno.h>
#include <fcntl.h>
#include <libproc.h>
#include <mach/mach_time.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/event.h>
#include <sys/file.h>
#include <sys/param.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/sysctl.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

/* ---- This machine and this program ---- */

const char *os_arch(void)
{
    static struct utsname u;
    if (!u.machine[0])
        uname(&u);
    return strcmp(u.machine, "arm64") == 0 ? "aarch64" : u.machine;
}

const char *os_self_exe(void)
{
    static char path[4096];
    return os_self_path(path, sizeof(path)) < 0 ? "mvmctl" : path;
}

void os_set_name(const char *name)
{
    pthread_setname_np(name);
}

unsigned os_cores(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (unsigned)n : 0;
}

static void ask_kernel(const char *name, char *out, size_t size)
{
    size_t n = size - 1;
    if (sysctlbyname(name, out, &n, NULL, 0) < 0)
        n = 0;
    out[n] = '\0';
}

void os_cpu_model(char *out, size_t size)
{
    ask_kernel("machdep.cpu.brand_string", out, size);
}

void os_boot_id(char *out, size_t size)
{
    ask_kernel("kern.bootsessionuuid", out, size);
}

/* ---- Files ---- */

int os_rename_new(int from_dir, const char *from, int to_dir, const char *to)
{
    return renameatx_np(from_dir, from, to_dir, to, RENAME_EXCL) < 0 ? -errno : 0;
}

int os_rename_exchange(int from_dir, const char *from, int to_dir, const char *to)
{
    return renameatx_np(from_dir, from, to_dir, to, RENAME_SWAP) < 0 ? -errno : 0;
}

int os_reserve(int fd, off_t size)
{
    fstore_t room = {.fst_flags = F_ALLOCATEALL, .fst_posmode = F_PEOFPOSMODE, .fst_length = size};
    return fcntl(fd, F_PREALLOCATE, &room) < 0 || ftruncate(fd, size) < 0 ? -errno : 0;
}

int os_punch(int fd, off_t at, off_t n)
{
    fpunchhole_t hole = {.fp_offset = at, .fp_length = n};
    return fcntl(fd, F_PUNCHHOLE, &hole) < 0 ? -errno : 0;
}

/* flock(2) knows no deadline, and timers no thread: it is tried again and again. */
int os_lock_until(int fd, uint64_t deadline)
{
    const struct timespec pause = {.tv_nsec = 20 * (long)NSEC_PER_MSEC};
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK)
            return -errno;
        if (clock_now() >= deadline)
            return -ETIMEDOUT;
        if (nanosleep(&pause, NULL) < 0)
            return -errno;
    }
    return 0;
}

/* EVFILT_VNODE of a folder does not tell of its files' content: four looks a second. */
int os_watch_folder(int dirfd)
{
    CLEAN_FD int fd = kqueue();
    struct kevent e;
    EV_SET(&e, 1, EVFILT_TIMER, EV_ADD, 0, 250, NULL);
    if (fd < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || kevent(fd, &e, 1, NULL, 0, NULL) < 0)
        return -errno;
    return TAKE_FD(fd);
}

void os_watch_clear(int fd)
{
    struct kevent e;
    const struct timespec now = {0};
    while (kevent(fd, NULL, 0, &e, 1, &now) > 0)
        ;
}

/* ---- Sockets ---- */

static int close_on_exec(const int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int one = 1;
        if (fcntl(fds[i], F_SETFD, FD_CLOEXEC) < 0 ||
            setsockopt(fds[i], SOL_SOCKET, SO_NOSIGPIPE, &one, sizeof(one)) < 0)
            return -errno;
    }
    return 0;
}

int os_socket_address(int dirfd, const char *name, struct sockaddr_un *ret)
{
    char path[MAXPATHLEN];
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (fcntl(dirfd, F_GETPATH, path) < 0)
        return -errno;
    int n = snprintf(ret->sun_path, sizeof(ret->sun_path), "%s/%s", path, name);
    return n < (int)sizeof(ret->sun_path) ? 0 : -ENAMETOOLONG;
}

int os_socket(int family, int type)
{
    CLEAN_FD int fd = socket(family, type, 0);
    int r = fd < 0 ? -errno : close_on_exec(&fd, 1);
    return r < 0 ? r : TAKE_FD(fd);
}

static int make_pair(int type, int ret[2])
{
    if (socketpair(AF_UNIX, type, 0, ret) < 0)
        return -errno;
    int r = close_on_exec(ret, 2);
    if (r < 0) {
        close(ret[0]);
        close(ret[1]);
    }
    return r;
}

int os_stream_pair(int ret[2])
{
    return make_pair(SOCK_STREAM, ret);
}

/* There is no SOCK_SEQPACKET in this family. */
int os_packet_pair(int ret[2])
{
    return make_pair(SOCK_DGRAM, ret);
}

int os_datagram_pair(int ret[2])
{
    return make_pair(SOCK_DGRAM, ret);
}

pid_t os_peer(int sock)
{
    pid_t pid = 0;
    socklen_t n = sizeof(pid);
    return getsockopt(sock, SOL_LOCAL, LOCAL_PEERPID, &pid, &n) < 0 ? 0 : pid;
}

int os_process_usage(pid_t pid, struct os_usage *ret)
{
    struct rusage_info_v0 u;
    mach_timebase_info_data_t ticks;
    if (proc_pid_rusage(pid, RUSAGE_INFO_V0, (rusage_info_t *)&u) != 0 || mach_timebase_info(&ticks) != 0)
        return -ESRCH;
    ret->cpu_ns = (u.ri_user_time + u.ri_system_time) * ticks.numer / ticks.denom;
    ret->resident_bytes = u.ri_resident_size;
    return 0;
}

/* ---- Time ---- */

int os_alarm_prepare(void (*handler)(int))
{
    struct sigaction sa = {.sa_handler = handler};
    sigemptyset(&sa.sa_mask);
    return sigaction(SIGALRM, &sa, NULL) < 0 ? -errno : 0;
}

void os_alarm(unsigned ms)
{
    const struct itimerval when = {.it_value = {.tv_sec = ms / 1000, .tv_usec = (int)(ms % 1000) * 1000}};
    setitimer(ITIMER_REAL, &when, NULL);
}

/* notify(3), and the name that <notify_keys.h> calls kNotifyClockSet. */
uint32_t notify_register_file_descriptor(const char *name, int *fd, int flags, int *ret_token);

int os_watch_clock(void)
{
    int fd = -1, token;
    if (notify_register_file_descriptor("com.apple.system.clock_set", &fd, 0, &token) != 0)
        return -ENOSYS;
    int r = fd_set_cloexec(fd, true);
    return r < 0 ? r : fd;
}

int os_clock_jumped(int fd, bool *ret)
{
    int token;
    *ret = read(fd, &token, sizeof(token)) == (ssize_t)sizeof(token);
    return *ret ? 0 : -EIO;
}
