/*
 * A flake's tree as a store path: what Nix would call it, computed here, so that no guest has to hash it. The NAR is of
 * the tree as it is listed, flake.lock as it is in the folder: the same commit is the same store path everywhere.
 */
#pragma once

#include "flake/flake.h"

struct flake_store {
    char name[48]; /* below /nix/store: 32 letters and "-source" */
    char hash[52]; /* the NAR's: "sha256-" and base64 */
    char hex[SHA256_HEX_SIZE];
    uint64_t size; /* the NAR's, bytes */
};

/* Is it so large that Nix would be long at copying and hashing it? */
bool flake_tree_is_large(const struct flake_tree *t);
/* Reads every file. -ESTALE where one has changed since the tree was listed. */
int flake_tree_store(const struct flake_tree *t, struct flake_store *ret, struct mvm_error *err) MVM_MUST_CHECK;
/* The name in the store of a source with that NAR. */
void flake_store_name(const uint8_t nar[static SHA256_SIZE], char out[static 48]);
