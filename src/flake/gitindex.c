#include "base/fd.h"
#include "base/path.h"
#include "flake/confine.h"
#include "flake/git.h"
#include "flake/githead.h"
#include "flake/libgit2.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_LIST   (64u << 20)
#define MAX_CONFIG (1u << 20)

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

void git_oid_hex(const uint8_t *id, char out[static GIT_REV_SIZE])
{
    for (size_t i = 0; i < GIT_REV_SIZE / 2; i++)
        snprintf(out + 2 * i, 3, "%02x", id[i]);
}

static int add_entry(struct buf *out, const git_index_entry *e)
{
    char id[GIT_REV_SIZE];
    git_oid_hex(e->id.id, id);
    int r = buf_printf(out, "%o %s %s", e->mode, id, e->path);
    return r < 0 ? r : buf_append(out, "", 1);
}

/* In the child. The head comes first. */
static int list(void *data, struct buf *out, struct mvm_error *err)
{
    const struct git_repo *g = data;
    const struct libgit2 *lib = libgit2_load(err);
    git_index *index = NULL;
    const char *before = "";
    struct git_head head = {0};
    if (is_sha256(g)) {
        mvm_error_set(err, -ENOTSUP, "the git repository of %s has SHA-256 objects, which are not read", g->root);
        mvm_error_hint(err, "name the folder (--flake path:%s), or move to git init --object-format=sha1", g->root);
        return -ENOTSUP;
    }
    int r = open_index(g, lib, &index, err);
    if (r == 0)
        git_head_read(g, lib, index, &head);
    if (r == 0)
        r = buf_append(out, &head, sizeof(head));
    for (size_t i = 0, n = r == 0 ? lib->index_entrycount(index) : 0; r == 0 && i < n; i++) {
        const git_index_entry *e = lib->index_get_byindex(index, i);
        if (strcmp(e->path, before) != 0) /* an unmerged path has several entries */
            r = add_entry(out, e);
        before = e->path;
    }
    if (r < 0 && !mvm_error_code(err))
        mvm_error_errno(err, r, "the git index of %s", g->root);
    lib->index_free(index);
    return r;
}

int git_list(const struct git_repo *g, struct buf *out, struct git_head *head, struct mvm_error *err)
{
    CLEAN_BUF struct buf all = BUF_INIT(MAX_LIST);
    int r = git_read(g, list, (void *)(uintptr_t)g, -1, &all, err); /* borrowed, and not changed */
    if (r < 0)
        return r;
    if (all.len < sizeof(*head))
        return mvm_error_set(err, -EIO, "the git index of %s: no answer", g->root);
    memcpy(head, all.data, sizeof(*head));
    head->rev[strnlen(head->rev, GIT_REV_SIZE - 1)] = '\0';
    return buf_append(out, all.data + sizeof(*head), all.len - sizeof(*head));
}
