#include "addresses.h"
#include "base/clock.h"
#include "base/macros.h"
#include "net/answerer.h"
#include "net/dns.h"
#include "net/filter.h"
#include "net/policy.h"
#include "net/vm_names.h"
#include "tap.h"

#include <errno.h>
#include <string.h>

#define S NSEC_PER_SEC

static struct dns_name name_of(const char *text)
{
    struct dns_name n;
    if (!dns_name_from(text, &n))
        abort();
    return n;
}

/* ---- Messages ---- */

struct message {
    uint8_t b[DNS_MAX_MESSAGE];
    size_t n;
};

static void put(struct message *m, const void *p, size_t n)
{
    memcpy(m->b + m->n, p, n);
    m->n += n;
}

static void put16(struct message *m, unsigned v)
{
    put(m, (uint8_t[]){(uint8_t)(v >> 8), (uint8_t)v}, 2);
}

/* A query for a name, as a guest sends it. */
static struct message query(uint16_t id, const char *name, uint16_t type)
{
    struct message m = {.n = 0};
    struct dns_name n = name_of(name);
    m.n = dns_build_query(m.b, sizeof(m.b), id, n.wire, n.len, type, false);
    return m;
}

/* The beginning of an answer to a query; records follow. */
static struct message answer_to(const uint8_t *q, size_t n, uint8_t rcode)
{
    struct message m = {.n = 0};
    size_t question = 12;
    while (q[question])
        question += 1u + q[question];
    (void)n;
    put(&m, q, question + 5);
    m.b[2] |= 0x80;
    m.b[3] = rcode;
    memset(m.b + 6, 0, 6);
    return m;
}

/* Adds a record; without an owner that of the question. */
static void record(struct message *m, unsigned section, const char *owner, uint16_t type, uint32_t ttl,
                   const void *data, size_t len)
{
    if (owner) {
        struct dns_name n = name_of(owner);
        put(m, n.wire, n.len);
    } else {
        put16(m, 0xc00c);
    }
    put16(m, type);
    put16(m, 1);
    put16(m, ttl >> 16);
    put16(m, ttl & 0xffff);
    put16(m, (unsigned)len);
    put(m, data, len);
    m->b[7 + 2 * section]++;
}

static void record_address(struct message *m, const char *owner, uint32_t ttl, const char *address)
{
    struct address a = ip(address);
    if (address_is4(&a))
        record(m, 0, owner, DNS_A, ttl, address_v4(&a), 4);
    else
        record(m, 0, owner, DNS_AAAA, ttl, a.b, 16);
}

static void record_alias(struct message *m, const char *owner, uint32_t ttl, const char *target)
{
    struct dns_name n = name_of(target);
    record(m, 0, owner, DNS_CNAME, ttl, n.wire, n.len);
}

static int parse(const struct message *m, struct dns_query *q)
{
    CLEAN_FREE uint8_t *copy = malloc(m->n ? m->n : 1);
    if (!copy)
        abort();
    memcpy(copy, m->b, m->n);
    return dns_parse_query(copy, m->n, q);
}

