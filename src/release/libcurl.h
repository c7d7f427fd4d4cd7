/*
 * libcurl, loaded when it is needed: with its own libraries it is most of what would be loaded whenever mvmctl starts,
 * and only downloads use it. The types and numbers are those of its header; its functions are called by this table.
 */
#pragma once

#include "base/error.h"

#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>

#undef curl_easy_setopt
#undef curl_easy_getinfo

struct libcurl {
    __typeof__(&curl_easy_init) easy_init;
    __typeof__(&curl_easy_setopt) easy_setopt;
    __typeof__(&curl_easy_getinfo) easy_getinfo;
    __typeof__(&curl_easy_strerror) easy_strerror;
    __typeof__(&curl_easy_cleanup) easy_cleanup;
    __typeof__(&curl_multi_init) multi_init;
    __typeof__(&curl_multi_add_handle) multi_add_handle;
    __typeof__(&curl_multi_remove_handle) multi_remove_handle;
    __typeof__(&curl_multi_perform) multi_perform;
    __typeof__(&curl_multi_poll) multi_poll;
    __typeof__(&curl_multi_info_read) multi_info_read;
    __typeof__(&curl_multi_cleanup) multi_cleanup;
};

/* Loads it the first time; it stays until the process ends. NULL with -ENOENT in err and the package to install where
 * it cannot be. */
const struct libcurl *libcurl_load(struct mvm_error *err);
