/* DNS over TCP, by segments of a guest that this test plays. */
#include "tap.h"

#include "base/clock.h"
#include "net/dns_stream.h"
#include "net/layout.h"

#include <string.h>

#define S NSEC_PER_SEC

static struct {
    struct dns_streams d;
    struct net_link link;
    struct reply_to guest; /* as the guest's own packets have it: it is the sender */
    unsigned frames, queries, gone;
    uint8_t flags; /* of the last frame to the guest */
    uint32_t number, acknowledges;
    size_t window, n;
    uint8_t data[2048], answer[20000];
    size_t got; /* of answers, in order */
    uint8_t query[600];
    size_t n_query;
    struct dns_stream *stream;
} t;

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void on_frame(void *owner, const void *p, size_t n)
{
    struct packet packet;
    packet_parse_inward(&t.link, p, n, &packet);
    if (packet.kind != PACKET_TCP || packet.port != 53)
        abort();
    const uint8_t *h = packet.header + packet.header_len;
    size_t header = (h[12] >> 4) * 4u;
    t.frames++;
    t.flags = h[13];
    t.number = be32(h + 4);
    t.acknowledges = be32(h + 8);
    t.window = (size_t)(h[14] << 8 | h[15]);
    t.n = packet.len - packet.header_len - header;
    memcpy(t.data, h + header, t.n);
    if (t.got + t.n <= sizeof(t.answer))
        memcpy(t.answer + t.got, t.data, t.n);
    t.got += t.n;
}

static void on_query(void *owner, struct dns_stream *stream, const struct reply_to *to, const uint8_t *message,
                     size_t n, uint64_t now)
{
    t.queries++;
    t.stream = stream;
    t.n_query = n;
    memcpy(t.query, message, n);
}

static void on_gone(void *owner, const struct dns_stream *stream)
{
    t.gone++;
}

static const struct dns_stream_ops ops = {.frame = on_frame, .query = on_query, .gone = on_gone};

/* A segment of the guest's. */
static void emit(uint16_t port, uint32_t number, uint32_t acknowledges, uint8_t flags, size_t window, const void *data,
                 size_t n, uint64_t now)
{
    static uint8_t frame[4096];
    struct packet p;
    t.guest.our_port = port;
    const struct reply_segment g = {.number = number,
                                    .acknowledges = acknowledges,
                                    .flags = flags,
                                    .window = (uint16_t)window,
                                    .mss = flags & TCP_SYN ? 1000 : 0,
                                    .data = data,
                                    .n = n};
    size_t len = reply_tcp(&t.guest, &g, frame, sizeof(frame));
    packet_parse(&t.link, frame, len, &p);
    if (p.kind != PACKET_TCP)
        abort();
    dns_streams_take(&t.d, frame, &p, 1000, now);
}

static void begin(void)
{
    memset(&t, 0, sizeof(t));
    t.link = layout_link(0);
    t.guest = (struct reply_to){.guest = t.link.dns4, .guest_port = 53, .ours = t.link.guest4, .mac = {2}};
    memcpy(t.guest.our_mac, t.link.mac, 6);
    if (dns_streams_init(&t.d, &ops, NULL, NULL) < 0)
        abort();
}

/* The handshake: the guest's next number is 101, ours 1001. */
static void connect_from(uint16_t port)
{
    emit(port, 100, 0, TCP_SYN, 65535, NULL, 0, S);
    emit(port, 101, 1001, TCP_ACK, 65535, NULL, 0, S);
}

static const uint8_t query[] = "\0\20abcdefghijklmnop"; /* 16 bytes */

static void test_one(void)
{
    begin();
    emit(4000, 100, 0, TCP_SYN, 65535, NULL, 0, S);
    ok(t.flags == (TCP_SYN | TCP_ACK) && t.acknowledges == 101 && t.number == 1000, "a connection is accepted");
    emit(4000, 100, 0, TCP_SYN, 65535, NULL, 0, S);
    ok(t.frames == 2 && t.flags == (TCP_SYN | TCP_ACK) && t.number == 1000, "once, however often it is asked for");
    emit(4000, 101, 1001, TCP_ACK, 65535, NULL, 0, S);
    ok(t.frames == 2, "an acknowledgement is not answered");
    emit(4000, 101, 1001, TCP_ACK, 65535, query, 10, S);
    ok(t.queries == 0 && t.acknowledges == 111, "a piece of a query is acknowledged");
    emit(4000, 101, 1001, TCP_ACK, 65535, query, 18, S);
    ok(t.queries == 1 && t.n_query == 16 && memcmp(t.query, query + 2, 16) == 0 && t.acknowledges == 119,
       "whatever of the next one was there already, the query is whole");
    memset(t.data, 'x', 1500);
    t.got = 0;
    static uint8_t answer[5000];
    memset(answer, 'a', sizeof(answer));
    dns_streams_answer(&t.d, t.stream, answer, sizeof(answer), S);
    ok(t.got == 5002 && t.answer[0] == 5000 >> 8 && t.answer[1] == (5000 & 0xff) && t.answer[5001] == 'a' && t.n == 2 &&
           (t.flags & TCP_PSH),
       "the answer comes in segments of the guest's size, with its length (%zu)", t.n);
    t.got = 0;
    emit(4000, 119, 1001 + 2000, TCP_ACK, 65535, NULL, 0, S);
    ok(t.got == 0 && dns_streams_next(&t.d) == S + S / 4, "what is not acknowledged is waited for");
    dns_streams_tick(&t.d, S + S / 4);
    ok(t.got == 3002 && t.number == 1001 + 5000, "and sent again");
    emit(4000, 119, 1001 + 5002, TCP_ACK, 65535, query, 18, 2 * S);
    ok(t.queries == 2, "the next query has its turn on the same connection");
    dns_streams_answer(&t.d, t.stream, answer, 20, 2 * S);
    emit(4000, 137, 1001 + 5002 + 22, TCP_ACK | TCP_FIN, 65535, NULL, 0, 2 * S);
    ok(t.flags == (TCP_FIN | TCP_ACK) && t.acknowledges == 138 && t.number == 1001 + 5024 &&
           dns_streams_next(&t.d) == 0,
       "when the guest ends it, it has ended");
    dns_streams_done(&t.d);
}

