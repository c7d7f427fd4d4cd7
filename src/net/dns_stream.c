#include "net/dns_stream.h"
#include "base/clock.h"
#include "net/dns.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH    2 /* bytes before a message */
#define MAX_QUERY 1024
#define IDLE_NS   (10 * NSEC_PER_SEC)
#define RETRY_NS  (NSEC_PER_SEC / 4) /* doubles with each */
#define RETRIES   6
#define LEAST_MSS 536
#define MOST_MSS  1400

struct dns_stream {
    bool used, asking, ended; /* ended: the guest sends no more */
    struct reply_to to;
    uint32_t expected; /* the guest's next byte */
    uint32_t base;     /* the number of out[0], or of the next byte where there is none */
    size_t acked, sent, n_out;
    uint8_t *out; /* owned: an answer that the guest does not have yet */
    size_t mss, window, n_in;
    uint8_t in[LENGTH + MAX_QUERY];
    unsigned tries;
    uint64_t deadline;
};

struct segment {
    uint32_t number, acknowledges;
    uint8_t flags;
    size_t window, mss, n;
    const uint8_t *data;
};

int dns_streams_init(struct dns_streams *d, const struct dns_stream_ops *ops, void *owner, struct mvm_error *err)
{
    *d = (struct dns_streams){.ops = ops, .owner = owner, .v = calloc(DNS_STREAMS, sizeof(*d->v))};
    return d->v ? 0 : mvm_error_errno(err, -ENOMEM, "DNS");
}

static void drop(struct dns_streams *d, struct dns_stream *s)
{
    if (s->asking)
        d->ops->gone(d->owner, s);
    free(s->out);
    *s = (struct dns_stream){0};
}

void dns_streams_done(struct dns_streams *d)
{
    for (struct dns_stream *s = d->v; s && s < d->v + DNS_STREAMS; s++)
        drop(d, s);
    free(d->v);
    d->v = NULL;
}

/* ---- To the guest ---- */

static void send_segment(struct dns_streams *d, const struct reply_to *to, const struct reply_segment *g)
{
    uint8_t frame[REPLY_TCP_HEADERS + MOST_MSS];
    size_t n = reply_tcp(to, g, frame, sizeof(frame));
    if (n)
        d->ops->frame(d->owner, frame, n);
}

static void send_own(struct dns_streams *d, struct dns_stream *s, uint8_t flags, size_t at, const uint8_t *p, size_t n)
{
    const struct reply_segment g = {
        .number = s->base + (uint32_t)at,
        .acknowledges = s->expected,
        .flags = flags | TCP_ACK,
        .window = (uint16_t)(sizeof(s->in) - s->n_in),
        .data = p,
        .n = n,
    };
    send_segment(d, &s->to, &g);
}

/* As much as the guest takes now. */
static void push(struct dns_streams *d, struct dns_stream *s)
{
    while (s->sent < s->n_out && s->sent - s->acked < s->window) {
        size_t n = MIN_OF(MIN_OF(s->mss, s->n_out - s->sent), s->window - (s->sent - s->acked));
        send_own(d, s, s->sent + n == s->n_out ? TCP_PSH : 0, s->sent, s->out + s->sent, n);
        s->sent += n;
    }
}

static void end(struct dns_streams *d, struct dns_stream *s, uint8_t how)
{
    send_own(d, s, how, s->sent, NULL, 0);
    drop(d, s);
}

/* ---- Queries ---- */

/* The next one that is whole; an answer may come at once. The end of what has none left. */
static void serve(struct dns_streams *d, struct dns_stream *s, uint64_t now)
{
    uint8_t message[LENGTH + MAX_QUERY];
    ssize_t n;
    while (!s->asking && !s->out && (n = dns_stream_message(s->in, s->n_in, MAX_QUERY)) > 0) {
        memcpy(message, s->in, (size_t)n);
        s->n_in -= (size_t)n;
        memmove(s->in, s->in + n, s->n_in);
        s->asking = true;
        d->ops->query(d->owner, s, &s->to, message + LENGTH, (size_t)n - LENGTH, now);
    }
    if (!s->asking && !s->out && n < 0)
        end(d, s, TCP_RST);
    else if (!s->asking && !s->out && s->ended)
        end(d, s, TCP_FIN);
}

void dns_streams_answer(struct dns_streams *d, struct dns_stream *s, const uint8_t *message, size_t n, uint64_t now)
{
    s->asking = false;
    s->out = malloc(LENGTH + n);
    if (!s->out) {
        end(d, s, TCP_RST);
        return;
    }
    s->out[0] = (uint8_t)(n >> 8);
    s->out[1] = (uint8_t)n;
    memcpy(s->out + LENGTH, message, n);
    s->n_out = LENGTH + n;
    s->acked = s->sent = 0;
    s->tries = 0;
    s->deadline = now + RETRY_NS;
    push(d, s);
}

/* ---- From the guest ---- */

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The maximum segment size that a SYN names (RFC 9293, 3.2). */
static size_t mss_of(const uint8_t *option, const uint8_t *behind)
{
    while (option < behind && *option != 0) {
        size_t n = *option == 1 ? 1 : behind - option > 1 ? option[1] : 0;
        if (n == 0 || n > (size_t)(behind - option))
            break;
        if (*option == 2 && n == 4)
            return MAX_OF(LEAST_MSS, MIN_OF(MOST_MSS, (size_t)(option[2] << 8 | option[3])));
        option += n;
    }
    return LEAST_MSS;
}

