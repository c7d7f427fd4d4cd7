/* SHA-256 digests as bytes and as text. */
#pragma once

#include <stdint.h>

#define SHA256_SIZE     32
#define SHA256_HEX_SIZE 65 /* with the NUL */

/* A digest from its 64 hex digits. */
void sha256_parse(const char *hex, uint8_t digest[static SHA256_SIZE]);
void sha256_hex(const uint8_t digest[static SHA256_SIZE], char out[static SHA256_HEX_SIZE]);
