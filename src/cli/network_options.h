/* --network and --allow: what up, run and exec --flake let a VM reach. */
#pragma once

#include "base/error.h"
#include "cli/cli.h"
#include "vmdir/runfile.h"

#define NETWORK_OPTIONS_MAX sizeof(((struct runfile *)0)->network)

/* As run.json has it; "" where the options say nothing. -EINVAL with phase usage. */
int network_options(const struct args *a, char out[static NETWORK_OPTIONS_MAX], struct mvm_error *err) MVM_MUST_CHECK;
