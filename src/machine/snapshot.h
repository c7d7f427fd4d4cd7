/*
 * Snapshots that a user asks for: a running VM as it is, memory, processes and all, to continue from later.
 *
 *   MVM_HOME/snapshots/<vm>/<tag>/      one snapshot
 *       state                           memory and devices, in the backend's own format, 0400
 *       meta.json                       what it fits and is, sizes and digests
 *   MVM_HOME/snapshots/.images/         the images they need (pinned_image.h)
 *   MVM_HOME/snapshots/.new-<n>/        one in the making, locked by its maker; promoted by rename
 *   MVM_HOME/snapshots/.lock            held by who promotes, removes and tidies
 *
 * They are the user's, not the cache's. What is in a state may be secret: folders are 0700. One that does not fit or is
 * damaged is refused, never replaced by a boot, because what is in it would be lost. docs/boot.md has the reasons.
 */
#pragma once

#include "cache/home.h"
#include "host/sha256.h"
#include "machine/machine.h"

#define SNAPSHOT_MAX_TAG 63

struct snapshot {
    char vm[VMDIR_MAX_NAME + 1];
    char tag[SNAPSHOT_MAX_TAG + 1];
    char image[65]; /* the image's digest; "" of one in a folder */
    char image_key[SHA256_HEX_SIZE];
    char backend[32];
    char accel[8];
    char network[sizeof(((struct machine_info *)0)->network)]; /* what the VM might reach */
    char network_limits[sizeof(((struct machine_info *)0)->network_limits)];
    char member_of[sizeof(((struct machine_info *)0)->member_of)];
    uint64_t memory_mib, vcpus;
    uint64_t created_at; /* CLOCK_REALTIME ns */
    uint64_t bytes;      /* of the state, allocated on the disk */
    uint64_t stopped_ns; /* how long the VM stood still for it */
    char image_path[4096], state_path[4096];
    bool damaged; /* its description cannot be read: only vm, tag and bytes are known */
};

/* "NAME:TAG" or "NAME" (tag ""). -EINVAL with phase usage. */
int snapshot_parse(const char *word, char vm[static VMDIR_MAX_NAME + 1], char tag[static SNAPSHOT_MAX_TAG + 1],
                   struct mvm_error *err) MVM_MUST_CHECK;
/* As vmdir_check_name. */
int snapshot_check_tag(const char *tag, struct mvm_error *err) MVM_MUST_CHECK;

/* Saves a running VM. tag NULL: the present time. -EEXIST where there is one of that tag. */
int snapshot_create(struct home *h, const char *vm, const char *tag, struct snapshot *ret,
                    struct mvm_error *err) MVM_MUST_CHECK;
/* Those of one VM or, where vm is NULL, all, by name, the oldest first; the caller frees *ret. */
int snapshot_list(struct home *h, const char *vm, struct snapshot **ret, size_t *ret_n,
                  struct mvm_error *err) MVM_MUST_CHECK;
/* -ENOENT where there is none. */
int snapshot_remove(struct home *h, const char *vm, const char *tag, struct mvm_error *err) MVM_MUST_CHECK;
/* Removes what killed processes left unfinished, and kept images that no snapshot and no VM needs. */
int snapshot_sweep(struct home *h, struct mvm_error *err) MVM_MUST_CHECK;
/* Finds one to continue from and verifies its files, by the stat index or, where read says so, by reading them; tag "":
 * the newest. -ENOENT, -ESTALE. */
int snapshot_find(struct home *h, const char *vm, const char *tag, bool read, struct snapshot *ret,
                  struct mvm_error *err) MVM_MUST_CHECK;
/* Reads every byte of a snapshot that snapshot_list found and of the image that it needs: 0, -ESTALE where one is
 * damaged, another error where that cannot be said now. */
int snapshot_read(struct home *h, const struct snapshot *u, struct mvm_error *err) MVM_MUST_CHECK;

/* Starts `c` as a copy of a running VM, both go on: fills what of c is the original's. */
int snapshot_fork(struct home *h, const char *vm, struct machine_config *c, struct progress *p,
                  struct machine_info *info, uint64_t *ret_stopped_ns, struct mvm_error *err) MVM_MUST_CHECK;
/* What of c is the snapshot's: all but network and member_of where it says one of them. Borrows from u. */
void snapshot_fill(const struct snapshot *u, struct machine_config *c);
