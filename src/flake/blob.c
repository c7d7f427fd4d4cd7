#define OPENSSL_SUPPRESS_DEPRECATED /* as in base/sha256.c */
#include "flake/blob.h"
#include "base/fd.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CHUNK (256u * 1024)

static void begin(SHA_CTX *sha, uint64_t size)
{
    char head[32];
    SHA1_Init(sha);
    SHA1_Update(sha, head, (size_t)snprintf(head, sizeof(head), "blob %llu", (unsigned long long)size) + 1);
}

static void end(SHA_CTX *sha, char id[static GIT_REV_SIZE])
{
    unsigned char digest[SHA_DIGEST_LENGTH];
    SHA1_Final(digest, sha);
    git_oid_hex(digest, id);
}

int blob_digest_fd(int fd, uint64_t size, char sha256[static SHA256_HEX_SIZE], char id[static GIT_REV_SIZE])
{
    CLEAN_FREE uint8_t *chunk = malloc(CHUNK);
    struct sha256 s;
    SHA_CTX sha;
    uint8_t digest[SHA256_SIZE];
    uint64_t at = 0;
    ssize_t n = 0;
    if (!chunk)
        return -ENOMEM;
    sha256_init(&s);
    begin(&sha, size);
    while ((n = pread(fd, chunk, CHUNK, (off_t)at)) > 0 || (n < 0 && errno == EINTR)) {
        if (n < 0)
            continue;
        sha256_update(&s, chunk, (size_t)n);
        SHA1_Update(&sha, chunk, (size_t)n);
        at += (uint64_t)n;
    }
    if (n < 0 || at != size)
        return n < 0 ? -errno : -ESTALE;
    sha256_final(&s, digest);
    sha256_hex(digest, sha256);
    end(&sha, id);
    return 0;
}

void blob_id(const char *text, char id[static GIT_REV_SIZE])
{
    SHA_CTX sha;
    begin(&sha, strlen(text));
    SHA1_Update(&sha, text, strlen(text));
    end(&sha, id);
}
