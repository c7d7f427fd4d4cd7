/* What a program needs to be executed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Where a program is there, as execvpe(3) looks for it in path, but not the loader of its ELF file, or the interpreter
 * of its script: true, with that one's name. cwd: where it is looked for from. */
bool interpreter_missing(const char *program, const char *path, const char *cwd, char *out, size_t size);
/* The interpreter that a program names; false where it names none. Linux, fs/binfmt_script.c, fs/binfmt_elf.c. */
bool interpreter_of(int fd, char *out, size_t size);
