#include "base/fd.h"
#include "base/path.h"
#include "cache/artifacts.h"
#include "flake/flake.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TREE "tree"

struct flake_checkout {
    struct artifact_stage stage;
    struct git_head head;
};

/* Where the stage's folder is. */
static int set_folders(struct flake_ref *f, const struct home *h)
{
    free(f->root);
    free(f->text);
    f->root = path_join(h->cache, "artifacts", f->checkout->stage.name, TREE, NULL);
    f->text = !f->root ? NULL : *f->subdir ? path_join(f->root, f->subdir, NULL) : strdup(f->root);
    return f->text ? 0 : -ENOMEM;
}

static int check_out(struct flake_ref *f, struct home *h, struct mvm_error *err)
{
    CLEAN_GIT_REPO struct git_repo repo = {0};
    struct flake_checkout *c = f->checkout;
    int r = git_repo_open(&repo, f->repo, NULL, &f->allow, err);
    if (r == 0)
        r = artifact_stage_open(&c->stage, h, err);
    if (r < 0)
        return r;
    CLEAN_FD int tree = path_open_dir(c->stage.fd, TREE, err);
    r = tree < 0 ? tree : git_check_out(&repo, f->ref, f->rev, tree, &c->head, err);
    if (r == 0)
        r = set_folders(f, h);
    CLEAN_FREE char *flake = r == 0 ? path_join(f->text, "flake.nix", NULL) : NULL;
    if (r == 0 && (!flake || access(flake, F_OK) < 0)) {
        mvm_error_set(err, -ENOENT, "there is no flake.nix in %s of the commit %s", *f->subdir ? f->subdir : "the top",
                      c->head.rev);
        mvm_error_hint(err, "git -C %s ls-tree -r --name-only %s lists what it has", f->repo, c->head.rev);
        r = -ENOENT;
    }
    return r;
}

int flake_ref_check_out(struct flake_ref *f, struct home *h, struct mvm_error *err)
{
    if (!f->repo)
        return 0;
    f->checkout = calloc(1, sizeof(*f->checkout));
    if (!f->checkout)
        return mvm_error_errno(err, -ENOMEM, "flake");
    f->checkout->stage = (struct artifact_stage)ARTIFACT_STAGE_INIT;
    int r = check_out(f, h, err);
    if (r < 0)
        mvm_error_phase(err, MVM_PHASE_NIX_EVAL);
    return r;
}

const struct git_head *flake_checkout_head(const struct flake_checkout *c)
{
    return &c->head;
}

void flake_checkout_free(struct flake_checkout *c)
{
    if (c)
        artifact_stage_done(&c->stage);
    free(c);
}
