#include "image/spec.h"
#include "base/path.h"
#include "image/kernel_offers.h"
#include "image/nar.h"
#include "image/spec_store.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FIELDS  4
#define MAX_TEXT    (8u << 20)
#define NAR_MARK    "@nar:"
#define DIGEST_MARK "@sha256:"
#define MAX_SPARE   ((uint64_t)1 << 40)

/* A directive's fields, decoded; a NUL lies behind each, and only `text` may have one within. */
struct field {
    char *s;
    size_t len;
};

static int hex_digit(char c)
{
    return isdigit((unsigned char)c) ? c - '0' : isxdigit((unsigned char)c) ? (c | 0x20) - 'a' + 10 : -1;
}

/* Decodes %XX in place. */
static int decode(struct field *f)
{
    char *to = f->s;
    for (const char *from = f->s; *from;) {
        if (*from != '%') {
            *to++ = *from++;
            continue;
        }
        int high = hex_digit(from[1]), low = high < 0 ? -1 : hex_digit(from[2]);
        if (low < 0)
            return -EINVAL;
        *to++ = (char)(high << 4 | low);
        from += 3;
    }
    *to = '\0';
    f->len = (size_t)(to - f->s);
    return 0;
}

static int parse_mode(const struct field *f, mode_t *ret, struct mvm_error *err)
{
    if (f->len < 3 || f->len > 4 || strspn(f->s, "01234567") != f->len)
        return mvm_error_set(err, -EINVAL, "'%s' is no mode of three or four octal digits", f->s);
    *ret = (mode_t)strtoul(f->s, NULL, 8);
    return 0;
}

static int parse_number(const struct field *f, uint64_t max, uint64_t *ret, struct mvm_error *err)
{
    uint64_t n = 0;
    if (f->len && f->len < 20 && strspn(f->s, "0123456789") == f->len)
        n = strtoull(f->s, NULL, 10);
    else
        n = UINT64_MAX;
    if (n > max)
        return mvm_error_set(err, -EINVAL, "'%s' is no number up to %llu", f->s, (unsigned long long)max);
    *ret = n;
    return 0;
}

int spec_set(struct spec *s, const char *name, const char *value)
{
    if (s->n_names == SPEC_MAX_NAMES)
        return -E2BIG;
    s->names[s->n_names].name = name;
    s->names[s->n_names++].value = value;
    return 0;
}

static int do_dir(struct spec *s, const struct field *f, struct mvm_error *err)
{
    mode_t mode = 0;
    int r = parse_mode(&f[0], &mode, err);
    return r < 0 ? r : fstree_add_dir(&s->tree, f[1].s, mode, err);
}

/* A file in place of a folder with all that is in it is a mistake. */
static int no_folder(const struct spec *s, const char *path, struct mvm_error *err)
{
    const struct fsnode *there = fstree_find(&s->tree, path);
    if (there && there->kind == FSNODE_DIR && there->n_children)
        return mvm_error_set(err, -EISDIR, "in image: %s is a folder", path);
    return 0;
}

static int do_file(struct spec *s, const struct field *f, struct mvm_error *err)
{
    mode_t mode = 0;
    struct stat st;
    CLEAN_FREE char *source = spec_locate(s, f[2].s);
    if (!source)
        return mvm_error_errno(err, -ENOMEM, "%s", f[2].s);
    if (stat(source, &st) == 0 && S_ISDIR(st.st_mode))
        return mvm_error_set(err, -EISDIR, "%s has the mode of a file, but %s is a folder", f[1].s, f[2].s);
    int r = parse_mode(&f[0], &mode, err);
    if (r == 0)
        r = no_folder(s, f[1].s, err);
    return r < 0 ? r : fstree_add_file(&s->tree, f[1].s, mode, source, err);
}

static int do_text(struct spec *s, const struct field *f, struct mvm_error *err)
{
    mode_t mode = 0;
    int r = parse_mode(&f[0], &mode, err);
    if (r == 0)
        r = no_folder(s, f[1].s, err);
    return r < 0 ? r : fstree_add_memory(&s->tree, f[1].s, mode, f[2].s, f[2].len, err);
}

static int do_link(struct spec *s, const struct field *f, struct mvm_error *err)
{
    return fstree_add_symlink(&s->tree, f[0].s, f[1].s, err);
}

static int do_tree(struct spec *s, const struct field *f, struct mvm_error *err)
{
    CLEAN_FREE char *source = spec_locate(s, f[1].s);
    return source ? fstree_add_plain_tree(&s->tree, f[0].s, source, err) : mvm_error_errno(err, -ENOMEM, "%s", f[1].s);
}

