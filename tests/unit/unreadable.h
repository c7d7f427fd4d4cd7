/*
 * Opening fails on demand, by --wrap (see meson.build): the table of descriptors is full, the disk has an error. For
 * tests that are one file.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/syscall.h>

static long open_fails_at = -1; /* the one to fail, counted down; -1: none */
static int open_fails_with;

int __real_openat64(int dirfd, const char *path, int flags, ...);
int __real_open64(const char *path, int flags, ...);
long __real_syscall(long number, ...);
int __wrap_openat64(int dirfd, const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
long __wrap_syscall(long number, ...);

static bool open_fails(void)
{
    if (open_fails_at < 0 || open_fails_at-- > 0)
        return false;
    errno = open_fails_with;
    return true;
}

static unsigned mode_of(int flags, va_list ap)
{
    return flags & O_CREAT ? va_arg(ap, unsigned) : 0;
}

int __wrap_openat64(int dirfd, const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    unsigned mode = mode_of(flags, ap);
    va_end(ap);
    return open_fails() ? -1 : __real_openat64(dirfd, path, flags, mode);
}

int __wrap_open64(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    unsigned mode = mode_of(flags, ap);
    va_end(ap);
    return open_fails() ? -1 : __real_open64(path, flags, mode);
}

long __wrap_syscall(long number, ...)
{
    long a[6];
    va_list ap;
    va_start(ap, number);
    for (unsigned i = 0; i < 6; i++)
        a[i] = va_arg(ap, long);
    va_end(ap);
    return number == SYS_openat2 && open_fails() ? -1 : __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* Calls act with its first open failing, then with its second alone, and so on until none fails; false where right says
 * so of what came of one. How many failed goes to *ret_n. */
__attribute__((unused)) static bool each_open_fails(int (*act)(void), bool (*right)(int r), unsigned *ret_n)
{
    static const int errors[] = {EMFILE, EIO};
    *ret_n = 0;
    for (unsigned e = 0; e < 2; e++)
        for (long at = 0; at < 1000; at++) {
            open_fails_with = errors[e];
            open_fails_at = at;
            int r = act();
            bool all_opened = open_fails_at >= 0;
            open_fails_at = -1;
            if (all_opened)
                break;
            ++*ret_n;
            if (!right(r)) {
                printf("# open %ld fails: the result is %d\n", at + 1, r);
                return false;
            }
        }
    return true;
}
