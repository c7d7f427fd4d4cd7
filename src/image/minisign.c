#include "image/minisign.h"
#include "base/buf.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#define UNTRUSTED "untrusted comment: "
#define TRUSTED   "trusted comment: "
#define BLAKE2B   64

/* ---- Text ---- */

/* What the base64 lines hold, in bytes. */
enum { PUBLIC_SIZE = 42, SIGNATURE_SIZE = 74, GLOBAL_SIZE = 64, SECRET_SIZE = 158 };

#define BASE64_LENGTH(n) (((n) + 2) / 3 * 4)

/* One line of exactly size bytes as base64 in the one form there is for them: decoding and encoding gives it again. */
static bool decode(const char *line, size_t len, uint8_t *out, size_t size)
{
    uint8_t bytes[SECRET_SIZE + 2];
    char again[BASE64_LENGTH(SECRET_SIZE) + 1];
    bool good = len == BASE64_LENGTH(size) && size <= SECRET_SIZE &&
                EVP_DecodeBlock(bytes, (const uint8_t *)line, (int)len) >= (int)size &&
                EVP_EncodeBlock((uint8_t *)again, bytes, (int)size) == (int)len && memcmp(again, line, len) == 0;
    if (good)
        memcpy(out, bytes, size);
    OPENSSL_cleanse(bytes, sizeof(bytes));
    OPENSSL_cleanse(again, sizeof(again));
    return good;
}

struct lines {
    const char *at, *end;
};

/* The next line without its end; *ret_len is its length. NULL behind the last one. */
static const char *next_line(struct lines *l, size_t *ret_len)
{
    if (l->at == l->end)
        return NULL;
    const char *line = l->at, *nl = memchr(line, '\n', (size_t)(l->end - line));
    l->at = nl ? nl + 1 : l->end;
    size_t n = (size_t)((nl ? nl : l->end) - line);
    *ret_len = n && line[n - 1] == '\r' ? n - 1 : n;
    return line;
}

static const char *line_behind(struct lines *l, const char *prefix, size_t *ret_len)
{
    size_t n = strlen(prefix), len;
    const char *line = next_line(l, &len);
    if (!line || len < n || memcmp(line, prefix, n) != 0)
        return NULL;
    *ret_len = len - n;
    return line + n;
}

static bool line_decode(struct lines *l, uint8_t *out, size_t size)
{
    size_t len;
    const char *line = next_line(l, &len);
    return line && decode(line, len, out, size);
}

static bool at_end(const struct lines *l)
{
    return l->at == l->end;
}

int minisign_key_parse(struct minisign_key *k, const char *text, size_t len, struct mvm_error *err)
{
    struct lines l = {text, text + len};
    uint8_t bytes[PUBLIC_SIZE];
    size_t n;
    if (len > strlen(UNTRUSTED) && memcmp(text, UNTRUSTED, strlen(UNTRUSTED)) == 0)
        (void)!next_line(&l, &n);
    if (len > MINISIGN_MAX_FILE || !line_decode(&l, bytes, sizeof(bytes)) || !at_end(&l))
        return mvm_error_set(err, -EINVAL, "not a minisign public key");
    if (memcmp(bytes, "Ed", 2) != 0)
        return mvm_error_set(err, -EINVAL, "a minisign public key of an unknown kind");
    memcpy(k->id, bytes + 2, sizeof(k->id));
    memcpy(k->key, bytes + 10, sizeof(k->key));
    return 0;
}

void minisign_key_format(const struct minisign_key *k, char out[static MINISIGN_KEY_TEXT])
{
    uint8_t bytes[PUBLIC_SIZE] = {'E', 'd'};
    memcpy(bytes + 2, k->id, sizeof(k->id));
    memcpy(bytes + 10, k->key, sizeof(k->key));
    EVP_EncodeBlock((uint8_t *)out, bytes, PUBLIC_SIZE);
}

static uint64_t get_u64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

static void format_id(const uint8_t id[static 8], char out[static 17])
{
    snprintf(out, 17, "%llX", (unsigned long long)get_u64(id));
}

void minisign_key_id(const struct minisign_key *k, char out[static 17])
{
    format_id(k->id, out);
}

int minisign_signature_parse(struct minisign_signature *s, const char *text, size_t len, struct mvm_error *err)
{
    struct lines l = {text, text + len};
    uint8_t bytes[SIGNATURE_SIZE];
    size_t n;
    const char *comment;
    if (len > MINISIGN_MAX_FILE || !line_behind(&l, UNTRUSTED, &n) || !line_decode(&l, bytes, sizeof(bytes)))
        return mvm_error_set(err, -EINVAL, "not a minisign signature");
    comment = line_behind(&l, TRUSTED, &n);
    if (!comment || n > MINISIGN_MAX_COMMENT || memchr(comment, '\0', n))
        return mvm_error_set(err, -EINVAL, "a signature without a trusted comment");
    if (!line_decode(&l, s->global, sizeof(s->global)) || !at_end(&l))
        return mvm_error_set(err, -EINVAL, "a signature without one of its trusted comment");
    if (bytes[0] != 'E' || (bytes[1] != 'd' && bytes[1] != 'D'))
        return mvm_error_set(err, -EINVAL, "a signature of an unknown kind");
    s->prehashed = bytes[1] == 'D';
    memcpy(s->id, bytes + 2, sizeof(s->id));
    memcpy(s->signature, bytes + 10, sizeof(s->signature));
    snprintf(s->comment, sizeof(s->comment), "%.*s", (int)n, comment);
    return 0;
}

