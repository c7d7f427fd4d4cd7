/*
 * Where a VM may connect to. A policy has one or two layers, each with a kind and rules: what the user said and, where
 * the user said nothing on the command line, what the image wishes; all of them have to agree, so that a wish never
 * widens. Names become addresses only by policy_learn, which the DNS answerer calls with what it answered.
 *
 * What no kind and no rule opens: multicast and reserved addresses, the host's loopback under an address of its own
 * (only as `host:PORT`), and the VM's own subnet, which holds the router and otherwise leads to the host's loopback.
 * The host's other addresses are judged by whoever knows them (gate.h, is_own), for they change: a rule has to name
 * such an address alone, not by a range.
 */
#pragma once

#include "net/rule.h"

#define POLICY_FLAG      (RULE_TEXT + 8)
#define POLICY_MAX_RULES 128 /* of all layers */
#define POLICY_MAX_NAMES 1024
#define POLICY_MIN_TTL   60   /* s that an answer counts at least */
#define POLICY_MAX_TTL   3600 /* s that it counts at most */

enum policy_kind {
    POLICY_NONE,
    POLICY_PUBLIC,
    POLICY_FULL,    /* what the host can reach, private, link-local, reserved and metadata addresses included */
    POLICY_LISTED,  /* nothing but the rules: --allow without --network */
    POLICY_BUILDER, /* public, private and shared ones: where a binary cache or a proxy may be */
    POLICY_KINDS,
};

struct policy_layer {
    enum policy_kind kind;
    struct rule *rules; /* owned */
    size_t n_rules;
};

/* An address that a rule's name had in an answer. */
struct policy_answer {
    struct address address;
    uint16_t rule; /* counted over all layers */
    uint64_t until;
};

struct policy {
    struct policy_layer layers[2];
    size_t n_layers, n_rules;
    struct policy_answer *answers; /* owned, POLICY_MAX_NAMES */
    size_t n_answers;
};

enum policy_verdict {
    POLICY_ALLOW,
    POLICY_ALLOW_OWN, /* the host's own addresses, too: full, or a rule of the first layer that names this address alone
                       */
    POLICY_DENY,
};

/* Of the names that --network takes (none, public, full), -EINVAL for others: networks are none of this file's. */
int policy_kind_parse(const char *name, enum policy_kind *ret);
const char *policy_kind_name(enum policy_kind kind);

/* Empty: denies all until a layer is added. -ENOMEM. */
int policy_init(struct policy *p, struct mvm_error *err) MVM_MUST_CHECK;
void policy_done(struct policy *p);
/* Adds a layer, the user's first; policy_allow adds rules to the last one. At most two. */
int policy_add_layer(struct policy *p, enum policy_kind kind, struct mvm_error *err) MVM_MUST_CHECK;
/* A rule in words. -EINVAL (rule.h), -E2BIG, -EEXIST where the layer has it already. In a layer of POLICY_NONE rules
 * are refused. */
int policy_allow(struct policy *p, const char *text, struct mvm_error *err) MVM_MUST_CHECK;

/* A word of how run.json says a policy (net/process.h): "@KIND" is a layer, another one a rule of the last layer. As
 * above; -EINVAL for what is no kind, and for a rule before any. */
int policy_add_word(struct policy *p, const char *word, struct mvm_error *err) MVM_MUST_CHECK;

/* Whether a packet may go there. now in ns (clock.h). The VM's own subnet and the host's own addresses are for the
 * caller. */
enum policy_verdict policy_judge(const struct policy *p, const struct address *a, uint8_t protocol, uint16_t port,
                                 uint64_t now);
/* Whether this TCP port of the host's loopback is open. */
bool policy_opens_host(const struct policy *p, uint16_t port);
/* What would allow it: "--allow 10.0.0.5:443"; "" where nothing does. Returns text. */
const char *policy_flag(const struct policy *p, const struct address *a, uint8_t protocol, uint16_t port,
                        char text[POLICY_FLAG]);

/* Whether the name (rule.h: lower case) may be looked up. */
bool policy_may_ask(const struct policy *p, const char *name);
/* Whether some port of an address could be reached if the name had it: an answer that says otherwise is not passed on.
 */
bool policy_may_answer(const struct policy *p, const char *name, const struct address *a);
/* Opens the address for the rules that name it, for ttl seconds within the bounds above. Where the table is full, what
 * ends first goes. */
void policy_learn(struct policy *p, const char *name, const struct address *a, uint32_t ttl, uint64_t now);
