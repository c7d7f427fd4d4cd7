#include "image/nar.h"
#include "base/fd.h"
#include "host/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A NAR is a sequence of strings: length (8 bytes), bytes, zeros up to a multiple of 8. */
void nar_bytes(struct nar *a, const void *p, size_t n)
{
    sha256_update(&a->sha, p, n);
    a->size += n;
}

void nar_length(struct nar *a, uint64_t n)
{
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(n >> (8 * i));
    nar_bytes(a, bytes, sizeof(bytes));
}

void nar_pad(struct nar *a, uint64_t n)
{
    static const uint8_t zeros[8];
    nar_bytes(a, zeros, (8 - n % 8) % 8);
}

void nar_text(struct nar *a, const char *text)
{
    size_t n = strlen(text);
    nar_length(a, n);
    nar_bytes(a, text, n);
    nar_pad(a, n);
}

void nar_begin(struct nar *a)
{
    *a = (struct nar){0};
    sha256_init(&a->sha);
    nar_text(a, "nix-archive-1");
}

static int put_content(struct sha256 *s, const struct fsnode *n)
{
    if (n->memory) {
        sha256_update(s, n->memory, n->size);
    } else if (n->size) {
        CLEAN_FD int fd = open(n->source, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return -errno;
        static _Thread_local uint8_t chunk[1 << 16];
        for (uint64_t at = 0; at < n->size;) {
            size_t want = (size_t)MIN_OF((uint64_t)sizeof(chunk), n->size - at);
            int r = fd_pread_all(fd, chunk, want, at);
            if (r < 0)
                return r;
            sha256_update(s, chunk, want);
            at += want;
        }
    }
    return 0;
}

static int put_node(struct nar *s, const struct fsnode *n)
{
    int r = 0;
    nar_text(s, "(");
    nar_text(s, "type");
    if (n->kind == FSNODE_SYMLINK) {
        nar_text(s, "symlink");
        nar_text(s, "target");
        nar_text(s, n->target);
    } else if (n->kind == FSNODE_FILE) {
        nar_text(s, "regular");
        if (n->mode & 0100) {
            nar_text(s, "executable");
            nar_text(s, "");
        }
        nar_text(s, "contents");
        nar_length(s, n->size);
        r = put_content(&s->sha, n);
        s->size += n->size;
        nar_pad(s, n->size);
    } else {
        nar_text(s, "directory");
        for (size_t i = 0; r == 0 && i < n->n_children; i++) {
            nar_text(s, "entry");
            nar_text(s, "(");
            nar_text(s, "name");
            nar_text(s, n->children[i]->name);
            nar_text(s, "node");
            r = put_node(s, n->children[i]);
            nar_text(s, ")");
        }
    }
    nar_text(s, ")");
    return r;
}

/* With padding and a NUL: libcrypto's would bring much else into the guest's static tools. */
static void base64(const uint8_t *p, size_t n, char *out)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = (unsigned)p[i] << 16 | (i + 1 < n ? p[i + 1] : 0u) << 8 | (i + 2 < n ? p[i + 2] : 0u);
        *out++ = letters[v >> 18];
        *out++ = letters[v >> 12 & 63];
        *out++ = i + 1 < n ? letters[v >> 6 & 63] : '=';
        *out++ = i + 2 < n ? letters[v & 63] : '=';
    }
    *out = '\0';
}

void nar_end(struct nar *a, uint8_t digest[static SHA256_SIZE], char out[static NAR_HASH_SIZE])
{
    sha256_final(&a->sha, digest);
    strcpy(out, "sha256-");
    base64(digest, SHA256_SIZE, out + strlen(out));
}

int nar_hash(const struct fsnode *root, char out[static NAR_HASH_SIZE], struct mvm_error *err)
{
    struct nar a;
    uint8_t digest[SHA256_SIZE];
    nar_begin(&a);
    int r = put_node(&a, root);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot hash %s", root->name);
    nar_end(&a, digest, out);
    return 0;
}

int nar_content_sha256(const struct fsnode *file, char out[static SHA256_HEX_SIZE], struct mvm_error *err)
{
    struct sha256 s;
    uint8_t digest[SHA256_SIZE];
    sha256_init(&s);
    int r = put_content(&s, file);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot hash %s", file->name);
    sha256_final(&s, digest);
    sha256_hex(digest, out);
    return 0;
}