static int do_copy(struct spec *s, const struct field *f, struct mvm_error *err)
{
    struct stat st;
    CLEAN_FREE char *source = spec_locate(s, f[1].s);
    if (!source || stat(source, &st) < 0)
        return mvm_error_errno(err, source ? -errno : -ENOMEM, "cannot read %s", f[1].s);
    if (S_ISDIR(st.st_mode))
        return fstree_add_plain_tree(&s->tree, f[0].s, source, err);
    int r = no_folder(s, f[0].s, err);
    return r < 0 ? r : fstree_add_file(&s->tree, f[0].s, fstree_plain_mode(st.st_mode), source, err);
}

/* A user's home, unless the image has a folder there for another reason. */
static int do_home(struct spec *s, const struct field *f, struct mvm_error *err)
{
    uint64_t uid = 0, gid = 0;
    int r = parse_number(&f[1], UINT32_MAX - 1, &uid, err);
    if (r == 0)
        r = parse_number(&f[2], UINT32_MAX - 1, &gid, err);
    if (r < 0 || fstree_find(&s->tree, f[0].s))
        return r;
    r = fstree_add_dir(&s->tree, f[0].s, 0700, err);
    struct fsnode *home = r < 0 ? NULL : fstree_find(&s->tree, f[0].s);
    if (home) {
        home->uid = (uint32_t)uid;
        home->gid = (uint32_t)gid;
    }
    return r;
}

static int do_absent(struct spec *s, const struct field *f, struct mvm_error *err)
{
    if (!fstree_find(&s->tree, f[0].s))
        return 0;
    return mvm_error_set(err, -EEXIST, "in image: %s is not for a copied folder to bring: %s", f[0].s, f[1].s);
}

static int do_drop(struct spec *s, const struct field *f, struct mvm_error *err)
{
    fstree_drop(&s->tree, f[0].s);
    return 0;
}

static int do_char(struct spec *s, const struct field *f, struct mvm_error *err)
{
    mode_t mode = 0;
    uint64_t major = 0, minor = 0;
    int r = parse_mode(&f[0], &mode, err);
    if (r == 0)
        r = parse_number(&f[2], 0xfff, &major, err);
    if (r == 0)
        r = parse_number(&f[3], 0xfffff, &minor, err);
    return r < 0 ? r : fstree_add_char(&s->tree, f[1].s, mode, (unsigned)major, (unsigned)minor, err);
}

/* The files of a folder, one behind the other. */
static int do_concat(struct spec *s, const struct field *f, struct mvm_error *err)
{
    mode_t mode = 0;
    CLEAN_FSTREE struct fstree t = {0};
    CLEAN_BUF struct buf all = BUF_INIT(MAX_TEXT);
    CLEAN_FREE char *source = spec_locate(s, f[2].s);
    int r = source ? parse_mode(&f[0], &mode, err) : mvm_error_errno(err, -ENOMEM, "%s", f[2].s);
    if (r == 0)
        r = fstree_init(&t);
    if (r == 0)
        r = fstree_add_tree(&t, "", source, NULL, NULL, err);
    for (size_t i = 0; r == 0 && i < t.root->n_children; i++)
        if (t.root->children[i]->kind == FSNODE_FILE)
            r = path_read_file(AT_FDCWD, t.root->children[i]->source, &all, err);
    return r < 0 ? r : fstree_add_memory(&s->tree, f[1].s, mode, all.data, all.len, err);
}

/* An initrd's module, NN-NAME.ko. */
static bool has_module(void *modules, const char *name)
{
    const struct fsnode *dir = modules;
    size_t n = strlen(name);
    for (size_t i = 0; i < dir->n_children; i++) {
        const char *at = strchr(dir->children[i]->name, '-');
        if (at && strncmp(at + 1, name, n) == 0 && strcmp(at + 1 + n, ".ko") == 0)
            return true;
    }
    return false;
}

