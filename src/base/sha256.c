#include "base/sha256.h"

#include <errno.h>
#include <openssl/evp.h>
#include <unistd.h>

int sha256_init(struct sha256 *s)
{
    s->ctx = EVP_MD_CTX_new();
    if (!s->ctx)
        return -ENOMEM;
    if (EVP_DigestInit_ex(s->ctx, EVP_sha256(), NULL) != 1) {
        sha256_done(s);
        return -ENOMEM;
    }
    return 0;
}

void sha256_update(struct sha256 *s, const void *p, size_t n)
{
    if (EVP_DigestUpdate(s->ctx, p, n) != 1)
        abort(); /* documented to fail only without a method */
}

void sha256_final(struct sha256 *s, uint8_t out[static SHA256_SIZE])
{
    unsigned len = 0;
    if (EVP_DigestFinal_ex(s->ctx, out, &len) != 1 || len != SHA256_SIZE || EVP_DigestInit_ex(s->ctx, NULL, NULL) != 1)
        abort();
}

void sha256_done(struct sha256 *s)
{
    EVP_MD_CTX_free(s->ctx);
    s->ctx = NULL;
}

void sha256_hex(const uint8_t digest[static SHA256_SIZE], char out[static SHA256_HEX_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < SHA256_SIZE; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[2 * SHA256_SIZE] = '\0';
}

int sha256_fd(int fd, char out[static SHA256_HEX_SIZE])
{
    CLEAN_SHA256 struct sha256 s = {0};
    int r = sha256_init(&s);
    if (r < 0)
        return r;
    CLEAN_FREE uint8_t *chunk = malloc(1 << 18);
    if (!chunk)
        return -ENOMEM;
    for (;;) {
        ssize_t n = read(fd, chunk, 1 << 18);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        sha256_update(&s, chunk, (size_t)n);
    }
    uint8_t digest[SHA256_SIZE];
    sha256_final(&s, digest);
    sha256_hex(digest, out);
    return 0;
}
