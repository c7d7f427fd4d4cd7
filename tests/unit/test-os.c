/* What mvm wants of the operating system (base/os.h, host/os.h), whichever file of it has the calls. */
#include "tap.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "host/os.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *top;
static int folder = -1;

static bool closes_on_exec(int fd)
{
    return fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

static int put(const char *name, const char *text)
{
    CLEAN_FD int fd = openat(folder, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    return fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
}

static bool has(const char *name, const char *text)
{
    CLEAN_BUF struct buf b = BUF_INIT(4096);
    return path_read_file(folder, name, &b, NULL) == 0 && strcmp(buf_cstr(&b), text) == 0;
}

static bool is_readable(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, ms) == 1;
}

/* ---- Files ---- */

static void test_beneath(void)
{
    if (mkdirat(folder, "sub", 0700) < 0 || put("sub/file", "x") < 0 || symlinkat("sub", folder, "link") < 0 ||
        symlinkat("file", folder, "sub/link") < 0)
        abort();
    CLEAN_FD int fd = os_open_beneath(folder, "sub/file", O_RDONLY, 0);
    ok(closes_on_exec(fd), "a file below a folder is opened, and not inherited");
    CLEAN_FD int sub = openat(folder, "sub", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    static const struct {
        const char *path, *what;
    } bad[] = {{"link/file", "a symlink to a folder is not followed"},
               {"sub/link", "a symlink to a file is not followed"},
               {"../x", "a path does not lead out of its folder"},
               {"/etc/passwd", "an absolute path does not lead out of its folder"}};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        ok(os_open_beneath(folder, bad[i].path, O_RDONLY, 0) < 0, "%s", bad[i].what);
    ok(os_open_beneath(sub, "../sub/file", O_RDONLY, 0) < 0, "a path that comes back is refused too");
    ok(os_open_beneath(folder, "sub/none", O_RDONLY, 0) == -ENOENT, "a file that is not there says so");
}

static void test_unnamed(void)
{
    CLEAN_FD int fd = os_open_unnamed(folder, "sub", 0600);
    if (fd == -EOPNOTSUPP) {
        ok(true, "this file system has no unnamed files");
        return;
    }
    ok(closes_on_exec(fd) && fd_write_all(fd, "new", 3) == 0 && os_name_file(fd, folder, "named") == 0 &&
           has("named", "new"),
       "a file without a name gets one when it is whole");
    CLEAN_FD int other = os_open_unnamed(folder, "sub", 0600);
    ok(os_name_file(other, folder, "named") == -EEXIST && has("named", "new"), "a name that is taken stays what it is");
}

static void test_renames(void)
{
    if (put("a", "A") < 0 || put("b", "B") < 0)
        abort();
    ok(os_rename_new(folder, "a", folder, "b") == -EEXIST && has("a", "A") && has("b", "B"),
       "a rename replaces nothing");
    ok(os_rename_exchange(folder, "a", folder, "b") == 0 && has("a", "B") && has("b", "A"), "two files change places");
    ok(os_rename_exchange(folder, "a", folder, "none") == -ENOENT && has("a", "B"),
       "with nothing no file changes places");
    ok(os_rename_new(folder, "a", folder, "c") == 0 && has("c", "B") && faccessat(folder, "a", F_OK, 0) < 0,
       "a rename to a free name");
}

static uint64_t allocated(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

static void test_room(void)
{
    CLEAN_FD int fd = openat(folder, "disk", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct stat st;
    uint8_t bytes[2] = {1, 1};
    int r = os_reserve(fd, 1 << 20);
    ok(r == -EOPNOTSUPP || (r == 0 && fstat(fd, &st) == 0 && st.st_size == 1 << 20 && allocated(fd) >= 1 << 20),
       "a file gets a size and the room for it");
    if (ftruncate(fd, 1 << 20) < 0 || fd_pwrite_all(fd, "xy", 2, 65535) < 0)
        abort();
    uint64_t before = allocated(fd);
    r = os_punch(fd, 65536, 65536);
    ok(r == -EOPNOTSUPP || (r == 0 && fd_pread_all(fd, bytes, 2, 65535) == 0 && bytes[0] == 'x' && bytes[1] == 0 &&
                            fstat(fd, &st) == 0 && st.st_size == 1 << 20 && allocated(fd) < before),
       "a part of a file becomes a hole, of zeros, and the file keeps its size");
    CLEAN_FD int from = openat(folder, "c", O_RDONLY | O_CLOEXEC);
    CLEAN_FD int to = openat(folder, "copy", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ssize_t n = os_copy_range(from, to, 0, 100);
    ok(n == -EOPNOTSUPP || (n == 1 && has("copy", "B")), "the kernel copies what there is of a range");
}

static void test_lock(void)
{
    CLEAN_FD int one = openat(folder, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CLEAN_FD int two = openat(folder, "lock", O_RDWR | O_CLOEXEC);
    ok(os_lock_until(one, clock_deadline(1000)) == 0, "a free lock is taken");
    uint64_t start = clock_now();
    ok(os_lock_until(two, clock_deadline(100)) == -ETIMEDOUT && clock_now() - start >= 100 * NSEC_PER_MSEC,
       "a lock that is held is waited for until the deadline");
    fd_closep(&one);
    ok(os_lock_until(two, clock_deadline(1000)) == 0, "a lock is free when its holder closes it");
}

static void test_watch(void)
{
    CLEAN_FD int fd = os_watch_folder(folder);
    ok(closes_on_exec(fd) && !is_readable(fd, 0), "a folder in which nothing changes is silent");
    if (put("news", "x") < 0)
        abort();
    ok(is_readable(fd, 5000), "a file that comes is told");
    os_watch_clear(fd);
    ok(!is_readable(fd, 0), "once it was seen there is silence again");
    if (put("news", "more") < 0)
        abort();
    ok(is_readable(fd, 5000), "a file that is written to is told");
}

/* ---- Processes ---- */

static void test_processes(void)
{
    pid_t pid = os_fork(0, false);
    if (pid == 0) {
        for (;;)
            pause();
    }
    CLEAN_FD int watch = os_watch_process(pid);
    int status;
    ok(pid > 0 && closes_on_exec(watch) && !is_readable(watch, 0), "a child that lives is no event");
    ok(os_signal_process(watch, pid, 0) == 0 && os_signal_process(watch, pid, SIGKILL) == 0 &&
           is_readable(watch, 10000),
       "a child that ends is one, before it is waited for");
    ok(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
       "its signal is told then");
    ok(os_signal_process(watch, pid, SIGKILL) == -ESRCH, "a process that is gone is not signalled in another's place");
    pid = os_fork(folder, false);
    if (pid == 0)
        _exit(0);
    ok(pid < 0, "a folder that is no cgroup has no child born in it");
    if (pid > 0)
        waitpid(pid, &status, 0);
    pid = os_fork(0, false);
    if (pid == 0) {
        int fds[2];
        bool good = os_pipe(fds) == 0 && os_close_from(3) == 0 && fcntl(fds[0], F_GETFD) < 0 && fcntl(1, F_GETFD) >= 0;
        _exit(good ? 0 : 1);
    }
    ok(waitpid(pid, &status, 0) == pid && status == 0, "descriptors are closed from a number on");
    pid = os_fork(0, false);
    if (pid == 0) {
        static const char *const argv[] = {"sh", "-c", "exit $CODE", NULL};
        char variable[] = "CODE=7";
        char *env[] = {variable, NULL};
        os_exec(argv, env);
        _exit(1);
    }
    ok(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7,
       "a program is found in PATH, and has the environment that it is given");
}

/* ---- Sockets ---- */

static void test_sockets(void)
{
    int stream[2], packets[2], pipes[2];
    char text[16];
    if (os_stream_pair(stream) < 0 || os_packet_pair(packets) < 0 || os_pipe(pipes) < 0)
        abort();
    CLEAN_FD int single = os_socket(AF_UNIX, SOCK_STREAM);
    ok(closes_on_exec(stream[0]) && closes_on_exec(stream[1]) && closes_on_exec(packets[0]) &&
           closes_on_exec(packets[1]) && closes_on_exec(pipes[0]) && closes_on_exec(pipes[1]) && closes_on_exec(single),
       "no socket and no pipe is inherited");
    ok(write(packets[0], "one", 3) == 3 && write(packets[0], "two!", 4) == 4 && read(packets[1], text, 16) == 3 &&
           read(packets[1], text, 16) == 4,
       "each packet is received whole");
    close(packets[0]);
    ok(read(packets[1], text, 16) <= 0, "a packet socket whose other end is gone has ended");
    close(packets[1]);
    struct os_usage before, after;
    uint64_t spent = 0;
    if (os_process_usage(getpid(), &before) < 0)
        abort();
    do {
        struct timespec t;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        spent = (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
    } while (spent < before.cpu_ns + NSEC_PER_SEC / 10);
    ok(os_process_usage(getpid(), &after) == 0 && after.cpu_ns > before.cpu_ns &&
           after.cpu_ns <= spent + NSEC_PER_SEC / 2 && after.resident_bytes > 64 * 1024,
       "what a process uses is known");
    ok(os_process_usage(0x3fffffff, &after) == -ESRCH, "of what is no process nothing is");
    ok(os_peer(stream[0]) == getpid(), "the process at the other end is known");
    ok(os_peer(pipes[0]) == 0, "of what is no socket none is");
    for (int i = 0; i < 2; i++) {
        close(stream[i]);
        close(pipes[i]);
    }
}

/* ---- This machine ---- */

static void test_machine(void)
{
    char self[4096], small[4], boot[64], again[64], model[128];
    ok(os_self_path(self, sizeof(self)) == 0 && self[0] == '/' && strstr(self, "test-os"), "a program knows its path");
    ok(os_self_path(small, sizeof(small)) < 0 || small[sizeof(small) - 1] == '\0',
       "a path that does not fit overruns nothing");
    os_boot_id(boot, sizeof(boot));
    os_boot_id(again, sizeof(again));
    ok(strcmp(boot, again) == 0 && !strchr(boot, '\n'), "a boot has one name, in one line");
    os_cpu_model(model, sizeof(model));
    ok(!strchr(model, '\n') && os_cores() >= 1, "a machine has processors");
    ok(strcmp(os_arch(), "x86_64") == 0 || strcmp(os_arch(), "aarch64") == 0, "and one of two architectures");
}

static volatile sig_atomic_t alarms;

static void on_alarm(int sig)
{
    alarms++;
}

static void test_time(void)
{
    bool jumped = true;
    CLEAN_FD int fd = os_watch_clock();
    ok(closes_on_exec(fd) && !is_readable(fd, 0) && os_clock_jumped(fd, &jumped) == 0 && !jumped,
       "a clock that nobody sets does not jump");
    ok(os_alarm_prepare(on_alarm) == 0 && alarms == 0, "an alarm that is prepared does not ring");
    os_alarm(20);
    for (uint64_t until = clock_deadline(5000); !alarms && clock_now() < until;)
        (void)!poll(NULL, 0, 10);
    ok(alarms == 1, "one that is set rings once");
}

int main(void)
{
    top = tap_folder();
    folder = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    test_beneath();
    test_unnamed();
    test_renames();
    test_room();
    test_lock();
    test_watch();
    test_processes();
    test_sockets();
    test_machine();
    test_time();
    close(folder);
    (void)!path_remove_tree(AT_FDCWD, top);
    return tap_end();
}
