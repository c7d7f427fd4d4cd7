/* Time in nanoseconds. Deadlines are points on the monotonic clock; 0 means none. */
#pragma once

#include <stdint.h>

#define NSEC_PER_MSEC 1000000ull
#define NSEC_PER_SEC  1000000000ull

/* CLOCK_MONOTONIC and CLOCK_REALTIME, ns. */
uint64_t clock_now(void);
uint64_t clock_wall(void);

/* The deadline ms milliseconds from now; none (0) where ms is negative. */
uint64_t clock_deadline(int64_t ms);

/* Milliseconds left, rounded up, for poll(2): 0 when past, -1 where there is no deadline. */
int clock_left_ms(uint64_t deadline);
