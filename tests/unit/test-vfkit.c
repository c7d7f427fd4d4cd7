/* What vfkit is started with, to the letter, what is said to its REST service, and what is made of its answers. */
#include "tap.h"

#include "base/fd.h"
#include "base/path.h"
#include "host/os.h"
#include "vmm/socket_vmm.h"
#include "vmm/vfkit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DONE "HTTP/1.1 202 Accepted\r\nDate: Sat, 28 Nov 2026 11:00:00 GMT\r\nContent-Length: 0\r\n\r\n"
#define REFUSED                                                                                                        \
    "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 25\r\n"    \
    "\r\n{\"error\":\"no such state\"}"

static const char *folder;
static int dir_fd = -1, ours = -1, theirs = -1;
static struct vmm *vmm;
static struct {
    unsigned times;
    int r;
    char problem[200];
} ended;

static struct vmm_config config(void)
{
    return (struct vmm_config){
        .name = "web",
        .kernel = "/i/Image",
        .kernel_offers = KERNEL_OFFER(KERNEL_PCI) | KERNEL_OFFER(KERNEL_VSOCK),
        .cmdline = "mvm.root=vda a,b",
        .disks = {{.path = "/i/root fs", .read_only = true}, {.path = "/v/own", .discard = true}},
        .n_disks = 2,
        .memory_mib = 256,
        .vcpus = 2,
        .memory_fd = -1,
        .dir_fd = dir_fd,
        .net = VMM_NET_FRAMES,
        .frames_fd = 7,
        .mac = "52:54:00:12:34:56",
        .accel = {.name = "tcg"},
    };
}

/* ---- Its arguments ---- */

/* The arguments in one line; or what is wrong. */
static const char *arguments(const struct vmm_config *c)
{
    static char text[4096];
    CLEANUP(vfkit_args_done) struct vfkit_args a = {0};
    struct mvm_error e = MVM_ERROR_INIT;
    size_t n = 0;
    text[0] = '\0';
    if (vfkit_args(&a, c, SOCKET_VMM_FOLDER_FD, &e) < 0)
        snprintf(text, sizeof(text), "%.500s -> %.500s", e.msg, e.hint);
    else
        for (size_t i = 0; i < a.n; i++)
            n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s", i ? " | " : "", a.v[i]);
    return text;
}

static void test_arguments(void)
{
    static const char golden[] =
        "vfkit | --cpus | 2 | --memory | 256 | --log-level | error | --restful-uri | "
        "unix:///proc/self/fd/100/api.sock | --bootloader | linux,kernel=/i/Image,initrd=/proc/self/fd/100/initrd,"
        "cmdline=\"console=hvc0 quiet panic=-1 nokaslr mitigations=off random.trust_cpu=on mvm.root=vda a,b\" | "
        "--device | virtio-blk,path=/i/root fs,readonly | --device | virtio-blk,path=/v/own | "
        "--device | virtio-vsock,port=1024,socketURL=/proc/self/fd/100/agent.sock_1024,listen | "
        "--device | virtio-net,fd=7,mac=52:54:00:12:34:56 | --device | virtio-rng | --device | virtio-serial,stdio";
    struct vmm_config c = config();
    const char *got = arguments(&c);
    ok(strcmp(got, golden) == 0, "a machine is told by these arguments");
    if (strcmp(got, golden) != 0)
        printf("# %s\n", got);
    c.net = VMM_NET_NONE;
    c.initrd = "/i/initrd";
    got = arguments(&c);
    ok(!strstr(got, "virtio-net") && strstr(got, ",initrd=/i/initrd,"), "one without a network has no card");
    c = config();
    c.disks[1].path = "/v/o,wn";
    ok(strstr(arguments(&c), "a disk's path has a ,") && strstr(arguments(&c), "-> choose another MVM_HOME"),
       "what its syntax cannot say is refused: %s", arguments(&c));
    c = config();
    c.cmdline = "a=\"b\"";
    ok(strstr(arguments(&c), "the kernel's command line has a \""), "so is a quote on the command line");
    c = config();
    c.kernel = "/i,/Image";
    ok(strstr(arguments(&c), "the kernel's path has a ,"), "so is a comma in the kernel's path");
}

static void test_address(void)
{
    char name[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
    struct sockaddr_un a;
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    ok(os_socket_address(dir_fd, "api.sock", &a) == 0 && a.sun_family == AF_UNIX && strstr(a.sun_path, "/api.sock") &&
           os_socket_address(dir_fd, name, &a) == -ENAMETOOLONG,
       "a socket in a folder has an address, and too long a name has none");
}

/* ---- The handle ---- */

static void on_end(void *owner, int r, const char *problem)
{
    ended.times++;
    ended.r = r;
    snprintf(ended.problem, sizeof(ended.problem), "%s", problem);
}

static const struct vmm_done done = {.done = on_end};

static bool is_over(unsigned times, int r)
{
    return ended.times == times && ended.r == r;
}

static void open_vmm(void)
{
    const struct vmm_config c = config();
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 || vfkit_open(pair[0], &c, &vmm) < 0)
        abort();
    ours = pair[0];
    theirs = pair[1];
    memset(&ended, 0, sizeof(ended));
}

