#include "host/library.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

int library_load(const char *file, const struct library_function *functions, size_t n)
{
    void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    for (size_t i = 0; handle && i < n; i++) {
        void *function = dlsym(handle, functions[i].name);
        if (!function) {
            dlclose(handle);
            return -ENOENT;
        }
        memcpy(functions[i].place, &function, sizeof(function)); /* as dlsym(3) has it for pointers to functions */
    }
    return handle ? 0 : -ENOENT;
}