static void read_segment(const struct packet *p, struct segment *ret)
{
    const uint8_t *h = p->header + p->header_len;
    size_t header = (h[12] >> 4) * 4u;
    *ret = (struct segment){
        .number = be32(h + 4),
        .acknowledges = be32(h + 8),
        .flags = p->tcp_flags,
        .window = (size_t)(h[14] << 8 | h[15]),
        .mss = mss_of(h + 20, h + header),
        .data = h + header,
        .n = p->len - p->header_len - header,
    };
}

static struct dns_stream *find(const struct dns_streams *d, const struct reply_to *to)
{
    for (struct dns_stream *s = d->v; s < d->v + DNS_STREAMS; s++)
        if (s->used && s->to.guest_port == to->guest_port && s->to.v6 == to->v6 &&
            address_equal(&s->to.guest, &to->guest) && address_equal(&s->to.ours, &to->ours))
            return s;
    return NULL;
}

/* A free one, or the one that has said nothing for the longest time. */
static struct dns_stream *room(struct dns_streams *d)
{
    struct dns_stream *idle = NULL;
    for (struct dns_stream *s = d->v; s < d->v + DNS_STREAMS; s++) {
        if (!s->used)
            return s;
        if (!s->asking && !s->out && (!idle || s->deadline < idle->deadline))
            idle = s;
    }
    if (idle)
        end(d, idle, TCP_RST);
    return idle;
}

static void refuse(struct dns_streams *d, const struct reply_to *to, const struct segment *g)
{
    struct reply_segment r = {.number = g->acknowledges, .flags = TCP_RST};
    if (!(g->flags & TCP_ACK))
        r = (struct reply_segment){.acknowledges = g->number + 1, .flags = TCP_RST | TCP_ACK};
    send_segment(d, to, &r);
}

static void open_stream(struct dns_streams *d, const struct reply_to *to, const struct segment *g, uint32_t seed,
                        uint64_t now)
{
    struct dns_stream *s = find(d, to);
    if (s && s->expected != g->number + 1) {
        drop(d, s);
        s = NULL;
    }
    if (!s) {
        s = room(d);
        if (!s) {
            refuse(d, to, g);
            return;
        }
        *s = (struct dns_stream){.used = true, .to = *to, .expected = g->number + 1, .base = seed + 1};
    }
    s->mss = g->mss;
    s->window = g->window;
    s->deadline = now + IDLE_NS;
    const struct reply_segment syn = {.number = s->base - 1,
                                      .acknowledges = s->expected,
                                      .flags = TCP_SYN | TCP_ACK,
                                      .window = sizeof(s->in),
                                      .mss = MOST_MSS};
    send_segment(d, to, &syn);
}

static void take_ack(struct dns_stream *s, const struct segment *g, uint64_t now)
{
    uint32_t acked = g->acknowledges - s->base;
    s->window = g->window;
    if (!s->out || acked > s->sent || acked <= s->acked)
        return;
    s->acked = acked;
    s->tries = 0;
    s->deadline = now + RETRY_NS;
    if (s->acked < s->n_out)
        return;
    s->base += (uint32_t)s->n_out;
    free(s->out);
    s->out = NULL;
    s->n_out = s->acked = s->sent = 0;
    s->deadline = now + IDLE_NS;
}

/* What comes next of it, as far as there is room; the guest sends the rest again. */
static void take_data(struct dns_stream *s, const struct segment *g)
{
    uint32_t known = s->expected - g->number;
    if (known > g->n || s->ended)
        return;
    size_t n = MIN_OF(g->n - known, sizeof(s->in) - s->n_in);
    memcpy(s->in + s->n_in, g->data + known, n);
    s->n_in += n;
    s->expected += (uint32_t)n;
    s->ended = (g->flags & TCP_FIN) && known + n == g->n;
    s->expected += s->ended;
}

void dns_streams_take(struct dns_streams *d, const uint8_t *frame, const struct packet *p, uint32_t seed, uint64_t now)
{
    struct reply_to to;
    struct segment g;
    reply_to_packet(frame, p, &to);
    read_segment(p, &g);
    if ((g.flags & (TCP_SYN | TCP_RST)) == TCP_SYN) {
        if (!(g.flags & TCP_ACK))
            open_stream(d, &to, &g, seed, now);
        return;
    }
    struct dns_stream *s = find(d, &to);
    bool says = g.n || (g.flags & TCP_FIN);
    if (s && (g.flags & TCP_RST))
        drop(d, s);
    else if (!s && says && !(g.flags & TCP_RST))
        refuse(d, &to, &g);
    if (!s || !s->used || !(g.flags & TCP_ACK))
        return;
    take_ack(s, &g, now);
    if (says)
        take_data(s, &g);
    if (says)
        send_own(d, s, 0, s->sent, NULL, 0);
    if (!s->out && !s->asking)
        s->deadline = now + IDLE_NS;
    push(d, s);
    serve(d, s, now);
}

/* ---- Time ---- */

uint64_t dns_streams_next(const struct dns_streams *d)
{
    uint64_t next = 0;
    for (const struct dns_stream *s = d->v; s < d->v + DNS_STREAMS; s++)
        if (s->used && !s->asking)
            next = next ? MIN_OF(next, s->deadline) : s->deadline;
    return next;
}

void dns_streams_tick(struct dns_streams *d, uint64_t now)
{
    for (struct dns_stream *s = d->v; s < d->v + DNS_STREAMS; s++) {
        if (!s->used || s->asking || s->deadline > now)
            continue;
        if (!s->out) {
            end(d, s, TCP_FIN);
        } else if (++s->tries > RETRIES) {
            end(d, s, TCP_RST);
        } else {
            s->sent = s->acked;
            s->window = MAX_OF(s->window, 1u); /* a closed one is asked with one byte */
            s->deadline = now + (RETRY_NS << s->tries);
            push(d, s);
        }
    }
}