static void test_queries(void)
{
    struct dns_query q;
    char text[DNS_MAX_TEXT];
    struct message m = query(7, "www.example.org", DNS_A), whole = m;
    memcpy(m.b + 13, "WwW", 3);
    ok(parse(&m, &q) == 0 && q.id == 7 && q.type == DNS_A && q.recursion && !q.edns && q.size == DNS_PLAIN_SIZE &&
           dns_name_text(&q.name, text) && strcmp(text, "www.example.org") == 0 && memcmp(q.spelled + 1, "WwW", 3) == 0,
       "a query is read, and its spelling kept");
    for (size_t n = 0; n < whole.n; n++) {
        struct message cut = whole;
        cut.n = n;
        int r = parse(&cut, &q);
        if (r != (n < 12 ? -EBADMSG : DNS_FORMERR)) {
            ok(false, "a query cut to %zu bytes is refused", n);
            break;
        }
    }
    struct message edns = whole;
    edns.b[11] = 1;
    put(&edns, "\0\0\x29\x20\0\0\0\0\0\0\0", 11);
    ok(parse(&edns, &q) == 0 && q.edns && q.size == DNS_EDNS_SIZE, "a size of 8192 is taken as ours");
    edns.b[edns.n - 5] = 1;
    ok(parse(&edns, &q) == DNS_FORMERR && q.id == 7, "another version of EDNS is refused");
    static const struct {
        const char *what;
        size_t at;
        uint8_t value;
        int r;
    } bad[] = {
        {"an answer", 2, 0x80, -EBADMSG},
        {"an update", 2, 0x28, DNS_NOTIMP},
        {"a message of no question", 5, 0, DNS_FORMERR},
        {"a message of two questions", 5, 2, DNS_FORMERR},
        {"a message with an answer in it", 7, 1, DNS_FORMERR},
        {"a name that points to itself", 12, 0xc0, DNS_FORMERR},
        {"a label of a reserved kind", 12, 0x43, DNS_FORMERR},
        {"another class", 32, 3, DNS_REFUSED},
        {"a transfer of a zone", 30, 252, DNS_NOTIMP},
        {"a query for everything", 30, 255, DNS_NOTIMP},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        m = whole;
        m.b[bad[i].at] = bad[i].value;
        ok(parse(&m, &q) == bad[i].r, "%s is refused", bad[i].what);
    }
    m = whole;
    m.n = DNS_MAX_QUERY + 1;
    ok(parse(&m, &q) == DNS_FORMERR, "a query of more than %d bytes is refused", DNS_MAX_QUERY);
    struct dns_name n;
    static const char *const names[] = {"", ".", "a..b", ".a", "a."};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        ok(!dns_name_from(names[i], &n), "'%s' is no name", names[i]);
    n = (struct dns_name){.len = 5, .wire = {3, 'a', '.', 'b', 0}};
    ok(!dns_name_text(&n, text), "a dot within a label is no text");
    uint8_t v[16];
    ok(dns_reverse_address("5.0.168.192.in-addr.arpa", v) == 4 && memcmp(v, "\xc0\xa8\0\x05", 4) == 0,
       "the address of a reverse name is read");
    ok(dns_reverse_address("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", v) == 16 &&
           v[0] == 0xfd && v[15] == 1,
       "and that of IPv6");
    static const char *const no[] = {
        "168.192.in-addr.arpa", "1.5.0.168.192.in-addr.arpa", "256.0.168.192.in-addr.arpa", "-1.0.0.1.in-addr.arpa",
        "in-addr.arpa",         "a.0.0.1.in-addr.arpa",       "5.0.168.192.example.org",    "1.0.ip6.arpa"};
    for (size_t i = 0; i < ARRAY_SIZE(no); i++)
        ok(dns_reverse_address(no[i], v) == 0, "%s is no address", no[i]);
}

static void test_answers(void)
{
    struct message q = query(1, "a.example.org", DNS_MX), m = answer_to(q.b, q.n, 0);
    struct dns_reader r;
    struct dns_head h;
    struct dns_record rec;
    uint8_t data[300];
    record(&m, 0, NULL, DNS_MX, 60, "\0\x0a\x04mail\xc0\x0e", 9);
    ok(dns_read_head(&r, m.b, m.n, &h) == 0 && h.type == DNS_MX && dns_read_record(&r, &rec) == 1 &&
           rec.type == DNS_MX && dns_read_data(&r, &rec, data, sizeof(data)) == 2 + 18 &&
           memcmp(data,
                  "\0\x0a\x04mail\x07"
                  "example\x03org\0",
                  20) == 0 &&
           dns_read_record(&r, &rec) == 0,
       "names in a record's content are uncompressed");
    ok(dns_read_head(&r, m.b, m.n, &h) == 0 && dns_read_record(&r, &rec) == 1 &&
           dns_read_data(&r, &rec, data, 19) == -EBADMSG,
       "content that does not fit is refused");
    for (size_t n = 0; n < m.n; n++) {
        int e = dns_read_head(&r, m.b, n, &h);
        if (e == 0)
            e = dns_read_record(&r, &rec);
        if (e != -EBADMSG) {
            ok(false, "an answer cut to %zu bytes is refused", n);
            break;
        }
    }
    struct message loop = answer_to(q.b, q.n, 0);
    size_t at = loop.n;
    put16(&loop, 0xc000u | (unsigned)at);
    put(&loop, "\0\x01\0\x01\0\0\0\0\0\0", 10);
    loop.b[7] = 1;
    ok(dns_read_head(&r, loop.b, loop.n, &h) == 0 && dns_read_record(&r, &rec) == -EBADMSG,
       "a pointer to itself is refused");
    loop.b[at + 1]++;
    ok(dns_read_head(&r, loop.b, loop.n, &h) == 0 && dns_read_record(&r, &rec) == -EBADMSG,
       "a pointer forwards is refused");
    struct message wrong = answer_to(q.b, q.n, 0);
    record(&wrong, 0, NULL, DNS_A, 1, "\1\2\3\4\5", 5);
    ok(dns_read_head(&r, wrong.b, wrong.n, &h) == 0 && dns_read_record(&r, &rec) == 1 &&
           dns_read_data(&r, &rec, data, 300) == -EBADMSG,
       "an address of five bytes is refused");
    ok(dns_stream_message((const uint8_t *)"\0\x0c", 2, 512) == 0 &&
           dns_stream_message((const uint8_t *)"\0", 1, 512) == 0 &&
           dns_stream_message((const uint8_t *)"\0\x0b", 2, 512) == -EMSGSIZE &&
           dns_stream_message((const uint8_t *)"\2\1", 2, 512) == -EMSGSIZE &&
           dns_stream_message((const uint8_t *)"\0\x0c\0\0\0\0\0\0\0\0\0\0\0\0more", 18, 512) == 14,
       "a message over TCP begins with its length");
}

