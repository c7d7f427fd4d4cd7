#include "cli/network_options.h"
#include "cli/options.h"
#include "net/policy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const struct option_spec opt_network = {
    .name = "network",
    .argument = "POLICY",
    .help = "what the VM may reach: public (public addresses alone), none, or full (what this machine "
            "reaches but its loopback); default: config.toml's network.policy, or public",
    .values = "public|none|full"};

const struct option_spec opt_allow = {
    .name = "allow",
    .argument = "HOST[:PORT][/tcp|udp]",
    .help = "let the VM reach this as well, and nothing else where --network is not given: a name, *.example.org, an "
            "address, a range, or host:PORT for this machine's loopback (may be given several times)"};

static int add_word(char out[static NETWORK_OPTIONS_MAX], const char *head, const char *word, struct mvm_error *err)
{
    size_t n = strlen(out);
    if ((size_t)snprintf(out + n, NETWORK_OPTIONS_MAX - n, "%s%s", head, word) >= NETWORK_OPTIONS_MAX - n)
        return mvm_error_set(err, -E2BIG, "--allow: these are too many");
    return 0;
}

/* Rules are written down as they are understood: in one form, without a space. */
static int add_rule(char out[static NETWORK_OPTIONS_MAX], const char *word, struct policy *p, struct mvm_error *err)
{
    struct rule rule;
    char text[RULE_TEXT];
    int r = rule_parse(word, &rule, err);
    if (r == 0)
        r = policy_allow(p, word, err);
    if (r == -EEXIST)
        return 0;
    return r < 0 ? r : add_word(out, " ", rule_format(&rule, text), err);
}

int network_options(const struct args *a, char out[static NETWORK_OPTIONS_MAX], struct mvm_error *err)
{
    char *rules[POLICY_MAX_RULES + 1];
    size_t n = arg_list(a, "allow", rules, ARRAY_SIZE(rules));
    const char *name = arg_value(a, "network");
    enum policy_kind kind = POLICY_LISTED;
    CLEANUP(policy_done) struct policy p = {0};
    out[0] = '\0';
    if (!name && n == 0)
        return 0;
    int r = policy_init(&p, err);
    if (r == 0 && name && (r = policy_kind_parse(name, &kind)) < 0) {
        mvm_error_set(err, r, "--network %.60s", name);
        mvm_error_hint(err, "it is public, none or full");
    }
    if (r == 0)
        r = policy_add_layer(&p, kind, err);
    if (r == 0)
        r = add_word(out, "@", policy_kind_name(kind), err);
    for (size_t i = 0; r == 0 && i < n; i++)
        r = add_rule(out, rules[i], &p, err);
    if (r < 0)
        mvm_error_phase(err, MVM_PHASE_USAGE);
    return r;
}
