#include "addresses.h"
#include "base/clock.h"
#include "base/macros.h"
#include "net/denials.h"
#include "net/flows.h"
#include "net/packet.h"
#include "net/policy.h"
#include "tap.h"

#include <errno.h>
#include <string.h>

#define S NSEC_PER_SEC

/* ---- Addresses ---- */

static void test_classes(void)
{
    static const struct {
        const char *text;
        enum address_class class;
    } v[] = {
        {"1.1.1.1", ADDRESS_PUBLIC},
        {"100.63.255.255", ADDRESS_PUBLIC},
        {"172.32.0.1", ADDRESS_PUBLIC},
        {"2606:4700::1111", ADDRESS_PUBLIC},
        {"10.0.2.2", ADDRESS_PRIVATE},
        {"172.31.255.255", ADDRESS_PRIVATE},
        {"192.168.0.1", ADDRESS_PRIVATE},
        {"fd00::1", ADDRESS_PRIVATE},
        {"fec0::1", ADDRESS_PRIVATE},
        {"100.64.0.1", ADDRESS_SHARED},
        {"169.254.1.1", ADDRESS_LINK_LOCAL},
        {"fe80::1", ADDRESS_LINK_LOCAL},
        {"169.254.169.254", ADDRESS_METADATA},
        {"100.100.100.200", ADDRESS_METADATA},
        {"168.63.129.16", ADDRESS_METADATA},
        {"fd00:ec2::254", ADDRESS_METADATA},
        {"127.0.0.1", ADDRESS_LOOPBACK},
        {"127.255.0.1", ADDRESS_LOOPBACK},
        {"0.0.0.0", ADDRESS_LOOPBACK},
        {"::", ADDRESS_LOOPBACK},
        {"::1", ADDRESS_LOOPBACK},
        {"224.0.0.1", ADDRESS_MULTICAST},
        {"255.255.255.255", ADDRESS_MULTICAST},
        {"ff02::1", ADDRESS_MULTICAST},
        {"192.0.2.1", ADDRESS_RESERVED},
        {"198.19.0.1", ADDRESS_RESERVED},
        {"203.0.113.1", ADDRESS_RESERVED},
        {"240.0.0.1", ADDRESS_RESERVED},
        {"2001:db8::1", ADDRESS_RESERVED},
        {"2001:2::1", ADDRESS_RESERVED},
        {"3fff::1", ADDRESS_RESERVED},
        {"64:ff9b:1::1", ADDRESS_RESERVED},
        {"4000::1", ADDRESS_RESERVED},
        /* Those that wrap another. */
        {"::ffff:127.0.0.1", ADDRESS_LOOPBACK},
        {"::ffff:0:127.0.0.1", ADDRESS_LOOPBACK},
        {"::127.0.0.1", ADDRESS_LOOPBACK},
        {"64:ff9b::10.0.0.1", ADDRESS_PRIVATE},
        {"64:ff9b::8.8.8.8", ADDRESS_PUBLIC},
        {"2002:a9fe:a9fe::1", ADDRESS_METADATA},
        {"2001:0:0808:0808::80ff:fffe", ADDRESS_LOOPBACK},
        {"2001:0:a00:1::f7f7:f7f7", ADDRESS_PRIVATE},
        {"2001:0:0808:0808::f7f7:f7f7", ADDRESS_PUBLIC},
    };
    for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
        struct address a = ip(v[i].text);
        ok(address_class(&a) == v[i].class, "%s is %s", v[i].text, address_class_words(v[i].class));
    }
    char text[ADDRESS_TEXT];
    struct address mapped = ip("::ffff:192.0.2.1"), plain = ip("192.0.2.1"), six = ip("2606:4700:0::1");
    ok(address_equal(&mapped, &plain) && address_is4(&mapped) && address_v4(&mapped)[0] == 192,
       "a mapped address is the IPv4 address that it wraps");
    ok(strcmp(address_format(&plain, text), "192.0.2.1") == 0 &&
           strcmp(address_format(&six, text), "2606:4700::1") == 0,
       "an address is formatted in its family's form");
    ok(address_parse("1.2.3", &plain) == -EINVAL && address_parse("fe80::1%lo", &plain) == -EINVAL,
       "half an address is none");
    struct prefix ten = {ip("10.0.0.0"), 96 + 7};
    struct address eleven = ip("11.255.0.1"), twelve = ip("12.0.0.0");
    ok(prefix_has(&ten, &eleven) && !prefix_has(&ten, &twelve), "a range ends at its bits, not at a byte");
    ok(prefix_class(&ten) == ADDRESS_PUBLIC, "a range of several classes counts as public");
}

