#include "base/buf.h"
#include "base/fd.h"
#include "base/path.h"
#include "flake/flake.h"
#include "flake/gitref.h"
#include "flake/literals.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* NAME or NAME/BRANCH of a registry, in Nix's letters. */
static bool is_name(const char *ref)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    static const char more[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-@+./";
    size_t name = *ref && strchr(letters, *ref) ? strcspn(ref, "/@+.") : 0;
    const char *branch = ref + name;
    if (!name || strspn(ref, more) != strlen(ref))
        return false;
    return !*branch || (*branch == '/' && branch[1] && !strchr("_-+./", branch[1]));
}

/* Does the reference name something that only Nix can fetch? */
static bool is_remote(const char *ref)
{
    static const char *const schemes[] = {
        "github:", "gitlab:", "sourcehut:", "git:",      "git+http", "git+https:", "git+ssh:",   "http:",
        "https:",  "hg+",     "tarball+",   "file+http", "flake:",   "indirect:",  "mercurial+",
    };
    CLEAN_FREE char *local = flake_url_path(ref);
    if (local) /* "tarball+file:/x": Nix would look for it in the builder */
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(schemes); i++)
        if (strncmp(ref, schemes[i], strlen(schemes[i])) == 0)
            return true;
    return is_name(ref) && access(ref, F_OK) < 0;
}

/* What a local reference says, as Nix takes it apart: "[SCHEME:]PATH[?dir=..&ref=..&rev=..&submodules=1][#ATTR]". */
struct parts {
    enum { PLAIN, WHOLE_FOLDER, GIT } kind; /* "./x", "path:./x", "git+file:/x" */
    char *path, *dir, *ref, *rev;
    bool submodules;
};

static void parts_done(struct parts *p)
{
    free(p->path);
    free(p->dir);
    free(p->ref);
    free(p->rev);
}

static void take_scheme(struct parts *p, const char **ref)
{
    static const struct {
        const char *scheme;
        int kind;
    } schemes[] = {{"path:", WHOLE_FOLDER}, {"git+file:", GIT}, {"file:", PLAIN}};
    for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
        size_t n = strlen(schemes[i].scheme);
        if (strncmp(*ref, schemes[i].scheme, n) != 0)
            continue;
        p->kind = schemes[i].kind;
        *ref += n;
        if (strncmp(*ref, "//", 2) == 0)
            *ref += 2;
        return;
    }
}

static int take_parameter(struct parts *p, char *one, struct mvm_error *err)
{
    const struct {
        const char *name;
        char **place;
    } texts[] = {{"dir", &p->dir}, {"ref", &p->ref}, {"rev", &p->rev}};
    char *value = one + strcspn(one, "=");
    if (*value)
        *value++ = '\0';
    flake_url_decode(value);
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        if (strcmp(one, texts[i].name) != 0 || *texts[i].place)
            continue;
        *texts[i].place = strdup(value);
        return *texts[i].place ? 0 : mvm_error_errno(err, -ENOMEM, "flake");
    }
    if (strcmp(one, "submodules") == 0) {
        p->submodules = strcmp(value, "1") == 0 || strcmp(value, "true") == 0;
        return 0;
    }
    if (strcmp(one, "shallow") == 0) /* nothing is fetched */
        return 0;
    mvm_error_set(err, -EINVAL, "parameter '%.60s' of a flake in a folder", one);
    mvm_error_hint(err, "a folder takes ?dir=FOLDER, ?submodules=1, and in a git work tree ?ref=NAME or ?rev=HEX");
    return -EINVAL;
}

static bool is_commit(const struct parts *p)
{
    return p->ref || p->rev;
}

/* What cannot be together. */
static int check_parts(const struct parts *p, struct mvm_error *err)
{
    if (!is_commit(p))
        return 0;
    if (p->kind == WHOLE_FOLDER) {
        mvm_error_set(err, -EINVAL, "path:%s is a folder, and has no commits", p->path);
        mvm_error_hint(err, "a commit of a git work tree is git+file:TOP?ref=NAME, or its path alone with ?ref=NAME");
        return -EINVAL;
    }
    if (p->submodules) {
        mvm_error_set(err, -EINVAL, "?submodules=1 takes the submodules that are checked out: not those of a commit");
        mvm_error_hint(err, "git worktree add DIR COMMIT, git -C DIR submodule update --init, then --flake DIR");
        return -EINVAL;
    }
    if (p->rev && (strlen(p->rev) != GIT_REV_SIZE - 1 || !git_is_rev(p->rev)))
        return mvm_error_set(err, -EINVAL, "?rev=%.60s: not the 40 hex digits of a commit", p->rev);
    return 0;
}

