/* SHA-256 (FIPS 180-4) by OpenSSL's libcrypto, which uses the processor's instructions. Not in mvm-init. */
#pragma once

#include "base/error.h"
#include "base/sha256_hex.h"

#include <openssl/sha.h>
#include <stdint.h>

struct sha256 {
    SHA256_CTX ctx;
};

void sha256_init(struct sha256 *s);
void sha256_update(struct sha256 *s, const void *p, size_t n);
/* Finishes and resets: the object can be used for the next message. */
void sha256_final(struct sha256 *s, uint8_t out[static SHA256_SIZE]);

/* Digest of an open file from its first byte to its last, as hex. The descriptor's offset stays where it is: others
 * that share it (a VMM that reads a snapshot's state from there) do not notice. 0 or -errno; -ESPIPE for what is no
 * file. */
int sha256_fd(int fd, char out[static SHA256_HEX_SIZE]) MVM_MUST_CHECK;
