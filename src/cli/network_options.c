#include "cli/network_options.h"
#include "cli/options.h"
#include "image/network_wish.h"
#include "net/policy.h"
#include "vmdir/networks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct option_spec opt_network = {
    .name = "network",
    .argument = "NETWORK",
    .help = "what the VM may reach: public (public addresses alone), none, or full (what this machine "
            "reaches but its loopback); or the network that it is to be a member of (mvmctl network create); default: "
            "config.toml's network.policy, or public",
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

const char *network_named(const struct args *a)
{
    const char *name = arg_value(a, "network");
    enum policy_kind kind;
    return name && policy_kind_parse(name, &kind) < 0 ? name : NULL;
}

int network_check_named(const struct args *a, struct home *h, struct mvm_error *err)
{
    const char *name = network_named(a);
    CLEAN_FREE struct network_info *i = name ? calloc(1, sizeof(*i)) : NULL;
    if (!name)
        return 0;
    int r = i ? networks_find(h, name, i, err) : mvm_error_errno(err, -ENOMEM, "network");
    if (r < 0)
        mvm_error_phase(err, MVM_PHASE_RUNTIME_BACKEND);
    return r;
}

int network_options(const struct args *a, char out[static NETWORK_OPTIONS_MAX], struct mvm_error *err)
{
    const char *name = network_named(a);
    out[0] = '\0';
    if (!name)
        return network_policy(a, "network", out, err);
    int r = networks_check_name(name, NULL);
    if (r < 0) {
        mvm_error_set(err, r, "--network %.70s", name);
        mvm_error_hint(err, "it is public, none or full, or the name of a network");
    } else if (arg_value(a, "allow")) {
        r = mvm_error_set(err, -EINVAL, "--allow and network '%s': its VMs reach what the network does", name);
        mvm_error_hint(err, "mvmctl network create NAME --allow ... makes one that reaches this");
    }
    if (r < 0)
        mvm_error_phase(err, MVM_PHASE_USAGE);
    return r;
}

int network_policy(const struct args *a, const char *option, char out[static NETWORK_OPTIONS_MAX],
                   struct mvm_error *err)
{
    char *rules[POLICY_MAX_RULES + 1];
    size_t n = arg_list(a, "allow", rules, ARRAY_SIZE(rules));
    const char *name = arg_value(a, option);
    enum policy_kind kind = POLICY_LISTED;
    CLEANUP(policy_done) struct policy p = {0};
    out[0] = '\0';
    if (!name && n == 0)
        return 0;
    int r = policy_init(&p, err);
    if (r == 0 && name && (r = policy_kind_parse(name, &kind)) < 0) {
        mvm_error_set(err, r, "--%s %.60s", option, name);
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

static int add_wish(char out[static NETWORK_OPTIONS_MAX], const char *wish, struct policy *p, struct mvm_error *err)
{
    char text[NETWORK_WISH_MAX];
    int r = 0;
    snprintf(text, sizeof(text), "%s", wish);
    for (char *save = NULL, *w = strtok_r(text, " ", &save); r == 0 && w; w = strtok_r(NULL, " ", &save)) {
        if (*w != '@') {
            r = add_rule(out, w, p, err);
            continue;
        }
        r = policy_add_word(p, w, err);
        if (r == 0)
            r = add_word(out, *out ? " " : "", w, err);
    }
    if (r < 0) {
        mvm_error_wrap(err, "what the image wishes to reach");
        mvm_error_phase(err, MVM_PHASE_ARTIFACT_EXTRACTION);
    }
    return r;
}

int network_check_wish(const char *wish, struct mvm_error *err)
{
    char out[NETWORK_OPTIONS_MAX] = "";
    CLEANUP(policy_done) struct policy p = {0};
    int r = policy_init(&p, err);
    return r < 0 ? r : add_wish(out, wish, &p, err);
}

int network_default(const struct config *c, const char *wish, char out[static NETWORK_OPTIONS_MAX],
                    struct mvm_error *err)
{
    CLEANUP(policy_done) struct policy p = {0};
    int r = policy_init(&p, err);
    snprintf(out, NETWORK_OPTIONS_MAX, "@%s", config_network(c));
    if (r == 0)
        r = policy_add_word(&p, out, err);
    for (size_t i = 0; r == 0 && i < c->network_allow.n; i++)
        r = add_rule(out, c->network_allow.v[i], &p, err);
    if (r < 0) {
        mvm_error_wrap(err, "network in " CONFIG_FILE);
        mvm_error_phase(err, MVM_PHASE_CONFIG);
        return r;
    }
    return add_wish(out, wish, &p, err);
}

/* ---- As it is shown ---- */

void network_kind(const char *text, char out[static NETWORK_KIND_MAX])
{
    const char *kind = *text == '@' ? text + 1 : "";
    snprintf(out, NETWORK_KIND_MAX, "%.*s", (int)strcspn(kind, " "), kind);
}

const char *network_wish(const char *text)
{
    const char *second = strstr(text, " @");
    return second ? second + 1 : "";
}

json_object *network_rules_json(const char *text)
{
    json_object *list = json_object_new_array();
    for (const char *w = strchr(text, ' '); w && w[1] && w[1] != '@'; w = strchr(w + 1, ' '))
        json_object_array_add(list, json_object_new_string_len(w + 1, (int)strcspn(w + 1, " ")));
    return list;
}

json_object *network_json(const char *text)
{
    char kind[NETWORK_KIND_MAX];
    if (!*text)
        return NULL;
    json_object *o = json_object_new_object();
    network_kind(text, kind);
    json_add_string(o, "policy", kind);
    json_add(o, "allow", network_rules_json(text));
    return o;
}

json_object *network_counts_json(const char *text)
{
    char name[32];
    unsigned long long value;
    int n;
    json_object *o = *text ? json_object_new_object() : NULL;
    for (; o && sscanf(text, "%31[a-z_] %19llu%n", name, &value, &n) == 2; text += n + (text[n] == ' '))
        json_add_int(o, name, (int64_t)value);
    return o;
}
