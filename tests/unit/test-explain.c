/* What is told of a VM that is gone, from what it left in its folder. */
#include "tap.h"

#include "base/fd.h"
#include "base/path.h"
#include "machine/explain.h"
#include "vmdir/vmdir.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static struct home home = {.state_fd = -1, .cache_fd = -1};

static void put(const char *name, const char *text)
{
    CLEAN_FD int dir = openat(home.state_fd, "vms/gone", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || path_write_file(dir, name, text, strlen(text), 0600, false, NULL) < 0)
        ok(false, "(%s is written)", name);
}

static void test_vanished(void)
{
    static const struct {
        const char *last, *what;
        bool vanished;
    } cases[] = {
        {"{\"ended\":\"stopped\",\"failed\":false,\"vanished\":false}", "one that was asked to stop has not vanished",
         false},
        {"{\"ended\":\"qemu was killed by signal 9\",\"failed\":false,\"vanished\":true}",
         "one whose VMM was killed has vanished", true},
        {"{\"ended\":\"stopped\"}", "one that an earlier version wrote of has not", false},
        {"", "one whose supervisor was killed before it could write has vanished", true},
    };
    struct mvm_error err = MVM_ERROR_INIT;
    ok(!explain_vanished(&home, "gone", 1, &err), "one whose folder was removed has not vanished");
    if (path_make_parents(home.state_fd, "vms/gone/x", 0700) < 0)
        ok(false, "(a folder is made)");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        err = (struct mvm_error)MVM_ERROR_INIT;
        put(VMDIR_LAST, cases[i].last);
        ok(explain_vanished(&home, "gone", 1, &err) == cases[i].vanished && !err.detail[0] == !cases[i].vanished, "%s",
           cases[i].what);
    }
}

static void test_detail(void)
{
    struct mvm_error err = MVM_ERROR_INIT;
    put(VMDIR_LAST, "{\"ended\":\"qemu exited with status 1\",\"failed\":false,\"vanished\":true}");
    put(VMDIR_VMM, "first\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\nlast without an end");
    (void)explain_vanished(&home, "gone", 1, &err);
    ok(strstr(err.detail, "gone: qemu exited with status 1\n"), "how the VMM ended is told");
    ok(strstr(err.detail, "\n2\n3\n") && strstr(err.detail, "last without an end\n") && !strstr(err.detail, "first"),
       "and the last twelve lines of its log");
    ok(strstr(err.detail, "console: empty\n"), "and that the console is empty");
}

int main(void)
{
    const char *top = tap_folder();
    home.state_fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (home.state_fd < 0)
        return 1;
    test_vanished();
    test_detail();
    fd_closep(&home.state_fd);
    (void)!path_remove_tree(AT_FDCWD, top);
    return tap_end();
}
