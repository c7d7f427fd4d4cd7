/* Any frames from a guest, and from another member of its network, through the gate: only what policy opens passes, or
 * what is between two members, and each answer is a frame that can be read. */
#include "fuzz.h"

#include "net/dns_stream.h"
#include "net/gate.h"
#include "net/layout.h"

#include <string.h>

static struct address from6(const char *text)
{
    struct address a;
    if (address_parse(text, &a) < 0)
        abort();
    return a;
}

static struct net_link wire(void)
{
    struct net_link l = {
        .mac = {0x52, 0x54, 0, 0x12, 0x34, 0x56},
        .guest4 = from6("10.0.2.15"),
        .router4 = from6("10.0.2.2"),
        .dns4 = from6("10.0.2.3"),
        .host4 = from6("10.0.2.2"),
        .net4 = {from6("10.0.2.0"), 120},
        .guest6 = from6("fd6d:766d::15"),
        .router6 = from6("fd6d:766d::2"),
        .dns6 = from6("fd6d:766d::3"),
        .net6 = {from6("fd6d:766d::"), 64},
    };
    return l;
}

/* What a fuzzer does not find by chance: the guest's MAC, the type, and the sum of an IPv4 header. */
static void mend(uint8_t *f, size_t n, const struct net_link *l, uint8_t how)
{
    uint32_t s = 0;
    if (n >= 14 && how & 1) {
        memcpy(f + 6, l->mac, 6);
        f[12] = how & 2 ? 0x86 : 8;
        f[13] = how & 2 ? 0xdd : how & 4 ? 6 : 0;
    }
    if (n < 34 || f[12] != 8 || f[13] != 0 || !(how & 1))
        return;
    if (how & 8)
        memcpy(f + 26, address_v4(&l->guest4), 4);
    f[24] = f[25] = 0;
    for (size_t i = 14; i < 34; i += 2)
        s += (uint32_t)(f[i] << 8 | f[i + 1]);
    while (s >> 16)
        s = (s & 0xffff) + (s >> 16);
    f[24] = (uint8_t)(~s >> 8);
    f[25] = (uint8_t)~s;
}

/* What passed, by a look of its own at the bytes. */
static void check_passed(const struct gate *g, const uint8_t *f, size_t n)
{
    MUST(n >= 14 && n <= PACKET_MAX && memcmp(f + 6, g->link.mac, 6) == 0);
    if (f[12] == 8 && f[13] == 6)
        return;
    bool v6 = f[12] == 0x86;
    MUST(v6 ? n >= 54 : n >= 34);
    uint8_t protocol = v6 ? f[20] : f[23];
    MUST(protocol == 6 || protocol == 17 || protocol == (v6 ? 58 : 1));
    const uint8_t *to = v6 ? f + 38 : f + 30;
    if (v6 && to[0] == 0xff)
        MUST(protocol == 58 && f[54] >= 133 && f[54] <= 136 && f[54] != 134);
    if (!v6 && to[0] == 127)
        MUST(false);
    if (!v6)
        MUST((f[20] & 0x3f) == 0 && f[21] == 0 && f[14] == 0x45);
    if (protocol != 6)
        return;
    uint16_t port = (uint16_t)(v6 ? f[56] << 8 | f[57] : f[36] << 8 | f[37]);
    if (!v6 && to[0] == 10 && to[1] == 0 && to[2] == 2)
        MUST(to[3] == 2 && port == 8080);
    if (!v6 && to[0] == 169 && to[1] == 254)
        MUST(g->policy->layers[0].kind == POLICY_FULL);
    static const uint8_t mapped_loopback[13] = {[10] = 0xff, [11] = 0xff, [12] = 127};
    MUST(!v6 || memcmp(to, mapped_loopback, 13) != 0);
}

/* Between members: from the one to the other, by addresses alone. */
static void check_member(const uint8_t *f, size_t n, unsigned from, unsigned to)
{
    uint8_t mac[6];
    const struct address from4 = layout_address(from), from_6 = layout_address6(from), to4 = layout_address(to),
                         to6 = layout_address6(to);
    layout_mac(from, mac);
    MUST(n >= 34 && n <= PACKET_MAX && memcmp(f + 6, mac, 6) == 0 && !(f[0] & 1));
    if (f[12] == 0x86) {
        MUST(n >= 54 && memcmp(f + 38, to6.b, 16) == 0 && (f[20] == 6 || f[20] == 17 || f[20] == 58));
        MUST(memcmp(f + 22, from_6.b, 16) == 0 || f[22] == 0xfe);
        return;
    }
    MUST(f[14] == 0x45 && (f[20] & 0x3f) == 0 && f[21] == 0 && (f[23] == 6 || f[23] == 17 || f[23] == 1));
    MUST(memcmp(f + 26, address_v4(&from4), 4) == 0 && memcmp(f + 30, address_v4(&to4), 4) == 0);
}

