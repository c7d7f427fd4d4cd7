/* Any bytes as text to be shown: what is left is UTF-8 that a terminal shows, is not longer, and stays as it is when it
 * is cleaned again. */
#include "fuzz.h"

#include "base/text.h"

#include <string.h>

static void check(const char *s, size_t n, bool lines)
{
    for (size_t at = 0; at < n;) {
        uint32_t c;
        size_t step = text_next(s + at, n - at, &c);
        MUST(step >= 1 && step <= n - at);
        MUST(text_is_printable(c) || (lines && (c == '\n' || c == '\t')));
        at += step;
    }
}

static void try_clean(const uint8_t *data, size_t size, bool lines)
{
    char *text = malloc(size + 1);
    char *again = malloc(size + 1);
    MUST(text && again);
    if (size)
        memcpy(text, data, size);
    size_t n = text_clean(text, size, lines);
    MUST(n <= size);
    check(text, n, lines);
    memcpy(again, text, n);
    MUST(text_clean(again, n, lines) == n && memcmp(text, again, n) == 0);
    free(text);
    free(again);
}

static void try_string(const uint8_t *data, size_t size)
{
    char *s = malloc(size + 1);
    MUST(s);
    if (size)
        memcpy(s, data, size);
    s[size] = '\0';
    size_t n = strlen(s);
    text_drop_colors(s);
    MUST(strlen(s) <= n);
    n = strlen(s);
    text_one_line(s);
    MUST(strlen(s) <= n);
    check(s, strlen(s), false);
    free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_clean(data, size, false);
    try_clean(data, size, true);
    try_string(data, size);
    return 0;
}
