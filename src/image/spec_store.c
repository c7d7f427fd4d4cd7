#include "image/spec_store.h"
#include "base/path.h"
#include "image/closure.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *spec_locate(const struct spec *s, const char *source)
{
    for (size_t i = 0; source[0] == '@' && i < s->n_names; i++) {
        size_t len = strlen(s->names[i].name);
        if (strncmp(source + 1, s->names[i].name, len) == 0 && source[1 + len] == '@')
            return source[2 + len] ? path_join(s->names[i].value, source + 2 + len + (source[2 + len] == '/'), NULL)
                                   : strdup(s->names[i].value);
    }
    size_t n = sizeof(STORE_PREFIX) - 1;
    if (s->store && strncmp(source, STORE_PREFIX, n) == 0)
        return path_join(s->store, source + n, NULL);
    return strdup(source);
}

/* A store path may be a folder, a file or a symlink. */
static int add_store_path(struct spec *s, const char *path, struct mvm_error *err)
{
    CLEAN_FREE char *source = spec_locate(s, path);
    struct stat st;
    if (!source || lstat(source, &st) < 0)
        return mvm_error_errno(err, source ? -errno : -ENOMEM, "cannot read %s", path);
    if (S_ISDIR(st.st_mode))
        return fstree_add_tree(&s->tree, path, source, NULL, NULL, err);
    if (S_ISREG(st.st_mode))
        return fstree_add_file(&s->tree, path, st.st_mode, source, err);
    char target[4096];
    ssize_t n = S_ISLNK(st.st_mode) ? readlink(source, target, sizeof(target)) : -1;
    if (n < 0 || (size_t)n >= sizeof(target))
        return mvm_error_set(err, -EINVAL, "%s is no folder, file or symlink", path);
    target[n] = '\0';
    return fstree_add_symlink(&s->tree, path, target, err);
}

int spec_add_closure(struct spec *s, const char *file, unsigned peel, struct mvm_error *err)
{
    CLEAN_BUF struct buf text = BUF_INIT(SPEC_MAX);
    int r = path_read_file(AT_FDCWD, file, &text, err);
    if (r < 0)
        return r;
    CLEAN_CLOSURE struct closure g = {0};
    r = closure_parse(&g, text.data, text.len, err);
    for (unsigned i = 0; r == 0 && i < peel; i++)
        r = closure_peel(&g, err);
    if (r < 0)
        return mvm_error_wrap(err, "%s", file);
    for (size_t i = 0; i < g.n && r == 0; i++)
        r = add_store_path(s, g.paths[i], err);
    return r;
}

static void close_dir(DIR **d)
{
    if (*d)
        closedir(*d);
}

int spec_add_programs(struct spec *s, const char *package, const char *folder, struct mvm_error *err)
{
    CLEAN_FREE char *bin = path_join(package, "bin", NULL);
    CLEAN_FREE char *source = bin ? spec_locate(s, bin) : NULL;
    if (!source)
        return mvm_error_errno(err, -ENOMEM, "%s", package);
    CLEANUP(close_dir) DIR *d = opendir(source);
    if (!d && errno == ENOTDIR)
        return mvm_error_set(err, -ENOTDIR, "the package %s is a file, which puts no program on PATH", package);
    if (!d) /* a package need not have programs */
        return errno == ENOENT ? 0 : mvm_error_errno(err, -errno, "%s", source);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        CLEAN_FREE char *name = path_join(folder, e->d_name, NULL);
        CLEAN_FREE char *target = path_join(bin, e->d_name, NULL);
        int r =
            name && target ? fstree_add_symlink(&s->tree, name, target, err) : mvm_error_errno(err, -ENOMEM, "%s", bin);
        if (r < 0)
            return r;
    }
    return 0;
}
