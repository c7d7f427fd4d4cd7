#include "flake/git.h"
#include "base/fd.h"
#include "base/path.h"
#include "flake/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_LINK       8192 /* .git, commondir */
#define MAX_ALTERNATES 65536
#define MAX_DEPTH      5 /* of alternates, as in git */

/* The real path of a folder of the repository; from where relative ones begin. NULL: -errno in r. The caller frees. */
static char *resolve(const struct git_repo *g, const char *base, const char *path, const char *what, int *r,
                     struct mvm_error *err)
{
    CLEAN_FREE char *full = path[0] == '/' ? strdup(path) : path_join(base, path, NULL);
    CLEAN_FREE char *real = full ? realpath(full, NULL) : NULL;
    if (!real) {
        *r =
            mvm_error_errno(err, full ? -errno : -ENOMEM, "the git repository of %s: %s '%.300s'", g->root, what, path);
        return NULL;
    }
    if (path_is_below(real, g->within) || flake_allows(g->allow, real))
        return TAKE_PTR(real);
    *r = mvm_error_set(err, -EXDEV, "the git repository of %s has its %s outside of the tree: %s", g->root, what, real);
    mvm_error_hint(err, "--allow-input %s allows it to be read; or name the folder without git: --flake path:%s", real,
                   g->root);
    return NULL;
}

/* The first line of a small file, without what is around it. */
static int read_line(const char *folder, const char *name, struct buf *out, struct mvm_error *err)
{
    CLEAN_FD int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = dir < 0 ? -errno : path_read_file(dir, name, out, err);
    if (r < 0)
        return r;
    out->len = strcspn(buf_cstr(out), "\r\n");
    if (out->data)
        out->data[out->len] = '\0';
    return 0;
}

/* Objects may lie in other stores, and those may name further ones. */
static int add_store(struct git_repo *g, const char *objects, unsigned depth, struct mvm_error *err)
{
    CLEAN_BUF struct buf text = BUF_INIT(MAX_ALTERNATES);
    CLEAN_FD int dir = open(objects, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = 0;
    if (g->n_stores == GIT_MAX_STORES || depth == MAX_DEPTH)
        return mvm_error_set(err, -ELOOP, "the git repository of %s: too many alternates", g->root);
    g->stores[g->n_stores] = strdup(objects);
    if (!g->stores[g->n_stores++])
        return mvm_error_errno(err, -ENOMEM, "%s", g->root);
    if (access(objects, R_OK | X_OK) < 0 && errno == EACCES)
        return mvm_error_errno(err, -EACCES, "the git repository of %s: folder of objects '%s'", g->root, objects);
    if (dir < 0 || faccessat(dir, "info/alternates", F_OK, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    r = path_read_file(dir, "info/alternates", &text, err);
    char *rest = (char *)text.data, *line;
    while (r == 0 && rest && (line = strsep(&rest, "\n"))) {
        CLEAN_FREE char *store = *line && *line != '#' ? resolve(g, objects, line, "alternates", &r, err) : NULL;
        if (store)
            r = add_store(g, store, depth + 1, err);
    }
    return r;
}

/* .git is the folder, or a file that says where it is. */
static int find_git(struct git_repo *g, struct mvm_error *err)
{
    CLEAN_FREE char *path = path_join(g->root, ".git", NULL);
    CLEAN_BUF struct buf link = BUF_INIT(MAX_LINK);
    struct stat st;
    int r = 0;
    if (!path || stat(path, &st) < 0)
        return mvm_error_errno(err, path ? -errno : -ENOMEM, "%s/.git", g->root);
    if (S_ISDIR(st.st_mode)) {
        g->git = resolve(g, g->root, ".git", "folder .git", &r, err);
        return r;
    }
    r = read_line(g->root, ".git", &link, err);
    if (r < 0)
        return r;
    if (strncmp(buf_cstr(&link), "gitdir: ", 8) != 0)
        return mvm_error_set(err, -EINVAL, "%s/.git is no git repository", g->root);
    g->git = resolve(g, g->root, buf_cstr(&link) + 8, "gitdir", &r, err);
    return r;
}

static int find_common(struct git_repo *g, struct mvm_error *err)
{
    CLEAN_FREE char *file = path_join(g->git, "commondir", NULL);
    CLEAN_BUF struct buf link = BUF_INIT(MAX_LINK);
    int r = 0;
    if (file && access(file, F_OK) == 0)
        r = read_line(g->git, "commondir", &link, err);
    if (r == 0)
        g->common = resolve(g, g->git, link.len ? buf_cstr(&link) : ".", "commondir", &r, err);
    return r;
}

/* libgit2 would call one that cannot be read one that has gone. One that is not there is fine. */
static int check_index(const struct git_repo *g, struct mvm_error *err)
{
    CLEAN_FREE char *index = path_join(g->git, "index", NULL);
    if (!index || (access(index, R_OK) < 0 && errno == EACCES))
        return mvm_error_errno(err, index ? -EACCES : -ENOMEM, "the git repository of %s: index", g->root);
    return 0;
}

static void hint_owner(const char *root, struct mvm_error *err)
{
    CLEAN_FREE char *path = path_join(root, ".git", NULL);
    struct stat st;
    if (path && stat(path, &st) == 0 && st.st_uid != geteuid())
        mvm_error_hint(err,
                       "its .git belongs to another user (uid %u), who can allow that it is read; or name the "
                       "folder without git: --flake path:%s",
                       (unsigned)st.st_uid, root);
    else
        mvm_error_hint(err, "allow .git to be read, or name the folder without git: --flake path:%s", root);
}

static int find(struct git_repo *g, struct mvm_error *err)
{
    int r = find_git(g, err);
    if (r == 0)
        r = check_index(g, err);
    if (r == 0)
        r = find_common(g, err);
    if (r < 0)
        return r;
    CLEAN_FREE char *objects = resolve(g, g->common, "objects", "folder of objects", &r, err);
    return objects ? add_store(g, objects, 0, err) : r;
}

int git_repo_open(struct git_repo *g, const char *root, const char *within, const struct flake_allow *allow,
                  struct mvm_error *err)
{
    *g = (struct git_repo){.root = realpath(root, NULL), .within = within, .allow = allow};
    if (!within)
        g->within = g->root;
    int r = g->root ? find(g, err) : mvm_error_errno(err, -errno, "%s", root);
    if (r == -EACCES && g->root)
        hint_owner(g->root, err);
    if (r < 0)
        git_repo_done(g);
    return r;
}

void git_repo_done(struct git_repo *g)
{
    free(g->root);
    free(g->git);
    free(g->common);
    for (size_t i = 0; i < g->n_stores; i++)
        free(g->stores[i]);
    *g = (struct git_repo){0};
}
