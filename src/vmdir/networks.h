/*
 * Networks between VMs: MVM_HOME/networks/<name>/ with
 *
 *   network.json  what its members may reach beside each other
 *   N-VM          a socket of the launcher of member N, where others introduce themselves (supervisor/membership.h)
 *
 * Nobody keeps a list of members: a member is a VM that runs and whose run.json names the network and its number there.
 * So nothing is left of one that was killed. Who changes what is here holds a lock on MVM_HOME/networks.
 */
#pragma once

#include "cache/home.h"
#include "net/layout.h"
#include "vmdir/runfile.h"

#define NETWORKS_MAX_NAME 63

struct network_member {
    char vm[VMDIR_MAX_NAME + 1];
    unsigned number;
};

struct network_info {
    char name[NETWORKS_MAX_NAME + 1];
    char policy[sizeof(((struct runfile *)0)->network)]; /* as there */
    uint64_t created_at;                                 /* CLOCK_REALTIME ns */
    struct network_member members[NET_MEMBERS];
    unsigned n_members;
};

/* -EINVAL with phase usage: a name is one label of DNS ([a-z0-9-], at most 63), and none of those of policies. */
int networks_check_name(const char *name, struct mvm_error *err) MVM_MUST_CHECK;
/* -EEXIST. */
int networks_create(struct home *h, const char *name, const char *policy, struct mvm_error *err) MVM_MUST_CHECK;
/* -ENOENT, with the way out. */
int networks_find(struct home *h, const char *name, struct network_info *ret, struct mvm_error *err) MVM_MUST_CHECK;
/* All, sorted by name; the caller frees *ret. */
int networks_list(struct home *h, struct network_info **ret, size_t *ret_n, struct mvm_error *err) MVM_MUST_CHECK;
/* -EBUSY where a member runs, which is named. */
int networks_remove(struct home *h, const char *name, struct mvm_error *err) MVM_MUST_CHECK;
/* Gives the VM of run a place in the network: its policy, number and folder there. The place is taken once run.json is
 * written and the VM's lock held: until then the caller keeps the lock that *ret_lock is. -ENOENT; -ENOSPC where there
 * are NET_MEMBERS. */
int networks_join(struct home *h, const char *name, struct runfile *run, int *ret_lock,
                  struct mvm_error *err) MVM_MUST_CHECK;
