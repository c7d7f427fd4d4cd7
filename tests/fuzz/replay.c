/*
 * Replays a corpus through its fuzz target with any compiler: what was found once is checked for
 * ever. TAP: one line. A file that breaks the target ends the process; its name is the last line
 * printed.
 */
#include "fuzz.h"

#include "base/buf.h"
#include "base/path.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define INPUT_LIMIT (1u << 20)

/* The file in memory of exactly its size, as libFuzzer gives it. */
static int replay(int dir, const char *name)
{
    CLEAN_BUF struct buf b = BUF_INIT(INPUT_LIMIT);
    struct mvm_error err = MVM_ERROR_INIT;
    if (path_read_file(dir, name, &b, &err) < 0) {
        printf("# %s\n", err.msg);
        return 1;
    }
    CLEAN_FREE uint8_t *copy = malloc(b.len ? b.len : 1);
    if (!copy)
        return 1;
    if (b.len)
        memcpy(copy, b.data, b.len);
    printf("# %s\n", name);
    fflush(stdout);
    LLVMFuzzerTestOneInput(copy, b.len);
    return 0;
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : FUZZ_CORPUS;
    struct dirent **list;
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int n = scandir(path, &list, NULL, alphasort);
    unsigned files = 0, failed = 0;
    for (int i = 0; i < n; i++) {
        if (list[i]->d_name[0] != '.') {
            files++;
            failed += replay(dir, list[i]->d_name);
        }
        free(list[i]);
    }
    if (n >= 0)
        free(list);
    if (dir >= 0)
        close(dir);
    bool good = files > 0 && failed == 0;
    printf("%sok 1 - %u inputs of corpus %s\n1..1\n", good ? "" : "not ", files, FUZZ_NAME);
    return good ? 0 : 1;
}
