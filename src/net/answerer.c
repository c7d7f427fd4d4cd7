#include "net/answerer.h"
#include "base/clock.h"
#include "base/macros.h"
#include "net/filter.h"
#include "net/vm_names.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define OUR_ZONE PEERS_ZONE
#define OUR_TTL  60

/* A query that resolvers are asked. */
struct answerer_slot {
    bool used, tcp, forgotten; /* tcp: to the resolver */
    struct dns_query q;
    char name[DNS_MAX_TEXT];
    struct reply_to to;
    void *stream;
    size_t check; /* 1 + of which rule this is a check; 0: it is the guest's */
    uint16_t id;
    uint8_t spelled[255];
    unsigned tries, server;
    uint64_t deadline;
};

/* The names of rules are looked up before the guest does: one that has no address is said. */
struct answerer_check {
    uint64_t at; /* 0: never */
    const char *name;
    uint16_t type;
    bool said;
};

int answerer_init(struct answerer *a, struct policy *p, const struct address *host4, uint32_t rate,
                  uint64_t (*random)(void *), void *random_data, uint64_t now, struct mvm_error *err)
{
    *a = (struct answerer){.policy = p, .host4 = *host4, .random = random, .random_data = random_data};
    if (!rate)
        rate = ANSWERER_RATE;
    bucket_init(&a->budget, rate, 2ull * rate, now);
    a->slots = calloc(ANSWERER_SLOTS, sizeof(*a->slots));
    a->out = malloc(DNS_MAX_MESSAGE);
    a->checks = calloc(POLICY_MAX_RULES, sizeof(*a->checks));
    if (!a->slots || !a->out || !a->checks) {
        answerer_done(a);
        return mvm_error_errno(err, -ENOMEM, "DNS");
    }
    size_t n = 0;
    for (size_t i = 0; i < p->n_layers; i++)
        for (size_t k = 0; k < p->layers[i].n_rules; k++, n++)
            if (p->layers[i].rules[k].kind == RULE_NAME)
                a->checks[n] = (struct answerer_check){.at = now, .name = p->layers[i].rules[k].name, .type = DNS_A};
    return 0;
}

void answerer_done(struct answerer *a)
{
    free(a->slots);
    free(a->out);
    free(a->checks);
    *a = (struct answerer){0};
}

void answerer_set_servers(struct answerer *a, unsigned n)
{
    a->n_servers = MIN_OF(n, ANSWERER_SERVERS);
    for (struct answerer_slot *s = a->slots; s < a->slots + ANSWERER_SLOTS; s++) {
        s->tries = 0;
        s->tcp = false;
        s->deadline = 0;
    }
}

void answerer_forget(struct answerer *a, const void *stream)
{
    for (struct answerer_slot *s = a->slots; s < a->slots + ANSWERER_SLOTS; s++)
        if (s->used && s->stream == stream) {
            s->stream = NULL;
            s->forgotten = true;
        }
}

/* ---- Answers to the guest ---- */

static size_t reply_cap(const struct dns_query *q, const void *stream)
{
    return stream ? DNS_MAX_MESSAGE : q->size;
}

static void reply(struct answerer *a, const struct reply_to *to, void *stream, size_t len, struct answerer_step *ret)
{
    ret->action = ANSWERER_REPLY;
    ret->slot = ANSWERER_SLOTS;
    ret->to = *to;
    ret->stream = stream;
    ret->message = a->out;
    ret->len = len;
}

/* Without records. */
static size_t write_code(struct answerer *a, const struct dns_query *q, uint8_t rcode)
{
    struct dns_writer w;
    dns_write_begin(&w, a->out, DNS_PLAIN_SIZE, q, rcode);
    return dns_write_end(&w);
}

static size_t write_host(struct answerer *a, const struct dns_query *q)
{
    struct dns_writer w;
    dns_write_begin(&w, a->out, DNS_PLAIN_SIZE, q, DNS_NOERROR);
    if (q->type == DNS_A)
        dns_write_record(&w, 0, &q->name, q->type, OUR_TTL, address_v4(&a->host4), 4);
    return dns_write_end(&w);
}

static bool opens_some_host_port(const struct policy *p)
{
    for (size_t i = 0; i < p->n_layers; i++)
        for (size_t k = 0; k < p->layers[i].n_rules; k++)
            if (p->layers[i].rules[k].kind == RULE_HOST && policy_opens_host(p, p->layers[i].rules[k].port))
                return true;
    return false;
}

