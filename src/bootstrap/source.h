/*
 * What the builder image is made from: every file of the nix/ folder but meson.build, the programs that run in it, and
 * the slim kernel where tools/build-kernel has built it. As staged for the build: the folder's content, and
 * programs/mvm-init, programs/mvm-mkrootfs, programs/mvm-nixdb, programs/slim/vmlinux beside.
 */
#pragma once

#include "base/error.h"
#include "cache/home.h"
#include "host/install_paths.h"
#include "host/sha256.h"

#include <stdbool.h>
#include <stddef.h>

struct source_file {
    char *path; /* in the staged tree */
    char *from; /* on this machine */
    bool executable;
    char *target;                 /* symlinks; NULL otherwise */
    char digest[SHA256_HEX_SIZE]; /* files: of the content */
};

struct source {
    struct source_file *files; /* sorted by path */
    size_t n_files;
};

#define CLEAN_SOURCE CLEANUP(source_done)
/* In the staged tree. */
#define SOURCE_IMAGE       "images/builder-vm" /* the flake */
#define SOURCE_PROGRAMS    "programs"
#define SOURCE_SLIM        SOURCE_PROGRAMS "/slim" /* the slim kernel's folder: empty where there is none */
#define SOURCE_SLIM_KERNEL SOURCE_SLIM "/vmlinux"

/* Lists the files with their digests, read through a stat index. */
int source_load(struct source *s, struct home *h, const struct install_paths *i, struct mvm_error *err) MVM_MUST_CHECK;
void source_done(struct source *s);
/* Covers paths, contents, exec bits and link targets. */
void source_fingerprint(const struct source *s, char out[static SHA256_HEX_SIZE]);
/* Copies the files into an empty folder. -ESTALE where one has changed since it was listed. */
int source_copy(const struct source *s, int dirfd, struct mvm_error *err) MVM_MUST_CHECK;
/* The two in one: the fingerprint of this installation's builder image. Cheap. */
int source_current(struct home *h, char out[static SHA256_HEX_SIZE], struct mvm_error *err) MVM_MUST_CHECK;
