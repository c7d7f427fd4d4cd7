#include "base/fd.h"
#include "base/path.h"
#include "flake/flake.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Does the reference name something that only Nix can fetch? */
static bool is_remote(const char *ref)
{
    static const char *const schemes[] = {
        "github:", "gitlab:", "sourcehut:", "git+http",  "git+https:", "git+ssh:",  "http:",
        "https:",  "hg+",     "tarball+",   "file+http", "flake:",     "indirect:", "mercurial+",
    };
    for (size_t i = 0; i < ARRAY_SIZE(schemes); i++)
        if (strncmp(ref, schemes[i], strlen(schemes[i])) == 0)
            return true;
    /* A registry name ("nixpkgs", "nixpkgs/unstable"), unless a folder is called so. */
    if (strpbrk(ref, ".~:?") || ref[0] == '/' || !*ref)
        return false;
    return access(ref, F_OK) < 0;
}

static const char *skip_scheme(const char *ref)
{
    static const char *const schemes[] = {"path:", "git+file:", "file:"};
    for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
        size_t n = strlen(schemes[i]);
        if (strncmp(ref, schemes[i], n) == 0) {
            ref += n;
            return strncmp(ref, "//", 2) == 0 ? ref + 2 : ref;
        }
    }
    return ref;
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

static int resolve_local(struct flake_ref *f, const char *path, struct mvm_error *err)
{
    f->text = realpath(*path ? path : ".", NULL);
    if (!f->text) {
        mvm_error_errno(err, -errno, "cannot open the flake's folder '%s'", path);
        mvm_error_hint(err, "--flake takes a folder with a flake.nix, or a reference that Nix can fetch");
        return -ENOENT;
    }
    struct stat st;
    CLEAN_FREE char *file = path_join(f->text, "flake.nix", NULL);
    if (!file || stat(file, &st) < 0 || !S_ISREG(st.st_mode)) {
        mvm_error_set(err, -ENOENT, "there is no flake.nix in %s", f->text);
        mvm_error_hint(err,
                       "name the flake's folder with --flake; examples/hello in mvm's sources is one to start from");
        return -ENOENT;
    }
    f->root = find_work_tree(f->text);
    f->git = f->root != NULL;
    if (!f->git)
        f->root = strdup(f->text);
    size_t n = f->root ? strlen(f->root) : 0;
    f->subdir = n ? strdup(strlen(f->text) > n ? f->text + n + 1 : "") : NULL;
    return f->subdir ? 0 : mvm_error_errno(err, -ENOMEM, "flake");
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
    if (strlen(text) > 4000 || text[0] == '-') {
        r = mvm_error_set(err, -EINVAL, "'%.60s' is no flake reference", text);
    } else if (is_remote(ref)) {
        f->remote = strdup(ref);
        f->text = strdup(ref);
        if (!f->remote || !f->text)
            r = mvm_error_errno(err, -ENOMEM, "flake");
    } else {
        r = resolve_local(f, skip_scheme(ref), err);
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
    free(f->root);
    free(f->subdir);
    free(f->remote);
    free(f->attr);
    flake_allow_done(&f->allow);
    *f = (struct flake_ref){0};
}
