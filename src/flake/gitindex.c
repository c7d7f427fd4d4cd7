#include "base/fd.h"
#include "base/path.h"
#include "flake/confine.h"
#include "flake/git.h"
#include "flake/libgit2.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_LIST   (64u << 20)
#define MAX_CONFIG (1u << 20)

static int prepare(struct mvm_error *err)
{
    return libgit2_load(err) ? 0 : -ENOENT;
}

/* The configuration is looked at for one thing, which says how all else is to be read. */
static bool is_sha256(const struct git_repo *g)
{
    CLEAN_BUF struct buf text = BUF_INIT(MAX_CONFIG);
    CLEAN_FD int dir = open(g->common, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || path_read_file(dir, "config", &text, NULL) < 0)
        return false;
    const char *at = strcasestr(buf_cstr(&text), "objectformat");
    if (!at)
        return false;
    at += strlen("objectformat");
    at += strspn(at, " \t=\"");
    return strncasecmp(at, "sha256", 6) == 0;
}

/* What libgit2 does not read, by its own words, and the command after which it does. */
static void hint_index(const struct git_repo *g, const char *why, struct mvm_error *err)
{
    if (strstr(why, "'link'"))
        mvm_error_hint(err, "it is split: git -C %s update-index --no-split-index", g->root);
    else if (strstr(why, "'sdir'"))
        mvm_error_hint(err, "it is sparse: git -C %s sparse-checkout reapply --no-sparse-index", g->root);
    else if (strstr(why, "checksum"))
        mvm_error_hint(err, "git -C %s -c index.skipHash=false update-index --force-write-index writes it anew",
                       g->root);
    else
        mvm_error_hint(err, "git -C %s status says what git makes of it", g->root);
}

static int open_index(const struct git_repo *g, const struct libgit2 *lib, git_index **ret, struct mvm_error *err)
{
    CLEAN_FREE char *path = path_join(g->git, "index", NULL);
    struct stat st;
    if (!path)
        return -ENOMEM;
    /* Without one nothing is tracked yet. */
    if (lstat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return mvm_error_set(err, -EINVAL, "the git index of %s is no file", g->root);
    if (lib->index_open(ret, path) == 0)
        return 0;
    const git_error *e = lib->error_last();
    const char *why = e && e->message ? e->message : "unknown";
    mvm_error_set(err, -EINVAL, "the git index of %s cannot be read: %s", g->root, why);
    hint_index(g, why, err);
    return -EINVAL;
}

/* In the child. */
static int list(void *data, struct buf *out, struct mvm_error *err)
{
    const struct git_repo *g = data;
    const struct libgit2 *lib = libgit2_load(err);
    git_index *index = NULL;
    const char *before = "";
    if (is_sha256(g)) {
        mvm_error_set(err, -ENOTSUP, "the git repository of %s has SHA-256 objects, which are not read", g->root);
        mvm_error_hint(err, "name the folder (--flake path:%s), or move to git init --object-format=sha1", g->root);
        return -ENOTSUP;
    }
    int r = open_index(g, lib, &index, err);
    for (size_t i = 0, n = r == 0 ? lib->index_entrycount(index) : 0; r == 0 && i < n; i++) {
        const git_index_entry *e = lib->index_get_byindex(index, i);
        if (strcmp(e->path, before) != 0) /* an unmerged path has several entries */
            r = buf_printf(out, "%o %s", e->mode, e->path);
        if (r == 0 && strcmp(e->path, before) != 0)
            r = buf_append(out, "", 1);
        before = e->path;
    }
    if (r < 0 && !err->code)
        mvm_error_errno(err, r, "the git index of %s", g->root);
    lib->index_free(index);
    return r;
}

int git_list(const struct git_repo *g, struct buf *out, struct mvm_error *err)
{
    const char *const folders[] = {g->git, g->common};
    const struct confined_work w = {.folders = folders,
                                    .n_folders = ARRAY_SIZE(folders),
                                    .prepare = prepare,
                                    .work = list,
                                    /* borrowed, and not changed */
                                    .data = (void *)(uintptr_t)g};
    return confined_run(&w, out, err);
}
