#include "host/suggest.h"
#include "base/macros.h"

#include <string.h>

/* Edit distance (Levenshtein) of two short words; long ones are far from everything. */
static unsigned distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    unsigned row[64];
    if (n > 60 || m > 60)
        return 100;
    for (size_t j = 0; j <= m; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= n; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            unsigned up = row[j];
            unsigned change = diagonal + (a[i - 1] != b[j - 1]);
            row[j] = MIN_OF(change, MIN_OF(up, row[j - 1]) + 1);
            diagonal = up;
        }
    }
    return row[m];
}

const char *suggest_word(const char *typed, const char *const *words, size_t n)
{
    const char *best = NULL;
    unsigned best_distance = (unsigned)strlen(typed) / 3 + 2;
    for (size_t i = 0; i < n; i++) {
        unsigned d = distance(typed, words[i]);
        if (d < best_distance) {
            best_distance = d;
            best = words[i];
        }
    }
    return best;
}
