/* What src/wire and src/base take from libc, and no more of it than they do. */
#include "testguest.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Memory ---- */

void *memcpy(void *to, const void *from, size_t n)
{
    void *ret = to;
    size_t words = n / 8, rest = n % 8;
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words)::"memory");
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(rest)::"memory");
    return ret;
}

void *memmove(void *to, const void *from, size_t n)
{
    if ((uintptr_t)to - (uintptr_t)from >= n)
        return memcpy(to, from, n);
    uint8_t *last_to = (uint8_t *)to + n - 1;
    const uint8_t *last_from = (const uint8_t *)from + n - 1;
    __asm__ volatile("std\n\trep movsb\n\tcld" : "+D"(last_to), "+S"(last_from), "+c"(n)::"memory");
    return to;
}

void *memset(void *p, int c, size_t n)
{
    void *at = p;
    __asm__ volatile("rep stosb" : "+D"(at), "+c"(n) : "a"(c) : "memory");
    return p;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a, *y = b;
    for (; n; n--, x++, y++)
        if (*x != *y)
            return *x - *y;
    return 0;
}

void *memchr(const void *p, int c, size_t n)
{
    for (const uint8_t *at = p; n; n--, at++)
        if (*at == (uint8_t)c)
            return (void *)(uintptr_t)at;
    return NULL;
}

/* Blocks of powers of two, each behind a word that says which; what is freed is kept for the next of its size. */
#define SMALLEST 5
#define HEADER   16

static uintptr_t heap_at, heap_end;
static void *unused[64];

void heap_begin(uintptr_t from, uintptr_t to)
{
    heap_at = (from + 4095) & ~(uintptr_t)4095;
    heap_end = to;
}

static void *grow(size_t bytes)
{
    if (bytes > heap_end - heap_at)
        return NULL;
    void *p = (void *)heap_at; // NOLINT(performance-no-int-to-ptr)
    heap_at += bytes;
    return p;
}

void *pages(size_t bytes)
{
    heap_at = (heap_at + 4095) & ~(uintptr_t)4095;
    void *p = grow((bytes + 4095) & ~(size_t)4095);
    return p ? memset(p, 0, bytes) : NULL;
}

static unsigned size_class(size_t n)
{
    unsigned c = SMALLEST;
    while (c < 63 && ((size_t)1 << c) - HEADER < n)
        c++;
    return c;
}

void *malloc(size_t n)
{
    unsigned c = size_class(n);
    void **block = unused[c];
    if (block)
        unused[c] = block[2];
    else if (!(block = grow((size_t)1 << c)))
        return NULL;
    *(unsigned *)block = c;
    return (uint8_t *)block + HEADER;
}

void free(void *p)
{
    if (!p)
        return;
    void **block = (void **)(void *)((uint8_t *)p - HEADER);
    unsigned c = *(unsigned *)block;
    block[2] = unused[c];
    unused[c] = block;
}

void *calloc(size_t n, size_t size)
{
    void *p = size && n > SIZE_MAX / size ? NULL : malloc(n * size);
    return p ? memset(p, 0, n * size) : NULL;
}

void *realloc(void *p, size_t n)
{
    size_t had = p ? ((size_t)1 << *(unsigned *)(void *)((uint8_t *)p - HEADER)) - HEADER : 0;
    if (p && n <= had)
        return p;
    void *q = malloc(n);
    if (q && p) {
        memcpy(q, p, had);
        free(p);
    }
    return q;
}

void *reallocarray(void *p, size_t n, size_t size)
{
    return size && n > SIZE_MAX / size ? NULL : realloc(p, n * size);
}

/* ---- Strings ---- */

size_t strlen(const char *s)
{
    size_t n = 0;
    while (s[n])
        n++;
    return n;
}

size_t strnlen(const char *s, size_t max)
{
    size_t n = 0;
    while (n < max && s[n])
        n++;
    return n;
}

int strncmp(const char *a, const char *b, size_t n)
{
    for (; n && *a && *a == *b; n--, a++, b++)
        ;
    return n ? (uint8_t)*a - (uint8_t)*b : 0;
}

int strcmp(const char *a, const char *b)
{
    return strncmp(a, b, SIZE_MAX);
}

char *strchr(const char *s, int c)
{
    return memchr(s, c, strlen(s) + 1);
}

char *strrchr(const char *s, int c)
{
    for (size_t n = strlen(s) + 1; n; n--)
        if (s[n - 1] == (char)c)
            return (char *)(uintptr_t)(s + n - 1);
    return NULL;
}

char *strstr(const char *s, const char *what)
{
    for (size_t n = strlen(what); *s; s++)
        if (strncmp(s, what, n) == 0)
            return (char *)(uintptr_t)s;
    return NULL;
}

char *strndup(const char *s, size_t n)
{
    n = strnlen(s, n);
    char *p = malloc(n + 1);
    if (p) {
        memcpy(p, s, n);
        p[n] = '\0';
    }
    return p;
}

char *strdup(const char *s)
{
    return strndup(s, SIZE_MAX);
}

char *strerror(int e)
{
    static char no_memory[] = "Cannot allocate memory", again[] = "Resource temporarily unavailable", other[] = "Error";
    return e == ENOMEM ? no_memory : e == EAGAIN ? again : other;
}

/* ---- Printing: %s %.*s %c %d %u %x %zu %llu %llx ---- */

struct out {
    char *p;
    size_t n, size;
};

static void put(struct out *o, const char *s, size_t n)
{
    for (; n; n--, s++, o->n++)
        if (o->n + 1 < o->size)
            o->p[o->n] = *s;
}

static void put_number(struct out *o, unsigned long long v, unsigned base)
{
    char digits[24];
    size_t at = sizeof(digits);
    do
        digits[--at] = "0123456789abcdef"[v % base];
    while ((v /= base));
    put(o, digits + at, sizeof(digits) - at);
}

int vsnprintf(char *p, size_t size, const char *fmt, va_list ap)
{
    struct out o = {.p = p, .size = size};
    for (; *fmt; fmt++) {
        if (*fmt != '%') {
            put(&o, fmt, 1);
            continue;
        }
        size_t most = SIZE_MAX;
        int longs = 0;
        fmt++;
        if (strncmp(fmt, ".*", 2) == 0) {
            most = (size_t)va_arg(ap, int);
            fmt += 2;
        }
        for (; *fmt == 'l' || *fmt == 'z'; fmt++)
            longs++;
        if (*fmt == 's') {
            const char *s = va_arg(ap, const char *);
            put(&o, s, strnlen(s, most));
        } else if (*fmt == 'c') {
            char c = (char)va_arg(ap, int);
            put(&o, &c, 1);
        } else if (*fmt == 'd') {
            long long v = longs ? va_arg(ap, long long) : va_arg(ap, int);
            put(&o, "-", v < 0);
            put_number(&o, v < 0 ? -(unsigned long long)v : (unsigned long long)v, 10);
        } else if (*fmt == 'u' || *fmt == 'x') {
            put_number(&o, longs ? va_arg(ap, unsigned long long) : va_arg(ap, unsigned), *fmt == 'x' ? 16 : 10);
        } else {
            put(&o, fmt, 1);
        }
    }
    if (size)
        p[o.n < size ? o.n : size - 1] = '\0';
    return (int)o.n;
}

int snprintf(char *p, size_t size, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(p, size, fmt, ap);
    va_end(ap);
    return n;
}