/* What a kernel offers, a line each; nothing where its configuration is not known. */
static int do_offers(struct spec *s, const struct field *f, struct mvm_error *err)
{
    mode_t mode = 0;
    CLEAN_FSTREE struct fstree modules = {0};
    CLEAN_BUF struct buf config = BUF_INIT(MAX_TEXT);
    CLEAN_BUF struct buf out = BUF_INIT(1024);
    CLEAN_FREE char *folder = spec_locate(s, f[2].s);
    CLEAN_FREE char *source = spec_locate(s, f[3].s);
    int r = folder && source ? parse_mode(&f[0], &mode, err) : mvm_error_errno(err, -ENOMEM, "%s", f[1].s);
    if (r == 0)
        r = fstree_init(&modules);
    if (r == 0)
        r = fstree_add_tree(&modules, "", folder, NULL, NULL, err);
    if (r == 0)
        r = path_read_file(AT_FDCWD, source, &config, err);
    unsigned offers = r == 0 ? kernel_offers_of_config(buf_cstr(&config), has_module, modules.root) : 0;
    for (int o = 0; r == 0 && o < KERNEL_OFFERS; o++)
        if (offers & KERNEL_OFFER(o))
            r = buf_printf(&out, "%s\n", kernel_offer_name(o));
    return r < 0 ? r : fstree_add_memory(&s->tree, f[1].s, mode, out.data, out.len, err);
}

/* What a mark in a text stands for: the Nix hash of a path of the image, or the digest of a file. */
static int put_mark(struct spec *s, const char *source, const char *mark, struct buf *out, const char **ret_end,
                    struct mvm_error *err)
{
    bool nar = strncmp(mark, NAR_MARK, sizeof(NAR_MARK) - 1) == 0;
    const char *name = strchr(mark, ':') + 1;
    size_t n = strcspn(name, "@\n");
    char path[256], hash[MAX_OF(NAR_HASH_SIZE, SHA256_HEX_SIZE)];
    const struct fsnode *node = NULL;
    if (name[n] == '@' && n < sizeof(path)) {
        snprintf(path, sizeof(path), "%.*s", (int)n, name);
        node = fstree_find(&s->tree, path);
    }
    if (!node || (!nar && node->kind != FSNODE_FILE))
        return mvm_error_set(err, -ENOENT, "%s names nothing in the image: %.60s", source, mark);
    int r = nar ? nar_hash(node, hash, err) : nar_content_sha256(node, hash, err);
    *ret_end = name + n + 1;
    return r < 0 ? r : buf_append(out, hash, strlen(hash));
}

/* The next mark in a text; NULL: there is none. */
static const char *next_mark(const char *at)
{
    const char *nar = strstr(at, NAR_MARK), *digest = strstr(at, DIGEST_MARK);
    return !nar || (digest && digest < nar) ? digest : nar;
}

static int do_subst(struct spec *s, const struct field *f, struct mvm_error *err)
{
    mode_t mode = 0;
    CLEAN_BUF struct buf in = BUF_INIT(MAX_TEXT);
    CLEAN_BUF struct buf out = BUF_INIT(MAX_TEXT);
    CLEAN_FREE char *source = spec_locate(s, f[2].s);
    int r = source ? parse_mode(&f[0], &mode, err) : mvm_error_errno(err, -ENOMEM, "%s", f[2].s);
    if (r == 0)
        r = path_read_file(AT_FDCWD, source, &in, err);
    const char *at = buf_cstr(&in);
    for (const char *mark; r == 0 && (mark = next_mark(at));) {
        r = buf_append(&out, at, (size_t)(mark - at));
        if (r == 0)
            r = put_mark(s, source, mark, &out, &at, err);
    }
    if (r == 0)
        r = buf_append(&out, at, strlen(at));
    if (r < 0)
        return mvm_error_code(err) ? r : mvm_error_errno(err, r, "%s", f[1].s);
    return fstree_add_memory(&s->tree, f[1].s, mode, out.data, out.len, err);
}

static int do_store(struct spec *s, const struct field *f, struct mvm_error *err)
{
    return spec_add_closure(s, f[0].s, 1, err);
}

static int do_references(struct spec *s, const struct field *f, struct mvm_error *err)
{
    return spec_add_closure(s, f[0].s, 2, err);
}

static int do_bin(struct spec *s, const struct field *f, struct mvm_error *err)
{
    return spec_add_programs(s, f[1].s, f[0].s, err);
}

static int do_label(struct spec *s, const struct field *f, struct mvm_error *err)
{
    if (f[0].len == 0 || f[0].len >= sizeof(s->label))
        return mvm_error_set(err, -EINVAL, "a label has 1 to %zu bytes", sizeof(s->label) - 1);
    memcpy(s->label, f[0].s, f[0].len + 1);
    return 0;
}

static int do_spare(struct spec *s, const struct field *f, struct mvm_error *err)
{
    return parse_number(&f[0], MAX_SPARE, &s->opts.spare, err);
}

static int do_time(struct spec *s, const struct field *f, struct mvm_error *err)
{
    return parse_number(&f[0], INT32_MAX, &s->opts.time, err);
}

/* 16 bytes of FNV-1a with 128 bits, marked as an application's own UUID (RFC 9562, version 8): an
 * identity, no secret. */
