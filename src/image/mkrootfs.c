/*
 * mvm-mkrootfs: turns a description into rootfs.ext4. It runs inside Nix's build sandbox, where no other program is, so it is static.
 *
 *     mvm-mkrootfs --spec FILE --output FILE
 *
 * The description has one directive a line; fields are separated by one space; in PATH, SOURCE, TARGET and TEXT, %XX stands for a byte.
 * '#' begins a comment line.
 *
 *     dir MODE PATH                a folder
 *     file MODE PATH SOURCE        a copy of a file
 *     text MODE PATH TEXT          a file with that content
 *     link PATH TARGET             a symlink
 *     tree PATH SOURCE             a copy of a folder
 *     store GRAPH                  every path of an exportReferencesGraph file, at its own place
 *     bin PATH SOURCE              symlinks in PATH to what is in SOURCE/bin, where SOURCE has one
 *     label NAME                   of the file system
 *     spare BYTES                  free space beyond the content
 *     uuid-from TEXT               the file system's UUID is made from it
 *     time SECONDS                 every timestamp
 */
#include "base/buf.h"
#include "base/fd.h"
#include "base/path.h"
#include "image/ext4.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_SPEC   (16u << 20)
#define MAX_FIELDS 4

struct spec {
    struct fstree tree;
    struct ext4_opts opts;
    char label[17];
};

/* Decodes %XX in place. */
static int unescape(char *s)
{
    char *to = s;
    for (; *s; s++) {
        unsigned byte;
        if (*s != '%') {
            *to++ = *s;
            continue;
        }
        if (sscanf(s + 1, "%2x", &byte) != 1 || !s[1] || !s[2])
            return -EINVAL;
        *to++ = (char)byte;
        s += 2;
    }
    *to = '\0';
    return 0;
}

static const char *relative(const char *path)
{
    while (*path == '/')
        path++;
    return path;
}

/* 16 bytes out of any text, by two rounds of FNV-1a: an identity, not a secret. */
static void uuid_from(const char *text, uint8_t uuid[16])
{
    for (int half = 0; half < 2; half++) {
        uint64_t h = 0xcbf29ce484222325ull + (uint64_t)half;
        for (const char *s = text; *s; s++)
            h = (h ^ (uint8_t)*s) * 0x100000001b3ull;
        memcpy(uuid + 8 * half, &h, 8);
    }
    uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40);
    uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
}

