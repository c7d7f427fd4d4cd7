/*
 * A closure as Nix tells it to a derivation (exportReferencesGraph, the text form): records of a
 * store path, its deriver (an empty line where unknown), the number of its references, and that
 * many lines with a store path each.
 */
#pragma once

#include "base/error.h"

#include <stddef.h>

#define STORE_PREFIX "/nix/store/"

struct closure {
    char *text;   /* owned */
    char **paths; /* sorted, each once; they point into text */
    size_t n;
    struct closure_reference {
        char *from, *to;
    } * references;
    size_t n_references;
};

#define CLEAN_CLOSURE CLEANUP(closure_done)

/* Parses text of len bytes, which is copied. Paths are absolute and plain: STORE_PREFIX, hash, '-',
 * name. A reference to what is not listed is an error: the closure would not be whole. -EINVAL with
 * the line's number. */
int closure_parse(struct closure *g, const void *text, size_t len, struct mvm_error *err) MVM_MUST_CHECK;
/* Takes out the paths that none of the listed ones refers to: of a closure its roots, but for those that refer to
 * themselves. What they alone referred to is taken out by the next call. */
int closure_peel(struct closure *g, struct mvm_error *err) MVM_MUST_CHECK;
void closure_done(struct closure *g);
