#include "supervisor/outqueue.h"
#include "base/macros.h"

#include <string.h>

#define BLOCK_SIZE (16u * 1024)

bool outqueue_add(struct outqueue *q, const void *p, size_t n)
{
    struct block *b = q->first_is_taken && q->first == q->last ? NULL : q->last;
    size_t fits = b ? MIN_OF(b->size - b->len, n) : 0;
    if (fits)
        memcpy(b->data + b->len, p, fits);
    if (b)
        b->len += fits;
    q->bytes += fits;
    n -= fits;
    if (n == 0)
        return true;
    struct block *more = malloc(sizeof(*more) + MAX_OF(n, (size_t)BLOCK_SIZE));
    if (!more)
        return false;
    *more = (struct block){.len = n, .size = MAX_OF(n, (size_t)BLOCK_SIZE)};
    memcpy(more->data, (const uint8_t *)p + fits, n);
    if (q->last)
        q->last->next = more;
    else
        q->first = more;
    q->last = more;
    q->bytes += n;
    return true;
}

struct block *outqueue_take(struct outqueue *q)
{
    q->first_is_taken = q->first != NULL;
    return q->first;
}

void outqueue_drop(struct outqueue *q)
{
    struct block *b = q->first;
    q->first = b->next;
    if (!q->first)
        q->last = NULL;
    q->bytes -= b->len;
    q->first_is_taken = false;
    free(b);
}

void outqueue_append(struct outqueue *q, struct outqueue *more)
{
    if (!more->first)
        return;
    if (q->last)
        q->last->next = more->first;
    else
        q->first = more->first;
    q->last = more->last;
    q->bytes += more->bytes;
    *more = (struct outqueue){0};
}

void outqueue_done(struct outqueue *q)
{
    while (q->first)
        outqueue_drop(q);
    *q = (struct outqueue){0};
}
