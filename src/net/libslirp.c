#include "net/libslirp.h"
#include "host/library.h"

#include <errno.h>
#include <stdbool.h>

#define LIBRARY "libslirp.so.0"

const struct libslirp *libslirp_load(struct mvm_error *err)
{
    static struct libslirp lib;
    static bool loaded;
    if (loaded)
        return &lib;
    const struct library_function functions[] = {
        {"slirp_new", &lib.new},
        {"slirp_cleanup", &lib.cleanup},
        {"slirp_input", &lib.input},
        {"slirp_pollfds_fill", &lib.pollfds_fill},
        {"slirp_pollfds_poll", &lib.pollfds_poll},
        {"slirp_handle_timer", &lib.handle_timer},
    };
    if (library_load(LIBRARY, functions, ARRAY_SIZE(functions)) < 0) {
        mvm_error_set(err, -ENOENT, "cannot load " LIBRARY);
        mvm_error_hint(err, "install the package libslirp0");
        return NULL;
    }
    loaded = true;
    return &lib;
}
