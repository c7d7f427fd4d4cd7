/* What the code under test prints on a standard descriptor, as text. For tests that are one file. */
#pragma once

#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct captured {
    int fd;          /* that is captured */
    int saved, file; /* what it was; what it is meanwhile */
};

static struct captured capture(int fd)
{
    struct captured c = {.fd = fd, .saved = dup(fd), .file = memfd_create("captured", MFD_CLOEXEC)};
    fflush(NULL);
    if (c.saved < 0 || c.file < 0 || dup2(c.file, fd) < 0)
        abort();
    return c;
}

/* The descriptor is again what it was, and what was printed replaces the content of out. */
static void capture_end(struct captured *c, struct buf *out)
{
    fflush(NULL);
    buf_clear(out);
    if (dup2(c->saved, c->fd) < 0 || lseek(c->file, 0, SEEK_SET) < 0)
        abort();
    while (buf_read(out, c->file, 64 * 1024) > 0)
        ;
    close(c->saved);
    close(c->file);
}
