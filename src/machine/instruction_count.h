/*
 * What a boot costs in guest instructions: a VM is booted once with a clock that counts them (vmm.h), and what its
 * agent and its kernel have written down about their steps is read. It needs software emulation, and an agent that
 * counts. Idle gaps count as the time that they last. docs/bench.md.
 */
#pragma once

#include "machine/machine.h"

#define INSTRUCTION_MAX_INITCALLS 24

struct instruction_initcall {
    char name[80];
    uint64_t instructions; /* in thousands of instructions, what is called within included */
};

/* Instructions. What the guest's kernel does not tell is 0. */
struct instruction_count {
    uint64_t total;    /* from reset to the agent's hello: the sum of the next three, where they are known */
    uint64_t firmware; /* from reset until the kernel has a clock: the first steps of the kernel are in it */
    uint64_t kernel;   /* until it starts the first process */
    uint64_t init;     /* until the hello */
    uint64_t services; /* after the total: from being configured until the services are started */
    uint64_t n_initcalls, initcalls; /* how many there are, and all that they took together */
    struct instruction_initcall top[INSTRUCTION_MAX_INITCALLS]; /* the largest first; with COUNTING_INITCALLS */
    unsigned n_top;
};

/* Boots such a VM (name, counting, cold and transient of the config are not looked at) and ends it. -ENOTSUP where its
 * agent does not count. info (may be NULL) receives what machine_start tells. */
int instruction_count(struct home *h, const struct machine_config *c, bool initcalls, struct progress *p,
                      struct instruction_count *ret, struct machine_info *info, struct mvm_error *err) MVM_MUST_CHECK;

/* From the lines of an agent log. -EINVAL where it has no count. */
int instruction_count_parse(struct instruction_count *ret, const char *text, struct mvm_error *err) MVM_MUST_CHECK;
