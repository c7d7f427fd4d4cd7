/* What is said to a VMM that is driven by HTTP, and what is made of its answers, whatever they are: every command ends
 * once. */
#include "tap.h"

#include "base/fd.h"
#include "base/path.h"
#include "vmm/api.h"
#include "vmm/firecracker.h"
#include "vmm/socket_vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define DONE "HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n"
#define REFUSED                                                                                                        \
    "HTTP/1.1 400 \r\nContent-Type: application/json\r\nContent-Length: 38\r\n\r\n"                                    \
    "{\"fault_message\":\"no such\\nthing yet\"}"

static const char *folder;
static int dir_fd = -1, ours = -1, theirs = -1;
static struct vmm *vmm;
static struct {
    unsigned times;
    int r;
    char problem[200];
} ended;

/* ---- HTTP ---- */

static ssize_t parse(const char *text, size_t n, struct http_answer *ret)
{
    CLEAN_BUF struct buf b = BUF_INIT(2 * HTTP_ANSWER_MAX);
    static char body[256];
    if (buf_append(&b, text, n) < 0)
        abort();
    ssize_t used = http_answer(&b, ret);
    if (used > 0) {
        memcpy(body, ret->body, ret->len);
        ret->body = (const uint8_t *)body;
    }
    return used;
}

