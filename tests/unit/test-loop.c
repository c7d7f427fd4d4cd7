/*
 * What the supervisor's loop watches besides its connections: a guest that costs too much, one that has halted, one
 * that nobody uses, and the host's own clock. No loop runs here: the test fires the timers itself, and the clock is its
 * own
 * (--wrap, see meson.build).
 */
#include "tap.h"

#include "base/clock.h"
#include "supervisor/guard.h"
#include "supervisor/halt.h"
#include "supervisor/hostclock.h"
#include "supervisor/idle_pause.h"
#include "wire/msg.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

static uv_loop_t loop;

/* ---- The test's clock and timers ---- */

static uint64_t now = 1000 * NSEC_PER_SEC;

uint64_t __wrap_clock_now(void);
uint64_t __wrap_clock_now(void)
{
    return now;
}

static bool waits(const uv_timer_t *t, uint64_t ms)
{
    return uv_is_active((const uv_handle_t *)t) && uv_timer_get_due_in(t) == ms;
}

/* The timer's time has come. */
static void fire(uv_timer_t *t)
{
    now += uv_timer_get_due_in(t) * NSEC_PER_MSEC;
    uv_timer_stop(t);
    t->timer_cb(t);
}

static void close_timer(uv_timer_t *t)
{
    uv_close((uv_handle_t *)t, NULL);
    uv_run(&loop, UV_RUN_NOWAIT);
}

/* ---- The guest's connection ---- */

static struct {
    struct conn *conn;
    int peer;
    const char *cut_off; /* why it was */
    unsigned reads;      /* times that it was given what had waited */
} guest = {.peer = -1};

static ssize_t frames(struct conn *c, uint8_t *p, size_t n, const char **ret_why)
{
    guest.reads++;
    return (ssize_t)n;
}

static void cut_off(struct conn *c, const char *why)
{
    guest.cut_off = why;
}

static void gone(struct conn *c)
{
    guest.conn = NULL;
}

static const struct conn_ops conn_ops = {.frames = frames, .cut_off = cut_off, .gone = gone};

static void connect_guest(void)
{
    int pair[2];
    guest.cut_off = NULL;
    guest.reads = 0;
    guest.conn = conn_new(&loop, &conn_ops, NULL);
    if (!guest.conn || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0 ||
        uv_pipe_open(&guest.conn->pipe, pair[0]) < 0 || conn_start(guest.conn) < 0)
        abort();
    guest.peer = pair[1];
}

static void disconnect_guest(void)
{
    if (guest.conn)
        conn_close(guest.conn);
    close(guest.peer);
    uv_run(&loop, UV_RUN_NOWAIT);
}

/* The type of the next message that the guest was sent; 0: none. */
static unsigned next_message(void)
{
    static uint8_t bytes[4096];
    static size_t len;
    struct frame f;
    struct msg_reader m;
    const char *why;
    ssize_t n = recv(guest.peer, bytes + len, sizeof(bytes) - len, MSG_DONTWAIT);
    len += n > 0 ? (size_t)n : 0;
    n = frame_parse(bytes, len, &f, &why);
    if (n <= 0 || f.type != FRAME_MSG || msg_open(&m, f.payload, f.len) < 0)
        return 0;
    unsigned type = m.type;
    len -= (size_t)n;
    memmove(bytes, bytes + n, len);
    return type;
}

static struct conn *the_guest(void *owner)
{
    return guest.conn;
}

/* ---- Guard ---- */

/* What a guest costs in one read. */
static const char *costs(struct guard *g, uint64_t cost)
{
    guard_begin(g);
    return guard_end(g, guest.conn, cost);
}

static void test_flood(void)
{
    struct guard g = {.guest = the_guest};
    connect_guest();
    guard_init(&g, &loop);
    bool free_to_go = true;
    for (unsigned i = 0; i < 600; i++) {
        now += 100 * NSEC_PER_MSEC;
        free_to_go &= !costs(&g, GUARD_RATE / 10) && !guest.conn->paused;
    }
    ok(free_to_go, "a guest at its rate is read for a minute without a rest");
    ok(!costs(&g, GUARD_BURST / 2) && !guest.conn->paused, "a burst is no flood");
    now += 60 * NSEC_PER_SEC;
    ok(!costs(&g, GUARD_BURST + 1) && guest.conn->paused, "a guest above its budget rests");
    fire(&g.timer);
    ok(!guest.conn->paused && !guest.cut_off, "when the rest is over it is read again");

    const char *why = NULL;
    unsigned tenths = 0;
    for (; !why && tenths < 1000; tenths++) {
        now += 100 * NSEC_PER_MSEC;
        why = costs(&g, GUARD_RATE);
    }
    ok(why && strstr(why, "10,000 frames a second") && tenths >= 99 && tenths <= 101,
       "a guest that floods for 10 s is cut off, and not before (%u tenths)", tenths);
    disconnect_guest();
    close_timer(&g.timer);
}