static int take_apart(struct parts *p, const char *ref, struct mvm_error *err)
{
    take_scheme(p, &ref);
    size_t n = strcspn(ref, "?");
    CLEAN_FREE char *query = strdup(ref[n] ? ref + n + 1 : "");
    p->path = strndup(n ? ref : ".", n ? n : 1);
    if (!p->path || !query)
        return mvm_error_errno(err, -ENOMEM, "flake");
    if (p->kind != PLAIN)
        flake_url_decode(p->path);
    char *rest = query, *one;
    int r = 0;
    while (r == 0 && (one = strsep(&rest, "&")))
        r = *one ? take_parameter(p, one, err) : 0;
    return r < 0 ? r : check_parts(p, err);
}

/* The nearest folder at or above path that has .git, or NULL. The caller frees. */
static char *find_work_tree(const char *path)
{
    CLEAN_FREE char *at = strdup(path);
    while (at && *at) {
        CLEAN_FREE char *git = path_join(at, ".git", NULL);
        if (git && access(git, F_OK) == 0)
            return TAKE_PTR(at);
        char *slash = strrchr(at, '/');
        if (!slash || slash == at)
            break;
        *slash = '\0';
    }
    return NULL;
}

static bool has_flake(const char *folder)
{
    struct stat st;
    CLEAN_FREE char *file = path_join(folder, "flake.nix", NULL);
    return file && stat(file, &st) == 0 && S_ISREG(st.st_mode);
}

/* Like Nix, a plain folder without flake.nix means the next one above it that has one, on the same file system and
 * within the same git work tree. False: there is none. */
static bool search_upwards(char *path)
{
    struct stat top, st;
    if (stat(path, &top) < 0)
        return false;
    while (!has_flake(path)) {
        CLEAN_FREE char *git = path_join(path, ".git", NULL);
        char *slash = strrchr(path, '/');
        if (!git || access(git, F_OK) == 0 || !slash || slash == path)
            return false;
        *slash = '\0';
        if (stat(path, &st) < 0 || st.st_dev != top.st_dev)
            return false;
    }
    return true;
}

static int no_flake(const char *folder, bool searched, struct mvm_error *err)
{
    mvm_error_set(err, -ENOENT, "there is no flake.nix in %s%s", folder, searched ? " or above it" : "");
    mvm_error_hint(err, "name the flake's folder with --flake; mvmctl help names an example to start from");
    return -ENOENT;
}

/* The tree that belongs to the folder that was named. */
static int find_root(struct flake_ref *f, const struct parts *p, const char *named, struct mvm_error *err)
{
    f->root = p->kind == WHOLE_FOLDER ? NULL : find_work_tree(named);
    f->git = f->root != NULL;
    if (p->kind == GIT && (!f->root || strcmp(f->root, named) != 0)) {
        mvm_error_set(err, -EINVAL, "%s is not the top of a git work tree", named);
        mvm_error_hint(err, "a folder in one is named git+file:TOP?dir=FOLDER, or by its path alone");
        return -EINVAL;
    }
    if (!f->root)
        f->root = strdup(named);
    return f->root ? 0 : mvm_error_errno(err, -ENOMEM, "flake");
}

static void add_escaped(struct buf *b, const char *text)
{
    for (; *text; text++)
        (void)!buf_printf(b, strchr("%?#& ", *text) ? "%%%02X" : "%c", (unsigned char)*text);
}

static void add_parameter(struct buf *b, const char *name, const char *value)
{
    if (!value || !*value)
        return;
    (void)!buf_printf(b, "%c%s=", memchr(b->data, '?', b->len) ? '&' : '?', name);
    add_escaped(b, value);
}

/* The folder's path where that alone means the same tree, else a URL. */
static char *make_id(const struct flake_ref *f)
{
    CLEAN_FREE char *top = f->repo ? NULL : find_work_tree(f->text);
    if (!f->repo && !f->submodules && f->git == (top != NULL) && strcmp(f->root, top ? top : f->text) == 0)
        return strdup(f->text);
    CLEAN_BUF struct buf url = BUF_INIT(16 * 1024);
    (void)!buf_str(&url, f->git ? "git+file:" : "path:");
    add_escaped(&url, f->root);
    add_parameter(&url, "dir", f->subdir);
    add_parameter(&url, "ref", f->rev ? NULL : f->ref);
    add_parameter(&url, "rev", f->rev);
    add_parameter(&url, "submodules", f->submodules ? "1" : NULL);
    return strdup(buf_cstr(&url));
}

