#include "net/peers.h"
#include "base/clock.h"
#include "base/path.h"
#include "host/handover.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define REST_MS 5

int peers_init(struct peers *p, const char *word)
{
    *p = (struct peers){.fd = -1};
    if (!word)
        return 0;
    int end = -1;
    if (sscanf(word, "+%d:%u:%63[^:]:%63[^:]%n", &p->fd, &p->own, p->network, p->name, &end) != 4 || word[end] ||
        p->own < 1 || p->own > NET_MEMBERS)
        return -EINVAL;
    return 0;
}

static void forget(struct peers *p, unsigned member)
{
    struct peer *peer = &p->v[member];
    if (!peer->used)
        return;
    close(peer->link.fd);
    link_done(&peer->link);
    peer->used = false;
    p->present &= ~((uint64_t)1 << member);
}

void peers_done(struct peers *p)
{
    for (unsigned i = 1; i <= NET_MEMBERS; i++)
        forget(p, i);
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
}

size_t peers_fill(const struct peers *p, struct pollfd *fds, unsigned *who, bool rest, uint64_t now)
{
    size_t n = 0;
    if (p->fd >= 0) {
        who[n] = 0;
        fds[n++] = (struct pollfd){.fd = p->fd, .events = POLLIN};
    }
    for (unsigned i = 1; i <= NET_MEMBERS; i++) {
        const struct peer *peer = &p->v[i];
        if (!peer->used)
            continue;
        uint64_t never; /* its wire has no rate */
        short events = link_events(&peer->link, now, &never);
        who[n] = i;
        fds[n++] = (struct pollfd){
            .fd = peer->link.fd,
            .events = (short)(rest || peer->rests_until > now ? events & ~POLLIN : events),
        };
    }
    return n;
}

uint64_t peers_next(const struct peers *p, uint64_t now)
{
    uint64_t next = 0;
    for (unsigned i = 1; i <= NET_MEMBERS; i++)
        if (p->v[i].used && p->v[i].rests_until > now)
            next = next ? MIN_OF(next, p->v[i].rests_until) : p->v[i].rests_until;
    return next;
}

static void meet(struct peers *p, const struct peers_introduction *i, int fd, uint64_t now)
{
    forget(p, i->member); /* whoever had that number has ended */
    struct peer *peer = &p->v[i->member];
    peer->used = true;
    peer->rests_until = 0;
    peer->wire = layout_link(i->member);
    snprintf(peer->name, sizeof(peer->name), "%s", i->name);
    bucket_init(&peer->budget, PEERS_RATE, PEERS_RATE, now);
    link_init(&peer->link, fd);
    peer->link.most = PEERS_QUEUE;
    p->present |= (uint64_t)1 << i->member;
}

bool peers_hear(struct peers *p, uint64_t now)
{
    struct peers_introduction i = {0};
    struct handover packet = {.data = &i, .size = sizeof(i)};
    int r = handover_receive(p->fd, &packet);
    bool good = r == 0 && packet.n_fds == 1 && i.member >= 1 && i.member <= NET_MEMBERS && i.member != p->own &&
                memchr(i.name, '\0', sizeof(i.name)) && path_is_plain_name(i.name, sizeof(i.name) - 1);
    if (good)
        meet(p, &i, packet.fds[0], now);
    for (size_t k = good ? 1 : 0; k < packet.n_fds; k++)
        close(packet.fds[k]);
    if (r < 0 && r != -EPROTO) { /* its launcher ends, and the VM with it */
        close(p->fd);
        p->fd = -1;
    }
    return good;
}

void peers_send(struct peers *p, unsigned member, const void *frame, size_t n)
{
    if (p->v[member].used)
        link_send(&p->v[member].link, frame, n);
}

int peers_receive(struct peers *p, unsigned member, uint64_t now, uint8_t ret[static LINK_FRAME_MAX])
{
    struct peer *peer = &p->v[member];
    if (!peer->used)
        return 0;
    if (!bucket_take(&peer->budget, 1, now)) {
        peer->rests_until = now + REST_MS * NSEC_PER_MSEC;
        return 0;
    }
    int n = link_receive(&peer->link, ret);
    if (n < 0)
        forget(p, member);
    return n;
}

/* ---- Names ---- */

/* The VM whose name is the first n bytes. */
static unsigned named(const struct peers *p, const char *name, size_t n)
{
    if (strlen(p->name) == n && strncasecmp(p->name, name, n) == 0)
        return p->own;
    for (unsigned i = 1; i <= NET_MEMBERS; i++)
        if (p->v[i].used && strlen(p->v[i].name) == n && strncasecmp(p->v[i].name, name, n) == 0)
            return i;
    return 0;
}

/* The length without that end, n itself where it is another one. */
static size_t without(const char *name, size_t n, const char *end)
{
    size_t e = strlen(end);
    return n > e && strncasecmp(name + n - e, end, e) == 0 ? n - e : n;
}

unsigned peers_find(const struct peers *p, const char *name)
{
    char network[PEERS_NAME + 1];
    size_t whole = strlen(name), n = without(name, whole, PEERS_ZONE);
    if (!p->own)
        return 0;
    snprintf(network, sizeof(network), ".%s", p->network);
    size_t first = without(name, n, network);
    if (first < n)
        return named(p, name, first);
    return n == whole ? named(p, name, n) : 0;
}

bool peers_full_name(const struct peers *p, unsigned member, char *ret, size_t size)
{
    const char *name = member == p->own ? p->name : p->v[member].used ? p->v[member].name : "";
    snprintf(ret, size, "%s.%s" PEERS_ZONE, name, p->network);
    return *name;
}
