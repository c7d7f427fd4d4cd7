/*
 * The image's services: started after MSG_CONFIGURE, their output in /run/mvm/log/NAME.log (capped) and, line by line,
 * in the agent's log; started again as guest.conf says, with a growing pause after failures.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/process.h"
#include "guest/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOG_CAP       (1u << 20)
#define MAX_LINE      1000
#define FIRST_PAUSE   100 /* ms */
#define LONGEST_PAUSE 30000
#define STEADY_MS     10000 /* who ran this long starts again without a pause */

struct service {
    const struct service_conf *conf;
    pid_t pid;
    int out;   /* its output's pipe */
    int timer; /* fires when it is to start again */
    int log;
    uint64_t log_size, started;
    unsigned pause_ms;
    struct buf line;
    uint8_t tag_out, tag_timer; /* addresses of these tell epoll events apart */
};

static struct service *services;
static size_t n_services;
static const struct guest_conf *guest;
static struct service_ops ops;
static int epoll;

static void watch(int fd, void *tag)
{
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = tag};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
}

static void open_log(struct service *s, int flags)
{
    char path[128];
    snprintf(path, sizeof(path), "/run/mvm/log/%s.log", s->conf->name);
    s->log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | flags, 0644);
    s->log_size = 0;
}

static void keep(struct service *s, const void *p, size_t n)
{
    if (s->log_size + n > LOG_CAP) {
        char path[128], old[136];
        snprintf(path, sizeof(path), "/run/mvm/log/%s.log", s->conf->name);
        snprintf(old, sizeof(old), "%s.1", path);
        rename(path, old);
        fd_closep(&s->log);
        open_log(s, O_TRUNC);
    }
    if (s->log >= 0 && fd_write_all(s->log, p, n) == 0)
        s->log_size += n;
}

static void say_line(struct service *s)
{
    char text[sizeof(((struct msg_log *)0)->text)];
    if (s->line.len == 0)
        return;
    snprintf(text, sizeof(text), "%s: %s", s->conf->name, buf_cstr(&s->line));
    ops.log(ops.data, text);
    buf_clear(&s->line);
}

static void on_output(struct service *s)
{
    char chunk[4096];
    ssize_t n = read(s->out, chunk, sizeof(chunk));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        say_line(s);
        epoll_ctl(epoll, EPOLL_CTL_DEL, s->out, NULL);
        fd_closep(&s->out);
        return;
    }
    keep(s, chunk, (size_t)n);
    for (ssize_t i = 0; i < n; i++) {
        if (chunk[i] == '\n')
            say_line(s);
        else if (chunk[i] && buf_append(&s->line, &chunk[i], 1) < 0)
            say_line(s);
    }
}

static void again_later(struct service *s)
{
    struct itimerspec when = {.it_value = {s->pause_ms / 1000, (long)(s->pause_ms % 1000) * 1000000 + 1}};
    timerfd_settime(s->timer, 0, &when, NULL);
    s->pause_ms = MIN_OF(s->pause_ms * 2, (unsigned)LONGEST_PAUSE);
}

static int spawn_service(struct service *s)
{
    struct user user;
    int fds[2];
    int r = user_load(&user, s->conf->user ? s->conf->user : "root");
    if (r < 0)
        return r;
    CLEAN_FD int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0 || pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    struct spawn sp = {
        .argv = s->conf->argv.v,
        .env = {&guest->env, &s->conf->env},
        .user = &user,
        .cwd = s->conf->cwd,
        .in = null,
        .out = fds[1],
        .err = fds[1],
    };
    pid_t pid = spawn_start(&sp);
    close(fds[1]);
    if (pid < 0) {
        close(fds[0]);
        return pid;
    }
    if (s->out >= 0) { /* a child of the one before still holds it */
        epoll_ctl(epoll, EPOLL_CTL_DEL, s->out, NULL);
        fd_closep(&s->out);
    }
    s->pid = pid;
    s->out = fds[0];
    s->started = clock_now();
    (void)!fd_set_nonblock(s->out, true);
    watch(s->out, &s->tag_out);
    return 0;
}

static void start(struct service *s)
{
    int r = s->conf->argv.n ? spawn_service(s) : -EINVAL;
    if (r == 0) {
        ops.state(ops.data, s->conf->name, "started", 0);
        return;
    }
    char text[256];
    snprintf(text, sizeof(text), "%s: cannot be started: %s", s->conf->name, strerror(-r));
    ops.log(ops.data, text);
    ops.state(ops.data, s->conf->name, "failed", r == -ENOENT ? 127 : 126);
    if (s->conf->restart != RESTART_NO)
        again_later(s);
}

void services_start(const struct guest_conf *conf, const struct service_ops *o, int epoll_fd)
{
    if (services) /* the host configured this guest a second time */
        return;
    guest = conf;
    ops = *o;
    epoll = epoll_fd;
    services = calloc(conf->n_services + 1, sizeof(*services));
    if (!services)
        return;
    n_services = conf->n_services;
    for (size_t i = 0; i < n_services; i++) {
        struct service *s = &services[i];
        *s = (struct service){
            .conf = &conf->services[i], .out = -1, .log = -1, .pause_ms = FIRST_PAUSE, .line = BUF_INIT(MAX_LINE)};
        s->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        if (s->timer >= 0)
            watch(s->timer, &s->tag_timer);
        open_log(s, 0);
        start(s);
    }
}

bool services_reaped(pid_t pid, int status)
{
    for (size_t i = 0; i < n_services; i++) {
        struct service *s = &services[i];
        if (s->pid != pid)
            continue;
        int code = process_exit_code(status);
        s->pid = 0;
        ops.state(ops.data, s->conf->name, code ? "failed" : "exited", code);
        if (clock_now() - s->started > STEADY_MS * NSEC_PER_MSEC)
            s->pause_ms = FIRST_PAUSE;
        if (s->conf->restart == RESTART_ALWAYS || (s->conf->restart == RESTART_ON_FAILURE && code))
            again_later(s);
        return true;
    }
    return false;
}

bool services_event(void *ptr)
{
    for (size_t i = 0; i < n_services; i++) {
        struct service *s = &services[i];
        uint64_t n;
        if (ptr == &s->tag_out && s->out >= 0)
            on_output(s);
        else if (ptr == &s->tag_timer && read(s->timer, &n, sizeof(n)) > 0 && s->pid == 0)
            start(s);
        if (ptr == &s->tag_out || ptr == &s->tag_timer)
            return true;
    }
    return false;
}
