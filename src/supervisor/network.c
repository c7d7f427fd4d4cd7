#include "supervisor/network.h"
#include "base/clock.h"
#include "base/fd.h"
#include "host/os.h"
#include "net/packet.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* One that dies at once is started ever more rarely. */
#define FIRST_WAIT_MS 50
#define MOST_WAIT_MS  30000
#define LIVED_MS      10000

#define MOST_ANNOUNCED 256

static void say(struct network *n, const char *fmt, ...) MVM_PRINTF(2, 3);
static void say(struct network *n, const char *fmt, ...)
{
    char text[768];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    n->ops->log(n->owner, text);
}

static void on_frame(uv_poll_t *poll, int status, int events);

static void start(struct network *n);

static void on_again(uv_timer_t *t)
{
    struct network *n = t->data;
    if (n->at_once)
        start(n);
    else
        (void)uv_poll_start(&n->frames, UV_READABLE, on_frame);
}

static void start_again(struct network *n)
{
    if (n->stopping)
        return;
    if (clock_now() - n->started_at > LIVED_MS * NSEC_PER_MSEC)
        n->wait_ms = FIRST_WAIT_MS;
    uv_timer_start(&n->again, on_again, n->wait_ms, 0);
    n->wait_ms = MIN_OF(n->wait_ms * 4, (uint64_t)MOST_WAIT_MS);
}

static void not_started(struct network *n, const struct mvm_error *err)
{
    fd_closep(&n->report_fd);
    if (!n->lost)
        say(n, "the guest has no network: %s", err->msg);
    n->lost = true;
    if (n->n_open == 0)
        start_again(n);
}

/* ---- What it says ---- */

/* Whoever took the process over may say what he likes: only what has the form goes on. */
static void take_counts(struct network *n)
{
    size_t len = MIN_OF(n->line_len, sizeof(n->line) - 1);
    n->line[len] = '\0';
    if (strspn(n->line + 1, "abcdefghijklmnopqrstuvwxyz_0123456789 ") == len - 1)
        n->ops->counts(n->owner, n->line + 1);
    n->line_len = 0;
}

static void take_line(struct network *n)
{
    if (n->line_len && n->line[0] == '#') {
        take_counts(n);
        return;
    }
    for (size_t i = 0; i < n->line_len; i++)
        if ((unsigned char)n->line[i] < 0x20 || n->line[i] == 0x7f)
            n->line[i] = '?'; /* whoever took it over writes to a log that is shown on terminals */
    if (n->line_len)
        say(n, "network: %.*s", (int)n->line_len, n->line);
    n->line_len = 0;
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *b)
{
    static char chunk[4096]; /* used up before the next read */
    *b = uv_buf_init(chunk, sizeof(chunk));
}

static void on_report(uv_stream_t *st, ssize_t got, const uv_buf_t *b)
{
    struct network *n = st->data;
    if (got < 0)
        uv_read_stop(st); /* its end is what counts */
    for (ssize_t i = 0; i < got; i++) {
        if (b->base[i] != '\n' && n->line_len < sizeof(n->line))
            n->line[n->line_len++] = b->base[i];
        if (b->base[i] == '\n')
            take_line(n);
    }
}

/* ---- Its end ---- */

static void on_closed(uv_handle_t *h)
{
    struct network *n = h->data;
    if (--n->n_open == 0)
        start_again(n);
}

static void close_all(struct network *n)
{
    process_done(&n->process);
    uv_close((uv_handle_t *)&n->report, on_closed);
    if (n->n_open > 1)
        uv_close((uv_handle_t *)&n->exit, on_closed);
}

static void on_end(uv_poll_t *poll, int status, int events)
{
    struct network *n = poll->data;
    if (process_wait(&n->process, clock_now()) < 0)
        return;
    uv_poll_stop(poll);
    take_line(n);
    n->lost = true;
    if (!n->stopping && WIFSIGNALED(n->process.status))
        say(n, "the network process was killed by signal %d: the guest has no network until another is started",
            WTERMSIG(n->process.status));
    else if (!n->stopping)
        say(n, "the network process exited with status %d: the guest has no network until another is started",
            WEXITSTATUS(n->process.status));
    close_all(n);
}

