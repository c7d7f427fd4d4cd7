/* What serves the streams: one job each, all in turn, none of which ever waits. */
#include "testguest.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static struct job *jobs;
static bool moved;   /* some job has done something */
static bool ticking; /* some job waits for time to pass */

static struct job *find(uint32_t stream)
{
    struct job *j = jobs;
    while (j && j->stream != stream)
        j = j->next;
    return j;
}

static void job_free(struct job *j)
{
    for (struct job **p = &jobs; *p; p = &(*p)->next) {
        if (*p == j) {
            *p = j->next;
            break;
        }
    }
    shell_done(j);
    msg_transfer_done(&j->transfer);
    buf_done(&j->in);
    free(j);
}

static struct job *job_new(uint32_t stream, uint8_t type)
{
    struct job *j = calloc(1, sizeof(*j));
    if (!j)
        return NULL;
    j->stream = stream;
    j->type = type;
    j->channel = CHAN_OUT;
    j->in.max = 2 * MUX_WINDOW;
    j->next = jobs;
    jobs = j;
    return j;
}

/* ---- What jobs use ---- */

void job_problem(struct job *j, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(j->exit.problem, sizeof(j->exit.problem), fmt, ap);
    va_end(ap);
}

void job_take(struct job *j, size_t n)
{
    buf_drop(&j->in, n);
    mux_consumed(channel, j->stream, n);
    moved = true;
}

bool job_write(struct job *j, const void *p, size_t n)
{
    int r = j->to       ? buf_append(&j->to->data, p, n)
            : j->stream ? mux_send(channel, j->stream, j->channel, p, n)
                        : 0; /* nobody listens */
    moved |= r == 0;
    return r == 0;
}

bool job_wait(uint64_t until)
{
    ticking |= ticks < until;
    return ticks >= until;
}

static int flood_run(struct job *j)
{
    static const uint8_t zeros[FRAME_MAX_PAYLOAD];
    if (j->in.len)
        job_take(j, j->in.len);
    while (j->left) {
        size_t n = MIN_OF(j->left, (uint64_t)sizeof(zeros));
        if (!job_write(j, zeros, n))
            return LATER;
        j->left -= n;
    }
    return j->in_ended ? 0 : LATER;
}

/* ---- Services, as the agent would connect to them ---- */

/* 7 gives back what it gets; as UDP too, a datagram for a datagram. */
static int echo_run(struct job *j)
{
    while (j->in.len) {
        size_t n = MIN_OF(j->in.len, mux_record_max(j->left));
        if (!job_write(j, j->in.data, n))
            return LATER;
        job_take(j, n);
    }
    return j->in_ended ? 0 : LATER;
}

/* 80 answers a request, whatever it is, when its headers have come. */
static int web_run(struct job *j)
{
    static const char answer[] = "HTTP/1.0 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n";
    if (j->in.len < 4 || memcmp(j->in.data + j->in.len - 4, "\r\n\r\n", 4) != 0)
        return j->in_ended ? 0 : LATER;
    return job_write(j, answer, sizeof(answer) - 1) ? 0 : LATER;
}

/* 19 gives bytes without end. */
static int endless_run(struct job *j)
{
    static const uint8_t zeros[FRAME_MAX_PAYLOAD];
    while (job_write(j, zeros, mux_record_max(j->left)))
        ;
    return LATER;
}

/* Nothing listens on other ports. */
static int begin_connection(struct job *j, const void *p, size_t n)
{
    struct msg_connect m = {0};
    if (msg_connect_decode(&m, p, n) < 0)
        return -EPROTO;
    j->datagrams = m.protocol == 17;
    j->left = m.window ? m.window : MUX_WINDOW;
    j->run = m.port == 7 ? echo_run : m.port == 80 ? web_run : m.port == 19 ? endless_run : NULL;
    mux_set_window(channel, j->stream, m.window);
    return j->run ? 0 : -ECONNREFUSED;
}

void job_spawn(const struct msg_strings *argv, struct file *to)
{
    struct job *j = job_new(0, MSG_EXEC);
    if (!j)
        return;
    j->run = shell_run;
    j->to = to;
    for (size_t i = 0; i < argv->n; i++)
        (void)!msg_strings_add(&j->argv, strdup(argv->v[i]));
}

/* ---- What the host says ---- */

