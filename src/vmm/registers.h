/* What QEMU's monitor says of a guest's processors. */
#pragma once

#include <stdbool.h>

/* text is the answer to `info registers -a`: true where it tells of at least one processor, and each of them executes
 * HLT with interrupts off. False for architectures whose registers do not tell. */
bool registers_all_halted(const char *text);
