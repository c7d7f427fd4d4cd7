/* What an image wishes its guest to reach at most: field "network" of image.json. */
#pragma once

#include "base/error.h"

#include <json-c/json.h>

#define NETWORK_WISH_MAX   2048
#define NETWORK_WISH_RULES 32

/* As run.json says a layer of a policy: "@public example.org", "@listed" where rules alone are given; "" where o has no
 * such field. The words are looked at by who knows rules (net/rule.h). */
int network_wish_load(json_object *o, char out[static NETWORK_WISH_MAX], struct mvm_error *err) MVM_MUST_CHECK;
