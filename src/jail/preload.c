/*
 * Preloaded into a VMM that maps a file of memory privately: the VMM opens that file for writing even then (a file
 * that cannot be written is an error, readonly=on makes the guest's RAM a ROM), and with that descriptor it could
 * change what other VMs are restored from. The one open of the path in MVM_READ_ONLY is turned into one for reading. It
 * costs nothing: a private mapping needs no more.
 */
/* Both functions by their own names, not one in the place of the other. */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int opener(const char *path, int flags, ...);

static int open_it(const char *name, const char *path, int flags, mode_t mode)
{
    const char *only = getenv("MVM_READ_ONLY");
    opener *real = (opener *)(uintptr_t)dlsym(RTLD_NEXT, name);
    if (path && only && strcmp(path, only) == 0)
        flags = (flags & ~(O_ACCMODE | O_CREAT | O_TRUNC)) | O_RDONLY;
    return real(path, flags, mode);
}

#define OPENER(name)                                                                                                   \
    __attribute__((visibility("default"))) int name(const char *path, int flags, ...);                                 \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        va_list ap;                                                                                                    \
        va_start(ap, flags);                                                                                           \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, mode_t) : 0;                                        \
        va_end(ap);                                                                                                    \
        return open_it(#name, path, flags, mode);                                                                      \
    }

OPENER(open)
OPENER(open64)

/* What a program built with _FORTIFY_SOURCE calls instead, where nothing can be created. */
#define OPENER_2(name, plain)                                                                                          \
    __attribute__((visibility("default"))) int name(const char *path, int flags);                                      \
    int name(const char *path, int flags)                                                                              \
    {                                                                                                                  \
        return open_it(plain, path, flags, 0);                                                                         \
    }

OPENER_2(__open_2, "open")
OPENER_2(__open64_2, "open64")
