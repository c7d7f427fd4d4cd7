/*
 * Flake references and the files that belong to a flake: what is staged into the builder, and what the fingerprint
 * covers.
 *
 * REF is a folder (".", "./dir", "/abs"; without flake.nix the next one above it that has one), "path:DIR" (all that is
 * in the folder, tracked by git or not), "git+file:TOP", each with "?dir=FOLDER", "?submodules=1" and "#attr"; or a
 * reference that is passed to Nix ("github:...", "git+https:...", "https:...", registry names of the form "name" or
 * "name/branch" that are no folder). Like Nix: in a git work tree the flake is the work tree's tracked files with their
 * present content (the flake's folder may be below the top: subdir), elsewhere the folder. A flake folder that git does
 * not track is an error that says `git add`.
 */
#pragma once

#include "base/error.h"
#include "cache/fingerprint.h"
#include "cache/home.h"
#include "flake/allow.h"
#include "flake/git.h"
#include "flake/registry.h"
#include "host/sha256.h"
#include "wire/tree.h"

#include <stdbool.h>

struct flake_checkout;

struct flake_ref {
    char *text;      /* absolute path of the flake's folder, or the remote reference */
    char *id;        /* for records and messages: what builds of one tree are kept under, a reference to that tree */
    char *root;      /* absolute path of the tree to stage; NULL: remote */
    char *subdir;    /* the flake's folder within root, "" for root itself */
    char *repo;      /* the git work tree of which a commit is built, as ref or rev name it: flake_ref_check_out makes
                      * root and text of it. NULL: what is checked out is built */
    char *ref, *rev; /* a branch, tag or other ref; 40 hex digits; or NULL */
    char *remote;    /* reference for Nix; NULL: local */
    char *attr;      /* what came behind '#', or NULL */
    bool git;        /* root is a git work tree */
    bool submodules; /* with those of the work tree */
    char *only;      /* names of files, a line each: nothing else of root belongs to it; NULL: all */
    struct flake_allow allow;        /* what may be read outside of root: the caller adds it */
    struct flake_checkout *checkout; /* private */
};

#define CLEAN_FLAKE_REF CLEANUP(flake_ref_done)

/* Parses and resolves. Errors: phase nix-eval where the folder has no flake.nix (or does not exist), with a hint. */
int flake_ref_parse(struct flake_ref *f, const char *text, struct mvm_error *err) MVM_MUST_CHECK;
void flake_ref_done(struct flake_ref *f);
/* Where the reference means a commit: writes it into a folder of the cache, which is the reference's root from then on
 * and goes with it. To be called before its tree is loaded. */
int flake_ref_check_out(struct flake_ref *f, struct home *h, struct mvm_error *err) MVM_MUST_CHECK;
/* Of what was checked out. */
const struct git_head *flake_checkout_head(const struct flake_checkout *c);
void flake_checkout_free(struct flake_checkout *c);

struct flake_file {
    char *path;    /* relative to root */
    uint64_t kind; /* enum entry_kind; folders only where they are empty */
    bool executable;
    uint64_t size;
    char *target;                 /* symlinks */
    char digest[SHA256_HEX_SIZE]; /* files: of the content */
    bool kept;                    /* the builder has its content from another time */
};

struct flake_tree {
    int root_fd;
    struct flake_file *files; /* sorted by path */
    size_t n_files;
    uint64_t bytes;
    uint64_t last_modified; /* seconds since 1970: of the newest file but the lock file, which a build may write;
                             * in a git tree of the commit that is checked out, 0 before the first one */
    bool git;
    char rev[GIT_REV_SIZE]; /* the commit that all this is, or "": files are changed, or it is no git tree */
    char *lock_path;        /* the flake's flake.lock, relative to root, there or not */
};

#define CLEAN_FLAKE_TREE CLEANUP(flake_tree_done)

/* Lists the tree of a local reference, with digests through a stat index. Errors (phase nix-eval): an unreadable file,
 * a socket, fifo or device in the tree, too many files (200,000), too large (4 GiB). */
int flake_tree_load(struct flake_tree *t, const struct flake_ref *f, struct home *h,
                    struct mvm_error *err) MVM_MUST_CHECK;
void flake_tree_done(struct flake_tree *t);
/* How many commits led to its revision; 0 where that is not known (git_count). */
int flake_tree_rev_count(const struct flake_tree *t, const struct flake_ref *f, uint64_t *ret,
                         struct mvm_error *err) MVM_MUST_CHECK;
/* Adds names, kinds, exec bits, targets and digests to a fingerprint; of a git tree also what Nix is told of its
 * commit. */
void flake_tree_fingerprint(const struct flake_tree *t, struct fingerprint *f);
/* The key by which a builder keeps a file's content; false where it keeps none (symlinks, the lock file). */
bool flake_file_key(const struct flake_tree *t, const struct flake_file *f, uint8_t key[static TREE_KEY_SIZE]);
/* Sends the tree (folders implied) below the folder `into`; its lock file as a builder with these flakes shall see it,
 * or with flakes NULL as it is. A file that changed since it was listed is -ESTALE. */
int flake_tree_send(const struct flake_tree *t, const char *into, const struct registry *flakes, struct tree_sender *s,
                    struct mvm_error *err) MVM_MUST_CHECK;

/* Sends the lock file alone as such a builder shall see it; nothing where the tree has none, or a symlink in its place,
 * which Nix follows in the tree. */
int flake_tree_send_lock(const struct flake_tree *t, const char *path, const struct registry *flakes,
                         struct tree_sender *s, struct mvm_error *err) MVM_MUST_CHECK;

/*
 * Local folders and files that a flake has as inputs, in flake.nix (literals.h) or flake.lock, and in theirs in turn.
 * They are found without evaluating, because Nix evaluates no input either: it takes literals. What lies outside of the
 * flake's tree is listed only where it is allowed.
 */
struct flake_inputs {
    struct flake_input {
        char *path;   /* absolute: where the builder has the tree. Of a file it is the folder that holds it */
        char *only;   /* NULL, or the names of files: nothing else of that folder */
        bool outside; /* of the flake's own tree */
        struct flake_tree tree;
    } * v;
    size_t n;
};

#define CLEAN_FLAKE_INPUTS CLEANUP(flake_inputs_done)
#define FLAKE_MAX_INPUTS   64

/* Lists them with their trees. A path that does not exist is left to Nix to complain about, and to flake_inputs_check;
 * -EXDEV for one that lies outside and is not allowed, with what would be sent and the option that allows it. */
int flake_inputs_load(struct flake_inputs *in, const struct flake_ref *f, struct home *h,
                      struct mvm_error *err) MVM_MUST_CHECK;
void flake_inputs_done(struct flake_inputs *in);
/* By the lock file that Nix made, or nothing where it changed none: -EXDEV (phase nix-eval) for a local input that was
 * not sent, because Nix took what the builder has itself at that path. */
int flake_inputs_check(const struct flake_inputs *in, const void *lock, size_t n, struct mvm_error *err) MVM_MUST_CHECK;
/* Writes a flake.lock that Nix made into the flake's folder, atomically, keeping the mode of the one it replaces.
 * -EROFS where the flake is a commit, and Nix made another one than it has. */
int flake_write_lock(const struct flake_ref *f, const void *p, size_t n, struct mvm_error *err) MVM_MUST_CHECK;
