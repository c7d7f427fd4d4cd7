/* The hash of a Nix archive (NAR) of a tree, as Nix writes it in lock files: "sha256-" and base64. Format: Nix manual,
 * "Nix Archive (NAR) format". */
#pragma once

#include "host/sha256.h"
#include "image/fstree.h"

#define NAR_HASH_SIZE 52 /* "sha256-" + 44 + NUL */

/* A NAR that is hashed while it is made: texts, and a file's content as length, bytes and padding. */
struct nar {
    struct sha256 sha;
    uint64_t size; /* bytes until now */
};

void nar_begin(struct nar *a);
void nar_text(struct nar *a, const char *text);
void nar_length(struct nar *a, uint64_t n);
void nar_bytes(struct nar *a, const void *p, size_t n);
void nar_pad(struct nar *a, uint64_t n); /* behind n bytes */
void nar_end(struct nar *a, uint8_t digest[static SHA256_SIZE], char out[static NAR_HASH_SIZE]);

int nar_hash(const struct fsnode *root, char out[static NAR_HASH_SIZE], struct mvm_error *err) MVM_MUST_CHECK;
/* The digest of a file's content, in hex. */
int nar_content_sha256(const struct fsnode *file, char out[static SHA256_HEX_SIZE],
                       struct mvm_error *err) MVM_MUST_CHECK;
