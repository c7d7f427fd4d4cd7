/*
 * This is a VM's network process: all that its guest sends and gets passes here. It exists because libslirp, which is
 * TCP/IP for a guest that may be hostile, needs this host's network, and neither the VMM nor the supervisor shall have
 * it. It is started by the launcher (supervisor/launcher.h) in a jail of its own, and when it dies another one follows
 * (supervisor/network.h): a guest sees broken connections, as behind a router that was restarted.
 *
 * A frame of the guest goes through the gate (gate.h), which drops it, answers it, takes a DNS query out of it, or lets
 * it pass to libslirp (stack.h), whose frames come back through the gate to the card (link.h). Queries go to the host's
 * resolvers (upstream.h) in the answerer's words (answerer.h). One loop, nothing blocks; what waits is bounded.
 */
#include "net/process.h"
#include "base/clock.h"
#include "base/fd.h"
#include "host/os.h"
#include "net/dns_stream.h"
#include "net/gate.h"
#include "net/layout.h"
#include "net/limits.h"
#include "net/link.h"
#include "net/own_address.h"
#include "net/peers.h"
#include "net/stack.h"
#include "net/upstream.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAMES_A_ROUND 64  /* of the guest, before anything else has its turn */
#define OTHER_FDS      256 /* besides those of connections */

enum own_fd { OWN_FRAMES, OWN_REPORT, OWN_RESOLV, OWN_FDS };

struct network {
    struct policy policy;
    struct gate gate;
    struct answerer answerer;
    struct resolvers resolvers;
    struct upstream upstream;
    struct dns_streams streams;
    struct stack stack;
    struct link link;
    uint8_t in[LINK_FRAME_MAX]; /* the frame that is looked at, the guest's or a peer's */
    struct limits limits;
    struct peers peers;
    int report_fd;
    struct own_address own;
    uint64_t counted, counts_at; /* sum of what was told last, and when more is told */
};