static void test_quiet_again(void)
{
    struct guard g = {.guest = the_guest};
    connect_guest();
    guard_init(&g, &loop);
    (void)costs(&g, 2 * GUARD_BURST);
    now += 2 * NSEC_PER_SEC;
    (void)costs(&g, 0);
    ok(g.over_since == 0, "a guest that is quiet for two seconds is judged anew");
    disconnect_guest();
    close_timer(&g.timer);
}

static void test_unread(void)
{
    static uint8_t much[1 << 20];
    struct guard g = {.guest = the_guest};
    connect_guest();
    guard_init(&g, &loop);
    while (conn_queued(guest.conn) <= GUARD_UNREAD)
        conn_send(guest.conn, much, sizeof(much));
    ok(!costs(&g, 0) && guest.conn->paused && uv_is_active((uv_handle_t *)&g.timer),
       "a guest that does not read is not read either");
    for (unsigned i = 0; i < 90; i++)
        fire(&g.timer);
    ok(guest.conn && guest.conn->paused && !guest.cut_off, "for nine seconds it may come to its senses");
    for (unsigned i = 0; i < 20 && guest.conn; i++)
        fire(&g.timer);
    ok(!guest.conn && guest.cut_off && strstr(guest.cut_off, "read no answer"), "after ten seconds it is cut off");
    disconnect_guest();
    close_timer(&g.timer);
}

static void test_read_in_the_end(void)
{
    static uint8_t much[1 << 20];
    struct guard g = {.guest = the_guest};
    connect_guest();
    guard_init(&g, &loop);
    while (conn_queued(guest.conn) <= 2 * GUARD_UNREAD)
        conn_send(guest.conn, much, sizeof(much));
    (void)costs(&g, 0);
    ssize_t n;
    while ((n = recv(guest.peer, much, sizeof(much), 0)) > 0)
        uv_run(&loop, UV_RUN_NOWAIT);
    for (unsigned i = 0; i < 110 && guest.conn->paused; i++)
        fire(&g.timer);
    ok(guest.conn && !guest.conn->paused && !guest.cut_off, "a guest that has read in the end is read again");
    disconnect_guest();
    (void)!uv_timer_start(&g.timer, g.timer.timer_cb, 100, 0);
    fire(&g.timer);
    ok(!uv_is_active((uv_handle_t *)&g.timer), "a guard whose guest is gone does nothing");
    close_timer(&g.timer);
}

/* ---- The VMM ---- */

struct vmm {
    unsigned pauses, resumes, asked;
    int answer; /* of each command */
    struct vmm_done done;
};

static struct vmm vmm;

static int take(struct vmm *v, unsigned *counter, struct vmm_done d)
{
    ++*counter;
    v->done = d;
    return v->answer;
}

static int do_pause(struct vmm *v, struct vmm_done d)
{
    return take(v, &v->pauses, d);
}

static int do_resume(struct vmm *v, struct vmm_done d)
{
    return take(v, &v->resumes, d);
}

static int ask_halted(struct vmm *v, struct vmm_done d)
{
    return take(v, &v->asked, d);
}

static const struct vmm_ops backend = {.pause = do_pause, .resume = do_resume, .ask_halted = ask_halted};

/* ---- Halt ---- */

static bool may_ask(void *owner)
{
    return *(bool *)owner;
}

static void on_halted(void *owner)
{
    *(bool *)owner = false;
}