/* ---- Verifying ---- */

static void pkey_freep(EVP_PKEY **k)
{
    EVP_PKEY_free(*k);
}

static void md_freep(EVP_MD_CTX **c)
{
    EVP_MD_CTX_free(*c);
}

static bool ed25519_verify(const uint8_t key[static 32], const void *message, size_t len,
                           const uint8_t signature[static 64])
{
    CLEANUP(pkey_freep) EVP_PKEY *k = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key, 32);
    CLEANUP(md_freep) EVP_MD_CTX *c = EVP_MD_CTX_new();
    return k && c && EVP_DigestVerifyInit(c, NULL, NULL, NULL, k) == 1 &&
           EVP_DigestVerify(c, signature, 64, message, len) == 1;
}

static bool blake2b(const void *message, size_t len, uint8_t out[static BLAKE2B])
{
    return EVP_Digest(message, len, out, NULL, EVP_blake2b512(), NULL) == 1;
}

/* What the second signature is over. */
static size_t signed_comment(const uint8_t signature[static 64], const char *comment,
                             uint8_t out[static 64 + MINISIGN_MAX_COMMENT])
{
    size_t n = strnlen(comment, MINISIGN_MAX_COMMENT);
    memcpy(out, signature, 64);
    memcpy(out + 64, comment, n);
    return 64 + n;
}

static const struct minisign_key *find_key(const struct minisign_key *keys, size_t n, const uint8_t id[static 8])
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(keys[i].id, id, sizeof(keys[i].id)) == 0)
            return &keys[i];
    return NULL;
}

int minisign_verify(const struct minisign_key *keys, size_t n_keys, const void *message, size_t len,
                    const char *signature, size_t signature_len, const struct minisign_key **ret_key,
                    struct mvm_error *err)
{
    struct minisign_signature s;
    uint8_t digest[BLAKE2B], comment[64 + MINISIGN_MAX_COMMENT];
    char id[17];
    int r = minisign_signature_parse(&s, signature, signature_len, err);
    if (r < 0)
        return r;
    const struct minisign_key *k = find_key(keys, n_keys, s.id);
    format_id(s.id, id);
    if (!k)
        return mvm_error_set(err, -ENOKEY, "signed by key %s, which is none of those that are trusted", id);
    if (s.prehashed && !blake2b(message, len, digest))
        return mvm_error_set(err, -EIO, "libcrypto has no BLAKE2b");
    if (!ed25519_verify(k->key, s.prehashed ? digest : message, s.prehashed ? BLAKE2B : len, s.signature))
        return mvm_error_set(err, -EKEYREJECTED, "the signature of key %s does not hold", id);
    if (!ed25519_verify(k->key, comment, signed_comment(s.signature, s.comment, comment), s.global))
        return mvm_error_set(err, -EKEYREJECTED, "the signature's trusted comment is not that of key %s", id);
    *ret_key = k;
    return 0;
}

/* ---- Signing ---- */

/* The secret key file's bytes: the last four fields are encrypted by a key derived from the password. */
enum {
    KDF_AT = 2,
    SALT_AT = 6,
    OPS_AT = 38,
    MEM_AT = 46,
    ID_AT = 54,
    SEED_AT = 62,
    PUBLIC_AT = 94,
    ENCRYPTED_SIZE = SECRET_SIZE - ID_AT
};

void minisign_secret_done(struct minisign_secret *s)
{
    OPENSSL_cleanse(s, sizeof(*s));
}

/* scrypt's N, r, p from libsodium's limits (crypto_pwhash_scryptsalsa208sha256: "opslimit", "memlimit"). */
static void scrypt_cost(uint64_t ops, uint64_t mem, uint64_t *ret_n, uint64_t *ret_p)
{
    const uint64_t r = 8;
    ops = MAX_OF(ops, 32768u);
    bool few_ops = ops < mem / 32;
    uint64_t most = few_ops ? ops / (r * 4) : mem / (r * 128), n = 2;
    while (n <= most / 2)
        n *= 2;
    *ret_n = n;
    *ret_p = few_ops ? 1 : MIN_OF(ops / 4 / n, 0x3fffffffu) / r;
}

