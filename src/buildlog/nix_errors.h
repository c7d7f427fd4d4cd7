/*
 * Why a step of a build failed, from what Nix says about it: the messages of level 0 in its structured log, which a
 * builder's output cannot forge, and for a fetch that runs as a builder (builtin:fetchurl, nixpkgs' fetchurl) that
 * derivation's own lines. The wording is Nix 2.18's to 2.31's; what is not recognised stays NIX_ERROR_UNKNOWN with the
 * message itself.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum nix_error_kind {
    NIX_ERROR_NONE,
    NIX_ERROR_UNKNOWN, /* some other message: why */
    NIX_ERROR_FETCH,   /* url, why */
    NIX_ERROR_HASH,    /* derivation or url (an input), specified, got */
    NIX_ERROR_BUILDER, /* derivation, why ("failed with exit code 9") */
    NIX_ERROR_KINDS,
};

#define NIX_ERROR_NAMES 4

struct nix_errors {
    enum nix_error_kind kind;
    char derivation[256];            /* store path; "" where none is to blame */
    char names[NIX_ERROR_NAMES][96]; /* of the derivations that failed, the first one first */
    unsigned n_failed;               /* may be more */
    char url[300], why[400];
    char specified[128], got[128];
    struct nix_errors_fetch { /* a builder's lines that tell of a fetch */
        char derivation[256], url[300], why[300];
    } fetch;
};

/* A message of level 0, without terminal sequences. The first one that is recognised decides. */
void nix_errors_message(struct nix_errors *f, const char *message);
/* A line of a derivation's builder. */
void nix_errors_line(struct nix_errors *f, const char *derivation, const char *line);

/* "/nix/store/<32 characters>-hello.drv" within text is "hello" to people; text itself where there is no store path. */
void nix_errors_short_name(const char *text, char *out, size_t size);
