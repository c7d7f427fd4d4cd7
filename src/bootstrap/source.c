#include "bootstrap/source.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/os.h"
#include "base/path.h"
#include "cache/fingerprint.h"
#include "cache/statindex.h"
#include "host/json.h"
#include "host/os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILES    4096
#define MAX_FILE     (64u << 20)
#define MAX_JSON     (64u << 10)
#define SLIM_KERNELS "kernels/slim" /* a link to the newest */

struct lister {
    struct source *s;
    struct statindex *index;
    struct mvm_error *err;
};

static int digest(struct lister *l, struct source_file *f, const struct stat *st)
{
    uint64_t read_at = clock_wall();
    if (statindex_get(l->index, f->from, st, f->digest))
        return 0;
    CLEAN_FD int fd = open(f->from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int r = fd < 0 ? -errno : sha256_fd(fd, f->digest);
    if (r < 0)
        return mvm_error_errno(l->err, r, "cannot read %s", f->from);
    statindex_put(l->index, f->from, st, read_at, f->digest);
    return 0;
}

/* Takes both strings over. */
static int add(struct lister *l, char *path, char *from)
{
    struct source *s = l->s;
    struct stat st;
    struct source_file *more = (s->n_files & (s->n_files - 1)) == 0
                                   ? reallocarray(s->files, s->n_files ? 2 * s->n_files : 1, sizeof(*more))
                                   : s->files;
    if (!more || !path || !from) {
        free(path);
        free(from);
        return mvm_error_errno(l->err, -ENOMEM, "sources");
    }
    s->files = more;
    struct source_file *f = &s->files[s->n_files++];
    *f = (struct source_file){.path = path, .from = from};
    if (s->n_files > MAX_FILES)
        return mvm_error_set(l->err, -E2BIG, "the builder image has more than %d source files", MAX_FILES);
    if (lstat(from, &st) < 0)
        return mvm_error_errno(l->err, -errno, "cannot read %s", from);
    if (S_ISREG(st.st_mode)) {
        f->executable = st.st_mode & 0100;
        return digest(l, f, &st);
    }
    char target[4096];
    ssize_t n = S_ISLNK(st.st_mode) ? readlink(from, target, sizeof(target) - 1) : -1;
    if (n < 0)
        return mvm_error_set(l->err, -EINVAL, "%s is neither a file nor a symlink", from);
    target[n] = '\0';
    f->target = strdup(target);
    return f->target ? 0 : mvm_error_errno(l->err, -ENOMEM, "sources");
}

/* Editors' and version control's files begin with a dot; meson.build only installs. */
static int is_source(const struct dirent *e)
{
    size_t n = strlen(e->d_name);
    return e->d_name[0] != '.' && e->d_name[n - 1] != '~' && strcmp(e->d_name, "meson.build") != 0;
}

static int walk(struct lister *l, const char *path, const char *from, unsigned depth)
{
    struct dirent **list;
    int n = depth > 16 ? -1 : scandir(from, &list, is_source, NULL);
    if (n < 0)
        return mvm_error_errno(l->err, depth > 16 ? -ELOOP : -errno, "cannot read %s", from);
    int r = 0;
    for (int i = 0; i < n; i++) {
        struct stat st;
        CLEAN_FREE char *sub = path_join(from, list[i]->d_name, NULL);
        CLEAN_FREE char *name = *path ? path_join(path, list[i]->d_name, NULL) : strdup(list[i]->d_name);
        if (r == 0 && (!sub || !name || lstat(sub, &st) < 0))
            r = mvm_error_errno(l->err, sub && name ? -errno : -ENOMEM, "cannot read %s", from);
        if (r == 0)
            r = S_ISDIR(st.st_mode) ? walk(l, name, sub, depth + 1) : add(l, TAKE_PTR(name), TAKE_PTR(sub));
        free(list[i]);
    }
    free(list);
    return r;
}

/* The digest of the configuration that a slim kernel of this machine is built from; NULL where there is none. */
static const char *slim_config(const struct source *s)
{
    char path[128];
    snprintf(path, sizeof(path), "kernel/slim-%.32s.config", os_arch());
    for (size_t i = 0; i < s->n_files; i++)
        if (strcmp(s->files[i].path, path) == 0)
            return s->files[i].digest;
    return NULL;
}

/* vmlinux.sha256 beside it says the same: Nix and the builder read it there. */
static bool says_digest(int dir, const char *sha)
{
    CLEAN_BUF struct buf text = BUF_INIT(SHA256_HEX_SIZE + 1);
    return path_read_file(dir, "vmlinux.sha256", &text, NULL) == 0 && text.len == SHA256_HEX_SIZE &&
           strncmp(buf_cstr(&text), sha, SHA256_HEX_SIZE - 1) == 0;
}

/* The slim kernel, where tools/build-kernel has left one in the cache. One of another configuration, or that is not
 * what its kernel.json says, is none. */
static int add_slim_kernel(struct lister *l, struct home *h)
{
    CLEAN_FD int dir = openat(h->cache_fd, SLIM_KERNELS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEAN_JSON json_object *o = NULL;
    const char *wanted = slim_config(l->s), *config, *sha;
    if (dir < 0 || !wanted || json_load(dir, "kernel.json", MAX_JSON, &o, NULL) < 0 ||
        json_get_string(o, "config_sha256", &config, NULL) < 0 ||
        json_get_string(o, "vmlinux_sha256", &sha, NULL) < 0 || strcmp(config, wanted) != 0 ||
        faccessat(dir, "vmlinux", R_OK, 0) < 0 || !says_digest(dir, sha))
        return 0;
    int r = add(l, strdup(SOURCE_SLIM_KERNEL), path_join(h->cache, SLIM_KERNELS, "vmlinux", NULL));
    struct source_file *f = &l->s->files[l->s->n_files - 1];
    if (r == 0 && strcmp(f->digest, sha) != 0) {
        free(f->path);
        free(f->from);
        l->s->n_files--;
        return 0;
    }
    return r < 0 ? r
                 : add(l, strdup(SOURCE_SLIM_KERNEL ".sha256"),
                       path_join(h->cache, SLIM_KERNELS, "vmlinux.sha256", NULL));
}

static int by_path(const void *a, const void *b)
{
    const struct source_file *x = a, *y = b;
    return strcmp(x->path, y->path);
}

int source_load(struct source *s, struct home *h, const struct install_paths *i, struct mvm_error *err)
{
    *s = (struct source){0};
    struct lister l = {.s = s, .index = statindex_load(h->cache_fd, i->nix), .err = err};
    if (!l.index)
        return mvm_error_errno(err, -ENOMEM, "sources");
    int r = walk(&l, "", i->nix, 0);
    if (r == 0)
        r = add(&l, strdup("programs/mvm-init"), realpath(i->mvm_init, NULL));
    if (r == 0)
        r = add(&l, strdup("programs/mvm-mkrootfs"), realpath(i->mkrootfs, NULL));
    if (r == 0)
        r = add(&l, strdup("programs/mvm-nixdb"), realpath(i->nixdb, NULL));
    if (r == 0)
        r = add_slim_kernel(&l, h);
    statindex_save(l.index);
    statindex_free(l.index);
    if (r < 0)
        source_done(s);
    else
        qsort(s->files, s->n_files, sizeof(*s->files), by_path);
    return r;
}

void source_done(struct source *s)
{
    for (size_t i = 0; i < s->n_files; i++) {
        free(s->files[i].path);
        free(s->files[i].from);
        free(s->files[i].target);
    }
    free(s->files);
    *s = (struct source){0};
}

void source_fingerprint(const struct source *s, char out[static SHA256_HEX_SIZE])
{
    struct fingerprint f;
    fingerprint_init(&f, "builder image 1");
    for (size_t i = 0; i < s->n_files; i++) {
        fingerprint_add_string(&f, "path", s->files[i].path);
        fingerprint_add_string(&f,
                               s->files[i].target       ? "link"
                               : s->files[i].executable ? "program"
                                                        : "file",
                               s->files[i].target ? s->files[i].target : s->files[i].digest);
    }
    fingerprint_final(&f, out);
}

static int copy(const struct source_file *f, int dirfd, struct mvm_error *err)
{
    int r = path_make_parents(dirfd, f->path, 0755);
    if (r < 0)
        return mvm_error_errno(err, r, "cannot stage %s", f->path);
    if (f->target)
        return symlinkat(f->target, dirfd, f->path) < 0 ? mvm_error_errno(err, -errno, "cannot stage %s", f->path) : 0;
    CLEAN_BUF struct buf content = BUF_INIT(MAX_FILE);
    r = path_read_file(AT_FDCWD, f->from, &content, err);
    if (r < 0)
        return r;
    struct sha256 s;
    uint8_t d[SHA256_SIZE];
    char hex[SHA256_HEX_SIZE];
    sha256_init(&s);
    sha256_update(&s, content.data, content.len);
    sha256_final(&s, d);
    sha256_hex(d, hex);
    if (strcmp(hex, f->digest) != 0)
        return mvm_error_set(err, -ESTALE, "%s was changed just now; run mvmctl again", f->from);
    CLEAN_FD int fd = os_open_beneath(dirfd, f->path, O_WRONLY | O_CREAT | O_EXCL, f->executable ? 0755 : 0644);
    r = fd < 0 ? fd : fd_write_all(fd, content.data, content.len);
    if (r == 0 && fchmod(fd, f->executable ? 0755 : 0644) < 0)
        r = -errno;
    return r < 0 ? mvm_error_errno(err, r, "cannot stage %s", f->path) : 0;
}

int source_copy(const struct source *s, int dirfd, struct mvm_error *err)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < s->n_files; i++)
        r = copy(&s->files[i], dirfd, err);
    return r;
}

int source_current(struct home *h, char out[static SHA256_HEX_SIZE], struct mvm_error *err)
{
    CLEAN_INSTALL_PATHS struct install_paths inst = {0};
    CLEAN_SOURCE struct source s = {0};
    int r = install_paths_find(&inst, err);
    if (r == 0)
        r = source_load(&s, h, &inst, err);
    if (r == 0)
        source_fingerprint(&s, out);
    return r;
}
