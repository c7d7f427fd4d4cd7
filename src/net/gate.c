#include "net/gate.h"
#include "base/macros.h"
#include "net/layout.h"

#include <stdio.h>
#include <string.h>

#define DNS_PORT  53
#define DHCP_PORT 67

int gate_init(struct gate *g, const struct net_link *l, struct policy *p, uint32_t max_flows, uint64_t seed,
              uint64_t now, struct mvm_error *err)
{
    *g = (struct gate){.link = *l, .policy = p};
    denials_init(&g->denials, seed, now);
    return flows_init(&g->flows, max_flows ? max_flows : FLOWS_MAX, seed, err);
}

void gate_done(struct gate *g)
{
    flows_done(&g->flows);
}

/* ---- What is said ---- */

/* Appends how many of the same went unsaid. */
static void say(char said[GATE_LINE], const char *text, uint32_t unsaid)
{
    if (unsaid)
        snprintf(said, GATE_LINE, "%.640s (and %u more like it)", text, unsaid);
    else
        snprintf(said, GATE_LINE, "%s", text);
}

void gate_note(struct gate *g, const char *what, const char *text, uint64_t now, char said[GATE_LINE])
{
    uint32_t unsaid;
    *said = '\0';
    if (denials_note(&g->denials, what, strlen(what), now, &unsaid))
        say(said, text, unsaid);
}

static void refuse_frame(struct gate *g, const struct packet *p, uint64_t now, struct gate_result *ret)
{
    char text[128];
    uint8_t key = (uint8_t)p->fault;
    uint32_t unsaid;
    g->count.refused[p->fault]++;
    if (!denials_note(&g->denials, &key, sizeof(key), now, &unsaid))
        return;
    snprintf(text, sizeof(text), "a frame of the VM was dropped: it %s", packet_fault_words(p->fault));
    say(ret->said, text, unsaid);
}

static const char *protocol_name(uint8_t protocol)
{
    return protocol == NET_TCP ? "TCP" : protocol == NET_UDP ? "UDP" : "echo";
}

/* Refuses what a packet wants, at once, and says why. flag: what would allow it, "" for nothing. */
static void deny(struct gate *g, const uint8_t *frame, const struct packet *p, const char *why, const char *flag,
                 uint64_t now, struct gate_result *ret)
{
    struct {
        struct address there;
        uint16_t port, protocol;
    } key = {p->there, p->port, p->protocol};
    char address[ADDRESS_TEXT], port[8] = "", text[GATE_LINE];
    uint32_t unsaid;
    ret->reply_len = reply_rejection(&g->link, frame, p, ret->reply);
    ret->action = ret->reply_len ? GATE_REPLY : GATE_DROP;
    if (!denials_note(&g->denials, &key, sizeof(key), now, &unsaid))
        return;
    bool brackets = !address_is4(&p->there) && p->port;
    if (p->port)
        snprintf(port, sizeof(port), ":%u", p->port);
    snprintf(text, sizeof(text), "%s to %s%s%s%s was denied: %s%s%s", protocol_name(p->protocol), brackets ? "[" : "",
             address_format(&p->there, address), brackets ? "]" : "", port, why, *flag ? "; allowed with " : "", flag);
    say(ret->said, text, unsaid);
}

static void deny_by_policy(struct gate *g, const uint8_t *frame, const struct packet *p, const char *why, uint64_t now,
                           struct gate_result *ret)
{
    char flag[POLICY_FLAG];
    g->count.denied++;
    deny(g, frame, p, why, policy_flag(g->policy, &p->there, p->protocol, p->port, flag), now, ret);
}

/* ---- From the guest ---- */

static struct flow_key key_of(const struct packet *p)
{
    return (struct flow_key){
        .there = p->there,
        .port = p->port,
        .guest_port = p->source_port,
        .protocol = p->protocol,
        .v6 = p->v6,
    };
}

