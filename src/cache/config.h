/*
 * MVM_HOME/config.toml, TOML 1.0. One table (config.c) says which keys there are; reading, checks and the manual come
 * from it. What the file has wrong is an error in phase config that names file and line: an unknown key, a value of
 * another type, one out of range. Without a file everything has its default.
 */
#pragma once

#include "base/error.h"
#include "cache/home.h"
#include "image/minisign.h"

#include <stddef.h>
#include <stdint.h>

#define CONFIG_FILE     "config.toml"
#define CONFIG_MAX_KEYS 16 /* public keys */
#define CONFIG_MAX_LIST 16
/* As far as a VM's limits go (net/limits.h). */
#define CONFIG_MAX_CONNECTIONS 65536
#define CONFIG_MAX_QUERIES     10000

enum confine { CONFINE_AUTO, CONFINE_REQUIRED };
/* What VMs may reach that nothing else is said of (net/policy.h). */
enum config_network { CONFIG_NETWORK_PUBLIC, CONFIG_NETWORK_NONE, CONFIG_NETWORK_FULL };

struct config_list {
    char *v[CONFIG_MAX_LIST]; /* owned */
    size_t n;
};

struct config_rate {
    uint64_t in, out; /* bytes a second to and from a VM; 0: as fast as it goes */
};

struct config {
    char *dev_url;     /* base URL of a release set without its last slash; NULL: none. Owned */
    char *builder_url; /* the same for builder images */
    char *ca_file;     /* absolute path; NULL: the system's. Owned */
    struct minisign_key public_keys[CONFIG_MAX_KEYS];
    size_t n_public_keys;
    uint64_t builder_memory; /* bytes; 0: the default, likewise below */
    int64_t builder_cpus;
    int64_t builder_jobs; /* at most so many builds at once in one builder */
    uint64_t store_size;  /* bytes that the builder's store may take */
    struct config_list substituters, trusted_public_keys;
    struct config_list allow_inputs;  /* absolute paths outside of flakes that they may have as inputs */
    struct config_list network_allow; /* rules (net/rule.h), as they are in the file */
    struct config_list access_tokens; /* secrets; the file must be its owner's alone */
    char *http_proxy, *https_proxy, *no_proxy;
    char *hypervisor;    /* the backend that runs VMs which are asked none of; NULL: it is chosen. Owned */
    bool persistent;     /* builds share a builder that stays */
    bool boot_snapshots; /* VMs are restored from snapshots of their images */
    int confine;         /* enum confine: whether VMMs run that cannot be confined */
    int network_policy;  /* enum config_network; -1: the file does not say */
    struct config_rate network_rate;
    int64_t network_connections, network_queries; /* 0: the network process's default */
    int64_t idle_timeout;                         /* seconds after which it stops by itself; 0: never */
    int64_t stall_seconds;                        /* how long a download may stand still */
};

#define CONFIG_INIT                                                                                                    \
    {                                                                                                                  \
        .network_policy = -1, .persistent = true, .boot_snapshots = true, .idle_timeout = 600, .stall_seconds = 60     \
    }
#define CLEAN_CONFIG CLEANUP(config_done)

/* "300M", "16G", "1T", or bytes. */
int config_parse_size(const char *text, uint64_t *ret) MVM_MUST_CHECK;
/* "10M/1M": bytes a second; nothing or 0 for no limit. -EINVAL. */
int config_parse_rate(const char *text, struct config_rate *ret, struct mvm_error *err) MVM_MUST_CHECK;

/* c must be CONFIG_INIT; it stays that on failure. */
int config_load(struct config *c, struct home *h, struct mvm_error *err) MVM_MUST_CHECK;
void config_done(struct config *c);
/* "public": as --network takes it. */
const char *config_network(const struct config *c);

/* "https://..." or "file:///...": a URL that images may come from. */
int config_check_url(const char *url, struct mvm_error *err) MVM_MUST_CHECK;

/* For the manual: the keys in the order of the table, NULL behind the last. */
struct config_key {
    const char *table, *name, *value; /* value: what is put there, "URL" */
    const char *help;
};
const struct config_key *config_key(size_t i);
