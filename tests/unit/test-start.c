/* Starting a VM, as commands do it: this program is its own supervisor (--supervise), which does what the VM's name
 * says. */
#include "tap.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "machine/machine.h"
#include "vmdir/vmdir.h"
#include "vmm/qemu_args.h"
#include "wire/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *folder, *image;
static struct home home = HOME_INIT;
static struct progress progress;

/* ---- The supervisor ---- */

static int supervise(char **argv)
{
    int dir = atoi(argv[0]), starter = atoi(argv[2]);
    struct runfile run = {0};
    struct msg_status s = {.ready_ns = 5};
    CLEAN_BUF struct buf m = BUF_INIT(FRAME_MAX_PAYLOAD);
    if (runfile_load(&run, dir, NULL) < 0 || strcmp(run.name, "dies") == 0)
        return 3;
    if (strcmp(run.name, "talks") == 0)
        return send(starter, "nonsense", 8, 0) == 8 ? 0 : 3;
    bool fails = strcmp(run.name, "fails") == 0;
    snprintf(s.state, sizeof(s.state), fails ? "failed" : "ready");
    snprintf(s.problem, sizeof(s.problem), fails ? "the kernel is of stone" : "");
    snprintf(s.steps, sizeof(s.steps), "boot 1 2");
    if (fails && path_write_file(dir, VMDIR_CONSOLE, "one\ntwo\n", 8, 0600, false, NULL) < 0)
        return 3;
    if (msg_status_encode(&m, &s) < 0 || send(starter, m.data, m.len, 0) < 0)
        return 3;
    char byte;
    return read(starter, &byte, 1) == 0 ? 0 : 3; /* until its starter ends */
}

/* ---- The command ---- */

static int start(const char *name, bool transient, struct machine_info *info, struct mvm_error *e)
{
    const struct machine_config c = {.name = name,
                                     .role = VM_ROLE_RUNTIME,
                                     .image = image,
                                     .image_digest = "",
                                     .memory_mib = 64,
                                     .vcpus = 1,
                                     .timeout_ms = 20000,
                                     .transient = transient};
    *e = (struct mvm_error)MVM_ERROR_INIT;
    *info = (struct machine_info){.tether = -1};
    return machine_start(&home, &c, &progress, info, e);
}

static bool has_folder(const char *name)
{
    CLEAN_FREE char *path = path_join("vms", name, NULL);
    return faccessat(home.state_fd, path, F_OK, 0) == 0;
}

static void put_metadata(const char *text)
{
    CLEAN_FD int dir = open(image, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (path_write_file(dir, "image.json", text, strlen(text), 0644, false, NULL) < 0)
        abort();
}

static void test_start(void)
{
    struct machine_info info;
    struct mvm_error e;
    ok(start("good", true, &info, &e) == 0 && strcmp(info.state, "ready") == 0 && info.tether >= 0 &&
           info.status.ready_ns == 5 && info.supervisor > 0,
       "a VM whose supervisor says ready has started, and its starter holds it (%s)", e.msg);
    ok(info.own_steps > 0 && info.steps.n == info.own_steps + 1 &&
           strcmp(info.steps.v[info.own_steps].name, "boot") == 0,
       "the supervisor's steps follow the starter's own");
    ok(strcmp(info.name, "good") == 0 && info.memory_mib == 64 && strcmp(info.backend, "qemu") == 0 &&
           strcmp(info.accel.name, "tcg") == 0,
       "and it is told what was started");
    struct machine_info again;
    ok(start("good", true, &again, &e) == -EEXIST, "a name is taken once (%s)", e.msg);
    fd_closep(&info.tether);
}

static void test_failures(void)
{
    struct machine_info info;
    struct mvm_error e;
    ok(start("fails", false, &info, &e) == -ECHILD &&
           strstr(e.msg, "'fails' did not get ready: the kernel is of stone") && e.phase == MVM_PHASE_RUNTIME_BACKEND &&
           strstr(e.hint, "mvmctl logs fails"),
       "a supervisor's problem is the error, and where more is told: %s", e.msg);
    ok(strstr(e.detail, "console, last lines:\none\ntwo\n") && strstr(e.detail, "backend log: empty") &&
           strstr(e.detail, "kernel command line: quiet\n"),
       "the logs' last lines are its detail");
    ok(has_folder("fails"), "and stay to be looked at");
    ok(start("dies", false, &info, &e) == -EPIPE && strstr(e.msg, "the supervisor of vm 'dies' died"),
       "a supervisor that dies is an error: %s", e.msg);
    ok(start("dies", true, &info, &e) == -EPIPE && !has_folder("dies"), "of a transient VM nothing is left");
    ok(start("talks", true, &info, &e) < 0 && info.tether == -1, "words that are none are an error: %s", e.msg);
    ok(start("../x", true, &info, &e) == -EINVAL, "a name that is none starts nothing");
}

static void test_image(void)
{
    struct machine_info info;
    struct mvm_error e;
    put_metadata("{\"name\":\"x\",\"system\":\"x86_64-linux\",\"min_memory_mib\":65}");
    ok(start("small", true, &info, &e) == -EINVAL && strstr(e.msg, "64 MiB") && !has_folder("small"),
       "an image that needs more memory is not started");
    put_metadata("{\"name\":\"x\",\"system\":\"x86_64-linux\",\"min_memory_mib\":8,\"kernel_offers\":[\"vsock\"]}");
    ok(start("other", true, &info, &e) == -ENOTSUP && strstr(e.msg, "offers vsock") && !has_folder("other"),
       "nor one whose kernel offers the backend nothing");
    put_metadata("{\"name\":\"x\",\"system\":\"x86_64-linux\",\"min_memory_mib\":8}");
    ok(start("fits", true, &info, &e) == 0, "one with which all is well is");
    fd_closep(&info.tether);
    static const char kernel[64] = {[56] = 'A', 'R', 'M', 0x64};
    CLEAN_FD int dir = open(image, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    put_metadata("{\"name\":\"x\",\"system\":\"aarch64-linux\",\"min_memory_mib\":8,\"kernel_offers\":[\"pci\","
                 "\"console\"]}");
    if (path_write_file(dir, "vmlinux", kernel, sizeof(kernel), 0644, false, NULL) < 0)
        abort();
    ok(start("foreign", true, &info, &e) == -ENOENT && strstr(e.msg, "qemu-system-aarch64 is not installed") &&
           strstr(e.hint, "qemu-system-arm"),
       "one with another architecture's kernel wants that one's VMM: %s", e.msg);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--supervise") == 0)
        return supervise(argv + 2);
    folder = tap_folder();
    CLEAN_FREE char *state = path_join(folder, "state", NULL), *cache = path_join(folder, "cache", NULL);
    CLEAN_FREE char *images = path_join(folder, "image", NULL),
                    *program = path_join(folder, "qemu-system-x86_64", NULL);
    CLEAN_FREE char *cmdline = path_join(images, "cmdline.txt", NULL);
    image = images;
    setenv("MVM_HOME", state, 1);
    setenv("MVM_CACHE_DIR", cache, 1);
    setenv("MVM_ACCEL", "tcg", 1);
    setenv("PATH", folder, 1); /* where something of QEMU's name lies */
    CLEAN_FD int qemu = open(program, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    CLEAN_FD int line = mkdir(images, 0755) < 0 ? -1 : open(cmdline, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (qemu < 0 || line < 0 || write(line, "quiet\n", 6) != 6 || home_open(&home, NULL) < 0)
        abort();
    test_start();
    test_failures();
    test_image();
    home_done(&home);
    (void)!path_remove_tree(AT_FDCWD, folder);
    return tap_end();
}
