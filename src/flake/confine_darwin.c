/* sandbox(7): the profile that forbids every write to the file system. Reading is not narrowed to the folders. */
#include "flake/confine.h"

#include <errno.h>
#include <stdint.h>

/* sandbox_init(3), which Apple keeps and calls deprecated. */
int sandbox_init(const char *profile, uint64_t flags, char **errors);
extern const char kSBXProfileNoWrite[];
#define SANDBOX_NAMED 1

int confine_reader(const char *const *folders, size_t n)
{
    char *errors = NULL;
    return sandbox_init(kSBXProfileNoWrite, SANDBOX_NAMED, &errors) < 0 ? -EPERM : 0;
}
