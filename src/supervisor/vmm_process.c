#include "supervisor/vmm_process.h"
#include "base/clock.h"
#include "vmdir/vmdir.h"

#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOG_CAP (1u << 20)

/* ---- The end ---- */

static void on_handle_closed(uv_handle_t *h)
{
    struct vmm_process *i = h->data;
    if (--i->n_open)
        return;
    fd_closep(&i->listen_fd);
    process_done(&i->process);
    i->backend->free(i->vmm);
    logfile_done(&i->log);
    free(i);
}

void vmm_process_discard(struct vmm_process *i)
{
    i->discarded = true;
    i->backend->mute(i->vmm);
    process_signal(&i->process, SIGKILL);
    uv_read_stop((uv_stream_t *)&i->console);
    uv_read_stop((uv_stream_t *)&i->control);
    if (i->listen_fd >= 0)
        uv_poll_stop(&i->listener);
    if (i->channel)
        conn_discard(i->channel);
    i->channel = NULL;
}

/* ---- What it says ---- */

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *b)
{
    static char chunk[4096]; /* used up before the next read */
    *b = uv_buf_init(chunk, sizeof(chunk));
}

static void on_console(uv_stream_t *st, ssize_t n, const uv_buf_t *b)
{
    struct vmm_process *i = st->data;
    if (n > 0)
        i->ops->console(i->owner, b->base, (size_t)n);
    else if (n < 0)
        uv_read_stop(st);
}

static void on_words(uv_stream_t *st, ssize_t n, const uv_buf_t *b)
{
    struct vmm_process *i = st->data;
    if (n > 0)
        logfile_write(&i->log, b->base, (size_t)n);
    else if (n < 0)
        uv_read_stop(st);
}

static void on_control(uv_stream_t *st, ssize_t n, const uv_buf_t *b)
{
    struct vmm_process *i = st->data;
    if (n > 0 && i->answered_at == 0)
        i->answered_at = clock_now();
    if (n < 0 || (n > 0 && !i->backend->input(i->vmm, b->base, (size_t)n)))
        uv_read_stop(st); /* its end is what counts then */
    const struct vmm_facts *facts = i->backend->facts(i->vmm);
    if (n > 0 && facts->problem[0]) {
        logfile_printf(&i->log, "mvm: %s\n", facts->problem);
        process_signal(&i->process, SIGKILL);
    }
}

/* The agent is there. What it was to be told waits in its connection. */
static void on_agent(uv_poll_t *poll, int status, int events)
{
    struct vmm_process *i = poll->data;
    CLEAN_FD int fd = accept(i->listen_fd, NULL, NULL);
    if (fd < 0 || fd_set_cloexec(fd, true) < 0 || !i->channel || uv_pipe_open(&i->channel->pipe, fd) < 0)
        return;
    TAKE_FD(fd);
    uv_poll_stop(poll);
    if (conn_start(i->channel) < 0)
        conn_close(i->channel);
    else
        conn_release(i->channel);
}

bool vmm_process_is_silent(const struct vmm_process *i)
{
    uv_os_fd_t fd;
    int waiting = 0;
    return i->channel && i->channel->in.len == 0 && uv_fileno(&i->channel->handle, &fd) == 0 &&
           ioctl(fd, FIONREAD, &waiting) == 0 && waiting == 0;
}

/* What waits there, through its reader; libuv has made it nonblocking. */
static void drain(uv_pipe_t *p, uv_read_cb hear)
{
    uv_os_fd_t fd;
    uv_buf_t b;
    ssize_t n;
    on_alloc((uv_handle_t *)p, 0, &b);
    if (uv_fileno((uv_handle_t *)p, &fd) == 0)
        while ((n = read(fd, b.base, b.len)) > 0)
            hear((uv_stream_t *)p, n, &b);
}

void vmm_process_drain(struct vmm_process *i)
{
    drain(&i->control, on_control);
    drain(&i->console, on_console);
    conn_drain(i->channel);
}

/* ---- Its end ---- */

static void close_all(struct vmm_process *i)
{
    if (i->channel)
        conn_discard(i->channel);
    i->channel = NULL;
    uv_close((uv_handle_t *)&i->console, on_handle_closed);
    uv_close((uv_handle_t *)&i->control, on_handle_closed);
    uv_close((uv_handle_t *)&i->words, on_handle_closed);
    uv_close((uv_handle_t *)&i->exit, on_handle_closed);
    if (i->listen_fd >= 0)
        uv_close((uv_handle_t *)&i->listener, on_handle_closed);
}

