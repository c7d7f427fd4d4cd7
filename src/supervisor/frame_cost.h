/* What a guest's frames cost its supervisor that moved no payload of an open stream, less what it earned by moving
 * some. */
#pragma once

#include "wire/frame.h"

#include <stdbool.h>

struct frame_cost {
    uint64_t cost, moved; /* moved: bytes of payload, in either direction */
};

/* One frame from the guest: 1, more for what is more work. */
void frame_cost_charge(struct frame_cost *c, const struct frame *f, bool of_open_stream);
/* What has come together since the last call. What was moved beyond that counts for later, up to so many bytes. */
uint64_t frame_cost_take(struct frame_cost *c, uint64_t most_moved);
