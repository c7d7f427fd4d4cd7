/*
 * A program in a VM as if it ran here: one loop between this process's descriptors and the stream. Standard input is
 * read only while the stream takes records; output is written as it comes, blocking, because the reader's pace is ours.
 * Signals are forwarded; with a terminal the keys are, raw, and its settings come back on every way out.
 */
#include "base/fd.h"
#include "base/process.h"
#include "cli/cli.h"
#include "machine/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#define STDIN_CHUNK (32 * 1024)

static struct termios saved;
static bool raw;

static void restore_terminal(void)
{
    if (raw)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
    raw = false;
}

static void make_raw(void)
{
    if (tcgetattr(STDIN_FILENO, &saved) < 0)
        return;
    struct termios t = saved;
    cfmakeraw(&t);
    raw = tcsetattr(STDIN_FILENO, TCSADRAIN, &t) == 0;
    atexit(restore_terminal);
}

struct io {
    struct client *c;
    uint32_t stream;
    bool terminal, input_open, done;
    int code;
    int signals;
    struct mvm_error *err;
};

static int send_message(struct io *io, const struct buf *b)
{
    return client_send(io->c, io->stream, CHAN_MSG, b->data, b->len);
}

static void forward_signal(struct io *io)
{
    struct signalfd_siginfo info;
    CLEAN_BUF struct buf b = BUF_INIT(256);
    if (read(io->signals, &info, sizeof(info)) != sizeof(info))
        return;
    struct winsize ws;
    if (info.ssi_signo == SIGWINCH) {
        if (io->terminal && ioctl(STDIN_FILENO, TIOCGWINSZ, &ws) == 0) {
            const struct msg_winsize m = {.rows = ws.ws_row, .cols = ws.ws_col};
            if (msg_winsize_encode(&b, &m) == 0)
                (void)!send_message(io, &b);
        }
        return;
    }
    const struct msg_signal m = {.number = info.ssi_signo};
    if (msg_signal_encode(&b, &m) == 0)
        (void)!send_message(io, &b);
}

/* A message, not the stream's half close: signals may still follow. */
static void end_input(struct io *io)
{
    CLEAN_BUF struct buf b = BUF_INIT(16);
    io->input_open = false;
    if (msg_begin(&b, MSG_EOF) == 0)
        (void)!send_message(io, &b);
}

static void forward_input(struct io *io)
{
    uint8_t chunk[STDIN_CHUNK];
    ssize_t n = read(STDIN_FILENO, chunk, sizeof(chunk));
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n > 0) {
        (void)!client_send(io->c, io->stream, CHAN_OUT, chunk, (size_t)n);
        return;
    }
    end_input(io);
}

static int on_exit_message(struct io *io, const struct client_event *e)
{
    struct msg_exit m = {0};
    int r = msg_exit_decode(&m, e->data, e->len);
    if (r < 0)
        return mvm_error_errno(io->err, r, "the agent's answer");
    io->done = true;
    io->code = (int)m.code;
    if (m.problem[0] && m.code == 125)
        return mvm_error_set(io->err, -ECHILD, "%s", m.problem);
    if (m.problem[0]) {
        restore_terminal();
        ui_say("%s", m.problem);
    }
    return 0;
}

static int on_event(struct io *io, const struct client_event *e)
{
    if (e->stream != io->stream)
        return 0;
    if (e->kind == CLIENT_RESET)
        return mvm_error_set(io->err, -EPIPE, "%.300s", (const char *)e->data);
    if (e->kind == CLIENT_CLOSED)
        return io->done ? 0 : mvm_error_set(io->err, -EPIPE, "the agent ended the stream without an exit status");
    if (e->channel == CHAN_MSG)
        return on_exit_message(io, e);
    int fd = e->channel == CHAN_ERR ? STDERR_FILENO : STDOUT_FILENO;
    int r = fd_write_all(fd, e->data, e->len);
    if (r == -EAGAIN) { /* somebody made our output non-blocking */
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        (void)!poll(&p, 1, -1);
        r = 0;
    }
    if (r == -EPIPE) { /* nobody reads: as a local program would end */
        io->done = true;
        io->code = 128 + SIGPIPE;
        return 0;
    }
    return r < 0 ? mvm_error_errno(io->err, r,
                                   fd == STDERR_FILENO ? "cannot write standard error" : "cannot write standard output")
                 : 0;
}

static int loop(struct io *io)
{
    while (!io->done) {
        bool take = io->input_open && client_can_send(io->c, io->stream);
        struct pollfd extra[2] = {
            {.fd = io->signals, .events = POLLIN},
            {.fd = take ? STDIN_FILENO : -1, .events = POLLIN},
        };
        int r = client_poll(io->c, extra, 2, 0, io->err);
        if (r < 0)
            return r;
        if (extra[0].revents)
            forward_signal(io);
        if (extra[1].revents)
            forward_input(io);
        struct client_event e;
        while (!io->done && client_next(io->c, &e)) {
            r = on_event(io, &e);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

int exec_in_vm(struct client *c, const struct msg_exec *m, bool input, int *ret_code, struct mvm_error *err)
{
    struct io io = {.c = c, .terminal = m->terminal, .input_open = input, .err = err, .signals = -1};
    CLEAN_BUF struct buf request = BUF_INIT(FRAME_MAX_PAYLOAD);
    int r = msg_exec_encode(&request, m);
    if (r < 0)
        return mvm_error_errno(err, r == -EMSGSIZE ? -E2BIG : r, "the command");
    sigset_t set;
    sigemptyset(&set);
    static const int forwarded[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH};
    for (size_t i = 0; i < ARRAY_SIZE(forwarded); i++)
        sigaddset(&set, forwarded[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    CLEAN_FD int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    io.signals = signals;
    if (m->terminal)
        make_raw();
    r = client_open(c, &request, &io.stream, err);
    if (r == 0 && !input)
        end_input(&io);
    if (r == 0)
        r = loop(&io);
    restore_terminal();
    *ret_code = io.code;
    return r;
}
