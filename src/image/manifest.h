/*
 * What a bootable image is: a folder with
 *
 *   vmlinux        kernel (required)           initrd        optional
 *   rootfs.ext4    root file system (required) cmdline.txt   optional: one line, added to the kernel command line
 *   image.json     metadata made by mkGuest (optional for foreign images)
 *   manifest.json  written by the host: {schema_version:1, artifacts:{name:{size, sha256}}}
 *
 * The image's digest is the SHA-256 of "name size sha256\n" for each artifact in the order of enum artifact.
 */
#pragma once

#include "base/error.h"
#include "host/json.h"
#include "host/sha256.h"
#include "image/kernel_offers.h"
#include "image/network_wish.h"

#include <stdbool.h>
#include <stdint.h>

enum artifact {
    ARTIFACT_VMLINUX,
    ARTIFACT_ROOTFS,
    ARTIFACT_INITRD,
    ARTIFACT_CMDLINE,
    ARTIFACT_METADATA,
    ARTIFACT_COUNT
};

/* "vmlinux", "rootfs.ext4", "initrd", "cmdline.txt", "image.json". */
const char *artifact_name(enum artifact a);
/* -1 where the name is none of them. */
int artifact_parse(const char *name);

struct artifact_info {
    bool present;
    uint64_t size;
    char sha256[SHA256_HEX_SIZE];
};

struct manifest {
    struct artifact_info artifacts[ARTIFACT_COUNT];
};

/* Reads manifest.json in dirfd / writes it. */
int manifest_load(struct manifest *m, int dirfd, struct mvm_error *err) MVM_MUST_CHECK;
int manifest_save(const struct manifest *m, int dirfd, struct mvm_error *err) MVM_MUST_CHECK;
/* The same from and to JSON that was read already, or goes on to have more fields. The caller owns the object. */
int manifest_parse(struct manifest *m, json_object *o, struct mvm_error *err) MVM_MUST_CHECK;
json_object *manifest_json(const struct manifest *m);
/* -EBADMSG where the folder has an artifact that is not listed: it would have a part in what boots. with_others: where
 * it has anything else at all. */
int manifest_check_listed(const struct manifest *m, int dirfd, bool with_others, struct mvm_error *err) MVM_MUST_CHECK;
/* The image's digest. */
void manifest_digest(const struct manifest *m, char out[static SHA256_HEX_SIZE]);

/* image.json, as mkGuest writes it. */
#define IMAGE_PORTS 64
struct image_metadata {
    char name[64];
    char system[32];
    uint64_t agent_protocol;
    uint64_t memory_mib;         /* 0: no wish */
    uint64_t min_memory_mib;     /* 0: its kernel's (image_check_memory) */
    uint64_t vcpus;              /* 0: no wish */
    char kernel_kind[16];        /* "distribution", "slim"; "" where the image does not say */
    unsigned kernel_offers;      /* a set (kernel_offers.h) */
    uint16_t ports[IMAGE_PORTS]; /* that its services listen on */
    unsigned n_ports;
    char network[NETWORK_WISH_MAX]; /* what it wishes to reach at most (network_wish.h) */
    /* What a start may cost; 0: anything. */
    uint64_t boot_budget_minstr;  /* million guest instructions from reset to the agent's hello */
    uint64_t boot_budget_warm_ms; /* a warm start */
};
int image_metadata_load(struct image_metadata *m, int dirfd, struct mvm_error *err) MVM_MUST_CHECK;

/* -EINVAL with a hint where the image in that folder does not boot with so little memory. One without image.json may
 * boot with anything. */
int image_check_memory(int dirfd, uint64_t mib, struct mvm_error *err) MVM_MUST_CHECK;

/* The checks every image passes before it is kept: kernel_check, ext4 magic and size, cmdline.txt one line of at most
 * 2048 printable bytes, image.json valid. phase artifact-extraction on failure. */
int image_validate(int dirfd, struct mvm_error *err) MVM_MUST_CHECK;
