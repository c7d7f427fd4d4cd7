/*
 * Which inputs gave which image: MVM_CACHE_DIR/builds/<fingerprint>.json, and what a flake reference was last built to:
 * MVM_CACHE_DIR/builds/refs/<sha256 of reference and attribute>.json. A record is sealed
 * (json_save_sealed); one that is damaged is removed and counts as absent.
 */
#pragma once

#include "base/error.h"
#include "cache/home.h"
#include "host/sha256.h"
#include "wire/msg.h"

#include <stdbool.h>
#include <stdint.h>

struct build_record {
    char fingerprint[SHA256_HEX_SIZE];
    char image[SHA256_HEX_SIZE];
    char store_path[512];
    char ref[4096]; /* the flake: its id (flake.h), without attribute */
    char attr[512];
    uint64_t built_at; /* CLOCK_REALTIME ns */
};

/* -ENOENT where there is none; one that was read and is damaged is removed, with *ret_damaged set, and -ENOENT
 * returned. Any other error (EMFILE, EIO, EACCES, ...) says nothing about the record, which stays. */
int build_record_load(struct home *h, const char *fingerprint, struct build_record *ret, bool *ret_damaged,
                      struct mvm_error *err) MVM_MUST_CHECK;
/* Writes the record and the reference's. */
int build_record_save(struct home *h, const struct build_record *r, struct mvm_error *err) MVM_MUST_CHECK;
/* The reference's alone, where it says something else so far: what the reference was built to last is this record's
 * image, just built or found. */
int build_record_point(struct home *h, const struct build_record *r, struct mvm_error *err) MVM_MUST_CHECK;
/* Drops a record (its image is gone or damaged). */
void build_record_remove(struct home *h, const char *fingerprint);
/* The last record of a reference and attribute; errors and *ret_damaged as with build_record_load. */
int build_record_last(struct home *h, const char *ref, const char *attr, struct build_record *ret, bool *ret_damaged,
                      struct mvm_error *err) MVM_MUST_CHECK;
/* The store paths of the newest `max` records whose image is still there, the newest first; -errno where one of them
 * cannot be read now, because the rest is not all. The caller frees the list (msg_strings_done). */
int build_record_store_paths(struct home *h, size_t max, struct msg_strings *ret, struct mvm_error *err) MVM_MUST_CHECK;