static void test_writer(void)
{
    uint8_t out[DNS_MAX_MESSAGE];
    struct message m = query(9, "a.example.org", DNS_A);
    struct dns_query q;
    struct dns_writer w;
    struct dns_reader r;
    struct dns_head h;
    struct dns_record rec;
    struct dns_name other = name_of("b.example.org");
    ok(parse(&m, &q) == 0, "the query is read");
    dns_write_begin(&w, out, DNS_PLAIN_SIZE, &q, 0);
    dns_write_record(&w, 0, &q.name, DNS_A, 300, (const uint8_t *)"\1\2\3\4", 4);
    dns_write_record(&w, 0, &other, DNS_A, 300, (const uint8_t *)"\5\6\7\10", 4);
    size_t n = dns_write_end(&w);
    ok(n == m.n + 16 + 15 + 14 && dns_read_head(&r, out, n, &h) == 0 && h.id == 9 && dns_read_record(&r, &rec) == 1 &&
           rec.ttl == 300 && dns_name_equal(&rec.name, &q.name) && dns_read_record(&r, &rec) == 1 &&
           dns_name_equal(&rec.name, &other),
       "what is written can be read");
    dns_write_begin(&w, out, DNS_PLAIN_SIZE, &q, 0);
    for (int i = 0; i < 100; i++)
        dns_write_record(&w, 0, &q.name, DNS_A, 300, (const uint8_t *)"\1\2\3\4", 4);
    n = dns_write_end(&w);
    ok(n == m.n && dns_read_head(&r, out, n, &h) == 0 && h.truncated && dns_read_record(&r, &rec) == 0,
       "what does not fit is said to be cut, and has no records");
}

/* ---- The answerer ---- */

struct asked {
    struct policy policy;
    struct answerer a;
    struct answerer_step step;
    uint64_t random;
    uint64_t now;
    struct message sent; /* the last query to a resolver */
};

