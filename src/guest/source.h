/*
 * A staged flake in Nix's store. The host has computed the hash of its NAR, so that nothing here reads the files, and
 * Nix neither copies nor hashes them again. In the store, as in BUILD_FILES, they belong to a user who does not exist:
 * builders run as root in a user namespace that has no other user in it, so none of them can write to these files,
 * which later trees have links to.
 */
#pragma once

#include "base/error.h"
#include "wire/msg_build.h"

#define SOURCE_OWNER 65533

/* Moves the folder `tree` to the store, under the name that m has for it, and registers it. It stays there for the
 * job's life. 0 with its path in ret; -ENOTSUP where the store is of a kind that only Nix can write, or another
 * -errno. */
int source_to_store(const char *tree, unsigned id, const struct msg_build *m, char ret[static 128],
                    struct mvm_error *err) MVM_MUST_CHECK;
/* The job has ended. */
void source_release(unsigned id);
/* All jobs have: the machine starts. */
void source_release_all(void);
