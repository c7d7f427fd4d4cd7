/* What mvm-mkrootfs is told to make: a file tree and the properties of its file system. mkrootfs.c
 * describes the text. */
#pragma once

#include "image/ext4.h"

#define SPEC_MAX (16u << 20)

struct spec {
    struct fstree tree;
    struct ext4_opts opts; /* label points to the field below */
    char label[17];
    const char *store; /* where the files of /nix/store lie; NULL: there */
};

#define CLEAN_SPEC CLEANUP(spec_done)

/* store is borrowed; NULL for /nix/store itself. */
int spec_init(struct spec *s, const char *store) MVM_MUST_CHECK;
/* Carries out the directives of a text of len bytes. Errors begin with "line N: ". */
int spec_parse(struct spec *s, const void *text, size_t len, struct mvm_error *err) MVM_MUST_CHECK;
void spec_done(struct spec *s);
