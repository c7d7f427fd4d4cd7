/* Any bytes as flake.lock: what is staged names no local input that was not there, and taking out what the builder
 * provides once is taking it out. */
#include "fuzz.h"

#include "flake/lock.h"

#include <errno.h>
#include <string.h>

#define LIMIT (4u << 20)

static int on_path(void *data, const char *path)
{
    MUST(path[0] == '/');
    ++*(unsigned *)data;
    return 0;
}

static unsigned count_paths(const void *p, size_t n)
{
    unsigned count = 0;
    MUST(flake_lock_paths(p, n, on_path, &count) == 0);
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct registry flakes = {
        .library = {"/usr/share/mvm/flake", "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="},
        .tools = {"/usr/share/mvm/tools", "sha256-BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB="},
    };
    CLEAN_BUF struct buf once = BUF_INIT(LIMIT);
    CLEAN_BUF struct buf twice = BUF_INIT(LIMIT);
    struct mvm_error err = MVM_ERROR_INIT;
    if (size == 0)
        return 0;
    unsigned paths = count_paths(data, size);
    MUST(flake_lock_stage(data, size, &flakes, &once, NULL) == 0);
    MUST(count_paths(once.data, once.len) <= paths);
    MUST(flake_lock_strip(data, size, &once, NULL) == 0);
    MUST(count_paths(once.data, once.len) <= paths);
    MUST(flake_lock_strip(once.data, once.len, &twice, NULL) == 0);
    MUST(once.len == twice.len && memcmp(once.data, twice.data, once.len) == 0);
    int r = flake_lock_check(data, size, "/flake", &err);
    MUST(r == 0 || (r == -EINVAL && err.msg[0]));
    return 0;
}