/* ---- Rules ---- */

static void test_rules(void)
{
    static const struct {
        const char *text, *formatted;
    } good[] = {
        {"example.org", "example.org"},
        {"Example.ORG.:443", "example.org:443"},
        {"*.example.org/tcp", "*.example.org/tcp"},
        {"_srv.example.org:53/udp", "_srv.example.org:53/udp"},
        {"db", "db"},
        {"10.0.0.5:443", "10.0.0.5:443"},
        {"10.0.0.0/8", "10.0.0.0/8"},
        {"10.0.0.0/8:443/tcp", "10.0.0.0/8:443/tcp"},
        {"0.0.0.0/0", "0.0.0.0/0"},
        {"0.0.0.0/0:25", "0.0.0.0/0:25"},
        {"fd00::1", "fd00::1"},
        {"fd00::/8", "fd00::/8"},
        {"fd00::/8/udp", "fd00::/8/udp"},
        {"[fd00::1]:443", "[fd00::1]:443"},
        {"[fd00::/8]:443/tcp", "[fd00::/8]:443/tcp"},
        {"[fd00::1]", "fd00::1"},
        {"host:8080", "host:8080"},
        {"host:8080/tcp", "host:8080"},
        {"host.mvm.internal:1", "host:1"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        struct mvm_error e = MVM_ERROR_INIT;
        struct rule r;
        char text[RULE_TEXT] = "";
        ok(rule_parse(good[i].text, &r, &e) == 0 && strcmp(rule_format(&r, text), good[i].formatted) == 0,
           "--allow %s is understood as %s (%s%s)", good[i].text, good[i].formatted, text, e.msg);
    }
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"", "is wanted"},
        {"*", "every name"},
        {"*:443", "every name"},
        {"*.org", "at least two parts"},
        {"*.", "every name"},
        {"a.*.org", "whole beginning"},
        {"*a.example.org", "whole beginning"},
        {"a..b", "empty part"},
        {".example.org", "empty part"},
        {"*..example.org", "empty part"},
        {"example.org..", "empty part"},
        {"ex ample.org", "made of letters"},
        {"b\xc3\xbc"
         "cher.de",
         "xn--"},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.org", "63"},
        {"example.org:0", "1 to 65535"},
        {"example.org:70000", "1 to 65535"},
        {"example.org:", "1 to 65535"},
        {"example.org:08", "1 to 65535"},
        {"example.org:http", "1 to 65535"},
        {"example.org:-1", "1 to 65535"},
        {":443", "name or an address"},
        {"example.org/sctp", "'tcp' or 'udp'"},
        {"example.org/", "'tcp' or 'udp'"},
        {"example.org/24", "no address"},
        {"10.0.0", "no address"},
        {"10.0.0.256", "no address"},
        {"10.0.0.0/33", "0 to 32"},
        {"fd00::/129", "0 to 128"},
        {"10.0.0.5/8", "behind those of the range"},
        {"[fd00::1", "[ADDRESS]:PORT"},
        {"[fd00::1]443", "[ADDRESS]:PORT"},
        {"[example.org]:443", "no address"},
        {"127.0.0.1:80", "loopback"},
        {"127.0.0.0/8", "loopback"},
        {"0.0.0.0", "loopback"},
        {"[::1]:80", "loopback"},
        {"224.0.0.1", "multicast"},
        {"ff02::1", "multicast"},
        {"::ffff:10.0.0.1", "stands for an IPv4 address"},
        {"host", "port by port"},
        {"host/tcp", "port by port"},
        {"host:53/udp", "over TCP only"},
        {"web.mvm.internal", "mvmctl's own"},
        {"*.mvm.internal", "mvmctl's own"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct mvm_error e = MVM_ERROR_INIT;
        struct rule r;
        ok(rule_parse(bad[i].text, &r, &e) == -EINVAL && strstr(e.msg, bad[i].why) && strstr(e.msg, "--allow"),
           "--allow '%s' is refused: %s (%s)", bad[i].text, bad[i].why, e.msg);
    }
    char longest[300];
    memset(longest, 'a', sizeof(longest));
    for (size_t i = 60; i < sizeof(longest); i += 61)
        longest[i] = '.';
    struct mvm_error e = MVM_ERROR_INIT;
    struct rule r;
    longest[253] = '\0';
    ok(rule_parse(longest, &r, &e) == 0, "a name of 253 characters is understood (%s)", e.msg);
    longest[253] = 'a';
    longest[254] = '\0';
    ok(rule_parse(longest, &r, &e) == -EINVAL && strstr(e.msg, "253"), "a name of 254 characters is refused");
    ok(rule_parse("10.0.0.5/8", &r, &e) == -EINVAL && strstr(e.hint, "10.0.0.0/8"),
       "the range that was meant is named");
    ok(rule_parse("*.example.org", &r, &e) == 0 && rule_names(&r, "a.example.org") &&
           rule_names(&r, "a.b.example.org") && !rule_names(&r, "example.org") && !rule_names(&r, "notexample.org") &&
           !rule_names(&r, ".example.org.evil"),
       "*.example.org names what is below it and nothing else");
}

