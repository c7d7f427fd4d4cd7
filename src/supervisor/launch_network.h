/* From run.json to a VM's network process in its jail. */
#pragma once

#include "base/process.h"
#include "vmdir/runfile.h"

/* What a network process is given: its end of the card, where its lines go, and where it asks for the resolvers. */
struct network_ends {
    int frames_fd, report_fd, resolv_fd; /* resolv_fd -1: it can read them itself */
    int members_fd;                      /* where it hears of the members of its network; -1: it has none */
};
/* Starts the VM's network process (net/process.h) with the policy of run.json, as a child of the caller's parent
 * (sibling) or the caller; the ends stay the caller's. */
int launch_network(const struct runfile *run, const struct network_ends *ends, bool sibling, struct process *ret,
                   struct jail_report *jail, struct mvm_error *err) MVM_MUST_CHECK;
