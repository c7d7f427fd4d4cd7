/*
 * Stage 0 seeds: images in which the builder image is built. Candidates in order: MVM_HOME/dev/current/, then
 * dev/prebuilt/v<version>/ (newest version first), then dev/builds/<name>/ (newest first). A seed is good if its kernel
 * and root file system pass size and magic checks and the root file system has /sbin/mvm-host-vm-init and the list of
 * the packages it consists of.
 */
#pragma once

#include "base/error.h"
#include "cache/home.h"
#include "host/json.h"
#include "host/sha256.h"

struct seed {
    int dirfd;
    char *path; /* absolute, owned */
};

#define SEED_INIT                                                                                                      \
    {                                                                                                                  \
        .dirfd = -1                                                                                                    \
    }
#define CLEAN_SEED CLEANUP(seed_done)

/* Opens the folder (below MVM_HOME) if it is a good seed; else the error's message is a word: -ENOENT absent,
 * -EINVAL invalid_kernel, invalid_rootfs, no_host_vm_init or no_package_list, and any other error unreadable, which
 * says nothing about the seed. */
int seed_open(struct seed *s, struct home *h, const char *folder, struct mvm_error *err) MVM_MUST_CHECK;
void seed_done(struct seed *s);
/* What the seed consists of: its list of packages. NULL with err where it cannot be read. */
json_object *seed_packages(const struct seed *s, struct mvm_error *err);
/* Of its root file system, in which are the kernel and the packages too. */
int seed_digest(const struct seed *s, char out[static SHA256_HEX_SIZE], struct mvm_error *err) MVM_MUST_CHECK;

#define SEED_MAX_CANDIDATES 32

/* What may be a seed here, in order, unopened. */
struct seed_candidates {
    struct {
        char folder[300];
        char label[64]; /* says which one without names of this machine: "current", "prebuilt v0.2.0", "build 1" */
    } v[SEED_MAX_CANDIDATES];
    size_t n;
};
void seed_list(struct seed_candidates *c, struct home *h);
