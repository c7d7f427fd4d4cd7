/* Who reads a repository does so in a child that can read nothing else. */
#include "flake/confine.h"
#include "flake/git.h"
#include "flake/libgit2.h"

#include <errno.h>
#include <string.h>

static int prepare(struct mvm_error *err)
{
    return libgit2_load(err) ? 0 : -ENOENT;
}

int git_read(const struct git_repo *g, int (*work)(void *data, struct buf *out, struct mvm_error *err), void *data,
             int fd, struct buf *out, struct mvm_error *err)
{
    const char *folders[2 + GIT_MAX_STORES] = {g->git, g->common};
    memcpy(folders + 2, g->stores, g->n_stores * sizeof(*folders));
    const struct confined_work w = {
        .folders = folders, .n_folders = 2 + g->n_stores, .prepare = prepare, .work = work, .data = data, .fd = fd};
    return confined_run(&w, out, err);
}
