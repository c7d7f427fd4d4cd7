#include "base/clock.h"

#include <limits.h>
#include <time.h>

static uint64_t read_clock(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

uint64_t clock_now(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t clock_wall(void)
{
    return read_clock(CLOCK_REALTIME);
}

uint64_t clock_deadline(int64_t ms)
{
    return ms < 0 ? 0 : clock_now() + (uint64_t)ms * NSEC_PER_MSEC;
}

int clock_left_ms(uint64_t deadline)
{
    if (deadline == 0)
        return -1;
    uint64_t now = clock_now();
    if (now >= deadline)
        return 0;
    uint64_t ms = (deadline - now + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}
