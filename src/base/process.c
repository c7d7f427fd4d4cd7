#include "base/process.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/os.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* In the child, between fork and exec: only async-signal-safe calls. Returns -errno when something fails. */
static int child_setup(const struct process_opts *o, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int sig = 1; sig < NSIG; sig++)
        if (sig != SIGKILL && sig != SIGSTOP)
            signal(sig, SIG_DFL);
    if (o->new_session && setsid() < 0)
        return -errno;
    if (o->die_with_parent) {
        int r = os_die_with_parent();
        if (r < 0 && r != -ENOSYS)
            return r;
        if (getppid() != parent)
            _exit(127); /* the parent died before the request was in place */
    }
    if (o->cwd && chdir(o->cwd) < 0)
        return -errno;
    /* First move everything above 2, so that no dup2 overwrites a descriptor still needed. */
    int want[3] = {o->stdin_fd, o->stdout_fd, o->stderr_fd};
    for (int i = 0; i < 3; i++) {
        if (want[i] < 0)
            want[i] = open("/dev/null", (i ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
        if (want[i] >= 0 && want[i] < 3)
            want[i] = fcntl(want[i], F_DUPFD_CLOEXEC, 3);
        if (want[i] < 0)
            return -errno;
    }
    for (int i = 0; i < 3; i++)
        if (dup2(want[i], i) < 0)
            return -errno;
    /* Whatever was inherited or opened without O_CLOEXEC goes no further: a child has what is named here and nothing
     * else. */
    int r = os_close_on_exec();
    if (r < 0)
        return r;
    for (size_t i = 0; i < o->n_keep_fds; i++)
        if (fcntl(o->keep_fds[i], F_SETFD, 0) < 0)
            return -errno;
    return 0;
}

int process_start(const struct process_opts *opts, struct process *ret, struct mvm_error *err)
{
    int pipe_fds[2];
    int r = os_pipe(pipe_fds);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot start %s", opts->argv[0]);
    CLEAN_FD int read_end = pipe_fds[0];
    CLEAN_FD int write_end = pipe_fds[1];
    pid_t parent = opts->sibling ? getppid() : getpid();
    pid_t pid = os_fork(opts->cgroup_fd, opts->sibling);
    if (pid < 0 && opts->cgroup_fd > 0)
        return mvm_error_set(err, -EXDEV, "cannot start %s in its cgroup: %s", opts->argv[0], strerror(-pid));
    if (pid < 0)
        return mvm_error_errno(err, pid, "cannot start %s", opts->argv[0]);
    if (pid == 0) {
        r = child_setup(opts, parent);
        if (r == 0) {
            os_exec(opts->argv, opts->envp ? (char *const *)(uintptr_t)opts->envp : environ);
            r = -errno;
        }
        ssize_t n = write(write_end, &r, sizeof(r));
        (void)n;
        _exit(127);
    }
    fd_closep(&write_end);
    int child_error = 0;
    r = fd_read_all(read_end, &child_error, sizeof(child_error));
    if (r == 0) {
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
        return mvm_error_errno(err, child_error, "cannot start %s", opts->argv[0]);
    }
    int pidfd = os_watch_process(pid);
    if (pidfd < 0) {
        r = pidfd;
        kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
        return mvm_error_errno(err, r, "cannot watch %s", opts->argv[0]);
    }
    *ret = (struct process){.pid = pid, .pidfd = pidfd};
    return 0;
}

int process_wait(struct process *p, uint64_t deadline)
{
    while (!p->reaped) {
        struct pollfd pfd = {.fd = p->pidfd, .events = POLLIN};
        int n = poll(&pfd, 1, clock_left_ms(deadline));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -ETIMEDOUT;
        pid_t got = waitpid(p->pid, &p->status, WNOHANG);
        if (got == p->pid)
            p->reaped = true;
        else if (got < 0 && errno != EINTR)
            return -errno;
    }
    return 0;
}

int process_signal(struct process *p, int sig)
{
    if (p->pid == 0 || p->reaped)
        return -ESRCH;
    return os_signal_process(p->pidfd, p->pid, sig);
}

void process_done(struct process *p)
{
    if (p->pid && !p->reaped) {
        process_signal(p, SIGKILL);
        (void)!process_wait(p, 0);
    }
    fd_closep(&p->pidfd);
    *p = (struct process)PROCESS_INIT;
}

int process_exit_code(int status)
{
    if (WIFSIGNALED(status))
        return 128 + WTERMSIG(status);
    return WEXITSTATUS(status);
}

/* Keeps the newest bytes of a stream that nobody reads whole. */
static int append_tail(struct buf *b, const char *p, size_t n)
{
    if (n > b->max) {
        p += n - b->max;
        n = b->max;
    }
    if (b->len + n > b->max)
        buf_drop(b, b->len + n - b->max);
    return buf_append(b, p, n);
}

int process_capture(const struct process_opts *opts, struct buf *out, struct buf *errors, uint64_t deadline,
                    struct mvm_error *err)
{
    int fds[2][2] = {{-1, -1}, {-1, -1}};
    int r = os_pipe(fds[0]);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot start %s", opts->argv[0]);
    CLEAN_FD int out_r = fds[0][0];
    CLEAN_FD int out_w = fds[0][1];
    r = os_pipe(fds[1]);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot start %s", opts->argv[0]);
    CLEAN_FD int err_r = fds[1][0];
    CLEAN_FD int err_w = fds[1][1];
    struct process_opts o = *opts;
    o.stdout_fd = out_w;
    o.stderr_fd = err_w;
    CLEAN_PROCESS struct process p = PROCESS_INIT;
    r = process_start(&o, &p, err);
    if (r < 0)
        return r;
    fd_closep(&out_w);
    fd_closep(&err_w);
    while (out_r >= 0 || err_r >= 0) {
        struct pollfd pfd[2] = {{.fd = out_r, .events = POLLIN}, {.fd = err_r, .events = POLLIN}};
        int n = poll(pfd, 2, clock_left_ms(deadline));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return mvm_error_errno(err, n < 0 ? -errno : -ETIMEDOUT, "%s", opts->argv[0]);
        for (int i = 0; i < 2; i++) {
            if (!pfd[i].revents)
                continue;
            char chunk[65536];
            ssize_t got = read(pfd[i].fd, chunk, sizeof(chunk));
            if (got < 0 && errno == EINTR)
                continue;
            if (got <= 0) {
                fd_closep(i == 0 ? &out_r : &err_r);
                continue;
            }
            r = 0;
            if (i == 0 && out)
                r = buf_append(out, chunk, (size_t)got);
            else if (i == 1 && errors)
                r = append_tail(errors, chunk, (size_t)got);
            if (r < 0)
                return mvm_error_errno(err, r, "output of %s", opts->argv[0]);
        }
    }
    r = process_wait(&p, deadline);
    if (r < 0)
        return mvm_error_errno(err, r, "%s", opts->argv[0]);
    return process_exit_code(p.status);
}

const char **process_environment(const char *without, const char *add)
{
    size_t n = 0, to = 0, name_len = add ? strcspn(add, "=") + 1 : 0;
    while (environ[n])
        n++;
    const char **env = calloc(n + 2, sizeof(*env));
    for (size_t i = 0; env && i < n; i++) {
        if (without && strncmp(environ[i], without, strlen(without)) == 0)
            continue;
        if (add && strncmp(environ[i], add, name_len) == 0)
            add = NULL;
        env[to++] = environ[i];
    }
    if (env)
        env[to] = add;
    return env;
}

char *process_find(const char *name)
{
    if (strchr(name, '/'))
        return access(name, X_OK) == 0 ? strdup(name) : NULL;
    const char *path = getenv("PATH");
    if (!path || !*path)
        path = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
    while (*path) {
        size_t n = strcspn(path, ":");
        char full[4096];
        if (n && n + strlen(name) + 2 < sizeof(full)) {
            memcpy(full, path, n);
            full[n] = '/';
            memcpy(full + n + 1, name, strlen(name) + 1);
            if (access(full, X_OK) == 0)
                return strdup(full);
        }
        path += n;
        if (*path == ':')
            path++;
    }
    return NULL;
}