static int begin(struct job *j, const void *p, size_t n)
{
    struct msg_flood flood = {0};
    int r = 0;
    switch (j->type) {
    case MSG_EXEC:
        r = msg_exec_decode(&j->exec, p, n);
        j->run = shell_run;
        return r < 0 ? r : shell_begin(j);
    case MSG_PUSH:
    case MSG_PULL:
        r = msg_transfer_decode(&j->transfer, j->type, p, n);
        j->run = j->type == MSG_PUSH ? push_run : pull_run;
        return r < 0 || !j->transfer.path ? -EPROTO : 0;
    case MSG_FLOOD:
        r = msg_flood_decode(&flood, p, n);
        j->left = flood.send;
        j->run = flood_run;
        return r;
    default:
        return -EPROTO;
    }
}

int jobs_open(void *data, uint32_t stream, const void *p, size_t n)
{
    struct msg_reader r;
    int e = msg_open(&r, p, n);
    struct job *j = e < 0 ? NULL : job_new(stream, r.type);
    if (!j)
        return e < 0 ? e : -ENOMEM;
    if (r.type == MSG_CONNECT) {
        e = begin_connection(j, p, n);
        if (e < 0)
            job_free(j);
        moved = true;
        return e;
    }
    if (begin(j, p, n) < 0) {
        j->done = true;
        j->exit.code = 125;
        job_problem(j, "the test guest does not serve that request");
    }
    moved = true;
    return 0;
}

static void on_message(struct job *j, const void *p, size_t n)
{
    struct msg_reader r;
    struct msg_signal signal = {0};
    if (msg_open(&r, p, n) < 0)
        return;
    if (r.type == MSG_EOF)
        j->in_ended = true;
    if (r.type != MSG_SIGNAL || msg_signal_decode(&signal, p, n) < 0)
        return;
    j->exit.code = 128 + signal.number % 128;
    j->done = true;
}

int jobs_record(void *data, uint32_t stream, uint8_t chan, const void *p, size_t n)
{
    struct job *j = find(stream);
    if (j && j->datagrams) {
        mux_consumed(channel, stream, n);
        moved = true;
        return mux_send(channel, stream, CHAN_OUT, p, n) == -ENOMEM ? -ENOMEM : 0;
    }
    if (j && !j->done && j->type != MSG_PUSH && chan == CHAN_OUT)
        return buf_append(&j->in, p, n); /* given back as it is taken */
    mux_consumed(channel, stream, n);
    if (!j || j->done)
        return 0;
    if (j->type == MSG_PUSH)
        push_record(j, chan, p, n);
    else
        on_message(j, p, n);
    moved = true;
    return 0;
}

void jobs_closed(void *data, uint32_t stream)
{
    struct job *j = find(stream);
    if (j)
        j->in_ended = true;
    moved = true;
}

void jobs_reset(void *data, uint32_t stream, const char *reason)
{
    struct job *j = find(stream);
    if (j)
        job_free(j);
}

void jobs_orphan(void)
{
    for (struct job *j = jobs, *next; j; j = next) {
        next = j->next;
        if (j->stream)
            job_free(j);
    }
}

/* ---- Running ---- */

/* True once its end is told, and it is gone. */
static bool finish(struct job *j)
{
    CLEAN_BUF struct buf b = BUF_INIT(4096);
    if (!j->stream) {
        job_free(j);
        return true;
    }
    if (!mux_can_send(channel, j->stream))
        return false;
    if (j->type != MSG_CONNECT && msg_exit_encode(&b, &j->exit) == 0)
        (void)!mux_send(channel, j->stream, CHAN_MSG, b.data, b.len);
    mux_consumed(channel, j->stream, j->in.len);
    mux_close(channel, j->stream);
    job_free(j);
    return true;
}

bool jobs_run(bool waiting)
{
    ticking = waiting;
    for (struct job *j = jobs, *next; j; j = next) {
        next = j->next;
        int r = j->done ? LATER : j->run(j);
        if (r != LATER) {
            j->exit.code = (uint64_t)r;
            j->done = true;
        }
        if (j->done && finish(j))
            moved = true;
    }
    machine_timer(ticking);
    bool any = moved;
    moved = false;
    return any;
}

bool jobs_busy(void)
{
    return jobs != NULL;
}

const struct job *jobs_first(void)
{
    return jobs;
}
