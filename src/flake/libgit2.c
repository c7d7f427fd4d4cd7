#include "flake/libgit2.h"
#include "host/library.h"

#include <errno.h>
#include <stdbool.h>

#define PACKAGE "libgit2-" LIBGIT2_SOVERSION
#define LIBRARY "libgit2.so." LIBGIT2_SOVERSION

const struct libgit2 *libgit2_load(struct mvm_error *err)
{
    static struct libgit2 lib;
    static bool loaded;
    if (loaded)
        return &lib;
    const struct library_function functions[] = {
        {"git_libgit2_init", &lib.init},
        {"git_error_last", &lib.error_last},
        {"git_index_open", &lib.index_open},
        {"git_index_free", &lib.index_free},
        {"git_index_entrycount", &lib.index_entrycount},
        {"git_index_get_byindex", &lib.index_get_byindex},
        {"git_odb_open", &lib.odb_open},
        {"git_odb_free", &lib.odb_free},
        {"git_odb_read", &lib.odb_read},
        {"git_odb_object_free", &lib.odb_object_free},
        {"git_odb_object_type", &lib.odb_object_type},
        {"git_odb_object_data", &lib.odb_object_data},
        {"git_odb_object_size", &lib.odb_object_size},
    };
    if (library_load(LIBRARY, functions, ARRAY_SIZE(functions)) < 0 || lib.init() < 0) {
        mvm_error_set(err, -ENOENT, "cannot load " LIBRARY ", which reads the flake's git repository");
        mvm_error_hint(err, "install the package " PACKAGE);
        return NULL;
    }
    loaded = true;
    return &lib;
}