static void close_vmm(void)
{
    vfkit_free(vmm);
    fd_closep(&ours);
    fd_closep(&theirs);
}

static bool says(const char *text)
{
    return vfkit_input(vmm, text, strlen(text));
}

static bool heard(const char *first, const char *body)
{
    static char text[8192];
    ssize_t n = recv(theirs, text, sizeof(text) - 1, MSG_DONTWAIT);
    text[n > 0 ? n : 0] = '\0';
    const char *blank = strstr(text, "\r\n\r\n");
    bool is = blank && strncmp(text, first, strlen(first)) == 0 && strcmp(blank + 4, body) == 0;
    if (!is)
        printf("# it was asked: %s\n", text);
    return is;
}

static void test_pause(void)
{
    open_vmm();
    ok(vfkit_pause(vmm, done) == 0 && heard("POST /vm/state ", "{\"state\":\"Pause\"}") &&
           vfkit_pause(vmm, done) == -EBUSY && ended.times == 0,
       "one command of a kind is taken at a time");
    ok(says(DONE) && is_over(1, 0) && vfkit_facts(vmm)->stopped_at, "its answer ends it: the processors stand");
    ok(vfkit_resume(vmm, done) == 0 && heard("POST /vm/state ", "{\"state\":\"Resume\"}") && says(DONE) &&
           is_over(2, 0) && !vfkit_facts(vmm)->stopped_at,
       "resumed, they run");
    ok(vfkit_resume(vmm, done) == 0 && heard("GET /vm/state ", "") &&
           says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") && is_over(3, 0),
       "a machine that runs is not resumed, which Apple refuses");
    ok(vfkit_pause(vmm, done) == 0 && says(REFUSED) && is_over(4, -EIO) &&
           strcmp(ended.problem, "no such state") == 0 && !vfkit_facts(vmm)->stopped_at,
       "a pause that is refused is none, with its reason: %s", ended.problem);
    ok(!says(DONE) && strstr(vfkit_facts(vmm)->problem, "that is no answer"), "an answer to nothing is not taken");
    close_vmm();
    open_vmm();
    ok(vfkit_quit(vmm) == 0 && heard("POST /vm/state ", "{\"state\":\"HardStop\"}") && says(DONE) && ended.times == 0,
       "it is told to end now");
    close_vmm();
}

static void test_ends(void)
{
    open_vmm();
    (void)!vfkit_pause(vmm, done);
    vfkit_ended(vmm);
    ok(is_over(1, -EPIPE), "what is under way ends with the VMM");
    (void)!vfkit_pause(vmm, done);
    vfkit_mute(vmm);
    vfkit_ended(vmm);
    ok(ended.times == 1 && says(DONE), "of one that is muted nothing is heard");
    close_vmm();
    open_vmm();
    fd_closep(&theirs);
    ok(vfkit_pause(vmm, done) == -EPIPE && ended.times == 0, "one that has ended takes no command");
    ok(vfkit_save(vmm, -1, false, done) == -ENOTSUP && vmm_vfkit.restore(vmm, -1, false, done) == -ENOTSUP &&
           vfkit_ask_halted(vmm, done) == -ENOTSUP && vfkit_cannot(vmm) == -ENOTSUP,
       "what it has no request for is not taken");
    close_vmm();
    struct vmm_config c = config();
    c.incoming = true;
    ok(vfkit_open(-1, &c, &vmm) == -ENOTSUP, "nor is a guest that is to continue");
}

/* ---- The kernel and the program ---- */

static void put(const char *name, const void *p, size_t n, mode_t mode)
{
    CLEAN_FD int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0 || fd_write_all(fd, p, n) < 0)
        abort();
}

static void test_kernels(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    CLEAN_FREE char *path = path_join(folder, "kernel", NULL);
    char image[64] = "MZ";
    ok(vmm_vfkit.takes_kernel(NULL, KERNEL_OFFER(KERNEL_PCI) | KERNEL_OFFER(KERNEL_VSOCK), NULL) == 0 &&
           vmm_vfkit.takes_kernel(NULL, KERNEL_OFFER(KERNEL_PCI) | KERNEL_OFFER(KERNEL_CONSOLE), &e) == -ENOTSUP &&
           strstr(e.msg, "apple-container wants vsock and pci"),
       "a kernel needs a PCI bus and virtio sockets");
    memcpy(image + 56, "ARMd", 4);
    put("kernel", image, sizeof(image), 0600);
    ok(vfkit_check_kernel(path, "aarch64", &e) == 0, "an arm64 kernel's Image is taken");
    image[56] = 'x';
    put("kernel", image, sizeof(image), 0600);
    e = (struct mvm_error)MVM_ERROR_INIT;
    ok(vfkit_check_kernel(path, "aarch64", &e) == -ENOTSUP && strstr(e.msg, "no uncompressed Image") && e.hint[0],
       "what is none, or compressed, is refused before it hangs: %s", e.msg);
    put("kernel", "\x1f\x8b", 2, 0600);
    ok(vfkit_check_kernel(path, "aarch64", NULL) == -ENOTSUP && vfkit_check_kernel(path, "x86_64", NULL) == 0 &&
           vfkit_check_kernel("/nowhere", "aarch64", NULL) == -ENOENT,
       "a short one, too");
}

