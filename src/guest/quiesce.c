#include "guest/quiesce.h"
#include "guest/file_cache.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

static enum { QUIESCE_NO, QUIESCE_WANTED, QUIESCE_WRITING } state;

void quiesce_want(void)
{
    state = QUIESCE_WANTED;
}

void quiesce_forget(void)
{
    state = QUIESCE_NO;
}

/* All processes descend from this one, so that one without children is the only one. */
static bool is_alone(bool busy)
{
    siginfo_t info;
    return !busy && waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
}

/* In a process of its own, because it may take a while. */
static void write_all(bool sweep) __attribute__((noreturn));
static void write_all(bool sweep)
{
    if (sweep)
        file_cache_sweep(FILE_CACHE_MAX_AGE_S);
    sync();
    _exit(0);
}

bool quiesce_reached(bool busy)
{
    static bool swept;
    if (state == QUIESCE_NO || !is_alone(busy))
        return false;
    if (state == QUIESCE_WRITING) {
        state = QUIESCE_NO;
        return true;
    }
    pid_t pid = fork();
    if (pid == 0)
        write_all(!swept);
    state = pid > 0 ? QUIESCE_WRITING : QUIESCE_NO;
    swept |= pid > 0;
    return false;
}
