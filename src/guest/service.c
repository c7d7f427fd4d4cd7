/*
 * The image's services: started after MSG_CONFIGURE, what they print logged (servicelog.h); started again as guest.conf
 * says, with a growing pause after failures, until too many of them came one after the other.
 *
 * Whether they are ready: without `ready` a service is so when it has been executed, else when what guest.conf names
 * answers (ready.h). One that has failed counts as such until it is ready again or, without `ready`, has run for a
 * while. All of them together are `starting` until each has become ready or was given up; from then on they are ready
 * or failed.
 */
#include "guest/service.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/process.h"
#include "guest/conf.h"
#include "guest/oom.h"
#include "guest/ready.h"
#include "guest/servicelog.h"
#include "guest/spawn.h"
#include "wire/msg.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define SETTLE_MS     900
#define FIRST_PAUSE   100 /* ms */
#define LONGEST_PAUSE 30000
#define STEADY_MS     10000 /* who ran this long starts again without a pause */
#define GIVE_UP       5     /* failures in a row, each within that time */
#define FIRST_ASK     20    /* ms: when a port or command is asked for, then twice as late each time */
#define LAST_ASK      1000
#define WHY_SIZE      200

struct service {
    const struct service_conf *conf;
    enum { STARTING, READY, ENDED, FAILING, GIVEN_UP } state; /* FAILING: it is started again */
    bool unanswered;                                          /* what `ready` says has not come since it was started */
    pid_t pid;
    pid_t asking; /* the command of `ready` */
    int out;      /* its output's pipe */
    int timer;    /* while it does not run: start it; while it is not ready: ask; else: it is steady */
    int notify;
    uint64_t started;
    unsigned pause_ms, ask_ms;
    unsigned failures;      /* in a row */
    char why[WHY_SIZE];     /* of the last one */
    char unasked[WHY_SIZE]; /* why the command of `ready` cannot be started; "" where it can */
    struct servicelog log;
    uint8_t tag_out, tag_timer, tag_notify; /* addresses of these tell epoll events apart */
};

static struct service *services;
static size_t n_services;
static const struct guest_conf *guest;
static struct service_ops ops;
static int epoll;
static char unread[200];        /* why guest.conf gives no services */
static struct msg_services all; /* as it was said last */
static bool settled, reporting;
static int settle_timer = -1; /* when to say what was left out of the logs; its address is its tag */
static bool settling;

static void watch(int fd, void *tag)
{
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = tag};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
}

static void arm(struct service *s, unsigned ms)
{
    struct itimerspec when = {.it_value = {ms / 1000, (long)(ms % 1000) * 1000000 + 1}};
    timerfd_settime(s->timer, 0, &when, NULL);
}

/* ---- What it prints ---- */

static void forget_output(struct service *s)
{
    epoll_ctl(epoll, EPOLL_CTL_DEL, s->out, NULL);
    fd_closep(&s->out);
}

static void settle_later(void)
{
    const struct itimerspec when = {.it_value = {.tv_nsec = SETTLE_MS * NSEC_PER_MSEC}};
    if (!settling)
        settling = timerfd_settime(settle_timer, 0, &when, NULL) == 0;
}

static void settle_logs(void)
{
    settling = false;
    for (size_t i = 0; i < n_services; i++)
        servicelog_settle(&services[i].log);
}

static void on_output(struct service *s)
{
    char chunk[4096];
    ssize_t n = read(s->out, chunk, sizeof(chunk));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0) {
        servicelog_take(&s->log, chunk, (size_t)n);
    } else {
        servicelog_end(&s->log);
        forget_output(s);
    }
    if (s->log.left_out)
        settle_later();
}

/* ---- All of them together ---- */

static void describe_wait(const struct service *s, char *out, size_t size)
{
    const char *name = s->conf->name;
    if (s->state == FAILING)
        snprintf(out, size, "service %s %s", name, s->why);
    else if (s->conf->ready == READY_PORT)
        snprintf(out, size, "service %s does not listen on port %u", name, s->conf->ready_port);
    else if (s->unasked[0])
        snprintf(out, size, "service %s: its `ready` command %s", name, s->unasked);
    else if (s->conf->ready == READY_COMMAND)
        snprintf(out, size, "service %s: its command says that it is not ready", name);
    else
        snprintf(out, size, "service %s has not said READY=1", name);
}

static bool is_waited_for(const struct service *s)
{
    return s->conf->ready != READY_EXECUTED && (s->state == STARTING || s->state == FAILING);
}

