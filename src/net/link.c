#include "net/link.h"
#include "base/fd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define BEHIND      (256u * 1024)      /* the host's connections rest from here on */
#define MAX_WAITING (8u * 1024 * 1024) /* what connections have under way may still come */

struct link_frame {
    struct link_frame *next;
    size_t len;
    uint8_t bytes[];
};

void link_init(struct link *l, int fd)
{
    *l = (struct link){.fd = fd, .last = &l->first};
}

void link_done(struct link *l)
{
    for (struct link_frame *f = l->first, *next; f; f = next) {
        next = f->next;
        free(f);
    }
    l->first = NULL;
    l->last = &l->first;
    l->waiting = 0;
}

/* 0, or -EAGAIN where it can be taken later. What is refused for another reason is lost. */
static int send_now(struct link *l, const void *frame, size_t n)
{
    ssize_t r;
    do
        r = send(l->fd, frame, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (r < 0 && errno == EINTR);
    if (r < 0 && (errno == EAGAIN || errno == ENOBUFS))
        return -EAGAIN;
    if (r < 0)
        l->lost++;
    else
        l->sent += n;
    return 0;
}

void link_send(struct link *l, const void *frame, size_t n)
{
    if (n > LINK_FRAME_MAX || (!l->first && send_now(l, frame, n) == 0))
        return;
    struct link_frame *f = l->waiting + n > MAX_WAITING ? NULL : malloc(sizeof(*f) + n);
    if (!f) {
        l->lost++;
        return;
    }
    *f = (struct link_frame){.len = n};
    memcpy(f->bytes, frame, n);
    *l->last = f;
    l->last = &f->next;
    l->waiting += n;
}

bool link_is_behind(const struct link *l)
{
    return l->waiting > BEHIND;
}

bool link_is_waiting(const struct link *l)
{
    return l->first;
}

void link_flush(struct link *l)
{
    for (struct link_frame *f; (f = l->first) && send_now(l, f->bytes, f->len) == 0;) {
        l->first = f->next;
        l->waiting -= f->len;
        if (!l->first)
            l->last = &l->first;
        free(f);
    }
}

int link_receive(struct link *l)
{
    ssize_t n;
    do /* one that is longer than any is cut, and then refused by what reads it */
        n = recv(l->fd, l->in, sizeof(l->in), MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN ? 0 : -errno;
    l->received += (uint64_t)n;
    return n == 0 ? -ENODATA : (int)n;
}