/* xorshift64 */
static uint64_t next_random(void *data)
{
    uint64_t *s = data;
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static void keep_sent(struct asked *t)
{
    if (t->step.action != ANSWERER_SEND)
        return;
    t->sent.n = t->step.len;
    memcpy(t->sent.b, t->step.message, t->step.len);
}

static void begin(struct asked *t, enum policy_kind kind, const char *const *rules)
{
    struct address host = ip("10.0.2.2");
    *t = (struct asked){.random = 88172645463325252u, .now = S};
    if (policy_init(&t->policy, NULL) < 0 || policy_add_layer(&t->policy, kind, NULL) < 0)
        abort();
    for (; rules && *rules; rules++)
        if (policy_allow(&t->policy, *rules, NULL) < 0)
            abort();
    if (answerer_init(&t->a, &t->policy, &host, 0, next_random, &t->random, t->now, NULL) < 0)
        abort();
    answerer_set_servers(&t->a, 2);
}

static void end(struct asked *t)
{
    answerer_done(&t->a);
    policy_done(&t->policy);
}

static enum answerer_action ask_with(struct asked *t, uint16_t id, const char *name, uint16_t type, void *stream)
{
    struct message q = query(id, name, type);
    struct reply_to to = {.guest_port = 4000};
    answerer_query(&t->a, q.b, q.n, &to, stream, t->now, &t->step);
    keep_sent(t);
    return t->step.action;
}

static enum answerer_action ask(struct asked *t, const char *name, uint16_t type)
{
    return ask_with(t, 77, name, type, NULL);
}

static enum answerer_action answered(struct asked *t, unsigned slot, unsigned server, bool tcp, const struct message *m)
{
    answerer_answer(&t->a, slot, server, tcp, m->b, m->n, t->now, &t->step);
    keep_sent(t);
    return t->step.action;
}

/* The answer with one address to what was sent last, from the server it was sent to. */
static enum answerer_action answered_with(struct asked *t, const char *address, uint32_t ttl)
{
    struct message m = answer_to(t->sent.b, t->sent.n, 0);
    record_address(&m, NULL, ttl, address);
    return answered(t, t->step.slot, t->step.server, t->step.tcp, &m);
}

static enum answerer_action ticked(struct asked *t, uint64_t later)
{
    t->now += later;
    answerer_tick(&t->a, t->now, &t->step);
    keep_sent(t);
    return t->step.action;
}

/* How many records the reply has; *ret_rcode. The first one's address, where it has one, and time to live. */
static unsigned reply_records(struct asked *t, uint8_t *ret_rcode, char first[ADDRESS_TEXT], uint32_t *ret_ttl)
{
    struct dns_reader r;
    struct dns_head h;
    struct dns_record rec;
    unsigned n = 0;
    *first = '\0';
    if (t->step.action != ANSWERER_REPLY || dns_read_head(&r, t->step.message, t->step.len, &h) < 0)
        return 99;
    *ret_rcode = h.rcode;
    while (dns_read_record(&r, &rec) == 1) {
        if (!*first && rec.type == DNS_A) {
            struct address a = address_from4(rec.data);
            address_format(&a, first);
            *ret_ttl = rec.ttl;
        }
        n++;
    }
    return n;
}

static bool replied(struct asked *t, uint8_t rcode, unsigned records, const char *first)
{
    char address[ADDRESS_TEXT];
    uint32_t ttl;
    uint8_t code = 99;
    unsigned n = reply_records(t, &code, address, &ttl);
    if (code != rcode || n != records || strcmp(address, first) != 0)
        printf("# action %d code %u, %u records, %s\n", t->step.action, code, n, address);
    return code == rcode && n == records && strcmp(address, first) == 0;
}

static bool open_to(struct asked *t, const char *address, uint64_t now)
{
    struct address a = ip(address);
    return policy_judge(&t->policy, &a, NET_TCP, 443, now) != POLICY_DENY;
}

static void test_way(void)
{
    struct asked t;
    begin(&t, POLICY_LISTED, (const char *const[]){"*.example.org:443", NULL});
    ok(ask(&t, "www.example.org", DNS_A) == ANSWERER_SEND && t.step.server == 0 && !t.step.tcp,
       "an allowed name is asked of the first resolver");
    struct dns_query q;
    ok(dns_parse_query(t.sent.b, t.sent.n, &q) == 0 && q.id != 77 && q.edns && q.recursion, "in words of our own");
    bool mixed = false;
    for (size_t i = 0; i < q.name.len; i++)
        mixed = mixed || q.spelled[i] != q.name.wire[i];
    ok(mixed, "its letters have a random case");
    struct message good = answer_to(t.sent.b, t.sent.n, 0), m = good;
    record_address(&good, NULL, 300, "8.8.8.8");
    unsigned slot = t.step.slot;
    m = good;
    m.b[0] ^= 1;
    ok(answered(&t, slot, 0, false, &m) == ANSWERER_NOTHING, "an answer with another identifier is none");
    m = good;
    for (size_t i = 13; i < 16; i++)
        m.b[i] ^= 0x20;
    ok(answered(&t, slot, 0, false, &m) == ANSWERER_NOTHING, "an answer in another spelling is none");
    m = good;
    m.b[13] = 'x';
    ok(answered(&t, slot, 0, false, &m) == ANSWERER_NOTHING, "an answer to another name is none");
    ok(answered(&t, slot, 1, false, &good) == ANSWERER_NOTHING, "an answer of another resolver is none");
    ok(answered(&t, slot, 0, true, &good) == ANSWERER_NOTHING, "an answer over another protocol is none");
    ok(answered(&t, slot + 1, 0, false, &good) == ANSWERER_NOTHING &&
           answered(&t, 9999, 0, false, &good) == ANSWERER_NOTHING,
       "an answer in another slot is none");
    ok(ask(&t, "www.example.org", DNS_A) == ANSWERER_NOTHING, "the same query again waits for the first one");
    ok(answered(&t, slot, 0, false, &good) == ANSWERER_REPLY && replied(&t, 0, 1, "8.8.8.8") &&
           t.step.to.guest_port == 4000 && t.step.message[1] == 77,
       "the guest has its answer");
    ok(open_to(&t, "8.8.8.8", t.now + 299 * S) && !open_to(&t, "8.8.8.8", t.now + 301 * S),
       "the address is open as long as the answer lives");
    ok(answered(&t, slot, 0, false, &good) == ANSWERER_NOTHING, "the answer counts once");
    ok(ask(&t, "example.com", DNS_A) == ANSWERER_REPLY && replied(&t, DNS_NXDOMAIN, 0, "") &&
           strcmp(t.step.what, "example.com") == 0 && strstr(t.step.said, "--allow example.com"),
       "a name that is not allowed does not exist, and that is said (%s)", t.step.said);
    ok(ask(&t, "c2VjcmV0.evil.net", 16) == ANSWERER_REPLY && replied(&t, DNS_NXDOMAIN, 0, ""),
       "no type of record leads out");
    ok(t.a.count.denied == 2 && t.a.count.queries == 4, "both are counted");
    end(&t);
}

static void test_rebinding(void)
{
    struct asked t;
    begin(&t, POLICY_LISTED, (const char *const[]){"example.org", "10.0.0.5:443", NULL});
    static const char *const bad[] = {"127.0.0.1",   "0.0.0.0",  "169.254.169.254",
                                      "192.168.0.1", "10.0.0.6", "100.64.0.1"};
    while (ticked(&t, 0) == ANSWERER_SEND) /* the check of example.org */
        answered_with(&t, "9.9.9.9", 60);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        ask(&t, "example.org", DNS_A);
        ok(answered_with(&t, bad[i], 300) == ANSWERER_REPLY && replied(&t, 0, 0, "") && strstr(t.step.said, bad[i]) &&
               !open_to(&t, bad[i], t.now),
           "an allowed name that answers %s has no address (%s)", bad[i], t.step.said);
    }
    ask(&t, "example.org", DNS_A);
    ok(answered_with(&t, "10.0.0.5", 300) == ANSWERER_REPLY && replied(&t, 0, 1, "10.0.0.5"),
       "a private address that a rule has passes");
    ask(&t, "example.org", DNS_AAAA);
    struct message m = answer_to(t.sent.b, t.sent.n, 0);
    uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1};
    record(&m, 0, NULL, DNS_AAAA, 60, mapped, 16);
    ok(answered(&t, t.step.slot, 0, false, &m) == ANSWERER_REPLY && replied(&t, 0, 0, ""),
       "a mapped loopback address does not pass");
    ok(t.a.count.filtered == ARRAY_SIZE(bad) + 1, "what was left out is counted");
    ask(&t, "example.org", DNS_A);
    m = answer_to(t.sent.b, t.sent.n, 0);
    record_alias(&m, NULL, 30, "cdn.example.net");
    record_address(&m, "cdn.example.net", 300, "8.8.8.8");
    record_address(&m, "cdn.example.net", 300, "127.0.0.1");
    record_address(&m, "evil.example.net", 300, "6.6.6.6");
    ok(answered(&t, t.step.slot, 0, false, &m) == ANSWERER_REPLY && replied(&t, 0, 2, "8.8.8.8") &&
           open_to(&t, "8.8.8.8", t.now) && !open_to(&t, "6.6.6.6", t.now),
       "aliases are followed, what was not asked is left out");
    char address[ADDRESS_TEXT];
    uint32_t ttl = 0;
    uint8_t code;
    reply_records(&t, &code, address, &ttl);
    ok(ttl == 30, "an answer lives as long as its shortest part");
    ask(&t, "example.org", DNS_A);
    m = answer_to(t.sent.b, t.sent.n, 0);
    record_alias(&m, NULL, 30, "example.org");
    for (int i = 0; i < 40; i++)
        record_alias(&m, "example.org", 30, "example.org");
    ok(answered(&t, t.step.slot, 0, false, &m) == ANSWERER_SEND && t.step.server == 1,
       "aliases without end are a failure: the next resolver is asked");
    end(&t);

    begin(&t, POLICY_PUBLIC, NULL);
    ask(&t, "intranet.example.org", DNS_A);
    ok(answered_with(&t, "192.168.0.1", 60) == ANSWERER_REPLY && replied(&t, 0, 0, ""),
       "under public, private addresses are left out");
    ok(ask(&t, "1.0.168.192.in-addr.arpa", DNS_PTR) == ANSWERER_REPLY && replied(&t, DNS_NXDOMAIN, 0, ""),
       "nor are their names told");
    ok(ask(&t, "8.8.8.8.in-addr.arpa", DNS_PTR) == ANSWERER_SEND, "names of public addresses are asked for");
    end(&t);
}

