#include "base/clock.h"
#include "base/fd.h"
#include "host/os.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
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
    return u.machine;
}

const char *os_self_exe(void)
{
    return "/proc/self/exe";
}

void os_set_name(const char *name)
{
    prctl(PR_SET_NAME, name);
}

unsigned os_cores(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 0;
}

/* The beginning of a file of procfs(5), without its end of line. */
static void read_text(const char *path, char *out, size_t size)
{
    CLEAN_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, out, size - 1);
    out[n > 0 ? n : 0] = '\0';
}

void os_cpu_model(char *out, size_t size)
{
    static const char key[] = "model name\t: ";
    char text[4096];
    read_text("/proc/cpuinfo", text, sizeof(text));
    const char *at = strstr(text, key);
    at = at ? at + strlen(key) : "";
    snprintf(out, size, "%.*s", (int)strcspn(at, "\n"), at);
}

void os_boot_id(char *out, size_t size)
{
    read_text("/proc/sys/kernel/random/boot_id", out, size);
    out[strcspn(out, "\n")] = '\0';
}

/* ---- Files ---- */

static int rename_with(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    return renameat2(from_dir, from, to_dir, to, flags) < 0 ? -errno : 0;
}

int os_rename_new(int from_dir, const char *from, int to_dir, const char *to)
{
    return rename_with(from_dir, from, to_dir, to, RENAME_NOREPLACE);
}

int os_rename_exchange(int from_dir, const char *from, int to_dir, const char *to)
{
    return rename_with(from_dir, from, to_dir, to, RENAME_EXCHANGE);
}

int os_reserve(int fd, off_t size)
{
    return fallocate(fd, 0, 0, size) < 0 ? -errno : 0;
}

int os_punch(int fd, off_t at, off_t n)
{
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, n) < 0 ? -errno : 0;
}

static void on_expired(int sig)
{
}

/* The signal that interrupts flock(2). Its handler is set once and stays, so that none that comes late, to whichever
 * thread, ends the process. */
static int expiry_signal(void)
{
    struct sigaction sa = {.sa_handler = on_expired};
    sigemptyset(&sa.sa_mask);
    sigaction(SIGRTMIN, &sa, NULL);
    return SIGRTMIN;
}

/*
 * flock(2) waits in the kernel, fairly and without polling, but knows no deadline: a timer's signal to this thread
 * interrupts it. The timer repeats, so that a signal that comes just before flock does not leave it without one.
 * Threads that wait at the same time have a timer each (timer_create(2), SIGEV_THREAD_ID).
 */
int os_lock_until(int fd, uint64_t deadline)
{
    timer_t timer;
    struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = expiry_signal()};
    ev._sigev_un._tid = gettid();
    if (timer_create(CLOCK_MONOTONIC, &ev, &timer) < 0)
        return -errno;
    struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(deadline / NSEC_PER_SEC), .tv_nsec = (long)(deadline % NSEC_PER_SEC)},
        .it_interval = {.tv_nsec = 50 * (long)NSEC_PER_MSEC},
    };
    timer_settime(timer, TIMER_ABSTIME, &when, NULL);
    int r = flock(fd, LOCK_EX) < 0 ? -errno : 0;
    timer_delete(timer);
    return r == -EINTR && clock_now() >= deadline ? -ETIMEDOUT : r;
}

int os_watch_folder(int dirfd)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", dirfd);
    CLEAN_FD int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd < 0 || inotify_add_watch(fd, path, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0)
        return -errno;
    return TAKE_FD(fd);
}

void os_watch_clear(int fd)
{
    char events[4096];
    while (read(fd, events, sizeof(events)) > 0)
        ;
}

/* ---- Sockets ---- */

/* As short as any, however long the folder's path is. */
int os_socket_address(int dirfd, const char *name, struct sockaddr_un *ret)
{
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n = snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/%s", dirfd, name);
    return n < (int)sizeof(ret->sun_path) ? 0 : -ENAMETOOLONG;
}

int os_socket(int family, int type)
{
    int fd = socket(family, type | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

int os_stream_pair(int ret[2])
{
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret) < 0 ? -errno : 0;
}

int os_packet_pair(int ret[2])
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret) < 0 ? -errno : 0;
}

int os_datagram_pair(int ret[2])
{
    return socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ret) < 0 ? -errno : 0;
}

pid_t os_peer(int sock)
{
    struct ucred peer = {0};
    socklen_t n = sizeof(peer);
    return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0 ? 0 : peer.pid;
}

/* proc(5): /proc/PID/stat, behind the name, which may have anything in it. */
int os_process_usage(pid_t pid, struct os_usage *ret)
{
    char path[64], text[1024];
    unsigned long long user, kernel, pages;
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    read_text(path, text, sizeof(text));
    const char *at = strrchr(text, ')');
    if (!at ||
        sscanf(at, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %*u %*u %llu",
               &user, &kernel, &pages) != 3)
        return -ESRCH;
    ret->cpu_ns = (user + kernel) * (NSEC_PER_SEC / (uint64_t)sysconf(_SC_CLK_TCK));
    ret->resident_bytes = pages * (uint64_t)sysconf(_SC_PAGESIZE);
    return 0;
}

/* ---- Time ---- */

static timer_t alarm_timer;

/* The second real-time signal: the first is the one that locks use. */
int os_alarm_prepare(void (*handler)(int))
{
    struct sigaction sa = {.sa_handler = handler};
    sigemptyset(&sa.sa_mask);
    struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1};
    if (sigaction(SIGRTMIN + 1, &sa, NULL) < 0 || timer_create(CLOCK_MONOTONIC, &ev, &alarm_timer) < 0)
        return -errno;
    return 0;
}

/* signal-safety(7) has timer_settime. */
void os_alarm(unsigned ms)
{
    const struct itimerspec when = {.it_value = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * (long)NSEC_PER_MSEC}};
    timer_settime(alarm_timer, 0, &when, NULL);
}

/* A timer that never expires, and is cancelled by what is waited for: timerfd_create(2), TFD_TIMER_CANCEL_ON_SET; Linux
 * cancels it when it wakes up, too (fs/timerfd.c, timerfd_resume). */
static int arm(int fd)
{
    const struct itimerspec never = {.it_value = {.tv_sec = INT32_MAX}};
    return timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL) < 0 ? -errno : 0;
}

int os_watch_clock(void)
{
    CLEAN_FD int fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    int r = fd < 0 ? -errno : arm(fd);
    return r < 0 ? r : TAKE_FD(fd);
}

int os_clock_jumped(int fd, bool *ret)
{
    uint64_t n;
    *ret = read(fd, &n, sizeof(n)) < 0 && errno == ECANCELED;
    return arm(fd);
}
