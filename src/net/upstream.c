#include "net/upstream.h"
#include "base/fd.h"
#include "host/os.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LENGTH 2 /* bytes before a message in TCP */

void upstream_init(struct upstream *u)
{
    for (size_t i = 0; i < ANSWERER_SLOTS; i++)
        u->slots[i] = (struct upstream_slot){.fd = -1};
}

void upstream_close(struct upstream *u, unsigned slot)
{
    struct upstream_slot *s = &u->slots[slot];
    fd_closep(&s->fd);
    free(s->bytes);
    *s = (struct upstream_slot){.fd = -1};
}

void upstream_done(struct upstream *u)
{
    for (unsigned i = 0; i < ANSWERER_SLOTS; i++)
        upstream_close(u, i);
}

/* What is left of the query; when all of it has gone, the room is for the answer. */
static int send_rest(struct upstream_slot *s)
{
    ssize_t n = send(s->fd, s->bytes + s->sent, s->n - s->sent, MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR || errno == EINPROGRESS || errno == ENOTCONN ? 0 : -errno;
    s->sent += (size_t)n;
    return 0;
}

static bool is_sending(const struct upstream_slot *s)
{
    return s->tcp && s->sent < s->n;
}

int upstream_send(struct upstream *u, unsigned slot, unsigned server, const struct resolver *to, bool tcp,
                  const uint8_t *message, size_t n)
{
    struct upstream_slot *s = &u->slots[slot];
    upstream_close(u, slot);
    s->fd = os_socket(to->address.ss_family, tcp ? SOCK_STREAM : SOCK_DGRAM);
    int r = s->fd < 0 ? s->fd : fd_set_nonblock(s->fd, true);
    if (r < 0)
        return r;
    s->tcp = tcp;
    s->server = server;
    if (connect(s->fd, (const struct sockaddr *)&to->address, to->len) < 0 && errno != EINPROGRESS)
        return -errno;
    if (!tcp)
        return send(s->fd, message, n, MSG_NOSIGNAL) < 0 ? -errno : 0;
    s->bytes = malloc(LENGTH + DNS_MAX_MESSAGE);
    if (!s->bytes || n > DNS_MAX_MESSAGE)
        return -ENOMEM;
    s->bytes[0] = (uint8_t)(n >> 8);
    s->bytes[1] = (uint8_t)n;
    memcpy(s->bytes + LENGTH, message, n);
    s->n = LENGTH + n;
    return 0;
}

size_t upstream_fill(const struct upstream *u, struct pollfd at[static ANSWERER_SLOTS],
                     unsigned slots[static ANSWERER_SLOTS])
{
    size_t n = 0;
    for (unsigned i = 0; i < ANSWERER_SLOTS; i++) {
        const struct upstream_slot *s = &u->slots[i];
        if (s->fd < 0)
            continue;
        at[n] = (struct pollfd){.fd = s->fd, .events = is_sending(s) ? POLLOUT : POLLIN};
        slots[n++] = i;
    }
    return n;
}

static int take_stream(struct upstream_slot *s, uint8_t out[static DNS_MAX_MESSAGE])
{
    if (is_sending(s)) {
        int r = send_rest(s);
        if (r == 0 && s->sent == s->n)
            s->n = s->sent = 0; /* nothing has come yet */
        return r;
    }
    ssize_t n = recv(s->fd, s->bytes + s->n, LENGTH + DNS_MAX_MESSAGE - s->n, 0);
    if (n <= 0)
        return n == 0 ? -ECONNRESET : errno == EAGAIN || errno == EINTR ? 0 : -errno;
    s->n = s->sent = s->n + (size_t)n;
    ssize_t whole = dns_stream_message(s->bytes, s->n, DNS_MAX_MESSAGE);
    if (whole <= 0)
        return (int)whole;
    memcpy(out, s->bytes + LENGTH, (size_t)whole - LENGTH);
    return (int)whole - LENGTH;
}

int upstream_take(struct upstream *u, unsigned slot, uint8_t out[static DNS_MAX_MESSAGE])
{
    struct upstream_slot *s = &u->slots[slot];
    if (s->tcp)
        return take_stream(s, out);
    ssize_t n = recv(s->fd, out, DNS_MAX_MESSAGE, 0);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    return (int)n;
}
