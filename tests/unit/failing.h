/*
 * Allocations that fail on demand, by --wrap (see meson.build), and bytes to recognize. For tests
 * that are one file.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static long fail_at = -1;    /* the allocation to fail, counted down; -1: none */
static bool fail_on;         /* every later one too */
static unsigned long failed; /* how many have */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_reallocarray(void *p, size_t n, size_t size);
char *__real_strndup(const char *s, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
char *__wrap_strndup(const char *s, size_t n);

static bool refuse(void)
{
    if (fail_at < 0)
        return false;
    if (fail_at > 0) {
        fail_at--;
        return false;
    }
    if (!fail_on)
        fail_at = -1;
    failed++;
    return true;
}

void *__wrap_malloc(size_t n)
{
    return refuse() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return refuse() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return refuse() ? NULL : __real_realloc(p, n);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
    return refuse() ? NULL : __real_reallocarray(p, n, size);
}

char *__wrap_strndup(const char *s, size_t n)
{
    return refuse() ? NULL : __real_strndup(s, n);
}

/* Bytes that no other offset has. */
__attribute__((unused)) static void fill(uint8_t *p, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)((seed + i) * 2654435761u >> 13 | 1);
}