static void test_host(void)
{
    struct asked t;
    begin(&t, POLICY_LISTED, (const char *const[]){"host:8080", NULL});
    ok(ask(&t, "HOST.mvm.internal", DNS_A) == ANSWERER_REPLY && replied(&t, 0, 1, "10.0.2.2"),
       "the host has a name where a port of it is open");
    ok(ask(&t, "host.mvm.internal", DNS_AAAA) == ANSWERER_REPLY && replied(&t, 0, 0, ""), "and no IPv6 address");
    ok(ask(&t, "other.mvm.internal", DNS_A) == ANSWERER_REPLY && replied(&t, DNS_NXDOMAIN, 0, ""),
       "the zone is asked of no resolver");
    end(&t);
    begin(&t, POLICY_FULL, NULL);
    ok(ask(&t, "host.mvm.internal", DNS_A) == ANSWERER_REPLY && replied(&t, DNS_NXDOMAIN, 0, ""),
       "the host has no name where no port of it is open");
    end(&t);
}

static void test_members(void)
{
    struct asked t;
    static struct peers p;
    begin(&t, POLICY_NONE, NULL);
    ok(ask(&t, "db", DNS_A) == ANSWERER_REPLY && replied(&t, DNS_NXDOMAIN, 0, ""), "who is alone has no members");
    ok(peers_init(&p, "+-1:1:app:Web") == 0, "a member knows its place");
    p.v[2] = (struct peer){.used = true, .name = "db"};
    t.a.peers = &p;
    ok(ask(&t, "db", DNS_A) == ANSWERER_REPLY && replied(&t, DNS_NOERROR, 1, "10.0.2.17"),
       "another member has its address, whatever policy says");
    const struct address v6 = ip("fd6d:766d::5054:ff:fe12:3458");
    ok(ask(&t, "db.app", DNS_AAAA) == ANSWERER_REPLY && replied(&t, DNS_NOERROR, 1, "") &&
           memcmp(t.step.message + t.step.len - 16, v6.b, 16) == 0,
       "and its IPv6 address");
    ok(ask(&t, "db.app.mvm.internal", DNS_A) == ANSWERER_REPLY && replied(&t, DNS_NOERROR, 1, "10.0.2.17"),
       "by its full name, too");
    ok(ask(&t, "web.app", DNS_A) == ANSWERER_REPLY && replied(&t, DNS_NOERROR, 1, "10.0.2.16"), "it knows itself");
    ok(ask(&t, "db", DNS_MX) == ANSWERER_REPLY && replied(&t, DNS_NOERROR, 0, ""), "it has nothing else");
    ok(ask(&t, "17.2.0.10.in-addr.arpa", DNS_PTR) == ANSWERER_REPLY && replied(&t, DNS_NOERROR, 1, ""),
       "its address has a name");
    static const char *const others[] = {"db.mvm.internal", "db.other", "db.other.mvm.internal",
                                         "x.db.app",        "d",        "18.2.0.10.in-addr.arpa"};
    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        ok(ask(&t, others[i], DNS_A) == ANSWERER_REPLY && replied(&t, DNS_NXDOMAIN, 0, ""), "%s is nobody's name",
           others[i]);
    uint8_t out[DNS_PLAIN_SIZE];
    const struct dns_query q = {.type = DNS_A, .name = name_of("app")};
    ok(vm_names_answer(&p, &q, "app", out) == 0, "the network's name is no member's");
    end(&t);
}

