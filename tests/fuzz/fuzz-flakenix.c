/* Any text as flake.nix: the local inputs found in it are absolute paths, and a reference that is decoded is never
 * longer. */
#include "fuzz.h"

#include "flake/literals.h"

#include <errno.h>
#include <string.h>

static int on_path(void *data, const char *path)
{
    size_t n = strlen(path);
    MUST(path[0] == '/' && n <= *(const size_t *)data);
    MUST(n == 1 || path[n - 1] != '/');
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    MUST(text);
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    size_t n = strlen(text);
    int r = flake_literals(text, on_path, &n);
    MUST(r == 0 || r == -EOVERFLOW);
    char *path = flake_url_path(text);
    if (path)
        on_path(&n, path);
    free(path);
    flake_url_decode(text);
    MUST(strlen(text) <= n);
    free(text);
    return 0;
}