static void on_process_end(uv_poll_t *poll, int status, int events)
{
    struct vmm_process *i = poll->data;
    if (process_wait(&i->process, clock_now()) < 0)
        return;
    uv_poll_stop(poll);
    drain(&i->words, on_words); /* which say why it ended */
    if (!i->discarded)
        i->ops->ended(i->owner, i);
    close_all(i);
}

/* ---- The start ---- */

static int open_pipe(uv_pipe_t *p, int fd, uv_read_cb on_read)
{
    int r = uv_pipe_open(p, fd);
    return r < 0 ? r : uv_read_start((uv_stream_t *)p, on_alloc, on_read);
}

static int connect_channel(struct vmm_process *i, struct launched *l)
{
    if (!i->channel)
        return -ENOMEM;
    if (i->listen_fd >= 0) {
        conn_hold(i->channel);
        return uv_poll_start(&i->listener, UV_READABLE, on_agent);
    }
    int r = uv_pipe_open(&i->channel->pipe, TAKE_FD(l->channel_fd));
    return r < 0 ? r : conn_start(i->channel);
}

static int connect_all(struct vmm_process *i, struct launched *l, const struct vmm_config *c)
{
    int r = i->backend->open(l->control_fd, c, &i->vmm);
    if (r == 0)
        r = connect_channel(i, l);
    if (r == 0)
        r = open_pipe(&i->console, TAKE_FD(l->console_fd), on_console);
    if (r == 0)
        r = open_pipe(&i->control, TAKE_FD(l->control_fd), on_control);
    if (r == 0)
        r = open_pipe(&i->words, TAKE_FD(l->log_fd), on_words);
    return r < 0 ? r : uv_poll_start(&i->exit, UV_READABLE, on_process_end);
}

static int init_handles(struct vmm_process *i, uv_loop_t *loop, struct launched *l)
{
    uv_pipe_init(loop, &i->console, 0);
    uv_pipe_init(loop, &i->control, 0);
    uv_pipe_init(loop, &i->words, 0);
    i->console.data = i->control.data = i->words.data = i->exit.data = i->listener.data = i;
    int r = uv_poll_init(loop, &i->exit, i->process.pidfd);
    if (r < 0 || l->listen_fd < 0)
        return r;
    r = uv_poll_init(loop, &i->listener, l->listen_fd);
    if (r == 0)
        i->listen_fd = TAKE_FD(l->listen_fd);
    i->n_open += r == 0;
    return r;
}

int vmm_process_start(struct vmm_process **ret, uv_loop_t *loop, const struct vmm_ops *backend,
                      const struct launcher *launcher, const struct runfile *run, const struct vmm_source *source,
                      int dirfd, const struct vmm_process_ops *ops, void *owner, const struct conn_ops *channel,
                      void *channel_owner, struct mvm_error *err)
{
    CLEAN_LAUNCHED struct launched l = LAUNCHED_INIT;
    CLEANUP(vmm_plan_done) struct vmm_plan plan = VMM_PLAN_INIT;
    struct vmm_source from = *source;
    from.dir_fd = dirfd;
    struct vmm_process *i = calloc(1, sizeof(*i));
    if (!i)
        return mvm_error_errno(err, -ENOMEM, "vm");
    int r = vmm_plan(&plan, run, &from, err);
    if (r == 0)
        r = launcher_launch(launcher, source, &l, err);
    if (r < 0) {
        free(i);
        return r;
    }
    *i = (struct vmm_process){.ops = ops,
                              .owner = owner,
                              .backend = backend,
                              .process = l.process,
                              .jail = l.jail,
                              .listen_fd = -1,
                              .log = LOGFILE_INIT(dirfd, VMDIR_VMM, LOG_CAP),
                              .n_open = 4,
                              .spawned_at = clock_now()};
    r = init_handles(i, loop, &l);
    if (r < 0) { /* no handle for its end: end it here */
        process_done(&i->process);
        return mvm_error_errno(err, r, "cannot watch the vm");
    }
    i->channel = conn_new(loop, channel, channel_owner);
    r = connect_all(i, &l, &plan.config);
    if (r < 0) {
        i->discarded = true;
        process_signal(&i->process, SIGKILL);
        close_all(i);
        return mvm_error_errno(err, r, "cannot connect the vm");
    }
    *ret = i;
    return 0;
}
