#include "net/policy.h"
#include "base/clock.h"
#include "base/macros.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CLASS(c) (1u << ADDRESS_##c)

static const struct {
    const char *name;
    unsigned classes; /* of addresses that it opens */
} kinds[] = {
    [POLICY_NONE] = {"none", 0},
    [POLICY_PUBLIC] = {"public", CLASS(PUBLIC)},
    [POLICY_FULL] = {"full", CLASS(PUBLIC) | CLASS(PRIVATE) | CLASS(SHARED) | CLASS(LINK_LOCAL) | CLASS(METADATA) |
                                 CLASS(RESERVED)},
    [POLICY_LISTED] = {"listed", 0},
    [POLICY_BUILDER] = {"builder", CLASS(PUBLIC) | CLASS(PRIVATE) | CLASS(SHARED)},
};
_Static_assert(ARRAY_SIZE(kinds) == POLICY_KINDS, "a kind without a name");

/* POLICY_KINDS where there is none. */
static enum policy_kind find_kind(const char *name)
{
    int k = 0;
    while (k < POLICY_KINDS && strcmp(name, kinds[k].name) != 0)
        k++;
    return (enum policy_kind)k;
}

int policy_kind_parse(const char *name, enum policy_kind *ret)
{
    enum policy_kind k = find_kind(name);
    if (k > POLICY_FULL) /* the others are not for users to say */
        return -EINVAL;
    *ret = k;
    return 0;
}

const char *policy_kind_name(enum policy_kind kind)
{
    return kinds[kind].name;
}

int policy_init(struct policy *p, struct mvm_error *err)
{
    *p = (struct policy){.answers = calloc(POLICY_MAX_NAMES, sizeof(*p->answers))};
    return p->answers ? 0 : mvm_error_errno(err, -ENOMEM, "policy");
}

void policy_done(struct policy *p)
{
    for (size_t i = 0; i < p->n_layers; i++)
        free(p->layers[i].rules);
    free(p->answers);
    *p = (struct policy){0};
}

int policy_add_layer(struct policy *p, enum policy_kind kind, struct mvm_error *err)
{
    if (p->n_layers == ARRAY_SIZE(p->layers))
        return mvm_error_set(err, -E2BIG, "a policy has at most %zu layers", ARRAY_SIZE(p->layers));
    p->layers[p->n_layers++] = (struct policy_layer){.kind = kind};
    return 0;
}

int policy_allow(struct policy *p, const char *text, struct mvm_error *err)
{
    struct policy_layer *l = &p->layers[p->n_layers - 1];
    struct rule r;
    int e = rule_parse(text, &r, err);
    if (e < 0)
        return e;
    if (l->kind == POLICY_NONE) {
        mvm_error_set(err, -EINVAL, "--allow %s: the network is none, which allows nothing", text);
        mvm_error_hint(err, "leave out none: --allow alone opens nothing else");
        return -EINVAL;
    }
    if (p->n_rules == POLICY_MAX_RULES)
        return mvm_error_set(err, -E2BIG, "--allow %s: there are %d already", text, POLICY_MAX_RULES);
    char said[RULE_TEXT], had[RULE_TEXT];
    rule_format(&r, said);
    for (size_t i = 0; i < l->n_rules; i++)
        if (strcmp(said, rule_format(&l->rules[i], had)) == 0)
            return mvm_error_set(err, -EEXIST, "--allow %s is said twice", text);
    struct rule *v = reallocarray(l->rules, l->n_rules + 1, sizeof(*v));
    if (!v)
        return mvm_error_errno(err, -ENOMEM, "policy");
    l->rules = v;
    l->rules[l->n_rules++] = r;
    p->n_rules++;
    return 0;
}

int policy_add_word(struct policy *p, const char *word, struct mvm_error *err)
{
    if (word[0] != '@')
        return p->n_layers ? policy_allow(p, word, err) : mvm_error_set(err, -EINVAL, "%.60s has no policy", word);
    enum policy_kind kind = find_kind(word + 1);
    return kind < POLICY_KINDS ? policy_add_layer(p, kind, err)
                               : mvm_error_set(err, -EINVAL, "no policy is called %.60s", word + 1);
}

/* Does a rule of ranges reach the address? What is of another class than its range is not meant by it. */
static bool ranges(const struct rule *r, const struct address *a, enum address_class class)
{
    return r->kind == RULE_RANGE && r->class == class && prefix_has(&r->range, a);
}

static bool answered(const struct policy *p, size_t rule, const struct address *a, uint64_t now)
{
    for (size_t i = 0; i < p->n_answers; i++)
        if (p->answers[i].rule == rule && address_equal(&p->answers[i].address, a))
            return now <= p->answers[i].until;
    return false;
}

