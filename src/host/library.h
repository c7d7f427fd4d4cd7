/* Libraries that are loaded when they are needed, and only then: most runs of mvmctl need none of them. */
#pragma once

#include "base/error.h"

#include <stddef.h>

struct library_function {
    const char *name;
    void *place; /* of the pointer to it */
};

/* Loads the library for good and finds those functions, all or none. -ENOENT; the error is the caller's to say. */
int library_load(const char *file, const struct library_function *functions, size_t n) MVM_MUST_CHECK;
