#include "guest/interpreter.h"
#include "base/fd.h"

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_CHAIN 5 /* of interpreters that are scripts themselves: Linux, fs/exec.c, exec_binprm */
#define MAX_HEAD  4096

/* "#! /bin/sh -e": the first word. */
static bool of_script(const char *head, char *out, size_t size)
{
    const char *p = head + 2 + strspn(head + 2, " \t");
    size_t n = strcspn(p, " \t\n");
    if (n == 0 || n >= size)
        return false;
    memcpy(out, p, n);
    out[n] = '\0';
    return true;
}

/* The text of a PT_INTERP segment. */
static bool read_text(int fd, uint64_t offset, uint64_t n, char *out, size_t size)
{
    if (n < 2 || n > size || fd_pread_all(fd, out, (size_t)n, offset) < 0)
        return false;
    return out[n - 1] == '\0';
}

/* Both classes of ELF have the same fields, of other sizes; a segment's type comes first in both. */
static bool of_elf(int fd, const void *head, bool wide, char *out, size_t size)
{
    union {
        Elf64_Ehdr wide;
        Elf32_Ehdr narrow;
    } e;
    union {
        Elf64_Phdr wide;
        Elf32_Phdr narrow;
    } p;
    memcpy(&e, head, sizeof(e));
    const uint64_t at = wide ? e.wide.e_phoff : e.narrow.e_phoff;
    const unsigned n = wide ? e.wide.e_phnum : e.narrow.e_phnum;
    const size_t each = wide ? sizeof(p.wide) : sizeof(p.narrow);
    for (unsigned i = 0; i < n; i++) {
        if (fd_pread_all(fd, &p, each, at + i * each) < 0)
            return false;
        if (p.narrow.p_type == PT_INTERP)
            return wide ? read_text(fd, p.wide.p_offset, p.wide.p_filesz, out, size)
                        : read_text(fd, p.narrow.p_offset, p.narrow.p_filesz, out, size);
    }
    return false;
}

bool interpreter_of(int fd, char *out, size_t size)
{
    char head[MAX_HEAD + 1] = {0};
    ssize_t n = pread(fd, head, MAX_HEAD, 0);
    if (n > 2 && head[0] == '#' && head[1] == '!')
        return of_script(head, out, size);
    if (n < (ssize_t)sizeof(Elf64_Ehdr) || memcmp(head, ELFMAG, SELFMAG) != 0)
        return false;
    return of_elf(fd, head, head[EI_CLASS] == ELFCLASS64, out, size);
}

static int open_program(int dir, const char *name)
{
    struct stat st;
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)))
        fd_closep(&fd);
    return fd;
}

/* The first of that name in the folders of path. */
static int find_program(int dir, const char *program, const char *path)
{
    int fd = -1;
    if (strchr(program, '/'))
        return open_program(dir, program);
    while (path && fd < 0) {
        char name[4096];
        size_t n = strcspn(path, ":");
        if ((size_t)snprintf(name, sizeof(name), "%.*s/%s", n ? (int)n : 1, n ? path : ".", program) < sizeof(name))
            fd = open_program(dir, name);
        path = path[n] ? path + n + 1 : NULL;
    }
    return fd;
}

bool interpreter_missing(const char *program, const char *path, const char *cwd, char *out, size_t size)
{
    CLEAN_FD int dir = open(cwd, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CLEAN_FD int fd = find_program(dir, program, path);
    for (unsigned i = 0; i < MAX_CHAIN && fd >= 0 && interpreter_of(fd, out, size); i++) {
        fd_closep(&fd);
        if (faccessat(dir, out, F_OK, 0) < 0)
            return true;
        fd = open_program(dir, out);
    }
    out[0] = '\0';
    return false;
}
