/*
 * A builder session: a builder VM that runs, and a connection to it. Kept apart from the job (job.h), so that a session
 * can serve many jobs. By default the VM is the persistent builder (persistent.h), which outlives the session and
 * serves others beside; where that cannot be, or is not wanted, it is one of the session's own (single-shot). Two VMs
 * never write to one disk: where the persistent builder has the store, a single-shot one gets a copy.
 */
#pragma once

#include "base/error.h"
#include "builder/builder_vm.h"
#include "builder/local_kernels.h"
#include "flake/registry.h"

struct builder_session {
    struct builder_vm vm;
    bool persistent;
    char fallback_reason[256];  /* why it is not, where it was asked for; "" otherwise */
    struct registry flakes;     /* what its registry provides */
    struct local_kernels known; /* what it need not send back */
};

#define BUILDER_SESSION_INIT                                                                                           \
    {                                                                                                                  \
        .vm = BUILDER_VM_INIT                                                                                          \
    }
#define CLEAN_BUILDER_SESSION CLEANUP(builder_session_done)

/* Whether the settings of a builder can be followed: 0, or what is wrong with them (phase config). */
int builder_session_check(struct home *h, struct mvm_error *err) MVM_MUST_CHECK;

/* Reaches or starts a builder from the image with the persistent store disk (store_disk.h), which is made anew where
 * the guest finds it beyond repair. A fallback from the persistent builder is said at normal verbosity. Waits where
 * another mvmctl has the store and no persistent builder runs, saying for whom. Errors: phase builder-bootstrap. */
int builder_session_start(struct builder_session *s, struct home *h, const struct builder_vm_opts *o,
                          struct progress *p, struct mvm_error *err) MVM_MUST_CHECK;

/* Ends the session, its store tidied: a single-shot builder is powered off in an orderly way. */
void builder_session_done(struct builder_session *s);