/* One line for the VM's log, whole or not at all: who does not read must not make this process wait. */
static void report(struct network *n, const char *text)
{
    char line[GATE_LINE + 2];
    int len = snprintf(line, sizeof(line), "%s\n", text ? text : "");
    if (text && *text)
        (void)!send(n->report_fd, line, MIN_OF((size_t)len, sizeof(line) - 1), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* ---- What is counted ---- */

static uint64_t refused(const struct network *n)
{
    uint64_t sum = n->gate.count.unasked;
    for (size_t i = 0; i < PACKET_FAULTS; i++)
        sum += n->gate.count.refused[i];
    return sum;
}

/* Changes with each of them. */
static uint64_t count(const struct network *n)
{
    const struct gate_counters *c = &n->gate.count;
    return c->frames_out + c->frames_in + c->peers_out + c->peers_in + c->denied + c->full + c->queries +
           n->answerer.count.denied + n->answerer.count.limited + n->link.lost + refused(n);
}

/* When there is something to tell, 0: nothing is. */
static uint64_t counts_next(const struct network *n)
{
    return count(n) == n->counted ? 0 : MAX_OF(n->counts_at, 1);
}

static void tell_counts(struct network *n, uint64_t now)
{
    const struct gate_counters *c = &n->gate.count;
    uint64_t next = counts_next(n);
    char text[GATE_LINE];
    if (next == 0 || next > now)
        return;
    n->counted = count(n);
    n->counts_at = now + NSEC_PER_SEC;
    const struct {
        const char *name;
        uint64_t value;
    } v[] = {
        {"sent_bytes", c->bytes_out},
        {"received_bytes", c->bytes_in},
        {"connections", c->flows},
        {"denied", c->denied},
        {"too_many", c->full},
        {"refused_frames", refused(n)},
        {"lost_frames", n->link.lost},
        {"names_asked", n->answerer.count.queries},
        {"names_denied", n->answerer.count.denied},
        {"names_limited", n->answerer.count.limited},
        {"peer_frames_sent", c->peers_out},
        {"peer_frames_received", c->peers_in},
    };
    size_t len = (size_t)snprintf(text, sizeof(text), "#");
    for (size_t i = 0; i < ARRAY_SIZE(v) && len < sizeof(text); i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s %llu", i ? " " : "", v[i].name,
                                (unsigned long long)v[i].value);
    report(n, text);
}

/* ---- DNS ---- */

static uint64_t on_random(void *data)
{
    uint64_t r = 0;
    if (getrandom(&r, sizeof(r), 0) != (ssize_t)sizeof(r))
        abort();
    return r;
}

/* The answerer's next step, and those that follow at once because a query cannot be sent. */
static void carry_out(struct network *n, struct answerer_step *s, uint64_t now)
{
    for (;; answerer_failed(&n->answerer, s->slot, now, s)) {
        if (s->said[0]) {
            char said[GATE_LINE];
            gate_note(&n->gate, s->what, s->said, now, said);
            report(n, said);
        }
        if (s->action == ANSWERER_SEND && s->server < n->resolvers.n &&
            upstream_send(&n->upstream, s->slot, s->server, &n->resolvers.v[s->server], s->tcp, s->message, s->len) < 0)
            continue;
        break;
    }
    if ((s->action == ANSWERER_REPLY || s->action == ANSWERER_CLOSE) && s->slot < ANSWERER_SLOTS)
        upstream_close(&n->upstream, s->slot);
    if (s->action != ANSWERER_REPLY)
        return;
    if (s->stream) {
        dns_streams_answer(&n->streams, s->stream, s->message, s->len, now);
        return;
    }
    uint8_t frame[REPLY_HEADERS + DNS_MAX_MESSAGE];
    size_t len = reply_udp(&s->to, s->message, s->len, frame, sizeof(frame));
    if (len)
        link_send(&n->link, frame, len);
}

/* stream: of one over TCP, or NULL. */
static void take_query(struct network *n, struct dns_stream *stream, const struct reply_to *asker, const uint8_t *query,
                       size_t len, uint64_t now)
{
    struct answerer_step s;
    if (resolvers_ask(&n->resolvers, now))
        answerer_set_servers(&n->answerer, n->resolvers.n);
    answerer_query(&n->answerer, query, len, asker, stream, now, &s);
    carry_out(n, &s, now);
}

static void on_stream_frame(void *owner, const void *p, size_t len)
{
    struct network *n = owner;
    link_send(&n->link, p, len);
}

static void on_stream_query(void *owner, struct dns_stream *stream, const struct reply_to *to, const uint8_t *message,
                            size_t len, uint64_t now)
{
    take_query(owner, stream, to, message, len, now);
}

static void on_stream_gone(void *owner, const struct dns_stream *stream)
{
    struct network *n = owner;
    answerer_forget(&n->answerer, stream);
}

static const struct dns_stream_ops stream_ops = {
    .frame = on_stream_frame, .query = on_stream_query, .gone = on_stream_gone};

static void take_answer(struct network *n, unsigned slot, uint64_t now)
{
    static uint8_t answer[DNS_MAX_MESSAGE];
    const struct upstream_slot *from = &n->upstream.slots[slot];
    struct answerer_step s = {0};
    int len = upstream_take(&n->upstream, slot, answer);
    if (len < 0)
        answerer_failed(&n->answerer, slot, now, &s);
    else if (len > 0)
        answerer_answer(&n->answerer, slot, from->server, from->tcp, answer, (size_t)len, now, &s);
    carry_out(n, &s, now);
}

static void tick(struct network *n, uint64_t now)
{
    dns_streams_tick(&n->streams, now);
    uint64_t next = answerer_next(&n->answerer);
    struct answerer_step s = {0};
    if (next == 0 || next > now)
        return;
    do {
        answerer_tick(&n->answerer, now, &s);
        carry_out(n, &s, now);
    } while (s.action != ANSWERER_NOTHING);
}

/* ---- Frames ---- */

/* From libslirp. */
static void on_frame(void *owner, const void *p, size_t len)
{
    struct network *n = owner;
    if (gate_to_guest(&n->gate, p, len, clock_now()))
        link_send(&n->link, p, len);
}

static const struct stack_ops stack_ops = {.frame = on_frame};

static void take_frames(struct network *n, uint64_t now)
{
    static struct gate_result g;
    int len;
    for (int i = 0; i < FRAMES_A_ROUND && (len = link_receive(&n->link, n->in)) > 0; i++) {
        gate_from_guest(&n->gate, n->in, (size_t)len, now, &g);
        report(n, g.said);
        if (g.action == GATE_PASS)
            stack_input(&n->stack, n->in, (size_t)len);
        else if (g.action == GATE_REPLY)
            link_send(&n->link, g.reply, g.reply_len);
        else if (g.action == GATE_DNS)
            take_query(n, NULL, &g.asker, g.query, g.query_len, now);
        else if (g.action == GATE_DNS_STREAM)
            dns_streams_take(&n->streams, n->in, &g.packet, (uint32_t)on_random(NULL), now);
        else if (g.action == GATE_PEER)
            peers_send(&n->peers, g.peer, n->in, (size_t)len);
    }
}

/* Of another member of its network. */
static void take_peer(struct network *n, unsigned member, short events, uint64_t now)
{
    struct peer *p = &n->peers.v[member];
    char said[GATE_LINE];
    int len;
    if (events & POLLOUT)
        link_flush(&p->link);
    if (!(events & (POLLIN | POLLHUP | POLLERR)))
        return;
    for (int i = 0; i < FRAMES_A_ROUND && (len = peers_receive(&n->peers, member, now, n->in)) > 0; i++) {
        if (gate_from_peer(&n->gate, &p->wire, p->name, n->in, (size_t)len, now, said))
            link_send(&n->link, n->in, (size_t)len);
        report(n, said);
    }
}

static void take_peers(struct network *n, const struct pollfd *fds, const unsigned *who, size_t count, uint64_t now)
{
    for (size_t i = 0; i < count; i++) {
        if (who[i] && fds[i].revents)
            take_peer(n, who[i], fds[i].revents, now);
        else if (fds[i].revents)
            (void)peers_hear(&n->peers, now);
    }
    n->gate.present = n->peers.present;
}

static bool on_is_own(void *data, const struct address *a)
{
    const struct network *n = data;
    return own_address_is(&n->own, a);
}

/* ---- Life ---- */

static bool opens_host(const struct policy *p)
{
    for (uint32_t port = 1; port <= UINT16_MAX; port++)
        if (policy_opens_host(p, (uint16_t)port))
            return true;
    return false;
}

/* A descriptor for each connection. */
static void allow_descriptors(const struct network *n)
{
    struct rlimit l;
    rlim_t want = OTHER_FDS + (n->limits.connections ? n->limits.connections : FLOWS_MAX);
    if (getrlimit(RLIMIT_NOFILE, &l) < 0 || l.rlim_cur >= want)
        return;
    l.rlim_cur = MIN_OF(want, l.rlim_max);
    (void)!setrlimit(RLIMIT_NOFILE, &l); /* beyond them a connection is refused */
}

static int network_init(struct network *n, int argc, char **argv, struct mvm_error *err)
{
    int first = OWN_FDS + (argc > OWN_FDS && argv[OWN_FDS][0] == '+');
    int r = peers_init(&n->peers, first > OWN_FDS ? argv[OWN_FDS] : NULL);
    if (r < 0)
        return mvm_error_set(err, r, "its network is not understood");
    const struct net_link wire = layout_link(n->peers.own);
    uint64_t now = clock_now();
    r = policy_init(&n->policy, err);
    for (int i = first; r == 0 && i < argc; i++)
        r = limits_is_word(argv[i]) ? limits_add_word(&n->limits, argv[i], err)
                                    : policy_add_word(&n->policy, argv[i], err);
    memcpy(n->link.rate.limit, n->limits.rate, sizeof(n->limits.rate));
    if (n->limits.pcap_fd)
        pcap_init(&n->link.pcap, n->limits.pcap_fd);
    if (r == 0)
        r = gate_init(&n->gate, &wire, &n->policy, n->limits.connections, on_random(NULL), now, err);
    if (r == 0)
        r = answerer_init(&n->answerer, &n->policy, &wire.host4, n->limits.queries, on_random, NULL, now, err);
    if (r == 0)
        r = dns_streams_init(&n->streams, &stream_ops, n, err);
    if (r == 0)
        r = stack_init(&n->stack, opens_host(&n->policy), &wire.guest4, &stack_ops, n, err);
    own_address_init(&n->own);
    n->gate.member = n->peers.own;
    n->answerer.peers = &n->peers;
    n->gate.is_own = on_is_own;
    n->gate.is_own_data = n;
    if (r == 0)
        stack_announce(&n->stack, wire.mac, address_v4(&wire.guest4));
    allow_descriptors(n);
    return r;
}

/* Of two times, of which 0 is never. */
static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a && b ? MIN_OF(a, b) : a + b;
}

static void serve(struct network *n, struct pollfd own[static OWN_FDS])
{
    struct pollfd fds[OWN_FDS + ANSWERER_SLOTS + PEERS_FDS];
    unsigned slots[ANSWERER_SLOTS], who[PEERS_FDS];
    for (;;) {
        uint64_t now = clock_now(), may;
        bool rest = link_is_behind(&n->link);
        own[OWN_FRAMES].events = link_events(&n->link, now, &may);
        uint64_t next = earlier(may, earlier(answerer_next(&n->answerer), counts_next(n)));
        next = earlier(next, dns_streams_next(&n->streams));
        next = earlier(next, rest ? 0 : peers_next(&n->peers, now));
        own[OWN_RESOLV].fd = n->resolvers.ask_fd;
        memcpy(fds, own, OWN_FDS * sizeof(*own));
        size_t asking = upstream_fill(&n->upstream, fds + OWN_FDS, slots);
        struct pollfd *peers = fds + OWN_FDS + asking;
        size_t wires = peers_fill(&n->peers, peers, who, rest, now);
        if (stack_poll(&n->stack, fds, OWN_FDS + asking + wires, rest, next ? clock_left_ms(next) : -1) < 0 ||
            fds[OWN_REPORT].revents)
            return;
        now = clock_now();
        take_peers(n, peers, who, wires, now);
        if (fds[OWN_FRAMES].revents & POLLOUT)
            link_flush(&n->link);
        if (fds[OWN_FRAMES].revents & POLLIN)
            take_frames(n, now);
        for (size_t i = 0; i < asking; i++)
            if (fds[OWN_FDS + i].revents)
                take_answer(n, slots[i], now);
        if (fds[OWN_RESOLV].revents && resolvers_hear(&n->resolvers))
            answerer_set_servers(&n->answerer, n->resolvers.n);
        tick(n, now);
        report(n, pcap_flush(&n->link.pcap));
        tell_counts(n, now);
    }
}

int network_main(int argc, char **argv)
{
    static struct network n;
    struct pollfd own[OWN_FDS];
    struct mvm_error err = MVM_ERROR_INIT;
    if (argc < OWN_FDS)
        return 2;
    for (int i = 0; i < OWN_FDS; i++) {
        own[i] = (struct pollfd){.fd = atoi(argv[i]), .events = POLLIN};
        if (own[i].fd >= 0 && fd_set_cloexec(own[i].fd, true) < 0)
            return 2;
    }
    os_set_name("mvm-network");
    signal(SIGPIPE, SIG_IGN);
    n.report_fd = own[OWN_REPORT].fd;
    link_init(&n.link, own[OWN_FRAMES].fd);
    upstream_init(&n.upstream);
    if (network_init(&n, argc, argv, &err) < 0) {
        report(&n, err.msg);
        report(&n, err.hint);
        return 1;
    }
    resolvers_init(&n.resolvers, own[OWN_RESOLV].fd);
    answerer_set_servers(&n.answerer, n.resolvers.n);
    serve(&n, own);
    return 0;
}
