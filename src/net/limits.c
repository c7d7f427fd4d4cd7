#include "net/limits.h"
#include "base/macros.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool limits_is_word(const char *word)
{
    return strchr(word, '=');
}

int limits_add_word(struct limits *l, const char *word, struct mvm_error *err)
{
    struct limits n = *l;
    int end = 0;
    bool known = sscanf(word, "rate=%19" SCNu64 "/%19" SCNu64 "%n", &n.rate[RATE_IN], &n.rate[RATE_OUT], &end) == 2 ||
                 sscanf(word, "connections=%9" SCNu32 "%n", &n.connections, &end) == 1 ||
                 sscanf(word, "queries=%9" SCNu32 "%n", &n.queries, &end) == 1 ||
                 sscanf(word, "pcap=%9d%n", &n.pcap_fd, &end) == 1;
    if (!known || word[end] || n.connections > LIMITS_MAX_CONNECTIONS || n.queries > LIMITS_MAX_QUERIES)
        return mvm_error_set(err, -EINVAL, "'%.60s' is no limit of a network", word);
    *l = n;
    return 0;
}

int limits_add_words(struct limits *l, const char *words, struct mvm_error *err)
{
    char text[LIMITS_TEXT];
    int r = 0;
    snprintf(text, sizeof(text), "%s", words);
    for (char *save = NULL, *w = strtok_r(text, " ", &save); w && r == 0; w = strtok_r(NULL, " ", &save))
        r = limits_add_word(l, w, err);
    return r;
}

void limits_format(const struct limits *l, char text[static LIMITS_TEXT])
{
    size_t n = 0;
    *text = '\0';
    if (l->rate[RATE_IN] || l->rate[RATE_OUT])
        n += (size_t)snprintf(text, LIMITS_TEXT, "rate=%" PRIu64 "/%" PRIu64, l->rate[RATE_IN], l->rate[RATE_OUT]);
    if (l->connections)
        n += (size_t)snprintf(text + n, LIMITS_TEXT - n, "%sconnections=%" PRIu32, n ? " " : "", l->connections);
    if (l->queries)
        snprintf(text + n, LIMITS_TEXT - n, "%squeries=%" PRIu32, n ? " " : "", l->queries);
}
