#include "flake/allow.h"

#include <errno.h>
#include <string.h>

bool path_is_below(const char *path, const char *folder)
{
    size_t n = strlen(folder);
    while (n && folder[n - 1] == '/')
        n--;
    return strncmp(path, folder, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

int flake_allow_add(struct flake_allow *a, const char *path, struct mvm_error *err)
{
    if (a->n == FLAKE_MAX_ALLOW)
        return mvm_error_set(err, -E2BIG, "more than %d inputs are allowed", FLAKE_MAX_ALLOW);
    char *real = realpath(path, NULL);
    if (!real)
        return mvm_error_errno(err, -errno, "--allow-input '%.300s'", path);
    a->v[a->n++] = real;
    return 0;
}

bool flake_allows(const struct flake_allow *a, const char *real)
{
    for (size_t i = 0; i < a->n; i++)
        if (path_is_below(real, a->v[i]))
            return true;
    return false;
}

void flake_allow_done(struct flake_allow *a)
{
    for (size_t i = 0; i < a->n; i++)
        free(a->v[i]);
    a->n = 0;
}
