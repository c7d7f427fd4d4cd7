/*
 * What config.toml and the environment say of Nix's fetches, as a build job takes it: settings for nix.conf, and
 * variables of Nix's environment. Access tokens are among the latter: they are on no command line and no disk, neither
 * here nor in the builder.
 */
#pragma once

#include "base/error.h"
#include "cache/home.h"
#include "wire/msg.h"

struct nixsettings {
    struct msg_strings options; /* "extra-substituters=URL URL" */
    struct msg_strings env;     /* "http_proxy=URL", "NIX_CONFIG=access-tokens = ..." */
    bool secret;                /* there are access tokens in it, or a proxy's password */
    int64_t jobs;               /* builds at once; 0: the default */
};

#define CLEAN_NIXSETTINGS CLEANUP(nixsettings_done)

int nixsettings_load(struct nixsettings *n, struct home *h, struct mvm_error *err) MVM_MUST_CHECK;
/* Secrets are overwritten. */
void nixsettings_done(struct nixsettings *n);
