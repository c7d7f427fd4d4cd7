#include "guest/ending.h"
#include "wire/msg.h"

#include <sys/signalfd.h>

/*
 * What programs send to pid 1 to have the system ended: busybox's halt, poweroff and reboot (init/halt.c there), a
 * power daemon (init(8) of sysvinit: SIGPWR), the kernel on ctrl-alt-del (reboot(2): SIGINT). A VM has no state between
 * on and off, so that halting is powering off.
 */
static const struct {
    int sig;
    enum ending how;
} asked_by[] = {
    {SIGUSR1, ENDING_OFF},     {SIGUSR2, ENDING_OFF},    {SIGPWR, ENDING_OFF},
    {SIGTERM, ENDING_RESTART}, {SIGINT, ENDING_RESTART},
};

void ending_signals(sigset_t *set)
{
    for (size_t i = 0; i < ARRAY_SIZE(asked_by); i++)
        sigaddset(set, asked_by[i].sig);
}

enum ending ending_of_signal(int sig)
{
    for (size_t i = 0; i < ARRAY_SIZE(asked_by); i++)
        if (asked_by[i].sig == sig)
            return asked_by[i].how;
    return ENDING_OFF;
}

int ending_watch(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    ending_signals(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}
