/* Any bytes as TOML: refused with a line, or a tree within its limits whose keys are unique. */
#include "fuzz.h"

#include "host/toml.h"

#include <errno.h>
#include <string.h>

static unsigned count(const struct toml_value *v, unsigned depth)
{
    unsigned n = 1;
    MUST(depth <= TOML_MAX_DEPTH && v->type < TOML_TYPE_COUNT && v->line > 0);
    if (v->type == TOML_STRING || v->type == TOML_DATETIME)
        MUST(v->string.text[v->string.len] == '\0');
    if (v->type != TOML_ARRAY && v->type != TOML_TABLE)
        return n;
    for (const struct toml_value *c = v->list.first; c; c = c->next) {
        MUST((c->key != NULL) == (v->type == TOML_TABLE) && (c->next || v->list.last == c));
        if (c->key)
            MUST(toml_find(v, c->key) == c);
        n += count(c, depth + 1);
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mvm_error err = MVM_ERROR_INIT;
    CLEAN_TOML struct toml_value *t = NULL;
    int r = toml_parse((const char *)data, size, &t, &err);
    MUST(r == 0 ? t && t->type == TOML_TABLE : (r == -EINVAL || r == -EMSGSIZE) && !t && err.msg[0]);
    if (t)
        MUST(count(t, 0) <= TOML_MAX_VALUES + 1);
    return 0;
}
