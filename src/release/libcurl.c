#include "release/libcurl.h"
#include "host/library.h"

#include <errno.h>
#include <stdbool.h>

#define LIBRARY "libcurl.so.4"

const struct libcurl *libcurl_load(struct mvm_error *err)
{
    static struct libcurl lib;
    static bool loaded;
    if (loaded)
        return &lib;
    const struct library_function functions[] = {
        {"curl_easy_init", &lib.easy_init},
        {"curl_easy_setopt", &lib.easy_setopt},
        {"curl_easy_getinfo", &lib.easy_getinfo},
        {"curl_easy_strerror", &lib.easy_strerror},
        {"curl_easy_cleanup", &lib.easy_cleanup},
        {"curl_multi_init", &lib.multi_init},
        {"curl_multi_add_handle", &lib.multi_add_handle},
        {"curl_multi_remove_handle", &lib.multi_remove_handle},
        {"curl_multi_perform", &lib.multi_perform},
        {"curl_multi_poll", &lib.multi_poll},
        {"curl_multi_info_read", &lib.multi_info_read},
        {"curl_multi_cleanup", &lib.multi_cleanup},
    };
    if (library_load(LIBRARY, functions, ARRAY_SIZE(functions)) < 0) {
        mvm_error_set(err, -ENOENT, "cannot load " LIBRARY);
        mvm_error_hint(err, "install the package libcurl4");
        return NULL;
    }
    loaded = true;
    return &lib;
}
