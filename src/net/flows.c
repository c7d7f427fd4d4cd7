#include "net/flows.h"
#include "base/clock.h"
#include "base/macros.h"
#include "net/packet.h"
#include "net/rule.h"

#include <errno.h>
#include <string.h>

#define NO_FLOW UINT32_MAX
#define SWEEP   8 /* how many are looked at for each that is added */

#define HALF_OPEN_S 60
#define TCP_S       7200
#define DATAGRAM_S  240

struct flow {
    struct flow_key key;
    bool used, closed, answered; /* answered: by a second packet of the guest's */
    uint32_t next;               /* of its chain, or of the free ones */
    uint64_t until;
};

int flows_init(struct flows *f, uint32_t max, uint64_t seed, struct mvm_error *err)
{
    uint32_t heads = 16;
    while (heads < max)
        heads *= 2;
    *f = (struct flows){.max = max, .n_heads = heads, .seed = seed | 1};
    f->v = calloc(max, sizeof(*f->v));
    f->heads = malloc(heads * sizeof(*f->heads));
    if (!f->v || !f->heads) {
        flows_done(f);
        return mvm_error_errno(err, -ENOMEM, "connections");
    }
    for (uint32_t i = 0; i < heads; i++)
        f->heads[i] = NO_FLOW;
    for (uint32_t i = 0; i < max; i++)
        f->v[i].next = i + 1 < max ? i + 1 : NO_FLOW;
    return 0;
}

void flows_done(struct flows *f)
{
    free(f->v);
    free(f->heads);
    *f = (struct flows){0};
}

static uint32_t *chain(struct flows *f, const struct flow_key *k)
{
    uint64_t a, b, h = f->seed;
    memcpy(&a, k->there.b, 8);
    memcpy(&b, k->there.b + 8, 8);
    uint64_t c = (uint64_t)k->port << 32 | (uint64_t)k->guest_port << 16 | (uint64_t)k->protocol << 8 | k->v6;
    const uint64_t parts[] = {a, b, c};
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        h = (h ^ parts[i]) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    h *= f->seed;
    return &f->heads[(h >> 33) & (f->n_heads - 1)];
}

static bool same(const struct flow_key *a, const struct flow_key *b)
{
    return a->port == b->port && a->guest_port == b->guest_port && a->protocol == b->protocol && a->v6 == b->v6 &&
           address_equal(&a->there, &b->there);
}

static void drop(struct flows *f, uint32_t i)
{
    uint32_t *at = chain(f, &f->v[i].key);
    while (*at != i)
        at = &f->v[*at].next;
    *at = f->v[i].next;
    f->v[i] = (struct flow){.next = f->free_head};
    f->free_head = i;
    f->n--;
}

static uint64_t lifetime(const struct flow *o)
{
    uint64_t s = o->key.protocol != NET_TCP ? DATAGRAM_S : o->closed || !o->answered ? HALF_OPEN_S : TCP_S;
    return s * NSEC_PER_SEC;
}

bool flows_touch(struct flows *f, const struct flow_key *k, uint8_t tcp_flags, bool outward, uint64_t now)
{
    uint32_t i = *chain(f, k);
    while (i != NO_FLOW && !same(&f->v[i].key, k))
        i = f->v[i].next;
    if (i == NO_FLOW)
        return false;
    struct flow *o = &f->v[i];
    /* The same ports again, after the first packets, are another connection. */
    bool opens = outward && (tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
    if (now > o->until || (opens && (o->answered || o->closed))) {
        drop(f, i);
        return false;
    }
    if (outward && !opens)
        o->answered = true;
    if (tcp_flags & (TCP_FIN | TCP_RST))
        o->closed = true;
    /* What comes from outside keeps alive only what the guest takes part in. */
    if (outward || (k->protocol == NET_TCP && o->answered && !o->closed))
        o->until = now + lifetime(o);
    return true;
}

bool flows_add(struct flows *f, const struct flow_key *k, uint64_t now)
{
    /* Some of the old ones each time, all of them where there is no room. */
    for (uint32_t n = f->free_head == NO_FLOW ? f->max : MIN_OF(SWEEP, f->max); n; n--) {
        f->sweep = (f->sweep + 1) % f->max;
        if (f->v[f->sweep].used && now > f->v[f->sweep].until)
            drop(f, f->sweep);
    }
    uint32_t i = f->free_head;
    if (i == NO_FLOW)
        return false;
    struct flow *o = &f->v[i];
    f->free_head = o->next;
    uint32_t *head = chain(f, k);
    *o = (struct flow){.key = *k, .used = true, .next = *head};
    o->until = now + lifetime(o);
    *head = i;
    f->n++;
    return true;
}