static void test_tries(void)
{
    struct asked t;
    begin(&t, POLICY_PUBLIC, NULL);
    ok(answerer_next(&t.a) == 0, "nothing is due without a query");
    ask(&t, "example.org", DNS_A);
    ok(answerer_next(&t.a) == t.now + ANSWERER_TRY_MS * NSEC_PER_MSEC && ticked(&t, S) == ANSWERER_NOTHING,
       "a resolver has its time");
    struct message first = t.sent, late = answer_to(first.b, first.n, 0);
    unsigned slot = t.step.slot;
    ok(ticked(&t, S) == ANSWERER_SEND && t.step.server == 1 && t.step.slot == slot && memcmp(first.b, t.sent.b, 2) != 0,
       "then the next one is asked, with another identifier");
    ok(answered(&t, slot, 0, false, &late) == ANSWERER_NOTHING, "what the first one says then is late");
    ok(ticked(&t, 2 * S) == ANSWERER_SEND && t.step.server == 0, "then the first one again");
    ok(ticked(&t, 2 * S) == ANSWERER_SEND && t.sent.b[11] == 0, "at last in plain words");
    ok(ticked(&t, 2 * S) == ANSWERER_REPLY && replied(&t, DNS_SERVFAIL, 0, "") && t.a.count.failed == 1 &&
           answerer_next(&t.a) == 0,
       "then it has failed");

    ask(&t, "example.org", DNS_A);
    struct message m = answer_to(t.sent.b, t.sent.n, DNS_REFUSED);
    ok(answered(&t, t.step.slot, 0, false, &m) == ANSWERER_SEND && t.step.server == 1,
       "after a resolver that refuses the next one is asked");
    m = answer_to(t.sent.b, t.sent.n, DNS_FORMERR);
    ok(answered(&t, t.step.slot, 1, false, &m) == ANSWERER_SEND && t.sent.b[11] == 0,
       "a resolver that does not know EDNS is asked without");
    m = answer_to(t.sent.b, t.sent.n, 0);
    record_address(&m, NULL, 60, "8.8.8.8");
    for (size_t i = 13; i < 16; i++)
        m.b[i] &= (uint8_t)~0x20;
    ok(answered(&t, t.step.slot, t.step.server, false, &m) == ANSWERER_REPLY && replied(&t, 0, 1, "8.8.8.8"),
       "then the spelling does not count");

    ask(&t, "example.org", DNS_A);
    m = answer_to(t.sent.b, t.sent.n, 0);
    m.b[2] |= 2;
    ok(answered(&t, t.step.slot, 0, false, &m) == ANSWERER_SEND && t.step.tcp && t.step.server == 0,
       "what was cut is asked for over TCP");
    m = answer_to(t.sent.b, t.sent.n, 0);
    for (int i = 0; i < 100; i++)
        record_address(&m, NULL, 60, "8.8.8.8");
    ok(answered(&t, t.step.slot, 0, true, &m) == ANSWERER_REPLY && t.step.message[2] & 2 && replied(&t, 0, 0, ""),
       "what is too long for the guest is cut, too");
    int stream;
    ask_with(&t, 78, "example.org", DNS_A, &stream);
    m = answer_to(t.sent.b, t.sent.n, 0);
    for (int i = 0; i < 100; i++)
        record_address(&m, NULL, 60, "8.8.8.8");
    ok(answered(&t, t.step.slot, 0, false, &m) == ANSWERER_REPLY && t.step.stream == &stream &&
           replied(&t, 0, 100, "8.8.8.8"),
       "over TCP it is whole");

    ask(&t, "example.org", DNS_A);
    answerer_failed(&t.a, t.step.slot, t.now, &t.step);
    ok(t.step.action == ANSWERER_SEND && t.step.server == 1,
       "after a socket that failed the next resolver is asked at once");
    m = answer_to(t.sent.b, t.sent.n, 0);
    m.b[2] |= 2;
    unsigned old = t.step.slot;
    answerer_set_servers(&t.a, 1);
    ok(answered(&t, old, 1, false, &m) == ANSWERER_NOTHING, "what resolvers of before say is late");
    ok(ticked(&t, 0) == ANSWERER_SEND && t.step.server == 0, "with other resolvers it begins again");
    answerer_set_servers(&t.a, 0);
    ok(ticked(&t, 0) == ANSWERER_REPLY && replied(&t, DNS_SERVFAIL, 0, ""), "without resolvers it fails");
    ok(ask(&t, "example.org", DNS_A) == ANSWERER_REPLY && replied(&t, DNS_SERVFAIL, 0, ""),
       "and so does the next at once");
    answerer_set_servers(&t.a, 1);
    ask_with(&t, 79, "example.org", DNS_A, &stream);
    answerer_forget(&t.a, &stream);
    ok(answered_with(&t, "8.8.8.8", 60) == ANSWERER_CLOSE, "what a closed connection asked has no reply");
    end(&t);
}

