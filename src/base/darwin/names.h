/*
 * Read before every source file where mvmctl is built for macOS (meson.build): names of Linux' C libraries that Apple's
 * has not (os_darwin.c defines them), or spells otherwise. What behaves otherwise is in os.h and not here.
 */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/param.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>

void explicit_bzero(void *p, size_t n);
void *reallocarray(void *p, size_t n, size_t size);
void *memrchr(const void *p, int c, size_t n);
ssize_t getrandom(void *p, size_t n, unsigned flags);
int scandirat(int dirfd, const char *name, struct dirent ***ret, int (*filter)(const struct dirent *),
              int (*compare)(const struct dirent **, const struct dirent **));
int pipe2(int ret[2], int flags);
int strverscmp(const char *a, const char *b);

#define st_mtim st_mtimespec
#define st_ctim st_ctimespec

#define O_PATH O_RDONLY

#undef MSG_EOF /* a flag of send(2) that nothing here uses; ours is a message (wire/msg.h) */

#define ENOKEY           ENEEDAUTH
#define EKEYREJECTED     EAUTH
#define EBADFD           EBADF
#define MSG_CMSG_CLOEXEC 0