static void test_http(void)
{
    CLEAN_BUF struct buf b = BUF_INIT(4096);
    struct http_answer h;
    ok(http_request(&b, "PUT", "/vsock", "{}") == 0 &&
           strcmp(buf_cstr(&b), "PUT /vsock HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nContent-Type: "
                                "application/json\r\nContent-Length: 2\r\n\r\n{}") == 0,
       "a request has its body's length");
    static const char two[] = DONE REFUSED;
    ok(parse(two, sizeof(two) - 1, &h) == sizeof(DONE) - 1 && h.status == 204 && h.len == 0,
       "an answer without content ends with its head");
    bool waits = true;
    for (size_t n = 1; n < sizeof(REFUSED) - 1; n++)
        waits &= parse(REFUSED, n, &h) == 0;
    ok(waits && parse(REFUSED, sizeof(REFUSED) - 1, &h) == sizeof(REFUSED) - 1 && h.status == 400 && h.len == 38 &&
           memcmp(h.body, "{\"fault", 7) == 0,
       "an answer is taken when it is whole");
    static const struct {
        const char *text, *what;
    } bad[] = {
        {"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "of another version"},
        {"HTTP/1.1 20x OK\r\nContent-Length: 0\r\n\r\n", "whose status is no number"},
        {"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n", "that is not the last"},
        {"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n", "with content of unknown length"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "in chunks"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", "with two lengths"},
        {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "with a negative length"},
        {"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n", "with an empty length"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n", "that is too long"},
        {"{\"QMP\": {}}\r\n\r\n", "of another protocol"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        ok(parse(bad[i].text, strlen(bad[i].text), &h) == -EPROTO, "an answer %s is none", bad[i].what);
    static char long_head[HTTP_ANSWER_MAX + 1];
    memset(long_head, 'x', sizeof(long_head));
    ok(parse(long_head, sizeof(long_head), &h) == -EPROTO, "a head without an end is none");
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

static struct vmm_config config(void)
{
    return (struct vmm_config){
        .name = "web",
        .kernel = "/i/vmlinux",
        .kernel_offers = KERNEL_OFFER(KERNEL_MMIO_CMDLINE) | KERNEL_OFFER(KERNEL_VSOCK),
        .cmdline = "mvm.root=vda",
        .disks = {{.path = "/i/root \"fs\"", .read_only = true}, {.path = "/v/own", .discard = true}},
        .n_disks = 2,
        .memory_mib = 256,
        .vcpus = 2,
        .memory_fd = -1,
        .dir_fd = dir_fd,
        .accel = {.name = "kvm", .tsc_khz = 2000000},
    };
}

static void open_vmm(bool incoming)
{
    struct vmm_config c = config();
    int pair[2];
    c.incoming = incoming;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 || firecracker_open(pair[0], &c, &vmm) < 0)
        abort();
    ours = pair[0];
    theirs = pair[1];
    memset(&ended, 0, sizeof(ended));
}

static void close_vmm(void)
{
    firecracker_free(vmm);
    fd_closep(&ours);
    fd_closep(&theirs);
}

static bool says(const char *text)
{
    return firecracker_input(vmm, text, strlen(text));
}

/* What it was asked, into a static buffer: "" where nothing. */
static const char *heard(void)
{
    static char text[8192];
    ssize_t n = recv(theirs, text, sizeof(text) - 1, MSG_DONTWAIT);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static bool heard_all(const char *first, const char *body)
{
    const char *text = heard(), *blank = strstr(text, "\r\n\r\n");
    bool is = blank && strncmp(text, first, strlen(first)) == 0 && strcmp(blank + 4, body) == 0;
    if (!is)
        printf("# it was asked: %s\n", text);
    return is;
}

static void test_machine(void)
{
    open_vmm(false);
    ok(heard_all("PUT /machine-config ", "{\"vcpu_count\":2,\"mem_size_mib\":256}"),
       "a VMM that boots is told first what machine it is");
    ok(*heard() == '\0' && says("HTTP/1.1 20") && *heard() == '\0', "nothing else follows before its answer is whole");
    ok(says("4 \r\n\r\n") &&
           heard_all("PUT /boot-source ",
                     "{\"kernel_image_path\":\"\\/i\\/vmlinux\",\"boot_args\":\"console=ttyS0 quiet panic=-1 reboot=k "
                     "no_timer_check nokaslr mitigations=off random.trust_cpu=on i8042.noaux i8042.nomux "
                     "i8042.dumbkbd tsc_early_khz=2000000 tsc=reliable mvm.root=vda\"}"),
       "then what boots");
    ok(says(DONE) &&
           heard_all("PUT /vsock ", "{\"guest_cid\":3,\"uds_path\":\"\\/proc\\/self\\/fd\\/100\\/agent.sock\"}"),
       "then where its guest's agent connects");
    ok(says(DONE) && heard_all("PUT /entropy ", "{}") && says(DONE) &&
           heard_all("PUT /drives/disk0 ", "{\"drive_id\":\"disk0\",\"path_on_host\":\"\\/i\\/root \\\"fs\\\"\","
                                           "\"is_root_device\":false,\"is_read_only\":true,\"cache_type\":\"Unsafe\"}"),
       "then its disks, in order");
    ok(says(DONE) && strstr(heard(), "\"is_read_only\":false,\"cache_type\":\"Writeback\"") && says(DONE) &&
           heard_all("PUT /actions ", "{\"action_type\":\"InstanceStart\"}"),
       "and at last to start");
    ok(says(DONE) && *heard() == '\0' && !firecracker_facts(vmm)->problem[0], "when it runs nothing more is said");
    close_vmm();

    open_vmm(false);
    (void)heard();
    ok(says(REFUSED) && strcmp(firecracker_facts(vmm)->problem, "/machine-config: no such thing yet") == 0 &&
           *heard() == '\0',
       "a machine that it refuses is not started, and why is on one line: %s", firecracker_facts(vmm)->problem);
    close_vmm();

    open_vmm(false);
    ok(says("HTTP/1.1 400 \r\nContent-Length: 20\r\n\r\n{\"fault_message\":\"\"}") &&
           strcmp(firecracker_facts(vmm)->problem, "/machine-config: status 400") == 0,
       "words that say nothing are a refusal all the same");
    close_vmm();

    open_vmm(false);
    ok(!says("HELP\r\n\r\n") && strstr(firecracker_facts(vmm)->problem, "that is no answer"),
       "one that answers nonsense cannot run the guest");
    close_vmm();
}

static void start_all(void)
{
    open_vmm(false);
    for (int i = 0; i < 7; i++) {
        (void)heard();
        (void)!says(DONE);
    }
    (void)heard();
}

static void test_pause(void)
{
    start_all();
    ok(firecracker_pause(vmm, done) == 0 && heard_all("PATCH /vm ", "{\"state\":\"Paused\"}") &&
           firecracker_pause(vmm, done) == -EBUSY && ended.times == 0,
       "one command of a kind is taken at a time");
    ok(says(DONE) && is_over(1, 0) && firecracker_facts(vmm)->stopped_at, "its answer ends it: the processors stand");
    ok(firecracker_resume(vmm, done) == 0 && heard_all("PATCH /vm ", "{\"state\":\"Resumed\"}") && says(DONE) &&
           is_over(2, 0) && !firecracker_facts(vmm)->stopped_at,
       "resumed, they run");
    ok(firecracker_pause(vmm, done) == 0 && says(REFUSED) && is_over(3, -EIO) &&
           strcmp(ended.problem, "no such thing yet") == 0 && !firecracker_facts(vmm)->stopped_at,
       "a pause that is refused is none, with its reason");
    ok(!says(DONE), "an answer to nothing is not taken");
    close_vmm();
    start_all();
    (void)!firecracker_pause(vmm, done);
    firecracker_ended(vmm);
    ok(is_over(1, -EPIPE), "what is under way ends with the VMM");
    (void)!firecracker_pause(vmm, done);
    firecracker_mute(vmm);
    firecracker_ended(vmm);
    ok(ended.times == 1 && says(DONE), "of one that is muted nothing is heard");
    close_vmm();
    start_all();
    fd_closep(&theirs);
    ok(firecracker_pause(vmm, done) == -EPIPE && ended.times == 0, "one that has ended takes no command");
    ok(firecracker_ask_halted(vmm, done) == -ENOTSUP && firecracker_cannot(vmm) == -ENOTSUP,
       "what it has no request for is not taken");
    close_vmm();
}

static int in_folder(const char *name, int flags)
{
    CLEAN_FREE char *path = path_join(folder, "vmm", name, NULL);
    return open(path, flags | O_CLOEXEC, 0600);
}

static void put_state(const char *text)
{
    CLEAN_FD int fd = in_folder("state", O_WRONLY | O_CREAT | O_TRUNC);
    if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0)
        abort();
}

static bool has(int fd, const char *text)
{
    char got[64] = "";
    return pread(fd, got, sizeof(got) - 1, 0) == (ssize_t)strlen(text) && strcmp(got, text) == 0;
}

#define CREATE                                                                                                         \
    "{\"snapshot_type\":\"Full\",\"snapshot_path\":\"\\/proc\\/self\\/fd\\/100\\/state\",\"mem_file_path\":"           \
    "\"\\/proc\\/self\\/fd\\/101\"}"

static void test_save(void)
{
    CLEAN_FD int file = memfd_create("state", MFD_CLOEXEC);
    start_all();
    ok(firecracker_save(vmm, file, true, done) == -ENOTSUP, "a guest is not saved whole");
    ok(firecracker_save(vmm, file, false, done) == 0 && heard_all("PATCH /vm ", "{\"state\":\"Paused\"}") &&
           says(DONE) && heard_all("PUT /snapshot/create ", CREATE) && firecracker_facts(vmm)->stopped_at,
       "a guest is paused, then saved");
    put_state("what it was");
    ok(says(DONE) && is_over(1, 0) && has(file, "what it was") && faccessat(dir_fd, "vmm/state", F_OK, 0) < 0,
       "its state is taken out of the VMM's folder");
    ok(firecracker_save(vmm, file, false, done) == 0 && says(DONE) && says(REFUSED) && is_over(2, -EIO) &&
           strcmp(ended.problem, "no such thing yet") == 0,
       "a save that is refused has failed");
    ok(firecracker_save(vmm, file, false, done) == 0 && says(REFUSED) && is_over(3, -EIO),
       "so has one whose guest cannot be paused");
    (void)!firecracker_save(vmm, file, false, done);
    ok(says(DONE) && says(DONE) && is_over(4, -EIO) && strstr(ended.problem, "cannot be read"),
       "so has one that left no state");
    CLEAN_FREE char *link = path_join(folder, "vmm", "state", NULL);
    if (symlink("/etc/passwd", link) < 0)
        abort();
    (void)!firecracker_save(vmm, file, false, done);
    ok(says(DONE) && says(DONE) && is_over(5, -EIO), "or a link in its place");
    unlink(link);
    close_vmm();
}

static void test_restore(void)
{
    CLEAN_FD int file = memfd_create("state", MFD_CLOEXEC);
    if (fd_write_all(file, "saved", 5) < 0)
        abort();
    open_vmm(true);
    ok(*heard() == '\0', "a VMM that is to continue is told no machine");
    ok(firecracker_restore(vmm, file, true, done) == -ENOTSUP, "nor anything of a guest that was saved whole");
    ok(firecracker_restore(vmm, file, false, done) == 0 &&
           heard_all("PUT /snapshot/load ",
                     "{\"snapshot_path\":\"\\/proc\\/self\\/fd\\/100\\/state\",\"mem_backend\":"
                     "{\"backend_type\":\"File\",\"backend_path\":\"\\/proc\\/self\\/fd\\/101\"},"
                     "\"resume_vm\":false}"),
       "it loads the state, and stands still");
    CLEAN_FD int given = in_folder("state", O_RDONLY);
    ok(has(given, "saved") && says(DONE) && is_over(1, 0) && firecracker_facts(vmm)->stopped_at &&
           faccessat(dir_fd, "vmm/state", F_OK, 0) < 0,
       "which is in its folder for as long as that takes");
    (void)!firecracker_restore(vmm, file, false, done);
    ok(says(REFUSED) && is_over(2, -EIO) && strcmp(ended.problem, "no such thing yet") == 0,
       "a state that it refuses is told with its reason");
    close_vmm();
}

/* ---- The queue ---- */

static unsigned answers;

static void on_answer(void *owner, const char *path, const char *problem)
{
    struct api *a = owner;
    answers++;
    if (*problem)
        api_forget(a);
    else if (answers == 1)
        (void)!api_call(a, "GET", "/third", NULL, on_answer);
}

static void test_queue(void)
{
    struct api a;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        abort();
    theirs = pair[1];
    api_init(&a, pair[0], &a);
    ok(api_call(&a, "GET", "/first", NULL, on_answer) == 0 && api_call(&a, "GET", "/second", NULL, on_answer) == 0 &&
           strncmp(heard(), "GET /first ", 11) == 0,
       "requests wait for the answers of those before");
    ok(api_input(&a, DONE, sizeof(DONE) - 1) && answers == 1 && strncmp(heard(), "GET /second ", 12) == 0 && a.n == 2,
       "what an answer has asked for is behind them");
    ok(api_input(&a, REFUSED, sizeof(REFUSED) - 1) && answers == 2 && a.n == 0 && *heard() == '\0',
       "what is forgotten is not sent");
    int r = 0;
    for (unsigned i = 0; r == 0 && i <= API_CALLS; i++)
        r = api_call(&a, "GET", "/again", NULL, on_answer);
    ok(r == -EBUSY && a.n == API_CALLS, "a queue has an end");
    api_done(&a);
    close(pair[0]);
    fd_closep(&theirs);
}

/* ---- The program ---- */

static void put_program(const char *text)
{
    CLEAN_FREE char *path = path_join(folder, "firecracker", NULL);
    CLEAN_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0)
        abort();
}

static void test_versions(void)
{
    static const struct {
        const char *says;
        int r;
    } versions[] = {{"Firecracker v1.12.0", 0},        {"Firecracker v1.17.0-dev", 0},    {"Firecracker v2.0.0", 0},
                    {"Firecracker v1.11.2", -ENOTSUP}, {"Firecracker v0.25.0", -ENOTSUP}, {"something else", -ENOTSUP}};
    struct mvm_error e = MVM_ERROR_INIT;
    struct vmm_identity one = {0}, other = {0};
    char text[256];
    CLEAN_FREE char *path = strdup(getenv("PATH"));
    CLEAN_FREE char *both = NULL;
    setenv("PATH", folder, 1);
    ok(vmm_firecracker.available(NULL, &e) == -ENOENT && strstr(e.msg, "firecracker is not installed") && e.hint[0],
       "where it is missing that is said");
    if (asprintf(&both, "%s:%s", folder, path) < 0)
        abort();
    setenv("PATH", both, 1);
    for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
        snprintf(text, sizeof(text), "#!/bin/sh\necho '%s'\n", versions[i].says);
        put_program(text);
        e = (struct mvm_error)MVM_ERROR_INIT;
        ok(vmm_firecracker.available(NULL, &e) == versions[i].r &&
               (versions[i].r == 0 || (strstr(e.msg, versions[i].says) && strstr(e.msg, "1.12 or later"))),
           "%s is %s", versions[i].says, versions[i].r ? "refused by number" : "taken");
    }
    struct vmm_config c = config();
    ok(vmm_firecracker.identity(&c, &one, NULL) == 0 && one.backend[0] && one.cpu[0],
       "a snapshot depends on the program and the processor");
    c.kernel = "/j/vmlinux";
    c.accel.tsc_khz++;
    c.disks[1].path = "/v/another";
    ok(vmm_firecracker.identity(&c, &other, NULL) == 0 && strcmp(one.machine, other.machine) == 0,
       "names of files and the clock's rate are no part of what a machine is");
    c.n_disks = 1;
    ok(vmm_firecracker.identity(&c, &other, NULL) == 0 && strcmp(one.machine, other.machine) != 0,
       "a machine with a disk less is another");
    setenv("PATH", path, 1);
}

static void test_program(void)
{
    const struct program p = {.name = "firecracker", .hint = "get it"};
    const struct program none = {.name = "no-such-program", .hint = "get it"};
    struct mvm_error e = MVM_ERROR_INIT;
    struct vmm_config c = config();
    char text[64], path[FIRECRACKER_PATH_MAX];
    CLEAN_FREE char *old = strdup(getenv("PATH")), *both = NULL;
    if (asprintf(&both, "%s:%s", folder, old) < 0)
        abort();
    setenv("PATH", both, 1);
    put_program("#!/bin/sh\necho one\necho two\n");
    ok(program_available(&p, NULL) == 0 && program_version(&p, text, sizeof(text), NULL) == 0 &&
           strcmp(text, "one") == 0,
       "a program's version is the first line that it says");
    put_program("#!/bin/sh\nexit 4\n");
    ok(program_version(&p, text, sizeof(text), &e) == -EIO && strstr(e.msg, "exits with 4"), "one that fails is told");
    ok(program_available(&none, &e) == -ENOENT && strcmp(e.hint, "get it") == 0, "one that is missing, with a way out");
    ok(program_largest_file(&c) == (512ull + 1024) << 20, "a VMM's files have a bound");
    ok(!firecracker_part(&c, 6, true, path), "a machine with two disks has six parts");
    setenv("PATH", old, 1);
}

static void test_kernels(void)
{
    struct mvm_error e = MVM_ERROR_INIT;
    ok(vmm_firecracker.available("m68k", &e) == -ENOTSUP && strstr(e.msg, "for m68k") && strstr(e.hint, "qemu"),
       "a guest for other processors is refused, and who could run it is told");
    e = (struct mvm_error)MVM_ERROR_INIT;
    ok(vmm_refuse_kernel(0, "stone wants more", &e) == -ENOTSUP && strstr(e.msg, "offers nothing: stone wants more"),
       "a kernel is refused by what it offers and what is wanted");
    e = (struct mvm_error)MVM_ERROR_INIT;
    ok(vmm_firecracker.takes_kernel(NULL, KERNEL_OFFER(KERNEL_MMIO_ACPI) | KERNEL_OFFER(KERNEL_VSOCK), NULL) == 0,
       "a kernel with virtio sockets that finds its devices is taken");
    ok(vmm_firecracker.takes_kernel(NULL, KERNEL_OFFER(KERNEL_MMIO_ACPI) | KERNEL_OFFER(KERNEL_CONSOLE), &e) ==
               -ENOTSUP &&
           strstr(e.msg, "offers mmio-acpi, console: firecracker wants vsock and one of mmio-cmdline, mmio-acpi"),
       "one without them is not: %s", e.msg);
}

/* ---- The start ---- */

static const char listens[] = "#!/usr/bin/env python3\n"
                              "import socket, sys\n"
                              "s = socket.socket(socket.AF_UNIX)\n"
                              "s.bind(sys.argv[1])\n"
                              "s.listen(1)\n"
                              "c, _ = s.accept()\n"
                              "agent = socket.socket(socket.AF_UNIX)\n"
                              "agent.connect(sys.argv[2] + '_1024')\n"
                              "agent.sendall(c.recv(1))\n";

static void test_start(void)
{
    const struct program p = {.name = "firecracker", .hint = "get it", .sockets = true};
    const char *const argv[] = {"firecracker", SOCKET_VMM_FOLDER SOCKET_VMM_API, SOCKET_VMM_FOLDER SOCKET_VMM_VSOCK,
                                NULL};
    struct vmm_started s = VMM_STARTED_INIT;
    struct mvm_error e = MVM_ERROR_INIT;
    struct vmm_config c = config();
    CLEAN_FD int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    CLEAN_FREE char *path = strdup(getenv("PATH")), *both = NULL;
    if (asprintf(&both, "%s:%s", folder, path) < 0)
        abort();
    setenv("PATH", both, 1);
    c.console_fd = c.log_fd = null;
    put_program("#!/bin/sh\nexit 3\n");
    ok(socket_vmm_start(&c, &p, argv, &s, &e) == -ECHILD && strstr(e.msg, "before it took commands") &&
           s.process.pidfd == -1,
       "a VMM that ends at once is told: %s", e.msg);
    put_program(listens);
    int r = socket_vmm_start(&c, &p, argv, &s, &e);
    ok(r == 0 && s.control_fd >= 0 && s.listen_fd >= 0,
       "one that listens is spoken to, however long the paths are (%s)", e.msg);
    char byte = 0;
    struct pollfd there = {.fd = s.listen_fd, .events = POLLIN};
    bool told = r == 0 && write(s.control_fd, "x", 1) == 1 && poll(&there, 1, 20000) == 1;
    CLEAN_FD int agent = told ? accept(s.listen_fd, NULL, NULL) : -1;
    ok(read(agent, &byte, 1) == 1 && byte == 'x', "and its guest's agent comes to the host");
    process_done(&s.process);
    fd_closep(&s.control_fd);
    fd_closep(&s.listen_fd);
    c.confine = true;
    e = (struct mvm_error)MVM_ERROR_INIT;
    ok(socket_vmm_start(&c, &p, argv, &s, &e) < 0 && strstr(e.msg, "cannot be confined"),
       "a script is not started where VMMs have to be confined: %s", e.msg);
    setenv("PATH", path, 1);
}

int main(void)
{
    char deep[160];
    folder = tap_folder();
    memset(deep, 'd', sizeof(deep) - 1);
    deep[sizeof(deep) - 1] = '\0';
    CLEAN_FREE char *place = path_join(folder, deep, NULL);
    test_http();
    test_queue();
    dir_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    test_machine();
    test_pause();
    test_save();
    test_restore();
    test_versions();
    test_program();
    test_kernels();
    fd_closep(&dir_fd);
    if (mkdir(place, 0700) < 0)
        abort();
    dir_fd = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    test_start();
    fd_closep(&dir_fd);
    (void)!path_remove_tree(AT_FDCWD, folder);
    return tap_end();
}
