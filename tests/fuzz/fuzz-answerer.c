/* A guest and its resolvers, both hostile, in steps: no address is opened that policy would not have answered, and
 * every message of ours can be read. */
#include "fuzz.h"

#include "base/clock.h"
#include "net/answerer.h"

#include <string.h>

struct play {
    struct policy policy;
    struct answerer a;
    struct answerer_step step;
    uint64_t seed, now;
    uint8_t sent[ANSWERER_SLOTS][512]; /* the last query of each slot */
    size_t sent_len[ANSWERER_SLOTS];
    unsigned server[ANSWERER_SLOTS];
    bool tcp[ANSWERER_SLOTS];
};

static uint64_t next_random(void *data)
{
    uint64_t *s = data;
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return *s ^ *s >> 33;
}

static void check(struct play *p)
{
    const struct answerer_step *s = &p->step;
    struct dns_query q;
    struct dns_reader r;
    struct dns_head h;
    MUST(strlen(s->what) < sizeof(s->what) && strlen(s->said) < sizeof(s->said) && !*s->what == !*s->said);
    if (s->action == ANSWERER_SEND) {
        MUST(s->slot < ANSWERER_SLOTS && s->server < p->a.n_servers && s->len <= sizeof(p->sent[0]));
        MUST(dns_parse_query(s->message, s->len, &q) == 0);
        memcpy(p->sent[s->slot], s->message, s->len);
        p->sent_len[s->slot] = s->len;
        p->server[s->slot] = s->server;
        p->tcp[s->slot] = s->tcp;
    }
    if (s->action == ANSWERER_REPLY) {
        MUST(s->len >= 12 && s->len <= (s->stream ? DNS_MAX_MESSAGE : DNS_EDNS_SIZE) && s->message[2] & 0x80);
        if (s->message[5])
            MUST(dns_read_head(&r, s->message, s->len, &h) == 0);
        struct dns_record rec;
        while (s->message[5] && dns_read_record(&r, &rec) == 1)
            MUST(rec.type != DNS_A || rec.len != 4 || rec.data[0] != 127);
    }
    for (size_t i = 0; i < p->policy.n_answers; i++)
        MUST(address_class(&p->policy.answers[i].address) == ADDRESS_PUBLIC ||
             address_class(&p->policy.answers[i].address) == ADDRESS_PRIVATE);
}

/* A message from a resolver: the question and identifier of what was asked, unless `raw`. */
static void answer(struct play *p, struct input *in, unsigned slot, bool raw)
{
    uint8_t m[1024];
    size_t at = raw ? 0 : p->sent_len[slot], n;
    if (at && p->sent[slot][11])
        at -= 11; /* EDNS */
    memcpy(m, p->sent[slot], at);
    if (at) {
        uint8_t flags = input_u8(in), counts = input_u8(in);
        m[2] = (uint8_t)(0x80 | (flags & 2));
        m[3] = flags >> 4;
        m[7] = counts & 15;
        m[9] = counts >> 4;
        m[11] = 0;
    }
    const uint8_t *rest = input_bytes(in, input_u8(in), &n);
    if (n)
        memcpy(m + at, rest, n);
    answerer_answer(&p->a, slot, p->server[slot], p->tcp[slot], m, at + n, p->now, &p->step);
}

static void query(struct play *p, struct input *in, bool tcp)
{
    static const char *const names[] = {"example.org",       "a.example.net",          "evil.net",
                                        "host.mvm.internal", "1.0.0.127.in-addr.arpa", "b.mvm.internal"};
    static const char *const members[] = {
        "db", "db.app", "web.app.mvm.internal", "x.app.mvm.internal", "app", "17.2.0.10.in-addr.arpa"};
    uint8_t m[600], which = input_u8(in);
    size_t n;
    struct reply_to to = {.guest_port = which};
    struct dns_name name;
    if (which & 128) {
        const uint8_t *raw = input_bytes(in, input_u8(in), &n);
        if (n)
            memcpy(m, raw, n);
    } else {
        MUST(dns_name_from((p->a.peers ? members : names)[which % 6], &name));
        n = dns_build_query(m, sizeof(m), which, name.wire, name.len, input_u8(in), which & 64);
    }
    answerer_query(&p->a, m, n, &to, tcp ? p : NULL, p->now, &p->step);
}

static void act(struct play *p, struct input *in)
{
    uint8_t what = input_u8(in);
    unsigned slot = what >> 4;
    switch (what & 7) {
    case 0:
    case 1:
        query(p, in, what & 1);
        break;
    case 2:
    case 3:
        answer(p, in, slot, what & 1);
        break;
    case 4:
        p->now += (uint64_t)slot * 500 * NSEC_PER_MSEC;
        answerer_tick(&p->a, p->now, &p->step);
        break;
    case 5:
        answerer_failed(&p->a, slot, p->now, &p->step);
        break;
    case 6:
        answerer_forget(&p->a, p);
        p->step = (struct answerer_step){0};
        break;
    case 7:
        answerer_set_servers(&p->a, slot % 5);
        p->step = (struct answerer_step){0};
        break;
    }
    check(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct play p;
    struct input in = {data, size};
    struct address host;
    p = (struct play){.seed = 1, .now = NSEC_PER_SEC};
    MUST(address_parse("10.0.2.2", &host) == 0 && policy_init(&p.policy, NULL) == 0);
    static const char *const rules[] = {"example.org", "*.example.net:443", "10.0.0.0/8", "host:8080"};
    uint8_t kind = input_u8(&in);
    MUST(policy_add_layer(&p.policy, kind & 1 ? POLICY_PUBLIC : POLICY_LISTED, NULL) == 0);
    for (size_t i = 0; i < 4; i++)
        MUST(policy_allow(&p.policy, rules[i], NULL) == 0);
    MUST(answerer_init(&p.a, &p.policy, &host, 0, next_random, &p.seed, p.now, NULL) == 0);
    answerer_set_servers(&p.a, 2);
    static struct peers peers;
    MUST(peers_init(&peers, "+-1:1:app:web") == 0);
    peers.v[2] = (struct peer){.used = true, .name = "db"};
    p.a.peers = kind & 2 ? &peers : NULL;
    while (in.left)
        act(&p, &in);
    answerer_done(&p.a);
    policy_done(&p.policy);
    return 0;
}
