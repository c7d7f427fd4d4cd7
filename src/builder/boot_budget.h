/* An image's bootBudget (nix/lib/mk-guest.nix): what a start of it may cost, judged before it is recorded. */
#pragma once

#include "cache/artifacts.h"
#include "host/progress.h"

/* Boots the image in counting mode, and restores VMs of it, as far as its metadata has budgets. -ERANGE with phase
 * boot-budget, the kind "instructions" or "warm-start", and the costs by phase in err->detail where it is over one. */
int boot_budget_check(const struct artifact_image *img, struct home *h, struct progress *p,
                      struct mvm_error *err) MVM_MUST_CHECK;
