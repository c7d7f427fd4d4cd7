/* Any bytes as the graph of a closure: refused, or store paths in order, each once. */
#include "fuzz.h"

#include "image/closure.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEAN_CLOSURE struct closure g = {0};
    struct mvm_error err = MVM_ERROR_INIT;
    if (closure_parse(&g, data, size, &err) < 0) {
        MUST(err.msg[0] && !g.paths);
        return 0;
    }
    for (size_t i = 0; i < g.n; i++) {
        const char *name = g.paths[i] + sizeof(STORE_PREFIX) - 1;
        MUST(strncmp(g.paths[i], STORE_PREFIX, sizeof(STORE_PREFIX) - 1) == 0 && !strchr(name, '/') && name[0] != '.');
        MUST(i == 0 || strcmp(g.paths[i - 1], g.paths[i]) < 0);
    }
    return 0;
}
