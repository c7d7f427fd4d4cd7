#include "base/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

static volatile sig_atomic_t pending;
static int pipe_fds[2] = {-1, -1};

static void on_signal(int sig)
{
    int saved = errno;
    if (!pending) {
        pending = sig;
        ssize_t n = write(pipe_fds[1], "!", 1);
        (void)n;
    }
    errno = saved;
}

void interrupt_install(void)
{
    if (pipe_fds[0] >= 0 || pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return;
    struct sigaction sa = {.sa_handler = on_signal};
    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGHUP, &sa, NULL);
}

int interrupt_pending(void)
{
    return (int)pending;
}

int interrupt_fd(void)
{
    return pipe_fds[0];
}