static void inward(struct gate *g, const uint8_t *f, size_t n, uint8_t how, uint64_t now)
{
    char said[GATE_LINE];
    const struct net_link peer = layout_link(2);
    if (!g->member || how & 4)
        gate_to_guest(g, f, n, now);
    else if (gate_from_peer(g, &peer, "peer", f, n, now, said))
        check_member(f, n, 2, g->member);
}

/* Connections to the answerer: what comes out of one can be read, and a query is part of what came in. */
struct talk {
    struct dns_streams streams;
    const struct net_link *link;
    uint64_t now;
};

static void on_stream_frame(void *owner, const void *p, size_t n)
{
    const struct talk *t = owner;
    struct packet packet;
    packet_parse_inward(t->link, p, n, &packet);
    MUST(packet.kind == PACKET_TCP && packet.port == 53);
}

static void on_stream_query(void *owner, struct dns_stream *stream, const struct reply_to *to, const uint8_t *message,
                            size_t n, uint64_t now)
{
    static const uint8_t answer[3000];
    struct talk *t = owner;
    MUST(n >= 12 && n <= 1024 && to->our_port == 53);
    if (message[0] & 1) /* the others wait for ever */
        dns_streams_answer(&t->streams, stream, answer, 12 + 16 * (size_t)message[1] % 2900, now);
}

static void on_stream_gone(void *owner, const struct dns_stream *stream)
{
}

static const struct dns_stream_ops stream_ops = {
    .frame = on_stream_frame, .query = on_stream_query, .gone = on_stream_gone};

static void go(struct gate *g, struct input *in)
{
    const struct net_link peer = layout_link(2);
    uint64_t now = 0;
    struct talk t = {.link = &g->link};
    MUST(dns_streams_init(&t.streams, &stream_ops, &t, NULL) == 0);
    while (in->left) {
        uint8_t how = input_u8(in);
        size_t n;
        uint16_t wanted = input_u16(in) % 2048;
        const uint8_t *p = input_bytes(in, wanted, &n);
        uint8_t *f = malloc(n ? n : 1);
        if (!f)
            abort();
        if (n)
            memcpy(f, p, n);
        now += (uint64_t)(how >> 5) * 20000000000u;
        mend(f, n, g->member && how & 16 ? &peer : &g->link, how);
        if (how & 16) {
            inward(g, f, n, how, now);
        } else {
            struct gate_result r;
            gate_from_guest(g, f, n, now, &r);
            MUST(strlen(r.said) < GATE_LINE && r.reply_len <= REPLY_REJECTION);
            MUST((r.action == GATE_REPLY) == (r.reply_len > 0));
            if (r.action == GATE_PASS)
                check_passed(g, f, n);
            if (r.action == GATE_PEER)
                check_member(f, n, g->member, r.peer);
            if (r.action == GATE_DNS_STREAM)
                dns_streams_take(&t.streams, f, &r.packet, 7, now);
            for (int i = 0; i < 8 && dns_streams_next(&t.streams) && dns_streams_next(&t.streams) <= now; i++)
                dns_streams_tick(&t.streams, now);
            if (r.action == GATE_DNS) {
                uint8_t out[REPLY_HEADERS + 600];
                MUST(r.query >= f && r.query + r.query_len <= f + n);
                if (r.query_len <= 600)
                    MUST(reply_udp(&r.asker, r.query, r.query_len, out, sizeof(out)) > r.query_len);
            }
        }
        free(f);
    }
    dns_streams_done(&t.streams);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct policy policy;
    struct gate gate;
    struct net_link l = wire();
    uint8_t kind = input_u8(&in);
    if (kind & 16)
        l = layout_link(1);
    MUST(policy_init(&policy, NULL) == 0 && policy_add_layer(&policy, kind % POLICY_KINDS, NULL) == 0);
    if (kind % POLICY_KINDS != POLICY_NONE)
        MUST(policy_allow(&policy, "host:8080", NULL) == 0 && policy_allow(&policy, "10.0.0.0/8:443", NULL) == 0);
    MUST(gate_init(&gate, &l, &policy, 8, 1, 0, NULL) == 0);
    gate.member = kind & 16 ? 1 : 0;
    gate.present = kind & 16 ? 1 << 2 | 1 << 3 : 0;
    go(&gate, &in);
    gate_done(&gate);
    policy_done(&policy);
    return 0;
}
