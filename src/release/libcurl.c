#include "release/libcurl.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define LIBRARY "libcurl.so.4"

const struct libcurl *libcurl_load(struct mvm_error *err)
{
    static struct libcurl lib;
    static bool loaded;
    if (loaded)
        return &lib;
    void *handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    const struct {
        const char *name;
        void *place;
    } functions[] = {
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
    for (size_t i = 0; handle && i < ARRAY_SIZE(functions); i++) {
        void *function = dlsym(handle, functions[i].name);
        if (!function) {
            dlclose(handle);
            handle = NULL;
        }
        memcpy(functions[i].place, &function, sizeof(function)); /* as dlsym(3) has it for pointers to functions */
    }
    if (!handle) {
        mvm_error_set(err, -ENOENT, "cannot load " LIBRARY);
        mvm_error_hint(err, "install the package libcurl4");
        return NULL;
    }
    loaded = true;
    return &lib;
}
