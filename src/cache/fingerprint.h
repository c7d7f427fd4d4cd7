/* A fingerprint: SHA-256 over labelled, length-prefixed fields, so that no two different lists of inputs give one text.
 */
#pragma once

#include "host/sha256.h"

struct fingerprint {
    struct sha256 sha;
};

void fingerprint_init(struct fingerprint *f, const char *purpose);
void fingerprint_add(struct fingerprint *f, const char *label, const void *p, size_t n);
void fingerprint_add_string(struct fingerprint *f, const char *label, const char *value);
void fingerprint_final(struct fingerprint *f, char out[static SHA256_HEX_SIZE]);
