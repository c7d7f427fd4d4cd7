#define OPENSSL_SUPPRESS_DEPRECATED /* EVP would pull libcrypto's providers into the guest's static tools */
#include "host/sha256.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

void sha256_init(struct sha256 *s)
{
    SHA256_Init(&s->ctx);
}

void sha256_update(struct sha256 *s, const void *p, size_t n)
{
    SHA256_Update(&s->ctx, p, n);
}

void sha256_final(struct sha256 *s, uint8_t out[static SHA256_SIZE])
{
    SHA256_Final(out, &s->ctx);
    SHA256_Init(&s->ctx);
}

int sha256_fd(int fd, char out[static SHA256_HEX_SIZE])
{
    struct sha256 s;
    sha256_init(&s);
    CLEAN_FREE uint8_t *chunk = malloc(1 << 18);
    if (!chunk)
        return -ENOMEM;
    for (off_t at = 0;;) {
        ssize_t n = pread(fd, chunk, 1 << 18, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        sha256_update(&s, chunk, (size_t)n);
        at += n;
    }
    uint8_t digest[SHA256_SIZE];
    sha256_final(&s, digest);
    sha256_hex(digest, out);
    return 0;
}
