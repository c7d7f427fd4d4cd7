/*
 * A program in a VM as if it ran here: one loop between this process's descriptors and the stream. Standard input is
 * read only while the stream takes records; output is written as it comes, blocking, because the reader's pace is ours.
 * Signals are forwarded; with a terminal the keys are, raw, and its settings come back on every way out.
 *
 * It ends in time whatever guest and supervisor do: SIGTERM, SIGHUP and a second SIGINT give the program, and the host,
 * INTERRUPT_GRACE_MS (base/interrupt.h). On a raw terminal Ctrl-C is a key like others, so there it is the second one
 * that stays without a byte of an answer.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/process.h"
#include "cli/cli.h"
#include "host/interrupt.h"
#include "machine/client.h"
#include "machine/request.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define STDIN_CHUNK (32 * 1024)
#define CTRL_C      3

static struct termios saved;
static volatile bool raw;

static void restore_terminal(void)
{
    if (raw)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
    raw = false;
}

/* In a signal handler, and without waiting for output to drain. */
static void restore_terminal_now(void)
{
    if (raw)
        tcsetattr(STDIN_FILENO, TCSANOW, &saved);
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
    int signals;            /* see interrupt_forward */
    uint64_t unsent;        /* signals that the stream had no room for yet: a bit for each number */
    unsigned unanswered;    /* Ctrl-C keys since the guest said something */
    uint64_t give_up_after; /* clock.h; 0: not now */
    struct mvm_error *err;
};

static void send_message(struct io *io, const struct buf *b)
{
    (void)!client_send(io->c, io->stream, CHAN_MSG, b->data, b->len);
}

static void send_signal(struct io *io, int number)
{
    CLEAN_BUF struct buf b = BUF_INIT(256);
    struct winsize ws;
    if (number == SIGWINCH) {
        if (io->terminal && ioctl(STDIN_FILENO, TIOCGWINSZ, &ws) == 0) {
            const struct msg_winsize m = {.rows = ws.ws_row, .cols = ws.ws_col};
            if (msg_winsize_encode(&b, &m) == 0)
                send_message(io, &b);
        }
        return;
    }
    const struct msg_signal m = {.number = (uint64_t)number};
    if (msg_signal_encode(&b, &m) == 0)
        send_message(io, &b);
}

/* A stream that is full takes them later: waiting for room here would keep the program from getting rid of its output,
 * without which it may never read its input. */
static void forward_signals(struct io *io)
{
    uint8_t numbers[64];
    ssize_t n = read(io->signals, numbers, sizeof(numbers));
    for (ssize_t i = 0; i < n; i++)
        io->unsent |= 1ull << (numbers[i] & 63);
    for (int number = 1; number < 64; number++) {
        if (!(io->unsent >> number & 1) || !client_can_send(io->c, io->stream))
            continue;
        io->unsent &= ~(1ull << number);
        send_signal(io, number);
    }
}

/* The keys of one read: a Ctrl-C that follows an unanswered one begins the end. */
static void watch_keys(struct io *io, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] == CTRL_C && ++io->unanswered == 2)
            io->give_up_after = clock_deadline(INTERRUPT_GRACE_MS);
}

/* A message, not the stream's half close: signals may still follow. */
static void end_input(struct io *io)
{
    CLEAN_BUF struct buf b = BUF_INIT(16);
    io->input_open = false;
    if (msg_begin(&b, MSG_EOF) == 0)
        send_message(io, &b);
}

static void forward_input(struct io *io)
{
    uint8_t chunk[STDIN_CHUNK];
    if (!client_can_send(io->c, io->stream))
        return;
    ssize_t n = read(STDIN_FILENO, chunk, sizeof(chunk));
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n > 0) {
        if (io->terminal)
            watch_keys(io, chunk, (size_t)n);
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
    io->unanswered = 0;
    io->give_up_after = 0;
    if (e->kind == CLIENT_RESET)
        return mvm_error_set(io->err, -EPIPE, "%.300s", (const char *)e->data);
    if (e->kind == CLIENT_CLOSED)
        return io->done ? 0 : mvm_error_set(io->err, -EPIPE, "the agent ended the stream without an exit status");
    if (e->channel == CHAN_MSG)
        return on_exit_message(io, e);
    int fd = e->channel == CHAN_ERR ? STDERR_FILENO : STDOUT_FILENO;
    int r = fd_write_all(fd, e->data, e->len);
    if (r == -EPIPE) { /* nobody reads: as a local program would end */
        io->done = true;
        io->code = 128 + SIGPIPE;
        return 0;
    }
    return r < 0 ? mvm_error_errno(io->err, r,
                                   fd == STDERR_FILENO ? "cannot write standard error" : "cannot write standard output")
                 : 0;
}

static int wait_for_more(struct io *io)
{
    bool room = client_can_send(io->c, io->stream);
    struct pollfd extra[2] = {
        {.fd = io->signals, .events = POLLIN},
        {.fd = io->input_open && room ? STDIN_FILENO : -1, .events = POLLIN},
    };
    int r = client_poll(io->c, extra, 2, io->give_up_after, io->err);
    if (r == -ETIMEDOUT) {
        io->done = true;
        io->code = 128 + SIGINT;
        ui_say("the guest did not answer Ctrl-C");
        return 0;
    }
    if (r < 0 && r != -EINTR)
        return r;
    if (extra[0].revents || (io->unsent && room))
        forward_signals(io);
    if (extra[1].revents)
        forward_input(io);
    return 0;
}

static int loop(struct io *io)
{
    while (!io->done) {
        int r = wait_for_more(io);
        struct client_event e;
        while (r == 0 && !io->done && client_next(io->c, &e))
            r = on_event(io, &e);
        if (r < 0)
            return r;
    }
    return 0;
}

int exec_in_vm(struct client *c, const struct msg_exec *m, bool input, int *ret_code, struct mvm_error *err)
{
    struct io io = {.c = c, .terminal = m->terminal, .input_open = input, .err = err};
    CLEAN_BUF struct buf request = BUF_INIT(MSG_LONG_MAX);
    int r = msg_exec_encode(&request, m);
    if (r < 0)
        return mvm_error_errno(err, r == -EMSGSIZE ? -E2BIG : r, "the command");
    io.signals = interrupt_forward(restore_terminal_now);
    if (io.signals < 0)
        return mvm_error_errno(err, io.signals, "cannot take signals");
    if (m->terminal)
        make_raw();
    r = request_open(c, &request, &io.stream, err);
    if (r == 0 && !input)
        end_input(&io);
    if (r == 0)
        r = loop(&io);
    restore_terminal();
    *ret_code = io.code;
    return r;
}
