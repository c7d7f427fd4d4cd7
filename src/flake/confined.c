#include "base/clock.h"
#include "base/fd.h"
#include "base/os.h"
#include "flake/confine.h"
#include "host/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEADLINE_MS 60000
#define CHUNK       65536
#define MEMORY_MAX  (1ull << 30) /* bytes that a child may allocate */

/* What the child says: this, and where code is 0 the answer behind it. */
struct verdict {
    int code;
    char msg[1536];
    char hint[512];
};

#define PIPE_FD 3

/* Leaves nothing open but the pipe to the parent and what was named. */
static int close_others(int pipe_fd, int named)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    /* Above all targets, so that none is overwritten before its turn. */
    const int from[] = {null, null, null, pipe_fd, named};
    int high[ARRAY_SIZE(from)];
    unsigned n = named < 0 ? CONFINED_FD : CONFINED_FD + 1;
    for (unsigned i = 0; i < n; i++)
        if ((high[i] = fcntl(from[i], F_DUPFD_CLOEXEC, CONFINED_FD + 1)) < 0)
            return -errno;
    for (unsigned i = 0; i < n; i++)
        if (dup2(high[i], (int)i) < 0)
            return -errno;
    return os_close_from(n);
}

/* A packed object says how large it becomes, and an index may be as large as the disk. The address sanitizer's own
 * memory would count. */
static int bound_memory(void)
{
#ifdef __SANITIZE_ADDRESS__
    return 0;
#else
    const struct rlimit most = {MEMORY_MAX, MEMORY_MAX};
    return setrlimit(RLIMIT_DATA, &most) < 0 ? -errno : 0;
#endif
}

static void child(const struct confined_work *w, int fd, size_t max) __attribute__((noreturn));
static void child(const struct confined_work *w, int fd, size_t max)
{
    struct mvm_error err = MVM_ERROR_INIT;
    struct buf out = BUF_INIT(max);
    struct verdict v = {0};
    (void)!os_die_with_parent();
    signal(SIGPIPE, SIG_DFL);
    v.code = close_others(fd, w->fd);
    fd = v.code == 0 ? PIPE_FD : fd;
    if (v.code == 0 && w->prepare)
        v.code = w->prepare(&err);
    if (v.code == 0) {
        v.code = bound_memory();
        if (v.code == 0)
            v.code = confine_reader(w->folders, w->n_folders);
        if (v.code < 0)
            mvm_error_errno(&err, v.code, "cannot confine the reader of the flake's repository");
    }
    if (v.code == 0)
        v.code = w->work(w->data, &out, &err);
    snprintf(v.msg, sizeof(v.msg), "%s", err.msg);
    snprintf(v.hint, sizeof(v.hint), "%s", err.hint);
    if (fd_write_all(fd, &v, sizeof(v)) == 0 && v.code == 0)
        (void)!fd_write_all(fd, out.data, out.len);
    _exit(0);
}

/* Everything the child says, until it closes the pipe. */
static int listen_to(int fd, struct buf *heard, struct mvm_error *err)
{
    uint64_t deadline = clock_deadline(DEADLINE_MS);
    for (;;) {
        struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}, {.fd = interrupt_fd(), .events = POLLIN}};
        int n = poll(fds, 2, clock_left_ms(deadline));
        if (interrupt_pending())
            return mvm_error_set(err, -EINTR, "interrupted");
        if (n == 0)
            return mvm_error_set(err, -ETIMEDOUT, "the flake's repository could not be read within a minute");
        if (n < 0 || !fds[0].revents)
            continue;
        ssize_t got = buf_read(heard, fd, MIN_OF((size_t)CHUNK, heard->max - heard->len));
        if (got <= 0)
            return got < 0 ? mvm_error_errno(err, (int)got, "reading the flake's repository") : 0;
    }
}

static int judge(const struct buf *heard, int status, struct buf *out, struct mvm_error *err)
{
    struct verdict v;
    if (heard->len < sizeof(v)) {
        if (WIFSIGNALED(status))
            return mvm_error_set(err, -EIO, "the reader of the flake's repository was ended by signal %d",
                                 WTERMSIG(status));
        return mvm_error_set(err, -EIO, "the reader of the flake's repository said nothing");
    }
    memcpy(&v, heard->data, sizeof(v));
    v.msg[sizeof(v.msg) - 1] = v.hint[sizeof(v.hint) - 1] = '\0';
    if (v.code < 0) {
        mvm_error_set(err, v.code, "%s", v.msg);
        if (v.hint[0])
            mvm_error_hint(err, "%s", v.hint);
        return v.code;
    }
    int r = buf_append(out, heard->data + sizeof(v), heard->len - sizeof(v));
    return r < 0 ? mvm_error_errno(err, r, "the flake's repository") : 0;
}

int confined_run(const struct confined_work *w, struct buf *out, struct mvm_error *err)
{
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return mvm_error_errno(err, -errno, "pipe");
    CLEAN_FD int from = pipe_fds[0];
    CLEAN_FD int to = pipe_fds[1];
    pid_t pid = fork();
    if (pid < 0)
        return mvm_error_errno(err, -errno, "fork");
    if (pid == 0)
        child(w, to, out->max);
    fd_closep(&to);
    CLEAN_BUF struct buf heard = BUF_INIT(out->max + sizeof(struct verdict) + 1);
    int status = 0;
    int r = listen_to(from, &heard, err);
    if (r < 0)
        kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return r < 0 ? r : judge(&heard, status, out, err);
}
