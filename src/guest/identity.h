/* What tells this guest from others that were restored from one snapshot: time, randomness, machine id. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Opens what it takes, before it is known which VM this is: a restored guest needs no path for it. False where
 * /etc/machine-id cannot be made. */
bool identity_prepare(void);
/* ns since 1970; 0: as it is. 0 or -errno. */
int identity_set_clock(uint64_t wall_ns);
/* Bytes that the kernel may count on, and a generator that uses them at once: 0 or -errno. */
int identity_feed_random(const uint8_t *seed, size_t len);
/* Programs read the machine's id from /etc/machine-id (machine-id(5)). again: the guest has one, of which it is a copy.
 * Without again a second call does nothing. 0 or -errno. */
int identity_set_machine_id(const char *id, bool again);
