/* A tree made by any steps: its hash is that of the archive that the Nix manual's grammar gives, written here once more
 * in another way. */
#include "fuzz.h"

#include "base/buf.h"
#include "image/nar.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <string.h>

#define LIMIT (8u << 20)

static void put(struct buf *b, const void *p, uint64_t n)
{
    static const char zeros[8];
    MUST(buf_append(b, &n, sizeof(n)) == 0);
    if (n)
        MUST(buf_append(b, p, (size_t)n) == 0);
    if (n % 8)
        MUST(buf_append(b, zeros, 8 - n % 8) == 0);
}

static void put_texts(struct buf *b, const char *const *texts)
{
    for (; *texts; texts++)
        put(b, *texts, strlen(*texts));
}
#define PUT(...) put_texts(b, (const char *const[]){__VA_ARGS__, NULL})

static void put_node(struct buf *b, const struct fsnode *n)
{
    PUT("(", "type");
    switch (n->kind) {
    case FSNODE_SYMLINK:
        PUT("symlink", "target", n->target);
        break;
    case FSNODE_FILE:
        PUT("regular");
        if (n->mode & 0100)
            PUT("executable", "");
        PUT("contents");
        put(b, n->memory, n->size);
        break;
    default:
        PUT("directory");
        for (size_t i = 0; i < n->n_children; i++) {
            MUST(i == 0 || strcmp(n->children[i - 1]->name, n->children[i]->name) < 0);
            PUT("entry", "(", "name", n->children[i]->name, "node");
            put_node(b, n->children[i]);
            PUT(")");
        }
    }
    PUT(")");
}

/* A path of up to three components of up to seven bytes each. */
static void take_path(struct input *in, char *out, size_t size)
{
    size_t n;
    const uint8_t *p = input_bytes(in, input_u8(in) % 24, &n);
    snprintf(out, size, "%.*s", (int)n, (const char *)p);
}

static bool has_device;

static void act(struct fstree *t, struct input *in)
{
    char path[32], target[32];
    uint8_t op = input_u8(in);
    size_t n;
    take_path(in, path, sizeof(path));
    if (op % 5 == 0) {
        (void)!fstree_add_dir(t, path, 0755, NULL);
    } else if (op % 5 == 1) {
        take_path(in, target, sizeof(target));
        (void)!fstree_add_symlink(t, path, target, NULL);
    } else if (op % 5 == 2) {
        fstree_drop(t, path);
    } else if (op % 5 == 3 && op > 250) {
        has_device |= fstree_add_char(t, path, 0600, 1, 3, NULL) == 0;
    } else {
        const uint8_t *p = input_bytes(in, op, &n);
        (void)!fstree_add_memory(t, path, op & 8 ? 0755 : 0644, p, n, NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEAN_FSTREE struct fstree t = {0};
    CLEAN_BUF struct buf archive = BUF_INIT(LIMIT);
    struct input in = {data, size};
    char hash[NAR_HASH_SIZE], again[NAR_HASH_SIZE + 8] = "sha256-";
    uint8_t digest[SHA256_DIGEST_LENGTH];
    has_device = false;
    MUST(fstree_init(&t) == 0);
    for (int steps = 0; in.left && steps < 200; steps++)
        act(&t, &in);
    int r = nar_hash(t.root, hash, NULL);
    MUST(r == 0 || has_device);
    if (has_device)
        return 0;
    put_texts(&archive, (const char *const[]){"nix-archive-1", NULL});
    put_node(&archive, t.root);
    SHA256(archive.data, archive.len, digest);
    EVP_EncodeBlock((unsigned char *)again + 7, digest, sizeof(digest));
    MUST(strcmp(hash, again) == 0);
    return 0;
}