static struct msg_services add_up(void)
{
    struct msg_services m = {0};
    enum services_state state = SERVICES_READY;
    const struct service *waits = NULL, *failed = NULL;
    for (size_t i = n_services; i-- > 0;) {
        if (is_waited_for(&services[i]))
            waits = &services[i];
        if (services[i].state == FAILING || services[i].state == GIVEN_UP)
            failed = &services[i];
    }
    settled |= !waits;
    if (unread[0]) {
        state = SERVICES_FAILED;
        snprintf(m.problem, sizeof(m.problem), "%s", unread);
    } else if (waits && (!settled || !failed)) {
        state = SERVICES_STARTING;
        describe_wait(waits, m.problem, sizeof(m.problem));
    } else if (failed) {
        state = SERVICES_FAILED;
        snprintf(m.problem, sizeof(m.problem), "service %s %s%s", failed->conf->name, failed->why,
                 failed->state == FAILING ? ", and is started again" : "");
    }
    snprintf(m.state, sizeof(m.state), "%s", services_state_name(state));
    return m;
}

void services_report(bool anew)
{
    reporting |= anew;
    if (!reporting) /* not all have been started yet */
        return;
    struct msg_services m = add_up();
    if (!anew && strcmp(m.state, all.state) == 0 && strcmp(m.problem, all.problem) == 0)
        return;
    all = m;
    ops.all(ops.data, &m);
}

/* ---- Being ready ---- */

static void became_ready(struct service *s)
{
    s->unanswered = false;
    s->state = READY;
    if (s->conf->ready != READY_EXECUTED)
        ops.state(ops.data, s->conf->name, "ready", 0);
    services_report(false);
}

static void ask_later(struct service *s)
{
    arm(s, s->ask_ms);
    s->ask_ms = MIN_OF(s->ask_ms * 2, (unsigned)LAST_ASK);
}

/* The pid, or minus the exit status that a shell has where it cannot be started; why is said then. */
static pid_t spawn(const struct service *s, char *const *argv, int in, int out, char why[static WHY_SIZE])
{
    static const char start[] = "cannot be started: ";
    struct spawn_failure failure = {0};
    struct user user;
    const char *who = s->conf->user ? s->conf->user : "root";
    if (user_load(&user, who) < 0) {
        snprintf(why, WHY_SIZE, "%sno user '%.40s' in the guest", start, who);
        return -126;
    }
    const struct spawn sp = {
        .argv = argv,
        .env = {&guest->env, &s->conf->env},
        .user = &user,
        .cwd = s->conf->cwd,
        .in = in,
        .out = out,
        .err = out,
        .failure = &failure,
    };
    pid_t pid = spawn_start(&sp);
    if (pid > 0)
        return pid;
    strcpy(why, start);
    return -spawn_describe(&sp, pid, why + sizeof(start) - 1, WHY_SIZE - sizeof(start) + 1);
}

/* The command of `ready` is run again and again, once at a time, as the service is. */
static void ask(struct service *s)
{
    if (s->conf->ready == READY_PORT && ready_port(s->conf->ready_port)) {
        became_ready(s);
        return;
    }
    if (s->conf->ready == READY_COMMAND && s->conf->ready_argv.n) {
        CLEAN_FD int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        pid_t pid = spawn(s, s->conf->ready_argv.v, null, null, s->unasked);
        s->asking = MAX_OF(pid, 0);
        if (pid > 0)
            s->unasked[0] = '\0';
    }
    if (!s->asking) {
        ask_later(s);
        services_report(false);
    }
}

static void on_answer(struct service *s, int code)
{
    s->asking = 0;
    if (s->pid && s->unanswered && code == 0)
        became_ready(s);
    else if (s->pid && s->unanswered)
        ask_later(s);
}

/* ---- Its life ---- */

static void again_later(struct service *s)
{
    arm(s, s->pause_ms);
    s->pause_ms = MIN_OF(s->pause_ms * 2, (unsigned)LONGEST_PAUSE);
}

/* It ended with that code, or could not be started; s->why says so. */
static void ended(struct service *s, int code, bool steady)
{
    bool again = s->conf->restart == RESTART_ALWAYS || (s->conf->restart == RESTART_ON_FAILURE && code);
    if (s->asking)
        kill(-s->asking, SIGKILL);
    if (steady) {
        s->pause_ms = FIRST_PAUSE;
        s->failures = 0;
    }
    if (code == 0 && !s->unanswered) {
        s->state = ENDED;
        s->failures = 0;
    } else {
        s->state = ++s->failures < GIVE_UP && again ? FAILING : GIVEN_UP;
    }
    if (s->state == GIVEN_UP && again) {
        size_t n = strlen(s->why);
        snprintf(s->why + n, sizeof(s->why) - n, ", %u times in a row", s->failures);
        servicelog_say(&s->log, "is not started again");
    } else if (again) {
        again_later(s);
    }
    services_report(false);
}

