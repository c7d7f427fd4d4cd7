/* From a plan (vmm_config.h) to a running VMM, with a socket pair for each connection. */
#pragma once

#include "base/fd.h"
#include "base/process.h"
#include "vmdir/vmm_config.h"

/* The VMM and this side's ends of its connections. */
struct launched {
    struct process process;
    int channel_fd, console_fd, control_fd;
    int listen_fd; /* where the guest's agent connects, in place of channel_fd; -1: it does not */
    int log_fd;    /* what the VMM writes to its standard output and error */
    struct jail_report jail;
};

#define LAUNCHED_INIT                                                                                                  \
    {                                                                                                                  \
        .process = PROCESS_INIT, .channel_fd = -1, .console_fd = -1, .control_fd = -1, .listen_fd = -1, .log_fd = -1   \
    }
#define CLEAN_LAUNCHED CLEANUP(launched_done)

/* The VMM's ends of its connections, in this order. */
enum launch_end { LAUNCH_CHANNEL, LAUNCH_CONSOLE, LAUNCH_CONTROL, LAUNCH_LOG, LAUNCH_FRAMES, LAUNCH_ENDS };
/* Makes the two ends of a guest's card. -errno. */
int launch_make_card(int *ret_vmm, int *ret_network) MVM_MUST_CHECK;
/* Makes the connections: -errno. frames_fd is the card's, of which the VMM gets a duplicate. The VMM's ends are the
 * caller's. */
int launched_connect(struct launched *l, int frames_fd, int ends[static LAUNCH_ENDS]) MVM_MUST_CHECK;
/* Starts the VMM as a child of the caller's parent; the ends stay the caller's. -EXDEV where it cannot be born in the
 * cgroup. */
int launch_vmm(const struct vmm_ops *backend, const struct runfile *run, const struct vmm_source *source,
               const int ends[static LAUNCH_ENDS], struct vmm_started *ret, struct mvm_error *err) MVM_MUST_CHECK;
/* Takes what the start gave. */
void launched_take(struct launched *l, const struct vmm_started *started);
/* Closes the ends that were not taken; the process is the caller's. */
void launched_done(struct launched *l);