static void test_bounds(void)
{
    struct asked t;
    begin(&t, POLICY_PUBLIC, NULL);
    unsigned sent = 0, failed = 0;
    for (uint16_t i = 0; i < 100; i++) {
        enum answerer_action a = ask_with(&t, i, "example.org", DNS_A, NULL);
        sent += a == ANSWERER_SEND;
        failed += a == ANSWERER_REPLY;
    }
    ok(sent == ANSWERER_SLOTS && failed == 100 - ANSWERER_SLOTS && t.a.count.limited == failed,
       "at most %d queries are under way", ANSWERER_SLOTS);
    for (uint16_t i = 0; i < 200; i++)
        ask_with(&t, i, "host.mvm.internal", DNS_A, NULL);
    ok(t.a.count.limited == failed + 100 && replied(&t, DNS_SERVFAIL, 0, ""),
       "more than %d queries a second are not looked up", ANSWERER_RATE);
    struct message bad = {.n = 5};
    struct reply_to to = {0};
    answerer_query(&t.a, bad.b, bad.n, &to, NULL, t.now, &t.step);
    ok(t.step.action == ANSWERER_NOTHING, "half a header has no answer");
    end(&t);
}

static void test_checks(void)
{
    struct asked t;
    begin(&t, POLICY_LISTED, (const char *const[]){"gone.example.org", "*.example.net", "10.0.0.0/8", NULL});
    ok(answerer_next(&t.a) == t.now && ticked(&t, 0) == ANSWERER_SEND, "an allowed name is looked up at once");
    struct message m = answer_to(t.sent.b, t.sent.n, DNS_NXDOMAIN);
    ok(answered(&t, t.step.slot, 0, false, &m) == ANSWERER_CLOSE && !*t.step.said && ticked(&t, 0) == ANSWERER_SEND,
       "then its IPv6 address");
    m = answer_to(t.sent.b, t.sent.n, DNS_NXDOMAIN);
    ok(answered(&t, t.step.slot, 0, false, &m) == ANSWERER_CLOSE &&
           strstr(t.step.said, "gone.example.org has no address"),
       "one that has none is said (%s)", t.step.said);
    ok(ticked(&t, 0) == ANSWERER_NOTHING && answerer_next(&t.a) == t.now + ANSWERER_CHECK_S * S &&
           ticked(&t, 31 * S) == ANSWERER_SEND,
       "it is looked up again later");
    ok(answered_with(&t, "8.8.8.8", 60) == ANSWERER_CLOSE && strstr(t.step.said, "has an address now") &&
           answerer_next(&t.a) == 0,
       "and then found (%s)", t.step.said);
    ok(open_to(&t, "8.8.8.8", t.now), "what was found is open");
    end(&t);
}

