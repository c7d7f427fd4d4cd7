/*
 * Where this mvmctl's own files are: run from a build folder of a source checkout (build/mvmctl, build/mvm-init,
 * ../nix found through the build folder's .. or compile-time source root relative to the program), or installed
 * (bin/mvmctl, libexec/mvm/{mvm-init,mvm-mkrootfs,mvm-nixdb}, share/mvm/nix). Found from /proc/self/exe; nothing
 * absolute is compiled in.
 */
#pragma once

#include "base/error.h"

#include <stdbool.h>

struct install_paths {
    char *mvm_init; /* absolute paths, owned */
    char *mkrootfs, *nixdb;
    char *nix;     /* folder with flake.nix and lib/ */
    bool checkout; /* a source checkout, not an installed tree */
};

#define CLEAN_INSTALL_PATHS CLEANUP(install_paths_done)

int install_paths_find(struct install_paths *i, struct mvm_error *err) MVM_MUST_CHECK;
/* The folder of the examples, owned by the caller; NULL where there is none. */
char *install_paths_examples(const struct install_paths *i);
void install_paths_done(struct install_paths *i);
