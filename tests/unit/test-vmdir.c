/* A VM's folder on the host, and what its VMM is started with. */
#include "tap.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "vmdir/networks.h"
#include "vmdir/vmdir.h"
#include "vmdir/vmm_config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static struct home home = HOME_INIT;
static char *top;

static void put(int dirfd, const char *name, const char *text)
{
    CLEAN_FD int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0)
        abort();
}

static bool is_there(int dirfd, const char *name)
{
    return faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void test_names(void)
{
    char longest[VMDIR_MAX_NAME + 2];
    struct mvm_error e = MVM_ERROR_INIT;
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    static const char *const bad[] = {"", ".", "..", ".web", "-web", "a/b", "a b", "a\n", "web:1", "\xc3\xa9", "_a"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        ok(vmdir_check_name(bad[i], &e) == -EINVAL && e.phase == MVM_PHASE_USAGE && e.hint[0], "no name of a VM: '%s'",
           strchr(bad[i], '\n') ? "a and a line's end" : bad[i]);
    ok(vmdir_check_name(longest, &e) == -EINVAL && strstr(e.msg, "64 bytes") && strlen(e.msg) < 100,
       "a name of 64 bytes is too long, and not told in full");
    longest[VMDIR_MAX_NAME] = '\0';
    ok(vmdir_check_name(longest, &e) == 0 && vmdir_check_name("Web-1.a_b", &e) == 0, "63 bytes are a name");
}

static void test_create(int vms)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct lock lock = LOCK_INIT, second = LOCK_INIT;
    int fd = -1, other = -1;
    struct stat st;
    ok(vmdir_create(vms, "web", &lock, &fd, &e) == 0 && fstat(fd, &st) == 0 && (st.st_mode & 0777) == 0700,
       "a VM's folder is its user's alone");
    ok(vmdir_create(vms, "web", &second, &other, &e) == -EEXIST && other == -1 && strstr(e.hint, "mvmctl down web"),
       "the name of a VM that runs is taken");
    ok(vmdir_remove(vms, "web", 0, &e) == -EBUSY && is_there(vms, "web"),
       "the folder of a VM that runs is not removed");
    uint64_t start = clock_now();
    ok(vmdir_remove(vms, "web", clock_deadline(100), &e) == -EBUSY && clock_now() - start >= 100 * NSEC_PER_MSEC,
       "its end is waited for until the deadline");
    static const char *const old[] = {"run.json", "control.sock", "last.json", "console.log", "agent.log.1", "vmm.log"};
    for (size_t i = 0; i < ARRAY_SIZE(old); i++)
        put(fd, old[i], "old");
    put(fd, "mine", "kept");
    lock_done(&lock);
    close(fd);
    ok(vmdir_create(vms, "web", &lock, &fd, &e) == 0, "the folder of a VM that is gone is taken over");
    bool clean = is_there(fd, "mine");
    for (size_t i = 0; i < ARRAY_SIZE(old); i++)
        clean &= !is_there(fd, old[i]);
    ok(clean, "what the one before left of itself is not there any more, and nothing else is touched");
    struct sockaddr_un a = vmdir_socket_address(fd);
    CLEAN_FD int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ok(bind(s, (struct sockaddr *)&a, sizeof(a)) == 0 && is_there(fd, VMDIR_SOCKET),
       "its socket is bound by the folder's descriptor, however long its path is");
    lock_done(&lock);
    close(fd);
    ok(vmdir_remove(vms, "web", 0, &e) == 0 && !is_there(vms, "web"), "the folder of a VM that is gone is removed");
    ok(vmdir_remove(vms, "web", 0, &e) == 0, "one that is not there is removed without an error");
}

static void test_open(int vms)
{
    struct mvm_error e = MVM_ERROR_INIT;
    if (mkdirat(vms, "webserver", 0700) < 0 || symlinkat("webserver", vms, "link") < 0)
        abort();
    int fd = vmdir_open(&home, "webserver", &e);
    ok(fd >= 0, "a VM's folder is opened by its name");
    fd_closep(&fd);
    ok(vmdir_open(&home, "webserve", &e) == -ENOENT && e.phase == MVM_PHASE_RUNTIME_BACKEND &&
           strstr(e.hint, "did you mean webserver?"),
       "a name that is nearly one is told");
    ok(vmdir_open(&home, "quite-another", &e) == -ENOENT && strstr(e.hint, "mvmctl ls"), "any other leads to the list");
    ok(vmdir_open(&home, "link", &e) < 0, "a symlink is no VM's folder");
    ok(vmdir_open(&home, "../vms/webserver", &e) == -EINVAL, "a path is no name");
    struct lock lock = LOCK_INIT;
    ok(vmdir_create(vms, "link", &lock, &fd, &e) < 0 && !is_there(vms, "webserver/lock"),
       "nor is one taken over through a symlink");
}

/* ---- What the VMM is started with ---- */

static void test_plan(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct runfile *run = calloc(1, sizeof(*run));
    struct vmm_source source = {.memory_fd = -1};
    *run = (struct runfile){.name = "web", .memory_mib = 256, .vcpus = 2};
    snprintf(run->image_path, sizeof(run->image_path), "%s/none", top);
    {
        CLEANUP(vmm_plan_done) struct vmm_plan p = VMM_PLAN_INIT;
        ok(vmm_plan(&p, run, &source, &e) == -ENOENT && strstr(e.msg, "image"), "an image that is gone is an error");
    }
    snprintf(run->image_path, sizeof(run->image_path), "%s", top);
    CLEAN_FD int image = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    {
        CLEANUP(vmm_plan_done) struct vmm_plan p = VMM_PLAN_INIT;
        ok(vmm_plan(&p, run, &source, &e) == 0 && !p.config.initrd && p.config.n_disks == 1 &&
               p.config.disks[0].read_only && strcmp(p.config.cmdline, "mvm.root=vda mvm.init=/sbin/mvm-init") == 0 &&
               p.config.memory_fd == -1 && p.config.memory_mib == 256 && p.config.vcpus == 2 && !p.config.count &&
               !p.config.incoming,
           "an image without initrd and command line boots from its root, which is only read");
    }
    put(image, "cmdline.txt", "quiet\nroot=\tx\n");
    put(image, "initrd", "");
    snprintf(run->store_disk, sizeof(run->store_disk), "/store");
    run->counting = COUNTING_INITCALLS;
    source = (struct vmm_source){.memory_fd = 7, .share = true, .restore = true, .store_path = "/copy"};
    {
        CLEANUP(vmm_plan_done) struct vmm_plan p = VMM_PLAN_INIT;
        ok(vmm_plan(&p, run, &source, &e) == 0 && strcmp(p.config.cmdline, "quiet root= x ") == 0,
           "a command line of several lines becomes one");
        ok(p.config.initrd && p.config.n_disks == 2 && strcmp(p.config.disks[1].path, "/copy") == 0 &&
               !p.config.disks[1].read_only && p.config.disks[1].discard,
           "a builder's store is its second disk, and the copy is meant where there is one");
        ok(p.config.memory_fd == 7 && p.config.memory_shared && p.config.incoming && p.config.count &&
               p.config.initcalls,
           "memory, restore and counting are those that are wanted");
    }
    char *much = calloc(1, 10000);
    memset(much, 'x', 9999);
    put(image, "cmdline.txt", much);
    {
        CLEANUP(vmm_plan_done) struct vmm_plan p = VMM_PLAN_INIT;
        ok(vmm_plan(&p, run, &source, &e) < 0, "a command line of 10,000 bytes is refused");
    }
    put(image, "cmdline.txt", "quiet");
    put(image, "image.json", "{");
    {
        CLEANUP(vmm_plan_done) struct vmm_plan p = VMM_PLAN_INIT;
        ok(vmm_plan(&p, run, &source, &e) < 0, "an image whose description is damaged is refused");
    }
    free(much);
    free(run);
}

/* ---- Networks between VMs ---- */

/* A VM of that name that runs as long as the lock is held, in its place in the network. */
static int start_in(int vms, const char *network, const char *vm, struct lock *lock, struct runfile *run,
                    struct mvm_error *e)
{
    CLEAN_FD int dir = -1;
    CLEAN_FD int place = -1;
    *run = (struct runfile){0};
    snprintf(run->name, sizeof(run->name), "%s", vm);
    int r = vmdir_create(vms, vm, lock, &dir, e);
    if (r == 0)
        r = networks_join(&home, network, run, &place, e);
    return r < 0 ? r : runfile_save(run, dir, e);
}

static void test_network_names(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    static const char *const bad[] = {
        "",       "a/b",     "A",      "a.b",  "-a",
        "a_b",    "..",      "public", "none", "full",
        "listed", "builder", "a b",    "a:b",  "0123456789012345678901234567890123456789012345678901234567890123"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        ok(networks_create(&home, bad[i], "@public", &e) == -EINVAL && e.phase == MVM_PHASE_USAGE && e.hint[0],
           "no name of a network: '%s'", bad[i]);
}

static void test_networks(int vms)
{
    struct mvm_error e = MVM_ERROR_INIT;
    static struct runfile run;
    static struct lock locks[NET_MEMBERS + 1];
    static struct network_info info;
    struct network_info *list = NULL;
    char name[16];
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_SIZE(locks); i++)
        locks[i] = (struct lock)LOCK_INIT;
    ok(start_in(vms, "app", "vm0", &locks[0], &run, &e) == -ENOENT && strstr(e.hint, "mvmctl network create app"),
       "in a network that is not there no VM starts (%s)", e.hint);
    lock_done(&locks[0]);
    ok(networks_create(&home, "app", "@listed example.org", &e) == 0 &&
           networks_create(&home, "app", "@public", &e) == -EEXIST && strstr(e.hint, "mvmctl network rm app"),
       "a name is taken once");
    ok(networks_create(&home, "a", "@public", &e) == 0 && networks_list(&home, &list, &n, &e) == 0 && n == 2 &&
           strcmp(list[0].name, "a") == 0 && strcmp(list[1].policy, "@listed example.org") == 0,
       "networks are listed by name, with their policy");
    free(list);
    bool all = true;
    for (unsigned i = 0; i < NET_MEMBERS; i++) {
        snprintf(name, sizeof(name), "vm%u", i);
        all &= start_in(vms, "app", name, &locks[i], &run, &e) == 0 && run.member == i + 1;
    }
    ok(all && strcmp(run.network, "@listed example.org") == 0 && strcmp(run.member_of, "app") == 0,
       "each VM has a number of its own, and the network's policy (%s)", e.msg);
    ok(start_in(vms, "app", "more", &locks[NET_MEMBERS], &run, &e) == -ENOSPC && strstr(e.hint, "mvmctl down"),
       "the 33rd is refused: %s", e.msg);
    lock_done(&locks[NET_MEMBERS]);
    ok(networks_find(&home, "app", &info, &e) == 0 && info.n_members == NET_MEMBERS && info.members[2].number == 3 &&
           strcmp(info.members[2].vm, "vm2") == 0,
       "they are known by what their folders say");
    ok(networks_remove(&home, "app", &e) == -EBUSY && strstr(e.msg, "'vm0' runs in it"),
       "a network with members is not removed: %s", e.msg);
    lock_done(&locks[4]); /* as whoever is killed */
    ok(start_in(vms, "app", "more", &locks[4], &run, &e) == 0 && run.member == 5,
       "the number of one that was killed is free, whatever it left (%s)", e.msg);
    for (size_t i = 0; i < ARRAY_SIZE(locks); i++)
        lock_done(&locks[i]);
    CLEAN_FD int folder = open(run.network_folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    put(folder, "1-vm0", "left");
    ok(networks_find(&home, "app", &info, &e) == 0 && info.n_members == 0, "who does not run is no member");
    put(folder, "network.json", "{}");
    ok(networks_find(&home, "app", &info, &e) == -EBADMSG && strstr(e.hint, "mvmctl network rm app"),
       "one that is damaged is said (%s)", e.msg);
    ok(networks_remove(&home, "app", &e) == 0 && networks_remove(&home, "app", &e) == -ENOENT,
       "it is removed with all that is in it");
    CLEAN_FREE char *half = path_join(top, "state/networks/half", NULL);
    ok(mkdir(half, 0700) == 0 && networks_find(&home, "half", &info, &e) == -ENOENT &&
           networks_create(&home, "half", "@public", &e) == 0,
       "whoever was killed while he made one is in nobody's way");
}

int main(void)
{
    top = strdup(tap_folder());
    CLEAN_FREE char *state = path_join(top, "state", NULL);
    CLEAN_FREE char *cache = path_join(top, "cache", NULL);
    setenv("MVM_HOME", state, 1);
    setenv("MVM_CACHE_DIR", cache, 1);
    if (home_open(&home, NULL) < 0)
        return 1;
    CLEAN_FD int vms = vmdir_open_all(&home, NULL);
    test_names();
    test_create(vms);
    test_open(vms);
    test_plan();
    test_network_names();
    test_networks(vms);
    home_done(&home);
    (void)!path_remove_tree(AT_FDCWD, top);
    free(top);
    return tap_end();
}
