/* What mvm-mkrootfs is told to make: a file tree and the properties of its file system. mkrootfs.c
 * describes the text. */
#pragma once

#include "image/ext4.h"

#define SPEC_MAX       (16u << 20)
#define SPEC_MAX_NAMES 16

struct spec {
    struct fstree tree;
    struct ext4_opts opts; /* label points to the field below */
    char label[17];
    const char *store; /* where the files of /nix/store lie; NULL: there */
    struct {
        const char *name, *value;
    } names[SPEC_MAX_NAMES]; /* what @NAME@ stands for */
    size_t n_names;
};

#define CLEAN_SPEC CLEANUP(spec_done)

/* store is borrowed; NULL for /nix/store itself. */
int spec_init(struct spec *s, const char *store) MVM_MUST_CHECK;
/* Makes @name@ at the beginning of a source stand for value; both are borrowed. -E2BIG beyond SPEC_MAX_NAMES. */
int spec_set(struct spec *s, const char *name, const char *value) MVM_MUST_CHECK;
/* Carries out the directives of a text of len bytes. Errors begin with "line N: ". */
int spec_parse(struct spec *s, const void *text, size_t len, struct mvm_error *err) MVM_MUST_CHECK;
void spec_done(struct spec *s);
