/*
 * What both kinds of snapshots (boot_snapshot.h, machine/snapshot.h) write into their meta.json: what a saved guest
 * fits, and the sizes and digests of its files.
 */
#pragma once

#include "cache/statindex.h"
#include "host/json.h"
#include "host/sha256.h"
#include "vmm/vmm.h"
#include "wire/msg.h"

#define SNAPSHOT_META_MAX (64u * 1024) /* bytes of a meta.json */

/* What a guest was saved with, or what is at hand for it. */
struct snapshot_meta {
    struct vmm_identity id;
    uint64_t tsc_khz;
    uint64_t store_size; /* bytes of a builder's disk, 0: none */
    struct msg_hello hello;
};

struct snapshot_file {
    uint64_t size;
    char sha256[SHA256_HEX_SIZE];
};

void snapshot_meta_put(json_object *o, const struct snapshot_meta *m);
/* Why what is written in o does not fit `now`, NULL where it does; the hello goes into now->hello. */
const char *snapshot_meta_judge(json_object *o, struct snapshot_meta *now);

void snapshot_meta_put_file(json_object *o, const char *name, const struct snapshot_file *f);
/* Size and digest of a file, by the index (which may be NULL) or by reading; blocks of zeros and holes are the same. */
int snapshot_meta_measure(struct statindex *index, const char *name, int fd, struct snapshot_file *ret,
                          struct mvm_error *err) MVM_MUST_CHECK;
/* Opens a file whose size and digest are what o says: *ret_fd is the caller's. -ESTALE where they are not; any other
 * error says nothing about the file. what: its name in o. */
int snapshot_meta_open_file(json_object *o, const char *what, int dirfd, const char *name, struct statindex *index,
                            int *ret_fd, struct mvm_error *err) MVM_MUST_CHECK;