/* ---- Life ---- */

static int watch(struct network *n)
{
    n->report.data = n->exit.data = n;
    uv_pipe_init(n->loop, &n->report, 0);
    int r = uv_poll_init(n->loop, &n->exit, n->process.pidfd);
    n->n_open = 1 + (r == 0);
    if (r == 0)
        r = uv_pipe_open(&n->report, TAKE_FD(n->report_fd));
    if (r == 0)
        r = uv_read_start((uv_stream_t *)&n->report, on_alloc, on_report);
    if (r == 0)
        r = uv_poll_start(&n->exit, UV_READABLE, on_end);
    if (r < 0)
        close_all(n);
    return r;
}

/* The launcher's answer. */
static void take_process(struct network *n)
{
    struct mvm_error err = MVM_ERROR_INIT;
    int r = launcher_take_network(n->launcher, &n->process, &n->jail, &err);
    if (r == 0 && (r = watch(n)) < 0)
        mvm_error_errno(&err, r, "its process cannot be watched");
    if (r < 0) {
        not_started(n, &err);
        return;
    }
    if (n->lost)
        say(n, "the guest has a network again; its connections are gone");
    n->lost = false;
}

static void on_started(uv_poll_t *poll, int status, int events)
{
    uv_poll_stop(poll);
    take_process(poll->data);
}

static void start(struct network *n)
{
    struct mvm_error err = MVM_ERROR_INIT;
    int pair[2] = {-1, -1};
    int r = os_stream_pair(pair);
    CLEAN_FD int theirs = pair[1];
    n->report_fd = pair[0];
    n->started_at = clock_now();
    n->line_len = 0;
    r = r < 0 ? mvm_error_errno(&err, r, "cannot make a socket") : launcher_order_network(n->launcher, theirs, &err);
    if (r == 0 && n->launcher->network_fd >= 0)
        r = uv_poll_start(&n->started, UV_READABLE, on_started);
    else if (r == 0)
        take_process(n);
    if (r < 0)
        not_started(n, &err);
}

/* Whether the guest asks for something. What does not a network process would drop: a restored guest begins with a
 * dozen such frames, when the processors have other things to do. So many are enough. */
static bool asks(struct network *n)
{
    int fd = n->launcher->network_frames_fd;
    uint8_t head[128];
    ssize_t len = -1;
    while (n->announced < MOST_ANNOUNCED && (len = recv(fd, head, sizeof(head), MSG_PEEK | MSG_DONTWAIT)) >= 0 &&
           packet_announces(head, (size_t)len)) {
        (void)!recv(fd, head, sizeof(head), MSG_DONTWAIT);
        n->announced++;
    }
    return len >= 0 || (errno != EAGAIN && errno != EINTR);
}

/* The guest's first frame, or the first since the last one died. */
static void on_frame(uv_poll_t *poll, int status, int events)
{
    if (!asks(poll->data))
        return;
    uv_poll_stop(poll);
    start(poll->data);
}

int network_init(struct network *n, uv_loop_t *loop, struct launcher *launcher, bool at_once,
                 const struct network_ops *ops, void *owner)
{
    *n = (struct network){.launcher = launcher,
                          .ops = ops,
                          .owner = owner,
                          .process = PROCESS_INIT,
                          .loop = loop,
                          .at_once = at_once,
                          .report_fd = -1,
                          .wait_ms = FIRST_WAIT_MS};
    int r = uv_timer_init(loop, &n->again);
    if (r == 0)
        r = uv_poll_init(loop, &n->frames, launcher->network_frames_fd);
    if (r == 0 && launcher->network_fd >= 0)
        r = uv_poll_init(loop, &n->started, launcher->network_fd);
    n->again.data = n->frames.data = n->started.data = n;
    if (r < 0 || !at_once)
        return r < 0 ? r : uv_poll_start(&n->frames, UV_READABLE, on_frame);
    start(n);
    return 0;
}

void network_stop(struct network *n)
{
    n->stopping = true;
    process_done(&n->process);
    fd_closep(&n->report_fd);
}
