#include "cache/fingerprint.h"

#include <string.h>

static void add_block(struct fingerprint *f, const void *p, size_t n)
{
    uint8_t len[8];
    for (int i = 0; i < 8; i++)
        len[i] = (uint8_t)((uint64_t)n >> (8 * i));
    sha256_update(&f->sha, len, sizeof(len));
    sha256_update(&f->sha, p, n);
}

void fingerprint_init(struct fingerprint *f, const char *purpose)
{
    sha256_init(&f->sha);
    add_block(f, purpose, strlen(purpose));
}

void fingerprint_add(struct fingerprint *f, const char *label, const void *p, size_t n)
{
    add_block(f, label, strlen(label));
    add_block(f, p, n);
}

void fingerprint_add_string(struct fingerprint *f, const char *label, const char *value)
{
    fingerprint_add(f, label, value, strlen(value));
}

void fingerprint_final(struct fingerprint *f, char out[static SHA256_HEX_SIZE])
{
    uint8_t digest[SHA256_SIZE];
    sha256_final(&f->sha, digest);
    sha256_hex(digest, out);
}