/* The graph's records: a path, its deriver (may be empty), the number of references, as many lines. */
static int add_store(struct spec *s, const char *graph, struct mvm_error *err)
{
    CLEAN_BUF struct buf b = BUF_INIT(MAX_SPEC);
    int r = path_read_file(AT_FDCWD, graph, &b, err);
    if (r < 0)
        return r;
    char *save = NULL, *at = b.len ? (char *)b.data : NULL;
    for (char *path = at ? strsep(&at, "\n") : NULL; path && *path; path = strsep(&at, "\n")) {
        char *deriver = strsep(&at, "\n"), *count = strsep(&at, "\n");
        if (!deriver || !count || strncmp(path, "/nix/store/", 11) != 0)
            return mvm_error_set(err, -EINVAL, "%s: not a references graph", graph);
        for (long n = strtol(count, &save, 10); n > 0; n--)
            if (!strsep(&at, "\n"))
                return mvm_error_set(err, -EINVAL, "%s: ends early", graph);
        r = fstree_add_tree(&s->tree, relative(path), path, NULL, NULL, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int add_bin(struct spec *s, const char *path, const char *source, struct mvm_error *err)
{
    CLEAN_FREE char *bin = path_join(source, "bin", NULL);
    DIR *d = bin ? opendir(bin) : NULL;
    if (!d)
        return 0; /* a package without programs */
    int r = 0;
    for (struct dirent *e; r == 0 && (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        CLEAN_FREE char *name = path_join(relative(path), e->d_name, NULL);
        CLEAN_FREE char *target = path_join(bin, e->d_name, NULL);
        r = name && target ? fstree_add_symlink(&s->tree, name, target, err) : -ENOMEM;
    }
    closedir(d);
    return r;
}

static int on_file_line(struct spec *s, const char *word, char *const *f, struct mvm_error *err)
{
    mode_t mode = (mode_t)strtoul(f[0], NULL, 8);
    if (strcmp(word, "dir") == 0)
        return fstree_add_dir(&s->tree, relative(f[1]), mode, err);
    if (strcmp(word, "file") == 0)
        return fstree_add_file(&s->tree, relative(f[1]), mode, f[2], err);
    return fstree_add_memory(&s->tree, relative(f[1]), mode, f[2], strlen(f[2]), err);
}

static int on_line(struct spec *s, const char *word, char *const *f, struct mvm_error *err)
{
    if (strcmp(word, "dir") == 0 || strcmp(word, "file") == 0 || strcmp(word, "text") == 0)
        return on_file_line(s, word, f, err);
    if (strcmp(word, "link") == 0)
        return fstree_add_symlink(&s->tree, relative(f[0]), f[1], err);
    if (strcmp(word, "tree") == 0)
        return fstree_add_tree(&s->tree, relative(f[0]), f[1], NULL, NULL, err);
    if (strcmp(word, "store") == 0)
        return add_store(s, f[0], err);
    if (strcmp(word, "bin") == 0)
        return add_bin(s, f[0], f[1], err);
    if (strcmp(word, "label") == 0)
        snprintf(s->label, sizeof(s->label), "%s", f[0]);
    else if (strcmp(word, "spare") == 0)
        s->opts.spare = strtoull(f[0], NULL, 10);
    else if (strcmp(word, "uuid-from") == 0)
        uuid_from(f[0], s->opts.uuid);
    else
        s->opts.time = strtoull(f[0], NULL, 10);
    return 0;
}

static const struct {
    const char *word;
    unsigned fields;
} directives[] = {
    {"dir", 2}, {"file", 3}, {"text", 3}, {"link", 2}, {"tree", 2}, {"store", 1},
    {"bin", 2}, {"label", 1}, {"spare", 1}, {"uuid-from", 1}, {"time", 1},
};

static int parse_line(struct spec *s, char *line, struct mvm_error *err)
{
    if (*line == '\0' || *line == '#')
        return 0;
    char *word = strsep(&line, " ");
    for (size_t i = 0; i < ARRAY_SIZE(directives); i++) {
        if (strcmp(directives[i].word, word) != 0)
            continue;
        char *f[MAX_FIELDS] = {0};
        for (unsigned k = 0; k < directives[i].fields; k++) {
            f[k] = strsep(&line, " ");
            if (!f[k] || unescape(f[k]) < 0)
                return mvm_error_set(err, -EINVAL, "%s: %s", word, f[k] ? "a wrong escape" : "fields are missing");
        }
        if (line)
            return mvm_error_set(err, -EINVAL, "%s: too many fields", word);
        return on_line(s, word, f, err);
    }
    return mvm_error_set(err, -EINVAL, "unknown directive '%s'", word);
}

static int load_spec(struct spec *s, const char *file, struct mvm_error *err)
{
    CLEAN_BUF struct buf b = BUF_INIT(MAX_SPEC);
    int r = path_read_file(AT_FDCWD, file, &b, err);
    if (r < 0)
        return r;
    unsigned number = 0;
    char *at = b.len ? (char *)b.data : NULL;
    for (char *line = strsep(&at, "\n"); line; line = strsep(&at, "\n")) {
        number++;
        r = parse_line(s, line, err);
        if (r < 0)
            return mvm_error_wrap(err, "%s:%u", file, number);
    }
    return 0;
}

static int make(const char *spec_file, const char *output, struct mvm_error *err)
{
    struct spec s = {.opts = {.time = 1}};
    s.opts.label = s.label;
    int r = fstree_init(&s.tree);
    if (r == 0)
        r = load_spec(&s, spec_file, err);
    if (r == 0) {
        CLEAN_FD int fd = open(output, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        r = fd < 0 ? mvm_error_errno(err, -errno, "cannot make %s", output) : ext4_write(fd, &s.tree, &s.opts, err);
    }
    fstree_done(&s.tree);
    return r;
}

int main(int argc, char **argv)
{
    const char *spec = NULL, *output = NULL;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--spec") == 0)
            spec = argv[i + 1];
        else if (strcmp(argv[i], "--output") == 0)
            output = argv[i + 1];
    }
    if (!spec || !output || argc != 5) {
        fprintf(stderr, "usage: mvm-mkrootfs --spec FILE --output FILE\n");
        return 2;
    }
    struct mvm_error err = MVM_ERROR_INIT;
    if (make(spec, output, &err) < 0) {
        fprintf(stderr, "mvm-mkrootfs: %s\n", err.msg);
        return 1;
    }
    return 0;
}
