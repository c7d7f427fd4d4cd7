/* The hash of a Nix archive (NAR) of a tree, as Nix writes it in lock files: "sha256-" and base64. Format: Nix manual,
 * "Nix Archive (NAR) format". */
#pragma once

#include "base/sha256.h"
#include "image/fstree.h"

#define NAR_HASH_SIZE 52 /* "sha256-" + 44 + NUL */

int nar_hash(const struct fsnode *root, char out[static NAR_HASH_SIZE], struct mvm_error *err) MVM_MUST_CHECK;
/* The digest of a file's content, in hex. */
int nar_content_sha256(const struct fsnode *file, char out[static SHA256_HEX_SIZE],
                       struct mvm_error *err) MVM_MUST_CHECK;
