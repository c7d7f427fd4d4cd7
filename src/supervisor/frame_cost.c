#include "supervisor/frame_cost.h"
#include "wire/msg.h"

/* Of messages that are not sent often: one may reset all streams and have the guest configured. */
#define COST_MESSAGE  100
#define COST_OPEN     8    /* it is answered */
#define COST_BYTES    512  /* so many more are another frame's worth */
#define EARNING_BYTES 4096 /* moved on a stream: windows come back in pieces of at least four times as much */

static uint64_t message_cost(const struct frame *f)
{
    struct msg_reader m;
    bool often = msg_open(&m, f->payload, f->len) == 0 && (m.type == MSG_LOG || m.type == MSG_SERVICE);
    return often ? 1 : COST_MESSAGE;
}

void frame_cost_charge(struct frame_cost *c, const struct frame *f, bool of_open_stream)
{
    if (of_open_stream && f->type == FRAME_DATA) {
        c->moved += f->len;
        return;
    }
    c->cost += f->type == FRAME_MSG ? message_cost(f) : f->type == FRAME_OPEN ? COST_OPEN : 1;
    c->cost += f->len / COST_BYTES;
}

uint64_t frame_cost_take(struct frame_cost *c, uint64_t most_moved)
{
    uint64_t earned = c->moved / EARNING_BYTES, cost = c->cost > earned ? c->cost - earned : 0;
    c->moved = cost ? 0 : c->moved - c->cost * EARNING_BYTES;
    c->moved = MIN_OF(c->moved, most_moved); /* no savings for later */
    c->cost = 0;
    return cost;
}
