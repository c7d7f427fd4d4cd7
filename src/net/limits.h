/* What a VM's network process keeps to, whatever its policy allows. As words of run.json and of its command line:
 * "rate=IN/OUT", "connections=N", "queries=N"; of the command line alone: "pcap=FD", where frames are written (pcap.h).
 */
#pragma once

#include "base/error.h"
#include "net/rate.h"

#include <stdbool.h>

#define LIMITS_TEXT            128
#define LIMITS_MAX_CONNECTIONS 65536
#define LIMITS_MAX_QUERIES     10000

struct limits {
    uint64_t rate[RATES]; /* bytes a second; 0: as fast as it goes */
    uint32_t connections; /* open at a time; 0: FLOWS_MAX */
    int pcap_fd;          /* 0: none */
    uint32_t queries;     /* of names, a second; 0: ANSWERER_RATE */
};

/* Rules and layers of a policy have no such character. */
bool limits_is_word(const char *word);
/* The last one of a name counts. -EINVAL. */
int limits_add_word(struct limits *l, const char *word, struct mvm_error *err) MVM_MUST_CHECK;
/* Several, with a space between each two. */
int limits_add_words(struct limits *l, const char *words, struct mvm_error *err) MVM_MUST_CHECK;
/* As limits_add_words takes it; "" where nothing is limited but by the defaults. */
void limits_format(const struct limits *l, char text[static LIMITS_TEXT]);
