/* Any text as --allow and a name: what is understood is understood again as it is formatted. */
#include "fuzz.h"

#include "net/rule.h"

#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[400], once[RULE_TEXT], twice[RULE_TEXT];
    struct mvm_error err = MVM_ERROR_INIT;
    struct rule r, again;
    size_t n = size < sizeof(text) - 1 ? size : sizeof(text) - 1;
    if (n)
        memcpy(text, data, n);
    text[n] = '\0';
    int e = rule_parse(text, &r, &err);
    MUST(e == 0 || (e == -EINVAL && *err.msg));
    if (e == 0) {
        rule_format(&r, once);
        MUST(rule_parse(once, &again, &err) == 0 && strcmp(once, rule_format(&again, twice)) == 0);
        MUST(r.kind == again.kind && r.port == again.port && r.protocol == again.protocol);
        MUST(r.kind != RULE_NAME || rule_names(&r, r.name));
        MUST(r.kind != RULE_BELOW || !rule_names(&r, r.name));
        if (r.kind == RULE_RANGE)
            MUST(prefix_has(&r.range, &r.range.base) && r.class != ADDRESS_LOOPBACK && r.class != ADDRESS_MULTICAST);
        rule_names(&r, text);
    }
    return 0;
}
