/*
 * Where this mvmctl's own files are: run from a build folder of a source checkout (build/mvmctl, build/mvm-init,
 * ../nix found through the build folder's .. or compile-time source root relative to the program), or installed
 * (bin/mvmctl, libexec/mvm/{mvm-init,mvm-mkrootfs,mvm-nixdb}, share/mvm/nix). Found from /proc/self/exe; nothing
 * absolute is compiled in.
 */
#pragma once

#include "base/error.h"

#include <stdbool.h>

struct install {
    char *mvm_init; /* absolute paths, owned */
    char *mkrootfs, *nixdb;
    char *nix;     /* folder with flake.nix and lib/ */
    bool checkout; /* a source checkout, not an installed tree */
};

#define CLEAN_INSTALL CLEANUP(install_done)

int install_find(struct install *i, struct mvm_error *err) MVM_MUST_CHECK;
/* The folder of the examples, owned by the caller; NULL where there is none. */
char *install_examples(const struct install *i);
void install_done(struct install *i);
