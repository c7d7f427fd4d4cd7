/* Reading every byte of what is kept to boot from: built images, their snapshots and those of the user's. */
#pragma once

#include "cache/home.h"

#include <stdbool.h>

enum verify_kind { VERIFY_IMAGE, VERIFY_BOOT_SNAPSHOT, VERIFY_SNAPSHOT, VERIFY_COUNT };

/* "image", "boot snapshot", "snapshot". */
const char *verify_kind_name(enum verify_kind k);

struct verify_tally {
    unsigned good, damaged, unreadable; /* the last: nothing can be said of them now */
};

struct verify {
    bool remove; /* images and their snapshots that are damaged go; a snapshot of the user's never does */
    /* NULL, or told of each: code 0, -EBADMSG where it is damaged, another where it cannot be read now; why: a clause.
     */
    void (*found)(void *data, enum verify_kind kind, const char *name, int code, const char *why);
    void *data;
    struct verify_tally tally[VERIFY_COUNT]; /* of verify_all */
};

/* -errno where there cannot be said what there is, -EINTR. */
int verify_all(struct verify *v, struct home *h, struct mvm_error *err) MVM_MUST_CHECK;
