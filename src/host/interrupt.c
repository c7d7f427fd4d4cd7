#include "host/interrupt.h"
#include "base/clock.h"
#include "base/macros.h"
#include "host/os.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t pending, insisted;
static int pipe_fds[2] = {-1, -1}, forward_fds[2] = {-1, -1};
static volatile uint64_t last_sigint; /* written in a handler that blocks the others */
static bool has_timer;
static void (*volatile at_exit)(void);

static void on_grace_over(int sig)
{
    static const char words[] = "mvmctl: ended by a signal: what it was waiting for did not end in time\n";
    struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT}; /* nothing here may wait */
    if (at_exit)
        at_exit();
    if (poll(&p, 1, 0) == 1 && (p.revents & POLLOUT)) {
        ssize_t n = write(STDERR_FILENO, words, sizeof(words) - 1);
        (void)n;
    }
    _exit(128 + (int)insisted);
}

/* Async-signal-safe: signal-safety(7) has clock_gettime. */
static void insist(int sig)
{
    if (sig == SIGINT) {
        uint64_t now = clock_now(), before = last_sigint;
        last_sigint = now;
        if (!before || now - before > INTERRUPT_REPEAT_MS * NSEC_PER_MSEC)
            return;
    }
    if (insisted || !has_timer)
        return;
    insisted = sig;
    os_alarm(INTERRUPT_GRACE_MS);
}

static void on_signal(int sig)
{
    int saved = errno;
    if (!pending) {
        pending = sig;
        ssize_t n = write(pipe_fds[1], "!", 1);
        (void)n;
    }
    insist(sig);
    errno = saved;
}

static void on_forwarded(int sig)
{
    int saved = errno;
    const uint8_t byte = (uint8_t)sig;
    ssize_t n = write(forward_fds[1], &byte, 1);
    (void)n;
    if (sig == SIGINT || sig == SIGTERM || sig == SIGHUP)
        insist(sig);
    errno = saved;
}

static const int all[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH};
#define N_ENDING 3 /* the first of them */

static void handle(void (*handler)(int), size_t n)
{
    struct sigaction sa = {.sa_handler = handler};
    sigemptyset(&sa.sa_mask);
    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        sigaddset(&sa.sa_mask, all[i]);
    for (size_t i = 0; i < n; i++)
        sigaction(all[i], &sa, NULL);
}

static void make_timer(void)
{
    has_timer = has_timer || os_alarm_prepare(on_grace_over) == 0;
}

void interrupt_install(void)
{
    if (pipe_fds[0] >= 0 || pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return;
    make_timer();
    handle(on_signal, N_ENDING);
}

int interrupt_forward(void (*before_exit)(void))
{
    if (forward_fds[0] < 0 && pipe2(forward_fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    at_exit = before_exit;
    make_timer();
    handle(on_forwarded, ARRAY_SIZE(all));
    return forward_fds[0];
}

int interrupt_pending(void)
{
    return (int)pending;
}

int interrupt_fd(void)
{
    return pipe_fds[0];
}
