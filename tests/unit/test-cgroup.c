/* A VMM's cgroup: in a folder that stands for a tree of cgroups, and, where this process may make one, in the real one.
 */
#include "tap.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/os.h"
#include "base/path.h"
#include "base/process.h"
#include "jail/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct cgroup_bounds bounds = {.memory_bytes = 1664ull << 20, .processes = 130};
static int root = -1; /* the stand-in's */

static void put(const char *path, const char *text)
{
    int r = path_make_parents(root, path, 0755);
    CLEAN_FD int fd = r < 0 ? -1 : openat(root, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0)
        exit(1);
}

static bool holds(int dir, const char *name, const char *text)
{
    CLEAN_BUF struct buf b = BUF_INIT(256);
    return path_read_file(dir, name, &b, NULL) == 0 && strcmp(buf_cstr(&b), text) == 0;
}

static bool is_there(const char *path)
{
    return faccessat(root, path, F_OK, 0) == 0;
}

/* A cgroup whose children have the controllers that are named, out of those that it has itself. */
static void put_cgroup(const char *path, const char *controllers, const char *of_children)
{
    char file[256];
    const char *const files[][2] = {
        {"cgroup.controllers", controllers}, {"cgroup.subtree_control", of_children}, {"cgroup.procs", ""}};
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        snprintf(file, sizeof(file), "%s/%s", path, files[i][0]);
        put(file, files[i][1]);
    }
}

/* The kernel removes a cgroup's files with its folder. */
static void empty(const struct cgroup *g)
{
    unlinkat(g->fd, "memory.max", 0);
    unlinkat(g->fd, "pids.max", 0);
}

static int try_make(const char *own, struct cgroup *g, struct mvm_error *err)
{
    *g = (struct cgroup)CGROUP_INIT;
    return cgroup_make_at(g, root, own, "web", &bounds, err);
}

