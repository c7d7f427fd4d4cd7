/*
 * What config.toml and the environment say of Nix's fetches, as a build job takes it: settings for nix.conf, and
 * variables of Nix's environment. Access tokens are among the latter: they are on no command line and no disk, neither
 * here nor in the builder.
 */
#pragma once

#include "base/error.h"
#include "cache/home.h"
#include "wire/msg.h"

struct nix_settings {
    struct msg_strings options; /* "extra-substituters=URL URL" */
    struct msg_strings env;     /* "http_proxy=URL", "NIX_CONFIG=access-tokens = ..." */
    bool secret;                /* there are access tokens in it, or a proxy's password */
    int64_t jobs;               /* builds at once; 0: the default */
};

#define CLEAN_NIX_SETTINGS CLEANUP(nix_settings_done)

int nix_settings_load(struct nix_settings *n, struct home *h, struct mvm_error *err) MVM_MUST_CHECK;
/* Secrets are overwritten. */
void nix_settings_done(struct nix_settings *n);