static void set_uuid(struct spec *s, const char *text, size_t len)
{
    const unsigned __int128 prime = ((unsigned __int128)1 << 88) + 0x13b;
    unsigned __int128 h = ((unsigned __int128)0x6c62272e07bb0142u << 64) | 0x62b821756295c58du;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (uint8_t)text[i]) * prime;
    uint8_t *uuid = s->opts.uuid;
    for (int i = 0; i < 16; i++)
        uuid[i] = (uint8_t)(h >> (120 - 8 * i));
    uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x80);
    uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
}

static int do_uuid_from(struct spec *s, const struct field *f, struct mvm_error *err)
{
    set_uuid(s, f[0].s, f[0].len);
    return 0;
}

static const struct directive {
    const char *word;
    unsigned fields;
    bool bytes; /* the last field may hold NUL */
    int (*run)(struct spec *s, const struct field *f, struct mvm_error *err);
} directives[] = {
    {"dir", 2, false, do_dir},       {"file", 3, false, do_file},
    {"text", 3, true, do_text},      {"link", 2, false, do_link},
    {"tree", 2, false, do_tree},     {"store", 1, false, do_store},
    {"bin", 2, false, do_bin},       {"label", 1, false, do_label},
    {"spare", 1, false, do_spare},   {"uuid-from", 1, false, do_uuid_from},
    {"time", 1, false, do_time},     {"drop", 1, false, do_drop},
    {"char", 4, false, do_char},     {"concat", 3, false, do_concat},
    {"subst", 3, false, do_subst},   {"copy", 2, false, do_copy},
    {"home", 3, false, do_home},     {"references", 1, false, do_references},
    {"absent", 2, false, do_absent}, {"offers", 4, false, do_offers},
};

/* Fields are separated by one space each; the last one takes the rest of the line. */
static int split(const struct directive *d, char *rest, struct field *f, struct mvm_error *err)
{
    for (unsigned i = 0; i < d->fields; i++) {
        f[i].s = i + 1 < d->fields && rest ? strsep(&rest, " ") : rest;
        if (!f[i].s || (!*f[i].s && !d->bytes))
            return mvm_error_set(err, -EINVAL, "%s: %u fields are wanted", d->word, d->fields);
        if (decode(&f[i]) < 0)
            return mvm_error_set(err, -EINVAL, "%s: a %% without two hexadecimal digits", d->word);
        if (strlen(f[i].s) != f[i].len && !(d->bytes && i + 1 == d->fields))
            return mvm_error_set(err, -EINVAL, "%s: a field has a NUL byte", d->word);
    }
    return 0;
}

static int parse_line(struct spec *s, char *line, struct mvm_error *err)
{
    if (*line == '\0' || *line == '#')
        return 0;
    char *word = strsep(&line, " ");
    for (size_t i = 0; i < ARRAY_SIZE(directives); i++) {
        const struct directive *d = &directives[i];
        if (strcmp(d->word, word) != 0)
            continue;
        struct field f[MAX_FIELDS] = {0};
        int r = split(d, line, f, err);
        return r < 0 ? r : d->run(s, f, err);
    }
    return mvm_error_set(err, -EINVAL, "unknown directive '%s'", word);
}

int spec_init(struct spec *s, const char *store)
{
    *s = (struct spec){.store = store, .opts = {.time = 1}};
    s->opts.label = s->label;
    set_uuid(s, "mvm", 3);
    return fstree_init(&s->tree);
}

/* Files of the store are one inode or several depending on whether it was optimised: that must not
 * be seen in the image. */
static void forget_links(struct fsnode *n)
{
    n->hardlink_id = 0;
    for (size_t i = 0; i < n->n_children; i++)
        forget_links(n->children[i]);
}

int spec_parse(struct spec *s, const void *text, size_t len, struct mvm_error *err)
{
    CLEAN_BUF struct buf b = BUF_INIT(SPEC_MAX);
    int r = len ? buf_append(&b, text, len) : 0;
    if (r < 0)
        return mvm_error_errno(err, r, "description");
    if (len && memchr(text, '\0', len))
        return mvm_error_set(err, -EINVAL, "the description is no text");
    unsigned number = 0;
    char *at = len ? (char *)b.data : NULL;
    for (char *line; (line = strsep(&at, "\n"));) {
        number++;
        r = parse_line(s, line, err);
        if (r < 0)
            return mvm_error_wrap(err, "line %u", number);
    }
    forget_links(s->tree.root);
    return 0;
}

void spec_done(struct spec *s)
{
    fstree_done(&s->tree);
}
