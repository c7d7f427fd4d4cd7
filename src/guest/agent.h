/* The main loop of pid 1. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Does not return. */
void agent_run(bool builder, uint64_t boot_ns) __attribute__((noreturn));
