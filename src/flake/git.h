/*
 * Git repositories, read without git and without their configuration having an effect: no filter, hook, monitor,
 * helper, include or remote of a repository is run or asked. The work tree is the folder that has .git; core.worktree
 * is not obeyed. Whom a repository belongs to does not matter, because nothing in it is trusted.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "flake/allow.h"

struct git_repo {
    char *root;         /* the work tree, absolute, without symlinks */
    char *git;          /* its git folder (index, HEAD) */
    char *common;       /* the folder with objects and refs: git, or the main repository's for a further work tree */
    const char *within; /* the tree that it belongs to: root, or of a submodule the top's. Borrowed */
    const struct flake_allow *allow; /* borrowed */
};

#define CLEAN_GIT_REPO CLEANUP(git_repo_done)

/* Finds the repository of a work tree by .git, gitdir and commondir. Errors: -EXDEV where one of them, or the store of
 * objects or one of its alternates, lies outside of within (NULL: the work tree itself) and is not allowed; -EINVAL
 * where .git is none. */
int git_repo_open(struct git_repo *g, const char *root, const char *within, const struct flake_allow *allow,
                  struct mvm_error *err) MVM_MUST_CHECK;
void git_repo_done(struct git_repo *g);

#define GIT_MODE_LINK   0120000u
#define GIT_MODE_COMMIT 0160000u /* a submodule */

/* The index's entries, in its order: for each "MODE PATH" (mode octal) and NUL; entries of a conflict once. Errors say
 * which git command makes an index of another kind one that can be read. */
int git_list(const struct git_repo *g, struct buf *out, struct mvm_error *err) MVM_MUST_CHECK;
