#include "base/sha256_hex.h"

#include <stdio.h>

void sha256_hex(const uint8_t digest[static SHA256_SIZE], char out[static SHA256_HEX_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < SHA256_SIZE; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[2 * SHA256_SIZE] = '\0';
}

void sha256_parse(const char *hex, uint8_t digest[static SHA256_SIZE])
{
    for (size_t i = 0; i < SHA256_SIZE; i++) {
        unsigned byte = 0;
        (void)!sscanf(hex + 2 * i, "%2x", &byte);
        digest[i] = (uint8_t)byte;
    }
}
