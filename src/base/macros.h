/* Small things every file uses: cleanup attributes, ownership hand-over, array sizes. */
#pragma once

#include <stddef.h>
#include <stdlib.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define MVM_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define MVM_MUST_CHECK        __attribute__((warn_unused_result))

/* Runs fn(&variable) when the variable goes out of scope. */
#define CLEANUP(fn) __attribute__((cleanup(fn)))

/* Hands a pointer over: the expression's value is the pointer, the variable is left NULL. */
#define TAKE_PTR(p)                                                                                                    \
    ({                                                                                                                 \
        __typeof__(p) *pp_ = &(p);                                                                                     \
        __typeof__(p) v_ = *pp_;                                                                                       \
        *pp_ = NULL;                                                                                                   \
        v_;                                                                                                            \
    })

/* Hands a file descriptor over, the variable is left -1. */
#define TAKE_FD(fd)                                                                                                    \
    ({                                                                                                                 \
        int *pfd_ = &(fd);                                                                                             \
        int vfd_ = *pfd_;                                                                                              \
        *pfd_ = -1;                                                                                                    \
        vfd_;                                                                                                          \
    })

static inline void cleanup_freep(void *p)
{
    free(*(void **)p);
}
/* CLEAN_FREE char *s = ...; frees s at the end of its scope. */
#define CLEAN_FREE CLEANUP(cleanup_freep)

#define MIN_OF(a, b) ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b) ((a) > (b) ? (a) : (b))