/* ---- Policy ---- */

/* A policy of one layer with rules; a second one where wished is not NULL. */
static struct policy make(enum policy_kind kind, const char *const *rules)
{
    struct policy p;
    if (policy_init(&p, NULL) < 0 || policy_add_layer(&p, kind, NULL) < 0)
        abort();
    for (; rules && *rules; rules++)
        if (policy_allow(&p, *rules, NULL) < 0)
            abort();
    return p;
}
#define RULES(...) ((const char *const[]){__VA_ARGS__, NULL})

static enum policy_verdict judge(const struct policy *p, const char *address, uint8_t protocol, uint16_t port,
                                 uint64_t now)
{
    struct address a = ip(address);
    return policy_judge(p, &a, protocol, port, now);
}

static void test_kinds(void)
{
    static const char *const inside[] = {"10.0.0.5", "192.168.1.1",   "100.64.0.1", "169.254.1.1", "169.254.169.254",
                                         "fd00::1",  "168.63.129.16", "fe80::1",    "203.0.113.1"};
    static const char *const never[] = {"127.0.0.1", "0.0.0.0", "::1", "224.0.0.1", "ff02::1", "255.255.255.255"};
    struct policy none = make(POLICY_NONE, NULL), public = make(POLICY_PUBLIC, NULL), full = make(POLICY_FULL, NULL);
    struct policy listed = make(POLICY_LISTED, NULL), builder = make(POLICY_BUILDER, NULL), empty;
    ok(judge(&public, "8.8.8.8", NET_UDP, 53, 0) == POLICY_ALLOW &&
           judge(&public, "2606:4700::1", NET_TCP, 443, 0) == POLICY_ALLOW,
       "public reaches public addresses");
    ok(judge(&none, "8.8.8.8", NET_TCP, 443, 0) == POLICY_DENY &&
           judge(&listed, "8.8.8.8", NET_TCP, 443, 0) == POLICY_DENY,
       "none and an empty list reach nothing");
    ok(judge(&full, "8.8.8.8", NET_TCP, 443, 0) == POLICY_ALLOW_OWN, "full reaches the host's own addresses too");
    ok(judge(&builder, "8.8.8.8", NET_TCP, 443, 0) == POLICY_ALLOW &&
           judge(&builder, "10.0.0.5", NET_TCP, 443, 0) == POLICY_ALLOW &&
           judge(&builder, "169.254.169.254", NET_TCP, 80, 0) == POLICY_DENY &&
           judge(&builder, "fe80::1", NET_TCP, 80, 0) == POLICY_DENY,
       "a builder reaches public and private addresses, no metadata, nothing link-local");
    for (size_t i = 0; i < ARRAY_SIZE(inside); i++)
        ok(judge(&public, inside[i], NET_TCP, 80, 0) == POLICY_DENY &&
               judge(&full, inside[i], NET_TCP, 80, 0) == POLICY_ALLOW_OWN,
           "%s is closed under public, open under full", inside[i]);
    for (size_t i = 0; i < ARRAY_SIZE(never); i++)
        ok(judge(&full, never[i], NET_TCP, 80, 0) == POLICY_DENY, "%s is closed under full", never[i]);
    ok(policy_init(&empty, NULL) == 0 && judge(&empty, "8.8.8.8", NET_TCP, 80, 0) == POLICY_DENY &&
           !policy_may_ask(&empty, "a.b"),
       "a policy without a layer denies everything");
    enum policy_kind k;
    ok(policy_kind_parse("full", &k) == 0 && k == POLICY_FULL && strcmp(policy_kind_name(k), "full") == 0 &&
           policy_kind_parse("listed", &k) == -EINVAL && policy_kind_parse("builder", &k) == -EINVAL,
       "none, public and full are what --network takes");
    struct mvm_error e = MVM_ERROR_INIT;
    ok(policy_allow(&none, "example.org", &e) == -EINVAL && strstr(e.msg, "none"), "a rule beside none is refused");
    struct policy *all[] = {&none, &public, &full, &listed, &builder, &empty};
    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        policy_done(all[i]);
}

