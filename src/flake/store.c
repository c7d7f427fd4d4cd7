#include "flake/store.h"
#include "base/fd.h"
#include "base/os.h"
#include "image/nar.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK       (256u * 1024)
#define NAME        "source"
#define LARGE_FILES 64 /* one more program in the builder takes as long as Nix with these */
#define LARGE_BYTES (1u << 20)

/* ---- The NAR ---- */

struct writer {
    const struct flake_tree *t;
    const struct flake_file **files; /* in the NAR's order */
    struct nar nar;
    uint8_t *chunk;
    struct mvm_error *err;
};

/* What is in a folder comes right behind it: as if the slash were the first of all characters. */
static int in_order(const void *a, const void *b)
{
    const char *x = (*(const struct flake_file *const *)a)->path, *y = (*(const struct flake_file *const *)b)->path;
    while (*x && *x == *y) {
        x++;
        y++;
    }
    int p = *x == '/' ? 1 : *x ? (unsigned char)*x + 1 : 0, q = *y == '/' ? 1 : *y ? (unsigned char)*y + 1 : 0;
    return p - q;
}

/* Digested once more by itself: what was listed is what is hashed. */
static int put_content(struct writer *w, const struct flake_file *f)
{
    CLEAN_FD int fd = os_open_beneath(w->t->root_fd, f->path, O_RDONLY | O_NONBLOCK, 0);
    struct sha256 own;
    uint8_t digest[SHA256_SIZE];
    char hex[SHA256_HEX_SIZE];
    int r = fd < 0 ? fd : 0;
    sha256_init(&own);
    nar_length(&w->nar, f->size);
    for (uint64_t at = 0; r == 0 && at < f->size;) {
        size_t n = (size_t)MIN_OF((uint64_t)CHUNK, f->size - at);
        r = fd_pread_all(fd, w->chunk, n, at);
        if (r == 0) {
            nar_bytes(&w->nar, w->chunk, n);
            sha256_update(&own, w->chunk, n);
        }
        at += n;
    }
    nar_pad(&w->nar, f->size);
    if (r < 0 && r != -ENODATA)
        return mvm_error_errno(w->err, r, "cannot read %s in the flake's tree", f->path);
    sha256_final(&own, digest);
    sha256_hex(digest, hex);
    /* The lock file's own digest leaves out what builders provide. */
    if (r == -ENODATA || (strcmp(f->path, w->t->lock_path) != 0 && strcmp(hex, f->digest) != 0))
        return mvm_error_set(w->err, -ESTALE, "%s changed while the flake was being staged", f->path);
    return 0;
}

static int put_leaf(struct writer *w, const struct flake_file *f)
{
    int r = 0;
    nar_text(&w->nar, "(");
    nar_text(&w->nar, "type");
    if (f->kind == ENTRY_DIR) {
        nar_text(&w->nar, "directory");
    } else if (f->kind == ENTRY_SYMLINK) {
        nar_text(&w->nar, "symlink");
        nar_text(&w->nar, "target");
        nar_text(&w->nar, f->target);
    } else {
        nar_text(&w->nar, "regular");
        if (f->executable) {
            nar_text(&w->nar, "executable");
            nar_text(&w->nar, "");
        }
        nar_text(&w->nar, "contents");
        r = put_content(w, f);
    }
    nar_text(&w->nar, ")");
    return r;
}

/* Are both in the same folder? */
static bool same_top(const char *x, const char *y)
{
    for (; *x && *x == *y; x++, y++)
        if (*x == '/')
            return true;
    return false;
}

/* The folder that files[from] up to files[to] are in; its path has `prefix` bytes, with the slash. */
static int put_folder(struct writer *w, size_t from, size_t to, size_t prefix)
{
    int r = 0;
    nar_text(&w->nar, "(");
    nar_text(&w->nar, "type");
    nar_text(&w->nar, "directory");
    while (r == 0 && from < to) {
        const char *path = w->files[from]->path + prefix;
        const char *slash = strchr(path, '/');
        size_t n = slash ? (size_t)(slash - path) + 1 : strlen(path), end = from + 1;
        char name[256];
        snprintf(name, sizeof(name), "%.*s", (int)(slash ? n - 1 : n), path);
        while (slash && end < to && same_top(w->files[end]->path + prefix, path))
            end++;
        nar_text(&w->nar, "entry");
        nar_text(&w->nar, "(");
        nar_text(&w->nar, "name");
        nar_text(&w->nar, name);
        nar_text(&w->nar, "node");
        r = slash ? put_folder(w, from, end, prefix + n) : put_leaf(w, w->files[from]);
        nar_text(&w->nar, ")");
        from = end;
    }
    nar_text(&w->nar, ")");
    return r;
}

/* ---- Its name ---- */

/* Nix's base 32: the bits from the last byte on, five a letter. */
static void base32(const uint8_t *p, size_t n, char *out)
{
    static const char letters[] = "0123456789abcdfghijklmnpqrsvwxyz";
    for (size_t i = (n * 8 - 1) / 5 + 1; i-- > 0;) {
        size_t bit = i * 5, byte = bit / 8, shift = bit % 8;
        unsigned v = (unsigned)p[byte] >> shift;
        if (byte + 1 < n)
            v |= (unsigned)p[byte + 1] << (8 - shift);
        *out++ = letters[v & 31];
    }
    *out = '\0';
}

void flake_store_name(const uint8_t nar[static SHA256_SIZE], char out[static 48])
{
    char hex[SHA256_HEX_SIZE], text[128];
    uint8_t digest[SHA256_SIZE], folded[20] = {0};
    struct sha256 s;
    sha256_hex(nar, hex);
    int n = snprintf(text, sizeof(text), "source:sha256:%s:/nix/store:" NAME, hex);
    sha256_init(&s);
    sha256_update(&s, text, (size_t)n);
    sha256_final(&s, digest);
    for (size_t i = 0; i < sizeof(digest); i++)
        folded[i % sizeof(folded)] ^= digest[i];
    base32(folded, sizeof(folded), out);
    strcat(out, "-" NAME);
}

bool flake_tree_is_large(const struct flake_tree *t)
{
    return t->n_files >= LARGE_FILES || t->bytes >= LARGE_BYTES;
}

int flake_tree_store(const struct flake_tree *t, struct flake_store *ret, struct mvm_error *err)
{
    CLEAN_FREE const struct flake_file **files = calloc(t->n_files + 1, sizeof(struct flake_file *));
    CLEAN_FREE uint8_t *chunk = malloc(CHUNK);
    struct writer w = {.t = t, .files = files, .chunk = chunk, .err = err};
    uint8_t digest[SHA256_SIZE];
    if (!files || !chunk)
        return mvm_error_errno(err, -ENOMEM, "flake");
    for (size_t i = 0; i < t->n_files; i++)
        files[i] = &t->files[i];
    qsort(files, t->n_files, sizeof(struct flake_file *), in_order);
    nar_begin(&w.nar);
    int r = put_folder(&w, 0, t->n_files, 0);
    if (r < 0)
        return r;
    ret->size = w.nar.size;
    nar_end(&w.nar, digest, ret->hash);
    sha256_hex(digest, ret->hex);
    flake_store_name(digest, ret->name);
    return 0;
}
