/*
 * What a builder reaches: the network, private ranges included, because a binary cache or a proxy may be there; never
 * link-local and metadata addresses, nor what listens on this machine's loopback, except a binary cache or a proxy
 * there that config.toml names (a proxy: or the environment).
 */
#pragma once

#include "cache/config.h"

#define BUILDER_NETWORK_MAX 1024

/* The proxy that config.toml names for "http_proxy", "https_proxy", else the environment's; NULL or "": none. */
const char *builder_network_proxy(const struct config *c, const char *name);
/* As run.json has it (vmdir/runfile.h). */
int builder_network(const struct config *c, char out[static BUILDER_NETWORK_MAX], struct mvm_error *err) MVM_MUST_CHECK;
/* The URL as a builder has to be told it: this machine's loopback is at another address there. The caller frees; NULL:
 * no memory. */
char *builder_network_url(const char *url);