static void test_lists(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct policy p = make(POLICY_LISTED, RULES("10.0.0.0/8:443/tcp", "192.0.2.1", "0.0.0.0/0:25", "host:8080"));
    ok(judge(&p, "10.1.2.3", NET_TCP, 443, 0) == POLICY_ALLOW && judge(&p, "10.1.2.3", NET_TCP, 80, 0) == POLICY_DENY &&
           judge(&p, "10.1.2.3", NET_UDP, 443, 0) == POLICY_DENY &&
           judge(&p, "11.1.2.3", NET_TCP, 443, 0) == POLICY_DENY &&
           judge(&p, "10.1.2.3", NET_ICMP, 0, 0) == POLICY_DENY,
       "a rule opens its range, port and protocol only");
    ok(judge(&p, "192.0.2.1", NET_ICMP, 0, 0) == POLICY_ALLOW_OWN &&
           judge(&p, "192.0.2.1", NET_UDP, 9, 0) == POLICY_ALLOW_OWN,
       "a rule without port and protocol opens all of one address, even where it is the host's own");
    ok(judge(&p, "8.8.8.8", NET_TCP, 25, 0) == POLICY_ALLOW && judge(&p, "10.0.0.1", NET_TCP, 25, 0) == POLICY_DENY &&
           judge(&p, "169.254.169.254", NET_TCP, 25, 0) == POLICY_DENY &&
           judge(&p, "127.0.0.1", NET_TCP, 25, 0) == POLICY_DENY,
       "a range of everything reaches public addresses only");
    ok(judge(&p, "::ffff:10.1.2.3", NET_TCP, 443, 0) == POLICY_ALLOW &&
           judge(&p, "64:ff9b::a01:203", NET_TCP, 80, 0) == POLICY_DENY,
       "a wrapped address is judged as what it wraps");
    ok(policy_opens_host(&p, 8080) && !policy_opens_host(&p, 8081), "host:8080 opens that port of the host's loopback");
    ok(policy_allow(&p, "192.0.2.1", &e) == -EEXIST && strstr(e.msg, "twice"), "a rule that is said twice is refused");
    char flag[POLICY_FLAG];
    struct address six = ip("fd00::1"), four = ip("10.0.0.5"), loopback = ip("127.0.0.1");
    ok(strcmp(policy_flag(&p, &four, NET_TCP, 443, flag), "--allow 10.0.0.5:443") == 0 &&
           strcmp(policy_flag(&p, &six, NET_UDP, 53, flag), "--allow [fd00::1]:53/udp") == 0 &&
           strcmp(policy_flag(&p, &four, NET_ICMP, 0, flag), "--allow 10.0.0.5") == 0 &&
           !*policy_flag(&p, &loopback, NET_TCP, 1, flag),
       "the flag that would allow it is named");
    char text[64];
    size_t n = p.n_rules;
    for (size_t i = n; i < POLICY_MAX_RULES; i++) {
        snprintf(text, sizeof(text), "example.org:%zu", i);
        n += policy_allow(&p, text, &e) == 0;
    }
    ok(n == POLICY_MAX_RULES && policy_allow(&p, "one.more", &e) == -E2BIG, "there are at most %d rules",
       POLICY_MAX_RULES);
    policy_done(&p);
}

