#include "supervisor/clients.h"

static void on_wake(uv_timer_t *t)
{
    struct clients *l = t->data;
    for (struct conn *c = l->first, *next; c; c = next) {
        next = c->next;
        if (c->paused && l->may_go_on(l->owner, c))
            conn_resume(c);
    }
}

void clients_init(struct clients *l, uv_loop_t *loop)
{
    uv_timer_init(loop, &l->wake);
    l->wake.data = l;
}

void clients_add(struct clients *l, struct conn *c)
{
    c->previous = l->last;
    if (l->last)
        l->last->next = c;
    else
        l->first = c;
    l->last = c;
    l->n++;
}

void clients_remove(struct clients *l, struct conn *c)
{
    *(c->previous ? &c->previous->next : &l->first) = c->next;
    *(c->next ? &c->next->previous : &l->last) = c->previous;
    c->next = c->previous = NULL;
    l->n--;
}

unsigned clients_using(const struct clients *l)
{
    unsigned n = 0;
    for (const struct conn *c = l->first; c; c = c->next)
        n += c->used;
    return n;
}

void clients_wake(struct clients *l)
{
    for (const struct conn *c = l->first; c; c = c->next) {
        if (c->paused) {
            uv_timer_start(&l->wake, on_wake, 0, 0);
            return;
        }
    }
}

void clients_bound(struct clients *l, size_t max)
{
    size_t all = 0;
    struct conn *most = NULL;
    for (struct conn *c = l->first; c; c = c->next) {
        all += conn_queued(c);
        if (!most || conn_queued(c) > conn_queued(most))
            most = c;
    }
    if (all > max)
        conn_cut_off(most, "it does not read what it asked for, and others need the memory");
}

bool clients_evict(struct clients *l)
{
    struct conn *c = l->first;
    while (c && c->used)
        c = c->next;
    if (c)
        conn_cut_off(c, "too many clients: the oldest that asks nothing of the guest has to go");
    return c != NULL;
}