static void test_program(void)
{
    static const struct {
        const char *says;
        int r;
    } versions[] = {{"vfkit version: v0.6.0", 0},
                    {"vfkit version: v1.0.0", 0},
                    {"vfkit version: v0.5.1", -ENOTSUP},
                    {"vfkit version: unknown", -ENOTSUP}};
    struct mvm_error e = MVM_ERROR_INIT;
    struct jail_report jail;
    CLEAN_FREE char *path = strdup(getenv("PATH")), *both = NULL;
    setenv("PATH", folder, 1);
    ok(vfkit_host(&e) == 0 && vmm_vfkit.available(NULL, &e) == -ENOENT && strstr(e.hint, "macOS only"),
       "where it is missing that is said, and where it is from");
    if (asprintf(&both, "%s:%s", folder, path) < 0)
        abort();
    setenv("PATH", both, 1);
    e = (struct mvm_error)MVM_ERROR_INIT;
    ok(vmm_vfkit.available("m68k", &e) == -ENOTSUP && strstr(e.msg, "for m68k") && strstr(e.hint, "qemu"),
       "a guest for other processors is refused, and who could run it is told");
    for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
        char text[128];
        snprintf(text, sizeof(text), "#!/bin/sh\necho '%s'\n", versions[i].says);
        put("vfkit", text, strlen(text), 0755);
        ok(vmm_vfkit.available(NULL, NULL) == versions[i].r, "%s is %s", versions[i].says,
           versions[i].r ? "refused" : "taken");
    }
    ok(vmm_vfkit.confinement(&jail, NULL) == 0 && jail.missing[0] && !jail.seccomp,
       "it is not said to be confined by us");
    setenv("PATH", path, 1);
}

/* Ends at once unless its input is a terminal and its initrd is an archive; else it listens. */
static const char program[] = "#!/usr/bin/env python3\n"
                              "import os, socket, sys\n"
                              "if sys.argv[1:] == ['--version']: print('vfkit version: v0.6.1'), sys.exit()\n"
                              "folder = '/proc/self/fd/100/'\n"
                              "archive = open(folder + 'initrd', 'rb').read()\n"
                              "if not os.isatty(0) or len(archive) != 512 or archive[94:121] != "
                              "b'0000000B00000000TRAILER!!!\\0': sys.exit(4)\n"
                              "s = socket.socket(socket.AF_UNIX)\n"
                              "s.bind(folder + 'api.sock')\n"
                              "s.listen(1)\n"
                              "c, _ = s.accept()\n"
                              "c.recv(1)\n";

static void test_start(void)
{
    struct vmm_started s = VMM_STARTED_INIT;
    struct mvm_error e = MVM_ERROR_INIT;
    struct vmm_config c = config();
    CLEAN_FD int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    CLEAN_FREE char *path = strdup(getenv("PATH")), *both = NULL;
    if (asprintf(&both, "%s:%s", folder, path) < 0)
        abort();
    setenv("PATH", both, 1);
    put("vfkit", program, strlen(program), 0755);
    c.console_fd = c.log_fd = null;
    c.net = VMM_NET_NONE;
    int r = vmm_vfkit.start(&c, &s, &e);
    ok(r == 0 && s.control_fd >= 0 && s.listen_fd >= 0 && s.jail.missing[0],
       "it is started with a terminal for its console and an initrd (%s)", e.msg);
    process_done(&s.process);
    fd_closep(&s.control_fd);
    fd_closep(&s.listen_fd);
    s = (struct vmm_started)VMM_STARTED_INIT;
    c.confine = true;
    ok(vmm_vfkit.start(&c, &s, &e) == -ENOSYS && strstr(e.msg, "cannot be confined"),
       "it is not started where VMMs have to be confined: %s", e.msg);
    c.confine = false;
    c.incoming = true;
    ok(vmm_vfkit.start(&c, &s, NULL) == -ENOTSUP && s.process.pidfd == -1, "nor for a guest that is to continue");
    setenv("PATH", path, 1);
}

int main(void)
{
    folder = tap_folder();
    dir_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    test_arguments();
    test_address();
    test_pause();
    test_ends();
    test_kernels();
    test_program();
    test_start();
    fd_closep(&dir_fd);
    (void)!path_remove_tree(AT_FDCWD, folder);
    return tap_end();
}