static void test_window(void)
{
    static uint8_t answer[3000];
    begin();
    connect_from(4000);
    emit(4000, 101, 1001, TCP_ACK, 100, query, 18, S);
    t.got = 0;
    dns_streams_answer(&t.d, t.stream, answer, sizeof(answer), S);
    ok(t.got == 100, "no more comes than the guest has room for");
    emit(4000, 119, 1101, TCP_ACK, 0, NULL, 0, S);
    t.got = 0;
    dns_streams_tick(&t.d, 2 * S);
    ok(t.got == 1, "a closed window is asked with one byte");
    emit(4000, 119, 1102, TCP_ACK, 65535, NULL, 0, 2 * S);
    ok(t.got == 1 + 3002 - 101, "the rest comes when it opens (%zu)", t.got);
    for (unsigned i = 0; i < 8 && dns_streams_next(&t.d); i++)
        dns_streams_tick(&t.d, dns_streams_next(&t.d));
    ok((t.flags & TCP_RST) && dns_streams_next(&t.d) == 0, "a guest that takes nothing is given up");
    dns_streams_done(&t.d);
}

static void test_refusals(void)
{
    begin();
    emit(4000, 7, 9, TCP_ACK, 65535, "data", 4, S);
    ok(t.flags == TCP_RST && t.number == 9, "data of no connection is answered by a reset");
    emit(4000, 7, 9, TCP_ACK, 65535, NULL, 0, S);
    emit(4000, 7, 0, TCP_RST, 0, NULL, 0, S);
    emit(4000, 7, 9, TCP_SYN | TCP_ACK, 65535, NULL, 0, S);
    ok(t.frames == 1, "what asks for nothing is not answered");
    connect_from(4001);
    emit(4001, 101, 1001, TCP_ACK, 65535, "\xff\xff", 2, S);
    ok((t.flags & TCP_RST) && dns_streams_next(&t.d) == 0, "a query that claims to be too long is refused");
    connect_from(4002);
    emit(4002, 101 + 18, 1001, TCP_ACK, 65535, query, 18, S);
    ok(t.queries == 0 && t.acknowledges == 101, "what comes before its turn has to come again");
    emit(4002, 101, 1001, TCP_ACK, 65535, query, 18, S);
    emit(4002, 119, 0, TCP_RST, 0, NULL, 0, S);
    ok(t.queries == 1 && t.gone == 1, "nobody waits for the answer to a connection that was reset");
    connect_from(4003);
    ok(dns_streams_next(&t.d) == 11 * S, "a connection that says nothing has its time");
    dns_streams_tick(&t.d, 11 * S);
    ok((t.flags & TCP_FIN) && dns_streams_next(&t.d) == 0, "and is ended then");
    dns_streams_done(&t.d);
}

static void test_many(void)
{
    begin();
    for (uint16_t i = 0; i < DNS_STREAMS; i++) {
        connect_from((uint16_t)(5000 + i));
        if (i)
            emit((uint16_t)(5000 + i), 101, 1001, TCP_ACK, 65535, query, 18, S);
    }
    t.frames = 0;
    emit(6000, 100, 0, TCP_SYN, 65535, NULL, 0, S);
    ok(t.frames == 2 && (t.flags & TCP_SYN), "the one that asks nothing makes room for the next");
    emit(6000, 101, 1001, TCP_ACK, 65535, query, 18, S);
    emit(6001, 100, 0, TCP_SYN, 65535, NULL, 0, S);
    ok(t.flags == (TCP_RST | TCP_ACK) && t.acknowledges == 101 && t.queries == DNS_STREAMS,
       "where all of them wait for answers a further one is refused");
    dns_streams_done(&t.d);
    ok(t.gone == DNS_STREAMS, "at the end nobody waits");
}

int main(void)
{
    test_one();
    test_window();
    test_refusals();
    test_many();
    return tap_end();
}