static int decrypt(uint8_t *file, const char *password, struct mvm_error *err)
{
    const uint64_t most = 1ull << 30, slack = 1ull << 20;
    uint64_t ops = get_u64(file + OPS_AT), mem = get_u64(file + MEM_AT), n, p;
    uint8_t stream[ENCRYPTED_SIZE];
    if (!password)
        return mvm_error_set(err, -ENOKEY, "the secret key is encrypted and needs its password");
    if (mem > most || ops > most)
        return mvm_error_set(err, -EINVAL, "the secret key's password would take more than 1 GiB to check");
    scrypt_cost(ops, mem, &n, &p);
    if (p == 0 || EVP_PBE_scrypt(password, strlen(password), file + SALT_AT, 32, n, 8, p, most + slack, stream,
                                 sizeof(stream)) != 1)
        return mvm_error_set(err, -ENOMEM, "cannot derive the key from the password (%llu MiB of memory)",
                             (unsigned long long)mem >> 20);
    for (size_t i = 0; i < sizeof(stream); i++)
        file[ID_AT + i] ^= stream[i];
    OPENSSL_cleanse(stream, sizeof(stream));
    return 0;
}

/* The public half is that of the seed; this also tells whether a password was right. (The file's checksum would as
 * well, but it is a BLAKE2b of 32 bytes, which libcrypto 3.0 does not have.) */
static bool is_key_pair(const uint8_t seed[static 32], const uint8_t public_key[static 32])
{
    uint8_t derived[32];
    size_t n = sizeof(derived);
    CLEANUP(pkey_freep) EVP_PKEY *k = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, 32);
    return k && EVP_PKEY_get_raw_public_key(k, derived, &n) == 1 && CRYPTO_memcmp(derived, public_key, 32) == 0;
}

static int load_secret(struct minisign_secret *s, uint8_t *file, const char *password, struct mvm_error *err)
{
    bool encrypted = memcmp(file + KDF_AT, "Sc", 2) == 0;
    if (memcmp(file, "Ed", 2) != 0 || (!encrypted && memcmp(file + KDF_AT, "\0\0", 2) != 0))
        return mvm_error_set(err, -EINVAL, "a minisign secret key of an unknown kind");
    int r = encrypted ? decrypt(file, password, err) : 0;
    if (r < 0)
        return r;
    if (!is_key_pair(file + SEED_AT, file + PUBLIC_AT))
        return mvm_error_set(err, -EKEYREJECTED,
                             encrypted ? "the password is wrong" : "the secret key does not fit its public half");
    memcpy(s->public_key.id, file + ID_AT, sizeof(s->public_key.id));
    memcpy(s->seed, file + SEED_AT, sizeof(s->seed));
    memcpy(s->public_key.key, file + PUBLIC_AT, sizeof(s->public_key.key));
    return 0;
}

int minisign_secret_parse(struct minisign_secret *s, const char *text, size_t len, const char *password,
                          struct mvm_error *err)
{
    struct lines l = {text, text + len};
    uint8_t file[SECRET_SIZE];
    size_t n;
    if (len > MINISIGN_MAX_FILE || !line_behind(&l, UNTRUSTED, &n) || !line_decode(&l, file, sizeof(file)) ||
        !at_end(&l))
        return mvm_error_set(err, -EINVAL, "not a minisign secret key");
    int r = load_secret(s, file, password, err);
    OPENSSL_cleanse(file, sizeof(file));
    return r;
}

static bool ed25519_sign(const uint8_t seed[static 32], const void *message, size_t len, uint8_t out[static 64])
{
    size_t n = 64;
    CLEANUP(pkey_freep) EVP_PKEY *k = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, 32);
    CLEANUP(md_freep) EVP_MD_CTX *c = EVP_MD_CTX_new();
    return k && c && EVP_DigestSignInit(c, NULL, NULL, NULL, k) == 1 && EVP_DigestSign(c, out, &n, message, len) == 1 &&
           n == 64;
}

int minisign_sign(const struct minisign_secret *s, const void *message, size_t len, const char *comment,
                  struct buf *out, struct mvm_error *err)
{
    uint8_t digest[BLAKE2B], bytes[SIGNATURE_SIZE] = {'E', 'D'}, global[64], over[64 + MINISIGN_MAX_COMMENT];
    char text[BASE64_LENGTH(SIGNATURE_SIZE) + 1], global_text[BASE64_LENGTH(GLOBAL_SIZE) + 1], id[17];
    if (strlen(comment) > MINISIGN_MAX_COMMENT || strpbrk(comment, "\r\n"))
        return mvm_error_set(err, -EINVAL, "the trusted comment is not one line of at most %d bytes",
                             MINISIGN_MAX_COMMENT);
    memcpy(bytes + 2, s->public_key.id, sizeof(s->public_key.id));
    if (!blake2b(message, len, digest) || !ed25519_sign(s->seed, digest, sizeof(digest), bytes + 10) ||
        !ed25519_sign(s->seed, over, signed_comment(bytes + 10, comment, over), global))
        return mvm_error_set(err, -EIO, "libcrypto cannot sign");
    EVP_EncodeBlock((uint8_t *)text, bytes, sizeof(bytes));
    EVP_EncodeBlock((uint8_t *)global_text, global, sizeof(global));
    format_id(s->public_key.id, id);
    int r = buf_printf(out, UNTRUSTED "signature of key %s\n%s\n" TRUSTED "%s\n%s\n", id, text, comment, global_text);
    return r < 0 ? mvm_error_errno(err, r, "signature") : 0;
}
