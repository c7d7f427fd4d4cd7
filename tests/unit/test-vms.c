/* VMs as the commands see them (machine/machine.h): stopped ones, one whose supervisor is mute, and none. */
#include "tap.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "machine/machine.h"
#include "machine/snapshot.h"
#include "vmdir/runfile.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static struct home home = HOME_INIT;
static int vms = -1;

static int make_vm(const char *name, const char *role)
{
    struct runfile *run = calloc(1, sizeof(*run));
    if (mkdirat(vms, name, 0700) < 0)
        abort();
    int fd = openat(vms, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *run = (struct runfile){.memory_mib = 256, .vcpus = 2, .started_at = 5, .image = "abc", .backend = "qemu"};
    snprintf(run->name, sizeof(run->name), "%s", name);
    snprintf(run->role, sizeof(run->role), "%s", role);
    if (fd < 0 || runfile_save(run, fd, NULL) < 0)
        abort();
    free(run);
    return fd;
}

static void test_none(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct machine_info *list = NULL, info;
    struct snapshot saved;
    size_t n = 7;
    char name[VMDIR_MAX_NAME + 1];
    ok(machine_list(&home, true, &list, &n, &e) == 0 && n == 0, "where no VM is the list is empty");
    free(list);
    ok(machine_inspect(&home, "web", &info, &e) == -ENOENT && machine_stop(&home, "web", 0, &e) == -ENOENT &&
           strstr(e.msg, "there is no vm 'web'"),
       "one that is not there is neither looked at nor stopped");
    ok(machine_inspect(&home, "../web", &info, &e) == -EINVAL && machine_stop(&home, "", 0, &e) == -EINVAL,
       "a path is no VM");
    ok(machine_pick_name(&home, "web", name, &e) == 0 && strcmp(name, "web") == 0, "a free name is taken as it is");
    ok(snapshot_create(&home, "web", NULL, &saved, &e) < 0 && strstr(e.msg, "web"), "none is saved either");
    e = (struct mvm_error)MVM_ERROR_INIT;
    ok(snapshot_create(&home, "web", "../x", &saved, &e) == -EINVAL && e.phase == MVM_PHASE_USAGE,
       "nor under a tag that is a path");
}

static void test_stopped(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct machine_info *list = NULL, info;
    size_t n = 0;
    char name[VMDIR_MAX_NAME + 1];
    close(make_vm("web", "runtime"));
    close(make_vm("web-2", "runtime"));
    close(make_vm("api", "runtime"));
    close(make_vm("builder", "builder"));
    if (mkdirat(vms, "empty", 0700) < 0 || mkdirat(vms, ".hidden", 0700) < 0)
        abort();
    ok(machine_inspect(&home, "web", &info, &e) == 0 && strcmp(info.state, "stopped") == 0 && info.supervisor == 0 &&
           info.memory_mib == 256 && info.vcpus == 2 && strcmp(info.image, "abc") == 0,
       "a stopped VM is known by what it was started with (%s)", info.state);
    ok(machine_list(&home, false, &list, &n, &e) == 0 && n >= 3 && strcmp(list[0].name, "api") == 0,
       "VMs are listed by name");
    bool builders = false, hidden = false;
    for (size_t i = 0; i < n; i++) {
        builders |= strcmp(list[i].name, "builder") == 0;
        hidden |= list[i].name[0] == '.';
    }
    ok(!builders && !hidden, "builders are not the user's business, nor what is no VM's folder");
    free(list);
    size_t with = 0;
    ok(machine_list(&home, true, &list, &with, &e) == 0 && with == n + 1, "unless the user asks for builders");
    free(list);
    ok(machine_pick_name(&home, "web", name, &e) == 0 && strcmp(name, "web") == 0, "the name of a stopped VM is free");
    ok(machine_stop(&home, "web", 0, &e) == 0 && faccessat(vms, "web", F_OK, 0) < 0,
       "stopping a stopped one removes its folder (%s)", e.msg);
}

/* Its lock is held and its socket listens, but nothing answers. */
static void test_mute(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    struct machine_info info;
    CLEAN_FD int fd = make_vm("mute", "runtime");
    CLEAN_FD int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    struct sockaddr_un a = vmdir_socket_address(fd);
    if (lock_take(&lock, fd, VMDIR_LOCK, "supervisor", NULL, NULL) < 0 ||
        bind(s, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(s, 10) < 0)
        abort();
    uint64_t start = clock_now();
    ok(machine_inspect(&home, "mute", &info, &e) == 0 && strcmp(info.state, "not responding") == 0,
       "a supervisor that does not answer is told as that (%s)", info.state);
    ok(clock_now() - start < 10 * NSEC_PER_SEC, "and waited for a moment only");
}

/* A name whose lock is held. */
static void test_taken(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    char longest[VMDIR_MAX_NAME + 1], name[VMDIR_MAX_NAME + 1];
    memset(longest, 'a', VMDIR_MAX_NAME);
    longest[VMDIR_MAX_NAME] = '\0';
    CLEAN_FD int one = make_vm("taken", "runtime");
    CLEAN_FD int two = make_vm(longest, "runtime");
    CLEAN_LOCK struct lock first = LOCK_INIT;
    CLEAN_LOCK struct lock second = LOCK_INIT;
    if (lock_take(&first, one, VMDIR_LOCK, "supervisor", NULL, NULL) < 0 ||
        lock_take(&second, two, VMDIR_LOCK, "supervisor", NULL, NULL) < 0)
        abort();
    ok(machine_pick_name(&home, "taken", name, &e) == 0 && strcmp(name, "taken-2") == 0,
       "the name of a VM that runs gets a number");
    ok(machine_pick_name(&home, longest, name, &e) == 0 && strlen(name) <= VMDIR_MAX_NAME &&
           strcmp(name + strlen(name) - 3, "a-2") == 0,
       "a number makes no name too long");
    ok(machine_pick_name(&home, "../x", name, &e) == -EINVAL, "a path is no name to begin with");
}

int main(void)
{
    const char *top = tap_folder();
    CLEAN_FREE char *state = path_join(top, "state", NULL);
    CLEAN_FREE char *cache = path_join(top, "cache", NULL);
    setenv("MVM_HOME", state, 1);
    setenv("MVM_CACHE_DIR", cache, 1);
    if (home_open(&home, NULL) < 0)
        return 1;
    vms = vmdir_open_all(&home, NULL);
    test_none();
    test_stopped();
    test_taken();
    test_mute();
    close(vms);
    home_done(&home);
    (void)!path_remove_tree(AT_FDCWD, top);
    return tap_end();
}
