/*
 * Serving MSG_EXEC: a program with its input, output, terminal, signals and exit status.
 *
 * One loop moves bytes. Nothing in it blocks: a packet that a slow program does not read waits here while output goes
 * on, and output that the host does not take waits here while signals still arrive.
 */
#include "guest/exec.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/process.h"
#include "guest/boot.h"
#include "guest/conf.h"
#include "guest/oom.h"
#include "guest/spawn.h"
#include "guest/worker_io.h"
#include "wire/frame.h"
#include "wire/msg.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* After the program's end its output is read until it falls silent for this long: a process that it left in the
 * background may keep the pipe open for ever. */
#define LINGER_MS 50

struct session {
    int sock;
    pid_t pid;
    int pidfd;
    int in, out, err; /* our ends; the terminal is `in` and `out` in one */
    bool terminal;
    struct buf input; /* what the program has not taken yet */
    bool input_ended;
    bool host_closed; /* the stream's half close: nothing more comes */
    uint8_t output[1 + FRAME_MAX_PAYLOAD / 2];
    size_t output_len; /* a packet that the socket did not take; 0 for none */
    bool ended;
    int status;
};

static volatile sig_atomic_t child_pid;

/* The stream was reset: nobody waits for the program any more. */
static void on_term(int sig)
{
    if (child_pid > 0)
        kill(-(pid_t)child_pid, SIGKILL);
    _exit(0);
}

static void close_input(struct session *s)
{
    if (s->in < 0)
        return;
    if (s->terminal) {
        /* End of file on a terminal is a character. */
        (void)!write(s->in, "\4", 1);
        s->in = -1;
        return;
    }
    fd_closep(&s->in);
}

static void feed(struct session *s)
{
    while (s->in >= 0 && s->input.len) {
        ssize_t n = write(s->in, s->input.data, s->input.len);
        if (n > 0)
            buf_drop(&s->input, (size_t)n);
        else if (errno == EAGAIN)
            return;
        else if (errno != EINTR)
            fd_closep(&s->in); /* the program does not read any more */
    }
    if (s->in < 0)
        buf_clear(&s->input);
    if (s->input_ended && s->input.len == 0)
        close_input(s);
}

static void on_message(struct session *s, const uint8_t *p, size_t n)
{
    struct msg_reader r;
    struct msg_signal sig = {0};
    struct msg_winsize w = {0};
    if (msg_open(&r, p, n) < 0)
        return;
    if (r.type == MSG_EOF)
        s->input_ended = true;
    if (r.type == MSG_SIGNAL && msg_signal_decode(&sig, p, n) == 0 && sig.number > 0 && sig.number < NSIG)
        kill(-s->pid, (int)sig.number);
    if (r.type == MSG_WINSIZE && s->terminal && msg_winsize_decode(&w, p, n) == 0) {
        struct winsize ws = {.ws_row = (unsigned short)w.rows, .ws_col = (unsigned short)w.cols};
        ioctl(s->out, TIOCSWINSZ, &ws);
    }
}

static void on_packet(struct session *s)
{
    static uint8_t packet[1 + FRAME_MAX_PAYLOAD];
    ssize_t n = fd_recv_packet(s->sock, packet, sizeof(packet), MSG_DONTWAIT);
    if (n == -EAGAIN)
        return;
    if (n <= 0) {
        s->input_ended = s->host_closed = true;
    } else if (packet[0] == CHAN_OUT && s->in >= 0) {
        if (buf_append(&s->input, packet + 1, (size_t)n - 1) < 0)
            fd_closep(&s->in);
    } else if (packet[0] == CHAN_MSG) {
        on_message(s, packet + 1, (size_t)n - 1);
    }
    feed(s);
}

/* Sends the waiting packet; true where none waits any more. */
static bool flush(struct session *s)
{
    while (s->output_len) {
        if (send(s->sock, s->output, s->output_len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
            s->output_len = 0;
        else if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM)
            return false;
        else if (errno != EINTR)
            on_term(0); /* the agent has gone: nobody wants the output */
    }
    return true;
}

/* True where bytes moved. */
static bool take_output(struct session *s, int *fd, uint8_t channel)
{
    ssize_t n = read(*fd, s->output + 1, sizeof(s->output) - 1);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        if (s->terminal)
            s->in = -1;
        fd_closep(fd);
        return false;
    }
    s->output[0] = channel;
    s->output_len = 1 + (size_t)n;
    flush(s);
    return true;
}

