/* A builder VM that runs, and a connection to it: what the persistent builder and one of a session's own have in
 * common. */
#pragma once

#include "base/error.h"
#include "builder/builder_network.h"
#include "builder/store_disk.h"
#include "cache/home.h"
#include "host/progress.h"
#include "machine/client.h"
#include "machine/machine.h"

struct builder_vm {
    struct home *home;
    struct progress *progress; /* the caller's */
    char name[VMDIR_MAX_NAME + 1];
    int tether; /* single-shot: the VM ends when this is closed; else -1 */
    struct client *client;
    struct store_disk store;
};

#define BUILDER_VM_INIT                                                                                                \
    {                                                                                                                  \
        .tether = -1, .store = STORE_DISK_INIT                                                                         \
    }

struct builder_vm_opts {
    const char *image; /* absolute path of the image's folder: the builder's (builder_image.h), or a stage 0 seed */
    const char *image_digest; /* names it; "" for a seed */
    bool single_shot;         /* a VM of its own is wanted */
    uint64_t memory_mib;      /* 0: as config.toml says, or a default */
    unsigned vcpus;           /* the same */
    /* What config.toml decides alone; builder_session_start() fills it in. */
    uint64_t idle_ms;   /* after which a persistent builder that is started now stops by itself; 0: never */
    uint64_t store_cap; /* bytes */
    char network[BUILDER_NETWORK_MAX];
};

/* Boots the VM of that name with the store that v has open. stays: it outlives this process. The store is made anew
 * once where the guest finds it beyond repair. A VM that ended before it was ready (the VMM may crash, or the guest) is
 * started once more, without the snapshot, in case that is to blame. */
int builder_vm_boot(struct builder_vm *v, const struct builder_vm_opts *o, bool stays,
                    struct mvm_error *err) MVM_MUST_CHECK;
/* Opens the store, boots a VM that stays under that name, and leaves the store to it. */
int builder_vm_boot_lasting(struct builder_vm *v, const char *name, const struct builder_vm_opts *o,
                            struct mvm_error *err) MVM_MUST_CHECK;