static void test_names(void)
{
    struct policy p = make(POLICY_LISTED, RULES("example.org:443", "*.example.net", "10.0.0.0/8"));
    struct address a = ip("8.8.8.8"), b = ip("9.9.9.9"), inside = ip("10.0.0.5"), loopback = ip("127.0.0.1"),
                   home = ip("192.168.0.1");
    ok(policy_may_ask(&p, "example.org") && policy_may_ask(&p, "www.example.net") &&
           !policy_may_ask(&p, "example.com") && !policy_may_ask(&p, "example.net"),
       "names that rules name may be looked up");
    ok(policy_may_answer(&p, "example.org", &a) && policy_may_answer(&p, "example.org", &inside) &&
           !policy_may_answer(&p, "example.org", &loopback) && !policy_may_answer(&p, "example.org", &home),
       "an answer may have public addresses, and others only where a range has them");
    policy_learn(&p, "example.org", &a, 5, 0);
    ok(judge(&p, "8.8.8.8", NET_TCP, 443, 59 * S) == POLICY_ALLOW, "an answered address is open for a minute at least");
    ok(judge(&p, "8.8.8.8", NET_TCP, 443, 61 * S) == POLICY_DENY,
       "an answered address is closed when the answer has ended");
    ok(judge(&p, "8.8.8.8", NET_TCP, 80, S) == POLICY_DENY, "an answered address is open for its rule's port only");
    policy_learn(&p, "www.example.net", &b, 100000, 0);
    ok(judge(&p, "9.9.9.9", NET_UDP, 80, 3600 * S) == POLICY_ALLOW &&
           judge(&p, "9.9.9.9", NET_UDP, 80, 3601 * S) == POLICY_DENY,
       "an answer counts for an hour at most");
    policy_learn(&p, "example.org", &loopback, 100, 0);
    policy_learn(&p, "example.org", &home, 100, 0);
    ok(judge(&p, "127.0.0.1", NET_TCP, 443, 1) == POLICY_DENY &&
           judge(&p, "192.168.0.1", NET_TCP, 443, 1) == POLICY_DENY,
       "a name opens no loopback and no private address, whatever it answers");
    policy_learn(&p, "example.com", &b, 100, 0);
    ok(judge(&p, "9.9.9.9", NET_TCP, 443, 101 * S) == POLICY_ALLOW, "a name that no rule names changes nothing");
    for (unsigned i = 0; i < 2 * POLICY_MAX_NAMES; i++) {
        uint8_t v4[4] = {20, (uint8_t)(i >> 8), (uint8_t)i, 1};
        struct address many = address_from4(v4);
        policy_learn(&p, "www.example.net", &many, 100, S);
    }
    ok(p.n_answers == POLICY_MAX_NAMES && judge(&p, "9.9.9.9", NET_TCP, 443, 2 * S) == POLICY_ALLOW &&
           judge(&p, "20.7.255.1", NET_TCP, 443, 2 * S) == POLICY_ALLOW,
       "the table of answers is bounded, and what ends first goes first");
    policy_done(&p);
}

static void test_wishes(void)
{
    struct policy p = make(POLICY_PUBLIC, RULES("host:8080", "10.0.0.5"));
    ok(policy_add_layer(&p, POLICY_LISTED, NULL) == 0 && policy_allow(&p, "example.org", NULL) == 0 &&
           policy_allow(&p, "10.0.0.0/8", NULL) == 0 && policy_allow(&p, "host:9090", NULL) == 0,
       "an image's wish is a second layer");
    ok(!policy_may_ask(&p, "example.com") && policy_may_ask(&p, "example.org"), "a wish narrows the names");
    struct address a = ip("8.8.8.8");
    ok(judge(&p, "8.8.8.8", NET_TCP, 443, 0) == POLICY_DENY, "a wish narrows the addresses");
    policy_learn(&p, "example.org", &a, 60, 0);
    ok(judge(&p, "8.8.8.8", NET_TCP, 443, 0) == POLICY_ALLOW, "what both allow is open");
    ok(judge(&p, "10.0.0.6", NET_TCP, 443, 0) == POLICY_DENY &&
           judge(&p, "10.0.0.5", NET_TCP, 443, 0) == POLICY_ALLOW_OWN,
       "a wish does not widen");
    ok(!policy_opens_host(&p, 8080) && !policy_opens_host(&p, 9090), "a port of the host has to be said by both");
    struct mvm_error e = MVM_ERROR_INIT;
    ok(policy_add_layer(&p, POLICY_NONE, &e) == -E2BIG, "there are two layers at most");
    policy_done(&p);
}

/* ---- Flows, denials ---- */