static void test_made(void)
{
    struct cgroup g;
    char path[256];
    put_cgroup("app", "cpu memory pids\n", "memory pids\n");
    put_cgroup("app/shell.scope", "memory pids\n", "");
    put("app/shell.scope/memory.max", "max\n");
    /* The kernel refuses to divide a cgroup that has processes. */
    unlinkat(root, "app/shell.scope/cgroup.controllers", 0);
    int r = try_make("/app/shell.scope", &g, NULL);
    snprintf(path, sizeof(path), "app/%s", g.name);
    ok(r == 0 && is_there(path) && strncmp(g.name, "mvm-vmm-web-", 12) == 0,
       "T6: a VMM gets a cgroup beside the one that mvmctl was started in");
    ok(r == 0 && holds(g.fd, "memory.max", "1744830464"), "T6: with a bound on memory");
    ok(r == 0 && holds(g.fd, "pids.max", "130"), "T6: and on processes");
    cgroup_remove(&g);
    ok(g.fd < 0 && is_there(path), "T6: one that still has processes stays");
    struct cgroup next;
    CLEAN_FD int left = openat(root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    unlinkat(left, "memory.max", 0);
    unlinkat(left, "pids.max", 0);
    flock(left, LOCK_EX);
    r = try_make("/app/shell.scope", &next, NULL);
    ok(r == 0 && is_there(path), "T6: the one of another VM that runs stays");
    empty(&next);
    cgroup_remove(&next);
    flock(left, LOCK_UN);
    put("app/mvm-vmm-busy-1-0/process", "");
    put("app/mine/process", "");
    r = try_make("/app/shell.scope", &next, NULL);
    ok(r == 0 && !is_there(path), "T6: one that a killed mvmctl has left is removed by the next start");
    ok(is_there("app/mvm-vmm-busy-1-0") && is_there("app/mine"), "T6: and none that has processes or is not ours");
    snprintf(path, sizeof(path), "app/%s", next.name);
    empty(&next);
    cgroup_remove(&next);
    ok(!is_there(path), "T6: a cgroup goes when its VMM has ended");
}

static void test_enabled(void)
{
    struct cgroup g;
    put_cgroup("own", "cpuset cpu io memory pids\n", "cpu\n");
    int r = try_make("/own", &g, NULL);
    CLEAN_FD int own = os_open_beneath(root, "own", O_RDONLY | O_DIRECTORY, 0);
    ok(r == 0 && holds(own, "cgroup.subtree_control", "+memory +pids"),
       "T6: what is delegated and not divided yet is divided");
    cgroup_remove(&g);
}

static void refused(const char *own, const char *what)
{
    struct cgroup g;
    struct mvm_error err = MVM_ERROR_INIT;
    int r = try_make(own, &g, &err);
    ok(r == -ENOTSUP && g.fd < 0 && strstr(err.msg, "no cgroup with memory and pids is delegated"),
       "T6: no cgroup is made %s", what);
}

static void test_refused(void)
{
    put_cgroup("lacks/scope", "memory pids_of_others\n", "memory\n");
    put_cgroup("lacks", "memory pids_of_others\n", "memory\n");
    refused("/lacks/scope", "where a controller is missing");
    put_cgroup("bound/scope", "", "");
    put("bound/scope/memory.max", "2147483648\n");
    put_cgroup("bound", "memory pids\n", "memory pids\n");
    refused("/bound/scope", "outside of one that the user has bounded");
    refused("/absent/scope", "where its own cannot be opened");
    refused("/../outside", "outside of what is mounted");
    put_cgroup("reader/scope", "", "");
    put_cgroup("reader", "memory pids\n", "memory pids\n");
    CLEAN_FD int reader = os_open_beneath(root, "reader", O_RDONLY | O_DIRECTORY, 0);
    if (geteuid() == 0 || fchmod(reader, 0555) < 0)
        ok(true, "T6: no cgroup is made where the folder is not the user's # SKIP root may write anywhere");
    else
        refused("/reader/scope", "where the folder is not the user's");
    (void)!fchmod(reader, 0755);
}

/* A program is born in the cgroup that it is started in; controllers do not matter for that. */
static void test_born(void)
{
    static const char name[] = "mvm-test-born";
    const char *const argv[] = {"cat", "/proc/self/cgroup", NULL};
    const char *const folders[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    CLEAN_FD int mounted = -1;
    CLEAN_FD int own = -1;
    for (size_t i = 0; i < ARRAY_SIZE(folders) && own < 0; i++) {
        fd_closep(&mounted);
        mounted = open(folders[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        bool v2 = mounted >= 0 && faccessat(mounted, "cgroup.procs", W_OK, 0) == 0 &&
                  faccessat(mounted, "cgroup.controllers", F_OK, 0) == 0;
        if (v2 && (mkdirat(mounted, name, 0755) == 0 || errno == EEXIST))
            own = openat(mounted, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (own < 0) {
        ok(true, "T6: a program is born in its cgroup # SKIP this user can make no cgroup (v2) here");
    } else {
        CLEAN_BUF struct buf out = BUF_INIT(4096);
        const struct process_opts o = {.argv = argv, .stdin_fd = -1, .cgroup_fd = own};
        int r = process_capture(&o, &out, NULL, clock_deadline(10000), NULL);
        ok(r == 0 && strstr(buf_cstr(&out), name), "T6: a program is born in its cgroup");
        unlinkat(mounted, name, AT_REMOVEDIR);
    }
    struct process p = PROCESS_INIT;
    const struct process_opts o = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .cgroup_fd = root};
    ok(process_start(&o, &p, NULL) == -EXDEV && p.pid == 0, "T6: what cannot be born in its cgroup is not started");
}

int main(void)
{
    char text[64];
    const char *folder = tap_folder();
    root = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return 1;
    test_made();
    test_enabled();
    test_refused();
    test_born();
    cgroup_bounds_format(&bounds, text, sizeof(text));
    ok(strcmp(text, "memory 1664 MiB, 130 processes") == 0, "T6: what is said of the bounds");
    (void)!path_remove_tree(AT_FDCWD, folder);
    return tap_end();
}