static void pass_new(struct gate *g, const uint8_t *frame, const struct packet *p, uint64_t now,
                     struct gate_result *ret)
{
    struct flow_key k = key_of(p);
    if (flows_add(&g->flows, &k, now)) {
        g->count.flows++;
        ret->action = GATE_PASS;
        return;
    }
    char why[64];
    snprintf(why, sizeof(why), "%u connections are open already", g->flows.max);
    g->count.full++;
    deny(g, frame, p, why, "--net-connections", now, ret);
}

/* Is it an address of the VM's own subnet, by its own family's packets? Another's may look like one, but leads
 * elsewhere. */
static bool is_ours(const struct packet *p, const struct address *a)
{
    return address_equal(&p->there, a) && p->v6 == !address_is4(a);
}

static void judge_subnet(struct gate *g, const uint8_t *frame, const struct packet *p, uint64_t now,
                         struct gate_result *ret)
{
    const struct net_link *l = &g->link;
    bool dns = is_ours(p, &l->dns4) || is_ours(p, &l->dns6), host = is_ours(p, &l->host4);
    bool router = is_ours(p, &l->router4) || is_ours(p, &l->router6);
    if (p->kind == PACKET_ECHO && (dns || router))
        return pass_new(g, frame, p, now, ret);
    if (p->kind == PACKET_TCP && host && policy_opens_host(g->policy, p->port))
        return pass_new(g, frame, p, now, ret);
    char flag[32] = "";
    const char *why = "the VM's own network has no such service";
    if (host && p->kind == PACKET_TCP) {
        why = "the host's loopback";
        snprintf(flag, sizeof(flag), "--allow host:%u", p->port);
    } else if (host && p->kind == PACKET_UDP) {
        why = "the host's loopback is reached over TCP only";
    }
    g->count.denied++;
    deny(g, frame, p, why, flag, now, ret);
}

static void judge(struct gate *g, const uint8_t *frame, const struct packet *p, uint64_t now, struct gate_result *ret)
{
    const struct net_link *l = &g->link;
    enum address_class class = address_class(&p->there);
    if (prefix_has(&l->net4, &p->there) || prefix_has(&l->net6, &p->there) ||
        (class == ADDRESS_LINK_LOCAL && !address_is4(&p->there)))
        return judge_subnet(g, frame, p, now, ret);
    enum policy_verdict v = policy_judge(g->policy, &p->there, p->protocol, p->port, now);
    if (v == POLICY_DENY)
        return deny_by_policy(g, frame, p, class == ADDRESS_PUBLIC ? "no rule allows it" : address_class_words(class),
                              now, ret);
    if (v == POLICY_ALLOW && g->is_own && g->is_own(g->is_own_data, &p->there))
        return deny_by_policy(g, frame, p, "an address of this host", now, ret);
    pass_new(g, frame, p, now, ret);
}

/* ---- Members of its network ---- */

/* The member that has the address, by the same family's packets; 0: none, or the guest itself. */
static unsigned peer_of(const struct gate *g, const struct packet *p)
{
    unsigned m = g->member && p->v6 == !address_is4(&p->there) ? layout_member(&p->there) : 0;
    return m == g->member ? 0 : m;
}

static void to_peer(struct gate *g, const uint8_t *frame, const struct packet *p, unsigned peer, uint64_t now,
                    struct gate_result *ret)
{
    uint8_t mac[6];
    bool present = g->present >> peer & 1, asks = p->kind == PACKET_ARP || p->kind == PACKET_ND;
    if (present && asks) {
        layout_mac(peer, mac);
        ret->reply_len = reply_neighbour(frame, p, mac, ret->reply);
        ret->action = GATE_REPLY;
    } else if (present) {
        ret->peer = peer;
        ret->action = GATE_PEER;
        g->count.peers_out++;
    } else if (!asks) {
        deny(g, frame, p, "no VM of its network has this address now", "", now, ret);
    }
}

