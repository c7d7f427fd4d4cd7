/*
 * Why a step of a build failed, from what Nix says about it: the messages of level 0 in its structured log, which a
 * builder's output cannot forge, and for a fetch that runs as a builder (builtin:fetchurl, nixpkgs' fetchurl) that
 * derivation's own lines. The wording is Nix 2.18's to 2.31's; what is not recognised stays FAILURE_UNKNOWN with the
 * message itself.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum failure_kind {
    FAILURE_NONE,
    FAILURE_UNKNOWN, /* some other message: why */
    FAILURE_FETCH,   /* url, why */
    FAILURE_HASH,    /* derivation or url (an input), specified, got */
    FAILURE_BUILDER, /* derivation, why ("failed with exit code 9") */
    FAILURE_KINDS,
};

#define FAILURE_NAMES 4

struct failure {
    enum failure_kind kind;
    char derivation[256];          /* store path; "" where none is to blame */
    char names[FAILURE_NAMES][96]; /* of the derivations that failed, the first one first */
    unsigned n_failed;             /* may be more */
    char url[300], why[400];
    char specified[128], got[128];
    struct failure_fetch { /* a builder's lines that tell of a fetch */
        char derivation[256], url[300], why[300];
    } fetch;
};

/* A message of level 0, without terminal sequences. The first one that is recognised decides. */
void failure_message(struct failure *f, const char *message);
/* A line of a derivation's builder. */
void failure_line(struct failure *f, const char *derivation, const char *line);

/* "/nix/store/<32 characters>-hello.drv" within text is "hello" to people; text itself where there is no store path. */
void failure_short_name(const char *text, char *out, size_t size);