static void test_halt(void)
{
    struct vmm_process process = {.vmm = &vmm};
    struct vm vm = {.backend = &backend, .now = &process};
    bool may = true;
    struct halt h = {.vm = &vm, .may_ask = may_ask, .halted = on_halted, .owner = &may};
    vmm.asked = 0;
    halt_init(&h, &loop);
    halt_watch(&h, false);
    halt_guest_spoke(&h, false);
    ok(!uv_is_active((uv_handle_t *)&h.timer), "a VM without clients is not asked whether it has halted");
    halt_watch(&h, true);
    ok(waits(&h.timer, 1000), "a guest that clients wait for is asked after a second");
    static const uint64_t next[] = {2000, 4000, 8000, 16000, 32000, 60000, 60000};
    bool doubled = true;
    for (size_t i = 0; i < ARRAY_SIZE(next); i++) {
        fire(&h.timer);
        doubled &= waits(&h.timer, next[i]) && vmm.asked == i + 1;
    }
    ok(doubled, "then after twice that time, and so on, up to once a minute");
    halt_watch(&h, true);
    ok(waits(&h.timer, 1000), "what a client says brings the question back to a second");
    fire(&h.timer);
    uint64_t due = uv_timer_get_due_in(&h.timer);
    halt_guest_spoke(&h, true);
    ok(due == 2000 && waits(&h.timer, 1000), "a guest that spoke is asked a second later");
    vmm.done.done(vmm.done.owner, 0, "");
    ok(may, "one whose processors run has not halted");
    vmm.done.done(vmm.done.owner, 1, "");
    ok(!may, "one whose processors have halted has");
    vmm.asked = 0;
    fire(&h.timer);
    ok(vmm.asked == 0 && waits(&h.timer, 2000), "a VMM that is busy is not asked, and is later");
    may = true;
    vm.now = NULL;
    fire(&h.timer);
    ok(vmm.asked == 0 && waits(&h.timer, 4000), "where no VMM runs none is asked");
    halt_watch(&h, false);
    ok(!uv_is_active((uv_handle_t *)&h.timer), "when the last client has gone nothing is asked any more");
    close_timer(&h.timer);
}

/* ---- Idle pause ---- */

static const char *pause_words;

static void on_changed(void *owner, const char *words)
{
    pause_words = words;
}

/* A VM whose guest is connected and whose processors run. */
struct pausing {
    struct vmm_process process;
    struct vm vm;
    struct idle_pause p;
};

static void begin_pausing(struct pausing *t)
{
    connect_guest();
    memset(t, 0, sizeof(*t));
    memset(&vmm, 0, sizeof(vmm));
    pause_words = NULL;
    t->process = (struct vmm_process){.channel = guest.conn, .vmm = &vmm};
    t->vm = (struct vm){.backend = &backend, .now = &t->process};
    run_state_init(&t->vm.processors, &loop);
    run_state_begin(&t->vm.processors, &backend, &vmm, &t->process.channel, false);
    t->p = (struct idle_pause){.vm = &t->vm, .changed = on_changed};
    idle_pause_init(&t->p, &loop);
}

static void end_pausing(struct pausing *t)
{
    disconnect_guest();
    close_timer(&t->p.timer);
    close_timer(&t->vm.processors.timer);
}

static void answer(int r)
{
    vmm.done.done(vmm.done.owner, r, r < 0 ? "no" : "");
}

static void test_idle_pause(void)
{
    struct pausing t;
    begin_pausing(&t);
    idle_pause_unused(&t.p, now - 500 * NSEC_PER_MSEC);
    ok(waits(&t.p.timer, 1500), "a guest is paused two seconds after its last client");
    idle_pause_keep(&t.p);
    ok(!uv_is_active((uv_handle_t *)&t.p.timer), "one that is used again stays awake");
    idle_pause_unused(&t.p, now - 3600 * NSEC_PER_SEC);
    ok(waits(&t.p.timer, 0), "one that has not been used for long is paused at once");
    fire(&t.p.timer);
    ok(t.p.asked && next_message() == MSG_QUIESCE && vmm.pauses == 0, "the agent is asked first whether nothing runs");
    idle_pause_keep(&t.p);
    idle_pause_agreed(&t.p);
    ok(!t.p.asked && vmm.pauses == 0, "an agent that agrees too late pauses nothing");

    idle_pause_unused(&t.p, 0);
    fire(&t.p.timer);
    idle_pause_agreed(&t.p);
    ok(vmm.pauses == 1 && !pause_words, "when the agent agrees the VMM is told to pause");
    idle_pause_agreed(&t.p);
    ok(vmm.pauses == 1, "an agent that agrees twice is heard once");
    answer(0);
    ok(t.vm.processors.run == RUN_PAUSED && pause_words, "the guest stands still, and that is told");
    idle_pause_unused(&t.p, 0);
    idle_pause_keep(&t.p);
    ok(t.vm.processors.run == RUN_PAUSED && !uv_is_active((uv_handle_t *)&t.p.timer),
       "a guest that stands still stays so");
    (void)next_message();
    pause_words = NULL;
    idle_pause_wake(&t.p);
    ok(vmm.resumes == 1 && next_message() == MSG_CLOCK, "before it goes on its clock is set");
    idle_pause_wake(&t.p);
    ok(vmm.resumes == 1, "it is woken once");
    answer(0);
    ok(run_state_is_running(&t.vm.processors) && pause_words, "the guest goes on, and that is told");
    end_pausing(&t);
}

