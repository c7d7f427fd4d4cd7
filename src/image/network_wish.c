#include "image/network_wish.h"
#include "base/macros.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A word of rules and of policies' names: one that has none else can stand among others. */
static bool is_word(json_object *v)
{
    static const char right[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.:*/_-[]";
    const char *s = json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "";
    return *s && strspn(s, right) == (size_t)json_object_get_string_len(v);
}

static int add(char out[static NETWORK_WISH_MAX], const char *head, const char *word, struct mvm_error *err)
{
    size_t n = strlen(out);
    if ((size_t)snprintf(out + n, NETWORK_WISH_MAX - n, "%s%s", head, word) >= NETWORK_WISH_MAX - n)
        return mvm_error_set(err, -EINVAL, "field 'network' is too long");
    return 0;
}

int network_wish_load(json_object *o, char out[static NETWORK_WISH_MAX], struct mvm_error *err)
{
    json_object *wish = NULL, *policy = NULL, *allow = NULL;
    *out = '\0';
    if (!json_object_object_get_ex(o, "network", &wish))
        return 0;
    if (!json_object_is_type(wish, json_type_object))
        return mvm_error_set(err, -EINVAL, "field 'network' is no object");
    bool has_policy = json_object_object_get_ex(wish, "policy", &policy);
    if (has_policy && !is_word(policy))
        return mvm_error_set(err, -EINVAL, "field 'network.policy' is no word");
    bool has_allow = json_object_object_get_ex(wish, "allow", &allow);
    if (has_allow &&
        (!json_object_is_type(allow, json_type_array) || json_object_array_length(allow) > NETWORK_WISH_RULES))
        return mvm_error_set(err, -EINVAL, "field 'network.allow' is no list of at most %d rules", NETWORK_WISH_RULES);
    size_t n = has_allow ? json_object_array_length(allow) : 0;
    if (!has_policy && n == 0)
        return 0;
    int r = add(out, "@", has_policy ? json_object_get_string(policy) : "listed", err);
    for (size_t i = 0; r == 0 && i < n; i++) {
        json_object *rule = json_object_array_get_idx(allow, i);
        r = is_word(rule) ? add(out, " ", json_object_get_string(rule), err)
                          : mvm_error_set(err, -EINVAL, "field 'network.allow' has what is no rule");
    }
    return r;
}