bool gate_from_peer(struct gate *g, const struct net_link *peer, const char *name, const uint8_t *frame, size_t len,
                    uint64_t now, char said[GATE_LINE])
{
    struct packet p;
    packet_parse(peer, frame, len, &p);
    *said = '\0';
    if (p.kind >= PACKET_TCP && p.v6 == !address_is4(&p.there) && layout_member(&p.there) == g->member) {
        g->count.peers_in++;
        return true;
    }
    g->count.refused[p.fault]++;
    char text[192];
    snprintf(text, sizeof(text), "a frame of the VM %.63s was dropped: it %s", name,
             p.kind == PACKET_REFUSED ? packet_fault_words(p.fault) : "is not for this VM");
    gate_note(g, text, text, now, said);
    return false;
}

static bool is_answerer(const struct gate *g, const struct packet *p)
{
    return p->port == DNS_PORT && (is_ours(p, &g->link.dns4) || is_ours(p, &g->link.dns6));
}

static void hand_out_query(struct gate *g, const uint8_t *frame, const struct packet *p, struct gate_result *ret)
{
    ret->action = GATE_DNS;
    ret->query = p->payload;
    ret->query_len = p->payload_len;
    reply_to_packet(frame, p, &ret->asker);
    g->count.queries++;
}

static void hand_out_stream(const struct packet *p, struct gate_result *ret)
{
    ret->action = GATE_DNS_STREAM;
    ret->packet = *p;
}

void gate_from_guest(struct gate *g, const uint8_t *frame, size_t len, uint64_t now, struct gate_result *ret)
{
    struct packet p;
    packet_parse(&g->link, frame, len, &p);
    ret->action = GATE_DROP;
    ret->reply_len = 0;
    *ret->said = '\0';
    unsigned peer = p.asks || p.kind >= PACKET_TCP ? peer_of(g, &p) : 0;
    if (peer)
        return to_peer(g, frame, &p, peer, now, ret);
    switch (p.kind) {
    case PACKET_REFUSED:
        refuse_frame(g, &p, now, ret);
        break;
    case PACKET_QUIET:
    case PACKET_ANSWER:
        break;
    case PACKET_ARP:
    case PACKET_ND:
    case PACKET_DHCP:
        ret->action = GATE_PASS;
        break;
    case PACKET_TCP:
    case PACKET_UDP:
    case PACKET_ECHO: {
        struct flow_key k = key_of(&p);
        if (p.kind == PACKET_UDP && is_answerer(g, &p))
            hand_out_query(g, frame, &p, ret);
        else if (p.kind == PACKET_TCP && is_answerer(g, &p))
            hand_out_stream(&p, ret);
        else if (flows_touch(&g->flows, &k, p.tcp_flags, true, now))
            ret->action = GATE_PASS;
        else
            judge(g, frame, &p, now, ret);
    }
    }
    if (ret->action == GATE_PASS) {
        g->count.frames_out++;
        g->count.bytes_out += len;
    }
}

/* ---- To the guest ---- */

static bool is_asked(struct gate *g, const struct packet *p, uint64_t now)
{
    struct flow_key k = key_of(p);
    switch (p->kind) {
    case PACKET_REFUSED:
        return false;
    case PACKET_TCP:
    case PACKET_UDP:
    case PACKET_ECHO:
        if (p->kind == PACKET_UDP && p->port == DHCP_PORT && is_ours(p, &g->link.router4))
            return true;
        return flows_touch(&g->flows, &k, p->tcp_flags, false, now);
    default:
        return true;
    }
}

bool gate_to_guest(struct gate *g, const uint8_t *frame, size_t len, uint64_t now)
{
    struct packet p;
    packet_parse_inward(&g->link, frame, len, &p);
    if (!is_asked(g, &p, now)) {
        g->count.unasked++;
        return false;
    }
    g->count.frames_in++;
    g->count.bytes_in += len;
    return true;
}
