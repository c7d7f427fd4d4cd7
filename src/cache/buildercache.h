/*
 * The builder image in MVM_CACHE_DIR/builder-vm/<arch>/: vmlinux, rootfs.ext4, optional initrd and cmdline.txt,
 * manifest.json, and three sidecars:
 *
 *   .mvm-source.sha256      the fingerprint of what it was made from, hex and newline
 *   .mvm-artifacts.sha256   sha256sum's format, every artifact
 *   .mvm-provenance.json    {schema_version:1, source_kind, source_fingerprint, artifacts:[names], seed,
 * packages:[...]}
 *
 * Beside it lie hidden: .<arch>.stage0-<pid>/ (an image that is being made), .<arch>.previous/ (the image before, until
 * the new one has booted once), .<arch>.build (lock: one builds, its holder is named) and .<arch>.live (lock: shared by
 * those who start a VM from the image, exclusive for the moment in which it is replaced).
 *
 * Replacing is one rename that exchanges two folders (renameat2(2), RENAME_EXCHANGE): a reader sees the old or the new
 * image whole. A folder that is open stays the folder it was.
 */
#pragma once

#include "base/error.h"
#include "cache/home.h"
#include "cache/lock.h"
#include "host/json.h"
#include "host/sha256.h"

#include <stdbool.h>

/* In the order of judging: the first that applies is the verdict. */
enum cache_reason {
    CACHE_MISSING_ARTIFACT,
    CACHE_INVALID_STAGE0_ARTIFACTS,
    CACHE_MISSING_FINGERPRINT,
    CACHE_FINGERPRINT_MISMATCH,
    CACHE_MISSING_ARTIFACT_DIGEST_MANIFEST,
    CACHE_ARTIFACT_DIGEST_MISMATCH,
    CACHE_MISSING_PROVENANCE,
    CACHE_PROVENANCE_MISMATCH,
    CACHE_HIT,
    CACHE_REASON_COUNT
};

/* "missing_artifact" ... "hit". */
const char *cache_reason_name(enum cache_reason r);

/* What this mvmctl wants to find. */
struct buildercache_want {
    const char *kind; /* "source-checkout" or "release" */
    char fingerprint[SHA256_HEX_SIZE];
};

/* An image in use: nobody replaces it before this is done. */
struct buildercache_image {
    int dirfd;
    int live_lock;
    char *path;                   /* absolute, owned; good while the lock is held */
    char digest[SHA256_HEX_SIZE]; /* of the list of its artifacts' digests: names the image */
};

#define BUILDERCACHE_IMAGE_INIT                                                                                        \
    {                                                                                                                  \
        .dirfd = -1, .live_lock = -1                                                                                   \
    }
#define CLEAN_BUILDERCACHE_IMAGE CLEANUP(buildercache_image_done)

/* Judges the cache. Digests of files that have not changed since they were read come from a stat index; with verify
 * every byte is read. On CACHE_HIT ret (NULL: not wanted) holds the image open. 0 whatever the verdict; -errno where
 * there can be none: the folder belongs to somebody else, or something in it cannot be read now (EMFILE, EIO, ...). */
int buildercache_judge(struct home *h, const struct buildercache_want *want, bool verify, enum cache_reason *ret_reason,
                       struct buildercache_image *ret, struct mvm_error *err) MVM_MUST_CHECK;
void buildercache_image_done(struct buildercache_image *img);

/* An image that is being made. */
struct buildercache_stage {
    struct lock lock;
    int root_fd; /* MVM_CACHE_DIR/builder-vm */
    int fd;      /* the staging folder */
    char name[80];
};

#define BUILDERCACHE_STAGE_INIT                                                                                        \
    {                                                                                                                  \
        .lock = LOCK_INIT, .root_fd = -1, .fd = -1                                                                     \
    }
#define CLEAN_BUILDERCACHE_STAGE CLEANUP(buildercache_stage_done)

/* Waits for the right to build, telling wait->waiting who has it, sweeps what dead processes left and makes the staging
 * folder. */
int buildercache_stage_open(struct buildercache_stage *s, struct home *h, const struct lock_wait *wait,
                            struct mvm_error *err) MVM_MUST_CHECK;
/* Validates kernel and root file system and manifest.json against the bytes, writes the sidecars, syncs, and makes the
 * staged image the live one. seed: the label of what it was built in; packages: what it consists of (both go into the
 * provenance; packages is consumed). */
int buildercache_promote(struct buildercache_stage *s, struct home *h, const struct buildercache_want *want,
                         const char *seed, json_object *packages, struct mvm_error *err) MVM_MUST_CHECK;
/* Removes what was not promoted. */
void buildercache_stage_done(struct buildercache_stage *s);

/* A VM from the live image has got ready: the image before is not needed any more. */
void buildercache_booted(struct home *h);

/* ---- For `dev cache` ---- */

struct buildercache_leftovers {
    unsigned stages; /* staging folders that no process has */
    bool building;   /* somebody builds right now */
    bool previous;   /* an image before this one is kept */
    uint64_t previous_bytes;
};
int buildercache_leftovers(struct home *h, struct buildercache_leftovers *ret, struct mvm_error *err) MVM_MUST_CHECK;
/* Removes staging folders of dead processes and, with everything, the image before and the live image. -EAGAIN where
 * somebody builds. */
int buildercache_clean(struct home *h, bool everything, struct mvm_error *err) MVM_MUST_CHECK;