/* first: of the layer's rules, counted over all layers. */
static enum policy_verdict judge_layer(const struct policy *p, const struct policy_layer *l, size_t first,
                                       const struct address *a, uint8_t protocol, uint16_t port, uint64_t now)
{
    enum address_class class = address_class(a);
    enum policy_verdict v = POLICY_DENY;
    if (kinds[l->kind].classes & 1u << class)
        v = l->kind == POLICY_FULL ? POLICY_ALLOW_OWN : POLICY_ALLOW;
    for (size_t i = 0; i < l->n_rules; i++) {
        const struct rule *r = &l->rules[i];
        if (!rule_takes(r, protocol, port))
            continue;
        if (ranges(r, a, class)) {
            if (r->range.bits == 128)
                return POLICY_ALLOW_OWN;
            v = v == POLICY_DENY ? POLICY_ALLOW : v;
        } else if (v == POLICY_DENY && class == ADDRESS_PUBLIC && r->kind <= RULE_BELOW &&
                   answered(p, first + i, a, now)) {
            v = POLICY_ALLOW;
        }
    }
    return v;
}

enum policy_verdict policy_judge(const struct policy *p, const struct address *a, uint8_t protocol, uint16_t port,
                                 uint64_t now)
{
    enum policy_verdict verdict = POLICY_DENY;
    size_t first = 0;
    for (size_t i = 0; i < p->n_layers; i++) {
        enum policy_verdict v = judge_layer(p, &p->layers[i], first, a, protocol, port, now);
        if (v == POLICY_DENY)
            return v;
        if (i == 0)
            verdict = v; /* the user's own words count for the host's own addresses */
        first += p->layers[i].n_rules;
    }
    return verdict;
}

bool policy_opens_host(const struct policy *p, uint16_t port)
{
    size_t open = 0;
    for (size_t i = 0; i < p->n_layers; i++) {
        const struct policy_layer *l = &p->layers[i];
        for (size_t k = 0; k < l->n_rules; k++)
            if (l->rules[k].kind == RULE_HOST && l->rules[k].port == port) {
                open++;
                break;
            }
    }
    return open && open == p->n_layers;
}

const char *policy_flag(const struct policy *p, const struct address *a, uint8_t protocol, uint16_t port,
                        char text[POLICY_FLAG])
{
    struct rule r = {
        .kind = RULE_RANGE, .range = {*a, 128}, .port = port, .protocol = protocol == NET_UDP ? NET_UDP : 0};
    enum address_class class = address_class(a);
    *text = '\0';
    if (class == ADDRESS_LOOPBACK || class == ADDRESS_MULTICAST || !p->n_layers || p->layers[0].kind == POLICY_NONE)
        return text;
    char rule[RULE_TEXT];
    snprintf(text, POLICY_FLAG, "--allow %s", rule_format(&r, rule));
    return text;
}

static bool layer_names(const struct policy_layer *l, const char *name)
{
    for (size_t i = 0; i < l->n_rules; i++)
        if (rule_names(&l->rules[i], name))
            return true;
    return false;
}

bool policy_may_ask(const struct policy *p, const char *name)
{
    for (size_t i = 0; i < p->n_layers; i++)
        if (!kinds[p->layers[i].kind].classes && !layer_names(&p->layers[i], name))
            return false;
    return p->n_layers > 0;
}

bool policy_may_answer(const struct policy *p, const char *name, const struct address *a)
{
    enum address_class class = address_class(a);
    for (size_t i = 0; i < p->n_layers; i++) {
        const struct policy_layer *l = &p->layers[i];
        bool may = kinds[l->kind].classes & 1u << class || (class == ADDRESS_PUBLIC && layer_names(l, name));
        for (size_t k = 0; k < l->n_rules && !may; k++)
            may = ranges(&l->rules[k], a, class);
        if (!may)
            return false;
    }
    return p->n_layers > 0;
}

/* The place for one more: the same one's, a free one, or that of what ends first. */
static struct policy_answer *place(struct policy *p, size_t rule, const struct address *a)
{
    struct policy_answer *first = p->answers;
    for (size_t i = 0; i < p->n_answers; i++) {
        struct policy_answer *o = &p->answers[i];
        if (o->rule == rule && address_equal(&o->address, a))
            return o;
        if (o->until < first->until)
            first = o;
    }
    if (p->n_answers < POLICY_MAX_NAMES)
        first = &p->answers[p->n_answers++];
    *first = (struct policy_answer){.address = *a, .rule = (uint16_t)rule};
    return first;
}

void policy_learn(struct policy *p, const char *name, const struct address *a, uint32_t ttl, uint64_t now)
{
    uint64_t s = MIN_OF(MAX_OF(ttl, POLICY_MIN_TTL), POLICY_MAX_TTL), until = now + s * NSEC_PER_SEC;
    size_t rule = 0;
    for (size_t i = 0; i < p->n_layers; i++)
        for (size_t k = 0; k < p->layers[i].n_rules; k++, rule++)
            if (rule_names(&p->layers[i].rules[k], name)) {
                struct policy_answer *o = place(p, rule, a);
                o->until = MAX_OF(o->until, until);
            }
}
