#include "supervisor/halt.h"
#include "base/macros.h"

#define FIRST_MS 1000
#define MOST_MS  60000

static void on_answer(void *owner, int r, const char *problem)
{
    struct halt *h = owner;
    if (r > 0 && h->may_ask(h->owner)) /* and nothing else came meanwhile */
        h->halted(h->owner);
}

static void on_timer(uv_timer_t *t)
{
    struct halt *h = t->data;
    if (h->vm->now && h->may_ask(h->owner))
        (void)!h->vm->backend->ask_halted(h->vm->now->vmm, (struct vmm_done){.done = on_answer, .owner = h});
    h->wait_ms = MIN_OF(2 * h->wait_ms, (uint64_t)MOST_MS);
    uv_timer_start(&h->timer, on_timer, h->wait_ms, 0);
}

void halt_init(struct halt *h, uv_loop_t *loop)
{
    uv_timer_init(loop, &h->timer);
    h->timer.data = h;
}

static void ask_soon(struct halt *h)
{
    h->wait_ms = FIRST_MS;
    uv_timer_start(&h->timer, on_timer, h->wait_ms, 0);
}

void halt_watch(struct halt *h, bool clients_wait)
{
    if (!clients_wait)
        uv_timer_stop(&h->timer);
    else if (!uv_is_active((uv_handle_t *)&h->timer) || uv_timer_get_due_in(&h->timer) > FIRST_MS)
        ask_soon(h);
}

void halt_guest_spoke(struct halt *h, bool clients_wait)
{
    uv_timer_stop(&h->timer);
    if (clients_wait)
        ask_soon(h);
}
