/* The folder of the user's snapshots (snapshot.h), for what makes them and what reads them; nobody else's. */
#pragma once

#include "cache/lock.h"
#include "cache/statindex.h"
#include "host/json.h"
#include "machine/snapshot.h"
#include "vmdir/runfile.h"
#include "vmdir/snapshot_meta.h"

#define SNAPSHOT_DIR_SCHEMA 2
#define SNAPSHOT_DIR_META   "meta.json" /* sealed (json_save_sealed) */
#define SNAPSHOT_DIR_STATE  "state"
#define SNAPSHOT_DIR_FILES  "artifacts" /* in meta.json: the image's files */
#define SNAPSHOT_DIR_STAGE  ".new-"     /* and a process's id: one in the making, locked by it */
#define SNAPSHOT_DIR_NEEDS  "image"     /* in that: the key of the image it needs */

/* MVM_HOME/snapshots, made where it is absent; a descriptor or -errno. */
int snapshot_dir_open(struct home *h, struct mvm_error *err) MVM_MUST_CHECK;
/* The folder of one snapshot, or -errno; where it is absent: mvm_error_is_absent(). */
int snapshot_dir_open_one(int root, const char *vm, const char *tag);
/* For who promotes, removes and tidies; waits for others. */
int snapshot_dir_lock(struct lock *l, int root, struct mvm_error *err) MVM_MUST_CHECK;
/* Removes what dead makers left and the images that nothing needs: whatever cannot be read may need any of them. Under
 * the lock. */
void snapshot_dir_tidy(struct home *h, int root);

/* Bytes that a file takes on the disk; 0 where it is absent. */
uint64_t snapshot_dir_allocated(int dirfd, const char *name);
/* Of the snapshot in a folder, whose vm and tag are set in u. ret_meta, if not NULL: its description, the caller's. A
 * damaged one is marked so: 0. -errno where it could not be read now. */
int snapshot_dir_load(struct snapshot *u, int dir, json_object **ret_meta, struct mvm_error *err) MVM_MUST_CHECK;
/* What snapshot_dir_load reads. */
void snapshot_dir_put_facts(json_object *o, const struct snapshot *u);
/* What is at hand for a snapshot, or what it is saved with. */
int snapshot_dir_present(const struct snapshot *u, const struct runfile *run, struct snapshot_meta *ret,
                         struct mvm_error *err) MVM_MUST_CHECK;
/* Of its files; NULL where there is no memory. The caller saves and frees it. */
struct statindex *snapshot_dir_index(struct home *h, const struct snapshot *u);

struct snapshot_list {
    struct snapshot *v; /* the caller frees it, whatever is returned */
    size_t n;
};

/* Adds those of one VM or, where vm is NULL, all; by name, the oldest first. -errno where one of them cannot be read
 * now: the list would not be whole. */
int snapshot_dir_list(int root, const char *vm, struct snapshot_list *ret, struct mvm_error *err) MVM_MUST_CHECK;
