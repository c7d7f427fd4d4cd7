/* --network and --allow: what up, run, exec --flake and fork let a VM reach, and network create the VMs of a network.
 */
#pragma once

#include "base/error.h"
#include "cache/config.h"
#include "cli/cli.h"
#include "vmdir/runfile.h"

#define NETWORK_KIND_MAX    32
#define NETWORK_OPTIONS_MAX sizeof(((struct runfile *)0)->network)

/* The network that --network names; NULL where it names a policy or is not given. */
const char *network_named(const struct args *a);
/* As run.json has it; "" where the options say nothing, or name a network, whose policy counts. -EINVAL with phase
 * usage. */
int network_options(const struct args *a, char out[static NETWORK_OPTIONS_MAX], struct mvm_error *err) MVM_MUST_CHECK;
/* What an option of that name and --allow say together, at least one of which is given: a policy and rules. */
int network_policy(const struct args *a, const char *option, char out[static NETWORK_OPTIONS_MAX],
                   struct mvm_error *err) MVM_MUST_CHECK;
/* -ENOENT where --network names a network that is not there. */
int network_check_named(const struct args *a, struct home *h, struct mvm_error *err) MVM_MUST_CHECK;
/* What counts where they say nothing: config.toml's word, and within it the image's wish (image_metadata's network). */
int network_default(const struct config *c, const char *wish, char out[static NETWORK_OPTIONS_MAX],
                    struct mvm_error *err) MVM_MUST_CHECK;
/* The first layer of that text: its kind, and a list of its rules. "" and NULL where there is none. The caller owns
 * the list. */
void network_kind(const char *text, char out[static NETWORK_KIND_MAX]);
json_object *network_rules_json(const char *text);
/* What comes behind the first layer, in run.json the image's wish; "" for nothing. */
const char *network_wish(const char *text);
/* An object with policy and allow, NULL for "". The caller owns it. */
json_object *network_json(const char *text);
/* An object of the numbers that a status has of the network process, NULL for "". The caller owns it. */
json_object *network_counts_json(const char *text);
/* -EINVAL with phase artifact-extraction where a wish has what is no rule. */
int network_check_wish(const char *wish, struct mvm_error *err) MVM_MUST_CHECK;
