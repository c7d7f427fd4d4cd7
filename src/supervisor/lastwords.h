/* The end of what a guest's kernel wrote to its console, and the line of it that tells why the guest ended. */
#pragma once

#include <stddef.h>

struct lastwords {
    char text[8192];
    size_t len;
};

/* More of the console: the end of it is kept. */
void lastwords_add(struct lastwords *w, const void *p, size_t n);
/* The telling line, printable, without the kernel's timestamp: where it panicked, the first one that says so, with
 * what came before it (what kind of exception, where); else the last one with text. "" where nothing was written. */
void lastwords_telling(const struct lastwords *w, char *out, size_t size);