static bool is_below(const char *name, const char *zone)
{
    size_t n = strlen(name), z = strlen(zone);
    return (n > z && strcmp(name + n - z, zone) == 0) || strcmp(name, zone + 1) == 0;
}

/* What no resolver is asked: the host, the VMs of its network, and whose addresses those are that cannot be reached.
 * The length of the answer; 0: a resolver is. */
static size_t answer_here(struct answerer *a, const struct dns_query *q, const char *name)
{
    uint8_t ip[16];
    if (strcmp(name, HOST_NAME) == 0 && opens_some_host_port(a->policy))
        return write_host(a, q);
    size_t vm = a->peers ? vm_names_answer(a->peers, q, name, a->out) : 0;
    if (vm)
        return vm;
    if (is_below(name, OUR_ZONE))
        return write_code(a, q, DNS_NXDOMAIN);
    size_t n = dns_reverse_address(name, ip);
    if (!n)
        return 0;
    struct address v = n == 4 ? address_from4(ip) : address_from6(ip);
    return policy_may_answer(a->policy, "", &v) ? 0 : write_code(a, q, DNS_NXDOMAIN);
}

static void say_denied(struct answerer *a, const char *name, struct answerer_step *ret)
{
    bool none = !a->policy->n_layers || a->policy->layers[0].kind == POLICY_NONE;
    snprintf(ret->what, sizeof(ret->what), "%s", name);
    snprintf(ret->said, sizeof(ret->said), "the name %.253s was not looked up: no rule allows it%s%.253s", name,
             none ? "" : "; allowed with --allow ", none ? "" : name);
}

static void say_limited(struct answerer *a, struct answerer_step *ret)
{
    a->count.limited++;
    snprintf(ret->what, sizeof(ret->what), "#"); /* no name */
    snprintf(ret->said, sizeof(ret->said),
             "names were not looked up: more than %llu a second; allowed with --net-queries",
             (unsigned long long)a->budget.rate);
}

/* ---- Queries to resolvers ---- */

/* Letters in a case that an answer has to repeat (draft-vixie-dnsext-dns0x20). */
static void spell(struct answerer *a, struct answerer_slot *s, bool plain)
{
    uint64_t bits = 0;
    for (size_t i = 0; i < s->q.name.len; i++) {
        uint8_t c = s->q.name.wire[i];
        if (i % 64 == 0)
            bits = a->random(a->random_data);
        bool letter = c >= 'a' && c <= 'z';
        s->spelled[i] = letter && !plain && (bits >> i % 64 & 1) ? (uint8_t)(c - 'a' + 'A') : c;
    }
}

static void send_try(struct answerer *a, struct answerer_slot *s, uint64_t now, struct answerer_step *ret)
{
    bool plain = s->tries == ANSWERER_TRIES - 1;
    s->id = (uint16_t)a->random(a->random_data);
    spell(a, s, plain);
    s->deadline = now + ANSWERER_TRY_MS * NSEC_PER_MSEC;
    ret->action = ANSWERER_SEND;
    ret->slot = (unsigned)(s - a->slots);
    ret->server = s->server;
    ret->tcp = s->tcp;
    ret->message = a->out;
    ret->len = dns_build_query(a->out, DNS_MAX_MESSAGE, s->id, s->spelled, s->q.name.len, s->q.type, !plain);
}

static void finish(struct answerer *a, struct answerer_slot *s, size_t len, struct answerer_step *ret)
{
    if (s->check || s->forgotten)
        ret->action = ANSWERER_CLOSE;
    else
        reply(a, &s->to, s->stream, len, ret);
    ret->slot = (unsigned)(s - a->slots);
    s->used = false;
}

/* An allowed name has been looked up. */
static void finish_check(struct answerer *a, struct answerer_slot *s, bool found, uint64_t now,
                         struct answerer_step *ret)
{
    struct answerer_check *c = &a->checks[s->check - 1];
    c->at = 0;
    if (!found) {
        bool both = c->type == DNS_AAAA;
        c->type = both ? DNS_A : DNS_AAAA;
        c->at = both ? now + ANSWERER_CHECK_S * NSEC_PER_SEC : now;
        if (!both)
            return;
    }
    if (c->said == !found)
        return;
    c->said = !found;
    snprintf(ret->what, sizeof(ret->what), "allowed %.240s %s", c->name, found ? "found" : "lost");
    snprintf(ret->said, sizeof(ret->said),
             found ? "the allowed name %.253s has an address now"
                   : "the allowed name %.253s has no address; it is looked up again",
             c->name);
}