static void loop(struct session *s)
{
    uint64_t deadline = 0;
    for (;;) {
        bool sending = s->output_len > 0;
        struct pollfd p[5] = {
            {.fd = s->sock, .events = (short)((s->input.len || s->host_closed ? 0 : POLLIN) | (sending ? POLLOUT : 0))},
            {.fd = s->ended ? -1 : s->pidfd, .events = POLLIN},
            {.fd = sending ? -1 : s->out, .events = POLLIN},
            {.fd = sending ? -1 : s->err, .events = POLLIN},
            {.fd = s->input.len ? s->in : -1, .events = POLLOUT},
        };
        if (s->ended && !sending && s->out < 0 && s->err < 0)
            return;
        if (p[0].events == 0)
            p[0].fd = -1;
        int n = poll(p, 5, s->ended && !sending ? clock_left_ms(deadline) : -1);
        if (n == 0)
            return;
        if (n < 0)
            continue;
        if (p[1].revents && waitpid(s->pid, &s->status, WNOHANG) == s->pid) {
            s->ended = true;
            child_pid = 0;
        }
        if (sending && p[0].revents & (POLLOUT | POLLHUP | POLLERR))
            flush(s);
        if (p[0].revents & (POLLIN | POLLHUP) && !s->host_closed && !s->input.len)
            on_packet(s);
        if (p[4].revents)
            feed(s);
        bool moved = false;
        if (p[2].revents && s->output_len == 0)
            moved |= take_output(s, &s->out, CHAN_OUT);
        if (p[3].revents && s->output_len == 0)
            moved |= take_output(s, &s->err, CHAN_ERR);
        if (s->ended && (moved || deadline == 0))
            deadline = clock_deadline(LINGER_MS);
    }
}

static int make_pipes(int fds[3][2])
{
    for (int i = 0; i < 3; i++)
        if (pipe2(fds[i], O_CLOEXEC) < 0)
            return -errno;
    return 0;
}

static pid_t start_piped(struct session *s, struct spawn *sp)
{
    int fds[3][2];
    int r = make_pipes(fds);
    if (r < 0)
        return r;
    sp->in = fds[0][0];
    sp->out = fds[1][1];
    sp->err = fds[2][1];
    pid_t pid = spawn_start(sp);
    close(fds[0][0]);
    close(fds[1][1]);
    close(fds[2][1]);
    s->in = fds[0][1];
    s->out = fds[1][0];
    s->err = fds[2][0];
    return pid;
}

static pid_t start_on_terminal(struct session *s, struct spawn *sp, const struct msg_exec *m)
{
    struct winsize ws = {.ws_row = (unsigned short)m->rows, .ws_col = (unsigned short)m->cols};
    int master, slave;
    if (openpty(&master, &slave, NULL, NULL, m->rows && m->cols ? &ws : NULL) < 0)
        return -errno;
    if (fd_set_cloexec(master, true) < 0 || fd_set_cloexec(slave, true) < 0)
        return -errno;
    if (fchown(slave, sp->user->uid, (gid_t)-1) < 0)
        boot_log("terminal: %s", strerror(errno));
    sp->in = sp->out = sp->err = slave;
    sp->terminal = true;
    pid_t pid = spawn_start(sp);
    close(slave);
    s->terminal = true;
    s->in = s->out = master;
    s->err = -1;
    return pid;
}

void exec_serve(int sock, const struct msg_exec *m, const struct guest_conf *conf)
{
    static struct session s;
    struct user user;
    s = (struct session){.sock = sock, .input = BUF_INIT(FRAME_MAX_PAYLOAD)};
    struct sigaction sa = {.sa_handler = on_term};
    sigaction(SIGTERM, &sa, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (user_load(&user, m->user ? m->user : "root") < 0)
        worker_exit(sock, 126, "no such user in the guest");
    struct spawn_failure failure = {0};
    struct spawn sp = {
        .failure = &failure, .argv = m->argv.v, .env = {&conf->env, &m->env}, .user = &user, .cwd = m->cwd};
    s.pid = m->terminal ? start_on_terminal(&s, &sp, m) : start_piped(&s, &sp);
    char why[512] = "";
    if (s.pid < 0)
        worker_exit(sock, (uint64_t)spawn_describe(&sp, s.pid, why, sizeof(why)), why);
    child_pid = s.pid;
    s.pidfd = (int)syscall(SYS_pidfd_open, s.pid, 0);
    if (s.pidfd < 0 || fd_set_nonblock(s.out, true) < 0 || fd_set_nonblock(s.in, true) < 0 ||
        (s.err >= 0 && fd_set_nonblock(s.err, true) < 0)) {
        kill(-s.pid, SIGKILL);
        worker_exit(sock, 125, "the guest has no room to run a program");
    }
    loop(&s);
    if (WIFSIGNALED(s.status) && WTERMSIG(s.status) == SIGKILL && oom_killed(s.pid))
        snprintf(why, sizeof(why), "%.150s was killed by signal 9 (KILL): the guest ran out of memory", m->argv.v[0]);
    worker_exit(sock, (uint64_t)process_exit_code(s.status), why);
}
