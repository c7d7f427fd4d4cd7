/*
 * The disk of the builder's store on the host: MVM_CACHE_DIR/builder-vm/nix-store-<arch>.img, a sparse ext4 as large as
 * its cap, which the builder mounts at /nix. It is a cache of builds: artifacts are complete without it, so a disk that
 * is damaged beyond repair, or larger than its cap, is made anew.
 *
 * Beside it nix-store-<arch>.state says whether the disk was closed in order, and what was found out about it last. A
 * disk counts as closed in order only if that file says so, the disk has not been written since, and its super block
 * agrees; whatever ended a builder, the next one checks then. A builder that stays (persistent.h) closes it alone: then
 * the super block decides.
 */
#pragma once

#include "base/error.h"
#include "cache/home.h"
#include "cache/lock.h"
#include "host/progress.h"
#include "machine/client.h"

#include <stdbool.h>
#include <stdint.h>

#define STORE_DISK_DEFAULT_CAP (16ull << 30)
#define STORE_DISK_MIN_CAP     (128ull << 20)

/* The cap that holds: the environment's MVM_STORE_CAP, else `configured` (0: the default). "300M", "16G" or bytes.
 * -EINVAL with phase config. */
int store_disk_cap(uint64_t configured, uint64_t *ret, struct mvm_error *err) MVM_MUST_CHECK;

/* What is known without starting a builder. */
struct store_disk_info {
    bool exists;
    bool in_use;          /* by a builder that runs */
    bool clean;           /* closed in order; false while in use */
    uint64_t allocated;   /* bytes that the file takes on the host's disk */
    uint64_t size;        /* bytes that it can grow to now */
    uint64_t cap;         /* ... and from the next start on */
    uint64_t reclaimable; /* bytes that no cached image needs; valid where surveyed_at is not 0 */
    uint64_t surveyed_at; /* CLOCK_REALTIME ns */
};

int store_disk_inspect(struct home *h, uint64_t cap, struct store_disk_info *ret, struct mvm_error *err) MVM_MUST_CHECK;

/* The file system of fd, one of the caches', is full, or nearly: the reason of many failures, here and in a builder,
 * whose disk then fails. */
bool store_disk_host_full(int fd);
/* Then says so in err's hint, where that has none. */
void store_disk_hint_host(int fd, struct mvm_error *err);

/* Removes the disk; the next build begins with an empty one. -EAGAIN naming the holder where a builder has it. */
int store_disk_remove(struct home *h, struct mvm_error *err) MVM_MUST_CHECK;
/* Removes copies of the disk that killed processes left. */
void store_disk_sweep(struct home *h);

enum store_disk_use {
    STORE_DISK_USED, /* by the process that has it open */
    STORE_DISK_LEFT, /* to a builder that outlives that process */
    STORE_DISK_CLOSED,
};

/* An open store: locked, so that it has one writer, and marked as in use. */
struct store_disk {
    struct home *home;
    struct lock lock;
    int dirfd;
    char name[64];
    char *path; /* of the disk, absolute, owned */
    uint64_t cap;
    enum store_disk_use use;
    bool copy;                                   /* private, removed when it is closed */
    bool check;                                  /* it was not closed in order: the builder is to check it */
    uint64_t reclaimable, surveyed_at, surveyed; /* the last survey, and the bytes used then; surveyed_at 0: none */
};

#define STORE_DISK_INIT                                                                                                \
    {                                                                                                                  \
        .lock = LOCK_INIT, .dirfd = -1                                                                                 \
    }

/* Takes the store, and makes its disk where there is none, or where it is larger than the cap. cap: from
 * store_disk_cap(). Where another process has it: waits, which is said, or without wait -EAGAIN at once. */
int store_disk_open(struct store_disk *s, struct home *h, uint64_t cap, bool wait, struct progress *p,
                    struct mvm_error *err) MVM_MUST_CHECK;
/* Takes a private copy of the disk that a builder uses right now, through a client of that builder, which stands still
 * meanwhile. Only blocks that have data are copied; where the file system can, none are. */
int store_disk_open_copy(struct store_disk *s, struct home *h, uint64_t cap, struct client *c, struct progress *p,
                         struct mvm_error *err) MVM_MUST_CHECK;
/* A store that a builder which outlives its starters has: for store_disk_tidy() alone. */
int store_disk_attach(struct store_disk *s, struct home *h, uint64_t cap, struct mvm_error *err) MVM_MUST_CHECK;
/* Leaves it to a builder that holds the lock as well. */
int store_disk_leave(struct store_disk *s, struct mvm_error *err) MVM_MUST_CHECK;

/* Writes what is known about it beside the disk. */
int store_disk_save(const struct store_disk *s, struct mvm_error *err) MVM_MUST_CHECK;

/* The builder found the disk beyond repair and is gone: makes a new one, and says so. */
int store_disk_rebuild(struct store_disk *s, struct progress *p, struct mvm_error *err) MVM_MUST_CHECK;

/* With a builder on it: where more than three quarters of the cap are used, what no cached image needs is collected,
 * down to a half. What could be freed is found out where that may have changed much. A failure is a note: no build
 * depends on it. */
/* Is it worth doing that before a build? Judged by the file alone. */
bool store_disk_is_full(const struct store_disk *s);
void store_disk_tidy(struct store_disk *s, struct client *c, struct progress *p);

/* The builder is gone: notes whether the disk was closed in order, and gives it free. Accepts a store that was never
 * opened. */
void store_disk_close(struct store_disk *s);
