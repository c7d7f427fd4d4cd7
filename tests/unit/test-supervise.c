/*
 * A supervisor's whole life, and its parts one by one: the process itself (supervisor_main) in a child of this program,
 * a backend whose VMM is this program again (--guest), which plays VMM and agent and does what the VM's name says.
 */
#include "tap.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "host/os.h"
#include "machine/client.h"
#include "machine/machine.h"
#include "supervisor/internal.h"
#include "supervisor/supervisor.h"
#include "vmdir/vmdir.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static struct home home = HOME_INIT;
static const char *folder, *image;

/* ---- The guest ---- */

static int channel_fd, control_fd, console_fd;

static void send_text(uint8_t type, const void *p, size_t n)
{
    CLEAN_BUF struct buf b = BUF_INIT(FRAME_MAX_SIZE);
    if (frame_append(&b, type, 0, 0, p, (uint32_t)n) < 0 || fd_write_all(channel_fd, b.data, b.len) < 0)
        _exit(1);
}

#define SAY(name, ...)                                                                                                 \
    do {                                                                                                               \
        CLEAN_BUF struct buf b_ = BUF_INIT(4096);                                                                      \
        struct msg_##name m_ = {__VA_ARGS__};                                                                          \
        if (msg_##name##_encode(&b_, &m_) < 0)                                                                         \
            _exit(1);                                                                                                  \
        send_text(FRAME_MSG, b_.data, b_.len);                                                                         \
    } while (0)

/* Waits for a message of that type. */
static void await(uint8_t type)
{
    static uint8_t bytes[1 << 20];
    static size_t len;
    for (;;) {
        struct frame f;
        struct msg_reader m;
        const char *why;
        ssize_t n = frame_parse(bytes, len, &f, &why);
        if (n < 0)
            _exit(1);
        if (n > 0) {
            bool found = f.type == FRAME_MSG && msg_open(&m, f.payload, f.len) == 0 && m.type == type;
            len -= (size_t)n;
            memmove(bytes, bytes + n, len);
            if (found)
                return;
            continue;
        }
        ssize_t got = read(channel_fd, bytes + len, sizeof(bytes) - len);
        if (got <= 0)
            _exit(1);
        len += (size_t)got;
    }
}

static int guest(const char *name)
{
    alarm(60);
    if (strcmp(name, "panics") == 0)
        return fd_write_all(console_fd, "Kernel panic - not syncing: stone\n", 34) < 0;
    if (strcmp(name, "crashes") == 0)
        return 5;
    if (strcmp(name, "mute") == 0)
        pause();
    if (strcmp(name, "unfit") == 0) {
        if (write(control_fd, "no such device", 14) < 0)
            return 1;
        pause();
    }
    SAY(hello, .protocol = strcmp(name, "old") == 0 ? 99 : MVM_PROTOCOL_VERSION, .role = "runtime", .kernel = "6.1");
    await(MSG_CONFIGURE);
    bool services = strcmp(name, "services") == 0;
    SAY(configured, .address = "10.1.2.3", .services = services, .slow = services);
    if (services)
        SAY(services, .state = "failed", .problem = "web has ended");
    if (strcmp(name, "lies") == 0) {
        send_text(0x7f, "garbage", 7);
        pause();
    }
    await(MSG_POWEROFF);
    SAY(ending, .how = ENDING_OFF);
    return 0;
}

/* ---- The backend ---- */

static struct vmm_facts facts;

/* Its agent connects to where the VMM, which makes its own sockets, has it connect. */
static int connect_guest(const struct vmm_config *c, struct vmm_started *ret)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/agent.sock", c->dir_fd);
    ret->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(ret->listen_fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(ret->listen_fd, 1) < 0 ||
        connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
        abort();
    return fd;
}

static int start_guest(const struct vmm_config *c, struct vmm_started *ret, struct mvm_error *err)
{
    char fds[3][12];
    CLEAN_FD int own = strcmp(c->name, "connects") == 0 ? connect_guest(c, ret) : -1;
    const int keep[] = {own >= 0 ? own : c->channel_fd, c->control_fd, c->console_fd};
    for (size_t i = 0; i < 3; i++)
        snprintf(fds[i], sizeof(fds[i]), "%d", keep[i]);
    const char *const argv[] = {os_self_exe(), "--guest", c->name, fds[0], fds[1], fds[2], NULL};
    const struct process_opts o = {.argv = argv,
                                   .stdin_fd = -1,
                                   .stdout_fd = c->log_fd,
                                   .stderr_fd = c->log_fd,
                                   .keep_fds = keep,
                                   .n_keep_fds = 3,
                                   .cgroup_fd = c->cgroup_fd,
                                   .die_with_parent = true,
                                   .sibling = c->sibling};
    return process_start(&o, &ret->process, err);
}

static int open_handle(int fd, const struct vmm_config *c, struct vmm **ret)
{
    *ret = NULL;
    return 0;
}

static bool take_input(struct vmm *v, const void *p, size_t n)
{
    snprintf(facts.problem, sizeof(facts.problem), "%.*s", (int)n, (const char *)p);
    return true;
}

static const struct vmm_facts *tell_facts(const struct vmm *v)
{
    return &facts;
}

static int take_command(struct vmm *v, struct vmm_done d)
{
    return -ENOTSUP;
}

static int take_word(struct vmm *v)
{
    return -ENOTSUP;
}

static void take_end(struct vmm *v)
{
}

static const struct vmm_ops backend = {.name = "test",
                                       .start = start_guest,
                                       .open = open_handle,
                                       .input = take_input,
                                       .facts = tell_facts,
                                       .pause = take_command,
                                       .resume = take_command,
                                       .ask_halted = take_command,
                                       .quit = take_word,
                                       .ended = take_end,
                                       .mute = take_end,
                                       .free = take_end};

int __wrap_vmm_find(const char *name, const struct vmm_ops **ret, struct mvm_error *err);
int __wrap_vmm_find(const char *name, const struct vmm_ops **ret, struct mvm_error *err)
{
    *ret = &backend;
    return 0;
}

/* ---- The starter ---- */

struct started {
    pid_t pid;
    int starter, dir;
};

static struct runfile run_of(const char *name, bool transient)
{
    struct runfile run = {.memory_mib = 16,
                          .vcpus = 1,
                          .timeout_ms = strcmp(name, "mute") == 0 ? 300 : 20000,
                          .start_mono = clock_now(),
                          .started_at = clock_wall(),
                          .ready = READY_SERVICES,
                          .settle_ms = strcmp(name, "services") == 0,
                          .transient = transient};
    snprintf(run.name, sizeof(run.name), "%s", name);
    snprintf(run.role, sizeof(run.role), "runtime");
    snprintf(run.backend, sizeof(run.backend), "test");
    snprintf(run.hostname, sizeof(run.hostname), "%s", name);
    snprintf(run.image_path, sizeof(run.image_path), "%s", image);
    snprintf(run.accel.name, sizeof(run.accel.name), "tcg");
    return run;
}

/* Starts a supervisor as machine_start does, and takes its packet. */
static struct started start(const char *name, bool transient, struct msg_status *ret)
{
    struct started s = {.dir = -1};
    const struct runfile run = run_of(name, transient);
    CLEAN_LOCK struct lock lock = LOCK_INIT;
    CLEAN_FD int vms = vmdir_open_all(&home, NULL);
    int pair[2];
    uint8_t packet[FRAME_MAX_PAYLOAD];
    if (vms < 0 || vmdir_create(vms, name, &lock, &s.dir, NULL) < 0 || runfile_save(&run, s.dir, NULL) < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        abort();
    fflush(NULL);
    s.pid = fork();
    if (s.pid == 0) {
        char fds[3][12], *argv[] = {fds[0], fds[1], fds[2]};
        const int numbers[] = {s.dir, lock.fd, pair[1]};
        for (size_t i = 0; i < 3; i++)
            snprintf(fds[i], sizeof(fds[i]), "%d", numbers[i]);
        close(pair[0]);
        _exit(supervisor_main(3, argv));
    }
    close(pair[1]);
    s.starter = pair[0];
    struct pollfd p = {.fd = s.starter, .events = POLLIN};
    *ret = (struct msg_status){0};
    ssize_t n = poll(&p, 1, 40000) == 1 ? recv(s.starter, packet, sizeof(packet), 0) : -1;
    if (n <= 0 || msg_status_decode(ret, packet, (size_t)n) < 0)
        snprintf(ret->problem, sizeof(ret->problem), "no packet came");
    return s;
}

/* Its exit status, as soon as it has ended. */
static int end(struct started *s)
{
    int status = -1;
    fd_closep(&s->starter);
    for (int i = 0; i < 400 && waitpid(s->pid, &status, WNOHANG) == 0; i++)
        poll(NULL, 0, 50);
    if (status == -1)
        kill(s->pid, SIGKILL);
    fd_closep(&s->dir);
    return process_exit_code(status);
}

static bool has_folder(const char *name)
{
    CLEAN_FREE char *path = path_join("vms", name, NULL);
    return faccessat(home.state_fd, path, F_OK, 0) == 0;
}

static bool log_says(const char *name, const char *file, const char *words)
{
    CLEAN_BUF struct buf b = BUF_INIT(1 << 20);
    CLEAN_FREE char *path = path_join("vms", name, file, NULL);
    return path_read_file(home.state_fd, path, &b, NULL) == 0 && strstr(buf_cstr(&b), words);
}

/* ---- A life ---- */

static void test_life(void)
{
    struct msg_status st;
    struct machine_info info;
    struct started s = start("good", false, &st);
    ok(strcmp(st.state, "ready") == 0 && strcmp(st.mode, "cold") == 0 && strcmp(st.address, "10.1.2.3") == 0 &&
           st.ready_ns >= st.hello_ns && st.hello_ns && st.vmm_pid,
       "a VM whose agent is configured is ready: %s %s", st.state, st.problem);
    ok(machine_inspect(&home, "good", &info, NULL) == 0 && strcmp(info.state, "ready") == 0 &&
           info.status.vmm_pid == st.vmm_pid,
       "its supervisor tells so whoever asks");
    ok(log_says("good", VMDIR_AGENT, "agent of role runtime on Linux 6.1 is there"),
       "and has written down who is there");
    struct mvm_error e = MVM_ERROR_INIT;
    ok(machine_stop(&home, "good", 5000, &e) == 0 && end(&s) == 0 && !has_folder("good"),
       "a VM that is to stop powers off, and nothing of it is left (%s)", e.msg);
    ok(kill((pid_t)st.vmm_pid, 0) < 0 && errno == ESRCH, "its VMM neither");

    s = start("connects", false, &st);
    ok(strcmp(st.state, "ready") == 0 && strcmp(st.address, "10.1.2.3") == 0,
       "one whose agent connects to the host is ready as well (%s)", st.problem);
    ok(machine_stop(&home, "connects", 5000, &e) == 0 && end(&s) == 0, "and is asked to power off (%s)", e.msg);

    s = start("held", true, &st);
    ok(strcmp(st.state, "ready") == 0, "a transient VM is ready, too");
    ok(end(&s) == 0 && !has_folder("held"), "and ends with its starter");
}

static void test_ends(void)
{
    static const struct {
        const char *name, *words;
    } bad[] = {
        {"old", "speaks protocol 99"},
        {"mute", "was not ready within 0.3 s"},
        {"panics", "before its agent was ready: Kernel panic - not syncing: stone"},
        {"crashes", "ended with status 5 before the guest was ready"},
        {"unfit", "test: no such device"},
    };
    struct msg_status st;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct started s = start(bad[i].name, false, &st);
        ok(strcmp(st.state, "failed") == 0 && strstr(st.problem, bad[i].words), "a start that fails is told: %s",
           st.problem);
        ok(end(&s) == 0 && log_says(bad[i].name, VMDIR_LAST, bad[i].words) && log_says(bad[i].name, VMDIR_LAST, "true"),
           "and written down in the VM's folder");
    }
    struct started s = start("services", false, &st);
    ok(strcmp(st.state, "ready") == 0 && strcmp(st.services, "failed") == 0 &&
           strcmp(st.services_problem, "web has ended") == 0,
       "services that have failed are told to the starter");
    kill(s.pid, SIGTERM);
    ok(end(&s) == 0 && log_says("services", VMDIR_LAST, "stopped"), "a supervisor that is told to end stops its VM");

    struct machine_info info = {0};
    s = start("lies", false, &st);
    for (int i = 0; i < 100 && strcmp(info.state, "cut off") != 0; i++) {
        poll(NULL, 0, 50);
        (void)!machine_inspect(&home, "lies", &info, NULL);
    }
    ok(strcmp(info.state, "cut off") == 0 && strstr(info.status.problem, "the guest was cut off"),
       "a guest that breaks the protocol is cut off, and the VM stays: %s", info.status.problem);
    (void)!machine_stop(&home, "lies", 500, NULL);
    ok(end(&s) == 0, "until it is stopped");
    char none[] = "x", *argv[] = {none};
    ok(supervisor_main(1, argv) == 2, "a supervisor without its descriptors does nothing");
}

/* ---- Its parts ---- */

/* What a life without a VM asks for. */
static void on_life_changed(void *owner)
{
    struct supervisor *s = owner;
    snprintf(s->status.state, sizeof(s->status.state), "%s", vm_state_name(s->life.said));
}

static void on_life_failed(void *owner)
{
    starter_tell(owner);
}

static void on_life(void *owner)
{
}

static bool life_has_none(void *owner)
{
    return false;
}

static const struct life_ops life_ops = {.changed = on_life_changed,
                                         .failed = on_life_failed,
                                         .ending = on_life,
                                         .can_ask_guest = life_has_none,
                                         .writes_disk = life_has_none,
                                         .kill_vmm = on_life,
                                         .ended = life_has_none,
                                         .leave = on_life};

/* One without a VM, in a folder of its own. */
static void begin(struct supervisor *s, const char *name, int *ret_starter)
{
    int pair[2];
    CLEAN_FREE char *path = path_join("vms", name, "x", NULL);
    memset(s, 0, sizeof(*s));
    s->run = run_of(name, true);
    if (path_make_parents(home.state_fd, path, 0700) < 0 || (s->dirfd = vmdir_open(&home, name, NULL)) < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 || uv_loop_init(&s->loop) < 0)
        abort();
    s->console_log = (struct logfile)LOGFILE_INIT(s->dirfd, VMDIR_CONSOLE, 4096);
    s->agent_log = (struct logfile)LOGFILE_INIT(s->dirfd, VMDIR_AGENT, 4096);
    s->router = router_new(&supervisor_router_ops, s);
    s->launcher = (struct launcher)LAUNCHER_INIT;
    s->life = (struct life){.ops = &life_ops, .owner = s};
    life_init(&s->life, &s->loop);
    (void)life_happens(&s->life, LIFE_E_STARTED);
    uv_timer_init(&s->loop, &s->timer);
    if (requests_init(s) < 0)
        abort();
    connections_init(s);
    uv_timer_init(&s->loop, &s->idle);
    uv_timer_init(&s->loop, &s->channel_lost);
    s->timer.data = s->idle.data = s->channel_lost.data = s;
    uv_pipe_init(&s->loop, &s->starter, 0);
    s->starter.data = s;
    s->vm =
        (struct vm){.loop = &s->loop, .run = &s->run, .launcher = &s->launcher, .dirfd = s->dirfd, .backend = &backend};
    run_state_init(&s->vm.processors, &s->loop);
    uv_timer_init(&s->loop, &s->vm.timer);
    if (uv_pipe_open(&s->starter, pair[1]) < 0)
        abort();
    *ret_starter = pair[0];
}

static bool told(int starter, struct msg_status *ret)
{
    uint8_t packet[FRAME_MAX_PAYLOAD];
    ssize_t n = recv(starter, packet, sizeof(packet), MSG_DONTWAIT);
    return n > 0 && msg_status_decode(ret, packet, (size_t)n) == 0;
}

static int agent_says(struct supervisor *s, struct buf *b, int encoded)
{
    return encoded < 0 ? encoded : guest_msg(s, b->data, b->len);
}

static void test_parts(void)
{
    static struct supervisor s;
    struct msg_status st;
    int starter;
    begin(&s, "parts", &starter);
    CLEAN_BUF struct buf m = BUF_INIT(4096);
    ok(guest_msg(&s, "\xff", 1) == -EPROTO, "an agent that says no message breaks the protocol");
    struct msg_log line = {0};
    snprintf(line.text, sizeof(line.text), "a line of the agent");
    ok(agent_says(&s, &m, msg_log_encode(&m, &line)) == 0 && log_says("parts", VMDIR_AGENT, "a line of the agent\n"),
       "its lines are a log");
    ok(!told(starter, &st), "the starter hears nothing yet");
    starter_fail(&s, "it is %s", "broken");
    ok(told(starter, &st) && strcmp(st.state, "failed") == 0 && strcmp(st.problem, "it is broken") == 0,
       "a failure is told");
    starter_say_ready(&s);
    starter_fail(&s, "again");
    ok(!told(starter, &st), "the starter is told once");

    ok(connections_listen(&s) == 0 && log_says("parts", VMDIR_AGENT, "broken"), "clients can come");
    struct stat sock;
    ok(fstatat(s.dirfd, VMDIR_SOCKET, &sock, 0) == 0 && S_ISSOCK(sock.st_mode) && (sock.st_mode & 0777) == 0600,
       "the user's alone");
    struct client *c = NULL;
    int r = client_connect(&home, "parts", &c, NULL);
    for (int i = 0; i < 100 && !s.clients.n; i++)
        uv_run(&s.loop, UV_RUN_NOWAIT);
    ok(r == 0 && s.clients.n == 1, "a client is one of them");
    CLEAN_BUF struct buf request = BUF_INIT(64);
    uint32_t stream = 0;
    struct client_event e = {0};
    if (msg_begin(&request, MSG_PAUSE) < 0 || client_open(c, &request, &stream, NULL) < 0)
        abort();
    bool came = false;
    for (int i = 0; i < 200 && !came; i++) {
        uv_run(&s.loop, UV_RUN_NOWAIT);
        (void)!client_poll(c, NULL, 0, clock_deadline(20), NULL);
        came = client_next(c, &e);
    }
    struct msg_exit x = {0};
    ok(came && e.kind == CLIENT_RECORD && msg_exit_decode(&x, e.data, e.len) == 0 && x.code &&
           strcmp(x.problem, "the vm is not ready") == 0,
       "a VM that is not ready is not paused: %s", x.problem);
    ok(!requests_request(&s, NULL, 1, "\xff", 1), "what is no request is not answered");
    client_free(c);
    for (int i = 0; i < 100 && s.clients.n; i++)
        uv_run(&s.loop, UV_RUN_NOWAIT);
    ok(s.clients.n == 0, "a client that leaves is none any more");
    ending_remove_traces(&s);
    ok(has_folder("parts") && fstatat(s.dirfd, VMDIR_SOCKET, &sock, 0) < 0,
       "a transient VM that has failed leaves its folder, without a socket");
    s.life.said = VM_STATE_STOPPING;
    ending_remove_traces(&s);
    ok(!has_folder("parts"), "one that has not leaves nothing");
    close(starter);
}

/* A VMM on a loop: what it says, and its end. */
struct seen {
    char console[256];
    int status;
};

static void on_console(void *owner, const void *p, size_t n)
{
    struct seen *seen = owner;
    strncat(seen->console, p, MIN_OF(n, sizeof(seen->console) - strlen(seen->console) - 1));
}

static void on_ended(void *owner, struct vmm_process *i)
{
    struct seen *seen = owner;
    vmm_process_drain(i);
    seen->status = i->process.status;
}

static ssize_t on_frames(struct conn *c, uint8_t *p, size_t n, const char **ret_why)
{
    return (ssize_t)n;
}

static void on_gone(struct conn *c)
{
    struct vmm_process **p = c->owner;
    (*p)->channel = NULL;
}

static void test_vmm_process(void)
{
    static const struct vmm_process_ops ops = {.console = on_console, .ended = on_ended};
    static const struct conn_ops channel = {.frames = on_frames, .gone = on_gone};
    static const struct vmm_source source = {.memory_fd = -1};
    struct runfile run = run_of("panics", false);
    struct launcher l = LAUNCHER_INIT;
    struct vmm_process *p = NULL;
    struct seen seen = {.status = -1};
    struct mvm_error e = MVM_ERROR_INIT;
    uv_loop_t loop;
    CLEAN_FD int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (uv_loop_init(&loop) < 0 || launch_make_card(&l.frames_fd, &l.network_frames_fd) < 0)
        abort();
    ok(vmm_process_start(&p, &loop, &backend, &l, &run, &source, dir, &ops, &seen, &channel, &p, &e) < 0 && !p &&
           strstr(e.msg, "the launcher does not answer"),
       "without a launcher no VMM starts: %s", e.msg);
    launcher_stop(&l);
    ok(launcher_start(&l, &run, dir, &e) == 0, "a launcher is a process (%s)", e.msg);
    int r = vmm_process_start(&p, &loop, &backend, &l, &run, &source, dir, &ops, &seen, &channel, &p, &e);
    if (r == 0)
        uv_run(&loop, UV_RUN_DEFAULT);
    ok(r == 0 && WIFEXITED(seen.status) && WEXITSTATUS(seen.status) == 0, "which starts a VMM, whose end is heard (%s)",
       e.msg);
    ok(strstr(seen.console, "Kernel panic - not syncing: stone") != NULL, "with its last words");
    struct vmm_source elsewhere = source;
    elsewhere.store_path = "/etc/passwd";
    CLEAN_LAUNCHED struct launched launched = LAUNCHED_INIT;
    e = (struct mvm_error)MVM_ERROR_INIT;
    ok(launcher_launch(&l, &elsewhere, &launched, &e) == -EPERM && strstr(e.msg, "does not follow"),
       "and no VMM with another's files: %s", e.msg);
    launcher_stop(&l);
    ok(l.fd == -1 && uv_loop_close(&loop) == 0, "nothing of it is left on the loop");
}

/* What a supervisor may still do, in a child: the bits of it. */
static void test_confine(void)
{
    static struct supervisor s;
    CLEAN_FREE char *path = path_join("vms", "confined", "x", NULL);
    CLEAN_FREE char *own = path_join(home.state, "vms/confined/own", NULL);
    CLEAN_FREE char *other = path_join(folder, "other", NULL);
    s.run = run_of("confined", false);
    if (path_make_parents(home.state_fd, path, 0700) < 0)
        abort();
    s.dirfd = vmdir_open(&home, "confined", NULL);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        if (supervisor_confine(&s, NULL) < 0)
            _exit(128);
        int can = open(own, O_WRONLY | O_CREAT, 0600) >= 0 ? 1 : 0;
        can |= open(image, O_RDONLY | O_DIRECTORY) >= 0 ? 2 : 0;
        can |= open(other, O_WRONLY | O_CREAT, 0600) >= 0 ? 4 : 0;
        can |= socket(AF_INET, SOCK_STREAM, 0) >= 0 ? 8 : 0;
        _exit(can | (s.jail.landlock ? 16 : 0));
    }
    int status = -1;
    waitpid(pid, &status, 0);
    int can = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    ok(can == (16 | 3) || can == (4 | 3), "a confined supervisor has its folder and the image, and no network (%d)",
       can);
}

int main(int argc, char **argv)
{
    if (argc == 6 && strcmp(argv[1], "--guest") == 0) {
        channel_fd = atoi(argv[3]);
        control_fd = atoi(argv[4]);
        console_fd = atoi(argv[5]);
        return guest(argv[2]);
    }
    folder = tap_folder();
    CLEAN_FREE char *state = path_join(folder, "state", NULL), *cache = path_join(folder, "cache", NULL);
    CLEAN_FREE char *images = path_join(folder, "image", NULL);
    image = images;
    setenv("MVM_HOME", state, 1);
    setenv("MVM_CACHE_DIR", cache, 1);
    if (mkdir(images, 0755) < 0 || home_open(&home, NULL) < 0)
        abort();
    test_vmm_process();
    test_confine();
    test_parts();
    test_life();
    test_ends();
    home_done(&home);
    (void)!path_remove_tree(AT_FDCWD, folder);
    return tap_end();
}
