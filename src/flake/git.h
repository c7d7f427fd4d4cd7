/*
 * Git repositories, read without git and without their configuration having an effect: no filter, hook, monitor,
 * helper, include or remote of a repository is run or asked. The work tree is the folder that has .git; core.worktree
 * is not obeyed. Whom a repository belongs to does not matter, because nothing in it is trusted.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "flake/allow.h"

#include <stdbool.h>
#include <stdint.h>

#define GIT_MAX_STORES 16

struct git_repo {
    char *root;         /* the work tree, absolute, without symlinks */
    char *git;          /* its git folder (index, HEAD) */
    char *common;       /* the folder with objects and refs: git, or the main repository's for a further work tree */
    const char *within; /* the tree that it belongs to: root, or of a submodule the top's. Borrowed */
    const struct flake_allow *allow; /* borrowed */
    char *stores[GIT_MAX_STORES];    /* of objects: the repository's, and its alternates */
    size_t n_stores;
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
#define GIT_REV_SIZE    41       /* 40 hex digits, and NUL */

struct git_head {
    char rev[GIT_REV_SIZE]; /* of the commit that is checked out; "" before the first one */
    uint64_t time;          /* of it, as its committer had it: seconds since 1970; 0 without one */
    uint64_t clean;         /* 1: the index has what the commit has */
};

/* The index's entries, in its order: for each "MODE ID PATH" (mode octal, the object's name) and NUL; entries of a
 * conflict once. Errors say which git command makes an index of another kind one that can be read. */
int git_list(const struct git_repo *g, struct buf *out, struct git_head *head, struct mvm_error *err) MVM_MUST_CHECK;
/* How many commits there are from the first one to rev, with it. 0 where it is not the same number for everybody: in a
 * shallow clone, or where commits are missing; and beyond 250,000. */
int git_count(const struct git_repo *g, const char *rev, uint64_t *ret, struct mvm_error *err) MVM_MUST_CHECK;
/* Writes what a commit has into the empty folder dirfd: files, symlinks, and an empty folder for each submodule. It is
 * the one that rev names (40 hex digits), or with rev NULL the one that ref leads to (a branch, a tag, any ref by its
 * short or full name). Errors: -ENOENT where there is no such commit; -EFBIG where it is too large to be staged. */
int git_check_out(const struct git_repo *g, const char *ref, const char *rev, int dirfd, struct git_head *ret,
                  struct mvm_error *err) MVM_MUST_CHECK;
/* 20 bytes as 40 hex digits. */
void git_oid_hex(const uint8_t *id, char out[static GIT_REV_SIZE]);

/* Runs work in a child that can read the repository and nothing else (confine.h), with libgit2 loaded. fd is one more
 * descriptor that it has, as CONFINED_FD; -1: none. */
int git_read(const struct git_repo *g, int (*work)(void *data, struct buf *out, struct mvm_error *err), void *data,
             int fd, struct buf *out, struct mvm_error *err) MVM_MUST_CHECK;