static void fail(struct answerer *a, struct answerer_slot *s, uint64_t now, struct answerer_step *ret)
{
    a->count.failed++;
    if (s->check)
        finish_check(a, s, false, now, ret);
    finish(a, s, write_code(a, &s->q, DNS_SERVFAIL), ret);
}

static void next_try(struct answerer *a, struct answerer_slot *s, uint64_t now, struct answerer_step *ret)
{
    s->tcp = false;
    if (++s->tries >= ANSWERER_TRIES || !a->n_servers)
        return fail(a, s, now, ret);
    s->server = s->tries % a->n_servers;
    send_try(a, s, now, ret);
}

static struct answerer_slot *take_slot(struct answerer *a, const struct dns_query *q, const char *name)
{
    for (struct answerer_slot *s = a->slots; s < a->slots + ANSWERER_SLOTS; s++)
        if (!s->used) {
            *s = (struct answerer_slot){.used = true, .q = *q};
            memcpy(s->name, name, strlen(name) + 1);
            return s;
        }
    return NULL;
}

/* ---- From the guest ---- */

static bool is_under_way(const struct answerer *a, const struct dns_query *q, const struct reply_to *to,
                         const void *stream)
{
    for (const struct answerer_slot *s = a->slots; s < a->slots + ANSWERER_SLOTS; s++)
        if (s->used && !s->check && !s->forgotten && s->q.id == q->id && s->q.type == q->type && s->stream == stream &&
            s->to.guest_port == to->guest_port && s->to.v6 == to->v6 && dns_name_equal(&s->q.name, &q->name))
            return true;
    return false;
}

static void ask(struct answerer *a, const struct dns_query *q, const char *name, const struct reply_to *to,
                void *stream, uint64_t now, struct answerer_step *ret)
{
    if (is_under_way(a, q, to, stream))
        return;
    struct answerer_slot *s = a->n_servers ? take_slot(a, q, name) : NULL;
    if (!s) {
        a->count.limited += a->n_servers > 0;
        return reply(a, to, stream, write_code(a, q, DNS_SERVFAIL), ret);
    }
    s->to = *to;
    s->stream = stream;
    send_try(a, s, now, ret);
}

void answerer_query(struct answerer *a, const uint8_t *query, size_t len, const struct reply_to *to, void *stream,
                    uint64_t now, struct answerer_step *ret)
{
    struct dns_query q;
    char name[DNS_MAX_TEXT];
    *ret = (struct answerer_step){.action = ANSWERER_NOTHING};
    int r = dns_parse_query(query, len, &q);
    if (r < 0)
        return;
    a->count.queries++;
    if (!bucket_take(&a->budget, 1, now)) {
        reply(a, to, stream, write_code(a, &q, DNS_SERVFAIL), ret);
        return say_limited(a, ret);
    }
    if (r > 0)
        return reply(a, to, stream, write_code(a, &q, (uint8_t)r), ret);
    if (!dns_name_text(&q.name, name))
        return reply(a, to, stream, write_code(a, &q, DNS_REFUSED), ret);
    size_t here = answer_here(a, &q, name);
    if (here)
        return reply(a, to, stream, here, ret);
    uint8_t ip[16];
    if (policy_may_ask(a->policy, name) || dns_reverse_address(name, ip))
        return ask(a, &q, name, to, stream, now, ret);
    a->count.denied++;
    reply(a, to, stream, write_code(a, &q, DNS_NXDOMAIN), ret);
    say_denied(a, name, ret);
}

/* ---- From resolvers ---- */

/* Does the answer belong to what was sent last? */
static bool matches(const struct answerer_slot *s, const struct dns_head *h)
{
    bool plain = s->tries == ANSWERER_TRIES - 1;
    if (h->id != s->id || h->type != s->q.type || h->class != 1 || !dns_name_equal(&h->name, &s->q.name))
        return false;
    return plain || memcmp(h->spelled, s->spelled, s->q.name.len) == 0;
}

static void say_filtered(struct answerer *a, const struct answerer_slot *s, const struct address *refused,
                         struct answerer_step *ret)
{
    char address[ADDRESS_TEXT], flag[POLICY_FLAG];
    policy_flag(a->policy, refused, 0, 0, flag);
    a->count.filtered++;
    snprintf(ret->what, sizeof(ret->what), "%s", s->name);
    snprintf(ret->said, sizeof(ret->said), "an address of the name %.253s was left out: %s, %s%s%.60s", s->name,
             address_format(refused, address), address_class_words(address_class(refused)),
             *flag ? "; allowed with " : "", flag);
}

