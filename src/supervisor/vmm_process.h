/*
 * One VMM that runs, on the supervisor's loop: its process and its three connections. A VM has one at a time; where a
 * snapshot is made, or restoring one fails, another follows it.
 */
#pragma once

#include "base/process.h"
#include "supervisor/conn.h"
#include "supervisor/launcher.h"
#include "vmdir/logfile.h"

#include <uv.h>

struct vmm_process;

struct vmm_process_ops {
    void (*console)(void *owner, const void *p, size_t n);
    /* The process has ended (i->process.status); it goes away when this returns. */
    void (*ended)(void *owner, struct vmm_process *i);
};

struct vmm_process {
    const struct vmm_process_ops *ops;
    void *owner;
    const struct vmm_ops *backend;
    struct process process;
    struct jail_report jail;
    struct conn *channel; /* NULL when the guest is cut off */
    struct vmm *vmm;
    uv_pipe_t console, control, words;
    struct logfile log; /* what it writes to its error output: capped, because a guest can cause it */
    uv_poll_t exit;
    uv_poll_t listener; /* where the guest's agent connects */
    int listen_fd;      /* -1: it has, or is connected from the start */
    unsigned n_open;    /* handles that libuv has not closed yet */
    bool discarded;
    uint64_t spawned_at; /* clock_now() when its process had been started */
    uint64_t
        answered_at; /* when it said its first word on its control socket, which is when it has loaded; 0: not yet */
};

/* Starts one. channel and channel_owner are those of the guest's connection. */
int vmm_process_start(struct vmm_process **ret, uv_loop_t *loop, const struct vmm_ops *backend,
                      const struct launcher *launcher, const struct runfile *run, const struct vmm_source *source,
                      int dirfd, const struct vmm_process_ops *ops, void *owner, const struct conn_ops *channel,
                      void *channel_owner, struct mvm_error *err) MVM_MUST_CHECK;
/* Kills it; nothing of it is heard any more, and it frees itself. */
void vmm_process_discard(struct vmm_process *i);
/* Takes what the VMM of one that has ended had sent before: the last words of the guest and of its kernel. */
void vmm_process_drain(struct vmm_process *i);
/* True where the guest has said nothing that is still on its way to us. */
bool vmm_process_is_silent(const struct vmm_process *i);
