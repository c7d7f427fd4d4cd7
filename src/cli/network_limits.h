/* --net-rate, --net-connections, --net-queries and --pcap: what up, run and exec --flake let a VM take of this host's
 * network.
 */
#pragma once

#include "base/error.h"
#include "cache/config.h"
#include "cli/cli.h"
#include "vmdir/runfile.h"

#define NETWORK_LIMITS_MAX sizeof(((struct runfile *)0)->network_limits)

/* -EINVAL with phase usage where the options cannot be understood. */
int network_limits_check(const struct args *a, struct mvm_error *err) MVM_MUST_CHECK;
/* As run.json has it: what the options say, else saved (of a snapshot; "" for none), else config.toml. */
int network_limits(const struct args *a, struct home *h, const char *saved, char out[static NETWORK_LIMITS_MAX],
                   struct mvm_error *err) MVM_MUST_CHECK;
/* The file of --pcap, made anew and with nothing in it, by its absolute path: *ret, the caller's; NULL where none is
 * asked for. -EEXIST: nothing is written over. */
int network_pcap(const struct args *a, char **ret, struct mvm_error *err) MVM_MUST_CHECK;
/* An object with rate_in, rate_out (0: none), connections and queries. The caller owns it. */
json_object *network_limits_json(const char *text);