static void pass_on(struct answerer *a, struct answerer_slot *s, struct dns_reader *r, const struct dns_head *h,
                    uint64_t now, struct answerer_step *ret)
{
    struct filter_result f;
    size_t cap = reply_cap(&s->q, s->stream);
    if (filter_answer(a->policy, &s->q, s->name, r, h, a->out, cap, now, &f) < 0)
        return next_try(a, s, now, ret);
    if (f.filtered)
        say_filtered(a, s, &f.refused, ret);
    if (s->check)
        finish_check(a, s, f.addresses > 0, now, ret);
    finish(a, s, f.len, ret);
}

void answerer_answer(struct answerer *a, unsigned slot, unsigned server, bool tcp, const uint8_t *answer, size_t len,
                     uint64_t now, struct answerer_step *ret)
{
    struct dns_reader r;
    struct dns_head h;
    *ret = (struct answerer_step){.action = ANSWERER_NOTHING};
    if (slot >= ANSWERER_SLOTS || !a->slots[slot].used)
        return;
    struct answerer_slot *s = &a->slots[slot];
    if (!s->deadline)
        return; /* it begins again: the servers are others now */
    if (server != s->server || tcp != s->tcp || dns_read_head(&r, answer, len, &h) < 0 || !matches(s, &h))
        return;
    if (h.truncated && !tcp) {
        s->tcp = true;
        return send_try(a, s, now, ret);
    }
    if (h.truncated)
        return next_try(a, s, now, ret);
    if (h.rcode == DNS_NOERROR || h.rcode == DNS_NXDOMAIN)
        return pass_on(a, s, &r, &h, now, ret);
    /* A server that does not know EDNS: in plain words then. */
    if ((h.rcode == DNS_FORMERR || h.rcode == DNS_NOTIMP) && s->tries < ANSWERER_TRIES - 2)
        s->tries = ANSWERER_TRIES - 2;
    next_try(a, s, now, ret);
}

void answerer_failed(struct answerer *a, unsigned slot, uint64_t now, struct answerer_step *ret)
{
    *ret = (struct answerer_step){.action = ANSWERER_NOTHING};
    if (slot < ANSWERER_SLOTS && a->slots[slot].used)
        next_try(a, &a->slots[slot], now, ret);
}

/* ---- Time ---- */

uint64_t answerer_next(const struct answerer *a)
{
    uint64_t next = 0;
    for (const struct answerer_slot *s = a->slots; s < a->slots + ANSWERER_SLOTS; s++)
        if (s->used)
            next = next ? MIN_OF(next, MAX_OF(s->deadline, 1)) : MAX_OF(s->deadline, 1);
    for (size_t i = 0; i < a->policy->n_rules && a->n_servers; i++)
        if (a->checks[i].at)
            next = next ? MIN_OF(next, a->checks[i].at) : a->checks[i].at;
    return next;
}

/* One check that is due, where a resolver and a slot are there. */
static void begin_check(struct answerer *a, uint64_t now, struct answerer_step *ret)
{
    for (size_t i = 0; i < a->policy->n_rules && a->n_servers; i++) {
        struct answerer_check *c = &a->checks[i];
        struct dns_query q = {.type = c->type};
        if (!c->at || c->at > now)
            continue;
        c->at = now + ANSWERER_CHECK_S * NSEC_PER_SEC; /* for want of a slot; finish_check says more */
        struct answerer_slot *s = dns_name_from(c->name, &q.name) ? take_slot(a, &q, c->name) : NULL;
        if (!s)
            continue;
        c->at = 0;
        s->check = 1 + i;
        return send_try(a, s, now, ret);
    }
}

void answerer_tick(struct answerer *a, uint64_t now, struct answerer_step *ret)
{
    *ret = (struct answerer_step){.action = ANSWERER_NOTHING};
    for (struct answerer_slot *s = a->slots; s < a->slots + ANSWERER_SLOTS; s++) {
        if (!s->used || s->deadline > now)
            continue;
        /* Without a deadline it begins again, at other resolvers. */
        if (s->deadline)
            return next_try(a, s, now, ret);
        s->server = 0;
        return a->n_servers ? send_try(a, s, now, ret) : fail(a, s, now, ret);
    }
    begin_check(a, now, ret);
}