static struct flow_key key(const char *address, uint16_t port, uint16_t guest_port, uint8_t protocol)
{
    return (struct flow_key){.there = ip(address), .port = port, .guest_port = guest_port, .protocol = protocol};
}

static void test_flows(void)
{
    struct flows f;
    struct flow_key tcp = key("8.8.8.8", 443, 1000, NET_TCP), udp = key("8.8.8.8", 53, 1000, NET_UDP), other = udp;
    ok(flows_init(&f, 4, 12345, NULL) == 0 && !flows_touch(&f, &tcp, TCP_SYN, true, 0),
       "an unknown connection is none");
    ok(flows_add(&f, &tcp, 0) && flows_touch(&f, &tcp, TCP_SYN | TCP_ACK, false, 1),
       "what answers a connection belongs to it");
    ok(!flows_touch(&f, &tcp, TCP_SYN, true, 61 * S), "a half-open connection ends after a minute");
    flows_add(&f, &tcp, 0);
    ok(flows_touch(&f, &tcp, TCP_ACK, true, S) && flows_touch(&f, &tcp, TCP_ACK, true, 7000 * S) &&
           flows_touch(&f, &tcp, TCP_ACK, true, 14000 * S),
       "an open connection may be idle for an hour and more");
    ok(flows_touch(&f, &tcp, TCP_FIN | TCP_ACK, true, 14000 * S) && !flows_touch(&f, &tcp, TCP_ACK, true, 14062 * S),
       "a closed connection ends after a minute");
    flows_add(&f, &tcp, 0);
    flows_touch(&f, &tcp, TCP_ACK, true, 0);
    ok(!flows_touch(&f, &tcp, TCP_SYN, true, S), "the same ports opened again are another connection");
    other.v6 = true;
    ok(flows_add(&f, &udp, 0) && !flows_touch(&f, &other, 0, true, 0),
       "the same address over another family is another flow");
    ok(flows_touch(&f, &udp, 0, false, 200 * S) && !flows_touch(&f, &udp, 0, false, 241 * S),
       "what comes in does not keep a flow of datagrams alive");
    unsigned n = 0;
    for (uint16_t i = 0; i < 6; i++) {
        struct flow_key k = key("9.9.9.9", 80, (uint16_t)(2000 + i), NET_UDP);
        n += flows_add(&f, &k, 300 * S);
    }
    struct flow_key first = key("9.9.9.9", 80, 2000, NET_UDP), late = key("9.9.9.9", 80, 3000, NET_UDP);
    ok(n == 4 && f.n == 4 && flows_touch(&f, &first, 0, true, 300 * S),
       "a full table takes no more and keeps what it has");
    ok(flows_add(&f, &late, 541 * S) && f.n <= 4, "a full table takes more when old ones have ended");
    flows_done(&f);

    ok(flows_init(&f, 1000, 99, NULL) == 0, "a table of 1000");
    bool good = true;
    for (unsigned round = 0; round < 20; round++)
        for (uint16_t i = 0; i < 1000; i++) {
            struct flow_key k = key("9.9.9.9", round, i, NET_UDP);
            good = good && flows_add(&f, &k, round * 300 * S) && flows_touch(&f, &k, 0, true, round * 300 * S);
        }
    ok(good && f.n == 1000, "a table that is used up again and again loses no place");
    flows_done(&f);
}

static void test_denials(void)
{
    struct denials d;
    uint32_t unsaid = 9;
    denials_init(&d, 7, 0);
    ok(denials_note(&d, "a", 1, 0, &unsaid) && unsaid == 0, "the first denial of a destination is said");
    ok(!denials_note(&d, "a", 1, 59 * S, &unsaid) && denials_note(&d, "b", 1, 59 * S, &unsaid),
       "the next within a minute is not");
    ok(denials_note(&d, "a", 1, 61 * S, &unsaid) && unsaid == 1,
       "a minute later it is said again, with how many went unsaid");
    unsigned said = 0;
    for (uint32_t i = 0; i < 10000; i++)
        said += denials_note(&d, &i, sizeof(i), 62 * S, &unsaid);
    ok(said > 0 && said <= 100, "many destinations at once are not all said (%u of 10000 were)", said);
    ok(d.total == 10004 && d.unsaid == 10000 - said, "all of them are counted");
}

int main(void)
{
    test_classes();
    test_rules();
    test_kinds();
    test_lists();
    test_names();
    test_wishes();
    test_flows();
    test_denials();
    return tap_end();
}
