/*
 * A VM's place in a named network (vmdir/networks.h), as its launcher keeps it: a socket in the network's folder, where
 * others introduce themselves, and its end of the wire to each of them (net/peers.h). Who comes makes a wire to each
 * member that is there, and introduces itself with the other end; one at a time, under a lock on the folder. A wire
 * outlives the network processes at its ends, and is over when one of the launchers has ended.
 */
#pragma once

#include "net/peers.h"
#include "vmdir/runfile.h"

#define MEMBERSHIP_FDS (NET_MEMBERS + 1)

struct membership {
    const struct runfile *run;
    int socket_fd;  /* -1: it has not joined */
    int process_fd; /* to the network process; -1: none */
    struct {
        int fd; /* -1: none */
        char name[PEERS_NAME];
    } v[NET_MEMBERS + 1]; /* by number */
};

void membership_init(struct membership *m, const struct runfile *run);
/* Joins where it has not, and makes what a network process hears of its members by: *ret, the caller's, -1 for a VM of
 * no network. -errno. */
int membership_offer(struct membership *m, int *ret, struct mvm_error *err) MVM_MUST_CHECK;
/* What is to be waited for, at most MEMBERSHIP_FDS, and what is done when some of it can be read or has ended. */
size_t membership_fill(const struct membership *m, struct pollfd *fds);
void membership_serve(struct membership *m, const struct pollfd *fds, size_t n);
void membership_leave(struct membership *m);
