/* A folder for a target that wants files: the working directory, gone when the process ends. */
#pragma once

#include "fuzz.h"

#include "base/fd.h"
#include "base/path.h"

#include <fcntl.h>
#include <unistd.h>

static char folder[256];

__attribute__((unused)) static void folder_remove(void)
{
    (void)!path_remove_tree(AT_FDCWD, folder);
}

/* Does so once. */
__attribute__((unused)) static void folder_enter(void)
{
    const char *tmp = getenv("MVM_TEST_TMP");
    if (folder[0])
        return;
    snprintf(folder, sizeof(folder), "%.200s/mvm-fuzz.XXXXXX", tmp ? tmp : "/tmp");
    MUST(mkdtemp(folder) && chdir(folder) == 0);
    atexit(folder_remove);
}

__attribute__((unused)) static void folder_put(const char *path, const void *p, size_t n)
{
    CLEAN_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    MUST(fd >= 0 && (n == 0 || fd_write_all(fd, p, n) == 0));
}