static void test_idle_pause_troubles(void)
{
    struct pausing t;
    begin_pausing(&t);
    t.p.asked = true;
    vmm.answer = -EPIPE;
    idle_pause_agreed(&t.p);
    ok(run_state_is_running(&t.vm.processors), "a guest whose VMM takes no command stays awake");
    vmm.answer = 0;
    t.p.asked = true;
    idle_pause_agreed(&t.p);
    answer(-EIO);
    ok(run_state_is_running(&t.vm.processors), "a guest that could not be paused is awake");
    t.p.asked = true;
    idle_pause_agreed(&t.p);
    idle_pause_wake(&t.p);
    answer(0);
    answer(0);
    ok(vmm.resumes == 1 && run_state_is_running(&t.vm.processors),
       "a guest that is wanted while it is being paused goes on");
    while (next_message())
        ;
    t.vm.now = NULL;
    idle_pause_unused(&t.p, 0);
    fire(&t.p.timer);
    ok(!t.p.asked, "where no VMM runs no agent is asked");
    t.vm.now = &t.process;
    t.process.channel = NULL;
    idle_pause_unused(&t.p, 0);
    fire(&t.p.timer);
    ok(!t.p.asked && next_message() == 0, "an agent that was cut off is not asked");
    end_pausing(&t);
}

/* ---- The host's clock ---- */

/* The timer descriptor is one that the test makes readable; a read of it fails as Linux has it when the clock was set.
 */
static struct {
    int fd, read_error;
    unsigned armed;
    int flags;
    int create_error, arm_error;
} timer = {.fd = -1};

int __wrap_timerfd_create(int clock, int flags);
int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *value, struct itimerspec *old);
ssize_t __real_read(int fd, void *p, size_t n);
ssize_t __wrap_read(int fd, void *p, size_t n);

int __wrap_timerfd_create(int clock, int flags)
{
    errno = timer.create_error;
    return timer.create_error ? -1 : (timer.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *value, struct itimerspec *old)
{
    timer.armed++;
    timer.flags = flags;
    errno = timer.arm_error;
    return timer.arm_error ? -1 : 0;
}

ssize_t __wrap_read(int fd, void *p, size_t n)
{
    ssize_t r = __real_read(fd, p, n);
    if (fd != timer.fd || r < 0 || !timer.read_error)
        return r;
    errno = timer.read_error;
    return -1;
}

static unsigned jumps;

static void jumped(void *owner)
{
    jumps += *(unsigned *)owner;
}

static void expire(int read_error)
{
    const uint64_t one = 1;
    timer.read_error = read_error;
    (void)!write(timer.fd, &one, sizeof(one));
    uv_run(&loop, UV_RUN_NOWAIT);
}

static void stop_watching(struct hostclock *h)
{
    uv_close((uv_handle_t *)&h->poll, NULL);
    uv_run(&loop, UV_RUN_NOWAIT);
    close(h->fd);
}

static void test_hostclock(void)
{
    unsigned step = 1;
    struct hostclock h = {.jumped = jumped, .owner = &step};
    hostclock_watch(&h, &loop);
    ok(timer.armed == 1 && timer.flags == (TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET),
       "the host's clock is watched by a timer that setting it cancels");
    uv_run(&loop, UV_RUN_NOWAIT);
    ok(jumps == 0, "a clock that goes on is no event");
    expire(ECANCELED);
    ok(jumps == 1 && timer.armed == 2,
       "a clock that was set, or stood still while the host slept, is told, and watched on");
    expire(ECANCELED);
    ok(jumps == 2 && timer.armed == 3, "so it is the second time");
    expire(0);
    ok(jumps == 2 && timer.armed == 4, "a timer that expires by itself is no jump, and is set again");
    timer.arm_error = EINVAL;
    expire(ECANCELED);
    ok(jumps == 3 && !uv_is_active((uv_handle_t *)&h.poll),
       "a timer that cannot be set again is not waited for: no busy loop");
    stop_watching(&h);

    timer.arm_error = 0;
    timer.create_error = EMFILE;
    struct hostclock none = {.jumped = jumped, .owner = &step};
    hostclock_watch(&none, &loop);
    ok(none.fd < 0 && uv_run(&loop, UV_RUN_NOWAIT) == 0,
       "without a descriptor the clock is not watched, and nothing else happens");
}

int main(void)
{
    if (uv_loop_init(&loop) < 0)
        return 1;
    test_flood();
    test_quiet_again();
    test_unread();
    test_read_in_the_end();
    test_halt();
    test_idle_pause();
    test_idle_pause_troubles();
    test_hostclock();
    return uv_loop_close(&loop) == 0 ? tap_end() : 1;
}
