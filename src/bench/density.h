/* Many VMs of one image at once: what each takes of this machine's memory, and how long they take to be ready. */
#pragma once

#include "bench/bench.h"
#include "bench/hostfacts.h"
#include "host/json.h"

#define DENSITY_MAX 1000

struct density_vm {
    char name[VMDIR_MAX_NAME + 1];
    bool warm;
    double ready_ms;                  /* from the start of its own start */
    uint64_t vmm_kib, supervisor_kib; /* proportional set sizes, with all of them running */
};

struct density {
    struct density_vm *vms; /* owned */
    unsigned n;
    double all_ready_ms; /* from the first start to the last one ready */
    double down_ms;      /* from the first stop to the last one gone */
    struct samples ready_ms, vmm_mib, supervisor_mib, total_mib;
};

/* Starts n VMs at once, looks, and ends them all, whatever comes. b's progress, home and timeout are used. */
int density_run(struct bench *b, const struct subject *s, unsigned n, struct density *ret,
                struct mvm_error *err) MVM_MUST_CHECK;
void density_done(struct density *d);
json_object *density_json(const struct density *d, const struct hostfacts *host);