/* The flake's folder need not be checked out: it is looked for in the commit. */
static int name_commit(struct flake_ref *f, struct parts *p, const char *named, struct mvm_error *err)
{
    CLEAN_FREE char *top = p->kind == GIT ? strdup(named) : find_work_tree(named);
    CLEAN_FREE char *git = top ? path_join(top, ".git", NULL) : NULL;
    if (!git || access(git, F_OK) < 0)
        return mvm_error_set(err, -EINVAL, "%s is not %s a git work tree, and has no commits", named,
                             p->kind == GIT ? "the top of" : "in");
    const char *below = named + strlen(top), *dir = p->dir ? p->dir : "";
    below += *below == '/';
    dir += strspn(dir, "/");
    f->subdir = *below && *dir ? path_join(below, dir, NULL) : strdup(*below ? below : dir);
    if (f->subdir && *f->subdir && !path_is_safe_relative(f->subdir))
        return mvm_error_set(err, -EINVAL, "?dir=%.200s is no folder of the commit", p->dir);
    f->repo = TAKE_PTR(top);
    f->root = strdup(f->repo);
    f->ref = TAKE_PTR(p->ref);
    f->rev = TAKE_PTR(p->rev);
    f->git = true;
    f->id = f->subdir && f->root ? make_id(f) : NULL;
    f->text = f->id ? strdup(f->id) : NULL;
    return f->text ? 0 : mvm_error_errno(err, -ENOMEM, "flake");
}

static int resolve_local(struct flake_ref *f, struct parts *p, struct mvm_error *err)
{
    CLEAN_FREE char *named = realpath(p->path, NULL);
    struct stat st;
    if (!named) {
        mvm_error_errno(err, -errno, "cannot open the flake's folder '%s'", p->path);
        mvm_error_hint(err, "--flake takes a folder with a flake.nix, or a reference that Nix can fetch");
        return -ENOENT;
    }
    char *slash = strrchr(named, '/');
    if (stat(named, &st) == 0 && S_ISREG(st.st_mode) && slash != named && strcmp(slash, "/flake.nix") == 0)
        *slash = '\0';
    if (is_commit(p)) {
        if (p->kind == PLAIN && !p->dir && !search_upwards(named))
            return no_flake(p->path, true, err);
        return name_commit(f, p, named, err);
    }
    CLEAN_FREE char *folder = p->dir ? path_join(named, p->dir, NULL) : strdup(named);
    f->text = folder ? realpath(folder, NULL) : NULL;
    if (!f->text)
        return mvm_error_errno(err, folder ? -errno : -ENOMEM, "cannot open the flake's folder '%s'", p->dir);
    bool searches = p->kind == PLAIN && !p->dir;
    if (searches ? !search_upwards(f->text) : !has_flake(f->text))
        return no_flake(folder, searches, err);
    int r = find_root(f, p, p->dir ? named : f->text, err);
    if (r < 0)
        return r;
    if (!path_is_below(f->text, f->root))
        return mvm_error_set(err, -EINVAL, "the flake's folder %s lies outside of %s", f->text, f->root);
    size_t n = strlen(f->root);
    f->submodules = p->submodules;
    f->subdir = strdup(strlen(f->text) > n ? f->text + n + 1 : "");
    f->id = f->subdir ? make_id(f) : NULL;
    return f->id ? 0 : mvm_error_errno(err, -ENOMEM, "flake");
}

int flake_ref_parse(struct flake_ref *f, const char *text, struct mvm_error *err)
{
    *f = (struct flake_ref){0};
    const char *hash = strchr(text, '#');
    CLEAN_FREE char *ref = hash ? strndup(text, (size_t)(hash - text)) : strdup(text);
    if (!ref)
        return mvm_error_errno(err, -ENOMEM, "flake");
    int r = 0;
    if (hash && hash[1])
        f->attr = strdup(hash + 1);
    if (f->attr)
        flake_url_decode(f->attr);
    if (strlen(text) > 4000 || text[0] == '-') {
        r = mvm_error_set(err, -EINVAL, "'%.60s' is no flake reference", text);
    } else if (is_remote(ref)) {
        f->remote = strdup(ref);
        f->text = strdup(ref);
        f->id = strdup(ref);
        if (!f->remote || !f->text || !f->id)
            r = mvm_error_errno(err, -ENOMEM, "flake");
    } else {
        CLEANUP(parts_done) struct parts p = {0};
        r = take_apart(&p, ref, err);
        if (r == 0)
            r = resolve_local(f, &p, err);
    }
    if (r < 0) {
        mvm_error_phase(err, MVM_PHASE_NIX_EVAL);
        flake_ref_done(f);
    }
    return r;
}

void flake_ref_done(struct flake_ref *f)
{
    free(f->text);
    free(f->id);
    free(f->root);
    free(f->subdir);
    free(f->repo);
    free(f->ref);
    free(f->rev);
    flake_checkout_free(f->checkout);
    free(f->remote);
    free(f->attr);
    flake_allow_done(&f->allow);
    *f = (struct flake_ref){0};
}
