/*
 * Warm snapshots: what a guest was when its agent had said hello and had been told nothing, kept so that later VMs of
 * the same image continue from there.
 *
 *   MVM_CACHE_DIR/snapshots/<image>/       the image's digest, or a digest of where its files are and their stats
 *       image                              the image's path: the snapshots go when it is gone or another
 *       <memory>m-<vcpus>c[-<set>]/        one snapshot; <set>: vmm_device_set()
 *           memory                         the guest's memory, sparse; never written again
 *           state                          the devices' state, in the backend's own format
 *           meta.json                      what it fits, sizes and digests, the hello
 *       .<memory>m-<vcpus>c.new/           one in the making, promoted by rename
 *       .<memory>m-<vcpus>c.lock           held by who makes or removes one
 *       .<memory>m-<vcpus>c.failures       a byte for each VM in a row that could not continue, for no reason of its
 * own
 *
 * docs/boot.md has the reasons.
 */
#pragma once

#include "cache/lock.h"
#include "vmdir/runfile.h"
#include "vmdir/snapshot_meta.h"
#include "vmm/vmm.h"
#include "wire/msg.h"

#include <stdbool.h>

/* The files of one. */
#define BOOT_SNAPSHOT_META   "meta.json" /* sealed (json_save_sealed) */
#define BOOT_SNAPSHOT_MEMORY "memory"
#define BOOT_SNAPSHOT_STATE  "state"

struct boot_snapshot {
    int cache_dir; /* MVM_CACHE_DIR, for the stat index */
    int image_dir; /* snapshots/<image>/ */
    int dir;       /* the snapshot's own folder, or the staging one */
    int memory_fd;
    int state_fd;
    struct lock lock; /* of one in the making */
    bool staged;
    char name[96];
    char *store_path;                   /* one in the making of a builder: what stands for the store's disk */
    uint64_t store_size;                /* bytes of the disk that the VM, or the guest in the snapshot, has; 0: none */
    struct vmm_identity id;             /* what it fits */
    struct snapshot_file memory, state; /* of one in the making, once measured */
    const struct runfile *run;          /* borrowed */
    struct msg_hello hello;
};

#define BOOT_SNAPSHOT_INIT                                                                                             \
    {                                                                                                                  \
        .cache_dir = -1, .image_dir = -1, .dir = -1, .memory_fd = -1, .state_fd = -1, .lock = LOCK_INIT                \
    }

/* Opens the snapshot that fits the VM, with hello, memory_fd and state_fd: 0. -ENOENT where there is none, -ESTALE
 * where one does not fit or is damaged (it goes when the next is made). Any other error (EMFILE, EIO, ENOMEM, ...) says
 * nothing about the snapshot: it is to stay as it is. The error's message is the reason, one clause. Files are read
 * only where the stat index does not know them. */
int boot_snapshot_find(struct boot_snapshot *s, const struct runfile *run, const struct vmm_identity *id,
                       struct mvm_error *err) MVM_MUST_CHECK;

/* Begins one in place of what there is: an empty memory_fd whose disk space is reserved, an empty state_fd. Snapshots
 * whose image is known to be gone are removed by the way. -EAGAIN where another process makes this one; -ENOSPC and
 * others. */
int boot_snapshot_begin(struct boot_snapshot *s, const struct runfile *run, const struct vmm_identity *id,
                        struct mvm_error *err) MVM_MUST_CHECK;
/* The state is written and nobody writes the memory any more: gives back what was reserved too much. */
void boot_snapshot_saved(struct boot_snapshot *s, const struct msg_hello *hello);
/* Takes the digests: nothing of the guest that goes on from here is in them, whatever becomes of its VMM. The VMM that
 * wrote the memory must have ended. 0.1 s for 128 MiB; may run on a thread of its own. */
int boot_snapshot_measure(struct boot_snapshot *s, struct mvm_error *err) MVM_MUST_CHECK;
/* Everything on the disk, meta.json, promoted; -ESTALE where a file is not what was measured. Takes a while; may run on
 * a thread of its own while the VM that continues from the snapshot runs, as long as nobody else touches it. */
int boot_snapshot_seal(struct boot_snapshot *s, struct mvm_error *err) MVM_MUST_CHECK;

/* What stands for the digest of an image in a folder: where its files are and that nobody has touched them since. */
int boot_snapshot_key_of_files(const char *path, char key[static SHA256_HEX_SIZE],
                               struct mvm_error *err) MVM_MUST_CHECK;

/* What the snapshots of all images take: how many images have some, how many there are, how many killed processes left
 * unfinished, bytes allocated on the disk for all of them. */
struct boot_snapshot_usage {
    unsigned images, snapshots, unfinished;
    uint64_t bytes;
};
void boot_snapshot_survey(int cache_fd, struct boot_snapshot_usage *ret);
/* Removes those that killed processes left unfinished, of all images. */
void boot_snapshot_sweep(int cache_fd);

/* Reads every byte of every image's snapshots: found gets a name, and 0, -ESTALE for one that is damaged (which goes
 * where remove says so), or another error where it cannot be read now, with the reason. */
int boot_snapshot_read_all(int cache_fd, bool remove,
                           void (*found)(void *data, const char *name, int r, const char *why),
                           void *data) MVM_MUST_CHECK;

/* A VM that was started then (wall clock) could not continue from it, and nothing says that it is the snapshot's fault:
 * a host with too much to do and a VMM that was killed look the same. True where it was one too many in a row, or the
 * snapshot is still in the making: it is to be removed. VMs that were started before another one's failure count once.
 */
bool boot_snapshot_failed(struct boot_snapshot *s, uint64_t started_at);
/* One could. */
void boot_snapshot_worked(struct boot_snapshot *s);

/* Removes it, in the making or not, unless somebody makes another. */
void boot_snapshot_remove(struct boot_snapshot *s);
/* Closes it; one in the making is removed. The object can be used again. */
void boot_snapshot_done(struct boot_snapshot *s);
