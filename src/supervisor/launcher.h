/*
 * A supervisor starts no programs: it confines itself before it hears the first word of a guest. What it needs started
 * is started by its launcher, a process forked before that, which knows from run.json what this VM may be. The VMM is
 * the supervisor's child all the same.
 */
#pragma once

#include "supervisor/launch.h"

struct launcher {
    int fd;         /* -1: none; the launcher ends with this socket, and with the supervisor */
    int network_fd; /* readable when an ordered network process has been started; -1: at once */
    /* Both ends of the guest's card, which outlive the VMMs and network processes that have them. */
    int frames_fd, network_frames_fd;
    struct process network; /* where nothing confines a supervisor: what it has started itself */
};

#define LAUNCHER_INIT                                                                                                  \
    {                                                                                                                  \
        .fd = -1, .network_fd = -1, .frames_fd = -1, .network_frames_fd = -1, .network = PROCESS_INIT                  \
    }

/* Makes the card's ends and forks it; the calling process must have one thread. dirfd: the VM's folder. */
int launcher_start(struct launcher *l, const struct runfile *run, int dirfd, struct mvm_error *err) MVM_MUST_CHECK;
/* Has it remove a socket of the file system on which nothing listens any more; a supervisor reaches its VM's folder
 * only. */
void launcher_remove_socket(const struct launcher *l, const char *path);
/* Ends it, when the last VMM has ended: it removes that one's cgroup (cgroup.h) first. */
void launcher_stop(struct launcher *l);
/* A VMM with a socket pair for each of its connections. */
int launcher_launch(const struct launcher *l, const struct vmm_source *source, struct launched *ret,
                    struct mvm_error *err) MVM_MUST_CHECK;
/* Orders the VM's network process, which writes lines to report_fd and ends with it. Nothing is waited for. */
int launcher_order_network(struct launcher *l, int report_fd, struct mvm_error *err) MVM_MUST_CHECK;
/* What became of the order, when that can be read. */
int launcher_take_network(struct launcher *l, struct process *ret, struct jail_report *jail,
                          struct mvm_error *err) MVM_MUST_CHECK;
