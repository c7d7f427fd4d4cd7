/*
 * Signatures in minisign's format (jedisct1.github.io/minisign, "Signature format"), by libcrypto: Ed25519 over the
 * BLAKE2b-512 digest of the message ("ED"), or over the message itself (legacy "Ed", verified only). A signature also
 * covers its trusted comment. Parsers take at most MINISIGN_MAX_FILE bytes.
 */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MINISIGN_MAX_FILE    4096
#define MINISIGN_MAX_COMMENT 1024
#define MINISIGN_KEY_TEXT    57 /* a public key as base64, with the NUL */

struct minisign_key {
    uint8_t id[8];
    uint8_t key[32];
};

/* A public key: its base64 alone ("RWQ..."), or the text of a .pub file. */
int minisign_key_parse(struct minisign_key *k, const char *text, size_t len, struct mvm_error *err) MVM_MUST_CHECK;
void minisign_key_format(const struct minisign_key *k, char out[static MINISIGN_KEY_TEXT]);
/* The key's number as minisign prints it: hexadecimal, without leading zeros. */
void minisign_key_id(const struct minisign_key *k, char out[static 17]);

struct minisign_signature {
    bool prehashed;
    uint8_t id[8];
    uint8_t signature[64];
    uint8_t global[64]; /* over signature and comment */
    char comment[MINISIGN_MAX_COMMENT + 1];
};

int minisign_signature_parse(struct minisign_signature *s, const char *text, size_t len,
                             struct mvm_error *err) MVM_MUST_CHECK;

/* The signature is one of the message by one of the keys, and so is its trusted comment: that key in *ret_key.
 * -ENOKEY: made by none of them. -EKEYREJECTED: it does not hold. -EINVAL: the text is no signature. */
int minisign_verify(const struct minisign_key *keys, size_t n_keys, const void *message, size_t len,
                    const char *signature, size_t signature_len, const struct minisign_key **ret_key,
                    struct mvm_error *err) MVM_MUST_CHECK;

struct minisign_secret {
    uint8_t seed[32];
    struct minisign_key public_key;
};

void minisign_secret_done(struct minisign_secret *s); /* zeroes it */
#define CLEAN_MINISIGN_SECRET CLEANUP(minisign_secret_done)

/* The text of a secret key file. -ENOKEY where it is encrypted and password is NULL, -EKEYREJECTED where the password
 * is wrong. Deriving the key from a password takes as much memory as the file says, at most 1 GiB (minisign's default),
 * and some seconds. */
int minisign_secret_parse(struct minisign_secret *s, const char *text, size_t len, const char *password,
                          struct mvm_error *err) MVM_MUST_CHECK;

struct buf;
/* Appends the text of a signature file. comment: one line, the trusted comment. */
int minisign_sign(const struct minisign_secret *s, const void *message, size_t len, const char *comment,
                  struct buf *out, struct mvm_error *err) MVM_MUST_CHECK;