/* 0, or the exit status that a shell has for what s->why says. */
static int spawn_service(struct service *s)
{
    int fds[2];
    CLEAN_FD int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    snprintf(s->why, sizeof(s->why), "cannot be started");
    if (s->conf->argv.n == 0)
        return 126;
    if (null < 0 || pipe2(fds, O_CLOEXEC) < 0) {
        snprintf(s->why, sizeof(s->why), "cannot be started: %s", strerror(errno));
        return 126;
    }
    pid_t pid = spawn(s, s->conf->argv.v, null, fds[1], s->why);
    close(fds[1]);
    if (pid < 0) {
        close(fds[0]);
        return -pid;
    }
    if (s->out >= 0) /* a child of the one before still holds it */
        forget_output(s);
    s->pid = pid;
    s->out = fds[0];
    s->started = clock_now();
    (void)!fd_set_nonblock(s->out, true);
    watch(s->out, &s->tag_out);
    return 0;
}

static void start(struct service *s)
{
    s->unanswered = s->conf->ready != READY_EXECUTED;
    int code = spawn_service(s);
    if (code) {
        servicelog_say(&s->log, s->why);
        ops.state(ops.data, s->conf->name, "failed", code);
        ended(s, code, false);
        return;
    }
    ops.state(ops.data, s->conf->name, "started", 0);
    s->ask_ms = FIRST_ASK;
    if (s->unanswered && s->conf->ready != READY_NOTIFY)
        ask_later(s);
    else if (!s->unanswered && s->state == FAILING)
        arm(s, STEADY_MS);
    else if (!s->unanswered)
        s->state = READY;
}

static void on_timer(struct service *s)
{
    if (s->pid == 0)
        start(s);
    else if (s->unanswered)
        ask(s);
    else if (s->state == FAILING)
        became_ready(s);
}

void services_prepare(const struct service_ops *o, const char *problem)
{
    ops = *o;
    snprintf(unread, sizeof(unread), "%s", problem);
}

bool services_expected(const struct guest_conf *conf)
{
    return conf->n_services || unread[0];
}

bool services_slow(const struct guest_conf *conf)
{
    bool slow = unread[0];
    for (size_t i = 0; i < conf->n_services; i++)
        slow |= conf->services[i].ready != READY_EXECUTED;
    return slow;
}

static void begin(struct service *s, const struct service_conf *conf)
{
    *s = (struct service){.conf = conf, .out = -1, .notify = -1, .pause_ms = FIRST_PAUSE};
    s->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (s->timer >= 0)
        watch(s->timer, &s->tag_timer);
    if (conf->ready == READY_NOTIFY)
        s->notify = ready_notify_open(READY_NOTIFY_DIR, conf->name);
    if (s->notify >= 0)
        watch(s->notify, &s->tag_notify);
    servicelog_open(&s->log, conf->name, guest->n_services, ops.log, ops.data);
    start(s);
}

void services_start(const struct guest_conf *conf, int epoll_fd)
{
    if (services) /* the host configured this guest a second time */
        return;
    guest = conf;
    epoll = epoll_fd;
    services = calloc(conf->n_services + 1, sizeof(*services));
    if (!services) {
        snprintf(unread, sizeof(unread), "no memory for the services");
        return;
    }
    settle_timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (settle_timer >= 0)
        watch(settle_timer, &settle_timer);
    for (size_t i = 0; i < conf->n_services; i++)
        begin(&services[i], &conf->services[i]);
    n_services = conf->n_services;
}

static void on_end(struct service *s, int status)
{
    const pid_t pid = s->pid;
    int code = process_exit_code(status);
    bool steady = clock_now() - s->started > STEADY_MS * NSEC_PER_MSEC;
    s->pid = 0;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && oom_killed(pid))
        snprintf(s->why, sizeof(s->why), "was killed by signal 9 (KILL): the guest ran out of memory");
    else if (WIFSIGNALED(status))
        snprintf(s->why, sizeof(s->why), "was killed by signal %d", WTERMSIG(status));
    else
        snprintf(s->why, sizeof(s->why), "ended with status %d%s", code, s->unanswered ? " before it was ready" : "");
    ops.state(ops.data, s->conf->name, code ? "failed" : "exited", code);
    ended(s, code, steady);
}

bool services_reaped(pid_t pid, int status)
{
    for (size_t i = 0; i < n_services; i++) {
        struct service *s = &services[i];
        if (s->pid == pid)
            on_end(s, status);
        else if (s->asking == pid)
            on_answer(s, process_exit_code(status));
        else
            continue;
        return true;
    }
    return false;
}

bool services_event(void *ptr)
{
    uint64_t n;
    if (ptr == &settle_timer) {
        if (read(settle_timer, &n, sizeof(n)) > 0)
            settle_logs();
        return true;
    }
    for (size_t i = 0; i < n_services; i++) {
        struct service *s = &services[i];
        if (ptr == &s->tag_out && s->out >= 0)
            on_output(s);
        else if (ptr == &s->tag_timer && read(s->timer, &n, sizeof(n)) > 0)
            on_timer(s);
        else if (ptr == &s->tag_notify && ready_notify_read(s->notify) && s->unanswered && s->pid)
            became_ready(s);
        if (ptr == &s->tag_out || ptr == &s->tag_timer || ptr == &s->tag_notify)
            return true;
    }
    return false;
}