/* The filter alone: records of other classes and authority. */
static void test_filter(void)
{
    struct policy p;
    struct dns_query q;
    struct dns_reader r;
    struct dns_head h;
    struct dns_record rec;
    struct filter_result f;
    uint8_t out[DNS_MAX_MESSAGE];
    struct message m = query(1, "a.example.org", DNS_A), soa;
    if (policy_init(&p, NULL) < 0 || policy_add_layer(&p, POLICY_PUBLIC, NULL) < 0 || parse(&m, &q) != 0)
        abort();
    soa = answer_to(m.b, m.n, DNS_NXDOMAIN);
    record(&soa, 1, "example.org", DNS_SOA, 900, "\xc0\x0e\xc0\x0c\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0\5", 24);
    ok(dns_read_head(&r, soa.b, soa.n, &h) == 0 &&
           filter_answer(&p, &q, "a.example.org", &r, &h, out, sizeof(out), 0, &f) == 0 &&
           dns_read_head(&r, out, f.len, &h) == 0 && h.rcode == DNS_NXDOMAIN && dns_read_record(&r, &rec) == 1 &&
           rec.section == 1 && rec.type == DNS_SOA && rec.ttl == 900,
       "how long a name does not exist is passed on");
    struct message hesiod = answer_to(m.b, m.n, 0);
    record_address(&hesiod, NULL, 1, "8.8.8.8");
    hesiod.b[hesiod.n - 11] = 4;
    ok(dns_read_head(&r, hesiod.b, hesiod.n, &h) == 0 &&
           filter_answer(&p, &q, "a.example.org", &r, &h, out, sizeof(out), 0, &f) == 0 && f.addresses == 0,
       "a record of another class is left out");
    policy_done(&p);
}

int main(void)
{
    test_queries();
    test_answers();
    test_writer();
    test_way();
    test_rebinding();
    test_host();
    test_members();
    test_tries();
    test_bounds();
    test_checks();
    test_filter();
    return tap_end();
}
